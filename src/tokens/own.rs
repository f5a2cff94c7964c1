//! Tokenizers of the caller's own, and names of models that only the caller knows.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Accuracy;
use super::tally::Tally;

/// A tokenizer of the caller's own, for models whose tokenizer thrifty does not carry.
///
/// # Example
/// ```
/// use std::sync::Arc;
/// use thrifty::call::Call;
/// use thrifty::tokens::{Counter, Tokenizer};
///
/// struct Words;
///
/// impl Tokenizer for Words {
///     fn name(&self) -> &'static str {
///         "words"
///     }
///
///     fn count(&self, text: &str) -> Option<u64> {
///         Some(text.split_whitespace().count() as u64)
///     }
/// }
///
/// let counter = Counter::default().tokenizer("llama", Arc::new(Words));
/// let call = Call::post("http://localhost:8000/v1/chat/completions",
///     r#"{"model":"llama-3.3-70b","messages":[{"role":"user","content":"where is it"}]}"#);
/// let count = counter.count(&call);
/// assert_eq!((count.encoding, count.likely), ("words", 3 + 4 + 3));
/// ```
pub trait Tokenizer: Send + Sync {
    /// What [`Count::encoding`](super::Count::encoding) says.
    fn name(&self) -> &'static str;

    /// Tokens of `text` as ordinary text, without marks of its beginning or end; `None` if it cannot be counted, and
    /// the bytes stand in. It is called on the way of a call, so it should be fast and must not block.
    fn count(&self, text: &str) -> Option<u64>;
}

/// A tokenizer and what tells it from others.
#[derive(Clone)]
pub(super) struct Own {
    pub(super) id: u64,
    pub(super) tokenizer: Arc<dyn Tokenizer>,
}

impl Own {
    pub(super) fn count(&self, text: &str) -> Tally {
        match self.tokenizer.count(text) {
            Some(n) => Tally::of(n, n, Accuracy::Exact),
            None => Tally::bound((text.len() as u64).div_ceil(4), text.len() as u64),
        }
    }
}

/// What the name of a model means.
#[derive(Clone)]
pub(super) enum Meaning {
    /// Another, known model.
    Model(String),
    /// Texts are counted by this; the name is the beginning of a model's.
    Own(Own),
}

impl Meaning {
    pub(super) fn own(tokenizer: Arc<dyn Tokenizer>) -> Self {
        // Counts of different tokenizers must not be taken for each other in a memory that counters share.
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self::Own(Own { id: NEXT.fetch_add(1, Ordering::Relaxed), tokenizer })
    }
}

/// Names that the caller explained. The last word on a name counts.
#[derive(Clone, Default)]
pub(super) struct Names(Vec<(String, Meaning)>);

impl Names {
    pub(super) fn add(&mut self, name: &str, meaning: Meaning) {
        self.0.push((name.trim().to_ascii_lowercase(), meaning));
    }

    pub(super) fn find(&self, model: &str) -> Option<&Meaning> {
        if self.0.is_empty() {
            return None;
        }
        let (whole, bare) = (model.trim().to_ascii_lowercase(), super::encoding::bare(model));
        let found = self.0.iter().rev().find(|(name, meaning)| match meaning {
            Meaning::Model(_) => *name == whole || *name == bare,
            Meaning::Own(_) => whole.starts_with(name) || bare.starts_with(name),
        });
        found.map(|(_, meaning)| meaning)
    }
}

/// A [`Tokenizer`] from the `tokenizer.json` of a model on Hugging Face, for open-weight models.
///
/// # Example
/// ```no_run
/// use std::sync::Arc;
/// use thrifty::tokens::{Counter, TokenizerJson};
///
/// let qwen = TokenizerJson::read("models/qwen3/tokenizer.json")?;
/// let counter = Counter::default().tokenizer("qwen3", Arc::new(qwen));
/// # Ok::<(), thrifty::Error>(())
/// ```
#[cfg(feature = "tokenizers")]
pub struct TokenizerJson(tokenizers::Tokenizer);

#[cfg(feature = "tokenizers")]
impl TokenizerJson {
    /// Reads the file; some tenths of a second, and about ten times its size in memory.
    ///
    /// # Errors
    /// [`Kind::BadInput`](crate::Kind::BadInput) when it cannot be read or is no `tokenizer.json`.
    pub fn read(path: impl AsRef<std::path::Path>) -> Result<Self, crate::Error> {
        let path = path.as_ref();
        let bytes = std::fs::read(path).map_err(|error| {
            let problem = format!("the tokenizer {} cannot be read ({error})", path.display());
            crate::Error::bad_input(problem, "give the path of a `tokenizer.json`")
        })?;
        Self::from_bytes(&bytes)
    }

    /// A `tokenizer.json` in memory.
    ///
    /// # Errors
    /// [`Kind::BadInput`](crate::Kind::BadInput) when it is none.
    pub fn from_bytes(json: &[u8]) -> Result<Self, crate::Error> {
        let mut read = tokenizers::Tokenizer::from_bytes(json).map_err(|error| {
            let problem = format!("this is no `tokenizer.json` that can be read ({error})");
            crate::Error::bad_input(problem, "take the one of the model's own page")
        })?;
        // The spelling of a special token inside a text is text.
        read.set_encode_special_tokens(true);
        Ok(Self(read))
    }
}

#[cfg(feature = "tokenizers")]
impl Tokenizer for TokenizerJson {
    fn name(&self) -> &'static str {
        "tokenizer.json"
    }

    fn count(&self, text: &str) -> Option<u64> {
        self.0.encode_fast(text, false).ok().map(|encoding| encoding.len() as u64)
    }
}

#[cfg(feature = "tokenizers")]
impl fmt::Debug for TokenizerJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenizerJson")
    }
}

impl fmt::Debug for Own {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.tokenizer.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Letters;

    impl Tokenizer for Letters {
        fn name(&self) -> &'static str {
            "letters"
        }

        fn count(&self, text: &str) -> Option<u64> {
            (!text.contains('?')).then_some(text.len() as u64)
        }
    }

    #[test]
    fn the_last_word_on_a_name_counts_whatever_its_case() {
        let mut names = Names::default();
        names.add("Our-Chat ", Meaning::Model("gpt-4".into()));
        names.add("llama", Meaning::own(Arc::new(Letters)));
        assert!(matches!(names.find("our-chat"), Some(Meaning::Model(model)) if model == "gpt-4"));
        assert!(matches!(names.find("azure/OUR-CHAT"), Some(Meaning::Model(_))));
        assert!(names.find("our-chat-2").is_none(), "a deployment's name is the whole of it");
        assert!(matches!(names.find("meta-llama/Llama-3.3-70B"), Some(Meaning::Own(_))));
        names.add("our-chat", Meaning::Model("gpt-4o".into()));
        assert!(matches!(names.find("our-chat"), Some(Meaning::Model(model)) if model == "gpt-4o"));
    }

    #[test]
    fn a_tokenizer_that_gives_up_leaves_the_bytes() {
        let Meaning::Own(own) = Meaning::own(Arc::new(Letters)) else { unreachable!("made as one") };
        assert_eq!((own.count("abc").likely, own.count("abc").accuracy), (3, Accuracy::Exact));
        let given_up = own.count("abc?");
        assert_eq!((given_up.likely, given_up.at_most, given_up.accuracy), (1, 4, Accuracy::UpperBound));
    }

    #[cfg(feature = "tokenizers")]
    #[test]
    fn a_tokenizer_json_counts_and_takes_special_spellings_for_text() {
        let json = r#"{"version":"1.0","truncation":null,"padding":null,
            "added_tokens":[{"id":4,"content":"<end>","single_word":false,"lstrip":false,"rstrip":false,
                "normalized":false,"special":true}],
            "normalizer":null,"pre_tokenizer":{"type":"Whitespace"},"post_processor":null,"decoder":null,
            "model":{"type":"WordLevel","vocab":{"[UNK]":0,"the":1,"ferry":2,"is":3,"<end>":4},"unk_token":"[UNK]"}}"#;
        let read = TokenizerJson::from_bytes(json.as_bytes()).expect("a tokenizer");
        assert_eq!(read.count("the ferry is late"), Some(4));
        assert_eq!(read.count("the <end>"), Some(4), "`<`, `end` and `>` are words");
        assert_eq!(read.count(""), Some(0));
        for bad in [&b""[..], b"{}", b"7", b"\xff"] {
            let error = TokenizerJson::from_bytes(bad).expect_err("no tokenizer");
            assert_eq!(error.kind(), crate::Kind::BadInput);
        }
        assert!(TokenizerJson::read("no/such/tokenizer.json").is_err());
    }
}
