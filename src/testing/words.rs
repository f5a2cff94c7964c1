//! Words drawn from a hash: the same on every machine, for ever.

const WORDS: [&str; 64] = [
    "a", "the", "of", "and", "to", "in", "that", "it", "is", "for", "with", "as", "on", "each", "one", "by",
    "river", "stone", "clock", "price", "harbour", "letter", "garden", "signal", "number", "window", "paper",
    "winter", "engine", "market", "bridge", "copper", "keeps", "finds", "moves", "carries", "holds", "turns",
    "counts", "answers", "follows", "grows", "meets", "opens", "small", "steady", "early", "plain", "narrow",
    "quiet", "second", "common", "often", "seldom", "there", "again", "before", "after", "between", "under",
    "when", "while", "because", "so",
];

/// 40 to 240 words.
pub(super) fn prose(rng: &mut Rng) -> String {
    let words = 40 + rng.next() % 201;
    let mut text = String::new();
    let mut start = true;
    for i in 0..words {
        let word = rng.word();
        if !text.is_empty() {
            text.push(' ');
        }
        if start {
            text.push_str(&word[..1].to_ascii_uppercase());
            text.push_str(&word[1..]);
        } else {
            text.push_str(word);
        }
        start = i + 1 == words || rng.next().is_multiple_of(12);
        if start {
            text.push('.');
        }
    }
    text
}

/// Numbers drawn from a hash.
pub(super) struct Rng(blake3::OutputReader);

impl Rng {
    pub(super) fn new(seed: &[u8; 32], index: u64) -> Self {
        let mut hasher = blake3::Hasher::new_keyed(seed);
        hasher.update(&index.to_le_bytes());
        Self(hasher.finalize_xof())
    }

    pub(super) fn next(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    pub(super) fn word(&mut self) -> &'static str {
        let at = usize::try_from(self.next() % WORDS.len() as u64).unwrap_or_default();
        WORDS[at]
    }
}
