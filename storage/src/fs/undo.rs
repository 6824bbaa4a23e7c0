//! A file system that can undo what is not durable yet: how chaos scenarios cut the power of real processes.
//!
//! A killed process loses nothing that it wrote, since the kernel has it; a machine without power loses what was not synced. So
//! [`UndoFs`] notes in a journal, before it changes anything, how to undo that, and after each sync, what need not be undone any
//! more. Once the process is killed, [`cut_power`] undoes what no sync has reached: of each file the newest writes, as many as
//! chance says, the oldest of them torn at sectors; of each directory the newest names. That is the weakest that POSIX promises,
//! the same as in memory ([`super::mem`]).
//!
//! ```text
//! journal        records, the oldest first (see `journal`)
//! kept/ID        second names of files that are open for writing, and of names that were removed or replaced
//! ```
//!
//! A change and its record are one step under a lock: a sync that begins after a record covers its change. A killed process can
//! leave a torn record at the end, whose change has not begun then, or a last record without its change, which undoes nothing.
//! What a process leaves that ends without a cut counts as written: [`UndoLog::create`] begins anew.
//!
//! Each write is written twice and reads what it overwrites, so that nobody uses this but scenarios that cut power.

mod cut;
mod journal;

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use cut::{Lost, cut_power};
use journal::{Change, Journal};

use super::real::{RealFile, RealFs};
use super::{DirEntry, Fs, FsFile, Map, OpenMode, Space};

const KEPT: &str = "kept";

/// What has to be undone when the power goes.
pub struct UndoLog {
    dir: PathBuf,
    state: Mutex<State>,
}

impl std::fmt::Debug for UndoLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UndoLog").field("dir", &self.dir).finish_non_exhaustive()
    }
}

struct State {
    journal: Journal,
    next_kept: u64,
    /// Files that are open for writing or have unsynced bytes, by device and inode.
    ids: HashMap<(u64, u64), u64>,
    files: HashMap<u64, FileState>,
}

struct FileState {
    inode: (u64, u64),
    handles: usize,
}

impl UndoLog {
    /// An empty one in a directory of its own, on the same disk as the files that it is for. What was there is removed.
    pub fn create(dir: &Path) -> io::Result<Arc<Self>> {
        RealFs.remove_dir_all(dir)?;
        fs::create_dir_all(dir.join(KEPT))?;
        let state = State {
            journal: Journal::create(dir)?,
            next_kept: 1,
            ids: HashMap::new(),
            files: HashMap::new(),
        };
        Ok(Arc::new(Self { dir: dir.to_owned(), state: Mutex::new(state) }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn kept(&self, id: u64) -> PathBuf {
        kept_path(&self.dir, id)
    }

    /// Notes how to undo a change, and makes it.
    fn change<T>(&self, change: Change, make: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let mut state = self.lock();
        state.journal.append(change)?;
        make()
    }

    /// Keeps a second name of what a path names now.
    fn keep(&self, state: &mut State, path: &Path) -> io::Result<u64> {
        let id = state.next_kept;
        state.next_kept += 1;
        fs::hard_link(path, self.kept(id))?;
        Ok(id)
    }

    /// The id of a file that was opened for writing.
    fn opened(&self, path: &Path) -> io::Result<u64> {
        let mut state = self.lock();
        let meta = fs::metadata(path)?;
        let inode = (meta.dev(), meta.ino());
        let id = match state.ids.get(&inode) {
            Some(id) => *id,
            None => {
                let id = self.keep(&mut state, path)?;
                state.ids.insert(inode, id);
                state.files.insert(id, FileState { inode, handles: 0 });
                id
            }
        };
        if let Some(file) = state.files.get_mut(&id) {
            file.handles += 1;
        }
        Ok(id)
    }

    fn closed(&self, id: u64) {
        let mut state = self.lock();
        if let Some(file) = state.files.get_mut(&id) {
            file.handles -= 1;
        }
        self.forget_file(&mut state, id);
    }

    /// Gives up the second name of a file that nobody writes to any more and that has nothing to undo.
    fn forget_file(&self, state: &mut State, id: u64) {
        let is_idle = state.files.get(&id).is_some_and(|file| file.handles == 0);
        if is_idle && !state.journal.has_unsynced(id) {
            if let Some(file) = state.files.remove(&id) {
                state.ids.remove(&file.inode);
            }
            // What stays only takes room.
            let _ = fs::remove_file(self.kept(id));
        }
    }

    /// Makes a file's bytes durable.
    fn synced(&self, id: u64, sync: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let before = self.lock().journal.next();
        sync()?;
        let mut state = self.lock();
        state.journal.file_synced(id, before)?;
        self.forget_file(&mut state, id);
        Ok(())
    }

    /// Makes a directory's names durable.
    fn dir_synced(&self, dir: &Path, sync: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let before = self.lock().journal.next();
        sync()?;
        let mut state = self.lock();
        for id in state.journal.dir_synced(dir, before)? {
            let path = self.kept(id);
            // What stays only takes room.
            let _ = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
        }
        Ok(())
    }
}

fn kept_path(dir: &Path, id: u64) -> PathBuf {
    dir.join(KEPT).join(id.to_string())
}

/// The operating system's file system, and how to undo what is not durable, where that is wanted.
#[derive(Clone, Debug, Default)]
pub struct UndoFs {
    log: Option<Arc<UndoLog>>,
}

impl UndoFs {
    /// One whose power may be cut, or never is.
    pub fn new(log: Option<Arc<UndoLog>>) -> Self {
        Self { log }
    }
}

/// An open file of [`UndoFs`].
#[derive(Debug)]
pub struct UndoFile {
    inner: RealFile,
    /// Where changes to it are noted, and its id there.
    log: Option<(Arc<UndoLog>, u64)>,
}

impl Drop for UndoFile {
    fn drop(&mut self) {
        if let Some((log, id)) = &self.log {
            log.closed(*id);
        }
    }
}

impl Fs for UndoFs {
    type File = UndoFile;

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<UndoFile> {
        let Some(log) = self.log.as_ref().filter(|_| mode != OpenMode::Read) else {
            return Ok(UndoFile { inner: RealFs.open(path, mode)?, log: None });
        };
        let open = || RealFs.open(path, mode);
        let inner = match mode {
            // What is there already is not made, and must not be removed.
            OpenMode::CreateNew if path.exists() => return Err(io::ErrorKind::AlreadyExists.into()),
            OpenMode::CreateNew => log.change(Change::Made { path: path.to_owned() }, open)?,
            _ => open()?,
        };
        Ok(UndoFile { inner, log: Some((Arc::clone(log), log.opened(path)?)) })
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let Some(log) = &self.log else { return RealFs.create_dir_all(path) };
        let absent: Vec<&Path> =
            path.ancestors().take_while(|dir| !dir.as_os_str().is_empty() && !dir.exists()).collect();
        for dir in absent.into_iter().rev() {
            log.change(Change::Made { path: dir.to_owned() }, || RealFs.create_dir_all(dir))?;
        }
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let Some(log) = &self.log else { return RealFs.rename(from, to) };
        let mut state = log.lock();
        // A directory is nobody's replacement.
        let replaced = if to.is_file() { Some(log.keep(&mut state, to)?) } else { None };
        let change = Change::Renamed { from: from.to_owned(), to: to.to_owned(), replaced };
        state.journal.append(change)?;
        RealFs.rename(from, to)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        match &self.log {
            Some(_) if to.exists() => Err(io::ErrorKind::AlreadyExists.into()),
            Some(log) => log.change(Change::Made { path: to.to_owned() }, || RealFs.hard_link(from, to)),
            None => RealFs.hard_link(from, to),
        }
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let Some(log) = &self.log else { return RealFs.remove_file(path) };
        let mut state = log.lock();
        let kept = log.keep(&mut state, path)?;
        state.journal.append(Change::Removed { path: path.to_owned(), kept })?;
        RealFs.remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        let Some(log) = &self.log else { return RealFs.remove_dir_all(path) };
        if !path.exists() {
            return Ok(());
        }
        let mut state = log.lock();
        let kept = state.next_kept;
        state.next_kept += 1;
        state.journal.append(Change::Removed { path: path.to_owned(), kept })?;
        RealFs.rename(path, &log.kept(kept))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let sync = || RealFs.sync_dir(path);
        match &self.log {
            Some(log) => log.dir_synced(path, sync),
            None => sync(),
        }
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        RealFs.list(path)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        RealFs.exists(path)
    }

    fn map(&self, path: &Path) -> io::Result<Map> {
        RealFs.map(path)
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        RealFs.space(path)
    }
}

impl UndoFile {
    /// Changes what lies from `offset` on: `written` bytes of it, or all that is behind it.
    fn change(
        &self,
        offset: u64,
        written: Option<u64>,
        make: impl FnOnce(&RealFile) -> io::Result<()>,
    ) -> io::Result<()> {
        let Some((log, file)) = &self.log else { return make(&self.inner) };
        let mut state = log.lock();
        let old_len = self.inner.len()?;
        let behind = old_len.saturating_sub(offset);
        let mut old = vec![0; written.unwrap_or(u64::MAX).min(behind) as usize];
        self.inner.read_exact_at(offset, &mut old)?;
        let written = written.unwrap_or(0);
        state.journal.append(Change::Bytes { file: *file, offset, written, old_len, old })?;
        make(&self.inner)
    }
}

impl FsFile for UndoFile {
    fn write_all_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.change(offset, Some(bytes.len() as u64), |file| file.write_all_at(offset, bytes))
    }

    fn read_exact_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.inner.read_exact_at(offset, bytes)
    }

    fn sync_data(&self) -> io::Result<()> {
        match &self.log {
            Some((log, file)) => log.synced(*file, || self.inner.sync_data()),
            None => self.inner.sync_data(),
        }
    }

    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(len, None, |file| file.set_len(len))
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        if self.inner.len()? >= len {
            return self.inner.allocate(len);
        }
        self.change(len, None, |file| file.allocate(len))
    }
}

#[cfg(test)]
mod tests;
