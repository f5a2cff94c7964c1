//! Elements of a streamed array are the same wherever it is cut, and those another JSON reader sees.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::value::RawValue;
use thrifty::dialect::json_array::Elements;

fn read(chunks: &[&[u8]], limit: usize) -> (Vec<String>, bool, bool) {
    let (mut seen, mut failed, mut elements) = (Vec::new(), false, Elements::with_limit(limit));
    for chunk in chunks {
        failed |= elements.push(chunk, |element| seen.push(element.to_owned())).is_err();
    }
    (seen, failed, elements.is_closed())
}

fuzz_target!(|data: &[u8]| {
    let Some((&by, data)) = data.split_first() else { return };
    let pieces: Vec<&[u8]> = data.chunks(usize::from(by % 7) + 1).collect();
    for limit in [16, 1 << 20] {
        let whole = read(&[data], limit);
        assert_eq!(whole, read(&pieces, limit));
        assert!(whole.0.iter().all(|element| element.len() <= limit));
    }
    let (seen, failed, closed) = read(&[data], 1 << 20);
    match serde_json::from_slice::<Vec<Box<RawValue>>>(data) {
        Ok(theirs) => {
            let theirs: Vec<&str> = theirs.iter().map(|raw| raw.get()).collect();
            assert!(closed && !failed);
            assert_eq!(seen, theirs);
        }
        Err(_) => {
            let all_good = seen.iter().all(|raw| serde_json::from_str::<&RawValue>(raw).is_ok());
            let has_mark = data.starts_with(b"\xEF\xBB\xBF");
            assert!(!closed || !all_good || has_mark, "what is no array is not whole");
        }
    }
});
