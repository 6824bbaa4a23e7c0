//! OTLP, OpenTelemetry's protocol: export requests for metrics, logs and traces, in protobuf and in JSON.
//!
//! ```text
//! JSON --json::to_protobuf()--> protobuf --metrics::decode()--> WriteBatch      samples
//!                                        --logs::decode()-----> LogSink         records
//!                                        --traces::decode()---> SpanSink        spans
//! ```
//!
//! There is one way in for each signal, over protobuf bytes: JSON is rewritten into them first, with the messages'
//! shapes from one table ([`json`]), so that both encodings mean the same by construction. The walkers read in place,
//! as those of [`crate::remote_write`] do, with the same kinds of errors: bytes that are no such message fail the
//! request as a whole, a point or a record that makes no sense is left out and counted, and the rest is written.
//!
//! Read first: [`metrics`], then [`naming`] for how names become those of Prometheus.

pub mod json;
pub mod logs;
pub mod metrics;
pub mod naming;
pub mod response;
mod streams;
pub mod traces;
mod value;

use crate::error::ErrorKind;
pub use json::JsonError;

/// Why a body is no export request. Nothing of it was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Bytes that are no such message, or too many.
    #[error(transparent)]
    Message(#[from] crate::remote_write::DecodeError),
    /// Text that is no such message.
    #[error(transparent)]
    Json(#[from] JsonError),
}

impl DecodeError {
    /// Too much, or simply wrong.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Message(error) => error.kind(),
            Self::Json(_) => ErrorKind::InvalidInput,
        }
    }
}
