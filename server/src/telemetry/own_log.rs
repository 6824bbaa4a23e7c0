//! The node writes its own log lines into the cluster, as a client would.
//!
//! ```text
//! tracing event ─► Tap, a layer ─► Lines, a bounded queue ─every second─► records ─► the router of everybody's logs
//! ```
//!
//! A line is a record of the service `pharos`, its scope the module that said it, its fields attributes; one that was said
//! while a request was answered whose trace is kept has the ids of that. What can not be written (no quorum yet, overload)
//! is kept and sent again under the same key, so that each line is there once; beyond [`MOST_LINES`] the oldest go, and how
//! many did is a line, too. Lines below INFO stay in the log on standard error.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use protocol::ids::TenantId;
use protocol::logs::{Attribute, LogRecord, LogSink, LogStream, LogValue, TimestampNs};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::own::{self, Own};
use super::trace::Position;
use crate::config::Config;
use crate::ingest::LogWriter;
use crate::runtime::now_ns;

/// Lines that wait at most.
const MOST_LINES: usize = 4_096;

/// A line of the log.
#[derive(Clone, Debug, PartialEq)]
struct Line {
    time_ns: TimestampNs,
    level: Level,
    target: &'static str,
    message: String,
    fields: Vec<Attribute<'static>>,
    /// Ids of the trace and of the span that it was said in.
    said_in: Option<([u8; 16], [u8; 8])>,
}

/// Lines that are not written yet.
#[derive(Debug, Default)]
pub struct Lines(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    lines: VecDeque<Line>,
    lost: u64,
}

impl Lines {
    fn push(&self, line: Line) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.lines.len() == MOST_LINES {
            waiting.lines.pop_front();
            waiting.lost += 1;
        }
        waiting.lines.push_back(line);
    }

    /// All that wait, oldest first.
    fn take(&self) -> Vec<Line> {
        let waiting = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let mut lines: Vec<Line> = waiting.lines.into();
        if let (lost @ 1.., Some(first)) = (waiting.lost, lines.first()) {
            let lost = Line {
                level: Level::WARN,
                target: module_path!(),
                message: format!("{lost} earlier lines of this node's log were not written here"),
                fields: Vec::new(),
                said_in: None,
                ..*first
            };
            lines.insert(0, lost);
        }
        lines
    }
}

/// Puts lines into the queue.
pub struct Tap(pub Arc<Lines>);

impl<S: Subscriber> Layer<S> for Tap {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        if *metadata.level() > Level::INFO {
            return;
        }
        let mut line = Line {
            time_ns: now_ns(),
            level: *metadata.level(),
            target: metadata.target(),
            message: String::new(),
            fields: Vec::new(),
            said_in: Position::of_line(*metadata.level() <= Level::WARN),
        };
        event.record(&mut line);
        self.0.push(line);
    }
}

impl Line {
    fn put(&mut self, field: &Field, value: LogValue<'static>) {
        match (field.name(), value) {
            ("message", value) => self.message = value.text().into_owned(),
            (name, value) => self.fields.push((Cow::Borrowed(name), value)),
        }
    }

    fn record(&self) -> LogRecord<'_> {
        let (severity, name) = match self.level {
            Level::ERROR => (17, "ERROR"),
            Level::WARN => (13, "WARN"),
            _ => (9, "INFO"),
        };
        let (trace_id, span_id) = self.said_in.unwrap_or_default();
        LogRecord {
            trace_id,
            span_id,
            time_ns: self.time_ns,
            observed_ns: self.time_ns,
            severity,
            severity_text: name.into(),
            body: LogValue::String(self.message.as_str().into()),
            attributes: self.fields.clone(),
            ..LogRecord::default()
        }
    }
}

impl Visit for Line {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, LogValue::Float(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, LogValue::Int(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        let value = i64::try_from(value).map_or_else(|_| text(value.to_string()), LogValue::Int);
        self.put(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, LogValue::Bool(value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, text(value.to_owned()));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        // With its causes, as a person would read them.
        let mut said = value.to_string();
        let mut cause = value.source();
        while let Some(error) = cause {
            said = format!("{said}: {error}");
            cause = error.source();
        }
        self.put(field, text(said));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, text(format!("{value:?}")));
    }
}

fn text(value: String) -> LogValue<'static> {
    LogValue::String(value.into())
}

struct OwnLog {
    lines: Arc<Lines>,
    tenant: TenantId,
    instance: String,
    writer: Arc<dyn LogWriter>,
}

impl Own for OwnLog {
    type Item = Line;

    const WHAT: &'static str = "own-log";

    fn take(&self) -> Vec<Line> {
        self.lines.take()
    }

    async fn write(&self, pending: &[Line], key: &str) -> Result<(), String> {
        let mut batch = self.writer.log_batch(&self.tenant).map_err(|e| e.to_string())?;
        records(pending, &self.instance, &mut batch);
        let key = self.writer.declared_key(&self.tenant, key);
        let prepared = self.writer.prepare_logs(&self.tenant, batch, Some(key)).map_err(|e| e.to_string())?;
        self.writer.deliver_logs(prepared).await.map(|_| ()).map_err(|e| e.to_string())
    }
}

/// Starts writing until `stop`.
pub fn start(
    io: &Handle,
    config: &Config,
    lines: Arc<Lines>,
    writer: Arc<dyn LogWriter>,
    stop: CancellationToken,
) {
    let Ok(tenant) = TenantId::new(&config.telemetry.self_monitoring_tenant) else { return };
    let instance = config.http_advertise();
    own::start(io, OwnLog { lines, tenant, instance: instance.clone(), writer }, instance, stop);
}

fn records(lines: &[Line], instance: &str, sink: &mut impl LogSink) {
    let resource = own::resource(instance);
    for run in lines.chunk_by(|a, b| a.target == b.target) {
        sink.stream(&LogStream {
            resource: resource.clone(),
            scope_name: run[0].target.into(),
            ..LogStream::default()
        });
        run.iter().for_each(|line| sink.record(&line.record()));
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[derive(Default)]
    struct Records(Vec<(String, LogRecord<'static>)>, String);

    impl LogSink for Records {
        fn stream(&mut self, stream: &LogStream<'_>) {
            assert_eq!(stream.resource[1].1, LogValue::String("a:1".into()));
            self.1 = stream.scope_name.to_string();
        }

        fn record(&mut self, record: &LogRecord<'_>) {
            self.0.push((self.1.clone(), record.clone().into_owned()));
        }
    }

    #[test]
    fn a_line_is_a_record_with_its_fields() {
        let lines = Arc::new(Lines::default());
        let log = tracing_subscriber::registry().with(Tap(Arc::clone(&lines)));
        tracing::subscriber::with_default(log, || {
            let source = std::io::Error::other("no disk");
            tracing::error!(
                error = &source as &dyn std::error::Error,
                shard = 7u64,
                ok = false,
                "cannot {}",
                "write"
            );
            tracing::info!(target: "elsewhere", share = 0.5, who = %"me", "done");
            tracing::debug!("details");
        });
        let mut found = Records::default();
        records(&lines.take(), "a:1", &mut found);
        let [(scope, first), (other, second)] = &found.0[..] else { panic!("{:?}", found.0) };
        assert_eq!((scope.as_str(), other.as_str()), (module_path!(), "elsewhere"));
        assert_eq!((first.severity, first.body.text().as_ref()), (17, "cannot write"));
        let fields: Vec<(&str, String)> =
            first.attributes.iter().map(|(key, value)| (key.as_ref(), value.text().into_owned())).collect();
        assert_eq!(
            fields,
            [("error", "no disk".to_owned()), ("shard", "7".to_owned()), ("ok", "false".to_owned())]
        );
        assert_eq!((second.severity, second.attributes[0].1.clone()), (9, LogValue::Float(0.5)));
        assert!(first.time_ns > 0 && lines.take().is_empty());
    }

    #[test]
    fn what_does_not_fit_is_counted() {
        let lines = Arc::new(Lines::default());
        let log = tracing_subscriber::registry().with(Tap(Arc::clone(&lines)));
        tracing::subscriber::with_default(log, || {
            (0..MOST_LINES + 3).for_each(|number| tracing::info!("line {number}"));
        });
        let taken = lines.take();
        assert_eq!(taken.len(), MOST_LINES + 1);
        assert!(taken[0].message.starts_with("3 earlier lines") && taken[0].level == Level::WARN);
        assert_eq!(taken[1].message, "line 3");
    }
}
