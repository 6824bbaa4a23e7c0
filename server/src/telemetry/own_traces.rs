//! The node writes the traces of its requests into the cluster, as a client would. See [`super::trace`] for what is traced.

use std::sync::Arc;

use protocol::ids::TenantId;
use protocol::logs::LogStream;
use protocol::spans::{Span, SpanSink};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::own::{self, Own};
use super::trace::Tracer;
use crate::config::Config;
use crate::ingest::{LogWriter, SpanWriter};

struct OwnTraces {
    tracer: Arc<Tracer>,
    tenant: TenantId,
    instance: String,
    spans: Arc<dyn SpanWriter>,
    logs: Arc<dyn LogWriter>,
}

impl Own for OwnTraces {
    type Item = Span<'static>;

    const WHAT: &'static str = "own-traces";

    fn take(&self) -> Vec<Span<'static>> {
        let (spans, lost) = self.tracer.take();
        if lost > 0 {
            tracing::warn!(lost, "more spans of this node ended than are written; the oldest are lost");
        }
        spans
    }

    async fn write(&self, pending: &[Span<'static>], key: &str) -> Result<(), String> {
        let mut batch = self.spans.span_batch(&self.tenant).map_err(|e| e.to_string())?;
        put(pending, &self.instance, &mut batch);
        let key = self.logs.declared_key(&self.tenant, key);
        let prepared = self.spans.prepare_spans(batch, Some(key)).map_err(|e| e.to_string())?;
        self.logs.deliver_logs(prepared).await.map(|_| ()).map_err(|e| e.to_string())
    }
}

/// Starts writing until `stop`.
pub fn start(
    io: &Handle,
    config: &Config,
    tracer: Arc<Tracer>,
    (spans, logs): (Arc<dyn SpanWriter>, Arc<dyn LogWriter>),
    stop: CancellationToken,
) {
    let Ok(tenant) = TenantId::new(&config.telemetry.self_monitoring_tenant) else { return };
    let instance = config.http_advertise();
    own::start(io, OwnTraces { tracer, tenant, instance: instance.clone(), spans, logs }, instance, stop);
}

fn put(spans: &[Span<'static>], instance: &str, sink: &mut impl SpanSink) {
    sink.stream(&LogStream {
        resource: own::resource(instance),
        scope_name: "pharos".into(),
        scope_version: env!("CARGO_PKG_VERSION").into(),
        ..LogStream::default()
    });
    spans.iter().for_each(|span| sink.span(span));
}
