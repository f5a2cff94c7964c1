use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body::Frame;
use http_body_util::BodyExt;

use super::*;
use crate::call::{Reply, ReplyBody};
use crate::{BoxError, Error, Kind};

fn limits() -> Limits {
    let grace = OrphanPolicy::Grace(Duration::from_millis(20));
    Limits { orphaned_call: grace, orphaned_stream: grace, ..Limits::default() }
}

fn flights() -> Flights {
    Flights::new(1 << 20)
}

fn key() -> FlightKey {
    (CacheKey::from_bytes([7; 32]), 0, None)
}

async fn run(lead: Lead, call: impl Future<Output = Result<Reply, BoxError>> + Send + 'static) {
    lead.run(call, limits(), |_| {}, |_, _| {}).await;
}

#[tokio::test]
async fn ten_thousand_callers_make_one_call() {
    let (flights, calls) = (flights(), Arc::new(AtomicUsize::new(0)));
    let mut callers = Vec::new();
    for _ in 0..10_000 {
        let seat = match flights.join_or_lead(key(), &limits()) {
            Role::Lead(lead, seat) => {
                let calls = calls.clone();
                tokio::spawn(run(lead, async move {
                    calls.fetch_add(1, Ordering::SeqCst);
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    Ok(Reply::new("answer".into()))
                }));
                seat
            }
            Role::Join(seat) => seat,
            Role::Full => panic!("the bound is not reached"),
        };
        callers.push(tokio::spawn(seat.reply()));
    }
    for caller in callers {
        let reply = caller.await.unwrap().unwrap();
        assert_eq!(reply.into_body().complete().unwrap(), "answer");
    }
    assert_eq!(calls.load(Ordering::SeqCst), 1, "identical callers made more than one call");
    assert_eq!(flights.len(), 0, "a flight was left on the map");
}

#[tokio::test]
async fn a_flight_whose_task_panics_tells_its_callers_and_leaves_the_map() {
    let flights = flights();
    let Role::Lead(lead, seat) = flights.join_or_lead(key(), &limits()) else { panic!("the first leads") };
    let task = tokio::spawn(run(lead, async { panic!("upstream code broke") }));
    let error = seat.reply().await.unwrap_err();
    assert_eq!(Error::find(&*error).map(Error::kind), Some(Kind::Upstream));
    assert!(task.await.is_err());
    assert_eq!(flights.len(), 0);
}

#[tokio::test]
async fn a_flight_left_by_all_ends_after_the_grace_time() {
    let flights = flights();
    let Role::Lead(lead, seat) = flights.join_or_lead(key(), &limits()) else { panic!("the first leads") };
    let task = tokio::spawn(run(lead, std::future::pending()));
    drop(seat);
    task.await.unwrap();
    assert_eq!(flights.len(), 0);
}

#[tokio::test]
async fn a_late_joiner_gets_a_stream_from_its_start() {
    let flights = flights();
    let Role::Lead(lead, first) = flights.join_or_lead(key(), &limits()) else { panic!("the first leads") };
    let (tx, rx) = tokio::sync::mpsc::channel::<Bytes>(1);
    let body = ReplyBody::stream(http_body_util::StreamBody::new(futures_util::stream::unfold(
        rx,
        |mut rx| async {
            let frame = rx.recv().await?;
            Some((Ok::<_, BoxError>(Frame::data(frame)), rx))
        },
    )));
    tokio::spawn(run(lead, async { Ok(Reply::new(body)) }));
    tx.send("one ".into()).await.unwrap();
    let mut first = first.reply().await.unwrap().into_body();
    assert_eq!(first.frame().await.unwrap().unwrap().into_data().unwrap(), "one ");
    let Role::Join(late) = flights.join_or_lead(key(), &limits()) else { panic!("the flight is under way") };
    let late = tokio::spawn(async { late.reply().await.unwrap().into_body().bytes().await.unwrap() });
    tx.send("two".into()).await.unwrap();
    drop(tx);
    assert_eq!(first.bytes().await.unwrap(), "two");
    assert_eq!(late.await.unwrap(), "one two");
}
