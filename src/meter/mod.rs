//! What did this call cost, and what would it have cost?
//!
//! A saving that nobody measured is a guess. [`Meter`] opens a [`Receipt`](crate::receipt::Receipt) for each call,
//! the layers below write down what they did, and when the body has ended (or was dropped) the receipt is settled at
//! the prices of a dated table and handed to a sink. Bodies are passed on as they come; usage is read on the side.
//!
//! # Example
//! ```
//! use thrifty::meter::MeterLayer;
//! use thrifty::receipt::{Receipt, ReceiptHandle};
//! # use thrifty::call::{Call, Reply};
//! # use thrifty::BoxError;
//! use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! let answer = r#"{"model":"gpt-5-mini","choices":[{"index":0,"message":{"role":"assistant","content":"11"},
//!     "finish_reason":"stop"}],"usage":{"prompt_tokens":1000,"completion_tokens":100,"total_tokens":1100}}"#;
//! let mut service = ServiceBuilder::new()
//!     .layer(MeterLayer::new(|receipt: &Receipt| println!("billed {:?}", receipt.billed)))
//!     .service(service_fn(move |_: Call| async move { Ok::<_, BoxError>(Reply::new(answer.into())) }));
//!
//! let call = Call::post("https://api.openai.com/v1/chat/completions", r#"{"model":"gpt-5-mini","messages":[]}"#);
//! let reply = service.ready().await?.call(call).await?;
//! let receipt = reply.extensions().get::<ReceiptHandle>().and_then(ReceiptHandle::get).unwrap();
//! assert_eq!(receipt.billed.map(|usd| usd.to_string()).as_deref(), Some("0.00045"));
//! # Ok(())
//! # }
//! ```
//! # With your own prices
//! ```
//! use std::sync::Arc;
//! use thrifty::meter::MeterLayer;
//! use thrifty::price::PriceTable;
//! use thrifty::receipt::Receipt;
//!
//! let layer = MeterLayer::new(|_: &Receipt| ()).with_prices(PriceTable::builtin());
//! ```

mod layer;
mod learn;
mod service;
mod settle;
mod tap;

pub use self::layer::MeterLayer;
pub use self::service::{Meter, ResponseFuture};
pub use self::settle::settle;
