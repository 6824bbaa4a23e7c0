//! What clients ask to learn whom they speak to.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde_json::{Map, Value, json};

use super::envelope::{raw_json, success};
use super::time::format_rfc3339;
use super::{App, openapi};
use crate::runtime::now_ms;

/// The Prometheus whose API and language this is. Grafana switches features by it: a plain version, and no field that
/// would make it take us for a Mimir.
pub const PROMETHEUS_VERSION: &str = "3.5.0";

/// `/api/v1/status/buildinfo`
pub async fn build_info() -> Response {
    success(&json!({
        "version": PROMETHEUS_VERSION,
        "revision": concat!("pharos-", env!("CARGO_PKG_VERSION")),
        "branch": "HEAD",
        "buildUser": "",
        "buildDate": "",
        "goVersion": "",
    }))
}

/// `/api/v1/status/runtimeinfo`
pub async fn runtime_info(State(app): State<Arc<App>>) -> Response {
    success(&json!({
        "startTime": format_rfc3339(app.started_ms),
        "serverTime": format_rfc3339(now_ms()),
        "CWD": app.config.node.data_dir.display().to_string(),
        "hostname": app.config.http_advertise(),
        "reloadConfigSuccess": true,
        "lastConfigTime": format_rfc3339(app.started_ms),
        "corruptionCount": 0,
        "goroutineCount": 0,
        "GOMAXPROCS": crate::runtime::cores(),
        "storageRetention": app.config.storage.retention.to_string(),
    }))
}

/// `/api/v1/status/flags`: every setting as text, under its path. The tree holds names of key files, no secret.
pub async fn flags(State(app): State<Arc<App>>) -> Response {
    fn walk(prefix: &str, value: &Value, out: &mut Map<String, Value>) {
        match value {
            Value::Object(map) => {
                for (name, value) in map {
                    walk(
                        &if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") },
                        value,
                        out,
                    );
                }
            }
            Value::String(text) => {
                out.insert(prefix.to_owned(), json!(text));
            }
            other => {
                out.insert(prefix.to_owned(), json!(other.to_string()));
            }
        }
    }
    let mut flags = Map::new();
    walk("", &serde_json::to_value(&*app.config).unwrap_or_default(), &mut flags);
    success(&flags)
}

/// `/api/v1/openapi.json`
pub async fn openapi() -> Response {
    raw_json(openapi::document())
}
