//! A day of a support bot in small: the same calls on every machine, in the same order.

use http::HeaderValue;
use http::header::AUTHORIZATION;
use thrifty::call::json::quote;
use thrifty::call::{Call, Options};
use thrifty::testing::Scripted;

/// The model the bot's author chose for everything.
pub(crate) const MODEL: &str = "gpt-4.1";
/// The model that is good enough for titles and labels.
pub(crate) const SMALL: &str = "gpt-4.1-mini";

/// Calls that are made one after the other, or all at once.
pub(crate) struct Phase {
    pub(crate) calls: Vec<Call>,
    pub(crate) at_once: bool,
}

const TITLE: &str = "title";
const LABEL: &str = "label";
const REPORT: &str = "report";

const QUESTIONS: [&str; 12] = [
    "Where is my parcel?",
    "How do I send something back?",
    "When do I get my money back?",
    "Can I change the delivery address?",
    "Do you ship to Norway?",
    "My discount code does not work.",
    "How do I cancel an order?",
    "Is the blue jacket coming back in size M?",
    "Which payment methods do you take?",
    "I was charged twice, what now?",
    "How long is the warranty on shoes?",
    "Can I pick my order up in a shop?",
];

const TOPICS: [&str; 12] = [
    "parcels",
    "returns",
    "refunds",
    "addresses",
    "shipping abroad",
    "discount codes",
    "cancellations",
    "stock",
    "payments",
    "double charges",
    "warranties",
    "pick-up in a shop",
];

/// The rules that stand in front of every conversation of the bot: some 1,500 tokens.
fn rules() -> String {
    let mut rules =
        String::from("You are the support bot of a shop for outdoor clothes. Be brief, kind and exact.\n");
    for (i, topic) in TOPICS.iter().enumerate() {
        rules.push_str(&format!(
            "Rule {n} ({topic}): look the customer's order up before you say anything about {topic}. Say what you \
             found, what happens next and by which day. If the order is older than {days} days, or costs more than \
             {euros} euros, or the customer asks for a person, hand the case over to the team for {topic} with a \
             summary of at most three sentences. Never promise a refund that the order system has not confirmed. \
             Never name other customers, internal prices or the name of the carrier's driver.\n",
            n = i + 1,
            days = 14 + i * 3,
            euros = 100 + i * 25,
        ));
    }
    rules
}

fn call(body: String, options: Options) -> Call {
    let mut call = Call::post("https://api.openai.com/v1/chat/completions", body).with(options);
    call.parts.headers.insert(AUTHORIZATION, HeaderValue::from_static("Bearer sk-of-the-demo"));
    call
}

fn message(role: &str, content: &str) -> String {
    format!(r#"{{"role":"{role}","content":{}}}"#, quote(content))
}

fn chat(messages: &[String], more: &str) -> String {
    format!(r#"{{"model":"{MODEL}",{more}"messages":[{}]}}"#, messages.join(","))
}

/// The whole workload, 152 calls.
pub(crate) fn phases() -> Vec<Phase> {
    let one_by_one = |calls| Phase { calls, at_once: false };
    vec![
        one_by_one(questions()),
        Phase { calls: burst(), at_once: true },
        one_by_one(agent()),
        one_by_one(titles()),
        one_by_one(labels()),
        one_by_one(streams()),
        one_by_one(reports()),
    ]
}

/// Customers ask the same few things, some of them more often than others.
fn questions() -> Vec<Call> {
    let rules = message("system", &rules());
    let asked = (0..60).map(|i: usize| QUESTIONS[(i * i + i / 3) % QUESTIONS.len()]);
    asked
        .map(|question| call(chat(&[rules.clone(), message("user", question)], ""), Options::new()))
        .collect()
}

/// A shop goes down, and sixteen customers ask why within the same second.
fn burst() -> Vec<Call> {
    let body = chat(&[message("system", &rules()), message("user", "Is your website down?")], "");
    (0..16).map(|_| call(body.clone(), Options::new())).collect()
}

/// An agent works on one case with a tool. Each turn sends all that was said before once more.
fn agent() -> Vec<Call> {
    let tools = r#""tools":[{"type":"function","function":{"name":"look_up_order","description":"Finds an order and its history","parameters":{"type":"object","properties":{"order":{"type":"string","description":"Number of the order"}},"required":["order"]}}}],"#;
    let mut messages = vec![message("system", &rules())];
    let mut calls = Vec::new();
    for turn in 0..12 {
        let order = 48_213 + turn * 7;
        messages.push(message("user", &format!("And what about order {order}, customer {}?", 300 + turn)));
        calls.push(call(chat(&messages, tools), Options::new().tag("agent")));
        messages.push(format!(
            r#"{{"role":"assistant","content":null,"tool_calls":[{{"id":"call_{turn}","type":"function","function":{{"name":"look_up_order","arguments":"{{\"order\":\"{order}\"}}"}}}}]}}"#
        ));
        let history: String = (0..30)
            .map(|step| {
                format!("2026-11-{:02} {:02}:15 order {order} step {step}: parcel scanned at hub {}, weight 1.{} kg\n",
                    1 + step % 24, step % 24, 11 + (step * 7 + turn) % 80, step % 10)
            })
            .collect();
        messages
            .push(format!(r#"{{"role":"tool","tool_call_id":"call_{turn}","content":{}}}"#, quote(&history)));
        calls.push(call(chat(&messages, tools), Options::new().tag("agent")));
        messages.push(message(
            "assistant",
            &format!("Order {order} was last scanned at its hub and arrives tomorrow."),
        ));
    }
    calls
}

/// Conversations get a title, which takes no large model.
fn titles() -> Vec<Call> {
    let ask = "Give this conversation a title of at most six words.";
    (0..24)
        .map(|i| {
            let said =
                format!("Conversation {i}: {} It is about {}.", QUESTIONS[i % 12], TOPICS[(i * 5) % 12]);
            call(
                chat(&[message("system", ask), message("user", &said)], ""),
                Options::new().tag(TITLE).cap(32),
            )
        })
        .collect()
}

/// Mails get a label; the same mail is often sent twice.
fn labels() -> Vec<Call> {
    let ask = "Answer with one word: question, complaint, praise or spam.";
    (0..20)
        .map(|i| {
            let mail = format!("Mail {}: {}", i % 14, QUESTIONS[(i % 14 * 5) % 12]);
            call(
                chat(&[message("system", ask), message("user", &mail)], ""),
                Options::new().tag(LABEL).cap(16),
            )
        })
        .collect()
}

/// Answers that are shown while they are written.
fn streams() -> Vec<Call> {
    let rules = message("system", &rules());
    let more = r#""stream":true,"stream_options":{"include_usage":true},"#;
    [0, 3, 6, 0, 3, 6]
        .into_iter()
        .map(|i: usize| call(chat(&[rules.clone(), message("user", QUESTIONS[i])], more), Options::new()))
        .collect()
}

/// Two answers that would go on for pages if nobody stopped them.
fn reports() -> Vec<Call> {
    ["Write down everything you know about jackets.", "Write down everything you know about shoes."]
        .into_iter()
        .map(|ask| call(chat(&[message("user", ask)], ""), Options::new().tag(REPORT)))
        .collect()
}

/// How the embedded upstream answers some of the calls; the others it answers by itself.
pub(crate) fn answer(call: &Call) -> Option<Scripted> {
    let tag = Options::among(&call.parts.extensions)?.tag.clone()?;
    let hash = blake3::hash(call.doc.get("messages").unwrap_or_default().as_bytes());
    let drawn = usize::from(hash.as_bytes()[0]);
    match &*tag {
        TITLE => Some(Scripted::text(format!("A customer asks about {}", TOPICS[drawn % TOPICS.len()]))),
        LABEL => Some(Scripted::text(["question", "complaint", "praise", "spam"][drawn % 4])),
        REPORT => Some(Scripted::text("It depends on the weather, the colour and the season. ".repeat(160))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workload_is_the_same_each_time_and_as_long_as_it_says() {
        let bodies = || -> Vec<_> {
            phases().into_iter().flat_map(|phase| phase.calls).map(|call| call.doc.into_bytes()).collect()
        };
        assert_eq!(bodies().len(), 152);
        assert_eq!(bodies(), bodies());
    }
}
