//! Texts count as in `tiktoken-rs`, whatever is in them; limits and cuts agree with the count.

#![no_main]

use libfuzzer_sys::fuzz_target;
use thrifty::tokens::{Encoding, Keep, Until};
use tiktoken_rs::CoreBPE;

fn check(encoding: Encoding, core: &CoreBPE, text: &str, limit: u64) {
    let known = core.encode_ordinary(text).len() as u64;
    assert_eq!(encoding.count(text), known, "{encoding} {text:?}");
    let found = if known > limit { Until::MoreThan(limit) } else { Until::Exactly(known) };
    assert_eq!(encoding.count_until(text, limit), found, "{encoding} {text:?}");
    for keep in [Keep::Front, Keep::Back, Keep::Ends("…")] {
        let part = encoding.truncate(text, limit, keep);
        assert!(core.encode_ordinary(&part).len() as u64 <= limit, "{encoding} {text:?} {limit} {keep:?}");
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((&limit, data)) = data.split_first() else { return };
    let text = String::from_utf8_lossy(data);
    check(Encoding::O200kBase, tiktoken_rs::o200k_base_singleton(), &text, limit.into());
    check(Encoding::Cl100kBase, tiktoken_rs::cl100k_base_singleton(), &text, limit.into());
});
