//! The one table from error kinds to HTTP codes and Prometheus' error types.
//!
//! Handlers answer with an [`ApiError`]; nobody else in this crate names a status code for a failure. Clients see
//! the message of a bad request in full, and of a fault of ours only that it is one: the chain goes to the log.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use protocol::error::ErrorKind;
use serde_json::json;

/// A row of the table: what the outside sees of a kind of error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outside {
    /// HTTP status.
    pub status: StatusCode,
    /// `errorType` of Prometheus' envelope.
    pub error_type: &'static str,
    /// Whether the answer carries `Retry-After`.
    pub retry_after: bool,
}

/// How a kind of error looks from outside.
pub fn outside(kind: ErrorKind) -> Outside {
    // 499 is nginx' code for a client that left; Prometheus answers it for canceled queries.
    let canceled = StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST);
    let (status, error_type, retry_after) = match kind {
        ErrorKind::InvalidInput => (StatusCode::BAD_REQUEST, "bad_data", false),
        ErrorKind::NotFound => (StatusCode::NOT_FOUND, "not_found", false),
        ErrorKind::Conflict => (StatusCode::CONFLICT, "conflict", false),
        ErrorKind::PermissionDenied => (StatusCode::FORBIDDEN, "forbidden", false),
        ErrorKind::LimitExceeded => (StatusCode::UNPROCESSABLE_ENTITY, "execution", false),
        ErrorKind::ResourceExhausted => (StatusCode::TOO_MANY_REQUESTS, "too_many_requests", true),
        ErrorKind::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "unavailable", true),
        ErrorKind::Timeout => (StatusCode::SERVICE_UNAVAILABLE, "timeout", true),
        ErrorKind::Canceled => (canceled, "canceled", false),
        ErrorKind::Corruption | ErrorKind::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "internal", false),
    };
    Outside { status, error_type, retry_after }
}

/// A failed request, on its way to the client.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    kind: ErrorKind,
    message: String,
    /// Overrides the table for the few answers that a protocol prescribes (404 of an unknown path, 415, ...).
    status: Option<StatusCode>,
}

impl ApiError {
    /// An error whose message the client may read.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), status: None }
    }

    /// Bad input, naming the offence.
    pub fn bad_data(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidInput, message)
    }

    /// A fault of ours: the details are logged here, the client learns that it is not to blame.
    pub fn internal(error: &(dyn std::error::Error + 'static)) -> Self {
        tracing::error!(error = %chain(error), "request failed");
        Self::new(ErrorKind::Internal, "internal error, see the node's log")
    }

    /// Answers with this status instead of the table's.
    pub fn with_status(mut self, status: StatusCode) -> Self {
        self.status = Some(status);
        self
    }

    /// The kind.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The status that the client sees.
    pub fn status(&self) -> StatusCode {
        self.status.unwrap_or(outside(self.kind).status)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let row = outside(self.kind);
        let body = json!({"status": "error", "errorType": row.error_type, "error": self.message}).to_string();
        let mut response = (self.status(), body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if row.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

/// An error and its causes in one line.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(kind: ErrorKind, status: u16, error_type: &str) {
        let row = outside(kind);
        assert_eq!((row.status.as_u16(), row.error_type), (status, error_type));
        // Senders take 429 and 503 as "again later", and everything else as final: the table must agree with the kind.
        assert_eq!(row.retry_after, kind.is_retryable());
        assert_eq!(matches!(status, 429 | 503), kind.is_retryable());
    }

    #[test]
    fn table() {
        check(ErrorKind::InvalidInput, 400, "bad_data");
        check(ErrorKind::NotFound, 404, "not_found");
        check(ErrorKind::Conflict, 409, "conflict");
        check(ErrorKind::PermissionDenied, 403, "forbidden");
        check(ErrorKind::LimitExceeded, 422, "execution");
        check(ErrorKind::ResourceExhausted, 429, "too_many_requests");
        check(ErrorKind::Unavailable, 503, "unavailable");
        check(ErrorKind::Timeout, 503, "timeout");
        check(ErrorKind::Canceled, 499, "canceled");
        check(ErrorKind::Corruption, 500, "internal");
        check(ErrorKind::Internal, 500, "internal");
    }

    #[test]
    fn envelope() {
        let response = ApiError::new(ErrorKind::Timeout, "query timed out").into_response();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/json");
        let other = ApiError::bad_data("x").with_status(StatusCode::UNSUPPORTED_MEDIA_TYPE).into_response();
        assert_eq!(other.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    }
}
