//! Batches: the inputs of a call, the vectors of a reply, and both put together again.
//!
//! | path ends in | inputs | vectors |
//! |---|---|---|
//! | `/embeddings` | `input`: a text, texts, token ids, lists of token ids | `data`, each with its `index` |
//! | `/api/embed` | `input`: a text, texts | `embeddings` |
//! | `:batchEmbedContents` | `requests` | `embeddings` |
//!
//! Everything else has one input and one vector, and is a call like any other.

use std::borrow::Cow;

use bytes::Bytes;
use http::Method;

use super::{is_vector, read_usage};
use crate::call::json::{self, Object};
use crate::call::{Call, Dialect};

/// Most inputs that are taken apart; OpenAI takes no more in one request.
pub(crate) const MOST: usize = 2_048;

/// The inputs of one call, as the JSON texts that stand in it.
#[derive(Debug)]
pub(crate) struct Inputs<'a> {
    call: &'a Call,
    member: &'static str,
    /// True if a list of inputs came, false for a single one.
    is_list: bool,
    raw: Vec<&'a str>,
}

/// The inputs of `call`; `None` if it has none that could be answered apart from each other, or more than [`MOST`].
pub(crate) fn split(call: &Call) -> Option<Inputs<'_>> {
    if call.dialect != Dialect::Embeddings || call.parts.method != Method::POST || !call.doc.is_editable() {
        return None;
    }
    // Here the texts of a batch are embedded as one document, so a vector depends on its neighbours.
    if call.doc.some("late_chunking").is_some_and(|late| late != "false") {
        return None;
    }
    let path = call.parts.uri.path();
    let (member, is_list, raw) = if path.ends_with(":batchEmbedContents") {
        let raw = call.doc.elements("requests")?;
        if !raw.iter().all(|one| one.starts_with('{')) {
            return None;
        }
        ("requests", true, raw)
    } else if path.ends_with("/embeddings") || path.ends_with("/api/embed") {
        let text = call.doc.get("input")?;
        let (is_list, raw) = inputs(text)?;
        ("input", is_list, raw)
    } else {
        return None;
    };
    (1..=MOST).contains(&raw.len()).then_some(Inputs { call, member, is_list, raw })
}

fn inputs(text: &str) -> Option<(bool, Vec<&str>)> {
    if text.starts_with('"') {
        return Some((false, vec![text]));
    }
    let raw = json::elements(text)?;
    if is_token_ids(&raw) {
        return Some((false, vec![text]));
    }
    let is_input =
        |one: &&str| one.starts_with('"') || json::elements(one).is_some_and(|ids| is_token_ids(&ids));
    raw.iter().all(is_input).then_some((true, raw))
}

fn is_token_ids(elements: &[&str]) -> bool {
    !elements.is_empty() && elements.iter().all(|id| id.bytes().all(|byte| byte.is_ascii_digit()))
}

impl Inputs<'_> {
    /// What `look` makes of the call for each single input, in order. All of them have the same form, so that one
    /// text is the same question whether it came alone, in a list of one, or among others.
    pub(crate) fn each<T>(&self, mut look: impl FnMut(&Call) -> Option<T>) -> Option<Vec<T>> {
        let mut single = self.call.clone();
        single.doc.set(self.member, "null").ok()?;
        let base = single.doc.clone();
        let one = |raw: &str| match self.member {
            "requests" => format!("[{raw}]"),
            _ => raw.to_owned(),
        };
        let answer = |raw: &&str| {
            single.doc = base.clone();
            single.doc.set(self.member, &one(raw)).ok()?;
            look(&single)
        };
        self.raw.iter().map(answer).collect()
    }

    /// Bytes of each input as it stands in the call.
    pub(crate) fn lens(&self) -> Vec<u64> {
        self.raw.iter().map(|raw| raw.len() as u64).collect()
    }

    /// The call with only the inputs at these positions, in this order; `None` if that is the call as it is.
    pub(crate) fn narrow(&self, positions: &[usize]) -> Option<Call> {
        if !self.is_list || positions.iter().copied().eq(0..self.raw.len()) {
            return None;
        }
        let raw: Vec<&str> = positions.iter().filter_map(|at| self.raw.get(*at).copied()).collect();
        let mut call = self.call.clone();
        call.doc.set(self.member, &format!("[{}]", raw.join(","))).ok()?;
        Some(call)
    }
}

/// A reply taken apart.
#[derive(Debug)]
pub(crate) struct Apart<'a> {
    text: &'a str,
    list: &'a str,
    /// The JSON text of each vector, in the order of the inputs.
    pub(crate) vectors: Vec<&'a str>,
    /// Tokens that were billed for all of them, if the reply says so.
    pub(crate) tokens: Option<u64>,
}

/// Takes a reply apart; `None` if it is no list of good vectors, or its counts contradict each other.
pub(crate) fn take_apart(body: &[u8]) -> Option<Apart<'_>> {
    let text = std::str::from_utf8(body).ok()?;
    let reply = Object::parse(text)?;
    if reply.some("error").is_some() {
        return None;
    }
    let (list, vectors) = list_of(&reply)?;
    let vectors = in_order(vectors)?;
    let tokens = read_usage(&reply).ok()?.and_then(|usage| usage.input);
    vectors.iter().all(|vector| is_vector(vector)).then_some(Apart { text, list, vectors, tokens })
}

/// The vector of a reply that was stored for one input. It was looked at when it was stored.
pub(crate) fn only_vector(body: &[u8]) -> Option<&str> {
    let (_, vectors) = list_of(&Object::parse(std::str::from_utf8(body).ok()?)?)?;
    vectors.first().copied()
}

fn list_of<'a>(reply: &Object<'a>) -> Option<(&'a str, Vec<&'a str>)> {
    let list = reply.some("data").or_else(|| reply.some("embeddings"))?;
    Some((list, json::elements(list)?))
}

/// Vectors that carry an `index` are in its order, whatever the order of the list; a list must have each index
/// from 0 on once, or none at all.
fn in_order(vectors: Vec<&str>) -> Option<Vec<&str>> {
    let index =
        |vector: &&str| Object::parse(vector).and_then(|object| object.some("index").map(json::whole));
    let indexes: Vec<_> = vectors.iter().map(index).collect();
    if indexes.iter().all(Option::is_none) {
        return Some(vectors);
    }
    let mut placed = vec![None; vectors.len()];
    for (index, vector) in indexes.into_iter().zip(vectors) {
        let place = placed.get_mut(usize::try_from(index??).ok()?)?;
        if place.replace(vector).is_some() {
            return None;
        }
    }
    placed.into_iter().collect()
}

impl Apart<'_> {
    /// The reply without its vectors: what [`put_together`] needs of it, and no more.
    pub(crate) fn frame(&self) -> String {
        splice(self.text, vec![(self.list, "[]".into())])
    }
}

/// A reply with these vectors, numbered afresh, and this use. All else is as in `like`, except for figures of use
/// that are no token counts (a price, for one): those were true of another call.
pub(crate) fn put_together(like: &str, vectors: &[&str], tokens: Option<u64>) -> Option<Bytes> {
    let reply = Object::parse(like)?;
    let (list, _) = list_of(&reply)?;
    let mut all = String::with_capacity(vectors.iter().map(|vector| vector.len() + 8).sum::<usize>() + 2);
    all.push('[');
    for (at, vector) in vectors.iter().enumerate() {
        if at > 0 {
            all.push(',');
        }
        all.push_str(&numbered(vector, at));
    }
    all.push(']');
    let number = tokens.map_or_else(|| "null".to_owned(), |tokens| tokens.to_string());
    let mut edits = vec![(list, all)];
    for (name, value) in reply.iter() {
        match name {
            "usage" | "usageMetadata" => match Object::parse(value) {
                Some(_) if tokens.is_none() => edits.push((value, number.clone())),
                Some(usage) => edits.push((value, counted(&usage, &number))),
                None => {}
            },
            name if COUNTS.contains(&name) => edits.push((value, number.clone())),
            _ => {}
        }
    }
    Some(splice(like, edits).into())
}

/// Names of token counts. All are the same figure: nothing is generated.
const COUNTS: [&str; 6] = [
    "prompt_tokens",
    "total_tokens",
    "input_tokens",
    "promptTokenCount",
    "totalTokenCount",
    "prompt_eval_count",
];

fn counted(usage: &Object<'_>, number: &str) -> String {
    let member = |(name, value): (&str, &str)| {
        let value = match value {
            _ if COUNTS.contains(&name) => number,
            "0" | "null" => value,
            _ => return None,
        };
        Some(format!("{}:{value}", json::quote(name)))
    };
    format!("{{{}}}", usage.iter().filter_map(member).collect::<Vec<_>>().join(","))
}

fn numbered(vector: &str, at: usize) -> Cow<'_, str> {
    match vector
        .starts_with('{')
        .then(|| Object::parse(vector))
        .flatten()
        .and_then(|object| object.get("index"))
    {
        Some(index) => splice(vector, vec![(index, at.to_string())]).into(),
        None => vector.into(),
    }
}

/// `text` with these parts of it replaced.
fn splice(text: &str, mut edits: Vec<(&str, String)>) -> String {
    // Each part is borrowed from `text`, so its distance from the start is its place.
    let start = |part: &str| part.as_ptr() as usize - text.as_ptr() as usize;
    edits.sort_by_key(|(part, _)| start(part));
    let mut out = String::with_capacity(text.len() + edits.iter().map(|(_, new)| new.len()).sum::<usize>());
    let mut at = 0;
    for (part, new) in edits {
        out.push_str(&text[at..start(part)]);
        out.push_str(&new);
        at = start(part) + part.len();
    }
    out.push_str(&text[at..]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const URL: &str = "https://api.openai.com/v1/embeddings";

    fn raw(url: &str, body: &str) -> Option<Vec<String>> {
        let call = Call::post(url, body.to_owned());
        split(&call).map(|inputs| inputs.raw.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn each_form_of_input_is_told_apart() {
        for (body, want) in [
            (r#"{"input":"a"}"#, vec![r#""a""#]),
            (r#"{"input":[ "a" , "b" ]}"#, vec![r#""a""#, r#""b""#]),
            (r#"{"input":[1, 2]}"#, vec!["[1, 2]"]),
            (r#"{"input":[[1,2],[3]]}"#, vec!["[1,2]", "[3]"]),
        ] {
            assert_eq!(raw(URL, body).unwrap(), want, "{body}");
        }
        assert_eq!(raw("http://localhost/api/embed", r#"{"input":["a"]}"#).unwrap(), [r#""a""#]);
        let gemini = "https://g.example/v1beta/models/m:batchEmbedContents";
        assert_eq!(raw(gemini, r#"{"requests":[{"a":1},{}]}"#).unwrap(), [r#"{"a":1}"#, "{}"]);
    }

    #[test]
    fn what_cannot_be_answered_apart_is_left_whole() {
        for body in [
            "{}",
            r#"{"input":[]}"#,
            r#"{"input":[[]]}"#,
            r#"{"input":[1,"a"]}"#,
            r#"{"input":[{"image":"x"}]}"#,
            r#"{"input":["a","b"],"late_chunking":true}"#,
            r#"{"input":["a"],"input":["b"]}"#,
        ] {
            assert_eq!(raw(URL, body), None, "{body}");
        }
        let many = |n: usize| format!(r#"{{"input":[{}]}}"#, vec!["\"a\""; n].join(","));
        assert_eq!(raw(URL, &many(MOST)).map(|raw| raw.len()), Some(MOST));
        assert_eq!(raw(URL, &many(MOST + 1)), None);
    }

    #[test]
    fn a_narrowed_call_differs_in_nothing_but_its_inputs() {
        let call = Call::post(URL, r#"{ "input" : ["a","b","c"],  "seed": 1.0 }"#);
        let inputs = split(&call).unwrap();
        assert_eq!(inputs.narrow(&[2, 0]).unwrap().doc.bytes(), r#"{ "input" : ["c","a"],  "seed": 1.0 }"#);
        assert!(inputs.narrow(&[0, 1, 2]).is_none(), "nothing to leave out");
    }

    #[test]
    fn vectors_are_in_the_order_of_their_index() {
        let body = br#"{"data":[{"index":1,"embedding":[1]},{"index":0,"embedding":[0]}],"usage":{"total_tokens":3}}"#;
        let apart = take_apart(body).unwrap();
        assert_eq!(apart.vectors, [r#"{"index":0,"embedding":[0]}"#, r#"{"index":1,"embedding":[1]}"#]);
        assert_eq!(apart.tokens, Some(3));
        for bad in [
            r#"{"data":[{"index":1,"embedding":[1]},{"index":1,"embedding":[0]}]}"#,
            r#"{"data":[{"index":2,"embedding":[1]},{"index":0,"embedding":[0]}]}"#,
            r#"{"data":[{"index":0,"embedding":[1]},{"embedding":[0]}]}"#,
            r#"{"data":[{"index":0,"embedding":[]}]}"#,
            r#"{"data":[{"index":0,"embedding":[1]}],"usage":{"prompt_tokens":1,"total_tokens":2}}"#,
            r#"{"error":{}}"#,
            "[]",
        ] {
            assert!(take_apart(bad.as_bytes()).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_reply_put_together_has_fresh_numbers_and_no_price_of_another() {
        let like = r#"{"object":"list", "data":[{"index":0,"embedding":"AAA="}],"model":"m","usage":{"prompt_tokens":9,"total_tokens":9,"cost":0.5,"completion_tokens":0}}"#;
        let vectors = [r#"{"index":7,"embedding":"BBB="}"#, r#"{"embedding":"CCC=","index":3}"#];
        assert_eq!(
            put_together(like, &vectors, Some(4)).unwrap(),
            r#"{"object":"list", "data":[{"index":0,"embedding":"BBB="},{"embedding":"CCC=","index":1}],"model":"m","usage":{"prompt_tokens":4,"total_tokens":4,"completion_tokens":0}}"#
        );
        let ollama = r#"{"model":"m","embeddings":[[0.5]],"prompt_eval_count":2}"#;
        assert_eq!(
            put_together(ollama, &["[1]", "[2]"], Some(3)).unwrap(),
            r#"{"model":"m","embeddings":[[1],[2]],"prompt_eval_count":3}"#
        );
    }
}
