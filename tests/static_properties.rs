//! Promises that the compiler checks: what can be cloned, sent and shared.

use thrifty::budget::BudgetLayer;
use thrifty::cache::{Cache, CacheFuture, CacheHandle, CacheLayer, Recall, RecallLayer};
use thrifty::call::{Call, Doc, ReplyBody, Scope};
use thrifty::cap::{Cap, CapLayer};
use thrifty::meter::{Meter, MeterLayer};
use thrifty::prefix::{Prefix, PrefixLayer};
use thrifty::receipt::{Draft, Receipt, ReceiptHandle};
use thrifty::stack::Stack;
use thrifty::tier::{Tier, TierLayer};
use thrifty::trim::{Trim, TrimLayer};
use thrifty::{BoxError, Error};

fn clone_send_sync<T: Clone + Send + Sync + 'static>() {}
fn send_sync<T: Send + Sync + 'static>() {}
fn send<T: Send + 'static>() {}

#[test]
fn every_service_is_as_capable_as_its_inner_one() {
    clone_send_sync::<Cache<()>>();
    clone_send_sync::<Recall<()>>();
    clone_send_sync::<Cap<()>>();
    clone_send_sync::<Trim<()>>();
    clone_send_sync::<Tier<()>>();
    clone_send_sync::<Prefix<()>>();
    clone_send_sync::<Meter<()>>();
}

#[test]
fn layers_and_words_cross_every_client_boundary() {
    clone_send_sync::<Stack>();
    clone_send_sync::<CacheLayer>();
    clone_send_sync::<RecallLayer>();
    clone_send_sync::<CacheHandle>();
    clone_send_sync::<CapLayer>();
    clone_send_sync::<TrimLayer>();
    clone_send_sync::<TierLayer>();
    clone_send_sync::<PrefixLayer>();
    clone_send_sync::<BudgetLayer>();
    clone_send_sync::<MeterLayer>();
    clone_send_sync::<Call>();
    clone_send_sync::<Doc>();
    clone_send_sync::<Scope>();
    clone_send_sync::<Draft>();
    clone_send_sync::<Receipt>();
    clone_send_sync::<ReceiptHandle>();
    clone_send_sync::<Error>();
    send_sync::<ReplyBody>();
    send::<CacheFuture>();
}

#[test]
fn an_error_is_one_word_and_boxes() {
    assert_eq!(size_of::<Error>(), size_of::<usize>());
    let _: BoxError = Error::over_budget(2, 1).into();
}
