//! The thread that writes and syncs the log of all groups.
//!
//! There is one, and it has no timer: while it syncs, the next batch gathers. A full disk keeps everything waiting and is
//! tried again; any other failure has poisoned the log, and the node ends.

use std::time::{Duration, Instant};

use storage::fs::Fs;
use storage::wal::{LogWriter, WalError};

use crate::telemetry::metrics::LogMetrics;

/// Pause between attempts while the disk is full. Nobody tells when there is space again.
const RETRY_FULL_DISK: Duration = Duration::from_millis(500);

/// Starts the thread. `failed` is called when the log is lost.
pub(super) fn start<F: Fs>(
    mut writer: LogWriter<F>,
    metrics: LogMetrics,
    failed: impl FnOnce(&str) + Send + 'static,
) -> std::io::Result<()> {
    let run = move || {
        let mut disk_is_full = false;
        while writer.wait() {
            let begun = Instant::now();
            match writer.write_pending() {
                Ok(records) => {
                    metrics.sync_seconds.observe(begun.elapsed().as_secs_f64());
                    metrics.batch_records.observe(records as f64);
                    if std::mem::take(&mut disk_is_full) {
                        tracing::info!("the log is written again");
                    }
                }
                Err(error @ WalError::NoSpace { .. }) => {
                    if !std::mem::replace(&mut disk_is_full, true) {
                        tracing::error!(error = %crate::error::chain(&error), "the log waits for space");
                    }
                    std::thread::sleep(RETRY_FULL_DISK);
                }
                Err(error) => return failed(&crate::error::chain(&error)),
            }
        }
    };
    std::thread::Builder::new().name("pharos-log".to_owned()).spawn(run).map(drop)
}
