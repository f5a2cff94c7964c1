//! Texts to count, of our own making and the same in every run.

/// A small generator of its own, so that texts are the same in every run.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % n
    }

    /// Low numbers often, high ones rarely: about as words occur in a text.
    fn rank(&mut self, n: usize) -> usize {
        let bits = self.below(usize::BITS as usize - n.leading_zeros() as usize + 1);
        self.below(1 << bits).min(n - 1)
    }

    pub(crate) fn within(&mut self, first: char, last: char) -> char {
        char::from_u32(first as u32 + self.below(last as usize - first as usize + 1) as u32).unwrap_or('?')
    }
}

const SYLLABLES: [&str; 40] = [
    "the", "re", "ti", "on", "er", "in", "an", "ed", "al", "st", "or", "en", "ing", "com", "pro", "con",
    "ment", "ver", "ate", "ly", "ous", "ter", "de", "ni", "lo", "per", "ma", "qui", "ble", "tra", "ex", "un",
    "ir", "ph", "sh", "ea", "oo", "ck", "y", "s",
];

/// The word of this number, always the same.
fn word(number: usize) -> String {
    let mut dice = Dice(number as u64 * 0x9e37_79b9 + 0x5851_f42d_4c95_7f2d);
    for _ in 0..8 {
        dice.below(2);
    }
    (0..1 + dice.below(3)).map(|_| SYLLABLES[dice.below(SYLLABLES.len())]).collect()
}

pub(crate) fn english(dice: &mut Dice) -> String {
    let end = [" ", " ", " ", " ", " ", " ", " ", " ", ", ", ". "][dice.below(10)];
    word(dice.rank(12_000)) + end
}

pub(crate) fn code(dice: &mut Dice) -> String {
    let (name, other) = (word(dice.rank(800)), word(dice.rank(3000)));
    match dice.below(5) {
        0 => format!("    let {name}_{other} = self.{other}({name}, {});\n", dice.below(4000)),
        1 => format!(
            "        if {name}.is_{other}() {{\n            return Err({other}::{name});\n        }}\n"
        ),
        2 => format!("/// Returns the {other} of {name}.\npub fn {other}(&self, {name}: &str) -> usize {{\n"),
        3 => format!("        {other}[{name}] += {name}.len() as u64;\n"),
        _ => "    }\n\n".to_owned(),
    }
}

pub(crate) fn json(dice: &mut Dice) -> String {
    let (name, other) = (word(dice.rank(60)), word(dice.rank(9000)));
    format!(
        "{{\"{name}\":\"{other} {}\",\"id\":{},\"ok\":true}},\n",
        word(dice.rank(9000)),
        dice.below(1_000_000)
    )
}

/// Two-character words of common and rarer signs, a comma at times.
fn wide(dice: &mut Dice) -> String {
    let mut sign = || char::from_u32(0x4e00 + dice.rank(8000) as u32 * 13 % 20_000).unwrap_or('中');
    let pair = [sign(), sign()];
    let end = if dice.below(7) == 0 { "，" } else { "" };
    pair.iter().collect::<String>() + end
}

fn mixed(dice: &mut Dice) -> String {
    match dice.below(6) {
        0 => english(dice),
        1 => code(dice),
        2 => json(dice),
        3 => wide(dice),
        4 => (0..3 + dice.below(6)).map(|_| dice.within('\u{430}', '\u{44f}')).collect::<String>() + " ",
        _ => dice.within('\u{1f300}', '\u{1f5ff}').to_string() + "é naïve ",
    }
}

pub(crate) type Kind = (&'static str, fn(&mut Dice) -> String);
pub(crate) const KINDS: [Kind; 5] =
    [("english", english), ("code", code), ("json", json), ("cjk", wide), ("mixed", mixed)];

pub(crate) fn text(kind: fn(&mut Dice) -> String, seed: u64, bytes: usize) -> String {
    let mut dice = Dice(seed * 2 + 0x2545_f491_4f6c_dd1d);
    let mut text = String::with_capacity(bytes + 64);
    while text.len() < bytes {
        text.push_str(&kind(&mut dice));
    }
    let end = (0..=bytes).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    text.truncate(end);
    text
}

pub(crate) type Make = fn(&mut Dice, usize) -> String;

/// What breaks counters: a name, and a text of so many bytes.
pub(crate) const HOSTILE: [(&str, Make); 12] = [
    ("letters_a", |_, n| "a".repeat(n)),
    ("spaces", |_, n| " ".repeat(n)),
    ("spaces_and_x", |_, n| " ".repeat(n) + "x"),
    ("equals", |_, n| "=".repeat(n)),
    ("tabs", |_, n| "\t".repeat(n)),
    ("space_newline", |_, n| " \n".repeat(n / 2)),
    ("random_letters", |dice, n| (0..n).map(|_| dice.within('a', 'z')).collect()),
    ("random_white", |dice, n| (0..n).map(|_| [' ', '\t', '\n', '\u{a0}'][dice.below(4)]).collect()),
    ("random_signs", |dice, n| (0..n).map(|_| dice.within('!', '/')).collect()),
    ("random_han", |dice, n| (0..n / 3).map(|_| dice.within('\u{4e00}', '\u{9fff}')).collect()),
    ("random_emoji", |dice, n| (0..n / 4).map(|_| dice.within('\u{1f300}', '\u{1f5ff}')).collect()),
    ("random_cyrillic", |dice, n| (0..n / 2).map(|_| dice.within('\u{430}', '\u{44f}')).collect()),
];
