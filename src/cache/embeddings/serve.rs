//! The way of a batch through the cache.

use std::sync::Arc;

use http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use tower_service::Service;

use super::super::entry::Entry;
use super::super::flight::{Lead, Role, Seat};
use super::super::freshness::{Age, Wish};
use super::super::key::CacheKey;
use super::super::layer::Core;
use super::super::numbers::Tier;
use super::super::purge::Since;
use super::super::recall::Slot;
use super::super::render::render;
use super::super::service::{CacheFuture, not_cached, note_hit};
use super::super::status::{self, Sent as Went, is_silent, sent};
use super::parcel::{Brought, Parcel, Sent, bring, lost, send};
use super::plan::Plan;
use crate::call::{CacheMode, Call, Detour, Options, Reply, ReplyBody};
use crate::dialect::embeddings::batch;
use crate::dialect::{Finish, Usage};
use crate::price::Usd;
use crate::receipt::{self, Receipt, Rejected, Served, Stated};
use crate::{BoxError, Error};

/// The answer to one question, and where it came from.
#[derive(Clone)]
struct Found {
    entry: Arc<Entry>,
    from: Served,
}

/// Answers a batch: at once if memory knows it all.
pub(in crate::cache) fn serve<S>(
    core: &Arc<Core>,
    inner: &S,
    call: Call,
    plan: Plan,
    mode: CacheMode,
) -> CacheFuture
where
    S: Service<Call, Response = Reply> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
{
    if let Some(slot) = Slot::of(&call) {
        // Only a call of one input has one entry that is the whole answer.
        let whole = plan.order.len() == 1 && call.parts.extensions.get::<Detour>().is_none();
        slot.set(whole.then(|| plan.keys[0]));
    }
    let wish = core.wish(&call, Options::among(&call.parts.extensions));
    let (found, since) = (vec![None; plan.keys.len()], Since::default());
    let mut batch = Batch {
        core: core.clone(),
        inner: inner.clone(),
        since,
        call,
        plan,
        mode,
        wish,
        found,
        moved: false,
    };
    if mode.reads() {
        batch.look_in_memory();
    }
    if batch.found.iter().all(Option::is_some) && !batch.differs() {
        return CacheFuture::done(Ok(batch.put_together(None)));
    }
    CacheFuture::boxed(async move { batch.answer().await })
}

/// A batch on its way.
struct Batch<S> {
    core: Arc<Core>,
    inner: S,
    call: Call,
    plan: Plan,
    mode: CacheMode,
    /// The age of answers this call takes.
    wish: Wish,
    /// Purges before anything was sent.
    since: Since,
    found: Vec<Option<Found>>,
    /// Some of it is known from a former model alone.
    moved: bool,
}

/// What was paid for by this call.
#[derive(Default)]
struct Paid {
    sent: Option<Arc<Result<Sent, Error>>>,
    usage: Option<Usage>,
    cost: Usd,
    stored: bool,
    note: Option<&'static str>,
}

impl<S> Batch<S>
where
    S: Service<Call, Response = Reply> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
{
    async fn answer(&mut self) -> Result<Reply, BoxError> {
        if self.mode.reads() {
            self.look_on_disk().await;
        }
        // Vectors of two models have nothing to do with each other. Those of the older answer are asked for anew.
        let stale = self.drop_older_models();
        if self.found.iter().all(Option::is_some) {
            return Ok(self.put_together(None));
        }
        if self.mode == CacheMode::OnlyIfCached {
            return Err(not_cached("miss").into());
        }
        self.since = Since::of(&self.core, &self.call);
        let missing = self.missing();
        let (mine, leads, joined) = self.take_places(&missing, &stale);
        let asked: Arc<[CacheKey]> = missing.iter().map(|question| self.plan.keys[*question]).collect();

        let mut paid = Paid::default();
        if !mine.is_empty()
            && let Some(reply) = self.ask(&mine, leads, &mut paid).await?
        {
            return Ok(reply);
        }
        let mut again = Vec::new();
        // What failed for another credential need not fail for this one.
        let is_shared = self.core.scope_of(Options::among(&self.call.parts.extensions)).is_shared();
        for (question, seat) in joined {
            let mut reply = match seat.with_whole_head().reply().await {
                Ok(reply) => reply,
                Err(error) if !is_shared => return Err(error),
                Err(_) => {
                    again.push(question);
                    continue;
                }
            };
            match reply.extensions_mut().remove::<Brought>() {
                Some(Brought::Entry(entry)) => {
                    self.found[question] = Some(Found { entry, from: Served::Flight });
                }
                // The same inputs, the same failure. Other inputs may have been what was wrong with theirs.
                Some(Brought::Failure { keys, how }) if keys == asked && mine.is_empty() && !is_shared => {
                    match &*how {
                        Err(error) => return Err(error.clone().into()),
                        Ok(sent) if self.may_pass(sent, &missing) => {
                            self.core.numbers.joined();
                            self.note(|receipt| receipt.served = Served::Flight);
                            return Ok(status::sent(sent.joined(), Went::Collapsed, is_shared));
                        }
                        Ok(_) => again.push(question),
                    }
                }
                _ => again.push(question),
            }
        }
        if !again.is_empty() {
            let leads = self.free_flights(&again);
            if let Some(reply) = self.ask(&again, leads, &mut paid).await? {
                return Ok(reply);
            }
        }
        if self.differs() {
            return self.ask_whole(&paid, "another model answered than before").await;
        }
        Ok(self.put_together(Some(&paid)))
    }

    fn look_in_memory(&mut self) {
        let now_ms = self.core.clock.now_ms();
        for (found, key) in self.found.iter_mut().zip(&self.plan.keys) {
            let entry = self.core.tiers.get_memory(key, now_ms);
            *found = entry.map(|entry| Found { entry, from: Served::Memory });
        }
        self.keep_good();
    }

    async fn look_on_disk(&mut self) {
        for (found, key) in self.found.iter_mut().zip(&self.plan.keys) {
            if found.is_none() {
                let entry = self.core.tiers.get_disk(key, self.core.clock.now_ms()).await;
                if let Some(entry) = &entry {
                    self.core.learn_model(&self.call, entry);
                }
                *found = entry.map(|entry| Found { entry, from: Served::Disk });
            }
        }
        // What was read may tell that the name has moved.
        self.wish = self.wish.clone().by(self.core.present(&self.call));
        self.keep_good();
    }

    /// Forgets what this call may not have.
    fn keep_good(&mut self) {
        for found in &mut self.found {
            let age = found.as_ref().map(|found| self.core.judge(&found.entry, &self.wish));
            self.moved |= age == Some(Age::Moved);
            if age.is_some_and(|age| age != Age::Good) {
                *found = None;
            }
        }
    }

    /// A place at the flight of each question: those to be sent, the flights this call leads (by place among those
    /// to be sent), and those it joined.
    #[expect(clippy::type_complexity, reason = "three lists, named where they are taken apart")]
    fn take_places(
        &mut self,
        missing: &[usize],
        stale: &[bool],
    ) -> (Vec<usize>, Vec<(usize, Lead)>, Vec<(usize, Seat)>) {
        let (mut mine, mut leads, mut joined) = (Vec::new(), Vec::new(), Vec::new());
        let flight = |question: &usize| (self.plan.keys[*question], self.since.epoch, None);
        let roles: Vec<Role> = match self.mode {
            // What it brings is not stored, so nobody may count on it: it shares no flight.
            CacheMode::ReadOnly => missing.iter().map(|_| Role::Full).collect(),
            // A call that wants a new answer must not get that of a flight begun before it came.
            CacheMode::NoCache => {
                let anew = |key| self.core.flights.lead_anew(key);
                missing.iter().map(flight).map(anew).map(|(lead, seat)| Role::Lead(lead, seat)).collect()
            }
            _ => self.core.flights.join_or_lead_all(missing.iter().map(flight), &self.core.limits),
        };
        for (question, role) in missing.iter().copied().zip(roles) {
            match role {
                Role::Lead(lead, _) => {
                    // A flight stores before it leaves the map. So between the first look and the lead the answer
                    // may have come; without a second look it would be paid for again.
                    if self.mode.reads()
                        && !stale[question]
                        && let Some(entry) = self.core.remembered(&self.plan.keys[question], &self.wish)
                    {
                        bring(lead, Brought::Entry(entry.clone()));
                        self.found[question] = Some(Found { entry, from: Served::Memory });
                        continue;
                    }
                    leads.push((mine.len(), lead));
                    mine.push(question);
                }
                Role::Join(seat) => joined.push((question, seat)),
                Role::Full => mine.push(question),
            }
        }
        (mine, leads, joined)
    }

    /// The flights of these questions that nobody has begun meanwhile, by place.
    fn free_flights(&self, questions: &[usize]) -> Vec<(usize, Lead)> {
        let keys = questions.iter().map(|question| (self.plan.keys[*question], self.since.epoch, None));
        let roles = self.core.flights.join_or_lead_all(keys, &self.core.limits).into_iter().enumerate();
        roles
            .filter_map(|(place, role)| match role {
                Role::Lead(lead, _) => Some((place, lead)),
                Role::Join(_) | Role::Full => None,
            })
            .collect()
    }

    /// Sends these questions and takes the answers; a reply if there is nothing to put together.
    async fn ask(
        &mut self,
        questions: &[usize],
        leads: Vec<(usize, Lead)>,
        paid: &mut Paid,
    ) -> Result<Option<Reply>, BoxError> {
        let narrowed = self.plan.narrow(&self.call, questions);
        let as_it_came = narrowed.is_none();
        let parcel = Parcel {
            call: narrowed.unwrap_or_else(|| self.call.clone()),
            keys: questions.iter().map(|question| self.plan.keys[*question]).collect(),
            leads,
            since: self.since,
            why: self.why(),
        };
        let answer = send(self.core.clone(), self.inner.clone(), parcel).await.map_err(|_| lost())?;
        let sent = match &*answer {
            Ok(sent) if sent.parts.status.is_success() => sent,
            failed => {
                // What was paid for before comes to nothing with it.
                self.reject(paid, "the rest of the inputs failed");
                return match failed {
                    Ok(sent) => Ok(Some(self.pass(sent))),
                    Err(error) => Err(error.clone().into()),
                };
            }
        };
        paid.add(sent, &answer);
        match &sent.entries {
            Ok(entries) => {
                for (question, entry) in questions.iter().zip(entries) {
                    let found = Found { entry: entry.clone(), from: Served::Upstream };
                    self.found[*question] = Some(found);
                }
                Ok(as_it_came.then(|| self.pass(sent)))
            }
            Err(_) if as_it_came => Ok(Some(self.pass(sent))),
            // Passed on, it would be a good answer to another call than the caller's.
            Err(why) => self.ask_whole(paid, why).await.map(Some),
        }
    }

    /// Sends the call as it came, after answers that could not be used were paid for.
    async fn ask_whole(&mut self, paid: &Paid, why: &str) -> Result<Reply, BoxError> {
        self.reject(paid, why);
        // Its answers take the place of what is known and of what is on its way.
        let anew = |(question, place): (usize, &usize)| {
            (*place, self.core.flights.lead_anew((self.plan.keys[question], self.since.epoch, None)).0)
        };
        let leads = match self.mode {
            CacheMode::ReadOnly => Vec::new(),
            _ => self.plan.first.iter().enumerate().map(anew).collect(),
        };
        let parcel = Parcel {
            call: self.call.clone(),
            keys: self.plan.order.iter().map(|question| self.plan.keys[*question]).collect(),
            leads,
            since: self.since,
            why: self.why(),
        };
        let answer = send(self.core.clone(), self.inner.clone(), parcel).await.map_err(|_| lost())?;
        match &*answer {
            Ok(sent) => Ok(self.pass(sent)),
            Err(error) => Err(error.clone().into()),
        }
    }

    /// Says that what was paid for is not what the caller gets.
    fn reject(&self, paid: &Paid, why: &str) {
        if paid.sent.is_some() {
            let model = self.call.model().unwrap_or_default();
            let rejected = Rejected::new(model, Served::Upstream, paid.usage, why.to_owned());
            self.note(|receipt| receipt.rejected.push(rejected));
        }
    }

    /// The reply as it came.
    fn pass(&self, sent: &Sent) -> Reply {
        self.note(|receipt| {
            receipt.served = Served::Upstream;
            receipt.stored = sent.stored.is_ok();
            receipt.cache_note = sent.stored.err();
            receipt.inputs = self.plan.order.len() as u64;
            receipt.inputs_known = 0;
        });
        status::sent(sent.reply(), self.went(), is_silent(&self.core, &self.call))
    }

    /// Why this call sends what it sends.
    fn went(&self) -> Went {
        if self.mode.reads() { Went::Miss } else { Went::Request }
    }

    /// The same for the figures.
    fn why(&self) -> &'static str {
        match (self.mode.reads(), self.moved) {
            (false, _) => "asked",
            (true, true) => "model-moved",
            (true, false) => "absent",
        }
    }

    /// Whether a failed reply to these questions is one to this call, too.
    fn may_pass(&self, sent: &Sent, questions: &[usize]) -> bool {
        !sent.parts.status.is_success() || self.plan.narrow(&self.call, questions).is_none()
    }

    fn missing(&self) -> Vec<usize> {
        (0..self.found.len()).filter(|question| self.found[*question].is_none()).collect()
    }

    fn newest(&self) -> Option<&Arc<Entry>> {
        self.found.iter().flatten().map(|found| &found.entry).max_by_key(|entry| entry.created_ms)
    }

    fn differs(&self) -> bool {
        let mut models = self.found.iter().flatten().map(|found| &found.entry.outcome.model);
        models.next().is_some_and(|first| models.any(|model| model != first))
    }

    fn drop_older_models(&mut self) -> Vec<bool> {
        let model = self.newest().map(|entry| entry.outcome.model.clone());
        let older = |found: &Option<Found>| {
            found.as_ref().is_some_and(|found| Some(&found.entry.outcome.model) != model.as_ref())
        };
        let stale: Vec<bool> = self.found.iter().map(older).collect();
        self.moved |= stale.contains(&true);
        for (found, stale) in self.found.iter_mut().zip(&stale) {
            if *stale {
                *found = None;
            }
        }
        stale
    }

    /// The reply to the whole call, all questions being answered, and what the receipt says of it.
    fn put_together(&self, paid: Option<&Paid>) -> Reply {
        let Self { core, call, plan, .. } = self;
        let found: Vec<&Found> = plan.order.iter().filter_map(|at| self.found[*at].as_ref()).collect();
        let served = if paid.is_some_and(|paid| paid.sent.is_some()) {
            Served::Upstream
        } else {
            // The slowest of the places: flight, disk, memory.
            [Served::Flight, Served::Disk]
                .into_iter()
                .find(|from| found.iter().any(|found| found.from == *from))
                .unwrap_or(Served::Memory)
        };
        match served {
            Served::Memory => core.numbers.hit(Tier::Memory),
            Served::Disk => core.numbers.hit(Tier::Disk),
            Served::Flight => core.numbers.joined(),
            _ => {}
        }
        let known = match served {
            Served::Upstream => plan.order.len() - self.bought(),
            _ => plan.order.len(),
        };
        let count = |receipt: &mut Receipt| {
            receipt.inputs = plan.order.len() as u64;
            receipt.inputs_known = known as u64;
        };
        if let ([only], true) = (&*found, served.is_free()) {
            self.note(count);
            self.note(|receipt| note_hit(receipt, &only.entry, served));
            let silent = is_silent(core, call);
            if let Some(rendered) =
                render(core, call.format(), &only.entry, None, silent || served == Served::Flight)
            {
                let reply = rendered.reply();
                return sent(reply, Went::Collapsed, silent || served != Served::Flight);
            }
        }
        let tokens = found.iter().map(|found| found.entry.outcome.usage.and_then(|usage| usage.input));
        let tokens = tokens.sum::<Option<u64>>();
        let worth: Usd = found.iter().map(|found| found.entry.cost.unwrap_or_default()).sum();
        let newest = self.newest().expect("a call that was taken apart has at least one input");
        self.note(|receipt| {
            count(receipt);
            receipt.served = served;
            receipt.answered = newest.outcome.model.clone();
            receipt.service_tier = newest.outcome.service_tier.clone();
            receipt.finish = Finish::Whole;
            receipt.cache_note = paid.and_then(|paid| paid.note);
            receipt.stored = paid.is_some_and(|paid| paid.stored);
            match (served, paid) {
                (Served::Upstream, Some(paid)) => {
                    receipt.usage = paid.usage;
                    receipt.avoided.cache = worth - paid.cost;
                    if known > 0 {
                        receipt.notes.push("some inputs were not sent");
                    }
                }
                _ => {
                    receipt.usage = tokens.map(|tokens| Usage::of(tokens, 0));
                    receipt.avoided.cache = worth;
                }
            }
        });
        let vectors: Vec<&str> =
            found.iter().filter_map(|found| batch::only_vector(&found.entry.body)).collect();
        let like = std::str::from_utf8(&newest.body).unwrap_or_default();
        let body = batch::put_together(like, &vectors, tokens).unwrap_or_default();
        let (mut parts, _) = match paid.and_then(|paid| paid.sent.as_deref()) {
            Some(Ok(sent)) => sent.reply().into_parts(),
            _ => {
                let mut reply = Reply::new(ReplyBody::empty());
                *reply.status_mut() = newest.status;
                *reply.headers_mut() = newest.headers.clone();
                reply.into_parts()
            }
        };
        // They describe another body.
        parts.headers.remove(CONTENT_LENGTH);
        parts.headers.remove(CONTENT_ENCODING);
        parts.extensions.insert(Stated);
        let silent = is_silent(core, call);
        let how = match served {
            Served::Flight => Went::Collapsed,
            Served::Upstream if known > 0 => Went::Partial,
            Served::Upstream => self.went(),
            _ => {
                // The whole is as old as its oldest part.
                if let (false, Some(oldest)) =
                    (silent, found.iter().map(|found| &found.entry).min_by_key(|entry| entry.created_ms))
                {
                    status::hit(&mut parts.headers, oldest, core.clock.now_ms());
                }
                return Reply::from_parts(parts, ReplyBody::full(body));
            }
        };
        sent(Reply::from_parts(parts, ReplyBody::full(body)), how, silent)
    }

    /// Questions that were sent by this call.
    fn bought(&self) -> usize {
        self.found.iter().flatten().filter(|found| found.from == Served::Upstream).count()
    }

    fn note(&self, write: impl FnOnce(&mut Receipt)) {
        receipt::note(&self.call, write);
    }
}

impl Paid {
    fn add(&mut self, sent: &Sent, answer: &Arc<Result<Sent, Error>>) {
        let usage = sent.outcome.usage;
        self.usage = match &self.sent {
            None => usage,
            Some(_) => self.usage.zip(usage).and_then(|(a, b)| {
                let input = a.input?.checked_add(b.input?)?;
                Some(Usage::of(input, 0))
            }),
        };
        if let Ok(entries) = &sent.entries {
            self.cost += entries.iter().map(|entry| entry.cost.unwrap_or_default()).sum::<Usd>();
        }
        self.stored = sent.stored.is_ok();
        self.note = sent.stored.err();
        self.sent = Some(answer.clone());
    }
}
