//! `thrifty serve` beside its floors, in one run, so that a ratio holds on any machine.
//!
//! - passing a request on: beside a bare hyper reverse proxy.
//! - a hit: beside bare hyper with a moka cache keyed by blake3 of the body.
//! - time to the first byte of a stream, and frames a second of a long one: beside the bare proxy.
//!
//! Each server is a process of its own; the floors are this program started again, with the settings of hyper that
//! `serve` has: both protocols, the same timers, pool and socket options. Rounds alternate, and the best of each
//! counts. CPU time is that of the server's threads, where `/proc` tells it.

#![expect(clippy::unwrap_used, reason = "a bench may stop at the first surprise")]

use std::convert::Infallible;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder as AnyVersion;
use tokio::net::TcpListener;

type Body = UnsyncBoxBody<Bytes, hyper::Error>;
type Http = Client<HttpConnector, Full<Bytes>>;

const ROUNDS: usize = 4;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    match args.get(1).map(String::as_str) {
        Some("role-upstream") => runtime.block_on(listen(|request| async move { upstream(request).await })),
        Some("role-proxy") => {
            let (client, origin) = (client(), args[2].clone());
            runtime.block_on(listen(move |request| proxy(client.clone(), origin.clone(), request)));
        }
        Some("role-moka") => {
            let cache: moka::sync::Cache<[u8; 32], Bytes> = moka::sync::Cache::new(10_000);
            runtime.block_on(listen(move |request| kept(cache.clone(), request)));
        }
        // Under `cargo test` it only shows that it runs.
        _ => runtime.block_on(measure(if args.iter().any(|arg| arg == "--bench") { 1_500 } else { 5 })),
    }
}

async fn listen<F, R>(answer: F)
where
    F: Fn(Request<Incoming>) -> R + Clone + Send + 'static,
    R: Future<Output = Response<Body>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("listening on http://{},", listener.local_addr().unwrap());
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let answer = answer.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let answer = answer(request);
                async move { Ok::<_, Infallible>(answer.await) }
            });
            let mut server = AnyVersion::new(TokioExecutor::new());
            server.http1().timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(120));
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

fn full(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

fn document() -> Bytes {
    let text = "word ".repeat(200);
    format!(
        r#"{{"model":"gpt-4o","choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}"}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":10,"completion_tokens":200,"total_tokens":210}}}}"#
    )
    .into()
}

/// A document, or as many frames as the header says.
async fn upstream(request: Request<Incoming>) -> Response<Body> {
    let frames = request.headers().get("x-frames").map(|n| n.to_str().unwrap().parse::<u64>().unwrap());
    let _ = request.into_body().collect().await;
    let Some(frames) = frames else {
        return Response::builder()
            .header("content-type", "application/json")
            .body(full(document()))
            .unwrap();
    };
    let stream = futures_util::stream::unfold(0, move |n| async move {
        if n > frames {
            return None;
        }
        // Frames stay apart: each is written before the next is made.
        tokio::task::yield_now().await;
        let frame = if n == frames {
            "data: [DONE]\n\n".to_owned()
        } else {
            format!(
                "data: {{\"model\":\"gpt-4o\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"w{n} \"}},\"finish_reason\":null}}]}}\n\n"
            )
        };
        Some((Ok(Frame::data(Bytes::from(frame))), n + 1))
    });
    Response::builder()
        .header("content-type", "text/event-stream")
        .body(StreamBody::new(stream).boxed_unsync())
        .unwrap()
}

async fn proxy(client: Http, origin: String, request: Request<Incoming>) -> Response<Body> {
    let (mut parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    parts.uri = format!("{origin}{}", parts.uri.path()).parse().unwrap();
    parts.headers.remove("host");
    let sent = client.request(Request::from_parts(parts, Full::new(body))).await.unwrap();
    sent.map(BodyExt::boxed_unsync)
}

async fn kept(cache: moka::sync::Cache<[u8; 32], Bytes>, request: Request<Incoming>) -> Response<Body> {
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let key = *blake3::hash(&body).as_bytes();
    let answer = cache.get(&key).unwrap_or_else(|| {
        let answer = document();
        cache.insert(key, answer.clone());
        answer
    });
    Response::builder().header("content-type", "application/json").body(full(answer)).unwrap()
}

fn client() -> Http {
    let mut http = HttpConnector::new();
    http.set_nodelay(true);
    http.set_keepalive(Some(Duration::from_secs(60)));
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .timer(TokioTimer::new())
        .pool_idle_timeout(Duration::from_secs(60))
        .build(http)
}

/// A server in a process of its own.
struct Server {
    child: Child,
    origin: String,
}

impl Server {
    fn start(mut command: Command, by_stderr: bool) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        if by_stderr {
            BufReader::new(child.stderr.as_mut().unwrap()).read_line(&mut line).unwrap();
        } else {
            BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        }
        let origin = line.split_once("listening on ").unwrap().1.split(',').next().unwrap().to_owned();
        Self { child, origin }
    }

    fn role(args: &[&str]) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(args);
        Self::start(command, false)
    }

    /// CPU time so far of all threads, in nanoseconds.
    fn cpu(&self) -> Option<u64> {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).ok()?;
        let of = |thread: std::fs::DirEntry| {
            let stat = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
            stat.split_ascii_whitespace().next()?.parse::<u64>().ok()
        };
        threads.map(|thread| of(thread.ok()?)).sum()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn ask(origin: &str, n: u64, frames: Option<u64>) -> Request<Full<Bytes>> {
    let text = "the quick brown fox ".repeat(50);
    let stream = if frames.is_some() { r#","stream":true"# } else { "" };
    let body =
        format!(r#"{{"model":"gpt-4o","messages":[{{"role":"user","content":"{n} {text}"}}]{stream}}}"#);
    let mut request = Request::post(format!("{origin}/v1/chat/completions"))
        .header("content-type", "application/json")
        .header("authorization", "Bearer k");
    if let Some(frames) = frames {
        request = request.header("x-frames", frames.to_string());
    }
    request.body(Full::from(body)).unwrap()
}

/// Time of each request in nanoseconds, one after another on one connection, and CPU time of the server.
async fn round(
    server: &Server,
    client: &Http,
    n: u64,
    first: u64,
    frames: Option<u64>,
    head: bool,
) -> (u64, Option<u64>) {
    let before = server.cpu();
    let mut spent = Duration::ZERO;
    for i in 0..n {
        let request = ask(&server.origin, if first == 0 { 0 } else { first + i }, frames);
        let began = Instant::now();
        let mut response = client.request(request).await.unwrap();
        assert!(response.status().is_success());
        if head {
            response.body_mut().frame().await.unwrap().unwrap();
            spent += began.elapsed();
        }
        response.into_body().collect().await.unwrap();
        if !head {
            spent += began.elapsed();
        }
    }
    let cpu = before.zip(server.cpu()).map(|(before, after)| (after - before) / n);
    (u64::try_from(spent.as_nanos()).unwrap() / n, cpu)
}

async fn measure(n: u64) {
    let upstream = Server::role(&["role-upstream"]);
    let floor = Server::role(&["role-proxy", &upstream.origin]);
    let moka = Server::role(&["role-moka"]);
    let mut command = Command::new(env!("CARGO_BIN_EXE_thrifty"));
    command.args(["serve", "--listen", "127.0.0.1:0", "--upstream", &upstream.origin]);
    let thrifty = Server::start(command, true);

    let long = n.max(100) * 20;
    /// Name, floor, calls, asked anew each time, frames of a stream, until the first byte only.
    type Path<'a> = (&'a str, &'a Server, u64, bool, Option<u64>, bool);
    let paths: [Path<'_>; 4] = [
        ("pass on, 1 KB in, 1 KB out", &floor, n, true, None, false),
        ("hit, 1 KB in, 1 KB out", &moka, n, false, None, false),
        ("first byte of a stream", &floor, n, true, Some(3), true),
        ("frames of a long stream", &floor, 1, true, Some(long), false),
    ];
    println!(
        "{:<28}{:>12}{:>12}{:>8}{:>12}{:>12}{:>8}",
        "best of the rounds", "floor", "thrifty", "time", "floor CPU", "thrifty", "CPU"
    );
    let mut next = 1;
    for (name, floor, n, fresh, frames, head) in paths {
        let client = Arc::new(client());
        let mut best = [(u64::MAX, u64::MAX); 2];
        // The first round warms up: connections, caches.
        for lap in 0..=ROUNDS {
            for (slot, server) in [floor, &thrifty].into_iter().enumerate() {
                let first = if fresh { next } else { 0 };
                next += n;
                let (took, cpu) = round(server, &client, n, first, frames, head).await;
                if lap > 0 {
                    best[slot] = (best[slot].0.min(took), best[slot].1.min(cpu.unwrap_or(u64::MAX)));
                }
            }
        }
        let [(floor, floor_cpu), (ours, our_cpu)] = best;
        let ratio = |ours: u64, floor: u64| {
            let hundredths = ours * 100 / floor.max(1);
            format!("{}.{:02}x", hundredths / 100, hundredths % 100)
        };
        let show = |nanos: u64| {
            if frames == Some(long) {
                format!("{}/s", long * 1_000_000_000 / nanos.max(1))
            } else {
                format!("{} us", nanos / 1_000)
            }
        };
        print!("{name:<28}{:>12}{:>12}{:>8}", show(floor), show(ours), ratio(ours, floor));
        if floor_cpu == u64::MAX || our_cpu == u64::MAX {
            println!("{:>12}", "unknown");
        } else {
            println!("{:>12}{:>12}{:>8}", show(floor_cpu), show(our_cpu), ratio(our_cpu, floor_cpu));
        }
    }
}
