//! What came in, and what of it did not get far.

use cluster::router::RouterStats;
use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};
use protocol::write_batch::Rejections;

use crate::telemetry::metrics::registered;

/// Rows and bytes of the ways in.
#[derive(Clone, Debug)]
pub struct IngestMetrics {
    rows: IntCounterVec,
    rejected: IntCounterVec,
    bytes: IntCounterVec,
    /// Bytes of requests in work.
    pub(super) in_flight_bytes: IntGauge,
}

impl IngestMetrics {
    pub(super) fn new(registry: &Registry) -> Self {
        let by = |name: &str, help: &str, labels: &[&str]| {
            registered(registry, IntCounterVec::new(Opts::new(name, help), labels))
        };
        Self {
            rows: by(
                "pharos_ingest_rows_total",
                "Rows acknowledged, repeats included.",
                &["protocol", "kind"],
            ),
            rejected: by(
                "pharos_ingest_rejected_rows_total",
                "Rows refused and named in a 400.",
                &["protocol", "kind"],
            ),
            bytes: by("pharos_ingest_bytes_total", "Bytes of bodies as they came.", &["protocol"]),
            in_flight_bytes: registered(
                registry,
                IntGauge::new("pharos_ingest_in_flight_bytes", "Bytes of requests in work."),
            ),
        }
    }

    pub(super) fn received(&self, protocol: &str, bytes: usize) {
        self.bytes.with_label_values(&[protocol]).inc_by(bytes as u64);
    }

    pub(super) fn written(&self, protocol: &str, rows: [u64; 3]) {
        count(&self.rows, protocol, rows.into_iter().zip(["samples", "histograms", "exemplars"]));
    }

    pub(super) fn logs(&self, protocol: &str, written: u64, rejected: u64) {
        count(&self.rows, protocol, [(written, "logs")].into_iter());
        count(&self.rejected, protocol, [(rejected, "logs")].into_iter());
    }

    /// Spans of a request that are written, and that are not.
    pub(super) fn spans(&self, protocol: &str, written: u64, rejected: u64) {
        count(&self.rows, protocol, [(written, "spans")].into_iter());
        count(&self.rejected, protocol, [(rejected, "spans")].into_iter());
    }

    pub(super) fn rejected(&self, protocol: &str, rejections: &Rejections) {
        let rows = [
            (rejections.samples, "samples"),
            (rejections.histograms, "histograms"),
            (rejections.exemplars, "exemplars"),
            (rejections.metadata, "metadata"),
        ];
        count(&self.rejected, protocol, rows.into_iter());
    }
}

/// The router's own counters, copied at each gathering.
pub(super) struct RouterMetrics {
    cached_series: IntGauge,
    cache_hits: IntCounter,
    cache_misses: IntCounter,
    proposals: IntCounter,
    retries: IntCounter,
    stale: IntCounter,
}

impl RouterMetrics {
    pub(super) fn new(registry: &Registry) -> Self {
        let counter = |name: &str, help: &str| registered(registry, IntCounter::new(name, help));
        Self {
            cached_series: registered(
                registry,
                IntGauge::new("pharos_router_cached_series", "Series that the router knows without labels."),
            ),
            cache_hits: counter("pharos_router_cache_hits_total", "Series of requests that the router knew."),
            cache_misses: counter("pharos_router_cache_misses_total", "Series whose labels were read."),
            proposals: counter("pharos_router_proposals_total", "Sub-batches sent, each attempt counted."),
            retries: counter("pharos_router_retries_total", "Attempts after the first."),
            stale: counter("pharos_router_stale_total", "Sub-batches sent again with labels."),
        }
    }

    pub(super) fn update(&self, stats: &RouterStats) {
        self.cached_series.set(stats.cached_series as i64);
        for (counter, total) in [
            (&self.cache_hits, stats.cache_hits),
            (&self.cache_misses, stats.cache_misses),
            (&self.proposals, stats.proposals),
            (&self.retries, stats.retries),
            (&self.stale, stats.stale),
        ] {
            counter.inc_by(total.saturating_sub(counter.get()));
        }
    }
}

fn count<'a>(counter: &IntCounterVec, protocol: &str, rows: impl Iterator<Item = (u64, &'a str)>) {
    for (rows, kind) in rows.filter(|(rows, _)| *rows > 0) {
        counter.with_label_values(&[protocol, kind]).inc_by(rows);
    }
}
