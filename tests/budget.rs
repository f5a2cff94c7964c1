//! What a budget promises, seen from outside.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use thrifty::budget::{Budget, BudgetBuilder, BudgetLayer, Window, worst_case};
use thrifty::call::{Call, Reply, ReplyBody};
use thrifty::clock::ManualClock;
use thrifty::price::{PriceTable, Usd};
use thrifty::receipt::Draft;
use thrifty::{BoxError, Error, Kind};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};

/// Per million tokens: $1 in, $10 out, $1.25 written for a short and $2 for a long time; at most 500 out.
const TABLE: &[u8] = br#"{"mine":{"litellm_provider":"anthropic","mode":"chat","max_output_tokens":500,
    "input_cost_per_token":1e-6,"output_cost_per_token":1e-5,"cache_creation_input_token_cost":1.25e-6,
    "cache_creation_input_token_cost_above_1hr":2e-6,"cache_read_input_token_cost":1e-7}}"#;

fn prices() -> Arc<PriceTable> {
    Arc::new(PriceTable::from_litellm(TABLE).unwrap())
}

fn usd(text: &str) -> Usd {
    text.parse().unwrap()
}

fn of(limit: &str) -> BudgetBuilder {
    Budget::builder().limit(usd(limit)).per(Window::Day).prices(prices()).clock(ManualClock::at_ms(0))
}

fn hard(limit: &str) -> Budget {
    of(limit).hard().build().unwrap()
}

fn chat(rest: &str) -> Call {
    Call::post(
        "https://api.openai.com/v1/chat/completions",
        format!(
            r#"{{"model":"mine","messages":[{{"role":"user","content":"Name a prime above 10."}}]{rest}}}"#
        ),
    )
}

fn capped() -> Call {
    chat(r#","max_completion_tokens":100"#)
}

fn answer() -> String {
    r#"{"id":"c","object":"chat.completion","created":1,"model":"mine","choices":[{"index":0,"message":{"role":"assistant","content":"11"},"finish_reason":"stop"}],"usage":{"prompt_tokens":20,"completion_tokens":2,"total_tokens":22}}"#.to_owned()
}

/// 20 x $1 + 2 x $10, per million.
fn answer_cost() -> Usd {
    usd("0.00004")
}

fn reply(status: u16, body: impl Into<ReplyBody>) -> Reply {
    let mut reply = Reply::new(body.into());
    *reply.status_mut() = http::StatusCode::from_u16(status).unwrap();
    reply
}

#[test]
fn the_reservation_is_the_dearest_way_to_bill_the_call() {
    let prices = prices();
    let at_most = i128::from(u32::try_from(thrifty::tokens::count(&capped()).at_most).unwrap());
    let pico = |call: &Call| worst_case(call, &prices, 0).unwrap().pico();
    let (written, out) = (2_000_000, 10_000_000);
    assert_eq!(pico(&capped()), at_most * written + 100 * out, "a one-hour write is the dearest input");
    let thrice = chat(r#","max_completion_tokens":100,"n":3"#);
    let most = i128::from(u32::try_from(thrifty::tokens::count(&thrice).at_most).unwrap());
    assert_eq!(pico(&thrice), most * written + 300 * out, "each answer may reach the cap");
    let uncapped = chat("");
    let most = i128::from(u32::try_from(thrifty::tokens::count(&uncapped).at_most).unwrap());
    assert_eq!(pico(&uncapped), most * written + 500 * out, "without a cap it is the model's largest output");
    let absurd = chat(r#","max_completion_tokens":18446744073709551615,"n":18446744073709551615"#);
    assert!(hard("1000000").reserve(&absurd).unwrap_err().is_over_limit(), "nothing overflows");
}

#[test]
fn hard_refuses_what_does_not_fit_and_what_has_no_price_and_says_the_way_out() {
    let budget = hard("0.001");
    let refused = budget.reserve(&capped()).unwrap_err();
    assert!(refused.is_over_limit());
    assert!(refused.problem().contains("0.001"), "{refused}");
    let unknown = Call::post(
        "https://api.openai.com/v1/chat/completions",
        r#"{"model":"other","max_tokens":1,"messages":[]}"#,
    );
    assert_eq!(budget.reserve(&unknown).unwrap_err().kind(), Kind::Unpriced);
    assert_eq!(budget.reserve(&Call::post("https://a.b/c", "x")).unwrap_err().kind(), Kind::Unpriced);
    let state = budget.state();
    assert_eq!((state.spent, state.held, state.open, state.refused), (Usd::ZERO, Usd::ZERO, 0, 3));
}

#[test]
fn the_limit_is_hit_exactly_and_not_a_picodollar_beyond() {
    let budget = hard("0.000000000010");
    let tickets: Vec<_> = (0..10).map(|_| budget.reserve_amount(Usd::from_pico(1)).unwrap()).collect();
    assert_eq!(budget.state().left(), Usd::ZERO);
    assert!(budget.reserve_amount(Usd::from_pico(1)).is_err());
    assert!(budget.reserve_amount(Usd::ZERO).is_ok(), "what costs nothing fits a spent budget");
    tickets.into_iter().for_each(|ticket| ticket.settle(None));
    assert_eq!(budget.state().spent, Usd::from_pico(10));
    assert!(budget.reserve_amount(Usd::from_pico(1)).is_err());
}

#[test]
fn a_ticket_ends_once_released_settled_or_charged() {
    let budget = hard("1");
    let one = || budget.reserve_amount(usd("0.1")).unwrap();
    drop(one());
    assert_eq!((budget.state().spent, budget.state().held), (Usd::ZERO, Usd::ZERO), "nothing was sent");
    let mut sent = one();
    sent.dispatch();
    drop(sent);
    assert_eq!(budget.state().spent, usd("0.1"), "lost after it was sent: the reservation is charged");
    let mut sent = one();
    sent.dispatch();
    sent.settle(Some(usd("0.03")));
    assert_eq!(budget.state().spent, usd("0.13"), "settled, and not charged again when it goes out of scope");
    let mut sent = one();
    sent.dispatch();
    sent.release();
    one().settle(None);
    assert_eq!(budget.state().spent, usd("0.23"), "unknown is the reservation, not zero");
    one().settle(Some(usd("0.15")));
    let state = budget.state();
    assert_eq!(
        (state.spent, state.overshoot),
        (usd("0.38"), usd("0.05")),
        "more than reserved is told apart"
    );
    assert_eq!((state.held, state.open), (Usd::ZERO, 0));
}

#[test]
fn a_call_is_settled_in_the_window_that_reserved_it() {
    let clock = ManualClock::at_ms(86_400_000 * 20_000 - 1);
    let budget = of("1").clock(clock.clone()).hard().build().unwrap();
    let late = budget.reserve_amount(usd("0.9")).unwrap();
    assert!(budget.reserve_amount(usd("0.2")).is_err());
    clock.advance(Duration::from_millis(1));
    assert_eq!(budget.state().left(), usd("1"), "a new day");
    let early = budget.reserve_amount(usd("0.2")).unwrap();
    late.settle(Some(usd("0.8")));
    assert_eq!((budget.state().spent, budget.state().held), (Usd::ZERO, usd("0.2")));
    early.settle(Some(usd("0.1")));
    clock.set_ms(0);
    assert_eq!(budget.state().spent, usd("0.1"), "a clock that is set back opens no fresh window");
}

#[test]
fn soft_lets_through_and_says_so() {
    let budget = of("0.001").soft().build().unwrap();
    let over = budget.reserve(&capped()).unwrap();
    assert!(over.is_over_limit());
    over.settle(Some(usd("0.002")));
    let unknown = Call::post("https://a.b/v1/chat/completions", r#"{"model":"other","messages":[]}"#);
    let unpriced = budget.reserve(&unknown).unwrap();
    assert_eq!(unpriced.worst(), None);
    unpriced.settle(None);
    let state = budget.state();
    assert_eq!((state.spent, state.unpriced, state.open), (usd("0.002"), 1, 0));
}

#[test]
fn eight_threads_with_lost_tickets_never_overspend_and_the_sums_are_exact() {
    // A share of the calls fits only because others were released or settled for less.
    let budget = hard("0.000000040000");
    let (truth, most) = (AtomicU64::new(0), AtomicU64::new(0));
    let (truth, most) = (&truth, &most);
    std::thread::scope(|scope| {
        for thread in 0..8u64 {
            let budget = budget.clone();
            scope.spawn(move || {
                let mut seed = thread.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
                for _ in 0..2_000 {
                    seed ^= seed << 13;
                    seed ^= seed >> 7;
                    seed ^= seed << 17;
                    let worst = seed % 10 + 1;
                    let Ok(mut ticket) = budget.reserve_amount(Usd::from_pico(i128::from(worst))) else {
                        continue;
                    };
                    let state = budget.state();
                    let used = (state.spent + state.held).pico();
                    most.fetch_max(u64::try_from(used).unwrap(), Ordering::Relaxed);
                    match seed >> 32 & 7 {
                        // Lost before it was sent.
                        0 => drop(ticket),
                        // Lost after it was sent.
                        1 => {
                            ticket.dispatch();
                            truth.fetch_add(worst, Ordering::Relaxed);
                        }
                        2 => {
                            truth.fetch_add(worst, Ordering::Relaxed);
                            ticket.settle(None);
                        }
                        _ => {
                            let actual = seed >> 40 & 0xff_ffff;
                            let actual = actual % (worst + 1);
                            truth.fetch_add(actual, Ordering::Relaxed);
                            ticket.dispatch();
                            ticket.settle(Some(Usd::from_pico(i128::from(actual))));
                        }
                    }
                }
            });
        }
    });
    let state = budget.state();
    let spent = u64::try_from(state.spent.pico()).unwrap();
    assert_eq!(spent, truth.load(Ordering::Relaxed), "to the last picodollar");
    assert_eq!((state.held, state.open, state.overshoot), (Usd::ZERO, 0, Usd::ZERO));
    assert!(most.load(Ordering::Relaxed) <= 40_000, "overspend is 0");
    assert!(state.refused > 0, "the limit was reached: {state:?}");
    // No refusal while there is room, none beyond.
    let left = state.left().pico();
    let rest: Vec<_> = (0..left).map(|_| budget.reserve_amount(Usd::from_pico(1)).unwrap()).collect();
    assert!(budget.reserve_amount(Usd::from_pico(1)).is_err());
    drop(rest);
}

#[tokio::test]
async fn a_refused_call_never_reaches_the_provider() {
    let calls = Arc::new(AtomicU64::new(0));
    let seen = calls.clone();
    let provider = service_fn(move |_: Call| {
        seen.fetch_add(1, Ordering::Relaxed);
        async { Ok::<_, BoxError>(reply(200, answer())) }
    });
    let service = BudgetLayer::new(hard("0.001")).layer(provider);
    for _ in 0..3 {
        let refused = service.clone().oneshot(capped()).await.unwrap_err();
        assert!(Error::find(&*refused).is_some_and(Error::is_over_limit));
    }
    assert_eq!(calls.load(Ordering::Relaxed), 0);
}

/// A provider that always answers this, behind this budget.
async fn after(
    budget: &Budget,
    answer: impl Fn() -> Result<Reply, BoxError> + Clone,
) -> Result<Reply, BoxError> {
    // The answer is made beforehand, so that the future holds nothing borrowed.
    let answer = Arc::new(Mutex::new(Some(answer())));
    let provider = service_fn(move |_: Call| {
        let answer = answer.lock().unwrap().take().expect("one call");
        async move { answer }
    });
    BudgetLayer::new(budget.clone()).layer(provider).oneshot(capped()).await
}

fn spent(budget: &Budget) -> Usd {
    assert_eq!((budget.state().held, budget.state().open), (Usd::ZERO, 0), "nothing is left open");
    budget.state().spent
}

#[tokio::test]
async fn a_whole_reply_is_settled_at_its_own_counts_and_refusals_at_nothing() {
    let worst = worst_case(&capped(), &prices(), 0).unwrap();
    let budget = hard("1");
    let passed = after(&budget, || Ok(reply(200, answer()))).await.unwrap();
    assert_eq!(passed.into_body().bytes().await.unwrap(), answer());
    assert_eq!(spent(&budget), answer_cost());
    for (status, body, charged, why) in [
        (200, "<html>", worst, "no counts: the reservation, not zero"),
        (429, "{}", Usd::ZERO, "refused"),
        (500, "{}", Usd::ZERO, "failed"),
        (504, "{}", worst, "nobody knows what was done behind the gateway"),
    ] {
        let budget = hard("1");
        let passed = after(&budget, || Ok(reply(status, body))).await.unwrap();
        assert_eq!(passed.status().as_u16(), status);
        assert_eq!(spent(&budget), charged, "{status}: {why}");
    }
    let io = |kind: std::io::ErrorKind| move || Err(BoxError::from(std::io::Error::from(kind)));
    let budget = hard("1");
    assert!(after(&budget, io(std::io::ErrorKind::ConnectionRefused)).await.is_err());
    assert_eq!(spent(&budget), Usd::ZERO, "nothing was sent");
    assert!(after(&budget, io(std::io::ErrorKind::ConnectionReset)).await.is_err());
    assert_eq!(spent(&budget), worst, "it may have been answered");
}

/// A body of these frames; the last one may be an error.
fn frames(frames: Vec<Result<&'static str, &'static str>>) -> ReplyBody {
    let frames = frames
        .into_iter()
        .map(|frame| frame.map(|text| Frame::data(Bytes::from(text))).map_err(BoxError::from));
    ReplyBody::stream(StreamBody::new(futures_util::stream::iter(frames)))
}

const CHUNKS: [&str; 3] = [
    "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"mine\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"11\"},\"finish_reason\":null}]}\n\n",
    "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"mine\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":20,\"completion_tokens\":2,\"total_tokens\":22}}\n\n",
    "data: [DONE]\n\n",
];

fn stream(body: ReplyBody) -> Reply {
    let mut reply = reply(200, body);
    reply.headers_mut().insert("content-type", http::HeaderValue::from_static("text/event-stream"));
    reply
}

#[tokio::test]
async fn a_stream_is_settled_at_its_end_and_a_caller_who_leaves_pays_the_reservation() {
    let worst = worst_case(&capped(), &prices(), 0).unwrap();
    let whole = || Ok(stream(frames(CHUNKS.into_iter().map(Ok).collect())));
    let budget = hard("1");
    let passed = after(&budget, whole).await.unwrap();
    assert_eq!(budget.state().held, worst, "held until the body ends");
    assert_eq!(passed.into_body().bytes().await.unwrap(), CHUNKS.concat());
    assert_eq!(spent(&budget), answer_cost());

    let budget = hard("1");
    let mut body = after(&budget, whole).await.unwrap().into_body();
    body.frame().await.unwrap().unwrap();
    drop(body);
    assert_eq!(spent(&budget), worst, "left in the middle");

    let budget = hard("1");
    let mut body = after(&budget, whole).await.unwrap().into_body();
    for _ in CHUNKS {
        body.frame().await.unwrap().unwrap();
    }
    drop(body);
    assert_eq!(spent(&budget), answer_cost(), "left at the end marker, as many clients do");

    let budget = hard("1");
    let broken = || Ok(stream(frames(vec![Ok(CHUNKS[0]), Err("reset")])));
    assert!(after(&budget, broken).await.unwrap().into_body().bytes().await.is_err());
    assert_eq!(spent(&budget), worst, "broke off");
}

#[tokio::test]
async fn a_document_that_arrives_in_frames_is_settled_at_its_own_counts() {
    let budget = hard("1");
    let passed = after(&budget, || {
        let text: &'static str = answer().leak();
        let (left, right) = text.split_at(40);
        Ok(reply(200, frames(vec![Ok(left), Ok(right)])))
    })
    .await
    .unwrap();
    assert_eq!(passed.into_body().bytes().await.unwrap(), answer());
    assert_eq!(spent(&budget), answer_cost());
}

#[tokio::test]
async fn a_call_that_waits_for_its_turn_is_released_when_it_is_dropped() {
    let budget = hard("1");
    let never = service_fn(|_: Call| std::future::pending::<Result<Reply, BoxError>>());
    let mut service =
        ServiceBuilder::new().layer(BudgetLayer::new(budget.clone())).concurrency_limit(1).service(never);
    let mut running = service.ready().await.unwrap().call(capped());
    let mut waiting = service.ready().await.unwrap().call(capped());
    assert!(futures_util::poll!(&mut running).is_pending() && futures_util::poll!(&mut waiting).is_pending());
    let worst = worst_case(&capped(), &prices(), 0).unwrap();
    assert_eq!(budget.state().open, 2);
    drop(waiting);
    assert_eq!((budget.state().held, budget.state().spent), (worst, Usd::ZERO), "it was never sent");
    drop(running);
    assert_eq!(spent(&budget), worst, "it was sent");
}

#[tokio::test]
async fn a_soft_budget_notes_on_the_receipt_what_it_let_through() {
    let budget = of("0.001").soft().build().unwrap();
    let provider = service_fn(|_: Call| async { Ok::<_, BoxError>(reply(200, answer())) });
    let (mut call, draft) = (capped(), Draft::default());
    call.parts.extensions.insert(draft.clone());
    BudgetLayer::new(budget.clone()).layer(provider).oneshot(call).await.unwrap();
    assert_eq!(draft.peek().notes, ["over the spending limit"]);
    assert_eq!(spent(&budget), answer_cost());
}

#[test]
fn settings_that_make_no_sense_are_refused_at_the_start() {
    assert!(Budget::builder().build().is_err(), "without a limit");
    assert!(Budget::builder().limit(Usd::from_pico(-1)).build().is_err());
}

#[tokio::test]
async fn a_check_for_calls_not_sent_that_panics_charges_the_reservation() {
    let budget = hard("1");
    let layer = BudgetLayer::new(budget.clone()).nothing_sent_when(|_| panic!("on purpose"));
    let broken = service_fn(|_: Call| async { Err::<Reply, BoxError>("reset by peer".into()) });
    let error = layer.layer(broken).oneshot(capped()).await.unwrap_err();
    assert_eq!(error.to_string(), "reset by peer", "the caller gets the provider's error");
    assert_ne!(budget.state().spent, Usd::ZERO, "something may have been sent");
}
