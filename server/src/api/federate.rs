//! `GET /federate`: the newest sample of each selected series, in Prometheus' text format, for another Prometheus to
//! scrape.
//!
//! As Prometheus does it (web/federate.go): looking back as far as an instant query; stale series left out; timestamps
//! kept; a series without `instance` gets an empty one, so that the scraper puts none of its own there. Native
//! histograms have no text form and are left out.

use std::fmt::Write;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use protocol::labels::{Labels, METRIC_NAME};
use protocol::sample::is_stale_nan;
use query::CancelFlag;
use query::engine::ListRequest;
use query::format::format_value;
use query::result::MatrixSeries;
use query::source::TimeRange;

use super::active::Asked;
use super::prometheus::Selectors;
use super::read::Freshness;
use super::{App, Params};
use crate::auth::AuthContext;
use crate::error::ApiError;
use crate::runtime::now_ms;

/// `/federate`
pub async fn federate(
    State(app): State<Arc<App>>,
    auth: AuthContext,
    freshness: Freshness,
    headers: HeaderMap,
    params: Params,
) -> Result<Response, ApiError> {
    let selectors = Selectors::of(&params)?;
    // A scraper that takes UTF-8 names says so; others get them escaped.
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let quoted = accept.contains("escaping=allow-utf-8");
    let now = now_ms();
    let lookback = app.config.query.lookback.0.as_millis() as i64;
    let asked = Asked::list(&auth.tenant, "federate", selectors.text());
    let request = ListRequest {
        range: TimeRange::new(now.saturating_sub(lookback).saturating_add(1), now),
        consistency: freshness.0,
        timeout: app.config.query.timeout.0,
        ..ListRequest::all(auth.tenant)
    };
    let text = app
        .backend()?
        .queries
        .run(asked, CancelFlag::default(), move |engine, notes| async move {
            let request = ListRequest { selectors: selectors.parsed()?, ..request };
            // Without a selector nothing is asked for, not everything.
            if request.selectors.is_empty() {
                return Ok(String::new());
            }
            let series = engine.samples(&request, true).await?;
            notes.count(series.len() as u64);
            Ok(exposition(series, quoted))
        })
        .await?;
    let escaping = if quoted { "allow-utf-8" } else { "underscores" };
    let kind = format!("text/plain; version=0.0.4; charset=utf-8; escaping={escaping}");
    let kind = HeaderValue::try_from(kind).map_err(|error| ApiError::internal(&error))?;
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}

/// The text, families by name.
fn exposition(series: Vec<MatrixSeries>, quoted: bool) -> String {
    let mut rows: Vec<(Labels, i64, f64)> = series
        .into_iter()
        .filter_map(|series| {
            let &(time, value) = series.floats.last()?;
            let newer = series.histograms.last().is_some_and(|(other, _)| *other > time);
            let labels = series.labels.filter(|labels| !labels.metric_name().is_empty())?;
            (!newer && !is_stale_nan(value)).then_some((labels, time, value))
        })
        .collect();
    rows.sort_by(|a, b| (a.0.metric_name(), &a.0).cmp(&(b.0.metric_name(), &b.0)));
    let mut out = String::new();
    let mut family: Option<String> = None;
    for (labels, time, value) in &rows {
        let metric = labels.metric_name();
        if family.as_deref() != Some(metric) {
            let shown = if is_plain_metric(metric) {
                metric.to_owned()
            } else if quoted {
                quote(metric)
            } else {
                escaped(metric, true)
            };
            let _ = writeln!(out, "# TYPE {shown} untyped");
            family = Some(metric.to_owned());
        }
        let mut parts = Vec::new();
        if is_plain_metric(metric) {
            out.push_str(metric);
        } else if quoted {
            parts.push(quote(metric));
        } else {
            out.push_str(&escaped(metric, true));
        }
        for (name, value) in labels.iter().filter(|(name, _)| *name != METRIC_NAME) {
            let name = match (is_plain_label(name), quoted) {
                (true, _) => name.to_owned(),
                (false, true) => quote(name),
                (false, false) => escaped(name, false),
            };
            parts.push(format!("{name}={}", quote(value)));
        }
        if labels.get("instance").is_none() {
            parts.push("instance=\"\"".to_owned());
        }
        let _ = writeln!(out, "{{{}}} {} {time}", parts.join(","), format_value(*value));
    }
    out
}

fn is_plain_label(name: &str) -> bool {
    name.bytes()
        .enumerate()
        .all(|(i, b)| b == b'_' || b.is_ascii_alphabetic() || (i > 0 && b.is_ascii_digit()))
        && !name.is_empty()
}

fn is_plain_metric(name: &str) -> bool {
    is_plain_label(&name.replace(':', "_"))
}

/// Every character that the old format does not know becomes `_`.
fn escaped(name: &str, is_metric: bool) -> String {
    let allowed = |(i, c): (usize, char)| {
        let plain =
            c == '_' || c.is_ascii_alphabetic() || (is_metric && c == ':') || (i > 0 && c.is_ascii_digit());
        if plain { c } else { '_' }
    };
    name.chars().enumerate().map(allowed).collect()
}

fn quote(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('\n', "\\n").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use protocol::histogram::Histogram;
    use protocol::sample::stale_nan;

    use super::*;

    fn series(labels: &[(&str, &str)], floats: Vec<(i64, f64)>) -> MatrixSeries {
        let labels = Labels::from_pairs(labels.iter().copied()).unwrap();
        MatrixSeries { labels: Some(labels), floats, histograms: Vec::new() }
    }

    #[test]
    fn the_newest_sample_of_each_series_by_family() {
        let mut native = series(&[("__name__", "h")], vec![(1, 1.0)]);
        native.histograms.push((2, Arc::new(Histogram::default())));
        let all = vec![
            series(&[("__name__", "b"), ("instance", "x"), ("l", "a\"\\\n")], vec![(1500, 2.0)]),
            series(&[("__name__", "a"), ("job", "j")], vec![(1000, f64::NAN), (2000, 1e21)]),
            series(&[("__name__", "b")], vec![(3000, f64::INFINITY)]),
            series(&[("__name__", "gone")], vec![(3000, stale_nan())]),
            series(&[("job", "nameless")], vec![(3000, 1.0)]),
            native,
        ];
        let expected = "# TYPE a untyped\na{job=\"j\",instance=\"\"} 1e+21 2000\n\
            # TYPE b untyped\nb{instance=\"\"} +Inf 3000\nb{instance=\"x\",l=\"a\\\"\\\\\\n\"} 2 1500\n";
        assert_eq!(exposition(all, false), expected);
    }

    #[test]
    fn names_that_the_old_format_does_not_know() {
        let one =
            || vec![series(&[("__name__", "http.hits"), ("a.b", "1"), ("instance", "i")], vec![(1, 1.0)])];
        assert_eq!(
            exposition(one(), true),
            "# TYPE \"http.hits\" untyped\n{\"http.hits\",\"a.b\"=\"1\",instance=\"i\"} 1 1\n"
        );
        assert_eq!(
            exposition(one(), false),
            "# TYPE http_hits untyped\nhttp_hits{a_b=\"1\",instance=\"i\"} 1 1\n"
        );
    }
}
