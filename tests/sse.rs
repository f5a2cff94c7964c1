//! Our reader of server-sent events beside another one, on generated streams and splits.
//!
//! The other reader (`sse-stream`) hands out blocks rather than events, so what it says is brought to our terms first.
//! What differs then, and is kept out of the comparison:
//!
//! - it also hands out blocks without a `data` line; the standard has no event for these, and neither have we;
//! - an `event` field that is empty is a name to it; the standard's default name, `None` to us;
//! - bytes that are no UTF-8 are an error to it; to the standard, and to us, they become U+FFFD.
//!
//! Line ends (LF, CRLF and a lone CR, split anywhere) and a BOM (dropped at the start only) are read alike.

use std::convert::Infallible;

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, stream};
use proptest::prelude::*;
use sse_stream::SseStream;
use thrifty::dialect::sse::Events;

type Seen = Vec<(Option<String>, String)>;

fn ours(chunks: &[Bytes]) -> Seen {
    let (mut seen, mut events) = (Vec::new(), Events::new());
    for chunk in chunks {
        events
            .push(chunk, |event| seen.push((event.name.map(str::to_owned), event.data.into_owned())))
            .expect("no event is over the limit");
    }
    seen
}

fn theirs(chunks: &[Bytes]) -> Seen {
    let chunks: Vec<_> = chunks.iter().cloned().map(Ok::<_, Infallible>).collect();
    let blocks = SseStream::from_bytes_stream(stream::iter(chunks)).collect::<Vec<_>>();
    let blocks = blocks.now_or_never().expect("all of it is there");
    let events = blocks.into_iter().map(|block| block.expect("it is UTF-8"));
    events.filter_map(|block| Some((block.event.filter(|name| !name.is_empty()), block.data?))).collect()
}

fn split(bytes: &[u8], cuts: &[prop::sample::Index]) -> Vec<Bytes> {
    let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    at.extend([0, bytes.len()]);
    at.sort_unstable();
    at.windows(2).map(|pair| Bytes::copy_from_slice(&bytes[pair[0]..pair[1]])).collect()
}

#[test]
fn a_bom_and_every_line_end_are_read_alike() {
    for (text, want) in [
        ("\u{FEFF}data: x\n\n", vec!["x"]),
        ("\u{FEFF}\u{FEFF}data: x\n\n", vec![]),
        ("data: x\n\n\u{FEFF}data: y\n\n", vec!["x"]),
        ("data: a\rdata: b\r\rdata: c\r\n\r\n", vec!["a\nb", "c"]),
        ("data: a\n\rdata: b\r\n\n", vec!["a", "b"]),
        ("data:\n\ndata\n\ndata:  x\n\n", vec!["", "", " x"]),
        (": ping\nevent: e\n\ndata: cut off\n", vec![]),
    ] {
        let bytes: Vec<Bytes> = text.as_bytes().chunks(1).map(Bytes::copy_from_slice).collect();
        for chunks in [&bytes[..], &[Bytes::from(text)]] {
            let data: Vec<String> = ours(chunks).into_iter().map(|(_, data)| data).collect();
            assert_eq!(data, want, "{text:?}");
            assert_eq!(ours(chunks), theirs(chunks), "{text:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn both_readers_see_the_same_events(
        pieces in prop::collection::vec(prop_oneof![
            Just("data: "), Just("data:"), Just("data"), Just("data :"), Just("Data: "), Just("event: e"), Just("event:"),
            Just("id: 1"), Just("retry: 5"), Just("retry: x"), Just(":c"), Just(":"), Just("\n"), Just("\r"), Just("\r\n"),
            Just("\n\n"), Just("é€😀"), Just("\u{FEFF}"), Just("x"), Just(" "), Just("\0"), Just("unknown: 7"),
        ], 0..60),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..40),
    ) {
        let text = pieces.concat();
        let chunks = split(text.as_bytes(), &cuts);
        prop_assert_eq!(ours(&chunks), theirs(&chunks), "{:?}", text);
    }
}
