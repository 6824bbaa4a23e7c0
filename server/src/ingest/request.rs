//! What the ways in share: a body that is collected within limits, decoded where that does not hold up others, and the
//! failures of both, with the codes by which HTTP and gRPC tell them.

use std::fmt::Display;

use axum::body::Body;
use axum::http::StatusCode;
use bytes::Bytes;
use cluster::router::RouteError;
use protocol::error::ErrorKind;
use protocol::otlp::DecodeError;

use super::Ingest;
use super::budget::Share;
use super::decompress::DecompressError;
use crate::api::body::collect_with;
use crate::error::{ApiError, outside};
use crate::runtime::pool::PoolError;
use crate::telemetry::trace;

/// Compressed bodies up to this length are decoded where they arrive. Longer ones go to the pool, so that they do not
/// hold up other connections.
const IN_PLACE_BYTES: usize = 16 << 10;

/// Why nothing of a request is confirmed.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// The code over HTTP.
    pub status: StatusCode,
    /// The code over gRPC.
    pub code: u32,
    /// For the client.
    pub message: String,
}

/// gRPC's codes.
pub mod code {
    /// The request can never succeed.
    pub const INVALID_ARGUMENT: u32 = 3;
    /// The caller may not.
    pub const PERMISSION_DENIED: u32 = 7;
    /// Too much, for good.
    pub const RESOURCE_EXHAUSTED: u32 = 8;
    /// No such method or encoding.
    pub const UNIMPLEMENTED: u32 = 12;
    /// A fault of ours.
    pub const INTERNAL: u32 = 13;
    /// Later it may succeed.
    pub const UNAVAILABLE: u32 = 14;
}

impl Failure {
    pub fn new(kind: ErrorKind, message: String) -> Self {
        let row = outside(kind);
        let status =
            if kind == ErrorKind::LimitExceeded { StatusCode::PAYLOAD_TOO_LARGE } else { row.status };
        let code = match kind {
            ErrorKind::LimitExceeded => code::RESOURCE_EXHAUSTED,
            ErrorKind::PermissionDenied => code::PERMISSION_DENIED,
            // Without further details clients do not retry RESOURCE_EXHAUSTED, but UNAVAILABLE.
            kind if kind.is_retryable() => code::UNAVAILABLE,
            ErrorKind::Corruption | ErrorKind::Internal => code::INTERNAL,
            _ => code::INVALID_ARGUMENT,
        };
        Self { status, code, message }
    }

    pub fn unsupported(message: String) -> Self {
        Self { status: StatusCode::UNSUPPORTED_MEDIA_TYPE, code: code::UNIMPLEMENTED, message }
    }

    /// Whether the same may succeed later.
    pub fn is_retryable(&self) -> bool {
        matches!(self.status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS)
    }

    pub fn full() -> Self {
        full().into()
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        let code = match error.status() {
            StatusCode::PAYLOAD_TOO_LARGE => code::RESOURCE_EXHAUSTED,
            _ => Self::new(error.kind(), String::new()).code,
        };
        Self { status: error.status(), code, message: error.to_string() }
    }
}

impl From<DecompressError> for Failure {
    fn from(error: DecompressError) -> Self {
        let kind = match error {
            DecompressError::TooLong { .. } | DecompressError::TooDense => ErrorKind::LimitExceeded,
            DecompressError::Corrupt { .. } => ErrorKind::InvalidInput,
            DecompressError::Full => ErrorKind::Unavailable,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<DecodeError> for Failure {
    fn from(error: DecodeError) -> Self {
        Self::new(error.kind(), error.to_string())
    }
}

impl From<RouteError> for Failure {
    fn from(error: RouteError) -> Self {
        Self::new(error.kind(), error.to_string())
    }
}

impl From<protocol::remote_write::DecodeError> for Failure {
    fn from(error: protocol::remote_write::DecodeError) -> Self {
        Self::new(error.kind(), error.to_string())
    }
}

impl Ingest {
    /// Collects a body of at most so many bytes, taking them from the node's budget as they come.
    pub(super) async fn receive(
        &self,
        body: Body,
        share: &mut Share,
        limit: usize,
    ) -> Result<Bytes, ApiError> {
        let admit = |bytes| match share.grow_to(bytes) {
            true => Ok(()),
            false => Err(full()),
        };
        let mut span = trace::span("receive");
        let collected = collect_with(body, limit, self.settings.body_timeout, admit).await;
        match &collected {
            Ok(body) => span.set("http.request.body.size", body.len()),
            Err(error) => span.fail(error),
        }
        collected
    }

    /// Decodes a body, here or on the pool.
    pub(super) async fn decode_with<T, E>(
        &self,
        here: bool,
        work: impl FnOnce() -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<ApiError> + Display + Send + 'static,
    {
        let mut span = trace::span("decode");
        let position = span.position();
        let work = move || trace::compute_at(position, work);
        let outcome = if here { Ok(work()) } else { self.pool.run(work).await };
        let result = outcome.unwrap_or_else(|error| match error {
            PoolError::Full => Err(full().into()),
            error => {
                tracing::error!(%error, "a write request could not be decoded");
                Err(ApiError::new(ErrorKind::Internal, "internal error, see the node's log").into())
            }
        });
        if let Err(failure) = &result {
            span.fail(failure);
        }
        result
    }
}

/// Whether a compressed body of so many bytes is decoded where it arrives.
pub(super) fn is_short(len: usize) -> bool {
    len <= IN_PLACE_BYTES
}

/// Nothing more is taken in now.
pub(super) fn full() -> ApiError {
    ApiError::new(ErrorKind::Unavailable, "too many writes are in work on this node")
}
