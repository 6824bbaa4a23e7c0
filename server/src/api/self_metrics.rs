//! `/api/v1/status/self_metrics`: what `/metrics` says, as JSON.
//!
//! Families of `io.prometheus.client` by protobuf's rules for JSON: 64-bit whole numbers are strings, numbers that JSON
//! has no sign for are `"NaN"`, `"Infinity"` and `"-Infinity"`, kinds go by their names.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use prometheus::proto::{Metric, MetricFamily, MetricType};
use protocol::matcher::{MatchOp, Matcher};
use serde_json::{Value, json};

use super::envelope::success;
use super::{App, Params};
use crate::error::ApiError;

/// `/api/v1/status/self_metrics`
pub async fn self_metrics(State(app): State<Arc<App>>, params: Params) -> Result<Response, ApiError> {
    let pattern = params
        .get("metric_name_pattern")
        .map(|pattern| Matcher::new("metric_name_pattern", MatchOp::Regex, pattern))
        .transpose()
        .map_err(|error| ApiError::bad_data(error.to_string()))?;
    let is_wanted = |family: &&MetricFamily| pattern.as_ref().is_none_or(|p| p.matches(family.name()));
    let families: Vec<Value> = app.metrics.gather().iter().filter(is_wanted).map(family_json).collect();
    Ok(success(&families))
}

fn number(value: f64) -> Value {
    match value {
        _ if value.is_nan() => json!("NaN"),
        f64::INFINITY => json!("Infinity"),
        f64::NEG_INFINITY => json!("-Infinity"),
        _ => json!(value),
    }
}

fn family_json(family: &MetricFamily) -> Value {
    let kind = match family.get_field_type() {
        MetricType::COUNTER => "COUNTER",
        MetricType::GAUGE => "GAUGE",
        MetricType::SUMMARY => "SUMMARY",
        MetricType::UNTYPED => "UNTYPED",
        MetricType::HISTOGRAM => "HISTOGRAM",
    };
    let metrics: Vec<Value> =
        family.get_metric().iter().map(|metric| metric_json(family.get_field_type(), metric)).collect();
    json!({"name": family.name(), "help": family.help(), "type": kind, "metric": metrics})
}

fn metric_json(kind: MetricType, metric: &Metric) -> Value {
    let labels: Vec<Value> =
        metric.get_label().iter().map(|pair| json!({"name": pair.name(), "value": pair.value()})).collect();
    let (name, value) = match kind {
        MetricType::COUNTER => ("counter", json!({"value": number(metric.get_counter().get_value())})),
        MetricType::GAUGE => ("gauge", json!({"value": number(metric.get_gauge().get_value())})),
        MetricType::HISTOGRAM => {
            let histogram = metric.get_histogram();
            let buckets: Vec<Value> = histogram
                .get_bucket()
                .iter()
                .map(|bucket| {
                    json!({
                        "cumulativeCount": bucket.cumulative_count().to_string(),
                        "upperBound": number(bucket.upper_bound()),
                    })
                })
                .collect();
            let value = json!({
                "sampleCount": histogram.get_sample_count().to_string(),
                "sampleSum": number(histogram.get_sample_sum()),
                "bucket": buckets,
            });
            ("histogram", value)
        }
        // This process has none of these.
        MetricType::SUMMARY | MetricType::UNTYPED => return json!({"label": labels}),
    };
    json!({"label": labels, name: value})
}
