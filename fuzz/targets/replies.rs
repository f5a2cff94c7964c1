//! Every format reads any reply, any usage object and any stream, cut anywhere, to one outcome.

#![no_main]

use libfuzzer_sys::fuzz_target;
use thrifty::call::Dialect;
use thrifty::dialect::{Finish, StreamShape, Usage};

fuzz_target!(|data: &[u8]| {
    let Some((&head, data)) = data.split_first() else { return };
    let format = Dialect::ALL[usize::from(head) % Dialect::ALL.len()].format();
    let by = usize::from(head) / Dialect::ALL.len() % 5 + 1;

    let reply = format.read_reply(data);
    assert_good(reply.usage);
    if reply.is_good() {
        assert!(serde_json::from_slice::<serde_json::Value>(data).is_ok(), "a good reply is JSON");
    }
    if let Ok(text) = std::str::from_utf8(data) {
        assert_good(format.usage(text));
    }

    let mut whole = format.stream_reader();
    whole.push(data);
    let mut split = format.stream_reader();
    data.chunks(by).for_each(|chunk| split.push(chunk));
    for ended in [true, false] {
        assert_eq!(whole.outcome(ended), split.outcome(ended));
    }
    let stream = whole.outcome(true);
    assert_good(stream.usage);
    if stream.is_good()
        && let Some(document) = format.to_document(data)
    {
        let again = format.read_reply(&document);
        assert_eq!(again.finish, Finish::Whole, "a whole stream is a whole document");
    }
    if reply.is_good()
        && let Some(frames) = format.to_stream(data, StreamShape::with_usage(true))
    {
        let mut reader = format.stream_reader();
        frames.iter().for_each(|frame| reader.push(frame));
        assert_eq!(reader.outcome(true).finish, Finish::Whole, "a whole document is a whole stream");
    }
    if let Some(mut filter) = format.hide_usage() {
        let all = data.to_vec().into();
        let mut out = filter.pass(all).to_vec();
        out.extend_from_slice(&filter.rest());
        assert!(out.len() <= data.len() + 16, "a filter takes out");
    }
});

fn assert_good(usage: Option<Usage>) {
    assert!(usage.is_none_or(|usage| usage.is_consistent()), "counts do not contradict each other");
}
