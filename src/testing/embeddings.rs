//! Vectors as OpenAI, Gemini and Ollama put them on the wire.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::words::Rng;
use crate::call::Call;
use crate::call::json::{self, Object, quote};
use crate::tokens::{Encoding, count_text};

/// Vectors of more numbers than any model has are refused.
const MOST: u64 = 8_192;

/// One text to embed.
#[derive(Debug, PartialEq, Eq)]
struct Text {
    /// The text, or token ids as they stand.
    text: String,
    tokens: u64,
}

/// The reply body and the tokens it is billed for, or what is wrong with the request.
pub(super) fn body(call: &Call) -> Result<(String, u64), String> {
    let path = call.parts.uri.path();
    if path.ends_with(":embedContent") {
        return gemini(&[call.doc.members().collect()], false);
    }
    if path.ends_with(":batchEmbedContents") {
        let requests = call.doc.elements("requests").unwrap_or_default();
        let requests: Vec<_> = requests.into_iter().filter_map(Object::parse).collect();
        let requests: Vec<_> = requests.iter().map(|request| request.iter().collect()).collect();
        return gemini(&requests, true);
    }
    let model = call.model().unwrap_or_default();
    let is_old = path.ends_with("/api/embeddings");
    let member = if is_old { "prompt" } else { "input" };
    let texts = texts(call.doc.some(member).ok_or_else(|| format!("{member}: a text is required"))?)?;
    let tokens = texts.iter().map(|text| text.tokens).sum();
    let length = length(&model, call.doc.u64("dimensions"))?;
    let vectors = texts.iter().map(|text| vector(&model, &text.text, length));
    let body = if is_old {
        format!(r#"{{"embedding":[{}]}}"#, vectors.flatten().collect::<Vec<_>>().join(","))
    } else if path.ends_with("/api/embed") {
        let vectors: Vec<_> = vectors.map(|vector| format!("[{}]", vector.join(","))).collect();
        format!(
            r#"{{"model":{model},"embeddings":[{vectors}],"total_duration":{total},"load_duration":20000000,"prompt_eval_count":{tokens}}}"#,
            model = quote(&model),
            vectors = vectors.join(","),
            total = 20_000_000 + 100_000 * tokens,
        )
    } else {
        let base64 = call.doc.str("encoding_format").as_deref() == Some("base64");
        let data: Vec<_> = vectors
            .enumerate()
            .map(|(index, vector)| {
                let embedding = if base64 {
                    format!("\"{}\"", in_base64(&vector))
                } else {
                    format!("[{}]", vector.join(","))
                };
                format!(r#"{{"object":"embedding","index":{index},"embedding":{embedding}}}"#)
            })
            .collect();
        format!(
            r#"{{"object":"list","data":[{data}],"model":{model},"usage":{{"prompt_tokens":{tokens},"total_tokens":{tokens}}}}}"#,
            data = data.join(","),
            model = quote(&model),
        )
    };
    Ok((body, tokens))
}

/// Members of one request to Gemini.
type Members<'a> = Vec<(&'a str, &'a str)>;

fn gemini(requests: &[Members<'_>], is_batch: bool) -> Result<(String, u64), String> {
    let mut vectors = Vec::new();
    let mut tokens = 0;
    for request in requests {
        let get = |name: &str| request.iter().find(|(have, _)| *have == name).map(|(_, value)| *value);
        let content = get("content").and_then(Object::parse).ok_or("content: an object is required")?;
        let text: String = content
            .elements("parts")
            .unwrap_or_default()
            .into_iter()
            .filter_map(|part| Object::parse(part)?.str("text").map(|text| text.into_owned()))
            .collect();
        let config = get("embedContentConfig").and_then(Object::parse).unwrap_or_default();
        let asked = get("outputDimensionality").or_else(|| config.get("outputDimensionality"));
        // The model of the path is that of each request.
        let length = length("gemini", asked.and_then(json::whole))?;
        tokens += count_text(&text, Encoding::Cl100kBase);
        vectors.push(format!(r#"{{"values":[{}]}}"#, vector("gemini", &text, length).join(",")));
    }
    if vectors.is_empty() {
        return Err("requests: at least one is required".to_owned());
    }
    let usage = format!(
        r#""usageMetadata":{{"promptTokenCount":{tokens},"promptTokenDetails":[{{"modality":"TEXT","tokenCount":{tokens}}}]}}"#
    );
    let vectors = vectors.join(",");
    let body = if is_batch {
        format!(r#"{{"embeddings":[{vectors}],{usage}}}"#)
    } else {
        format!(r#"{{"embedding":{vectors},{usage}}}"#)
    };
    Ok((body, tokens))
}

/// The texts of an `input`: one, a list of them, token ids, or a list of lists of these.
fn texts(input: &str) -> Result<Vec<Text>, String> {
    let bad = || "input: a text, token ids, or a list of them is required".to_owned();
    let one = |raw: &str| {
        if let Some(text) = json::string(raw) {
            let tokens = count_text(&text, Encoding::Cl100kBase);
            return Some(Text { text: text.into_owned(), tokens });
        }
        let ids: Option<Vec<u64>> = json::elements(raw)?.into_iter().map(json::whole).collect();
        let ids = ids.filter(|ids| !ids.is_empty())?;
        Some(Text { tokens: ids.len() as u64, text: format!("{ids:?}") })
    };
    if let Some(text) = one(input) {
        return Ok(vec![text]);
    }
    let texts: Option<Vec<_>> = json::elements(input).ok_or_else(bad)?.into_iter().map(one).collect();
    texts.filter(|texts| !texts.is_empty()).ok_or_else(bad)
}

/// Numbers in a vector of `model`.
fn length(model: &str, asked: Option<u64>) -> Result<usize, String> {
    let own = match model {
        _ if model.contains("3-large") || model.contains("gemini") => 3_072,
        _ if model.contains("text-embedding") => 1_536,
        _ => 768,
    };
    let length = asked.unwrap_or(own);
    if !(1..=MOST).contains(&length) {
        return Err(format!("dimensions: {length} is not from 1 to {MOST}"));
    }
    usize::try_from(length).map_err(|_| "dimensions: too large".to_owned())
}

/// A vector of length 1, as decimals of eight places. A shorter one has the direction of the longer one's start.
fn vector(model: &str, text: &str, length: usize) -> Vec<String> {
    let mut seed = blake3::Hasher::new();
    seed.update(model.as_bytes()).update(&[0]).update(text.as_bytes());
    let mut rng = Rng::new(seed.finalize().as_bytes(), 0);
    // From -2^19 to 2^19: the squares of 8,192 of them stay below 2^51.
    let drawn: Vec<i64> =
        (0..length).map(|_| i64::try_from(rng.next() >> 44).unwrap_or_default() - (1 << 19)).collect();
    let squares: u64 = drawn.iter().map(|number| number.unsigned_abs().pow(2)).sum();
    // The root of 2^12 times as much is 2^6 times the root.
    let norm = (squares << 12).isqrt().max(1);
    drawn
        .into_iter()
        .map(|number| {
            let places =
                (u128::from(number.unsigned_abs()) * 6_400_000_000 / u128::from(norm)).min(100_000_000);
            let sign = if number < 0 && places > 0 { "-" } else { "" };
            format!("{sign}{}.{:08}", places / 100_000_000, places % 100_000_000)
        })
        .collect()
}

/// The same numbers as little-endian 32-bit floats.
fn in_base64(vector: &[String]) -> String {
    let bytes: Vec<u8> =
        vector.iter().flat_map(|number| number.parse::<f32>().unwrap_or_default().to_le_bytes()).collect();
    STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Square of the length in units of 10^-16.
    fn square(vector: &[String]) -> i128 {
        let places = |number: &String| number.replace('.', "").parse::<i128>().expect("a decimal");
        vector.iter().map(|number| places(number).pow(2)).sum()
    }

    #[test]
    fn a_vector_has_length_one_and_follows_from_its_text() {
        for length in [1, 2, 256, 3_072] {
            let one = vector("m", "alpha", length);
            assert_eq!(one.len(), length);
            let off = (square(&one) - 10_000_000_000_000_000).abs();
            assert!(off < 10_000_000_000, "{length} numbers: off by {off} of 10^16");
            assert_eq!(one, vector("m", "alpha", length));
            assert!(length == 1 || one != vector("m", "beta", length));
        }
    }

    #[test]
    fn both_spellings_of_a_vector_say_the_same() {
        let vector = vector("m", "alpha", 3);
        let bytes = STANDARD.decode(in_base64(&vector)).expect("base64");
        let floats: Vec<f32> =
            bytes.chunks(4).map(|four| f32::from_le_bytes(four.try_into().expect("four bytes"))).collect();
        let parsed: Vec<f32> = vector.iter().map(|number| number.parse().expect("a number")).collect();
        assert_eq!(floats, parsed);
    }

    #[test]
    fn every_spelling_of_an_input_is_read() {
        for (input, want) in [
            (r#""alpha""#, Some(1)),
            (r#"["alpha","beta"]"#, Some(2)),
            ("[1,2,3]", Some(1)),
            ("[[1],[2,3]]", Some(2)),
            ("[]", None),
            ("7", None),
            (r#"[{"a":1}]"#, None),
        ] {
            assert_eq!(texts(input).ok().map(|texts| texts.len()), want, "{input}");
        }
        assert_eq!(texts("[1,2,3]").expect("token ids")[0].tokens, 3);
    }
}
