//! What a node says about itself: a log on standard error, metrics on `/metrics`, and both again in the cluster, with the
//! traces of its requests.

pub mod memory;
pub mod metrics;
pub mod monitor;
pub mod node;
mod own;
pub mod own_log;
pub mod own_traces;
pub mod process;
pub mod span_metrics;
pub mod trace;

pub use metrics::Metrics;

use std::sync::Arc;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use own_log::{Lines, Tap};
use trace::Tracer;

use crate::config::{Config, LogFormat, TelemetrySection};

/// What of the log is said, by `telemetry.log_level`.
pub fn log_filter(level: &str) -> Result<EnvFilter, String> {
    let mut filter = level.to_owned();
    if !filter.contains("openraft") {
        // It tells every vote and every response; what matters of it our own crates log.
        filter.push_str(",openraft=warn");
    }
    EnvFilter::try_new(&filter).map_err(|error| format!("{level:?}: {error}"))
}

/// What traces the requests of a node with these settings.
pub fn tracer(config: &Config) -> Arc<Tracer> {
    let telemetry = &config.telemetry;
    let per_second = if telemetry.self_monitoring { telemetry.traces_per_second } else { 0 };
    Tracer::new(trace::Settings { per_second, slow_after: config.query.log_slower_than.0 })
}

/// Starts the log; its lines are also put where the node takes them from to write them itself. A second start in one
/// process changes nothing, and has no lines.
pub fn start_log(settings: &TelemetrySection) -> Result<Arc<Lines>, String> {
    let shown = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let shown = match settings.log_format {
        LogFormat::Text => shown.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).boxed(),
        LogFormat::Json => shown.json().flatten_event(true).boxed(),
    };
    let lines = Arc::new(Lines::default());
    let kept = settings.self_monitoring.then(|| Tap(Arc::clone(&lines)));
    let log = tracing_subscriber::registry().with(log_filter(&settings.log_level)?).with(shown).with(kept);
    // Fails when there is a log already.
    let _ = log.try_init();
    Ok(lines)
}
