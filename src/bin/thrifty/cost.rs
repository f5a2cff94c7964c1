//! `thrifty cost`: what a usage costs, itemised.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use serde::Serialize;
use thrifty::Error;
use thrifty::call::Dialect;
use thrifty::call::json::Object;
use thrifty::clock::{Clock, SystemClock};
use thrifty::price::{Cost, CostState, PriceTable, Terms};

use crate::input;
use crate::lines::{self, Line, missing};
use crate::output::{Code, Ended, Out, Stop, grouped, json, table};

/// The cost of a provider's usage object, itemised
///
/// The price of an unknown model is unknown, never zero: `usd` is then null and `state` says why.
#[derive(Args, Debug)]
pub(crate) struct CostArgs {
    /// File with a usage object, or with a whole reply that holds one; `-` reads standard input
    usage: PathBuf,
    /// Model that answered; that of the reply if left out
    #[arg(long)]
    model: Option<String>,
    /// Format of the usage (openai-chat, anthropic-messages, openai-responses, gemini-generate, ...); recognised by its names if left out
    #[arg(long)]
    dialect: Option<Dialect>,
    /// When the provider took the request: 2026-11-24T15:30:00Z, or seconds since 1970; now if left out
    #[arg(long, allow_hyphen_values = true)]
    at: Option<String>,
    /// Service tier that served (standard, flex, priority, batch, fast); that of the reply if left out
    #[arg(long, value_parser = service_tier)]
    service_tier: Option<String>,
    /// Price table in the form of LiteLLM's model_prices_and_context_window.json; the built-in one if left out
    #[arg(long)]
    prices: Option<PathBuf>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    /// Read one usage per line, as {"id", "dialect", "model", "usage", "at"}; answer each with a line
    #[arg(long)]
    jsonl: bool,
}

/// The answer for people who read JSON. Money is decimal dollars.
#[derive(Serialize)]
pub(crate) struct Priced {
    pub(crate) usd: Option<String>,
    state: &'static str,
    items: Vec<Item>,
    table: String,
}

#[derive(Serialize)]
struct Item {
    what: &'static str,
    count: u64,
    /// Dollars for one.
    rate: String,
    usd: String,
    /// The rate of the parent or of the standard tier, for want of one of its own.
    fallback: bool,
}

impl Priced {
    pub(crate) fn of(cost: &Cost, prices: &PriceTable) -> Self {
        let items = cost.items.iter().map(|item| Item {
            what: item.what,
            count: item.count,
            rate: item.rate.to_string(),
            usd: item.usd.to_string(),
            fallback: item.fallback,
        });
        Self {
            usd: cost.usd.map(|usd| usd.to_string()),
            state: cost.state.name(),
            items: items.collect(),
            table: prices.id().to_string(),
        }
    }
}

/// Names of service tiers that the providers and price lists use.
const TIERS: [&str; 11] = [
    "standard",
    "flex",
    "priority",
    "batch",
    "fast",
    "default",
    "auto",
    "on_demand",
    "standard_only",
    "on_demand_flex",
    "on_demand_priority",
];

/// A service tier on the command line.
fn service_tier(text: &str) -> Result<String, String> {
    let name = text.trim().to_ascii_lowercase();
    if TIERS.contains(&name.as_str()) {
        return Ok(name);
    }
    Err(format!("no such service tier is known; known are {}", TIERS.join(", ")))
}

/// Marks a bill as one at rates that stand in, where the model has none of its own for the tier that served.
fn mark(cost: &mut Cost, standard: &Cost) {
    let same = cost.items.iter().zip(&standard.items).all(|(item, other)| item.rate == other.rate);
    if same && cost.items.len() == standard.items.len() {
        cost.items.iter_mut().for_each(|item| item.fallback = true);
    }
}

/// The price table of `--prices`, else the built-in one.
pub(crate) fn prices(path: Option<&Path>) -> Result<Arc<PriceTable>, Error> {
    match path {
        None => Ok(PriceTable::builtin()),
        Some(path) => PriceTable::from_litellm(&input::read(path)?).map(Arc::new),
    }
}

/// What `cost` was asked, from options or from a line.
struct Asked {
    model: Option<String>,
    dialect: Option<Dialect>,
    at_ms: i64,
    service_tier: Option<String>,
}

pub(crate) fn run(args: &CostArgs, out: &mut Out) -> Ended {
    let prices = prices(args.prices.as_deref())?;
    let now = SystemClock.now_ms();
    let at_ms = args.at.as_deref().map(input::time).transpose()?.unwrap_or(now);
    let asked = |model: Option<String>, dialect, at_ms| Asked {
        model,
        dialect,
        at_ms,
        service_tier: args.service_tier.clone(),
    };
    if args.jsonl {
        return lines::drive(&args.usage, out, |line: &Line<'_>| {
            let at = line.some("at").map(|at| input::time(&input::plain(at))).transpose()?;
            let usage = line.some("usage").ok_or_else(|| missing("usage"))?;
            let asked =
                asked(line.model(args.model.as_deref())?, line.dialect(args.dialect)?, at.unwrap_or(at_ms));
            Ok(Priced::of(&cost(usage, asked, &prices)?, &prices))
        });
    }
    let text = input::read_text(&args.usage)?;
    let cost = cost(&text, asked(args.model.clone(), args.dialect, at_ms), &prices)?;
    if args.json {
        json(out, &Priced::of(&cost, &prices))?;
    } else {
        show(out, &cost, &prices)?;
    }
    Ok(Code::Done)
}

fn cost(text: &str, asked: Asked, prices: &PriceTable) -> Result<Cost, Error> {
    let found = Found::within(text)?;
    let dialect = match asked.dialect {
        Some(dialect) => dialect,
        None => found.dialect()?,
    };
    let usage = dialect.format().usage(found.json).ok_or_else(|| {
        Error::bad_input(
            format!("the usage cannot be read as one of {dialect}: a count is missing, no number, or contradicts another"),
            "give the provider's usage object as it came, or another --dialect",
        )
    })?;
    let model = asked.model.or(found.model).ok_or_else(|| {
        Error::bad_input("the usage does not say which model it is of", "name it with --model")
    })?;
    let tier = asked.service_tier.or(found.service_tier);
    let standard = Terms::at(asked.at_ms);
    let terms = standard.clone().with_service_tier(tier.clone());
    let mut cost = prices.cost(&model, &usage, &terms);
    // These are other words for the rates that hold without a tier.
    let plain = ["standard", "default", "auto", "on_demand", "standard_only", "unspecified"];
    if tier.is_some_and(|tier| !plain.contains(&tier.to_ascii_lowercase().as_str())) {
        mark(&mut cost, &prices.cost(&model, &usage, &standard));
    }
    Ok(cost)
}

/// A usage object and what the reply around it says.
struct Found<'a> {
    json: &'a str,
    object: Object<'a>,
    model: Option<String>,
    service_tier: Option<String>,
}

impl<'a> Found<'a> {
    /// The usage object that `text` is or holds.
    fn within(text: &'a str) -> Result<Self, Error> {
        let whole = Object::parse(text).ok_or_else(|| {
            Error::bad_input(
                "the usage is not a JSON object",
                "give the provider's usage object, or a whole reply",
            )
        })?;
        let string = |object: &Object<'_>, name: &str| object.str(name).map(std::borrow::Cow::into_owned);
        let (mut model, mut tier) = (None, None);
        let (mut json, mut object) = (text, whole);
        // A reply, an event around a reply, or a log line around either.
        for _ in 0..3 {
            model = string(&object, "model").or_else(|| string(&object, "modelVersion")).or(model);
            tier = string(&object, "service_tier").or(tier);
            if COUNTS.iter().any(|(name, _)| object.get(name).is_some()) {
                break;
            }
            let inner = ["usage", "usageMetadata", "message", "response"]
                .into_iter()
                .find_map(|name| object.some(name).and_then(|text| Some((text, Object::parse(text)?))));
            match inner {
                Some(inner) => (json, object) = inner,
                None => break,
            }
        }
        tier = string(&object, "service_tier").or(tier);
        Ok(Self { json, object, model, service_tier: tier })
    }

    /// Whose names the counts have.
    fn dialect(&self) -> Result<Dialect, Error> {
        let has = |name: &str| self.object.get(name).is_some();
        let named = COUNTS.iter().find(|(name, _)| has(name)).map(|(_, dialect)| *dialect);
        let only_input = has("prompt_tokens") && !has("completion_tokens");
        match named {
            // Embeddings have no output to count.
            Some(Dialect::OpenAiChat)
                if only_input && self.object.u64("prompt_tokens") == self.object.u64("total_tokens") =>
            {
                Ok(Dialect::Embeddings)
            }
            // Responses count cached tokens otherwise than Anthropic, under the same names.
            Some(Dialect::AnthropicMessages) if has("input_tokens_details") || has("total_tokens") => {
                Ok(Dialect::OpenAiResponses)
            }
            Some(dialect) => Ok(dialect),
            None => Err(Error::bad_input(
                "the usage holds no token counts of a known API",
                format!("name its format with --dialect ({})", input::names()),
            )),
        }
    }
}

/// Names of counts, and whose they are.
const COUNTS: [(&str, Dialect); 9] = [
    ("prompt_tokens", Dialect::OpenAiChat),
    ("completion_tokens", Dialect::OpenAiChat),
    ("input_tokens", Dialect::AnthropicMessages),
    ("output_tokens", Dialect::AnthropicMessages),
    ("promptTokenCount", Dialect::GeminiGenerate),
    ("candidatesTokenCount", Dialect::GeminiGenerate),
    ("totalTokenCount", Dialect::GeminiGenerate),
    ("prompt_eval_count", Dialect::OllamaChat),
    ("eval_count", Dialect::OllamaChat),
];

/// The bill for people.
pub(crate) fn show(out: &mut Out, cost: &Cost, prices: &PriceTable) -> Result<(), Stop> {
    if !cost.items.is_empty() {
        let mut rows = table(&["item", "count", "per million", "dollars"], 1);
        for item in &cost.items {
            let million =
                item.rate.checked_mul(1_000_000).map_or_else(String::new, |rate| format!("${rate}"));
            let star = if item.fallback { " *" } else { "" };
            rows.add_row([
                item.what.to_owned(),
                grouped(item.count),
                format!("{million}{star}"),
                format!("${}", item.usd),
            ]);
        }
        writeln!(out, "{rows}")?;
        if cost.items.iter().any(|item| item.fallback) {
            writeln!(
                out,
                "* at the rate of its parent or of the standard tier, since the table states none of its own"
            )?;
        }
    }
    match cost.usd {
        Some(usd) => writeln!(out, "${usd} ({}, prices: {})", cost.state.name(), prices.id())?,
        None => writeln!(out, "unknown: {} (prices: {})", why(cost.state), prices.id())?,
    }
    Ok(())
}

/// Why a cost is not known, for people.
pub(crate) fn why(state: CostState) -> &'static str {
    match state {
        CostState::Missing => "the model is not in the price table",
        CostState::Unpriced => "the table has no rate for a part of this usage",
        CostState::UsageUnknown => "the usage is incomplete",
        _ => "no reason is known",
    }
}
