//! A file system that can be told to be full or slow while it is used: how chaos scenarios break the disks of real
//! processes.
//!
//! Without [`DiskFaults`] every call goes through. With them the lengths of all files below a directory are counted, by
//! their names, so that a limit says how much they may have in all, before and after a restart alike. What does not fit
//! fails as on a real disk: the bytes that have room are written, then `StorageFull` comes back.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::{DirEntry, Fs, FsFile, Map, OpenMode, Space};

/// What is wrong with a disk now.
pub struct DiskFaults {
    /// `u64::MAX` where there is no limit.
    quota_bytes: AtomicU64,
    used_bytes: AtomicU64,
    sync_delay_us: AtomicU64,
    sync_jitter_us: AtomicU64,
    syncs: AtomicU64,
    wait: Box<dyn Fn(Duration) + Send + Sync>,
}

impl std::fmt::Debug for DiskFaults {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DiskFaults").field("room", &self.room()).finish_non_exhaustive()
    }
}

impl DiskFaults {
    /// A healthy disk with what lies below a directory on it. Nobody may write there meanwhile. `wait` lets a slow disk's
    /// time pass.
    pub fn on(
        fs: &impl Fs,
        dir: &Path,
        wait: impl Fn(Duration) + Send + Sync + 'static,
    ) -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            quota_bytes: AtomicU64::new(u64::MAX),
            used_bytes: AtomicU64::new(if fs.exists(dir)? { bytes_below(fs, dir)? } else { 0 }),
            sync_delay_us: AtomicU64::new(0),
            sync_jitter_us: AtomicU64::new(0),
            syncs: AtomicU64::new(0),
            wait: Box::new(wait),
        }))
    }

    /// Limits the bytes of all files, or lifts the limit.
    pub fn set_quota(&self, quota_bytes: Option<u64>) {
        self.quota_bytes.store(quota_bytes.unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Makes each sync take longer: by `delay`, and by anything up to `jitter`.
    pub fn set_sync_delay(&self, delay: Duration, jitter: Duration) {
        let us = |span: Duration| u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        self.sync_delay_us.store(us(delay), Ordering::Relaxed);
        self.sync_jitter_us.store(us(jitter), Ordering::Relaxed);
    }

    fn room(&self) -> u64 {
        self.quota_bytes.load(Ordering::Relaxed).saturating_sub(self.used_bytes.load(Ordering::Relaxed))
    }

    /// Takes room for so many bytes, or for as many as there is room for. Gives how many that is.
    fn take(&self, bytes: u64) -> u64 {
        let quota = self.quota_bytes.load(Ordering::Relaxed);
        let mut taken = 0;
        let grown = |used: u64| {
            taken = bytes.min(quota.saturating_sub(used));
            Some(used + taken)
        };
        let _ = self.used_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grown);
        taken
    }

    /// The same where a part is of no use.
    fn take_all(&self, bytes: u64) -> io::Result<()> {
        let taken = self.take(bytes);
        if taken == bytes {
            return Ok(());
        }
        self.give_back(taken);
        Err(no_space())
    }

    fn give_back(&self, bytes: u64) {
        let shrink = |used: u64| Some(used.saturating_sub(bytes));
        let _ = self.used_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, shrink);
    }

    fn sync(&self) {
        let jitter = match self.sync_jitter_us.load(Ordering::Relaxed) {
            0 => 0,
            most => {
                xxhash_rust::xxh3::xxh3_64(&self.syncs.fetch_add(1, Ordering::Relaxed).to_le_bytes()) % most
            }
        };
        let pause = Duration::from_micros(self.sync_delay_us.load(Ordering::Relaxed).saturating_add(jitter));
        if !pause.is_zero() {
            (self.wait)(pause);
        }
    }
}

fn no_space() -> io::Error {
    io::Error::new(io::ErrorKind::StorageFull, "no space left: a fault that chaos put in")
}

fn bytes_below(fs: &impl Fs, dir: &Path) -> io::Result<u64> {
    let mut sum = 0;
    for entry in fs.list(dir)? {
        sum += if entry.is_dir { bytes_below(fs, &dir.join(entry.name))? } else { entry.len_bytes };
    }
    Ok(sum)
}

/// A file system, and what is wrong with it.
#[derive(Clone, Debug)]
pub struct FaultyFs<F> {
    inner: F,
    faults: Option<Arc<DiskFaults>>,
}

impl<F: Fs> FaultyFs<F> {
    /// One that may become faulty, or never does.
    pub fn new(inner: F, faults: Option<Arc<DiskFaults>>) -> Self {
        Self { inner, faults }
    }

    /// Length of a file that is about to lose a name.
    fn len_of(&self, path: &Path) -> io::Result<u64> {
        match self.inner.open(path, OpenMode::Read) {
            Ok(file) => file.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(error),
        }
    }
}

/// An open file on such a file system.
#[derive(Debug)]
pub struct FaultyFile<File> {
    inner: File,
    faults: Option<Arc<DiskFaults>>,
}

impl<F: Fs> Fs for FaultyFs<F> {
    type File = FaultyFile<F::File>;

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Self::File> {
        Ok(FaultyFile { inner: self.inner.open(path, mode)?, faults: self.faults.clone() })
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.inner.create_dir_all(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let Some(faults) = &self.faults else { return self.inner.rename(from, to) };
        // A directory is nobody's replacement.
        let replaced = self.len_of(to).unwrap_or_default();
        self.inner.rename(from, to)?;
        faults.give_back(replaced);
        Ok(())
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.hard_link(from, to)?;
        // A second name takes no room; it is counted as what will be given back with it.
        if let Some(faults) = &self.faults {
            faults.used_bytes.fetch_add(self.len_of(from)?, Ordering::Relaxed);
        }
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let Some(faults) = &self.faults else { return self.inner.remove_file(path) };
        let bytes = self.len_of(path)?;
        self.inner.remove_file(path)?;
        faults.give_back(bytes);
        Ok(())
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        let Some(faults) = &self.faults else { return self.inner.remove_dir_all(path) };
        let bytes = if self.inner.exists(path)? { bytes_below(&self.inner, path)? } else { 0 };
        self.inner.remove_dir_all(path)?;
        faults.give_back(bytes);
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        if let Some(faults) = &self.faults {
            faults.sync();
        }
        self.inner.sync_dir(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.inner.list(path)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.inner.exists(path)
    }

    fn map(&self, path: &Path) -> io::Result<Map> {
        self.inner.map(path)
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        let space = self.inner.space(path)?;
        let quota = self.faults.as_ref().map_or(u64::MAX, |f| f.quota_bytes.load(Ordering::Relaxed));
        match &self.faults {
            Some(faults) if quota != u64::MAX => Ok(Space {
                free_bytes: space.free_bytes.min(faults.room()),
                total_bytes: space.total_bytes.min(quota),
            }),
            _ => Ok(space),
        }
    }
}

impl<File: FsFile> FaultyFile<File> {
    /// Changes the length by `resize`, with room for it where it becomes `len`.
    fn resized(&self, len: u64, resize: impl FnOnce(&File) -> io::Result<()>) -> io::Result<()> {
        let Some(faults) = &self.faults else { return resize(&self.inner) };
        let before = self.inner.len()?;
        faults.take_all(len.saturating_sub(before))?;
        let done = resize(&self.inner);
        match &done {
            Ok(()) => faults.give_back(before.saturating_sub(len)),
            Err(_) => faults.give_back(len.saturating_sub(before)),
        }
        done
    }
}

impl<File: FsFile> FsFile for FaultyFile<File> {
    fn write_all_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let Some(faults) = &self.faults else { return self.inner.write_all_at(offset, bytes) };
        let growth = (offset + bytes.len() as u64).saturating_sub(self.inner.len()?);
        let taken = faults.take(growth);
        let fitting = (bytes.len() as u64).saturating_sub(growth - taken);
        self.inner.write_all_at(offset, &bytes[..fitting as usize])?;
        if taken == growth { Ok(()) } else { Err(no_space()) }
    }

    fn read_exact_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.inner.read_exact_at(offset, bytes)
    }

    fn sync_data(&self) -> io::Result<()> {
        if let Some(faults) = &self.faults {
            faults.sync();
        }
        self.inner.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.resized(len, |file| file.set_len(len))
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        if self.faults.is_some() && self.inner.len()? >= len {
            return self.inner.allocate(len);
        }
        self.resized(len, |file| file.allocate(len))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::fs::mem::MemFs;

    fn disk() -> (FaultyFs<MemFs>, Arc<DiskFaults>) {
        let inner = MemFs::new(1);
        inner.create_dir_all(Path::new("/data")).unwrap();
        let file = inner.open(Path::new("/data/old"), OpenMode::CreateNew).unwrap();
        file.write_all_at(0, &[1; 100]).unwrap();
        let faults = DiskFaults::on(&inner, Path::new("/data"), |_| ()).unwrap();
        (FaultyFs::new(inner, Some(faults.clone())), faults)
    }

    fn kind(result: io::Result<()>) -> Option<io::ErrorKind> {
        result.err().map(|error| error.kind())
    }

    #[test]
    fn a_full_disk_takes_what_fits_and_no_more_until_there_is_room() {
        let (fs, faults) = disk();
        let path = Path::new("/data/new");
        let file = fs.open(path, OpenMode::CreateNew).unwrap();
        faults.set_quota(Some(150));
        assert_eq!(fs.space(path).unwrap().free_bytes, 50);
        assert_eq!(fs.space(path).unwrap().total_bytes, 150);
        file.write_all_at(0, &[2; 30]).unwrap();
        assert_eq!(kind(file.write_all_at(30, &[3; 30])), Some(io::ErrorKind::StorageFull));
        assert_eq!(file.len().unwrap(), 50, "what has room is there");
        // Inside of what there is nothing grows.
        file.write_all_at(0, &[4; 50]).unwrap();
        assert_eq!(kind(file.set_len(51)), Some(io::ErrorKind::StorageFull));
        assert_eq!(kind(file.allocate(60)), Some(io::ErrorKind::StorageFull));
        file.set_len(40).unwrap();
        file.allocate(45).unwrap();
        fs.remove_file(Path::new("/data/old")).unwrap();
        file.write_all_at(45, &[5; 105]).unwrap();
        assert_eq!(kind(file.write_all_at(150, &[6])), Some(io::ErrorKind::StorageFull));
        faults.set_quota(None);
        file.write_all_at(150, &[6; 1000]).unwrap();
        assert_eq!(faults.used_bytes.load(Ordering::Relaxed), 1150);
    }

    #[test]
    fn files_are_counted_by_their_names_as_after_a_restart() {
        let (fs, faults) = disk();
        let at = |name: &str| Path::new("/data").join(name);
        fs.create_dir_all(&at("sub")).unwrap();
        fs.hard_link(&at("old"), &at("sub/link")).unwrap();
        fs.open(&at("sub/other"), OpenMode::CreateNew).unwrap().write_all_at(0, &[1; 10]).unwrap();
        fs.write_atomic(&at("small"), &[1; 7]).unwrap();
        fs.write_atomic(&at("small"), &[1; 9]).unwrap();
        let used = || faults.used_bytes.load(Ordering::Relaxed);
        assert_eq!(used(), 219);
        assert_eq!(used(), bytes_below(&fs, Path::new("/data")).unwrap());
        fs.remove_dir_all(&at("sub")).unwrap();
        fs.remove_dir_all(&at("sub")).unwrap();
        assert_eq!(used(), 109);
    }

    #[test]
    fn syncs_take_as_long_as_they_are_told_to() {
        let (inner, waited) = (MemFs::new(1), Arc::new(Mutex::new(Vec::new())));
        let seen = waited.clone();
        let faults = DiskFaults::on(&inner, Path::new("/"), move |pause| seen.lock().unwrap().push(pause));
        let faults = faults.unwrap();
        let fs = FaultyFs::new(inner, Some(faults.clone()));
        let file = fs.open(Path::new("/file"), OpenMode::CreateNew).unwrap();
        file.sync_data().unwrap();
        assert!(waited.lock().unwrap().is_empty());
        let (least, jitter) = (Duration::from_millis(20), Duration::from_millis(5));
        faults.set_sync_delay(least, jitter);
        file.sync_data().unwrap();
        fs.sync_dir(Path::new("/")).unwrap();
        let waited = waited.lock().unwrap();
        assert!(
            waited.len() == 2 && waited.iter().all(|pause| (least..least + jitter).contains(pause)),
            "{waited:?}"
        );
    }

    #[test]
    fn without_faults_everything_goes_through() {
        let fs = FaultyFs::new(MemFs::new(1), None);
        let path = Path::new("/file");
        let file = fs.open(path, OpenMode::CreateNew).unwrap();
        file.allocate(100).unwrap();
        file.write_all_at(90, &[1; 20]).unwrap();
        assert_eq!(fs.read(path, 1000).unwrap().len(), 110);
        assert_eq!(fs.space(path).unwrap(), fs.inner.space(path).unwrap());
    }
}
