//! The seam to the file system.
//!
//! Production runs on the real one, the simulator and the crash tests on one in memory that loses, tears and
//! refuses. The contract is POSIX' at its weakest: a write is durable only after [`FsFile::sync_data`], a file's
//! name only after [`Fs::sync_dir`] of its directory, and a failed sync says nothing about what reached the disk.

pub mod faulty;
pub mod mem;
pub mod real;
pub mod undo;

use std::io;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::mutant::{self, Mutant};

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// Existing file, reading only.
    Read,
    /// Existing file, reading and writing.
    ReadWrite,
    /// New file, reading and writing; an existing one is an error.
    CreateNew,
}

/// An entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    /// Name inside the directory.
    pub name: String,
    /// Length in bytes; 0 for directories.
    pub len_bytes: u64,
    /// Whether it is a directory.
    pub is_dir: bool,
}

/// A file system.
pub trait Fs: Clone + Send + Sync + 'static {
    /// An open file.
    type File: FsFile;

    /// Opens or creates a file.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Self::File>;
    /// Creates a directory and its parents; existing ones are fine. Durable after [`Fs::sync_dir`] of each parent.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Replaces `to` by `from` in one step.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Gives a file a second name.
    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file. Open handles and maps of it stay valid.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes a directory and all in it; an absent one is fine.
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Entries of a directory, sorted by name.
    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>>;
    /// Whether a file or directory of that name exists.
    fn exists(&self, path: &Path) -> io::Result<bool>;
    /// Maps a sealed file for reading. The file must never be modified afterwards.
    fn map(&self, path: &Path) -> io::Result<Map>;
    /// Free and total bytes of the disk that holds `path`.
    fn space(&self, path: &Path) -> io::Result<Space>;

    /// Creates a directory and its parents and makes their names durable, up to the root. Parents that this process
    /// may not open were there before and are skipped.
    fn create_dir_durable(&self, path: &Path) -> io::Result<()> {
        self.create_dir_all(path)?;
        for parent in path.ancestors().skip(1) {
            let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
            match self.sync_dir(parent) {
                Err(e) if e.kind() == io::ErrorKind::PermissionDenied => break,
                other => other?,
            }
        }
        Ok(())
    }

    /// Reads a whole file of at most `limit_bytes`.
    fn read(&self, path: &Path, limit_bytes: u64) -> io::Result<Vec<u8>> {
        let file = self.open(path, OpenMode::Read)?;
        let len = file.len()?;
        if len > limit_bytes {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{len} bytes, allowed are {limit_bytes}"),
            ));
        }
        let mut bytes = vec![0; len as usize];
        file.read_exact_at(0, &mut bytes)?;
        Ok(bytes)
    }

    /// Writes a file so that after a crash at any point `path` holds the old or the new bytes, whole and durable:
    /// write aside, sync, rename, sync the directory.
    fn write_atomic(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let aside = with_suffix(path, ".tmp");
        if self.exists(&aside)? {
            self.remove_file(&aside)?;
        }
        let file = self.open(&aside, OpenMode::CreateNew)?;
        file.write_all_at(0, bytes)?;
        if mutant::is(Mutant::FilesReplacedUnsynced) {
            return self.rename(&aside, path);
        }
        file.sync_data()?;
        drop(file);
        self.rename(&aside, path)?;
        self.sync_dir(path.parent().unwrap_or(Path::new(".")))
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Free and total bytes of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Bytes that can still be written.
    pub free_bytes: u64,
    /// Size of the disk.
    pub total_bytes: u64,
}

/// An open file. Positions are explicit, so that readers and the writer share a handle.
pub trait FsFile: Send + Sync + 'static {
    /// Writes all bytes at an offset; past the end the file grows.
    fn write_all_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Fills `bytes` from an offset; a file that ends before is an error.
    fn read_exact_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()>;
    /// Makes content and length durable. After an error the file must not be used any more.
    fn sync_data(&self) -> io::Result<()>;
    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Whether the file holds no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        self.len().map(|len| len == 0)
    }
    /// Cuts or extends (with zeros) the file.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Extends the file with zeros to at least `len` and reserves the space, where the disk can, so that later writes
    /// inside do not meet a full disk.
    fn allocate(&self, len: u64) -> io::Result<()> {
        if self.len()? < len { self.set_len(len) } else { Ok(()) }
    }
}

/// The bytes of a sealed file, alive as long as the value, also after the file was unlinked.
#[derive(Clone)]
pub struct Map(Arc<dyn Deref<Target = [u8]> + Send + Sync>);

impl Map {
    /// Wraps whatever holds the bytes.
    pub fn new(bytes: impl Deref<Target = [u8]> + Send + Sync + 'static) -> Self {
        Self(Arc::new(bytes))
    }
}

impl Deref for Map {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}
