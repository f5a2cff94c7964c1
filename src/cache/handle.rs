//! Looking after a cache from outside the stack.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;

use super::embeddings;
use super::flight::Recorded;
use super::freshness::Age;
use super::key::CacheKey;
use super::layer::Core;
use super::numbers::CacheStats;
use super::purge::{self, Since};
use super::render::{render, want};
use super::service::{Filing, framed};
use super::status::is_silent;
use super::switch::Mode;
use crate::call::{Call, Dialect, Options, Reply, ReplyBody, Scope};
use crate::dialect::{is_event_stream, read, read_raw};
use crate::{Error, Kind};

/// Looks after a cache from outside the stack. Clones are the same cache.
#[derive(Clone, Debug)]
pub struct CacheHandle {
    core: Arc<Core>,
}

impl CacheHandle {
    pub(super) fn new(core: Arc<Core>) -> Self {
        Self { core }
    }

    /// Figures since the layer was built. With the feature `metrics`, reading them sets the gauges.
    #[must_use]
    pub fn stats(&self) -> CacheStats {
        let core = &self.core;
        let stats = CacheStats {
            flights: core.flights.len() as u64,
            flight_tasks: core.flights.running() as u64,
            flight_bytes: core.flights.held() as u64,
            store: core.tiers.stats(),
            ..core.numbers.read()
        };
        #[cfg(feature = "metrics")]
        stats.tell();
        stats
    }

    /// What the cache does.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.core.switch.get()
    }

    /// Sets what the cache does from the next call on. Calls in flight end as they began.
    pub fn set_mode(&self, mode: Mode) {
        self.core.switch.set(mode);
    }

    /// The stored answer to a call as its caller wants it, from memory or disk; `None` if there is none that is fresh
    /// enough, or the call may not be cached. Nothing is sent and nothing counted, and [`Mode`] does not matter. Of a batch of embeddings each input
    /// has an entry of its own; ask for them one by one.
    pub async fn get(&self, call: &Call) -> Option<Reply> {
        let core = &self.core;
        let options = Options::among(&call.parts.extensions);
        for key in core.varied.all(core.key_of(call, options).ok()?) {
            let found = match core.tiers.get_memory(&key, core.clock.now_ms()) {
                None => core.on_disk(call, &key).await,
                found => found,
            };
            let wish = core.wish(call, options);
            let good = found.filter(|entry| core.judge(entry, &wish) == Age::Good);
            if let Some(entry) = good
                && let Some(rendered) = render(core, call.format(), &entry, want(call), is_silent(core, call))
            {
                return Some(rendered.reply());
            }
        }
        None
    }

    /// Stores this reply as the answer to a call, by the same rules as one that came from the provider, and for the
    /// same time, whatever the [`Mode`]. A reply that comes in pieces is read to its end first.
    ///
    /// # Errors
    /// [`Kind::BadInput`](crate::Kind::BadInput) when the call may not be cached, or the reply is not a whole, good
    /// answer; the message says why. [`Kind::Upstream`](crate::Kind::Upstream) when its body breaks off.
    pub async fn put(&self, call: &Call, reply: Reply) -> Result<(), Error> {
        let core = &self.core;
        let options = Options::among(&call.parts.extensions);
        let no = |why: &str| {
            Error::bad_input(
                format!("this answer is not stored ({why})"),
                "put only whole, good answers to calls that may be cached",
            )
        };
        let key = core.varied.choose(core.key_of(call, options).map_err(no)?);
        let since = Since::of(core, call);
        let (parts, body) = reply.into_parts();
        let (body, frames) = gather(body).await?;
        if body.len() > core.limits.max_bytes {
            return Err(no("too-large"));
        }
        let outcome = match call.dialect {
            Dialect::Opaque => read_raw(&framed(&parts), &body),
            _ => read(call.format(), &parts.headers, &body),
        };
        let frames = frames.filter(|_| is_event_stream(&parts.headers));
        let recorded = Recorded { parts: Arc::new(parts), body: Ok(body), frames };
        let filing = Filing::of(core, call, key, since);
        let entry = filing.entry(core, recorded, outcome).map_err(no)?;
        since.store(core, || filing.put(core, entry)).ok_or_else(|| no("purged"))?;
        core.negatives.remove(&key);
        core.numbers.stored();
        Ok(())
    }

    /// Forgets the answers to this call (of embeddings, to each of its inputs), in every tier; one on its way is not
    /// stored. True if its key could be made. The call is taken as the cache sees it, below trim, cap and tier.
    ///
    /// Durable on return where this process has the cache file. Where another process has it, the answers are forgotten
    /// in memory here and stay in the file: remove them there. A file of an earlier secret that is not open here is
    /// deleted, as a later start might read it.
    pub async fn invalidate(&self, call: &Call) -> bool {
        let core = &self.core;
        let keys: Vec<CacheKey> = match embeddings::plan(core, call) {
            Some(plan) => plan.keys().to_vec(),
            None => {
                let scope = core.scope_of(Options::among(&call.parts.extensions));
                let Ok(key) = core.keyer.key(call, scope, &core.vary) else { return false };
                core.varied.all(key).collect()
            }
        };
        let removed = async {
            for key in &keys {
                core.flights.forget(key);
                core.negatives.remove(key);
                core.tiers.remove(key).await;
            }
        };
        #[cfg(feature = "disk")]
        purge::both(super::former::remove(core, call), removed).await;
        #[cfg(not(feature = "disk"))]
        removed.await;
        true
    }

    /// Forgets all answers of a scope, in every tier: of a tenant under whatever credential, of a shared scope all of
    /// it. [`Scope::credential`] names nobody, so that all goes; for one credential's answers see
    /// [`purge_caller`](Self::purge_caller). Its calls in flight go on for their callers but are not stored, and nobody
    /// joins them; those of other scopes go on as if nothing had been.
    ///
    /// Durable on return where this process has the cache file. Where another process has it, they are forgotten here,
    /// and in the file once this process gets it; if it ends before that, they stay there: purge in the process that has
    /// it too. All of a file of an earlier secret that is not open here is deleted, as a later start might read it.
    pub async fn purge(&self, scope: &Scope) {
        purge::scope(&self.core, scope).await;
    }

    /// The same for the scope this call is in: by default, all answers of its credential. As durable as
    /// [`purge`](Self::purge).
    pub async fn purge_caller(&self, call: &Call) {
        purge::caller(&self.core, call).await;
    }

    /// Forgets everything. Calls in flight go on for their callers but are not stored, and nobody joins them. As durable
    /// as [`purge`](Self::purge): on return where this process has the cache file, and here alone where another has it.
    pub async fn purge_all(&self) {
        self.core.aliases.clear();
        purge::all(&self.core).await;
    }

    /// Waits until no upstream call goes on, at most for `timeout`, and until everything stored is safe on disk: for
    /// the end of a program. True if no call was left behind; new ones are not kept from starting.
    pub async fn drain(&self, timeout: Duration) -> bool {
        let drained = self.core.flights.drained(timeout).await;
        self.flush().await;
        drained
    }

    /// Waits until everything stored so far is safe on disk.
    pub async fn flush(&self) {
        self.core.tiers.flush_async().await;
    }

    /// The same, blocking the thread: for the end of a program, outside a runtime.
    pub fn flush_blocking(&self) {
        self.core.tiers.flush();
    }
}

/// A body and the lengths of its frames, if it came in such.
async fn gather(mut body: ReplyBody) -> Result<(Bytes, Option<Arc<[u32]>>), Error> {
    if let Some(bytes) = body.complete() {
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        return Ok((bytes, Some([len].into())));
    }
    let (mut all, mut frames) = (BytesMut::new(), Vec::new());
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|cause| {
            let way_out = "put the answer once all of it is there";
            Error::caused_by(Kind::Upstream, "the answer broke off in its middle", way_out, cause)
        })?;
        if let Ok(data) = frame.into_data() {
            frames.push(u32::try_from(data.len()).unwrap_or(u32::MAX));
            all.extend_from_slice(&data);
        }
    }
    Ok((all.freeze(), Some(frames.into())))
}
