//! The node writes its own metrics into the cluster, as a client would.
//!
//! Every interval the registry is gathered, encoded as a remote-write 1.0 message with `job="pharos"` and
//! `instance=<HTTP address>` on each series, and given to the same router as everybody's writes. It goes in below the
//! HTTP surface, so that watching the node does not show up in what is watched. A write that fails is dropped: the next
//! interval brings newer values, and the gap is true.

use std::collections::BTreeMap;
use std::sync::Arc;

use prometheus::proto::{MetricFamily, MetricType};
use protocol::ids::TenantId;
use protocol::remote_write::{Limits, Version, decode};
use tokio::runtime::Handle;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::Metrics;
use crate::config::Config;
use crate::ingest::MetricWriter;
use crate::runtime::{now_ms, spawn_named};

/// Starts writing until `stop`.
pub fn start(
    io: &Handle,
    config: &Config,
    metrics: Arc<Metrics>,
    writer: Arc<dyn MetricWriter>,
    stop: CancellationToken,
) {
    let settings = &config.telemetry;
    let Ok(tenant) = TenantId::new(&settings.self_monitoring_tenant) else { return };
    let (instance, interval) = (config.http_advertise(), settings.self_monitoring_interval.0);
    spawn_named(io, "self-monitoring", async move {
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut failing = false;
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                _ = ticks.tick() => (),
            }
            let body = encode(&metrics.gather(), &instance, now_ms());
            match write(&*writer, &tenant, body).await {
                Ok(()) => failing = false,
                // The node does not take writes any more.
                Err(_) if stop.is_cancelled() => return,
                // Said once: as long as writes fail, the reason is in the log elsewhere, too.
                Err(reason) if !std::mem::replace(&mut failing, true) => {
                    tracing::warn!(reason, "this node's own metrics are not written");
                }
                Err(_) => (),
            }
        }
    });
}

/// Writes a message that is not compressed.
pub(super) async fn write(writer: &dyn MetricWriter, tenant: &TenantId, body: Vec<u8>) -> Result<(), String> {
    let batch =
        decode(Version::V1, body, writer.fingerprint_key(), &Limits::default()).map_err(|e| e.to_string())?;
    let prepared = writer.prepare(tenant, batch).map_err(|e| e.to_string())?;
    let receipt = writer.deliver(prepared).await.map_err(|e| e.to_string())?;
    if receipt.rejections.is_empty() { Ok(()) } else { Err(receipt.rejections.to_string()) }
}

/// Encodes gathered metrics as a remote-write 1.0 message, not compressed.
pub fn encode(families: &[MetricFamily], instance: &str, now_ms: i64) -> Vec<u8> {
    let mut message = Vec::new();
    // Whoever scrapes a target writes this; we are our own scraper.
    let own = BTreeMap::from([("job", "pharos"), ("instance", instance)]);
    series(&mut message, "up", &own, None, 1.0, now_ms);
    for family in families {
        let name = family.name();
        for metric in family.get_metric() {
            let labels: BTreeMap<&str, &str> = metric
                .get_label()
                .iter()
                .map(|pair| (pair.name(), pair.value()))
                .chain([("job", "pharos"), ("instance", instance)])
                .collect();
            let mut push = |name: &str, extra: Option<(&str, &str)>, value: f64| {
                series(&mut message, name, &labels, extra, value, now_ms);
            };
            match family.get_field_type() {
                MetricType::COUNTER => push(name, None, metric.get_counter().get_value()),
                MetricType::GAUGE => push(name, None, metric.get_gauge().get_value()),
                MetricType::HISTOGRAM => {
                    let histogram = metric.get_histogram();
                    let bucket_name = format!("{name}_bucket");
                    for bucket in histogram.get_bucket() {
                        let bound = bucket.upper_bound();
                        // As the text format writes it.
                        let bound = if bound.is_infinite() { "+Inf".to_owned() } else { bound.to_string() };
                        push(&bucket_name, Some(("le", &bound)), bucket.cumulative_count() as f64);
                    }
                    push(&bucket_name, Some(("le", "+Inf")), histogram.get_sample_count() as f64);
                    push(&format!("{name}_sum"), None, histogram.get_sample_sum());
                    push(&format!("{name}_count"), None, histogram.get_sample_count() as f64);
                }
                // We have none of these.
                MetricType::SUMMARY | MetricType::UNTYPED => {}
            }
        }
        metadata(&mut message, family);
    }
    message
}

/// A `TimeSeries` (field 1) with one sample.
pub(super) fn series(
    message: &mut Vec<u8>,
    name: &str,
    labels: &BTreeMap<&str, &str>,
    extra: Option<(&str, &str)>,
    value: f64,
    now_ms: i64,
) {
    let mut sample = Vec::new();
    sample.push(1 << 3 | 1);
    sample.extend_from_slice(&value.to_le_bytes());
    sample.push(2 << 3);
    varint(&mut sample, now_ms as u64);
    series_of(message, name, labels, extra, (2, &sample));
}

/// A `TimeSeries` (field 1) with one exemplar.
pub(super) fn exemplar(
    message: &mut Vec<u8>,
    (name, labels): (&str, &BTreeMap<&str, &str>),
    extra: Option<(&str, &str)>,
    own: &[(&str, &str)],
    value: f64,
    time_ms: i64,
) {
    let mut exemplar = Vec::new();
    own.iter().for_each(|pair| field(&mut exemplar, 1, &label(*pair)));
    exemplar.push(2 << 3 | 1);
    exemplar.extend_from_slice(&value.to_le_bytes());
    exemplar.push(3 << 3);
    varint(&mut exemplar, time_ms as u64);
    series_of(message, name, labels, extra, (3, &exemplar));
}

/// A `TimeSeries` (field 1): labels sorted by name, then a field.
fn series_of(
    message: &mut Vec<u8>,
    name: &str,
    labels: &BTreeMap<&str, &str>,
    extra: Option<(&str, &str)>,
    (number, content): (u8, &[u8]),
) {
    let mut all: Vec<(&str, &str)> = labels.iter().map(|(name, value)| (*name, *value)).collect();
    all.extend(extra);
    all.push(("__name__", name));
    all.sort_unstable();
    let mut series = Vec::new();
    all.into_iter().for_each(|pair| field(&mut series, 1, &label(pair)));
    field(&mut series, number, content);
    field(message, 1, &series);
}

fn label((name, value): (&str, &str)) -> Vec<u8> {
    let mut label = Vec::new();
    field(&mut label, 1, name.as_bytes());
    field(&mut label, 2, value.as_bytes());
    label
}

/// A `MetricMetadata` (field 3).
fn metadata(message: &mut Vec<u8>, family: &MetricFamily) {
    let kind = match family.get_field_type() {
        MetricType::COUNTER => 1,
        MetricType::GAUGE => 2,
        MetricType::HISTOGRAM => 3,
        MetricType::SUMMARY => 5,
        MetricType::UNTYPED => 0,
    };
    let mut metadata = vec![1 << 3, kind];
    field(&mut metadata, 2, family.name().as_bytes());
    field(&mut metadata, 4, family.help().as_bytes());
    field(message, 3, &metadata);
}

fn field(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    out.push(number << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use protocol::ids::ClusterSecret;
    use protocol::write_batch::FingerprintKey;

    use super::*;
    use crate::telemetry::Metrics;

    #[test]
    fn the_decoder_of_remote_write_understands_it() {
        let metrics = Metrics::new();
        metrics.http.started("/api/v1/query").answered(200);
        let body = encode(&metrics.gather(), "127.0.0.1:9600", 1_700_000_000_000);
        let batch =
            decode(Version::V1, body, &FingerprintKey::new(&ClusterSecret([7; 32])), &Limits::default())
                .unwrap();
        assert!(batch.rejections().is_empty());
        let mut names = std::collections::BTreeSet::new();
        for index in 0..batch.series_len() {
            let series = batch.series(index);
            let labels = series.labels().unwrap();
            assert_eq!(labels.get("job"), Some("pharos"));
            assert_eq!(labels.get("instance"), Some("127.0.0.1:9600"));
            assert_eq!(series.samples().len(), 1);
            names.insert(labels.get("__name__").unwrap().to_owned());
        }
        for name in ["up", "process_cpu_seconds_total", "pharos_http_request_duration_seconds_bucket"] {
            assert!(names.contains(name), "{name} in {names:?}");
        }
    }
}
