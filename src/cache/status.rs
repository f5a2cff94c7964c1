//! What a reply's headers say of its way through the cache: `Cache-Status` (RFC 9211) and `Age` (RFC 9111).
//!
//! Nothing that is not known when the head leaves is claimed: whether a stream is stored is not. Why an answer is not
//! stored is told where it came whole, or its head forbids it. The key is never told. In a shared scope nothing at all is said, since a hit would tell that somebody else asked the same.

use http::HeaderMap;
use http::header::{AGE, HeaderName, HeaderValue};

use super::entry::Entry;
use super::freshness::lifetime;
use super::layer::Core;
use crate::call::{Call, Options, Reply};

const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// Why a reply is not from the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// Nothing was stored.
    Miss,
    /// Nothing was stored, and an identical call was under way.
    Collapsed,
    /// Some inputs of a batch were stored.
    Partial,
    /// The call asked for a new answer.
    Request,
    /// The call may not be looked up, for this reason.
    Bypass(&'static str),
    /// Nothing was stored, and the call shares with nobody.
    Alone,
    /// As [`Miss`](Self::Miss) or, if true, [`Request`](Self::Request); and what came is not stored, for this reason.
    NotStored(bool, &'static str),
}

impl Sent {
    fn value(self) -> HeaderValue {
        match self {
            Self::Miss => HeaderValue::from_static("thrifty; fwd=miss"),
            Self::Collapsed => HeaderValue::from_static("thrifty; fwd=miss; collapsed"),
            Self::Partial => HeaderValue::from_static("thrifty; fwd=partial"),
            Self::Request => HeaderValue::from_static("thrifty; fwd=request"),
            Self::Alone => HeaderValue::from_static("thrifty; fwd=miss; detail=own-call"),
            Self::NotStored(asked, why) => {
                let (fwd, plain) = match asked {
                    true => ("request", Self::Request),
                    false => ("miss", Self::Miss),
                };
                HeaderValue::try_from(format!("thrifty; fwd={fwd}; detail={why}"))
                    .unwrap_or_else(|_| plain.value())
            }
            Self::Bypass(why) => HeaderValue::try_from(format!("thrifty; fwd=bypass; detail={why}"))
                .unwrap_or(HeaderValue::from_static("thrifty; fwd=bypass")),
        }
    }
}

/// True if this call's replies say nothing of the cache.
pub(super) fn is_silent(core: &Core, call: &Call) -> bool {
    core.scope_of(Options::among(&call.parts.extensions)).is_shared()
}

/// A reply that came from the inner service, with what the cache has to say.
pub(super) fn sent(mut reply: Reply, how: Sent, silent: bool) -> Reply {
    if !silent {
        append(reply.headers_mut(), how.value());
    }
    reply
}

/// The headers of a reply from the cache.
pub(super) fn hit(headers: &mut HeaderMap, entry: &Entry, now_ms: i64) {
    let age = now_ms.saturating_sub(entry.created_ms).max(0) / 1_000;
    let life = i64::try_from(lifetime(entry).as_millis()).unwrap_or(i64::MAX);
    // Of a stale answer it is negative (RFC 9211, section 2.4).
    let ttl = entry.created_ms.saturating_add(life).saturating_sub(now_ms).div_euclid(1_000);
    if let Ok(value) = HeaderValue::from_bytes(Text::of("", age).bytes()) {
        headers.insert(AGE, value);
    }
    if let Ok(value) = HeaderValue::from_bytes(Text::of("thrifty; hit; ttl=", ttl).bytes()) {
        append(headers, value);
    }
}

/// A few words and a number, put together without the heap: every hit has two of these.
struct Text {
    bytes: [u8; 40],
    from: usize,
}

impl Text {
    /// `before` has at most 20 bytes.
    fn of(before: &str, number: i64) -> Self {
        let mut text = Self { bytes: [0; 40], from: 40 };
        let mut rest = number.unsigned_abs();
        loop {
            text.put(b'0' + (rest % 10) as u8);
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        if number < 0 {
            text.put(b'-');
        }
        before.bytes().rev().for_each(|byte| text.put(byte));
        text
    }

    fn put(&mut self, byte: u8) {
        self.from -= 1;
        self.bytes[self.from] = byte;
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[self.from..]
    }
}

/// Our member comes last: the list begins with the cache nearest to the origin.
fn append(headers: &mut HeaderMap, ours: HeaderValue) {
    if !headers.contains_key(&CACHE_STATUS) {
        headers.insert(CACHE_STATUS, ours);
        return;
    }
    let mut all = Vec::new();
    for theirs in headers.get_all(&CACHE_STATUS) {
        all.extend_from_slice(theirs.as_bytes());
        all.extend_from_slice(b", ");
    }
    all.extend_from_slice(ours.as_bytes());
    if let Ok(all) = HeaderValue::from_bytes(&all) {
        headers.insert(CACHE_STATUS, all);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn our_member_of_the_list_comes_last_and_all_are_one_header() {
        for (theirs, want) in [
            (&[][..], "thrifty; fwd=bypass; detail=store-true"),
            (&["a; hit"], "a; hit, thrifty; fwd=bypass; detail=store-true"),
            (&["a; hit", "b; fwd=miss"], "a; hit, b; fwd=miss, thrifty; fwd=bypass; detail=store-true"),
        ] {
            let mut reply = Reply::default();
            for value in theirs {
                reply.headers_mut().append(CACHE_STATUS, HeaderValue::from_static(value));
            }
            let reply = sent(reply, Sent::Bypass("store-true"), false);
            let all: Vec<_> = reply.headers().get_all(CACHE_STATUS).iter().collect();
            assert_eq!(all, [want]);
        }
        assert!(sent(Reply::default(), Sent::Miss, true).headers().is_empty(), "a shared scope keeps silent");
    }

    #[test]
    fn every_number_has_room() {
        for (number, want) in
            [(0, "thrifty; hit; ttl=0"), (i64::MIN, "thrifty; hit; ttl=-9223372036854775808")]
        {
            assert_eq!(Text::of("thrifty; hit; ttl=", number).bytes(), want.as_bytes());
        }
    }

    #[test]
    fn a_hit_tells_its_age_and_what_is_left_in_whole_seconds() {
        let entry = Entry::new(http::StatusCode::OK, "", 1_000, Duration::from_secs(300));
        for (now, age, status) in [
            (61_999, "60", "thrifty; hit; ttl=239"),
            (0, "0", "thrifty; hit; ttl=301"),
            (361_001, "360", "thrifty; hit; ttl=-61"),
        ] {
            let mut headers = HeaderMap::new();
            hit(&mut headers, &entry, now);
            assert_eq!(
                (&headers[AGE], &headers[CACHE_STATUS]),
                (&age.parse().unwrap(), &status.parse().unwrap())
            );
        }
    }
}
