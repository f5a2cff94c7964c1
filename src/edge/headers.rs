//! Headers that are for us, headers that end here, and the others, which travel on.

use std::time::Duration;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;

use crate::Error;
use crate::call::{CacheMode, Freshness, Options, Scope, is_signed};

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
    if trust {
        let directives = Directives::among(&parts.headers);
        let wished = wishes(&ours)?;
        if directives.is_some() || wished.is_some() {
            let mut options = parts.extensions.remove::<Options>().unwrap_or_default();
            // A header of ours is meant for us alone, so it has the last word.
            if let Some(directives) = directives {
                directives.onto(&mut options);
            }
            if let Some(wished) = wished {
                wished.onto(&mut options);
            }
            parts.extensions.insert(options);
        }
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

/// What `cache-control` asks of every cache on the way (RFC 9111, section 5.2.1; RFC 5861, section 4). The header
/// travels on: there may be another one. Directives that are not known mean nothing, as the RFC has it, and numbers are
/// seconds.
#[derive(Debug, Default, PartialEq, Eq)]
struct Directives {
    mode: Option<CacheMode>,
    fresh: Freshness,
}

/// A time that no answer outlives; RFC 9111, section 1.2.2.
const FOR_EVER: Duration = Duration::from_secs(1 << 31);

impl Directives {
    /// Those of these headers; `None` if they hold none that is known.
    fn among(headers: &HeaderMap) -> Option<Self> {
        let mut all = Self::default();
        let values = headers.get_all(header::CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
        for directive in values.flat_map(|value| value.split(',')) {
            let (name, value) = match directive.split_once('=') {
                Some((name, value)) => (name, Some(value.trim().trim_matches('"'))),
                None => (directive, None),
            };
            all.take(&name.trim().to_ascii_lowercase(), value);
        }
        (all != Self::default()).then_some(all)
    }

    /// Where directives contradict each other, the stricter one counts; a number that is none is the strictest.
    fn take(&mut self, name: &str, value: Option<&str>) {
        let seconds = value.and_then(seconds);
        let Freshness { max_age, min_fresh, max_stale, stale_if_error, .. } = &mut self.fresh;
        let least = |was: Option<Duration>, is: Duration| Some(was.map_or(is, |was| was.min(is)));
        match name {
            "no-store" => self.mode = Some(CacheMode::NoStore),
            "no-cache" if self.mode != Some(CacheMode::NoStore) => self.mode = Some(CacheMode::NoCache),
            "only-if-cached" if self.mode.is_none() => self.mode = Some(CacheMode::OnlyIfCached),
            "max-age" => *max_age = least(*max_age, seconds.unwrap_or_default()),
            "min-fresh" => *min_fresh = (*min_fresh).max(Some(seconds.unwrap_or(FOR_EVER))),
            // Without a number any staleness will do.
            "max-stale" => {
                let most = if value.is_none() { FOR_EVER } else { seconds.unwrap_or_default() };
                *max_stale = least(*max_stale, most);
            }
            "stale-if-error" => *stale_if_error = least(*stale_if_error, seconds.unwrap_or_default()),
            _ => {}
        }
    }

    fn onto(self, options: &mut Options) {
        let Self { mode, fresh } = self;
        options.cache = mode.unwrap_or(options.cache);
        let Freshness { max_age, min_fresh, max_stale, stale_if_error, .. } = fresh;
        options.fresh.max_age = max_age.or(options.fresh.max_age);
        options.fresh.min_fresh = min_fresh.or(options.fresh.min_fresh);
        options.fresh.max_stale = max_stale.or(options.fresh.max_stale);
        options.fresh.stale_if_error = stale_if_error.or(options.fresh.stale_if_error);
    }
}

/// Whole seconds; more than fit are for ever.
fn seconds(text: &str) -> Option<Duration> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| Duration::from_secs(text.parse().unwrap_or(u64::MAX)).min(FOR_EVER))
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
                    "no-cache" | "refresh" => CacheMode::NoCache,
                    "only-if-cached" => CacheMode::OnlyIfCached,
                    "read-only" => CacheMode::ReadOnly,
                    "write-only" => CacheMode::WriteOnly,
                    _ => {
                        let way_out = "give one of default, no-store, no-cache, refresh, only-if-cached, read-only, write-only";
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
    fn the_words_of_cache_control_are_followed_and_travel_on() {
        let secs = |secs| Duration::from_secs(secs);
        let none = Options::new;
        for (header, want) in [
            ("no-store", Some(none().cache(CacheMode::NoStore))),
            ("No-Cache", Some(none().cache(CacheMode::NoCache))),
            ("only-if-cached, max-stale", Some(none().cache(CacheMode::OnlyIfCached).max_stale(FOR_EVER))),
            ("only-if-cached, no-cache, no-store", Some(none().cache(CacheMode::NoStore))),
            ("max-age=0", Some(none().max_age(secs(0)))),
            (
                "max-age=60, min-fresh = 5,max-stale=7",
                Some(none().max_age(secs(60)).min_fresh(secs(5)).max_stale(secs(7))),
            ),
            ("max-age=60, max-age=30", Some(none().max_age(secs(30)))),
            ("max-age=\"60\"", Some(none().max_age(secs(60)))),
            ("max-age=-1", Some(none().max_age(secs(0)))),
            ("max-age=99999999999999999999", Some(none().max_age(FOR_EVER))),
            ("stale-if-error=600", Some(none().stale_if_error(secs(600)))),
            ("no-transform, immutable, x=1", None),
            ("", None),
        ] {
            let mut parts = head(&[("cache-control", header)]);
            inward(&mut parts, true).expect("a directive is never an error");
            assert_eq!(parts.extensions.get::<Options>(), want.as_ref(), "{header}");
            assert_eq!(parts.headers.len(), 1, "{header}: there may be another cache on the way");
            let mut parts = head(&[("cache-control", header)]);
            inward(&mut parts, false).expect("nor if nobody follows it");
            assert_eq!(parts.extensions.get::<Options>(), None, "{header}");
        }
        let mut parts = head(&[("cache-control", "no-store"), ("thrifty-cache", "write-only")]);
        inward(&mut parts, true).expect("good");
        assert_eq!(parts.extensions.get::<Options>(), Some(&none().cache(CacheMode::WriteOnly)));
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
