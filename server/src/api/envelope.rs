//! Prometheus' envelope around answers.

use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::json;

/// A body of JSON.
pub fn json_response(value: &impl Serialize) -> Response {
    raw_json(serde_json::to_vec(value).unwrap_or_default())
}

/// A body of JSON that is text already.
pub fn raw_json(body: impl Into<axum::body::Body>) -> Response {
    let body: axum::body::Body = body.into();
    ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response()
}

/// A successful answer without remarks.
pub fn success(data: &impl Serialize) -> Response {
    json_response(&json!({"status": "success", "data": data}))
}

/// A successful answer with what the engine has to remark. Empty lists are left out, as in Prometheus.
pub fn success_with(data: &impl Serialize, warnings: &[String], infos: &[String]) -> Response {
    let mut body = json!({"status": "success", "data": data});
    if !warnings.is_empty() {
        body["warnings"] = json!(warnings);
    }
    if !infos.is_empty() {
        body["infos"] = json!(infos);
    }
    json_response(&body)
}
