//! The ways in for data: a module per protocol, and what they share.
//!
//! ```text
//! request -> types known? 415 -> body, bounded in bytes and time, 413/408 -> decompress, decode, 400
//!         -> router: split, deliver -> receipt -> 204, or 400 with what was refused, or 503 and try again
//! ```
//!
//! Memory: every byte of a request that is held, as it came and decoded, is taken from one budget of the node
//! ([`IngestSettings::max_in_flight_bytes`]). What does not fit is answered 503 before it is read: senders keep it and
//! come again.

mod budget;
mod decompress;
pub mod grpc;
pub mod influx;
pub mod logs;
mod metrics;
pub mod otlp;
pub mod remote_write;
mod request;
pub mod syslog;
pub mod traces;

use std::sync::Arc;
use std::time::Duration;

use cluster::router::logs::{LogReceipt, PreparedLogs};
use cluster::router::shard_writer::ShardWriter;
use cluster::router::spans::SpanBatchBuilder;
use cluster::router::{Prepared, RouteError, Router, RouterStats, WriteReceipt};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use protocol::ids::TenantId;
use protocol::logs::batch::{BatchKey, LogBatchBuilder};
use protocol::memory::MemoryLedger;
use protocol::otlp::metrics::Translation;
use protocol::remote_write::Limits;
use protocol::write_batch::{FingerprintKey, LabelLimits, WriteBatch};

use crate::config::{HttpSection, IngestSection, OtlpSection};
use crate::runtime::pool::Pool;
use crate::telemetry::{Metrics, trace};
use budget::Budget;
pub use metrics::IngestMetrics;
use metrics::RouterMetrics;
use syslog::SyslogMetrics;

/// Where metrics go: the router of this node.
pub trait MetricWriter: Send + Sync + 'static {
    /// The key that requests must be decoded with.
    fn fingerprint_key(&self) -> &FingerprintKey;

    /// Splits a request by shard; computes only.
    fn prepare(&self, tenant: &TenantId, batch: WriteBatch) -> Result<Prepared, RouteError>;

    /// Gets it to the shards.
    fn deliver(&self, prepared: Prepared) -> BoxFuture<'_, Result<WriteReceipt, RouteError>>;

    /// What it counted so far.
    fn stats(&self) -> RouterStats {
        RouterStats::default()
    }
}

/// Where logs go: the router of this node.
pub trait LogWriter: Send + Sync + 'static {
    /// Takes the records of a request that are neither too old nor too far in the future.
    fn log_batch(&self, tenant: &TenantId) -> Result<LogBatchBuilder, RouteError>;

    /// The key of a request that declared one.
    fn declared_key(&self, tenant: &TenantId, key: &str) -> BatchKey;

    /// The key of a request whose records all carry the client's time.
    fn body_key(&self, tenant: &TenantId, decompressed: &[u8]) -> BatchKey;

    /// Packs a request's records; computes only.
    fn prepare_logs(
        &self,
        tenant: &TenantId,
        batch: LogBatchBuilder,
        key: Option<BatchKey>,
    ) -> Result<PreparedLogs, RouteError>;

    /// Gets them to the shards.
    fn deliver_logs(&self, prepared: PreparedLogs) -> BoxFuture<'_, Result<LogReceipt, RouteError>>;
}

/// Where spans are packed: the router of this node, which sends them as it sends logs.
pub trait SpanWriter: Send + Sync + 'static {
    /// Takes the spans of a request that have ids and are neither too old nor too far in the future.
    fn span_batch(&self, tenant: &TenantId) -> Result<SpanBatchBuilder, RouteError>;

    /// Packs a request's spans; computes only.
    fn prepare_spans(
        &self,
        batch: SpanBatchBuilder,
        key: Option<BatchKey>,
    ) -> Result<PreparedLogs, RouteError>;
}

impl<W: ShardWriter> SpanWriter for Router<W> {
    fn span_batch(&self, tenant: &TenantId) -> Result<SpanBatchBuilder, RouteError> {
        Router::span_batch(self, tenant)
    }

    fn prepare_spans(
        &self,
        batch: SpanBatchBuilder,
        key: Option<BatchKey>,
    ) -> Result<PreparedLogs, RouteError> {
        Router::prepare_spans(self, batch, key)
    }
}

impl<W: ShardWriter> LogWriter for Router<W> {
    fn log_batch(&self, tenant: &TenantId) -> Result<LogBatchBuilder, RouteError> {
        Router::log_batch(self, tenant)
    }

    fn declared_key(&self, tenant: &TenantId, key: &str) -> BatchKey {
        Router::declared_key(self, tenant, key)
    }

    fn body_key(&self, tenant: &TenantId, decompressed: &[u8]) -> BatchKey {
        Router::body_key(self, tenant, decompressed)
    }

    fn prepare_logs(
        &self,
        tenant: &TenantId,
        batch: LogBatchBuilder,
        key: Option<BatchKey>,
    ) -> Result<PreparedLogs, RouteError> {
        Router::prepare_logs(self, tenant, batch, key)
    }

    fn deliver_logs(&self, prepared: PreparedLogs) -> BoxFuture<'_, Result<LogReceipt, RouteError>> {
        trace::span("deliver").over(Router::deliver_logs(self, prepared)).boxed()
    }
}

impl<W: ShardWriter> MetricWriter for Router<W> {
    fn fingerprint_key(&self) -> &FingerprintKey {
        Router::fingerprint_key(self)
    }

    fn prepare(&self, tenant: &TenantId, batch: WriteBatch) -> Result<Prepared, RouteError> {
        Router::prepare(self, tenant, batch)
    }

    fn deliver(&self, prepared: Prepared) -> BoxFuture<'_, Result<WriteReceipt, RouteError>> {
        trace::span("deliver").over(Router::deliver(self, prepared)).boxed()
    }

    fn stats(&self) -> RouterStats {
        Router::stats(self)
    }
}

/// What is accepted.
#[derive(Clone, Debug)]
pub struct IngestSettings {
    /// Limits of a decoded request.
    pub limits: Limits,
    /// Bytes of an OTLP request when decompressed.
    pub otlp_max_body_bytes: usize,
    /// How OTLP metrics become series.
    pub translation: Arc<Translation>,
    /// How long a body may take to arrive.
    pub body_timeout: Duration,
    /// Bytes of requests in work.
    pub max_in_flight_bytes: usize,
    /// The node's memory, on which they are charged.
    pub memory: MemoryLedger,
}

impl IngestSettings {
    /// The settings of the configuration.
    pub fn from_config(ingest: &IngestSection, otlp: &OtlpSection, http: &HttpSection) -> Self {
        let bytes = |size: u64| usize::try_from(size).unwrap_or(usize::MAX);
        let labels = LabelLimits {
            max_labels: ingest.max_labels as usize,
            max_name_bytes: bytes(ingest.max_label_name.0),
            max_value_bytes: bytes(ingest.max_label_value.0),
        };
        Self {
            limits: Limits { max_body_bytes: bytes(ingest.max_body.0), labels },
            otlp_max_body_bytes: otlp.max_body.as_usize(),
            translation: Arc::new(otlp.translation()),
            body_timeout: http.body_timeout.0,
            max_in_flight_bytes: bytes(ingest.max_in_flight.0),
            memory: MemoryLedger::default(),
        }
    }
}

/// State of the ways in.
pub struct Ingest {
    writer: Arc<dyn MetricWriter>,
    logs: Arc<dyn LogWriter>,
    spans: Arc<dyn SpanWriter>,
    settings: IngestSettings,
    budget: Budget,
    /// Decodes and splits requests that would hold a reactor thread for too long.
    pool: Pool,
    metrics: IngestMetrics,
    syslog: SyslogMetrics,
}

impl Ingest {
    /// The ways in to a node's router.
    pub fn new<R: MetricWriter + LogWriter + SpanWriter>(
        router: Arc<R>,
        settings: IngestSettings,
        metrics: &Metrics,
    ) -> Arc<Self> {
        let writer: Arc<dyn MetricWriter> = Arc::clone(&router) as Arc<dyn MetricWriter>;
        let logs: Arc<dyn LogWriter> = Arc::clone(&router) as Arc<dyn LogWriter>;
        let spans: Arc<dyn SpanWriter> = router;
        let ingest = IngestMetrics::new(metrics.registry());
        let budget = Budget::new(settings.max_in_flight_bytes, settings.memory.clone());
        let (gauge, source) = (ingest.in_flight_bytes.clone(), budget.clone());
        metrics.add_source(move || gauge.set(source.used_bytes() as i64));
        let counters = RouterMetrics::new(metrics.registry());
        let source = Arc::clone(&writer);
        metrics.add_source(move || counters.update(&source.stats()));
        let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        let pool = Pool::bounded("pharos-ingest", threads, 1024);
        let syslog = SyslogMetrics::new(metrics.registry());
        Arc::new(Self { writer, logs, spans, settings, budget, pool, metrics: ingest, syslog })
    }

    /// Requests that wait for a thread to decode them.
    pub fn waiting(&self) -> usize {
        self.pool.waiting()
    }

    /// Where logs go, for what this process writes about itself.
    pub fn log_writer(&self) -> &Arc<dyn LogWriter> {
        &self.logs
    }

    /// Where spans are packed, for what this process writes about itself.
    pub fn span_writer(&self) -> &Arc<dyn SpanWriter> {
        &self.spans
    }

    /// Where metrics go, for what this process writes about itself.
    pub fn writer(&self) -> &Arc<dyn MetricWriter> {
        &self.writer
    }
}

#[cfg(test)]
mod tests;
