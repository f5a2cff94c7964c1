//! Events are the same wherever a stream is cut, and one event's size is bounded.

#![no_main]

use libfuzzer_sys::fuzz_target;
use thrifty::dialect::sse::Events;

type Seen = Vec<(Option<String>, String)>;

fn read(chunks: &[&[u8]], limit: usize) -> (Seen, bool) {
    let (mut seen, mut over, mut events) = (Vec::new(), false, Events::with_limit(limit));
    for chunk in chunks {
        over |= events
            .push(chunk, |event| seen.push((event.name.map(str::to_owned), event.data.into_owned())))
            .is_err();
    }
    (seen, over)
}

fuzz_target!(|data: &[u8]| {
    let Some((&by, data)) = data.split_first() else { return };
    let pieces: Vec<&[u8]> = data.chunks(usize::from(by % 7) + 1).collect();
    for limit in [16, 1 << 20] {
        let whole = read(&[data], limit);
        assert_eq!(whole, read(&pieces, limit));
        for (_, text) in &whole.0 {
            // A byte that is no UTF-8 becomes three.
            assert!(text.len() <= 3 * limit);
        }
    }
    assert!(!read(&[data], 1 << 20).1, "nothing here is over the large limit");
});
