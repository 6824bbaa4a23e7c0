//! What a node says about itself: a log on standard error, metrics on `/metrics`, and the same metrics as samples in
//! the cluster.

pub mod memory;
pub mod metrics;
pub mod monitor;
pub mod node;
pub mod process;
pub mod span_metrics;

pub use metrics::Metrics;

use tracing_subscriber::EnvFilter;

use crate::config::{LogFormat, TelemetrySection};

/// What of the log is said, by `telemetry.log_level`.
pub fn log_filter(level: &str) -> Result<EnvFilter, String> {
    let mut filter = level.to_owned();
    if !filter.contains("openraft") {
        // It tells every vote and every response; what matters of it our own crates log.
        filter.push_str(",openraft=warn");
    }
    EnvFilter::try_new(&filter).map_err(|error| format!("{level:?}: {error}"))
}

/// Starts the log. A second start in one process changes nothing.
pub fn start_log(settings: &TelemetrySection) -> Result<(), String> {
    let filter = log_filter(&settings.log_level)?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // Fails when there is a log already.
    let _ = match settings.log_format {
        LogFormat::Text => log.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).try_init(),
        LogFormat::Json => log.json().flatten_event(true).try_init(),
    };
    Ok(())
}
