use super::*;

fn pieces<P: Pattern>(text: &str) -> Vec<&str> {
    let classes = Classes::get().unwrap();
    let (mut at, mut out) = (0, Vec::new());
    while at < text.len() {
        let end = P::end(classes, text.as_bytes(), at);
        out.push(&text[at..end]);
        at = end;
    }
    out
}

#[test]
fn a_prefix_is_one_character_that_starts_no_word_itself() {
    assert_eq!(pieces::<O200k>("  a\t\tb(c\r\nd1e"), [" ", " a", "\t", "\tb", "(c", "\r\n", "d", "1", "e"]);
    assert_eq!(pieces::<O200k>("!!ab \u{a0}cd"), ["!!", "ab", " ", "\u{a0}cd"]);
    // A mark alone is a word; before capitals it is no prefix, since without it the first rule holds.
    assert_eq!(pieces::<O200k>("\u{301}AB"), ["\u{301}", "AB"]);
    assert_eq!(pieces::<O200k>("\u{301}ab"), ["\u{301}ab"]);
}

#[test]
fn case_ends_a_word_of_o200k_alone() {
    assert_eq!(pieces::<O200k>("camelCaseHTMLParser XMLHttp"), ["camel", "Case", "HTMLParser", " XMLHttp"]);
    assert_eq!(pieces::<Cl100k>("camelCaseHTMLParser XMLHttp"), ["camelCaseHTMLParser", " XMLHttp"]);
    // Borders of eight bytes.
    assert_eq!(pieces::<O200k>("abcdefghIjklmnopQ"), ["abcdefgh", "Ijklmnop", "Q"]);
    // The upper run gives back what follows a character that may stand in both.
    assert_eq!(pieces::<O200k>("A中BC"), ["A中", "BC"]);
    assert_eq!(pieces::<O200k>("A中BCd"), ["A中BCd"]);
}

#[test]
fn contractions_fold_case_and_the_long_s() {
    assert_eq!(
        pieces::<O200k>("I'm he'LL it'\u{17f}x don'tx"),
        ["I'm", " he'LL", " it'\u{17f}", "x", " don't", "x"]
    );
    assert_eq!(pieces::<Cl100k>("I'm\n'sure 'quite"), ["I", "'m", "\n", "'s", "ure", " '", "quite"]);
}

#[test]
fn white_space_ends_at_its_last_line_end_or_before_its_last_character() {
    assert_eq!(pieces::<O200k>("a \n \n   b"), ["a", " \n \n", "  ", " b"]);
    assert_eq!(pieces::<O200k>("a   "), ["a", "   "]);
    assert_eq!(pieces::<O200k>("a\n  "), ["a", "\n", "  "]);
    // cl100k takes a last run whole.
    assert_eq!(pieces::<Cl100k>("a\n  "), ["a", "\n  "]);
    assert_eq!(pieces::<O200k>("a   5"), ["a", "  ", " ", "5"]);
}

#[test]
fn signs_take_one_space_ahead_and_line_ends_behind() {
    assert_eq!(pieces::<O200k>("  ==/\n/ 1234"), [" ", " ==/\n/", " ", "123", "4"]);
    assert_eq!(pieces::<Cl100k>("  ==/\n/ 1234"), [" ", " ==/\n", "/", " ", "123", "4"]);
}
