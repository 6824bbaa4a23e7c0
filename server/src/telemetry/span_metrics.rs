//! Metrics that follow from spans, written into the metrics of their tenants.
//!
//! ```text
//! every tick of cluster time, on the node that leads the meta group:
//!   counters of all shards (linearizable, all or none) ─► summed ─► remote write, a tenant at a time, at the tick's time
//! ```
//!
//! The shards count (`storage::span_metrics`), each span once; here they are only added up. No linearizable read sees less
//! than one before it, so the sums are counters that never go back, whichever node writes them; a tick that could not be
//! written is a gap that the next one closes. Two nodes that both take themselves for the leader write the same series at
//! the same times, where the first of two samples stays.
//!
//! Names and labels are those of Tempo's generator: `traces_spanmetrics_calls_total` and `traces_spanmetrics_latency` by
//! `service`, `span_name`, `span_kind` and `status_code`; `traces_service_graph_request_total`, `_failed_total`,
//! `_client_seconds` and `_server_seconds` by `client`, `server` and `connection_type`. What a shard had no room for counts in
//! series with the label `metric_overflow`. The slowest span of each series is an exemplar of its latency, with `trace_id` and
//! `span_id`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cluster::node::Node;
use cluster::read::Consistency;
use protocol::ids::{META_GROUP, TenantId};
use protocol::logs::value::id_text;
use storage::span_metrics::{
    CALL_BOUNDS, Connection, DURATION_BOUNDS, Durations, EXEMPLAR_MS, Edge, EdgeKey, OVERFLOW, SeriesKey,
    SpanExemplar, SpanMetrics,
};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::monitor::{exemplar, series, write};
use crate::ingest::MetricWriter;
use crate::runtime::{TokioEnv, spawn_named};
use crate::wiring::SPAN_METRICS;

/// Distance of ticks.
const TICK_MS: i64 = 15_000;
/// How long the shards may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Sets of labels of one message.
const SETS_PER_MESSAGE: usize = 1_000;

/// Starts writing until `stop`.
pub fn start(io: &Handle, node: Arc<Node<TokioEnv>>, writer: Arc<dyn MetricWriter>, stop: CancellationToken) {
    spawn_named(io, "span-metrics", async move {
        let mut failing = false;
        loop {
            let left = TICK_MS - node.cluster_time_ms().rem_euclid(TICK_MS);
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = tokio::time::sleep(Duration::from_millis(left.unsigned_abs())) => (),
            }
            if !node.leads(META_GROUP) {
                continue;
            }
            let tick_ms = node.cluster_time_ms().div_euclid(TICK_MS) * TICK_MS;
            match write_sums(&node, &*writer, tick_ms).await {
                Ok(()) => failing = false,
                Err(_) if stop.is_cancelled() => return,
                Err(reason) if !std::mem::replace(&mut failing, true) => {
                    tracing::warn!(reason, "metrics of spans are not written");
                }
                Err(_) => (),
            }
        }
    });
}

async fn write_sums(
    node: &Arc<Node<TokioEnv>>,
    writer: &dyn MetricWriter,
    tick_ms: i64,
) -> Result<(), String> {
    let answers = node.run_fragment(SPAN_METRICS.into(), Consistency::Linearizable, TIMEOUT).await;
    let mut sum = SpanMetrics::default();
    for (shard, bytes) in answers.map_err(|error| error.to_string())? {
        let counters = SpanMetrics::decode(&bytes).map_err(|error| format!("shard {shard}: {error:?}"))?;
        sum.merge(&counters);
    }
    for (tenant, body) in messages(&sum, tick_ms) {
        write(writer, &tenant, body).await?;
    }
    Ok(())
}

/// The counters as remote-write 1.0 messages, not compressed.
fn messages(sum: &SpanMetrics, tick_ms: i64) -> Vec<(TenantId, Vec<u8>)> {
    let mut open: BTreeMap<&TenantId, (Vec<u8>, usize)> = BTreeMap::new();
    let mut out = Vec::new();
    let window = tick_ms.div_euclid(EXEMPLAR_MS);
    let fresh = |key: &SeriesKey| sum.exemplar(key).filter(|exemplar| exemplar.window + 1 >= window);
    let spans = sum.series().map(|(key, durations)| (&key.tenant, Ok((key, durations))));
    let calls = sum.edges().map(|(key, edge)| (&key.tenant, Err((key, edge))));
    for (tenant, counters) in spans.chain(calls) {
        let (message, sets) = open.entry(tenant).or_default();
        match counters {
            Ok((key, durations)) => put_spans(message, key, durations, fresh(key), tick_ms),
            Err((key, edge)) => put_calls(message, key, edge, tick_ms),
        }
        *sets += 1;
        if *sets == SETS_PER_MESSAGE {
            *sets = 0;
            out.push((tenant.clone(), std::mem::take(message)));
        }
    }
    let rest = open.into_iter().filter(|(_, (message, _))| !message.is_empty());
    out.extend(rest.map(|(tenant, (message, _))| (tenant.clone(), message)));
    out
}

const KINDS: [&str; 6] = [
    "SPAN_KIND_UNSPECIFIED",
    "SPAN_KIND_INTERNAL",
    "SPAN_KIND_SERVER",
    "SPAN_KIND_CLIENT",
    "SPAN_KIND_PRODUCER",
    "SPAN_KIND_CONSUMER",
];
const STATUSES: [&str; 3] = ["STATUS_CODE_UNSET", "STATUS_CODE_OK", "STATUS_CODE_ERROR"];

fn put_spans(
    message: &mut Vec<u8>,
    key: &SeriesKey,
    durations: &Durations<13>,
    slowest: Option<&SpanExemplar>,
    tick_ms: i64,
) {
    let labels = match key.kind {
        OVERFLOW => BTreeMap::from([("metric_overflow", "true")]),
        kind => labels_of([
            ("service", &*key.service),
            ("span_name", &key.name),
            ("span_kind", KINDS.get(usize::from(kind)).copied().unwrap_or_default()),
            ("status_code", STATUSES.get(usize::from(key.status)).copied().unwrap_or_default()),
        ]),
    };
    let name = "traces_spanmetrics_calls_total";
    series(message, name, &labels, None, durations.count() as f64, tick_ms);
    let name = "traces_spanmetrics_latency";
    histogram(message, name, &labels, &DURATION_BOUNDS, durations, tick_ms);
    if let Some(slowest) = slowest {
        let bound = DURATION_BOUNDS.iter().find(|bound| slowest.took_ns <= **bound);
        let bound = bound.map_or("+Inf".to_owned(), |bound| in_seconds(*bound));
        let (trace_id, span_id) = (id_text(&slowest.trace_id), id_text(&slowest.span_id));
        let own = [("span_id", span_id.as_str()), ("trace_id", trace_id.as_str())];
        let (seconds, time_ms) = (slowest.took_ns as f64 / 1e9, slowest.end_ns.div_euclid(1_000_000));
        exemplar(message, (&format!("{name}_bucket"), &labels), Some(("le", &bound)), &own, seconds, time_ms);
    }
}

/// A bound in nanoseconds as a label.
fn in_seconds(bound: u64) -> String {
    (bound as f64 / 1e9).to_string()
}

fn put_calls(message: &mut Vec<u8>, key: &EdgeKey, edge: &Edge, tick_ms: i64) {
    let is_overflow = key.client.is_empty() && key.server.is_empty();
    let connection = match key.connection {
        Connection::Direct => "",
        Connection::Messaging => "messaging_system",
        Connection::Database => "database",
    };
    let labels = match is_overflow {
        true => BTreeMap::from([("metric_overflow", "true")]),
        false => {
            labels_of([("client", &*key.client), ("server", &key.server), ("connection_type", connection)])
        }
    };
    let mut count = |name: &str, value: u64| series(message, name, &labels, None, value as f64, tick_ms);
    count("traces_service_graph_request_total", edge.client.count());
    count("traces_service_graph_request_failed_total", edge.failed);
    for (name, durations) in [("client", &edge.client), ("server", &edge.server)] {
        let name = format!("traces_service_graph_request_{name}_seconds");
        histogram(message, &name, &labels, &CALL_BOUNDS, durations, tick_ms);
    }
}

/// A label without a value is none.
fn labels_of<'a, const N: usize>(labels: [(&'a str, &'a str); N]) -> BTreeMap<&'a str, &'a str> {
    labels.into_iter().filter(|(_, value)| !value.is_empty()).collect()
}

fn histogram<const N: usize>(
    message: &mut Vec<u8>,
    name: &str,
    labels: &BTreeMap<&str, &str>,
    bounds: &[u64],
    durations: &Durations<N>,
    tick_ms: i64,
) {
    let bucket = format!("{name}_bucket");
    let bounds = bounds.iter().map(|bound| in_seconds(*bound)).chain(["+Inf".to_owned()]);
    let mut below = 0;
    for (bound, count) in bounds.zip(&durations.buckets) {
        below += count;
        series(message, &bucket, labels, Some(("le", &bound)), below as f64, tick_ms);
    }
    let sum = durations.sum_ns as f64 / 1e9;
    series(message, &format!("{name}_sum"), labels, None, sum, tick_ms);
    series(message, &format!("{name}_count"), labels, None, below as f64, tick_ms);
}

#[cfg(test)]
mod tests {
    use protocol::ids::ClusterSecret;
    use protocol::labels::Labels;
    use protocol::logs::batch::{BatchKey, LogBatch, LogBatchBuilder};
    use protocol::logs::{LogSink, LogStream, LogValue, RowSignal};
    use protocol::remote_write::{Limits, Version, decode};
    use protocol::spans::{Span, SpanKind, SpanStatus, row};
    use protocol::write_batch::FingerprintKey;

    use super::*;

    const TICK: i64 = 1_700_000_010_000;

    /// All samples, and exemplars with their labels and times, by tenant and labels.
    fn written(
        sum: &SpanMetrics,
        tick_ms: i64,
    ) -> (BTreeMap<String, f64>, BTreeMap<String, (String, f64, i64)>) {
        let (mut out, mut exemplars) = (BTreeMap::new(), BTreeMap::new());
        for (tenant, body) in messages(sum, tick_ms) {
            let key = FingerprintKey::new(&ClusterSecret([7; 32]));
            let batch = decode(Version::V1, body, &key, &Limits::default()).unwrap();
            assert!(batch.rejections().is_empty());
            for index in 0..batch.series_len() {
                let series = batch.series(index);
                let name = format!("{tenant} {}", series.labels().unwrap());
                for shown in series.exemplars() {
                    let labels = Labels::from_canonical(shown.label_bytes).unwrap();
                    let own = (labels.to_string(), shown.value, shown.timestamp_ms);
                    assert_eq!(exemplars.insert(name.clone(), own), None);
                }
                for sample in series.samples() {
                    assert_eq!(sample.timestamp_ms, tick_ms);
                    assert_eq!(out.insert(name.clone(), sample.value), None);
                }
            }
        }
        (out, exemplars)
    }

    #[test]
    fn names_and_labels_are_those_that_dashboards_ask_for() {
        let tenant = TenantId::new("shop").unwrap();
        let mut builder = LogBatchBuilder::of(RowSignal::Spans);
        let client = Span {
            trace_id: [1; 16],
            span_id: [1; 8],
            name: "GET /".into(),
            kind: SpanKind::Client,
            end_ns: 300_000_000,
            ..Span::default()
        };
        let server = Span {
            span_id: [2; 8],
            parent_id: [1; 8],
            kind: SpanKind::Server,
            status: SpanStatus::Error,
            end_ns: 3_000_000,
            ..client.clone()
        };
        for (service, span) in [("web", client), ("api", server)] {
            let name = LogValue::String(service.into());
            builder
                .stream(&LogStream { resource: vec![("service.name".into(), name)], ..LogStream::default() });
            builder.record(&row::row_of(&span));
        }
        let batch = builder.finish(&tenant, BatchKey([1; 16])).unwrap().remove(0).1;
        let mut metrics = SpanMetrics::default();
        metrics.take(1, TICK - EXEMPLAR_MS, &LogBatch::decode(&batch).unwrap());
        let (found, exemplars) = written(&metrics, TICK);
        let get = |name: &str, labels: &str| {
            let key = format!("shop {name}{{{labels}}}");
            *found.get(&key).unwrap_or_else(|| panic!("{key} in {:#?}", found.keys()))
        };
        let web = "service=\"web\", span_kind=\"SPAN_KIND_CLIENT\", span_name=\"GET /\", status_code=\"STATUS_CODE_UNSET\"";
        let api = "service=\"api\", span_kind=\"SPAN_KIND_SERVER\", span_name=\"GET /\", status_code=\"STATUS_CODE_ERROR\"";
        assert_eq!(get("traces_spanmetrics_calls_total", web), 1.0);
        assert_eq!(get("traces_spanmetrics_calls_total", api), 1.0);
        assert_eq!(get("traces_spanmetrics_latency_sum", web), 0.3);
        assert_eq!(get("traces_spanmetrics_latency_count", web), 1.0);
        assert_eq!(get("traces_spanmetrics_latency_bucket", &format!("le=\"0.256\", {web}")), 0.0);
        assert_eq!(get("traces_spanmetrics_latency_bucket", &format!("le=\"0.512\", {web}")), 1.0);
        assert_eq!(get("traces_spanmetrics_latency_bucket", &format!("le=\"+Inf\", {web}")), 1.0);
        let edge = "client=\"web\", server=\"api\"";
        assert_eq!(get("traces_service_graph_request_total", edge), 1.0);
        assert_eq!(get("traces_service_graph_request_failed_total", edge), 1.0);
        assert_eq!(get("traces_service_graph_request_client_seconds_sum", edge), 0.3);
        assert_eq!(get("traces_service_graph_request_server_seconds_sum", edge), 0.003);
        let bucket = "client=\"web\", le=\"0.1\", server=\"api\"";
        assert_eq!(get("traces_service_graph_request_server_seconds_bucket", bucket), 1.0);
        assert_eq!(found.len(), 2 * 16 + 2 + 2 * 11);
        let shown = &exemplars[&format!("shop traces_spanmetrics_latency_bucket{{le=\"0.512\", {web}}}")];
        let ids = format!("{{span_id=\"{}\", trace_id=\"{}\"}}", "01".repeat(8), "01".repeat(16));
        assert_eq!((shown, exemplars.len()), (&(ids, 0.3, 300), 2));
        // Once its window is over it is not written again.
        let (later, exemplars) = written(&metrics, TICK + EXEMPLAR_MS);
        assert_eq!((later.len(), exemplars), (found.len(), BTreeMap::new()));
    }
}
