//! Where a text is cut into deltas.

use crate::call::json;

use super::slots::object;

/// No delta is shorter, except the last.
const MIN: usize = 20;
/// No delta is longer, in bytes.
const MAX: usize = 40;

/// Pieces of 20 to 40 bytes, cut in front of a space where there is one. An empty text has none.
pub(super) fn pieces(text: &str) -> Vec<&str> {
    let (mut pieces, mut rest) = (Vec::with_capacity(text.len() / 30 + 1), text);
    while rest.len() > MAX {
        let space = rest.as_bytes()[MIN..=MAX].iter().rposition(|byte| *byte == b' ').map(|at| at + MIN);
        let border = || (1..=MAX).rev().find(|at| rest.is_char_boundary(*at)).unwrap_or(rest.len());
        let (piece, after) = rest.split_at(space.unwrap_or_else(border));
        pieces.push(piece);
        rest = after;
    }
    if !rest.is_empty() {
        pieces.push(rest);
    }
    pieces
}

/// Pieces of a text and, with each, the entries of its log probabilities. Where the entries' tokens do not add up
/// to the text (they need not: a token can be part of a character) all entries go with the first piece.
pub(super) fn pieces_by_token<'a>(text: &'a str, entries: &[&'a str]) -> Vec<(&'a str, Vec<&'a str>)> {
    if let Some(aligned) = aligned(text, entries) {
        return aligned;
    }
    let mut pieces: Vec<_> = pieces(text).into_iter().map(|piece| (piece, Vec::new())).collect();
    if !entries.is_empty() {
        match pieces.first_mut() {
            Some((_, first)) => first.extend_from_slice(entries),
            None => pieces.push((text, entries.to_vec())),
        }
    }
    pieces
}

fn aligned<'a>(text: &'a str, entries: &[&'a str]) -> Option<Vec<(&'a str, Vec<&'a str>)>> {
    if entries.is_empty() {
        return None;
    }
    let (mut pieces, mut rest, mut len, mut with) = (Vec::new(), text, 0, Vec::new());
    for entry in entries {
        let token = object(entry)?.get("token").and_then(json::string)?;
        rest[len..].starts_with(&*token).then_some(())?;
        len += token.len();
        with.push(*entry);
        if len >= MIN {
            let (piece, after) = rest.split_at(len);
            pieces.push((piece, std::mem::take(&mut with)));
            (rest, len) = (after, 0);
        }
    }
    if len > 0 || !with.is_empty() {
        pieces.push((rest, with));
    }
    (len == rest.len()).then_some(pieces)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_text_is_cut_at_spaces_and_never_within_a_character() {
        assert_eq!(pieces(""), [""; 0]);
        assert_eq!(pieces("short"), ["short"]);
        let text = "The quick brown fox jumps over the lazy dog and is gone.";
        assert_eq!(pieces(text), ["The quick brown fox jumps over the lazy", " dog and is gone."]);
        assert!(pieces(&"😀".repeat(30)).iter().all(|piece| piece.len() == 40));
    }

    #[test]
    fn log_probabilities_go_with_their_text() {
        let (one, two) = (r#"{"token":"Twenty bytes of text"}"#, r#"{"token":" more"}"#);
        let text = "Twenty bytes of text more";
        assert_eq!(
            pieces_by_token(text, &[one, two]),
            [("Twenty bytes of text", vec![one]), (" more", vec![two])]
        );
        assert_eq!(pieces_by_token(text, &[two, one]), [(text, vec![two, one])]);
        assert_eq!(pieces_by_token("", &[one]), [("", vec![one])]);
    }

    proptest! {
        #[test]
        fn the_pieces_are_the_text(text in "(\\PC| |é|😀){0,90}") {
            let pieces = pieces(&text);
            prop_assert_eq!(pieces.concat(), text.as_str());
            let last = pieces.len().saturating_sub(1);
            let fits = |at, len| len <= MAX && (at == last || len >= MIN);
            prop_assert!(pieces.iter().enumerate().all(|(at, piece)| fits(at, piece.len())));
        }
    }
}
