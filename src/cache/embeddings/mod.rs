//! Embeddings are known input by input.
//!
//! A batch of inputs is seldom repeated as a whole, while its inputs are: a corpus that grew, a document that was
//! edited, a list in another order. A vector depends on its own input alone, so each input is a question of its own
//! with an entry of its own, and only inputs that are not known go upstream. The reply is put together in the order
//! of the call, and says what the provider would have said for all of it.
//!
//! - One text is one question, whether it came alone, in a list of one, or among others.
//! - An input under way for one caller is not sent again for another: each is a flight, and one upstream call may
//!   serve many flights. A batch that fails is tried again by those who had other inputs in it.
//! - Vectors of different models are never put into one reply. When the name that was asked for stands for another
//!   model, the vectors of the former one are asked for anew, as everywhere in the cache. A name that goes to and fro
//!   between models gives an index of both, with a cache or without one: ask for a dated name then.
//! - Vectors are not kept beyond their time, and errors not at all: the settings for that are for other calls.
//! - The receipt bills what was sent. Use and cost of a batch are split by counted tokens, so that the parts add up
//!   to exactly what was billed.

mod parcel;
mod plan;
mod serve;
mod share;

pub(super) use self::plan::plan;
pub(super) use self::serve::serve;
