//! Headers that are for us, headers that end here, and the others, which travel on.

use std::time::Duration;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;

use crate::Error;
use crate::call::{CacheMode, Options, Scope, is_signed};

/// Headers that mean one connection only (RFC 9110, section 7.6.1, and its forerunners).
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
];

/// Prepares a request's head for the layers: wishes become [`Options`], and what holds for this hop alone goes.
///
/// With `trust` unset the wishes are taken off and not followed.
pub(super) fn inward(parts: &mut Parts, trust: bool) -> Result<(), Error> {
    // The next hop is a connection of its own, and finds its version out by itself.
    parts.version = http::Version::HTTP_11;
    let ours = take_ours(&mut parts.headers);
    // What is not followed need not make sense either.
    if trust && let Some(wished) = wishes(&ours)? {
        let mut options = parts.extensions.remove::<Options>().unwrap_or_default();
        wished.onto(&mut options);
        parts.extensions.insert(options);
    }
    strip_hop_by_hop(&mut parts.headers);
    // The next hop has another host and, after an edit, another length. A signature holds for the host it names.
    if !is_signed(&parts.headers) {
        parts.headers.remove(header::HOST);
    }
    parts.headers.remove(header::CONTENT_LENGTH);
    // The body is here already, so there is nobody to wait for a word to go on.
    parts.headers.remove(header::EXPECT);
    // A compressed answer can neither be read for its usage nor be served to a client that asked for another
    // coding. A client library that decodes by itself adds the header anew below us.
    parts.headers.remove(header::ACCEPT_ENCODING);
    Ok(())
}

/// Removes what holds for one connection only, also what the `connection` header names.
pub(super) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
    headers.remove("proxy-connection");
}

#[derive(Default)]
struct Wishes {
    tag: Option<String>,
    cap: Option<u64>,
    budget: Option<u64>,
    tenant: Option<String>,
    cache: Option<CacheMode>,
    ttl: Option<Duration>,
}

impl Wishes {
    fn onto(self, options: &mut Options) {
        let Self { tag, cap, budget, tenant, cache, ttl } = self;
        if let Some(tag) = tag {
            options.tag = Some(tag.into());
        }
        // Whoever set a scope in the program knows better than a header: a client must not leave its tenant.
        if let (None, Some(tenant)) = (&options.scope, tenant) {
            options.scope = Some(Scope::tenant(&tenant));
        }
        options.cap = cap.or(options.cap);
        options.budget = budget.or(options.budget);
        options.cache = cache.unwrap_or(options.cache);
        options.ttl = ttl.or(options.ttl);
    }
}

/// Takes all headers named `thrifty-..` off.
fn take_ours(headers: &mut HeaderMap) -> Vec<(HeaderName, Vec<HeaderValue>)> {
    let names: Vec<HeaderName> =
        headers.keys().filter(|name| name.as_str().starts_with("thrifty-")).cloned().collect();
    let mut take = |name: HeaderName| {
        let values = headers.get_all(&name).iter().cloned().collect();
        headers.remove(&name);
        (name, values)
    };
    names.into_iter().map(&mut take).collect()
}

/// What these headers wish for; `None` when there are none.
fn wishes(ours: &[(HeaderName, Vec<HeaderValue>)]) -> Result<Option<Wishes>, Error> {
    let mut wishes = Wishes::default();
    for (name, values) in ours {
        let text = match &values[..] {
            [value] => value.to_str().map_err(|_| bad(name, "is not plain text", "send visible ASCII"))?,
            _ => return Err(bad(name, "came more than once", "send it once")),
        };
        wishes.take(name, text.trim())?;
    }
    Ok((!ours.is_empty()).then_some(wishes))
}

impl Wishes {
    fn take(&mut self, name: &HeaderName, text: &str) -> Result<(), Error> {
        let number =
            || text.parse::<u64>().map_err(|_| bad(name, "is not a whole number", "send digits only"));
        match name.as_str() {
            "thrifty-tag" => self.tag = Some(text.to_owned()),
            "thrifty-scope" if text.is_empty() => {
                return Err(bad(name, "is empty", "name a tenant or leave the header out"));
            }
            "thrifty-scope" => self.tenant = Some(text.to_owned()),
            "thrifty-cap" => self.cap = Some(number()?),
            "thrifty-budget" => self.budget = Some(number()?),
            "thrifty-ttl" => self.ttl = Some(Duration::from_secs(number()?)),
            "thrifty-cache" => {
                self.cache = Some(match text {
                    "default" => CacheMode::Default,
                    "no-store" => CacheMode::NoStore,
                    "no-cache" => CacheMode::NoCache,
                    "only-if-cached" => CacheMode::OnlyIfCached,
                    "read-only" => CacheMode::ReadOnly,
                    _ => {
                        let way_out = "give one of default, no-store, no-cache, only-if-cached, read-only";
                        return Err(bad(name, "has an unknown value", way_out));
                    }
                });
            }
            _ => {
                let way_out = "known are thrifty-tag, thrifty-cap, thrifty-budget, thrifty-scope, thrifty-cache, thrifty-ttl";
                return Err(bad(name, "is not known", way_out));
            }
        }
        Ok(())
    }
}

#[cold]
fn bad(name: &HeaderName, problem: &str, way_out: &str) -> Error {
    Error::bad_input(format!("the header `{name}` {problem}"), way_out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn head(headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::post("http://fake/");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).expect("a request").into_parts().0
    }

    #[test]
    fn wishes_become_options_and_do_not_travel_on() {
        let mut parts = head(&[
            ("thrifty-tag", "nightly"),
            ("thrifty-cap", "64"),
            ("thrifty-budget", "4000"),
            ("thrifty-scope", "user-7"),
            ("thrifty-cache", "no-store"),
            ("thrifty-ttl", "60"),
            ("authorization", "Bearer k"),
        ]);
        inward(&mut parts, true).expect("all are good");
        let want = Options::new()
            .tag("nightly")
            .cap(64)
            .budget(4_000)
            .scope(Scope::tenant("user-7"))
            .cache(CacheMode::NoStore)
            .ttl(Duration::from_secs(60));
        assert_eq!(parts.extensions.get::<Options>(), Some(&want));
        assert_eq!(parts.headers.len(), 1, "only the credential travels on");
    }

    #[test]
    fn a_header_cannot_leave_the_scope_the_program_set() {
        let mut parts = head(&[("thrifty-scope", "somebody-else"), ("thrifty-tag", "t")]);
        parts.extensions.insert(Options::new().scope(Scope::tenant("mine")).cap(9));
        inward(&mut parts, true).expect("good");
        assert_eq!(
            parts.extensions.get::<Options>(),
            Some(&Options::new().scope(Scope::tenant("mine")).cap(9).tag("t"))
        );
    }

    #[test]
    fn untrusted_wishes_are_taken_off_and_not_followed() {
        for (name, value) in [("thrifty-scope", "x"), ("thrifty-cap", "many"), ("thrifty-colour", "red")] {
            let mut parts = head(&[(name, value)]);
            inward(&mut parts, false).expect("what is not followed is not judged");
            assert!(parts.headers.is_empty() && parts.extensions.get::<Options>().is_none(), "{name}");
        }
    }

    #[test]
    fn a_wish_that_makes_no_sense_is_refused_by_name() {
        for (name, value) in [
            ("thrifty-cap", "many"),
            ("thrifty-cache", "sometimes"),
            ("thrifty-scope", ""),
            ("thrifty-colour", "red"),
        ] {
            let error = inward(&mut head(&[(name, value)]), true).expect_err("it makes no sense");
            assert!(error.to_string().contains(name), "{error}");
        }
    }

    #[test]
    fn what_holds_for_one_hop_does_not_travel_on() {
        let mut parts = head(&[
            ("connection", "close, x-mine"),
            ("x-mine", "1"),
            ("te", "trailers"),
            ("host", "here"),
            ("content-length", "3"),
            ("accept-encoding", "br"),
            ("expect", "100-continue"),
            ("x-theirs", "2"),
        ]);
        parts.version = http::Version::HTTP_2;
        inward(&mut parts, true).expect("good");
        assert_eq!(parts.headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-theirs"]);
        assert_eq!(parts.version, http::Version::HTTP_11, "the version of one hop is not that of the next");
    }
}
