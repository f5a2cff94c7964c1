//! `thrifty serve`: the stack as an HTTP proxy that clients in any language are pointed at by their base URL.

mod bodies;
mod config;
mod exit;
mod front;
mod keys;
mod listen;
mod log;
mod patient;
mod routes;
mod stats;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use thrifty::budget::{Budget, Window};
use thrifty::cache::{CacheLayer, ReplayIdentity};
use thrifty::cap::{CapLayer, CapPolicy};
use thrifty::receipt::Ledger;
use thrifty::stack::Stack;
use thrifty::tier::{Condition, Rule, TierPolicy};
use thrifty::tokens::Encoding;
use thrifty::trim::TrimPolicy;
use thrifty::{Error, Kind};
use tokio::net::TcpListener;

use self::config::{Config, DEMO, Upstream};
use self::front::{Books, Front};
use crate::output::{Code, Ended, complain};

/// A proxy on this machine that any client uses by its base URL: repeated calls are answered from the cache, all
/// others are passed on as they are
///
/// Clients keep their keys and send them as ever; only the base URL changes. Nothing is trimmed, capped or sent to
/// another model unless the settings say so.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLE)]
pub(crate) struct ServeArgs {
    /// Forward to this origin, such as https://api.openai.com; `demo` is a provider inside this program
    #[arg(long, value_name = "ORIGIN")]
    upstream: Option<String>,
    /// Listen here [default: 127.0.0.1:8787]
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// Keep answers in this file too, so that they survive a restart
    #[arg(long, value_name = "FILE")]
    cache: Option<PathBuf>,
    /// Read settings from this TOML file; other options go before it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print a line for each request: method, path, upstream, status, where the answer came from, time
    #[arg(long)]
    verbose: bool,
}

const EXAMPLE: &str = r#"Try it:
  thrifty serve --upstream https://api.openai.com --cache answers.redb
  OPENAI_BASE_URL=http://127.0.0.1:8787/v1 python my_program.py

Settings, all of them optional but one [[upstream]]:
  listen = "127.0.0.1:8787"       # beyond_loopback = true allows others
  max_connections = 1024          # head_timeout, body_timeout, stop_timeout = "10s"
  prefix = true                   # the provider's own prompt-cache marks
  follow_wishes = true            # clients' thrifty-.. headers
  [cache]
  path = "answers.redb"           # memory_bytes, disk_bytes
  ttl = "24h"                     # replay_identity = "original" keeps ids and times
  leave_out = ["/messages/*/id"]  # members made up anew for each call, at your own risk
  [trim]
  budget = 32000                  # prompt tokens
  [cap]
  tokens = 2048                   # output tokens
  [budget]
  usd_per_day = "5.00"            # a call reserves its longest answer, so set [cap] too; hard = false only counts
  [[tier]]                        # the first rule that holds decides
  tokens_below = 2000             # asked, tag, tools = false
  model = "gpt-5-nano"
  [[upstream]]
  name = "openai"
  origin = "https://api.openai.com"
  key_env = "OPENAI_API_KEY"      # the key stays here; key_header, allow_origins
  idle_timeout = "5m"             # connect_timeout, answer_timeout, max_body_bytes
  stream_end = "finish-reason"    # for servers that send no [DONE]
  [[upstream]]
  name = "anthropic"
  origin = "https://api.anthropic.com"
  dialects = ["anthropic-messages"]   # and/or prefix = "/anthropic"

Replies carry thrifty-cost-usd, thrifty-saved-usd, thrifty-input-tokens and thrifty-served. The head of a stream tells
what is known by then; its cost follows in a trailer for clients that send `te: trailers`.
Sums: GET /thrifty/stats. Alive: GET /thrifty/health."#;

pub(crate) fn run(args: &ServeArgs) -> Ended {
    let config = settings(args)?;
    // Warnings of the cache would go unseen otherwise. A second one in the same process is none of ours.
    let _ = tracing::subscriber::set_global_default(log::Log { verbose: args.verbose });
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let cache = runtime.block_on(serve(&config, args.verbose))?;
    // Connections that did not end in time are cut off here.
    runtime.shutdown_background();
    if let Some(cache) = cache {
        cache.flush_blocking();
    }
    Ok(Code::Done)
}

fn settings(args: &ServeArgs) -> Result<Config, Error> {
    let mut config = match &args.config {
        Some(path) => Config::read(path)?,
        None => Config::default(),
    };
    if let Some(origin) = &args.upstream {
        config.upstream = vec![Upstream::only(origin)];
    }
    config.listen = args.listen.unwrap_or(config.listen);
    config.cache.path = args.cache.clone().or(config.cache.path);
    config.check()?;
    config.cache.path.as_deref().map(crate::cache::check).transpose()?;
    Ok(config)
}

async fn serve(config: &Config, verbose: bool) -> Result<Option<thrifty::cache::CacheHandle>, Error> {
    if config.counts_tokens() {
        // A tenth of a second that the first call need not wait for; one that comes sooner waits for what is left of it.
        std::thread::spawn(|| {
            for encoding in [Encoding::O200kBase, Encoding::Cl100kBase] {
                encoding.prepare();
            }
        });
    }
    let (stack, books) = stack(config)?;
    let cache = stack.cache();
    let front = Arc::new(Front::new(config, &stack, books, verbose)?);
    let busy = |cause: std::io::Error| {
        let problem = format!("cannot listen on {}: {cause}", config.listen);
        Error::caused_by(
            Kind::BadSetting,
            problem,
            "stop what listens there, or give another --listen",
            cause,
        )
    };
    let listener = TcpListener::bind(config.listen).await.map_err(busy)?;
    let here = listener.local_addr().map_err(busy)?;
    for upstream in &config.upstream {
        if upstream.key_env.is_some() && travels_in_the_open(upstream)? {
            complain(format_args!("the key of the upstream `{}` travels unencrypted", upstream.name));
        }
    }
    complain(start_line(config, here));
    listen::serve(listener, front, config).await.map_err(|cause| {
        let problem = format!("signals cannot be waited for: {cause}");
        Error::caused_by(Kind::BadSetting, problem, "run it where signals are allowed", cause)
    })?;
    Ok(cache)
}

fn start_line(config: &Config, here: SocketAddr) -> String {
    let ways: Vec<String> = config
        .upstream
        .iter()
        .map(|upstream| {
            let name = &upstream.name;
            if upstream.origin == DEMO {
                "the demo inside".to_owned()
            } else {
                format!("{} ({name})", upstream.origin)
            }
        })
        .collect();
    let kept = match &config.cache.path {
        Some(path) => format!("in memory and in {}", path.display()),
        None => "in memory".to_owned(),
    };
    format!("listening on http://{here}, forwarding to {}, keeping answers {kept}", ways.join(", "))
}

/// True if the key goes over a network in plain text.
fn travels_in_the_open(upstream: &Upstream) -> Result<bool, Error> {
    let uri = upstream.uri()?;
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let here = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    Ok(upstream.origin != DEMO && uri.scheme_str() == Some("http") && !here)
}

/// The stack that the settings ask for.
fn stack(config: &Config) -> Result<(Stack, Books), Error> {
    let mut cache = CacheLayer::builder();
    if let Some(path) = &config.cache.path {
        cache = cache.disk(path);
    }
    if let Some(bytes) = config.cache.memory_bytes {
        cache = cache.memory_bytes(bytes);
    }
    if let Some(bytes) = config.cache.disk_bytes {
        cache = cache.disk_bytes(bytes);
    }
    if let Some(ttl) = config.cache.ttl {
        cache = cache.ttl(ttl.0);
    }
    if config.cache.replay_identity == config::Identity::Original {
        cache = cache.replay_identity(ReplayIdentity::Original);
    }
    for path in &config.cache.leave_out {
        cache = cache.leave_out(path);
    }
    let ledger = Ledger::default();
    let mut stack = Stack::builder().cache(cache.build()?).sink(ledger.clone());
    // Without settings these two still follow what a client asks for in its headers.
    let trim = TrimPolicy::new();
    stack = stack.trim(match &config.trim {
        Some(settings) => trim.with_budget(settings.budget),
        None => trim,
    });
    stack = stack.cap(match &config.cap {
        Some(settings) => CapLayer::new(settings.tokens.get()),
        None => CapLayer::with_policy(CapPolicy::per_call()),
    });
    if !config.tier.is_empty() {
        stack = stack.tier(tier(&config.tier)?);
    }
    if !config.prefix {
        stack = stack.without_prefix();
    }
    let mut limit = None;
    if let Some(settings) = &config.budget {
        let mut budget = Budget::builder().limit(settings.usd_per_day.0).per(Window::Day);
        if settings.hard {
            budget = budget.hard();
        }
        let budget = budget.build()?;
        limit = Some(budget.clone());
        stack = stack.budget(budget);
    }
    let stack = stack.build()?;
    let books = Books { ledger, cache: stack.cache(), budget: limit, started: Instant::now() };
    Ok((stack, books))
}

fn tier(rules: &[config::Tier]) -> Result<TierPolicy, Error> {
    rules
        .iter()
        .fold(TierPolicy::builder(), |builder, rule| {
            let conditions = [
                rule.asked.as_deref().map(Condition::asked),
                rule.tokens_below.map(Condition::tokens_below),
                rule.tag.as_deref().map(Condition::tag),
                rule.tools.map(
                    |offered| if offered { Condition::with_tools() } else { Condition::without_tools() },
                ),
            ];
            let all =
                conditions.into_iter().flatten().reduce(Condition::and).unwrap_or_else(Condition::always);
            builder.rule(Rule::when(all).then(&rule.model))
        })
        .build()
}
