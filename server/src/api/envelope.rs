//! Prometheus' envelope around answers.

use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// A body of JSON.
pub fn json_response(value: &impl Serialize) -> Response {
    raw_json(serde_json::to_vec(value).unwrap_or_default())
}

/// A body of JSON that is text already.
pub fn raw_json(body: impl Into<axum::body::Body>) -> Response {
    let body: axum::body::Body = body.into();
    ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response()
}

#[derive(Serialize)]
struct Success<'a, T> {
    status: &'static str,
    data: &'a T,
    // Left out when empty, as in Prometheus.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    warnings: &'a [String],
}

/// Text of a successful answer. Written at once, without a tree of values in between: lists may be long.
pub fn success_text(data: &impl Serialize, warnings: &[String]) -> Vec<u8> {
    serde_json::to_vec(&Success { status: "success", data, warnings }).unwrap_or_default()
}

/// A successful answer that is short.
pub fn success(data: &impl Serialize) -> Response {
    raw_json(success_text(data, &[]))
}
