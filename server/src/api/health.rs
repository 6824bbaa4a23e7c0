//! Whether the process lives, whether it may get requests, and its metrics.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::App;
use crate::error::ApiError;

/// `/-/healthy`
pub async fn healthy() -> &'static str {
    "Pharos is healthy.\n"
}

/// `/-/ready`: the local replicas have caught up and the node is not stopping.
pub async fn ready(State(app): State<Arc<App>>) -> Response {
    let reason = if app.is_stopping() {
        Some("the node is stopping".to_owned())
    } else {
        match app.backend() {
            Err(error) => Some(error.to_string()),
            Ok(backend) => backend.operations.readiness().err(),
        }
    };
    match reason {
        None => "Pharos is ready.\n".into_response(),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {reason}\n")).into_response(),
    }
}

/// `/metrics`
pub async fn metrics(State(app): State<Arc<App>>) -> Result<Response, ApiError> {
    let text = app.metrics.text().map_err(|error| ApiError::internal(&error))?;
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}
