//! What a Prometheus tells of its scrapes, rules and alerts. This server scrapes nothing and has no rules: it answers as a
//! Prometheus without any does, so that clients which list them find empty lists and not errors.

use axum::response::Response;
use protocol::error::ErrorKind;
use serde_json::json;

use super::Params;
use super::envelope::success;
use crate::error::ApiError;

fn unsupported(name: &str, value: &str) -> ApiError {
    ApiError::bad_data(format!("invalid parameter {name:?}: not supported value {value:?}"))
}

/// `/api/v1/targets`
pub async fn targets(params: Params) -> Result<Response, ApiError> {
    match params.get("state").map(str::to_ascii_lowercase).as_deref() {
        None | Some("any" | "active" | "dropped") => Ok(success(&json!({
            "activeTargets": [],
            "droppedTargets": [],
            "droppedTargetCounts": {},
        }))),
        Some(other) => Err(unsupported("state", other)),
    }
}

/// `/api/v1/targets/metadata`
pub async fn target_metadata() -> Result<Response, ApiError> {
    Err(ApiError::new(ErrorKind::NotFound, "specified metadata not found"))
}

/// `/api/v1/scrape_pools`
pub async fn scrape_pools() -> Response {
    success(&json!({"scrapePools": []}))
}

/// `/api/v1/rules`
pub async fn rules(params: Params) -> Result<Response, ApiError> {
    match params.get("type").map(str::to_ascii_lowercase).as_deref() {
        None | Some("alert" | "record") => Ok(success(&json!({"groups": []}))),
        Some(other) => Err(unsupported("type", other)),
    }
}

/// `/api/v1/alerts`
pub async fn alerts() -> Response {
    success(&json!({"alerts": []}))
}

/// `/api/v1/alertmanagers`
pub async fn alertmanagers() -> Response {
    success(&json!({"activeAlertmanagers": [], "droppedAlertmanagers": []}))
}

/// `/api/v1/notifications`
pub async fn notifications() -> Response {
    success(&json!([]))
}
