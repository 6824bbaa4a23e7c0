//! A file system in memory that loses, tears and refuses as real ones may.
//!
//! Used by the crash tests of this crate and by the simulator. Everything is deterministic: the same seed and the same
//! calls give the same disk. What it models:
//!
//! * Unsynced changes are kept as a list of operations; [`MemFs::crash`] decides which of them reached the disk:
//!   none, all, a prefix, any subset, writes torn at sectors of 512 bytes.
//! * Names are durable after a sync of their directory only; a rename is one operation, also between directories.
//! * A failed sync brings a part of the changes to the disk and forgets the rest: a later sync succeeds without them.
//! * A full disk (a quota), errors on the next read, write or sync, the power failing at the n-th operation, and damage
//!   behind everyone's back: flipped bits, cut and deleted files.
//!
//! A crash ends an incarnation: handles and clones from before answer with errors, as those of a dead process would
//! answer nobody. The next incarnation is the [`MemFs`] which [`MemFs::crash`] returns.

mod disk;
mod pages;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use disk::FaultOp;
use disk::{Armed, Disk, Fate, Ino, Random};

use super::{DirEntry, Fs, FsFile, Map, OpenMode, Space};

/// What a crash leaves of the changes that were not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashMode {
    /// Only the process dies: the kernel keeps all changes, still unsynced.
    Process,
    /// Nothing.
    DropUnsynced,
    /// Everything.
    KeepAll,
    /// The first of them, up to a random one whose front sectors are kept.
    Prefix,
    /// A random subset, each whole.
    Subset,
    /// A random subset, writes torn into kept and lost sectors.
    Torn,
}

impl CrashMode {
    /// The modes in which the power fails.
    pub const POWER: [Self; 5] = [Self::DropUnsynced, Self::KeepAll, Self::Prefix, Self::Subset, Self::Torn];
}

/// A file system in memory. Clones share the disk.
#[derive(Clone, Debug)]
pub struct MemFs {
    disk: Arc<Mutex<Disk>>,
    incarnation: u64,
}

impl MemFs {
    /// An empty disk. The seed decides whatever a crash or fault leaves open.
    pub fn new(seed: u64) -> Self {
        Self { disk: Arc::new(Mutex::new(Disk::new(seed))), incarnation: 1 }
    }

    /// The disk with a directory that survives a crash, as that of a node's data does, which somebody made before.
    ///
    /// # Panics
    /// When it is no absolute path, or a fault was planned.
    pub fn with_dir(self, dir: impl AsRef<Path>) -> Self {
        for part in dir.as_ref().ancestors().collect::<Vec<_>>().into_iter().rev() {
            let made = self.create_dir_all(part).and_then(|()| self.sync_dir(part.parent().unwrap_or(part)));
            made.expect("an empty disk takes a directory");
        }
        self
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn alive(&self) -> io::Result<MutexGuard<'_, Disk>> {
        let disk = self.disk();
        if disk.incarnation != self.incarnation || disk.powered_off {
            return Err(disk::power_failed());
        }
        Ok(disk)
    }

    fn change(&self, op: impl FnOnce(&mut Disk) -> io::Result<Fate>) -> io::Result<()> {
        let mut disk = self.alive()?;
        match op(&mut disk)? {
            Fate::Goes => Ok(()),
            Fate::PowerFails => Err(disk::power_failed()),
        }
    }

    /// Crashes and gives the file system that the next process finds. Faults that were planned are forgotten, the
    /// quota stays.
    pub fn crash(&self, mode: CrashMode) -> Self {
        let mut disk = self.disk();
        disk.crash(mode);
        Self { disk: self.disk.clone(), incarnation: disk.incarnation }
    }

    /// An independent copy of the disk as it is, unsynced changes included, with a seed of its own.
    pub fn fork(&self, seed: u64) -> Self {
        let mut disk = self.disk().clone();
        disk.random = Random::new(seed);
        let incarnation = disk.incarnation;
        Self { disk: Arc::new(Mutex::new(disk)), incarnation }
    }

    /// Whether this handle's process still runs and has power.
    pub fn is_alive(&self) -> bool {
        self.alive().is_ok()
    }

    /// Limits the bytes in files, or lifts the limit. Growing a file beyond fails with `StorageFull`.
    pub fn set_quota(&self, bytes: Option<u64>) {
        self.disk().quota_bytes = bytes;
    }

    /// Lets the next operation of a kind on a path that contains `path_part` fail. Faults may be armed in numbers.
    pub fn fail_next(&self, op: FaultOp, path_part: &str) {
        self.disk().armed.push(Armed { op, path_part: path_part.to_owned() });
    }

    /// Forgets all faults that were planned and have not struck.
    pub fn clear_faults(&self) {
        let mut disk = self.disk();
        disk.armed.clear();
        disk.power_off_at = None;
    }

    /// Lets the power fail at the `n`-th operation from now that changes something, counted from 1: it may or may not
    /// reach the disk, and neither it nor any later one returns success.
    pub fn power_off_after(&self, n: u64) {
        let mut disk = self.disk();
        disk.power_off_at = Some(disk.op_count + n);
    }

    /// Operations so far that changed something, or tried to.
    pub fn op_count(&self) -> u64 {
        self.disk().op_count
    }

    /// Bytes in files that have a name.
    pub fn used_bytes(&self) -> u64 {
        self.disk().used_bytes()
    }

    /// Flips one bit of a file, durably.
    pub fn flip_bit(&self, path: &Path, byte: u64, bit: u8) -> io::Result<()> {
        self.disk().flip_bit(path, byte, bit)
    }

    /// Changes a file's bytes in any way, durably: cuts it, zeroes a page, misplaces a write.
    pub fn damage(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        self.disk().damage(path, change)
    }

    /// Zeroes a file's bytes from an offset to its end, durably.
    pub fn zero_from(&self, path: &Path, byte: u64) -> io::Result<()> {
        self.disk().zero_from(path, byte)
    }

    /// Removes a file, durably.
    pub fn delete(&self, path: &Path) -> io::Result<()> {
        self.disk().delete(path)
    }
}

impl Fs for MemFs {
    type File = MemFile;

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<MemFile> {
        let mut disk = self.alive()?;
        let (ino, fate) = disk.open(path, mode)?;
        if fate == Fate::PowerFails {
            return Err(disk::power_failed());
        }
        let writable = mode != OpenMode::Read;
        Ok(MemFile { fs: self.clone(), ino, path: path.to_owned(), writable })
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.change(|disk| disk.create_dir_all(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change(|disk| disk.rename(from, to))
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change(|disk| disk.hard_link(from, to))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.change(|disk| disk.remove_file(path))
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.change(|disk| disk.remove_dir_all(path))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.change(|disk| disk.sync_dir(path))
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.alive()?.list(path)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.alive()?.exists(path)
    }

    fn map(&self, path: &Path) -> io::Result<Map> {
        Ok(Map::new(self.alive()?.contents(path)?))
    }

    fn space(&self, _: &Path) -> io::Result<Space> {
        /// A disk without quota: large, and far from where sums overflow.
        const UNLIMITED_BYTES: u64 = 1 << 50;
        let disk = self.alive()?;
        let total_bytes = disk.quota_bytes.unwrap_or(UNLIMITED_BYTES);
        Ok(Space { free_bytes: total_bytes.saturating_sub(disk.used_bytes()), total_bytes })
    }
}

/// A file of [`MemFs`].
#[derive(Debug)]
pub struct MemFile {
    fs: MemFs,
    ino: Ino,
    path: PathBuf,
    writable: bool,
}

impl MemFile {
    fn change(&self, op: impl FnOnce(&mut Disk) -> io::Result<Fate>) -> io::Result<()> {
        if !self.writable {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "the file is open for reading only"));
        }
        self.fs.change(op)
    }
}

impl FsFile for MemFile {
    fn write_all_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.change(|disk| disk.write(self.ino, &self.path, offset, bytes))
    }

    fn read_exact_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        let mut disk = self.fs.alive()?;
        if disk.take_fault(FaultOp::Read, &self.path) {
            return Err(disk::bad_sector());
        }
        disk.read(self.ino, offset, bytes)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.fs.change(|disk| disk.sync_file(self.ino, &self.path))
    }

    fn len(&self) -> io::Result<u64> {
        self.fs.alive()?.file_len(self.ino)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(|disk| disk.set_len(self.ino, len))
    }
}

impl Drop for MemFile {
    fn drop(&mut self) {
        let mut disk = self.fs.disk();
        if disk.incarnation == self.fs.incarnation {
            disk.close(self.ino);
        }
    }
}
