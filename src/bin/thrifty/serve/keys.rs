//! Providers' keys that stay on this side.

use std::fmt;

use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use thrifty::Error;
use thrifty::call::Dialect;

use super::config;
use super::routes::dialect_of;

/// Headers a client may put its own credential into.
const CREDENTIALS: [HeaderName; 5] = [
    AUTHORIZATION,
    HeaderName::from_static("api-key"),
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("x-goog-api-key"),
    HeaderName::from_static("ocp-apim-subscription-key"),
];

/// A provider's key, and the header it goes into.
#[derive(Clone)]
pub(super) struct Key {
    plain: HeaderValue,
    bearer: HeaderValue,
    header: Option<HeaderName>,
}

impl Key {
    /// The key of `upstream`, from the environment; `None` when clients bring their own.
    pub(super) fn of(upstream: &config::Upstream) -> Result<Option<Self>, Error> {
        let Some(variable) = &upstream.key_env else { return Ok(None) };
        let bad = |problem: &str, way_out: &str| {
            // The variable's name stays out when it is none: somebody may have written the key itself.
            let named = variable.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
            let variable = if named { format!("`{variable}`") } else { "named by key_env".to_owned() };
            let problem =
                format!("the environment variable {variable} of the upstream `{}` {problem}", upstream.name);
            Error::bad_setting(problem, way_out)
        };
        let key = std::env::var(variable).map_err(|_| {
            bad("is not set", "export it, or take key_env out so that clients bring their own")
        })?;
        let key = key.trim();
        let secret = |text: &str| {
            let mut value = HeaderValue::try_from(text).ok().filter(|_| !key.is_empty())?;
            value.set_sensitive(true);
            Some(value)
        };
        match (secret(key), secret(&format!("Bearer {key}"))) {
            (Some(plain), Some(bearer)) => Ok(Some(Self {
                plain,
                bearer,
                header: upstream.key_header.as_ref().map(|name| name.0.clone()),
            })),
            _ => Err(bad("holds no key", "set it to the provider's key, which is visible ASCII")),
        }
    }

    /// Takes the client's own credential off and puts the key in its place.
    pub(super) fn place(&self, parts: &mut Parts) {
        without_credential(&mut parts.headers);
        without_key_in_query(parts);
        let name = self.header.clone().unwrap_or_else(|| header_for(parts));
        let value = if name == AUTHORIZATION { &self.bearer } else { &self.plain };
        parts.headers.insert(name, value.clone());
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

fn without_credential(headers: &mut HeaderMap) {
    for name in &CREDENTIALS {
        headers.remove(name);
    }
}

/// Gemini's clients may put their key into the query.
fn without_key_in_query(parts: &mut Parts) {
    let Some(query) = parts.uri.query() else { return };
    let is_key =
        |pair: &&str| ["key=", "access_token=", "api_key="].iter().any(|name| pair.starts_with(name));
    if !query.split('&').any(|pair| is_key(&pair)) {
        return;
    }
    let rest: Vec<&str> = query.split('&').filter(|pair| !is_key(pair)).collect();
    let path = parts.uri.path();
    let target = if rest.is_empty() { path.to_owned() } else { format!("{path}?{}", rest.join("&")) };
    let mut uri = std::mem::take(&mut parts.uri).into_parts();
    // A part of a target is one too; if not, the call has none and fails, rather than carry the key on.
    uri.path_and_query = Some(target.parse().unwrap_or_else(|_| http::uri::PathAndQuery::from_static("/")));
    parts.uri = http::Uri::from_parts(uri).unwrap_or_default();
}

/// Where the provider of a call to this URI looks for a key: by the format of the path, else by the host.
fn header_for(parts: &Parts) -> HeaderName {
    let (path, host) = (parts.uri.path(), parts.uri.host().unwrap_or_default());
    let goog = || HeaderName::from_static("x-goog-api-key");
    match dialect_of(path) {
        Dialect::AnthropicMessages => HeaderName::from_static("x-api-key"),
        Dialect::GeminiGenerate => goog(),
        Dialect::Embeddings if path.contains(':') => goog(),
        Dialect::Opaque if host == "api.anthropic.com" => HeaderName::from_static("x-api-key"),
        Dialect::Opaque if host == "generativelanguage.googleapis.com" => goog(),
        _ if host.ends_with(".openai.azure.com") => HeaderName::from_static("api-key"),
        _ => AUTHORIZATION,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Key {
        let value = HeaderValue::from_static;
        Key { plain: value("sk-server"), bearer: value("Bearer sk-server"), header: None }
    }

    #[test]
    fn the_key_goes_where_the_format_wants_it_and_the_clients_own_goes_nowhere() {
        for (uri, name, value) in [
            ("https://api.openai.com/v1/chat/completions", "authorization", "Bearer sk-server"),
            ("https://api.openai.com/v1/models", "authorization", "Bearer sk-server"),
            ("https://proxy.example/v1/messages/count_tokens", "x-api-key", "sk-server"),
            ("https://api.anthropic.com/v1/models", "x-api-key", "sk-server"),
            (
                "https://g.example/v1beta/models/gemini:generateContent?key=mine&alt=sse",
                "x-goog-api-key",
                "sk-server",
            ),
            ("https://g.example/v1beta/models/e:embedContent", "x-goog-api-key", "sk-server"),
            (
                "https://me.openai.azure.com/openai/deployments/x/chat/completions?key=a",
                "api-key",
                "sk-server",
            ),
        ] {
            let mut request = http::Request::post(uri);
            for name in &CREDENTIALS {
                request = request.header(name, "mine");
            }
            let (mut parts, ()) = request.body(()).expect("a request").into_parts();
            key().place(&mut parts);
            assert_eq!(parts.headers.len(), 1, "{uri}: one credential");
            assert_eq!(parts.headers[name], value, "{uri}");
            assert!(!parts.uri.to_string().contains("key="), "{}", parts.uri);
        }
    }
}
