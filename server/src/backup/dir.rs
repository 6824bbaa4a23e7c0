//! A backup in a directory.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use storage::fs::real::RealFs;
use storage::fs::{DirEntry, Fs, FsFile, OpenMode};
use storage::manifest::FileRef;
use storage::verify::hash_file;

use super::place::{Arriving, Holding, Place};
use super::{BackupError, List, is_ours};
use crate::service::lock::DirLock;

/// A directory that this process alone writes to.
#[derive(Debug)]
pub struct DirPlace<F> {
    fs: F,
    dir: PathBuf,
    /// Directories below that are there, durably.
    made: BTreeSet<PathBuf>,
    _lock: Option<DirLock>,
}

impl DirPlace<RealFs> {
    /// Makes the directory, if it is not there, and locks it.
    pub fn open(dir: PathBuf) -> Result<Self, BackupError> {
        let lock = DirLock::take(&dir)?;
        Ok(Self { fs: RealFs, dir, made: BTreeSet::new(), _lock: Some(lock) })
    }
}

impl<F: Fs> DirPlace<F> {
    /// A directory of another file system, unlocked.
    #[cfg(test)]
    pub fn on(fs: F, dir: PathBuf) -> Self {
        Self { fs, dir, made: BTreeSet::new(), _lock: None }
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Bytes that can still be written.
    pub fn free_bytes(&self) -> Result<u64, BackupError> {
        Ok(self.fs.space(&self.dir).map_err(BackupError::io(&self.dir))?.free_bytes)
    }

    fn make_parent(&mut self, path: &Path) -> Result<(), BackupError> {
        let parent = path.parent().unwrap_or(&self.dir).to_owned();
        if !self.made.contains(&parent) {
            self.fs.create_dir_durable(&parent).map_err(BackupError::io(&parent))?;
            self.made.insert(parent);
        }
        Ok(())
    }

    /// What lies in a directory, as far as there is one.
    fn entries(&self, name: &str) -> Result<Vec<DirEntry>, BackupError> {
        let path = self.dir.join(name);
        match self.fs.list(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
            listed => listed.map_err(BackupError::io(&path)),
        }
    }

    /// Notes the files of a directory that are a backup's.
    fn note_files(&self, dir: &str, out: &mut BTreeMap<String, u64>) -> Result<(), BackupError> {
        for entry in self.entries(dir)?.into_iter().filter(|entry| !entry.is_dir) {
            let name = if dir.is_empty() { entry.name } else { format!("{dir}/{}", entry.name) };
            if is_ours(&name) {
                out.insert(name, entry.len_bytes);
            }
        }
        Ok(())
    }
}

impl<F: Fs> Place for DirPlace<F> {
    fn shown(&self, name: &str) -> String {
        if name.is_empty() {
            self.dir.display().to_string()
        } else {
            self.dir.join(name).display().to_string()
        }
    }

    fn list(&mut self) -> Result<Option<List>, BackupError> {
        List::load(&self.fs, &self.dir)
    }

    fn holding(&mut self, name: &str, file: &FileRef) -> Result<Holding, BackupError> {
        let path = self.dir.join(name);
        if !self.fs.exists(&path).map_err(BackupError::io(&path))? {
            return Ok(Holding::Absent);
        }
        // Anybody may write to a directory, so the name is not believed.
        let whole = hash_file(&self.fs, &path).is_ok_and(|(_, hash)| hash == file.hash);
        Ok(if whole { Holding::Whole } else { Holding::Damaged })
    }

    fn put(&mut self, name: &str, bytes: &[u8]) -> Result<(), BackupError> {
        let path = self.dir.join(name);
        self.make_parent(&path)?;
        self.fs.write_atomic(&path, bytes).map_err(BackupError::io(&path))
    }

    fn receive<'a>(&'a mut self, name: &str, file: &FileRef) -> Result<Box<dyn Arriving + 'a>, BackupError> {
        let path = self.dir.join(name);
        self.make_parent(&path)?;
        let part = self.dir.join(format!("{name}.part"));
        let failed = || BackupError::io(&part);
        let there = self.fs.exists(&part).map_err(failed())?;
        let mode = if there { OpenMode::ReadWrite } else { OpenMode::CreateNew };
        let handle = self.fs.open(&part, mode).map_err(failed())?;
        let mut arrived = handle.len().map_err(failed())?;
        if arrived > file.len_bytes {
            handle.set_len(0).map_err(failed())?;
            arrived = 0;
        }
        Ok(Box::new(Part { fs: &self.fs, handle, part, path, arrived, file: *file }))
    }

    fn names(&mut self) -> Result<BTreeMap<String, u64>, BackupError> {
        let mut out = BTreeMap::new();
        self.note_files("", &mut out)?;
        for shard in self.entries("shards")?.into_iter().filter(|entry| entry.is_dir) {
            let dir = format!("shards/{}", shard.name);
            self.note_files(&dir, &mut out)?;
            self.note_files(&format!("{dir}/files"), &mut out)?;
        }
        Ok(out)
    }

    fn publish(&mut self, list: &List) -> Result<(), BackupError> {
        list.clone().store(&self.fs, &self.dir)
    }

    fn remove(&mut self, names: Vec<String>) -> Result<(), BackupError> {
        for name in names {
            let path = self.dir.join(name);
            self.fs.remove_file(&path).map_err(BackupError::io(&path))?;
        }
        Ok(())
    }
}

/// A file of which a part is there, under a name of its own. It stays when the rest does not come: the next run goes on
/// with it.
struct Part<'a, F: Fs> {
    fs: &'a F,
    handle: F::File,
    part: PathBuf,
    path: PathBuf,
    arrived: u64,
    file: FileRef,
}

impl<F: Fs> Arriving for Part<'_, F> {
    fn arrived(&self) -> u64 {
        self.arrived
    }

    fn append(&mut self, piece: &[u8]) -> Result<(), BackupError> {
        self.handle.write_all_at(self.arrived, piece).map_err(BackupError::io(&self.part))?;
        self.arrived += piece.len() as u64;
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<bool, BackupError> {
        let failed = || BackupError::io(&self.part);
        self.handle.sync_data().map_err(failed())?;
        if !hash_file(self.fs, &self.part).is_ok_and(|(_, hash)| hash == self.file.hash) {
            self.fs.remove_file(&self.part).map_err(failed())?;
            return Ok(false);
        }
        // In place of a damaged one, if there was one.
        self.fs.rename(&self.part, &self.path).map_err(failed())?;
        let dir = self.path.parent().unwrap_or(&self.path);
        self.fs.sync_dir(dir).map_err(BackupError::io(dir))?;
        Ok(true)
    }
}
