//! The registry: every metric of the process is made and documented here.
//!
//! Counters and histograms are bumped where things happen. Values that others keep already (sizes, positions,
//! counters of the network) are not kept twice: a source is asked for them when somebody gathers.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};

use super::process;

/// Latency in seconds, from a memory hit to a time-out.
const LATENCY: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];

/// Called before each gathering: copies what others count into gauges.
type Source = Box<dyn Fn() + Send + Sync>;

/// All metrics of a process.
pub struct Metrics {
    registry: Registry,
    sources: Mutex<Vec<Source>>,
    /// Requests of clients.
    pub http: HttpMetrics,
    /// The shared log.
    pub log: LogMetrics,
    /// Queries.
    pub query: QueryMetrics,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// Registers a metric and gives it back.
pub(crate) fn registered<C: Collector + Clone + 'static>(
    registry: &Registry,
    made: prometheus::Result<C>,
) -> C {
    let metric = made.expect("names and labels are valid constants");
    registry.register(Box::new(metric.clone())).expect("every metric has a name of its own");
    metric
}

impl Metrics {
    /// Makes the registry with the process' own metrics in it.
    pub fn new() -> Self {
        let registry = Registry::new();
        let build = registered(
            &registry,
            IntGaugeVec::new(
                Opts::new("pharos_build_info", "1, with the version of the binary."),
                &["version"],
            ),
        );
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let metrics = Self {
            http: HttpMetrics::new(&registry),
            log: LogMetrics::new(&registry),
            query: QueryMetrics::new(&registry),
            sources: Mutex::new(Vec::new()),
            registry,
        };
        let process = process::ProcessMetrics::new(&metrics.registry);
        metrics.add_source(move || process.update());
        metrics
    }

    /// The registry, for metrics of other modules.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Has something called before each gathering.
    pub fn add_source(&self, source: impl Fn() + Send + Sync + 'static) {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(source));
    }

    /// All metrics of this moment, sorted by name. One gathering at a time: sources empty and fill families, and another
    /// one in between would find half of them.
    pub fn gather(&self) -> Vec<MetricFamily> {
        let sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        for source in sources.iter() {
            source();
        }
        self.registry.gather()
    }

    /// The text of `/metrics`.
    pub fn text(&self) -> prometheus::Result<String> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.gather(), &mut text)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// Requests of clients.
#[derive(Clone, Debug)]
pub struct HttpMetrics {
    requests: IntCounterVec,
    seconds: HistogramVec,
    in_flight: IntGauge,
}

impl HttpMetrics {
    fn new(registry: &Registry) -> Self {
        Self {
            requests: registered(
                registry,
                IntCounterVec::new(
                    Opts::new("pharos_http_requests_total", "Answered requests by route and status."),
                    &["route", "code"],
                ),
            ),
            seconds: registered(
                registry,
                HistogramVec::new(
                    HistogramOpts::new(
                        "pharos_http_request_duration_seconds",
                        "Time to the head of the answer.",
                    )
                    .buckets(LATENCY.to_vec()),
                    &["route"],
                ),
            ),
            in_flight: registered(
                registry,
                IntGauge::new("pharos_http_requests_in_flight", "Requests in work."),
            ),
        }
    }

    /// A request begins. Dropped without an answer, it counts as 499: the client left.
    pub fn started(&self, route: &str) -> HttpTimer {
        self.in_flight.inc();
        HttpTimer { metrics: self.clone(), route: route.to_owned(), start: Instant::now(), code: 499 }
    }
}

/// A request in work.
#[derive(Debug)]
pub struct HttpTimer {
    metrics: HttpMetrics,
    route: String,
    start: Instant,
    code: u16,
}

impl HttpTimer {
    /// It has an answer.
    pub fn answered(mut self, code: u16) {
        self.code = code;
    }
}

impl Drop for HttpTimer {
    fn drop(&mut self) {
        self.metrics.in_flight.dec();
        self.metrics.requests.with_label_values(&[self.route.as_str(), &self.code.to_string()]).inc();
        self.metrics.seconds.with_label_values(&[&self.route]).observe(self.start.elapsed().as_secs_f64());
    }
}

/// The shared log.
#[derive(Clone, Debug)]
pub struct LogMetrics {
    /// Time of one write and sync.
    pub sync_seconds: Histogram,
    /// Records that such a sync made durable.
    pub batch_records: Histogram,
}

impl LogMetrics {
    fn new(registry: &Registry) -> Self {
        let sizes = vec![1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];
        Self {
            sync_seconds: registered(
                registry,
                Histogram::with_opts(
                    HistogramOpts::new(
                        "pharos_log_sync_duration_seconds",
                        "Time of one write and sync of the log.",
                    )
                    .buckets(LATENCY.to_vec()),
                ),
            ),
            batch_records: registered(
                registry,
                Histogram::with_opts(
                    HistogramOpts::new("pharos_log_batch_records", "Records made durable by one sync.")
                        .buckets(sizes),
                ),
            ),
        }
    }
}

/// Queries.
#[derive(Clone, Debug)]
pub struct QueryMetrics {
    /// Time from the first byte of work to the answer.
    pub seconds: Histogram,
    /// Queries in work.
    pub running: IntGauge,
    /// Queries that found no place.
    pub refused: IntCounter,
    /// Fragments run here for any coordinator.
    pub fragments: IntCounter,
}

impl QueryMetrics {
    fn new(registry: &Registry) -> Self {
        Self {
            seconds: registered(
                registry,
                Histogram::with_opts(
                    HistogramOpts::new(
                        "pharos_query_duration_seconds",
                        "Time of a query, its wait included.",
                    )
                    .buckets(LATENCY.to_vec()),
                ),
            ),
            running: registered(registry, IntGauge::new("pharos_queries_running", "Queries in work.")),
            refused: registered(
                registry,
                IntCounter::new("pharos_queries_refused_total", "Queries that found no place in time."),
            ),
            fragments: registered(
                registry,
                IntCounter::new("pharos_query_fragments_total", "Fragments of queries run by this node."),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_holds_what_was_counted() {
        let metrics = Metrics::new();
        metrics.http.started("/api/v1/query").answered(200);
        drop(metrics.http.started("/api/v1/query"));
        let text = metrics.text().unwrap();
        assert!(
            text.contains("pharos_http_requests_total{code=\"200\",route=\"/api/v1/query\"} 1"),
            "{text}"
        );
        assert!(
            text.contains("pharos_http_requests_total{code=\"499\",route=\"/api/v1/query\"} 1"),
            "{text}"
        );
        assert!(text.contains("pharos_http_requests_in_flight 0"), "{text}");
        assert!(text.contains("process_resident_memory_bytes "), "{text}");
    }

    #[test]
    fn sources_are_asked_at_each_gathering() {
        let metrics = Metrics::new();
        let gauge = registered(metrics.registry(), IntGauge::new("test_calls", "Calls."));
        metrics.add_source(move || gauge.inc());
        metrics.gather();
        assert!(metrics.text().unwrap().contains("test_calls 2"));
    }
}
