//! Splitters: characters picked by each byte from those the patterns tell apart, so that runs and borders are common.

#![no_main]

use libfuzzer_sys::fuzz_target;
use thrifty::tokens::Encoding;

const SIGNS: [char; 64] = [
    'a',
    's',
    't',
    'l',
    'e',
    'r',
    'v',
    'm',
    'd',
    'z',
    'A',
    'S',
    'L',
    'E',
    'Z',
    '\'',
    '\u{17f}',
    'é',
    'É',
    'ж',
    'Ж',
    'ǅ',
    'ʰ',
    'ª',
    '\u{301}',
    '\u{303}',
    '中',
    '国',
    'の',
    '한',
    'ก',
    'ำ',
    'ह',
    'ि',
    'ن',
    'ً',
    '1',
    '2',
    '٣',
    'Ⅷ',
    '½',
    ' ',
    '\t',
    '\n',
    '\r',
    '\u{b}',
    '\u{a0}',
    '\u{3000}',
    '\u{85}',
    '\u{2028}',
    '\u{200d}',
    '🙂',
    '\u{1f1e9}',
    '\u{fe0f}',
    '/',
    '!',
    '.',
    '=',
    '<',
    '|',
    '\0',
    '\u{feff}',
    '𝒜',
    '\u{10400}',
];

fuzz_target!(|data: &[u8]| {
    // The upper bits repeat a character, up to the length of a window.
    let text: String = data
        .iter()
        .flat_map(|&byte| {
            std::iter::repeat_n(SIGNS[usize::from(byte % 64)], [1, 1, 9, 70][usize::from(byte / 64)])
        })
        .collect();
    for (encoding, core) in [
        (Encoding::O200kBase, tiktoken_rs::o200k_base_singleton()),
        (Encoding::Cl100kBase, tiktoken_rs::cl100k_base_singleton()),
    ] {
        assert_eq!(encoding.count(&text), core.encode_ordinary(&text).len() as u64, "{encoding} {text:?}");
    }
});
