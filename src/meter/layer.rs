//! Settings of the meter.

use std::fmt;
use std::sync::Arc;

use tower_layer::Layer;

use super::service::Meter;
use crate::clock::{Clock, SystemClock};
use crate::price::PriceTable;
use crate::receipt::Sink;
use crate::tokens::Counter;

/// Opens and settles receipts. See the [module docs](crate::meter).
#[derive(Clone)]
pub struct MeterLayer {
    pub(super) shared: Arc<Shared>,
}

#[derive(Clone)]
pub(super) struct Shared {
    pub(super) sinks: Vec<Arc<dyn Sink>>,
    pub(super) prices: Arc<PriceTable>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) asks_for_usage: bool,
    pub(super) learning: Option<Counter>,
}

impl MeterLayer {
    /// Hands each receipt to `sink`; prices are those of the built-in table.
    #[must_use]
    pub fn new(sink: impl Sink) -> Self {
        Self::silent().with_sink(sink)
    }

    /// Hands receipts to nobody but the reply's extensions.
    #[must_use]
    pub fn silent() -> Self {
        let shared = Shared {
            sinks: Vec::new(),
            prices: PriceTable::builtin(),
            clock: Arc::new(SystemClock),
            asks_for_usage: true,
            learning: None,
        };
        Self { shared: Arc::new(shared) }
    }

    /// Adds another sink.
    #[must_use]
    pub fn with_sink(self, sink: impl Sink) -> Self {
        self.with_shared_sink(Arc::new(sink))
    }

    /// Adds a sink that is used elsewhere too, such as a [`Ledger`](crate::receipt::Ledger).
    #[must_use]
    pub fn with_shared_sink(mut self, sink: Arc<dyn Sink>) -> Self {
        Arc::make_mut(&mut self.shared).sinks.push(sink);
        self
    }

    /// Who gets its receipts.
    pub(crate) fn sinks(&self) -> Vec<Arc<dyn Sink>> {
        self.shared.sinks.clone()
    }

    /// Sets the prices. Default: the built-in table.
    #[must_use]
    pub fn with_prices(mut self, prices: Arc<PriceTable>) -> Self {
        Arc::make_mut(&mut self.shared).prices = prices;
        self
    }

    /// Asks for usage in no stream whose caller did not. Default: it is asked for (OpenAI's
    /// `stream_options.include_usage`) and hidden from the caller. A few compatible servers refuse the member; their
    /// streams are then settled at an estimate.
    #[must_use]
    pub fn without_asking_for_usage(mut self) -> Self {
        Arc::make_mut(&mut self.shared).asks_for_usage = false;
        self
    }

    /// Has the [`Calibration`](crate::tokens::Calibration) of `counter` learn from what is billed. Default: nothing is
    /// learned.
    ///
    /// A layer within that counts with the same counter has counted what was sent, trimmed and all. Where there is
    /// none, the call is counted here as it came, once its answer has ended, and only if the provider answered it and
    /// told the use: a hit is never counted.
    #[must_use]
    pub fn learning(mut self, counter: Counter) -> Self {
        Arc::make_mut(&mut self.shared).learning = Some(counter);
        self
    }

    /// Sets the clock that decides at which time's prices a call is settled. Default: the system's.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        Arc::make_mut(&mut self.shared).clock = clock;
        self
    }
}

impl<S> Layer<S> for MeterLayer {
    type Service = Meter<S>;

    fn layer(&self, inner: S) -> Meter<S> {
        Meter::new(inner, self.shared.clone())
    }
}

impl fmt::Debug for MeterLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MeterLayer").field("sinks", &self.shared.sinks.len()).finish_non_exhaustive()
    }
}
