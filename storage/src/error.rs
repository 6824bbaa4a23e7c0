//! What can go wrong in a shard's store.

use std::io;
use std::path::PathBuf;

use protocol::error::ErrorKind;

use crate::segment::{BuildError, SegmentError};

/// A failure of the store. Bad bytes and bad disks end up here; a broken invariant panics instead.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The file system refused.
    #[error("{action} of {path} failed")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A file's bytes are not what was written.
    #[error("{path} is corrupt: {reason}")]
    Corrupt {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A file, snapshot or message was made by a version that this one does not know.
    #[error("{what} has version {version}, known here are versions up to {known}")]
    Version {
        /// What was read.
        what: &'static str,
        /// Version found.
        version: u32,
        /// Highest version understood.
        known: u32,
    },
    /// A file that the manifest or a peer names is not there.
    #[error("file {name} is not in the shard's directory")]
    MissingFile {
        /// Its name.
        name: String,
    },
    /// A peer sent something that does not fit what was asked.
    #[error("transfer of {name} refused: {reason}")]
    Transfer {
        /// Which file or snapshot.
        name: String,
        /// Why.
        reason: String,
    },
    /// Records of logs are not what they should be: a fault of ours, found before the log that has them was given up.
    #[error("{0}")]
    Rows(String),
    /// A segment can not be read.
    #[error("reading a segment failed")]
    Segment(#[from] SegmentError),
    /// A flush or merge can not write a segment.
    #[error("building a segment failed")]
    Build(#[from] BuildError),
}

/// Why the bytes of a file are not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// They are whole, and a later release wrote them. Nothing is wrong with the disk.
    #[error("{what} has version {version}, known here are versions up to {known}")]
    Version {
        /// What was read.
        what: &'static str,
        /// Version found.
        version: u8,
        /// Highest version understood.
        known: u8,
    },
    /// They are not what was written.
    #[error("{0}")]
    Malformed(String),
}

impl FormatError {
    /// The same about a file.
    pub fn of_file(self, path: impl Into<PathBuf>) -> StorageError {
        match self {
            Self::Version { what, version, known } => {
                StorageError::Version { what, version: version.into(), known: known.into() }
            }
            Self::Malformed(reason) => StorageError::corrupt(path, reason),
        }
    }
}

impl From<&str> for FormatError {
    fn from(reason: &str) -> Self {
        Self::Malformed(reason.to_owned())
    }
}

impl From<String> for FormatError {
    fn from(reason: String) -> Self {
        Self::Malformed(reason)
    }
}

impl StorageError {
    /// Kind, as the other crates see it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                ErrorKind::ResourceExhausted
            }
            Self::Io { .. } => ErrorKind::Unavailable,
            Self::Corrupt { .. } => ErrorKind::Corruption,
            Self::Version { .. } | Self::Rows(_) => ErrorKind::Internal,
            Self::MissingFile { .. } => ErrorKind::NotFound,
            Self::Transfer { .. } => ErrorKind::InvalidInput,
            Self::Segment(error) => error.kind(),
            Self::Build(BuildError::Io(error)) if error.kind() == io::ErrorKind::StorageFull => {
                ErrorKind::ResourceExhausted
            }
            Self::Build(error) => error.kind(),
        }
    }

    /// Whether it says that a file's bytes are wrong or gone, so that a copy of it helps.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Corrupt { .. } | Self::MissingFile { .. } => true,
            Self::Segment(error) => error.kind() == ErrorKind::Corruption,
            Self::Io { source, .. } => source.kind() == io::ErrorKind::NotFound,
            Self::Version { .. } | Self::Transfer { .. } | Self::Build(_) | Self::Rows(_) => false,
        }
    }

    /// Wraps what the file system said.
    pub fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }

    /// Names what is wrong with a file.
    pub fn corrupt(path: impl Into<PathBuf>, reason: impl Into<String>) -> Self {
        Self::Corrupt { path: path.into(), reason: reason.into() }
    }
}
