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

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::mpsc;

    use bytes::Bytes;
    use protocol::ids::ShardId;
    use storage::fs::mem::{FaultOp, MemFs};
    use storage::wal::{Wal, WalOptions};

    use super::*;
    use crate::telemetry::Metrics;

    /// A log on a disk of its own, its writer running, and what came of a vote: synced or not.
    fn vote_on(plan: impl FnOnce(&MemFs)) -> (bool, LogMetrics, mpsc::Receiver<String>) {
        let fs = MemFs::new(1);
        let (wal, writer) = Wal::open(fs.clone(), Path::new("/wal"), WalOptions::default()).unwrap();
        plan(&fs);
        let (fail, failed) = mpsc::channel();
        let metrics = Metrics::new().log;
        start(writer, metrics.clone(), move |reason| fail.send(reason.to_owned()).unwrap()).unwrap();
        let (done, outcome) = mpsc::channel();
        wal.save_vote(
            ShardId(1),
            Bytes::from_static(b"vote"),
            Box::new(move |r| done.send(r.is_ok()).unwrap()),
        );
        (outcome.recv().unwrap(), metrics, failed)
    }

    #[test]
    fn what_is_submitted_is_synced_and_counted() {
        let (synced, metrics, failed) = vote_on(|_| ());
        assert!(synced);
        // The callback comes from inside the write that is then counted; the log has ended when its end is noticed.
        assert!(failed.recv().is_err());
        // The vote's sync, and the one of the seal if the log was closed before the writer looked again.
        assert!((1..=2).contains(&metrics.sync_seconds.get_sample_count()));
    }

    #[test]
    fn a_failed_sync_is_the_end() {
        let (synced, _, failed) = vote_on(|fs| fs.fail_next(FaultOp::Sync, "wal"));
        assert!(!synced);
        assert!(!failed.recv().unwrap().is_empty());
    }
}
