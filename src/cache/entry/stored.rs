//! The bytes of an entry that are kept.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http::header::{HeaderMap, HeaderName, HeaderValue};

use super::{Entry, Places};
use crate::dialect::{Called, Finish, Outcome, Usage, each_count};
use crate::price::Usd;

impl Entry {
    /// What is kept of an entry, all numbers little-endian; times are kept beside it.
    pub(in crate::cache) fn write(&self, out: &mut Vec<u8>) {
        // Taken apart whole, so that a new field does not compile until it is decided whether it is stored.
        let Self { status, headers, body, frames, created_ms: _, ttl: _, outcome, cost, table, identity: _ } =
            self;
        // Which tools it calls was judged before it was stored.
        let Outcome { model, service_tier, usage, finish, empty, broken_tool_call, called: _, text_bytes } =
            outcome;
        out.extend_from_slice(&status.as_u16().to_le_bytes());
        out.push(finish_code(*finish));
        out.push(u8::from(*empty) | u8::from(*broken_tool_call) << 1);
        out.extend_from_slice(&text_bytes.to_le_bytes());
        write_text(out, model.as_deref());
        write_text(out, service_tier.as_deref());
        write_text(out, table.as_deref());
        match cost {
            None => out.push(0),
            Some(cost) => {
                out.push(1);
                out.extend_from_slice(&cost.pico().to_le_bytes());
            }
        }
        match usage {
            None => out.push(0),
            Some(usage) => {
                out.push(1);
                for count in counts(usage) {
                    out.push(u8::from(count.is_some()));
                    out.extend_from_slice(&count.unwrap_or(0).to_le_bytes());
                }
            }
        }
        out.extend_from_slice(&(headers.len() as u32).to_le_bytes());
        for (name, value) in headers {
            write_bytes(out, name.as_str().as_bytes());
            write_bytes(out, value.as_bytes());
        }
        match frames {
            None => out.push(0),
            Some(frames) => {
                out.push(1);
                out.extend_from_slice(&(frames.len() as u64).to_le_bytes());
                frames.iter().for_each(|frame| out.extend_from_slice(&frame.to_le_bytes()));
            }
        }
        write_bytes(out, body);
    }

    /// The way back. Total: whatever the bytes are, the worst answer is none. The body is a part of `payload`.
    pub(in crate::cache) fn read(payload: &Bytes, created_ms: i64, ttl: Duration) -> Option<Self> {
        let mut from = Reader(payload);
        let status = StatusCode::from_u16(u16::from_le_bytes(from.array()?)).ok()?;
        let finish = finish_of(from.byte()?)?;
        let flags = from.byte()?;
        let text_bytes = from.u64()?;
        let (model, service_tier, table) = (from.text()?, from.text()?, from.text()?);
        let cost = match from.byte()? {
            0 => None,
            _ => Some(Usd::from_pico(i128::from_le_bytes(from.array()?))),
        };
        let usage = match from.byte()? {
            0 => None,
            _ => Some(from.usage()?),
        };
        let mut headers = HeaderMap::new();
        for _ in 0..u32::from_le_bytes(from.array()?) {
            let name = HeaderName::from_bytes(from.bytes()?).ok()?;
            headers.try_append(name, HeaderValue::from_bytes(from.bytes()?).ok()?).ok()?;
        }
        let frames = match from.byte()? {
            0 => None,
            _ => {
                let len = usize::try_from(from.u64()?).ok()?.checked_mul(4)?;
                let (frames, _) = from.take(len)?.as_chunks::<4>();
                Some(frames.iter().map(|frame| u32::from_le_bytes(*frame)).collect())
            }
        };
        let body = payload.slice_ref(from.bytes()?);
        let outcome = Outcome {
            model: model.map(str::to_owned),
            service_tier: service_tier.map(str::to_owned),
            usage,
            finish,
            empty: flags & 1 != 0,
            broken_tool_call: flags & 2 != 0,
            called: Called::default(),
            text_bytes,
        };
        let table = table.map(Arc::from);
        from.0.is_empty().then_some(Self {
            status,
            headers,
            body,
            frames,
            created_ms,
            ttl,
            outcome,
            cost,
            table,
            identity: Places::default(),
        })
    }
}

fn finish_code(finish: Finish) -> u8 {
    match finish {
        Finish::Unknown => 0,
        Finish::Whole => 1,
        Finish::Truncated => 2,
        Finish::Refused => 3,
        Finish::Failed => 4,
        Finish::Partial => 5,
    }
}

pub(super) fn finish_of(code: u8) -> Option<Finish> {
    [Finish::Unknown, Finish::Whole, Finish::Truncated, Finish::Refused, Finish::Failed, Finish::Partial]
        .into_iter()
        .find(|finish| finish_code(*finish) == code)
}

macro_rules! counts {
    ($($count:ident),*) => {
        const COUNTS: usize = [$(stringify!($count)),*].len();

        fn counts(usage: &Usage) -> [Option<u64>; COUNTS] {
            let Usage { $($count),* } = *usage;
            [$($count),*]
        }

        fn usage_of(counts: [Option<u64>; COUNTS]) -> Usage {
            let [$($count),*] = counts;
            Usage { $($count),* }
        }
    };
}

each_count!(counts);

fn write_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
    out.extend_from_slice(bytes);
}

fn write_text(out: &mut Vec<u8>, text: Option<&str>) {
    out.push(u8::from(text.is_some()));
    if let Some(text) = text {
        write_bytes(out, text.as_bytes());
    }
}

/// Takes fields off the front; `None` where the bytes end. Every length is checked against what is there before
/// anything is allocated for it.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn byte(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(self.u64()?).ok()?;
        self.take(len)
    }

    fn text(&mut self) -> Option<Option<&'a str>> {
        match self.byte()? {
            0 => Some(None),
            _ => std::str::from_utf8(self.bytes()?).ok().map(Some),
        }
    }

    pub(super) fn usage(&mut self) -> Option<Usage> {
        let mut read = [None; COUNTS];
        for count in &mut read {
            let known = self.byte()? != 0;
            let value = self.u64()?;
            *count = known.then_some(value);
        }
        Some(usage_of(read))
    }
}

#[cfg(test)]
pub(in crate::cache) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(in crate::cache) fn entries() -> impl Strategy<Value = Entry> {
        let headers = prop::collection::vec(("[a-z][a-z0-9-]{0,12}", "[ -~]{0,20}"), 0..5);
        let outcome = (
            prop::option::of(".{0,12}"),
            prop::option::of("[a-z]{0,8}"),
            prop::option::of(prop::array::uniform18(prop::option::of(any::<u64>()))),
            0u8..6,
            any::<(bool, bool, u64)>(),
        );
        let rest = (
            prop::option::of(prop::collection::vec(any::<u32>(), 0..9)),
            any::<i64>(),
            any::<u32>(),
            prop::option::of(any::<i128>()),
            prop::option::of(".{0,12}"),
        );
        let body = prop::collection::vec(any::<u8>(), 0..300);
        (100u16..1000, headers, outcome, rest, body).prop_map(|(status, fields, outcome, rest, body)| {
            let (model, service_tier, counts, finish, (empty, broken_tool_call, text_bytes)) = outcome;
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
                headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
            }
            let mut bytes = Vec::new();
            for count in counts.into_iter().flatten() {
                bytes.push(u8::from(count.is_some()));
                bytes.extend(count.unwrap_or(0).to_le_bytes());
            }
            let (frames, created_ms, ttl, cost, table) = rest;
            Entry {
                status: StatusCode::from_u16(status).unwrap(),
                headers,
                body: body.into(),
                frames: frames.map(Arc::from),
                created_ms,
                ttl: Duration::from_secs(u64::from(ttl)),
                outcome: Outcome {
                    model,
                    service_tier,
                    usage: counts.and_then(|_| Reader(&bytes).usage()),
                    finish: finish_of(finish).unwrap(),
                    empty,
                    broken_tool_call,
                    called: Called::default(),
                    text_bytes,
                },
                cost: cost.map(Usd::from_pico),
                table: table.map(Arc::from),
                identity: Places::default(),
            }
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn what_is_written_is_read_again(entry in entries()) {
            let mut bytes = Vec::new();
            entry.write(&mut bytes);
            prop_assert_eq!(Entry::read(&bytes.into(), entry.created_ms, entry.ttl), Some(entry));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = Entry::read(&bytes.into(), 0, Duration::ZERO);
        }
    }
}
