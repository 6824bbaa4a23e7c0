//! Faults of disk and clock that `pharos chaos` puts into a node which runs: `--fault-file`, see [`chaos::hooks`].
//!
//! Without the flag nothing here runs: the disk has no faults to ask for, and the clock adds a zero.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use chaos::hooks::NodeFaults;
use storage::fs::faulty::DiskFaults;
use storage::fs::real::RealFs;
use storage::fs::undo::UndoLog;

/// How often the file is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// There is one wall clock in a process, and one way in which it is wrong.
static CLOCK_OFFSET_MS: AtomicI64 = AtomicI64::new(0);

/// What the wall clock shows more than the system's.
pub(super) fn clock_offset_ms() -> i64 {
    CLOCK_OFFSET_MS.load(Ordering::Relaxed)
}

/// Puts into effect what a file says, now and whenever that changes. Nobody may write to the data directory yet.
pub fn start(file: &Path, data_dir: &Path) -> io::Result<Faults> {
    let disk = DiskFaults::on(&RealFs, data_dir, std::thread::sleep)?;
    let power_cuts = NodeFaults::read(file)?.power_cuts;
    let undo = power_cuts.then(|| UndoLog::create(&NodeFaults::undo_path(file))).transpose()?;
    let mut hooks = Hooks { file: file.to_owned(), disk: Arc::clone(&disk), power_cuts, now: None };
    hooks.look()?;
    let watch = move || {
        loop {
            std::thread::sleep(LOOK_AGAIN);
            if let Err(error) = hooks.look() {
                tracing::error!(%error, path = %hooks.file.display(), "the faults can not be read");
                return;
            }
        }
    };
    std::thread::Builder::new().name("pharos-faults".to_owned()).spawn(watch)?;
    Ok(Faults { disk: Some(disk), undo })
}

/// What may be wrong with the disk: nothing, without hooks.
#[derive(Debug, Default)]
pub struct Faults {
    /// How full and how slow it is.
    pub disk: Option<Arc<DiskFaults>>,
    /// What a power cut would take.
    pub undo: Option<Arc<UndoLog>>,
}

struct Hooks {
    file: PathBuf,
    disk: Arc<DiskFaults>,
    power_cuts: bool,
    now: Option<NodeFaults>,
}

impl Hooks {
    fn look(&mut self) -> io::Result<()> {
        let wanted = NodeFaults::read(&self.file)?;
        if self.now == Some(wanted) {
            return Ok(());
        }
        if wanted.power_cuts != self.power_cuts {
            return Err(io::Error::other("whether its power can be cut is decided when a node starts"));
        }
        self.disk.set_quota(wanted.disk_quota_bytes);
        let ms = Duration::from_millis;
        self.disk.set_sync_delay(ms(wanted.sync_delay_ms), ms(wanted.sync_jitter_ms));
        CLOCK_OFFSET_MS.store(wanted.clock_offset_ms, Ordering::Relaxed);
        if self.now.is_some() || wanted != NodeFaults::default() {
            tracing::warn!(faults = ?wanted, "chaos changes what is wrong with this node");
        }
        self.now = Some(wanted);
        wanted.write(&NodeFaults::seen_path(&self.file))
    }
}

#[cfg(test)]
mod tests {
    use storage::fs::faulty::FaultyFs;
    use storage::fs::{Fs, FsFile, OpenMode};

    use super::*;

    #[test]
    fn what_the_file_says_is_put_into_effect_when_it_changes() {
        let dir = tempfile::tempdir().unwrap();
        let (file, data_dir) = (dir.path().join("faults"), dir.path().join("data"));
        std::fs::create_dir(&data_dir).unwrap();
        let disk = DiskFaults::on(&RealFs, &data_dir, std::thread::sleep).unwrap();
        let mut hooks = Hooks { file: file.clone(), disk: Arc::clone(&disk), power_cuts: false, now: None };
        let mut put_in = |faults: NodeFaults| {
            faults.write(&file).unwrap();
            hooks.look().unwrap();
            assert_eq!(NodeFaults::read(&NodeFaults::seen_path(&file)).unwrap(), faults);
        };
        let fs = FaultyFs::new(RealFs, Some(disk));
        let written = fs.open(&data_dir.join("written"), OpenMode::CreateNew).unwrap();
        put_in(NodeFaults { disk_quota_bytes: Some(10), ..NodeFaults::default() });
        written.write_all_at(0, &[1; 11]).unwrap_err();
        put_in(NodeFaults::default());
        written.write_all_at(0, &[1; 11]).unwrap();
        // The other tests of this process share the clock: an offset that none of them can notice.
        put_in(NodeFaults { clock_offset_ms: 1, ..NodeFaults::default() });
        assert_eq!(clock_offset_ms(), 1);
        put_in(NodeFaults::default());
        assert_eq!(clock_offset_ms(), 0);
        NodeFaults { power_cuts: true, ..NodeFaults::default() }.write(&file).unwrap();
        hooks.look().expect_err("files that are open already are not noted");
    }
}
