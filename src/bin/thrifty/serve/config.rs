//! What the server is told: a TOML file, and the command line over it.

use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use http::{HeaderName, Uri};
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, de::DeserializeOwned};
use thrifty::Error;
use thrifty::call::Dialect;
use thrifty::price::Usd;

/// The whole file. Every key may be left out.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// Address and port.
    pub(crate) listen: SocketAddr,
    /// Allows an address that other machines reach.
    pub(crate) beyond_loopback: bool,
    pub(crate) max_connections: usize,
    /// How long a client may take for the head of a request, or stay silent between two.
    pub(crate) head_timeout: Span,
    /// How long a client may pause within the body of a request, or leave an answer unread.
    pub(crate) body_timeout: Span,
    /// How long calls in progress may go on after a signal to stop.
    pub(crate) stop_timeout: Span,
    /// Whether clients' `thrifty-..` headers are followed.
    pub(crate) follow_wishes: bool,
    pub(crate) cache: Cache,
    pub(crate) trim: Option<Trim>,
    pub(crate) cap: Option<Cap>,
    pub(crate) tier: Vec<Tier>,
    pub(crate) budget: Option<Budget>,
    /// Whether the provider's prompt-cache marks are placed where a caller placed none.
    pub(crate) prefix: bool,
    pub(crate) upstream: Vec<Upstream>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8787)),
            beyond_loopback: false,
            max_connections: 1_024,
            // Longer than the idle connections of common clients live, so that it is they who close.
            head_timeout: Span::seconds(120),
            body_timeout: Span::seconds(60),
            stop_timeout: Span::seconds(10),
            follow_wishes: true,
            cache: Cache::default(),
            trim: None,
            cap: None,
            tier: Vec::new(),
            budget: None,
            prefix: true,
            upstream: Vec::new(),
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Cache {
    pub(crate) path: Option<PathBuf>,
    pub(crate) memory_bytes: Option<u64>,
    pub(crate) disk_bytes: Option<u64>,
    pub(crate) ttl: Option<Span>,
    /// Which id and time a stored answer is served with.
    pub(crate) replay_identity: Identity,
    /// Members of bodies that do not count, as JSON pointers with `*` for each element of an array.
    pub(crate) leave_out: Vec<String>,
}

/// Which id and time a stored answer is served with.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Identity {
    #[default]
    Fresh,
    Original,
}

/// How an upstream ends its streams.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum End {
    #[default]
    Marker,
    FinishReason,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Trim {
    /// Prompt tokens at most.
    pub(crate) budget: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Cap {
    /// Output tokens at most.
    pub(crate) tokens: NonZeroU64,
}

/// Calls for which all of these hold go to `model`; the first rule that holds decides.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tier {
    pub(crate) model: String,
    /// The model the caller asked for.
    pub(crate) asked: Option<String>,
    pub(crate) tokens_below: Option<u64>,
    pub(crate) tag: Option<String>,
    /// Whether tools are offered.
    pub(crate) tools: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Budget {
    pub(crate) usd_per_day: Money,
    /// Refuses what does not fit; otherwise it is let through and counted.
    #[serde(default = "yes")]
    pub(crate) hard: bool,
}

fn yes() -> bool {
    true
}

/// One provider.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Upstream {
    pub(crate) name: String,
    /// Scheme, host and, if need be, a path to stand before each call's; `demo` is the embedded one.
    pub(crate) origin: String,
    /// Serves paths that begin with this; it is taken off.
    pub(crate) prefix: Option<String>,
    /// Serves paths of these formats.
    #[serde(default)]
    pub(crate) dialects: Vec<Format>,
    /// Environment variable that holds the provider's key.
    pub(crate) key_env: Option<String>,
    /// Header the key goes into, where the format of the call does not tell.
    pub(crate) key_header: Option<Header>,
    /// Web pages that may use the key, as they name themselves in `origin` headers.
    #[serde(default)]
    pub(crate) allow_origins: Vec<String>,
    /// How it ends its streams; a few servers leave the end marker out.
    #[serde(default)]
    pub(crate) stream_end: End,
    #[serde(default = "Upstream::max_body")]
    pub(crate) max_body_bytes: usize,
    #[serde(default = "Upstream::connect")]
    pub(crate) connect_timeout: Span,
    /// Until the head of the answer.
    #[serde(default = "Upstream::answer")]
    pub(crate) answer_timeout: Span,
    /// Between two frames of the answer.
    #[serde(default = "Upstream::idle")]
    pub(crate) idle_timeout: Span,
}

impl Upstream {
    /// One that serves everything, as `--upstream` makes it.
    pub(crate) fn only(origin: &str) -> Self {
        Self {
            name: if origin == DEMO { DEMO } else { "upstream" }.to_owned(),
            origin: origin.to_owned(),
            prefix: None,
            dialects: Vec::new(),
            key_env: None,
            key_header: None,
            allow_origins: Vec::new(),
            stream_end: End::default(),
            max_body_bytes: Self::max_body(),
            connect_timeout: Self::connect(),
            answer_timeout: Self::answer(),
            idle_timeout: Self::idle(),
        }
    }

    fn max_body() -> usize {
        32 << 20
    }

    fn connect() -> Span {
        Span::seconds(10)
    }

    fn answer() -> Span {
        Span::seconds(600)
    }

    /// Models that think say nothing for minutes.
    fn idle() -> Span {
        Span::seconds(300)
    }

    /// The origin as a URI.
    pub(crate) fn uri(&self) -> Result<Uri, Error> {
        // Never sent to: the embedded upstream sees it as the calls' own.
        let text = if self.origin == DEMO { "http://demo.invalid" } else { &self.origin };
        let uri = Uri::from_str(text).ok().filter(|uri| {
            matches!(uri.scheme_str(), Some("http" | "https"))
                && uri.authority().is_some_and(|authority| !authority.as_str().contains('@'))
                && uri.query().is_none()
        });
        uri.ok_or_else(|| {
            Error::bad_setting(
                format!("the origin of the upstream `{}` is no http origin", self.name),
                "give scheme and host, such as https://api.openai.com, without user and query; or `demo`",
            )
        })
    }
}

/// The embedded upstream.
pub(crate) const DEMO: &str = "demo";

impl Config {
    /// Reads a file.
    pub(crate) fn read(path: &Path) -> Result<Self, Error> {
        let shown = path.display();
        let text = std::fs::read_to_string(path).map_err(|cause| {
            let problem = format!("the settings in {shown} cannot be read: {cause}");
            Error::caused_by(thrifty::Kind::BadSetting, problem, "check the path given to --config", cause)
        })?;
        parse(&text, &shown.to_string())
    }

    /// True if these settings have every prompt counted.
    pub(crate) fn counts_tokens(&self) -> bool {
        self.trim.is_some()
            || self.budget.is_some()
            || self.tier.iter().any(|rule| rule.tokens_below.is_some())
    }

    /// Refuses what cannot be served, before anything listens.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let bad = |problem: String, way_out: &str| Err(Error::bad_setting(problem, way_out));
        if self.upstream.is_empty() {
            let way_out = "give --upstream https://api.openai.com, or --upstream demo, or [[upstream]] in a --config file";
            return bad("there is no upstream to forward to".to_owned(), way_out);
        }
        if !self.listen.ip().is_loopback() && !self.beyond_loopback {
            let way_out = "listen on 127.0.0.1, or set beyond_loopback = true";
            return bad(format!("other machines reach {}", self.listen), way_out);
        }
        let spans = [("head_timeout", self.head_timeout), ("body_timeout", self.body_timeout)];
        let of_upstreams = self.upstream.iter().flat_map(|upstream| {
            [
                ("connect_timeout", upstream.connect_timeout),
                ("answer_timeout", upstream.answer_timeout),
                ("idle_timeout", upstream.idle_timeout),
            ]
        });
        if let Some((name, _)) = spans.into_iter().chain(of_upstreams).find(|(_, span)| span.0.is_zero()) {
            return bad(format!("`{name}` of 0 lets nothing through"), "give at least 1 second");
        }
        if self.max_connections == 0 {
            return bad("`max_connections` of 0 lets nobody in".to_owned(), "give at least 1");
        }
        for (i, upstream) in self.upstream.iter().enumerate() {
            let name = &upstream.name;
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            if name.is_empty() || !name.chars().all(plain) {
                return bad(format!("`{name}` is no name of an upstream"), "use letters, digits, - and _");
            }
            let rest = &self.upstream[i + 1..];
            if rest.iter().any(|other| other.name == *name) {
                return bad(format!("two upstreams are named `{name}`"), "give each its own name");
            }
            if let Some(prefix) = &upstream.prefix
                && (!prefix.starts_with('/') || prefix.trim_end_matches('/').is_empty())
            {
                return bad(
                    format!("the prefix `{prefix}` of the upstream `{name}` is no path"),
                    "begin it with / and name a segment, such as /openai",
                );
            }
            if let Some(other) = rest.iter().find(|other| upstream.serves_the_same(other)) {
                return bad(
                    format!("the upstreams `{name}` and `{}` serve the same paths", other.name),
                    "give them different prefixes or dialects",
                );
            }
        }
        Ok(())
    }
}

impl Upstream {
    fn serves_the_same(&self, other: &Self) -> bool {
        let prefix = |of: &Self| of.prefix.as_deref().map(|prefix| prefix.trim_end_matches('/').to_owned());
        prefix(self) == prefix(other)
            && (self.dialects.is_empty() && other.dialects.is_empty()
                || self.dialects.iter().any(|mine| other.dialects.iter().any(|theirs| mine.0 == theirs.0)))
    }
}

fn parse<T: DeserializeOwned>(text: &str, name: &str) -> Result<T, Error> {
    toml::from_str(text).map_err(|error| {
        let line = error.span().map(|span| {
            1 + text.as_bytes()[..span.start.min(text.len())].iter().filter(|byte| **byte == b'\n').count()
        });
        let place = line.map_or_else(|| name.to_owned(), |line| format!("{name}, line {line}"));
        // The value itself stays out: somebody may have put a key where its variable's name belongs.
        let message = error.message().replace('\n', " ").replace("unknown field", "unknown key");
        match message.split_once(", expected ") {
            Some((problem, known)) if problem.starts_with("unknown key") => {
                Error::bad_setting(format!("{place}: {problem}"), format!("known here: {known}"))
            }
            _ => {
                Error::bad_setting(format!("{place}: {message}"), "see `thrifty serve --help` for an example")
            }
        }
    })
}

/// A time: `"24h"`, `"90 s"`, or a whole number of seconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Span(pub(crate) Duration);

impl Span {
    const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visit;
        impl Visitor<'_> for Visit {
            type Value = Span;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a time such as \"24h\" or \"90s\", or a number of seconds")
            }
            fn visit_i64<E: de::Error>(self, seconds: i64) -> Result<Span, E> {
                u64::try_from(seconds)
                    .map(Span::seconds)
                    .map_err(|_| E::invalid_value(de::Unexpected::Signed(seconds), &self))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Span, E> {
                text.parse::<jiff::SignedDuration>()
                    .ok()
                    .and_then(|span| Duration::try_from(span).ok())
                    .map(Span)
                    .ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(Visit)
    }
}

/// Dollars, as a string or as a number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Money(pub(crate) Usd);

impl<'de> Deserialize<'de> for Money {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visit;
        impl Visitor<'_> for Visit {
            type Value = Money;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("dollars such as \"5.00\" or 5.5")
            }
            fn visit_i64<E: de::Error>(self, dollars: i64) -> Result<Money, E> {
                self.visit_str(&dollars.to_string())
            }
            fn visit_f64<E: de::Error>(self, dollars: f64) -> Result<Money, E> {
                // The shortest decimal that reads back as this number is the one that was written.
                self.visit_str(&dollars.to_string())
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Money, E> {
                let usd = text.parse::<Usd>().ok().filter(|usd| *usd > Usd::ZERO);
                usd.map(Money).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(Visit)
    }
}

/// A format's name.
#[derive(Clone, Copy)]
pub(crate) struct Format(pub(crate) Dialect);

impl<'de> Deserialize<'de> for Format {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map(Self).map_err(de::Error::custom)
    }
}

/// A header's name.
pub(crate) struct Header(pub(crate) HeaderName);

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        name.parse().map(Self).map_err(|_| de::Error::custom("this is no name of a header"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config, Error> {
        parse::<Config>(text, "t.toml").and_then(|config| config.check().map(|()| config))
    }

    fn refused(text: &str) -> String {
        read(text).err().unwrap_or_else(|| panic!("it is refused: {text}")).to_string()
    }

    const UP: &str = "[[upstream]]\nname = \"a\"\norigin = \"https://a.example\"\n";

    #[test]
    fn every_key_is_read() {
        let text = format!(
            "listen = \"127.0.0.1:0\"\nmax_connections = 5\nhead_timeout = 9\nprefix = false\n\
             [cache]\npath = \"c.redb\"\nmemory_bytes = 1_000\ndisk_bytes = 2_000\nttl = \"24h\"\n\
             [trim]\nbudget = 4000\n[cap]\ntokens = 64\n[budget]\nusd_per_day = 5.55\n\
             [[tier]]\nmodel = \"small\"\ntokens_below = 10\ntag = \"t\"\ntools = false\n\
             {UP}key_env = \"A_KEY\"\ndialects = [\"openai-chat\", \"embeddings\"]\nidle_timeout = \"90 s\"\n"
        );
        let config = read(&text).expect("it is read");
        assert_eq!(config.cache.ttl, Some(Span::seconds(86_400)));
        assert_eq!(config.budget.map(|budget| budget.usd_per_day.0), "5.55".parse().ok());
        assert_eq!(config.upstream[0].idle_timeout, Span::seconds(90));
        assert_eq!(config.upstream[0].dialects.len(), 2);
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line_and_what_is_known() {
        let error = refused(&format!("[cache]\npaht = \"c\"\n{UP}"));
        assert!(error.starts_with("t.toml, line 2: unknown key `paht`; known here: "), "{error}");
        assert!(error.contains("`path`"), "{error}");
    }

    #[test]
    fn what_cannot_be_served_is_refused() {
        for (text, want) in [
            (String::new(), "no upstream"),
            (format!("listen = \"0.0.0.0:1\"\n{UP}"), "beyond_loopback"),
            (format!("{UP}{UP}"), "two upstreams are named `a`"),
            (format!("{UP}{}", UP.replace("\"a\"", "\"b\"")), "serve the same paths"),
            (format!("{UP}prefix = \"/\"\n"), "is no path"),
            (format!("{UP}idle_timeout = 0\n"), "`idle_timeout` of 0"),
            (format!("{UP}dialects = [\"esperanto\"]\n"), "esperanto"),
            (format!("[budget]\nusd_per_day = -1\n{UP}"), "dollars"),
        ] {
            let error = refused(&text);
            assert!(error.contains(want), "{error}");
        }
        for origin in ["api.openai.com", "ftp://a", "https://user:pw@a", "https://a?x"] {
            assert!(Upstream::only(origin).uri().is_err(), "{origin}");
        }
    }
}
