//! What providers have billed, fed back into the estimates.
//!
//! No tokenizer is published for Claude and Gemini, and formulas change without notice. Each billed call tells by how
//! much the estimate of its prompt was off; a running ratio for each model learns from that, and says how sure it is.
//!
//! In a stack the layers do it: the innermost that counts what is sent notes an [`Expected`] in the receipt, and the
//! meter has the calibration [`learn`](Calibration::learn) from it once the provider has told the use.

mod log;
mod scale;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use self::log::Log;
use self::scale::{ENOUGH, ONE, Running, mul_div};
use super::encoding::{Encoding, Family};
use super::{Accuracy, Count};
use crate::Error;
use crate::call::json::quote;
use crate::call::{Call, Dialect, Doc};
use crate::dialect::Usage;

/// Models kept apart. Names come from callers; memory must not.
const MOST_MODELS: usize = 1_000;
/// A smaller prompt is mostly framing, and teaches nothing about text.
const LEAST: u64 = 50;
/// No longer name is a model's.
const LONGEST_NAME: usize = 128;

/// Learns for each model of each provider how many tokens are billed for each that was estimated. Clones learn together.
///
/// The mean of the first ten billed calls, then a tenth of each new one, between 0.5 and 3, on top of the start
/// factors by class of text; from ten calls on, one bill moves it by a fortieth at most. From 16 calls on the 95th
/// percentile of the last 64 errors is the margin of [`Count::at_most`]; before that a tenth is.
///
/// Counts by formula are kept apart from estimates of the same model. They stay as they are, until the median of 16
/// calls is off by more than 1 %: that is said once in the log, and those counts are calibrated ones from then on.
///
/// What is learned belongs to the name that was asked for. A reply that names another model teaches as long as both
/// have one tokenizer: `gpt-4` answered by `gpt-4-0613`, a deployment's name by its model.
///
/// # Example
/// ```
/// use thrifty::call::Call;
/// use thrifty::dialect::Usage;
/// use thrifty::tokens::{Calibration, Counter, Expected};
///
/// let calibration = Calibration::default();
/// let counter = Counter::default().calibrated(calibration.clone());
/// let text = "The ferry left the harbour at noon. ".repeat(20);
/// let call = Call::post("https://api.anthropic.com/v1/messages",
///     format!(r#"{{"model":"claude-opus-5","max_tokens":9,"messages":[{{"role":"user","content":"{text}"}}]}}"#));
/// let expected = Expected::of(&call, &counter.uncalibrated(&call)).expect("a call to learn from");
/// for _ in 0..16 {
///     let usage = Usage::of(expected.tokens() * 9 / 10, 5); // what the replies said
///     calibration.learn(&expected, Some("claude-opus-5-20260801"), &usage);
/// }
/// let known = &calibration.scales()[0];
/// assert_eq!((known.samples, (known.scale + 5_000) / 10_000), (16, 90)); // hundredths
/// assert!(counter.count(&call).at_most < expected.tokens());
/// ```
/// # Kept across restarts
/// ```
/// use thrifty::tokens::Calibration;
/// # let dir = std::env::temp_dir().join(format!("thrifty-doc-calibration-{}", std::process::id()));
/// # std::fs::create_dir_all(&dir).ok();
///
/// let calibration = Calibration::open(dir.join("receipts.calibration"))?; // beside the ledger's file
/// assert!(calibration.scales().is_empty());
/// # std::fs::remove_dir_all(&dir).ok();
/// # Ok::<(), thrifty::Error>(())
/// ```
#[derive(Clone, Default)]
pub struct Calibration(Arc<Shared>);

type Models = BTreeMap<Key, Running>;

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Taken before `state`, never while it is held: counts must not wait for a disk.
    log: Option<Mutex<Log>>,
}

#[derive(Default)]
struct State {
    models: Models,
    /// Lines that the file does not have yet.
    pending: Vec<u8>,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    host: String,
    dialect: String,
    model: String,
    /// Counts by formula say nothing about estimates, nor those about them.
    formula: bool,
}

impl Key {
    fn new(host: String, dialect: Dialect, model: &str, formula: bool) -> Self {
        Self { host, dialect: dialect.name().to_owned(), model: undated(model), formula }
    }
}

/// Whom a call is sent to: the same model behind another host may be billed by other rules. Nothing for a call that
/// does not say.
fn host_of(call: &Call) -> String {
    let uri = &call.parts.uri;
    let named = match (uri.host(), uri.port_u16()) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (Some(host), None) => host.to_owned(),
        (None, _) => {
            let header = call.parts.headers.get(http::header::HOST).and_then(|host| host.to_str().ok());
            header.unwrap_or_default().to_owned()
        }
    };
    // No longer name is a host's.
    if named.len() > 253 + 6 { String::new() } else { named.to_ascii_lowercase() }
}

/// What a call is expected to be billed; learned from once its usage is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    host: String,
    dialect: Dialect,
    model: String,
    tokens: u64,
    formula: bool,
    /// What the count was made with.
    encoding: &'static str,
    /// It is text alone, which another model with the same tokenizer bills alike.
    text: bool,
}

impl Expected {
    /// `None` if the bill of `call` would teach nothing about its text: it names no model, takes under 50 tokens,
    /// pictures, documents and the like are above a fifth of it, the provider runs tools of its own, keeps a part of
    /// the prompt, or the count is only an upper bound.
    ///
    /// `count` is [`Counter::uncalibrated`](super::Counter::uncalibrated) of the call as it is sent.
    #[must_use]
    pub fn of(call: &Call, count: &Count) -> Option<Self> {
        let elsewhere = [
            "previous_response_id",
            "conversation",
            "cachedContent",
            "cached_content",
            "container",
            "context_management",
            "mcp_servers",
            "plugins",
            "web_search_options",
        ];
        // Bytes are a bound by nature, and so is a text that Ollama puts into a template.
        let unknown = count.accuracy == Accuracy::UpperBound
            && count.encoding != "bytes"
            && call.dialect != Dialect::OllamaChat;
        let dull = unknown
            || count.likely < LEAST
            || count.media.saturating_mul(5) > count.likely
            || call.dialect == Dialect::Opaque
            || elsewhere.iter().any(|member| call.doc.some(member).is_some())
            || (call.dialect == Dialect::OpenAiResponses && call.doc.some("prompt").is_some())
            || call.doc.str("truncation").is_some_and(|word| word != "disabled");
        let model = call.model().filter(|model| !dull && !model.is_empty())?;
        if has_hosted_tools(call) {
            return None;
        }
        Some(Self {
            host: host_of(call),
            dialect: call.dialect,
            model,
            tokens: count.likely,
            formula: count.accuracy.is_exact(),
            encoding: count.encoding,
            text: count.media == 0,
        })
    }

    /// The estimate.
    #[must_use]
    pub fn tokens(&self) -> u64 {
        self.tokens
    }
}

/// The tokenizer that a call asked of `expected` was billed by.
enum Billed {
    /// The one it was counted for.
    Same,
    /// One that the name asked for does not tell, with its label.
    Named(&'static str),
    /// Another one, or nobody knows.
    Other,
}

impl Billed {
    fn by(answered: &str, expected: &Expected) -> Self {
        let names = [undated(&expected.model), undated(answered)];
        if names[0] == names[1] {
            return Self::Same;
        }
        if !expected.text {
            return Self::Other;
        }
        let [asked, answered] = names.each_ref().map(|name| Encoding::for_model(name));
        let begins = |a: &str, b: &str| a.strip_prefix(b).is_some_and(|rest| rest.starts_with('-'));
        match (asked.family, answered.family) {
            (Family::Other, Family::Other)
                if begins(&names[0], &names[1]) || begins(&names[1], &names[0]) =>
            {
                Self::Same
            }
            (Family::Other, Family::Other) => Self::Other,
            (Family::Other, _) if expected.encoding == answered.label() => Self::Same,
            (Family::Other, _) if expected.encoding == asked.label() => Self::Named(answered.label()),
            (a, b) if a == b && asked.encoding == answered.encoding => Self::Same,
            _ => Self::Other,
        }
    }
}

/// True if the provider runs a tool of the call. Only what stands beside the messages is read.
fn has_hosted_tools(call: &Call) -> bool {
    if call.doc.some("tools").is_none() {
        return false;
    }
    let messages = call.format().messages_member();
    let mut body = String::from("{");
    for (name, value) in call.doc.members().filter(|(name, _)| Some(*name) != messages) {
        let comma = if body.len() > 1 { "," } else { "" };
        body.extend([comma, &quote(name), ":", value]);
    }
    body.push('}');
    let (mut parts, ()) = http::Request::new(()).into_parts();
    parts.uri = call.parts.uri.clone();
    let rest = Call { dialect: call.dialect, parts, doc: Doc::new(body) };
    rest.format().prompt(&rest).tools.iter().any(|tool| tool.hosted)
}

/// What came of one billed call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Learned {
    /// The model's ratio has moved.
    Taken,
    /// Nothing; this is why.
    Skipped(&'static str),
}

/// What was learned of one model.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Scale {
    /// Whom the calls were sent to: host, and port if one was named. Empty if the calls did not say.
    pub host: String,
    /// Name of the wire format it was called in.
    pub dialect: String,
    /// The model, without provider, date and fine-tuning marks.
    pub model: String,
    /// True for its counts by formula, which are kept apart from its estimates.
    pub formula: bool,
    /// Billed calls it rests on.
    pub samples: u64,
    /// Billed tokens over estimated ones, in millionths.
    pub scale: u64,
    /// Median error of the last 64 predictions, in millionths; `None` before the second call.
    pub median_error: Option<u64>,
    /// Their 95th percentile.
    pub p95_error: Option<u64>,
    /// True if counts by formula are off by more than 1 %.
    pub drifts: bool,
}

impl fmt::Display for Scale {
    /// One line for people: `claude-opus-5 (anthropic-messages at api.anthropic.com): x 0.912 after 40 calls, error
    /// 1.2 % (median), 3.1 % (95 %)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { model, host, dialect, samples, scale, .. } = self;
        let at = if host.is_empty() { "" } else { " at " };
        let by = if self.formula { ", by formula" } else { "" };
        write!(f, "{model} ({dialect}{at}{host}{by}): x {}.{:03}", scale / ONE, scale % ONE / 1_000)?;
        write!(f, " after {samples} {}", if *samples == 1 { "call" } else { "calls" })?;
        if let (Some(median), Some(p95)) = (self.median_error, self.p95_error) {
            let percent = |error: u64| format!("{}.{} %", error / 10_000, error % 10_000 / 1_000);
            write!(f, ", error {} (median), {} (95 %)", percent(median), percent(p95))?;
        }
        if self.drifts {
            f.write_str(", the formula has drifted")?;
        }
        Ok(())
    }
}

impl Calibration {
    /// A calibration that is kept in this file, one line for each billed call, and goes on where it ended. What was
    /// learned on top of other start factors is forgotten.
    ///
    /// A file that cannot be written later on fails no call; it is said once in the log. One whose first line was
    /// damaged by a crash is renamed to end in `.damaged`, and a new one is begun.
    ///
    /// # Errors
    /// [`Kind::Store`](crate::Kind::Store) when it cannot be opened or is another file.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let (log, models) = Log::open(path.as_ref())?;
        let state = Mutex::new(State { models, pending: Vec::new() });
        Ok(Self(Arc::new(Shared { state, log: Some(Mutex::new(log)) })))
    }

    /// Learns from a call that was billed. `answered` is the model that the reply names.
    pub fn learn(&self, expected: &Expected, answered: Option<&str>, usage: &Usage) -> Learned {
        let Some(billed) = usage.input else { return Learned::Skipped("the reply told no usage") };
        if billed < LEAST || expected.tokens == 0 {
            return Learned::Skipped("the prompt was too short");
        }
        let key = Key::new(expected.host.clone(), expected.dialect, &expected.model, expected.formula);
        if key.model.len() > LONGEST_NAME {
            return Learned::Skipped("the model's name is too long");
        }
        let named = match answered.map(|answered| Billed::by(answered, expected)) {
            None | Some(Billed::Same) => None,
            Some(Billed::Named(label)) => Some(label),
            Some(Billed::Other) => return Learned::Skipped("another model answered"),
        };
        let mut state = self.state();
        if !state.models.contains_key(&key) && state.models.len() >= MOST_MODELS {
            return Learned::Skipped("too many models");
        }
        // Whoever sends a name's calls to one model today and to another tomorrow has no ratio.
        let before = state.models.get(&key).and_then(|running| running.answered);
        if before.zip(named).is_some_and(|(before, named)| before != named) {
            return Learned::Skipped("another model answered");
        }
        let State { models, pending } = &mut *state;
        let running = models.entry(key.clone()).or_insert_with(|| Running::new(key.formula));
        running.answered = running.answered.or(named);
        let drifted = running.drifts();
        let sample = running.learn(expected.tokens, billed);
        let drifts = running.drifts() && !drifted;
        if self.0.log.is_some() {
            pending.extend(log::line(&key, running, sample));
        }
        drop(state);
        self.write();
        if drifts {
            tracing::warn!(model = key.model, "the formula for prompt tokens is off by more than 1 %");
        }
        Learned::Taken
    }

    /// `count` corrected by what was learned of the call's model.
    #[must_use]
    pub fn adjust(&self, call: &Call, count: Count) -> Count {
        let Some(model) = call.model() else { return count };
        let formula = count.accuracy.is_exact();
        let mut key = Key::new(host_of(call), call.dialect, &model, formula);
        let state = self.state();
        let known = match state.models.get(&key) {
            Some(running) if !formula || running.drifts() => {
                let margin = running.error(95).filter(|_| running.samples >= ENOUGH);
                Some((running.in_force(), margin))
            }
            None if !formula => {
                // Most of an estimate is what the formula gives; how sure that is, nobody knows.
                key.formula = true;
                state
                    .models
                    .get(&key)
                    .filter(|running| running.drifts())
                    .map(|running| (running.in_force(), None))
            }
            _ => None,
        };
        drop(state);
        let Some((scale, margin)) = known else { return count };
        adjusted(call, count, scale, margin)
    }

    /// All that was learned.
    #[must_use]
    pub fn scales(&self) -> Vec<Scale> {
        let state = self.state();
        let scales = state.models.iter().map(|(key, running)| Scale {
            host: key.host.clone(),
            dialect: key.dialect.clone(),
            model: key.model.clone(),
            formula: key.formula,
            samples: running.samples,
            scale: running.scale,
            median_error: running.error(50),
            p95_error: running.error(95),
            drifts: running.drifts(),
        });
        scales.collect()
    }

    /// Brings the file up to date. Whoever has the log writes all that is pending, in the order it was learned.
    fn write(&self) {
        let Some(log) = &self.0.log else { return };
        let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = self.state();
        let lines = std::mem::take(&mut state.pending);
        if lines.is_empty() {
            return;
        }
        let models = log.is_full(1).then(|| state.models.clone());
        drop(state);
        log.write(&lines, models.as_ref());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Calibration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.scales().iter().map(ToString::to_string)).finish()
    }
}

fn adjusted(call: &Call, mut count: Count, scale: u64, margin: Option<u64>) -> Count {
    let media = count.media.min(count.likely);
    let text = mul_div(count.likely - media, scale, ONE);
    let likely = text.saturating_add(media);
    // Only text was learned from.
    let sure = margin.filter(|_| media == 0);
    let learned_all = count.accuracy != Accuracy::UpperBound || call.dialect == Dialect::OllamaChat;
    let at_most = match sure {
        Some(margin) if learned_all => {
            count.accuracy = Accuracy::Calibrated;
            mul_div(likely, ONE.saturating_add(margin), ONE).saturating_add(1)
        }
        _ => {
            count.accuracy = count.accuracy.max(Accuracy::Calibrated);
            let tenth = likely.saturating_add(likely.div_ceil(10));
            mul_div(count.at_most, scale.max(ONE), ONE).max(tenth)
        }
    };
    spread(&mut count, likely);
    count.at_most = at_most.max(likely);
    count
}

/// `count` with `likely` tokens, shared out among its parts.
pub(super) fn spread_to(mut count: Count, likely: u64) -> Count {
    spread(&mut count, likely);
    count.likely = likely;
    count
}

/// Gives each part its share of `likely`, so that they add up to it.
fn spread(count: &mut Count, likely: u64) {
    let (before, parts) = (count.likely, &mut count.parts);
    let (mut sum, mut given) = (0u64, 0u64);
    let single = [&mut parts.system, &mut parts.tools, &mut parts.response_format, &mut parts.framing];
    for part in parts.messages.iter_mut().chain(single) {
        sum = sum.saturating_add(*part);
        let upto = mul_div(sum, likely, before.max(1));
        *part = upto.saturating_sub(given);
        given = upto;
    }
    count.likely = given;
}

/// A model's name without provider, tuning marks and the date at its end.
fn undated(model: &str) -> String {
    let bare = super::encoding::bare(model);
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let name = bare.split('@').next().unwrap_or_default();
    let name = name.strip_suffix("-latest").unwrap_or(name);
    // `-20250929`, `-2025-09-29`, and `-v1:0` of Bedrock behind them.
    let name = match name.rsplit_once("-v") {
        Some((front, version)) if version.split(':').all(digits) && version.contains(':') => front,
        _ => name,
    };
    let cut = match name.len().checked_sub(11).and_then(|at| name.split_at_checked(at)) {
        Some((front, date)) if date.starts_with('-') => {
            let mut parts = date[1..].split('-');
            let is_date =
                parts.clone().count() == 3 && parts.all(digits) && date.as_bytes().get(5) == Some(&b'-');
            is_date.then_some(front)
        }
        _ => None,
    };
    let cut = cut.or_else(|| {
        name.rsplit_once('-').filter(|(_, date)| date.len() == 8 && digits(date)).map(|(front, _)| front)
    });
    cut.unwrap_or(name).to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::CountParts;
    use super::*;

    #[test]
    fn a_date_is_no_part_of_a_models_name() {
        for (name, bare) in [
            ("gpt-4o-2024-08-06", "gpt-4o"),
            ("gpt-4o", "gpt-4o"),
            ("gpt-4o-mini", "gpt-4o-mini"),
            ("claude-opus-4-5-20251101", "claude-opus-4-5"),
            ("claude-opus-4-5@20251101", "claude-opus-4-5"),
            ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", "claude-sonnet-4-5"),
            ("ft:gpt-4o-2024-08-06:org::id", "gpt-4o"),
            ("claude-3-5-sonnet-latest", "claude-3-5-sonnet"),
            ("models/gemini-3-pro", "gemini-3-pro"),
            ("", ""),
            ("\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}", "\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}"),
        ] {
            assert_eq!(undated(name), bare, "{name}");
        }
    }

    fn words(model: &str, accuracy: Accuracy) -> (Call, Count, Expected) {
        let call = Call::post("https://a.example/v1/chat/completions", format!(r#"{{"model":"{model}"}}"#));
        let label = Encoding::for_model(model).label();
        let parts = CountParts { system: 1_000, ..CountParts::default() };
        let count =
            Count { likely: 1_000, at_most: 1_100, accuracy, encoding: label, parts, ..Count::default() };
        let expected = Expected::of(&call, &count).expect("a call to learn from");
        (call, count, expected)
    }

    #[test]
    fn a_name_is_learned_from_whatever_has_its_tokenizer() {
        let taken = |asked: &str, answered: &str| {
            let calibration = Calibration::default();
            let (_, _, expected) = words(asked, Accuracy::Calibrated);
            let learned = calibration.learn(&expected, Some(answered), &Usage::of(1_200, 1));
            let known = calibration.scales();
            assert!(known.iter().all(|known| known.model == undated(asked)), "{known:?}");
            assert_eq!(known.len(), usize::from(learned == Learned::Taken));
            learned == Learned::Taken
        };
        for (asked, answered) in [
            ("our-chat", "gpt-4o-2024-08-06"),
            ("gpt-4", "gpt-4-0613"),
            ("gpt-35-turbo", "gpt-3.5-turbo-0125"),
            ("claude-sonnet-4-0", "claude-sonnet-4-20250514"),
            ("gemini-2.0-flash", "gemini-2.0-flash-001"),
            ("gemini-flash-latest", "gemini-2.5-flash"),
            ("mistral-large-latest", "mistral-large-2411"),
        ] {
            assert!(taken(asked, answered), "{asked} by {answered}");
        }
        for (asked, answered) in [
            ("claude-opus-5", "claude-haiku-4-5"),
            ("gpt-4", "gpt-4o"),
            ("gpt-4o", "claude-opus-5"),
            ("auto", "llama-3.3-70b"),
        ] {
            // Without tables everything is counted in bytes, by names all the same.
            assert!(!taken(asked, answered), "{asked} by {answered}");
        }
    }

    #[cfg(feature = "tiktoken")]
    #[test]
    fn a_name_that_many_models_answer_to_is_learned_from_the_first_of_them() {
        let calibration = Calibration::default();
        let (_, _, expected) = words("auto", Accuracy::Calibrated);
        let learn = |answered| calibration.learn(&expected, Some(answered), &Usage::of(1_200, 1));
        assert_eq!(learn("gpt-4o"), Learned::Taken);
        assert_eq!(learn("claude-opus-5"), Learned::Skipped("another model answered"));
        assert_eq!(learn("gpt-4.1"), Learned::Taken);
    }

    #[test]
    fn an_upper_bound_teaches_nothing() {
        let (call, count, _) = words("claude-opus-5", Accuracy::Calibrated);
        let bound = Count { accuracy: Accuracy::UpperBound, encoding: "o200k_base", ..count };
        assert_eq!(Expected::of(&call, &bound), None);
    }

    #[test]
    fn an_absurd_bill_breaks_no_count() {
        let calibration = Calibration::default();
        let (call, count, expected) = words("claude-opus-5", Accuracy::Calibrated);
        for _ in 0..16 {
            calibration.learn(&expected, None, &Usage::of(1_000, 1));
        }
        for billed in [u64::MAX, u64::MAX, 50] {
            calibration.learn(&expected, None, &Usage::of(billed, 1));
            let found = calibration.adjust(&call, count.clone());
            assert!(found.likely.abs_diff(1_000) <= 60 && found.at_most <= 6_400, "{found:?}");
        }
        let huge = Count { likely: u64::MAX, at_most: u64::MAX, ..count };
        assert_eq!(calibration.adjust(&call, huge).at_most, u64::MAX);
    }

    #[test]
    fn counts_do_not_wait_for_the_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let calibration = Calibration::open(folder.path().join("c")).expect("a new file");
        let (call, count, expected) = words("claude-opus-5", Accuracy::Calibrated);
        let held = calibration.0.log.as_ref().expect("a log").lock().expect("no panic");
        let other = calibration.clone();
        let learning = std::thread::spawn(move || other.learn(&expected, None, &Usage::of(1_500, 1)));
        let begun = std::time::Instant::now();
        while calibration.adjust(&call, count.clone()).likely != 1_500 {
            assert!(begun.elapsed().as_secs() < 20, "the count did not move");
            std::thread::yield_now();
        }
        assert!(!learning.is_finished(), "it writes what it has learned");
        drop(held);
        assert_eq!(learning.join().expect("no panic"), Learned::Taken);
    }

    #[test]
    fn parts_add_up_after_any_scale() {
        for scale in [500_000, 913_477, 1_000_000, 1_333_333, 3_000_000] {
            let mut count = Count { likely: 127, at_most: 140, ..Count::default() };
            count.parts.messages = vec![13, 17, 41];
            (count.parts.system, count.parts.tools, count.parts.framing) = (9, 40, 7);
            let call = Call::post("https://a.example/v1/messages", "{}");
            let found = adjusted(&call, count, scale, None);
            let parts = &found.parts;
            let sum: u64 = parts.messages.iter().sum::<u64>() + parts.system + parts.tools + parts.framing;
            assert_eq!(sum, found.likely);
            assert_eq!(found.likely, 127 * scale / ONE);
            assert!(found.at_most >= found.likely + found.likely / 10);
        }
    }
}
