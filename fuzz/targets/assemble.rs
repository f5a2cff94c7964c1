//! A stream that becomes a document becomes that document again from the stream made of it.

#![no_main]

use libfuzzer_sys::fuzz_target;
use thrifty::cache::digest;
use thrifty::call::Dialect;
use thrifty::dialect::{Format, StreamShape};

fuzz_target!(|data: &[u8]| {
    let Some((&head, data)) = data.split_first() else { return };
    let format = Dialect::ALL[usize::from(head) % Dialect::ALL.len()].format();
    if let Some(document) = format.to_document(data) {
        comes_back(format, &document);
    }
    // What is made of any document at all has to be a stream that is understood.
    if let Some(frames) = format.to_stream(data, StreamShape::with_usage(true))
        && let Some(document) = format.to_document(&frames.concat())
    {
        comes_back(format, &document);
    }
    for is_stream in [true, false] {
        let identity = format.identity(data, is_stream);
        let mut end = 0;
        for place in identity.places() {
            let span = place.span();
            assert!(span.start >= end && span.end <= data.len(), "places follow each other");
            end = span.end;
        }
    }
});

fn comes_back(format: &dyn Format, document: &[u8]) {
    // A document that nobody can compare (a name twice, a number out of range) is no answer of an API.
    let Ok(want) = digest(document, &[]) else { return };
    if let Some(frames) = format.to_stream(document, StreamShape::with_usage(true)) {
        let again = format.to_document(&frames.concat()).expect("a stream of our own making is understood");
        assert_eq!(digest(&again, &[]).as_ref(), Ok(&want), "and says the same");
    }
}
