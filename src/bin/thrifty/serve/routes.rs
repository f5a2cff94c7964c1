//! Which upstream a request goes to. Its path decides and nothing else: neither the host it names, nor an absolute
//! target, nor a header, nor the body.

use http::Uri;
use http::uri::PathAndQuery;
use thrifty::Error;
use thrifty::call::Dialect;

use super::config;

/// The upstreams, those that serve a prefix first, the longest before the others.
pub(super) struct Routes(Vec<Route>);

struct Route {
    /// Place among the configured upstreams.
    number: usize,
    prefix: Option<String>,
    dialects: Vec<Dialect>,
    origin: Uri,
}

/// Number of an upstream, among the extensions of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Via(pub(super) usize);

impl Routes {
    pub(super) fn new(upstreams: &[config::Upstream]) -> Result<Self, Error> {
        let mut routes = Vec::with_capacity(upstreams.len());
        for (number, upstream) in upstreams.iter().enumerate() {
            routes.push(Route {
                number,
                prefix: upstream.prefix.as_deref().map(|prefix| prefix.trim_end_matches('/').to_owned()),
                dialects: upstream.dialects.iter().map(|format| format.0).collect(),
                origin: upstream.uri()?,
            });
        }
        let prefix = |route: &Route| route.prefix.as_deref().map_or(0, str::len);
        routes.sort_by_key(|route| (std::cmp::Reverse(prefix(route)), route.dialects.is_empty()));
        Ok(Self(routes))
    }

    /// Upstream and URI of a request to `target`, whose path is of this format.
    pub(super) fn find(&self, target: &Uri, dialect: Dialect) -> Option<(Via, Uri)> {
        let path = target.path();
        if !path.starts_with('/') || climbs(path) {
            return None;
        }
        let (route, rest) = self.0.iter().find_map(|route| {
            let rest = match &route.prefix {
                Some(prefix) => {
                    path.strip_prefix(&**prefix).filter(|rest| rest.is_empty() || rest.starts_with('/'))?
                }
                None => path,
            };
            (route.dialects.is_empty() || route.dialects.contains(&dialect)).then_some((route, rest))
        })?;
        let base = route.origin.path().trim_end_matches('/');
        let rest = if base.is_empty() && rest.is_empty() { "/" } else { rest };
        let mut parts = route.origin.clone().into_parts();
        let mut way = String::with_capacity(base.len() + rest.len() + 16);
        way.push_str(base);
        way.push_str(rest);
        if let Some(query) = target.query() {
            way.push('?');
            way.push_str(query);
        }
        parts.path_and_query = Some(PathAndQuery::try_from(way).ok()?);
        Some((Via(route.number), Uri::from_parts(parts).ok()?))
    }
}

/// The format that claims `path`, or one of the paths it lies under: `/v1/messages/count_tokens` is Anthropic's.
pub(super) fn dialect_of(path: &str) -> Dialect {
    let mut path = path.trim_end_matches('/');
    while !path.is_empty() {
        if let Some(dialect) = Dialect::ALL.into_iter().find(|dialect| dialect.format().claims_path(path)) {
            return dialect;
        }
        path = path.rsplit_once('/').map_or("", |(above, _)| above);
    }
    Dialect::Opaque
}

/// True if a segment is `.` or `..`, plain or escaped: servers disagree about what such a path means.
fn climbs(path: &str) -> bool {
    let plain = !path.bytes().any(|byte| matches!(byte, b'%' | b'\\'));
    if plain && !path.contains("/.") {
        return false;
    }
    path.split(['/', '\\']).any(|segment| {
        let segment = segment.to_ascii_lowercase().replace("%2e", ".");
        segment == "." || segment == ".."
    }) || path.to_ascii_lowercase().contains("%2f..")
        || path.to_ascii_lowercase().contains("..%2f")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::config::{Format, Upstream};

    fn upstream(name: &str, prefix: Option<&str>, dialects: &[Dialect]) -> Upstream {
        Upstream {
            name: name.to_owned(),
            prefix: prefix.map(str::to_owned),
            dialects: dialects.iter().copied().map(Format).collect(),
            ..Upstream::only(&format!("https://{name}.example/base"))
        }
    }

    fn found(routes: &Routes, target: &str) -> Option<String> {
        let target: Uri = target.parse().expect("a target");
        routes.find(&target, dialect_of(target.path())).map(|(_, uri)| uri.to_string())
    }

    #[test]
    fn a_path_finds_its_upstream_by_prefix_then_format_then_any() {
        let routes = Routes::new(&[
            upstream("any", None, &[]),
            upstream("claude", None, &[Dialect::AnthropicMessages]),
            upstream("groq", Some("/groq/"), &[]),
        ])
        .expect("routes");
        for (target, want) in [
            ("/v1/chat/completions", "https://any.example/base/v1/chat/completions"),
            ("/v1/models?limit=1", "https://any.example/base/v1/models?limit=1"),
            ("/v1/messages", "https://claude.example/base/v1/messages"),
            ("/v1/messages/count_tokens", "https://claude.example/base/v1/messages/count_tokens"),
            ("/groq/v1/messages", "https://groq.example/base/v1/messages"),
            ("/groqq/v1/x", "https://any.example/base/groqq/v1/x"),
            ("/groq", "https://groq.example/base"),
        ] {
            assert_eq!(found(&routes, target).as_deref(), Some(want), "{target}");
        }
    }

    #[test]
    fn no_target_leads_to_another_host_or_out_of_the_base_path() {
        let routes = Routes::new(&[upstream("any", None, &[])]).expect("routes");
        for target in ["http://evil.example/v1/x", "//evil.example/v1/x", "/@evil.example/x"] {
            let uri = found(&routes, target).expect("it is served");
            assert!(uri.starts_with("https://any.example/base/"), "{target} became {uri}");
        }
        for target in ["/../x", "/v1/../../x", "/v1/%2e%2E/x", "/.%2e/x", "/a%2f..%2fb", "*"] {
            assert_eq!(found(&routes, target), None, "{target}");
        }
    }

    #[test]
    fn a_path_that_no_upstream_serves_finds_none() {
        let routes = Routes::new(&[upstream("claude", None, &[Dialect::AnthropicMessages])]).expect("routes");
        assert_eq!(found(&routes, "/v1/chat/completions"), None);
    }
}
