//! Backups: a copy of a cluster's data in a directory or an S3 bucket, made from a running cluster and written back into
//! one.
//!
//! # Layout
//!
//! ```text
//! backup.json                         the list: what belongs to the backup, with digests; written last
//! state-<digest>.json                 dashboards with their versions, cluster settings
//! shards/<n>/manifest-<digest>        manifest of shard n
//! shards/<n>/files/<digest>.<kind>    what manifests name: segments of all signals, registry, metadata, window
//! shards/<n>/files/<digest>.<kind>.part   a file of which a part has arrived; in a directory only
//! ```
//!
//! Every file but the list bears its digest (BLAKE3) in its name; the list holds a digest of itself. A file becomes visible
//! when it is whole, the list last of all. So the list that is there always describes a whole backup: the new
//! one, or the one before if the run was cut short. What no list names any more is removed after the new list is
//! durable.
//!
//! # Places
//!
//! [`place::Place`] is what copying needs of where a backup lies. The layout is the same everywhere:
//!
//! * [`dir::DirPlace`]: files are written aside, synced and renamed. A lock keeps a second run out.
//! * [`objects::ObjectPlace`]: below a prefix of a bucket, which [`s3`] opens. An object becomes visible in one step, after its
//!   digest was checked; large ones go up in parts. What is there by name and length is whole, for nothing else is ever
//!   put under such a name. The list is written on the condition that it is still the one that was read, so of two runs
//!   that began from the same list one is refused. Before that the run looks whether everything that its list will name is
//!   there, and notes what to remove, so that it removes nothing that came later; and it removes only while the list is its
//!   own.
//!
//! # Backup
//!
//! Each shard is captured by itself: flushed, so that its manifest covers everything that was acknowledged before, and
//! then copied. Segments never change, so a file that is there by name and digest is not sent again: the second backup
//! of a day costs what was flushed and merged since. A merge may retire a file before it was copied; then the shard is
//! captured again, and what was copied stays.
//!
//! The backup is consistent per shard, as a request that touches several shards is atomic per shard.
//!
//! # Restore
//!
//! Data goes in the way any data does, through the write path: the cluster may have another number of shards, other nodes
//! and another secret, and may be running and hold data. What lies in a bucket is fetched into a directory first, since it
//! is read with the code that serves queries, which maps files. Then every digest is checked; a backup that is not whole is
//! refused before anything is written. Then
//!
//! * settings and dashboards that the cluster lacks,
//! * metrics with exemplars, metadata and start times, by remote write 2.0: a sample that is there already changes nothing,
//! * logs in windows of time, over all shards. What the cluster holds in a window is asked first, and only records of
//!   moments of which it holds fewer are sent, each window as one atomic batch under a key made from its content,
//! * spans likewise, as OTLP: those of whose ids it holds fewer are sent.
//!
//! So a restore that was cut short is simply run again. What the cluster refuses (older than its retention) is counted
//! and said. Three things to know: log records of the same nanosecond and number as the backup's are taken for them; spans
//! that arrive are counted by the metrics of spans, also those of a restore; and data keeps the tenant it had.

pub mod dir;
pub mod objects;
pub mod offence;
pub mod place;
pub mod s3;
#[cfg(test)]
pub(crate) mod testing;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cluster::meta::dashboards::Dashboards;
use protocol::ids::ShardId;
use serde::{Deserialize, Serialize};
use storage::fs::Fs;
use storage::manifest::{FileRef, hex};

use crate::service::ServiceError;
use offence::Offence;

/// Name of the list.
pub const LIST_FILE: &str = "backup.json";
/// Version of the layout.
const VERSION: u32 = 1;
/// Longest list that is read.
pub const MAX_LIST_BYTES: u64 = 16 << 20;

/// What of the meta state belongs to a backup.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// The cluster.
    pub cluster_id: String,
    /// Its shards.
    pub shards: Vec<ShardId>,
    /// Settings of the layers above, by name.
    pub settings: BTreeMap<String, String>,
    /// Dashboards.
    pub dashboards: Dashboards,
}

/// A file of a backup that is not content-named by a manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// Digest, hexadecimal.
    pub digest: String,
    /// Length.
    pub bytes: u64,
}

impl Listed {
    /// Describes these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self { digest: digest(bytes), bytes: bytes.len() as u64 }
    }
}

/// A backup's list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct List {
    /// Version of the layout.
    pub version: u32,
    /// Release that made it.
    pub release: String,
    /// The cluster.
    pub cluster_id: String,
    /// When it was begun, in milliseconds since 1970.
    pub begun_ms: i64,
    /// Dashboards and settings.
    pub state: Listed,
    /// Manifests.
    pub shards: BTreeMap<ShardId, Listed>,
}

#[derive(Serialize, Deserialize)]
struct Sealed {
    backup: List,
    digest: String,
}

/// Why a backup is not taken.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// There is none.
    #[error("{place} holds no backup: there is no {LIST_FILE}")]
    None {
        /// Where.
        place: String,
    },
    /// Another process uses the directory.
    #[error("{}", crate::error::chain(.0))]
    Locked(#[from] ServiceError),
    /// A file can not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A store of objects refused, or can not be asked.
    #[error("{name}: {offence}")]
    Store {
        /// What was asked for.
        name: String,
        /// Why not.
        offence: Offence,
    },
    /// Another run wrote its list meanwhile.
    #[error(
        "{place}: another backup was written here while this one ran; its list stays, run this one again"
    )]
    Overtaken {
        /// Where.
        place: String,
    },
    /// A file is not what was written.
    #[error("{file} is damaged: {reason}")]
    Damaged {
        /// The file.
        file: String,
        /// What is wrong.
        reason: String,
    },
    /// A later release made it.
    #[error("{file} has version {version} of the layout, known here are versions up to {VERSION}")]
    Version {
        /// The list.
        file: String,
        /// Its version.
        version: u32,
    },
}

impl BackupError {
    /// Wraps what the system said of a file.
    pub fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }

    /// A file whose content is not what its name or the list says.
    pub fn another_digest(file: impl std::fmt::Display) -> Self {
        Self::Damaged { file: file.to_string(), reason: "its digest is another".to_owned() }
    }
}

/// Digest of bytes, as names have it.
pub fn digest(bytes: &[u8]) -> String {
    hex(blake3::hash(bytes).as_bytes())
}

/// Directory of a shard.
pub fn shard_dir(dir: &Path, shard: ShardId) -> PathBuf {
    dir.join("shards").join(shard.to_string())
}

/// Name of a shard's manifest.
pub fn manifest_name(shard: ShardId, manifest: &Listed) -> String {
    format!("shards/{shard}/manifest-{}", manifest.digest)
}

/// Path of a shard's manifest.
pub fn manifest_path(dir: &Path, shard: ShardId, manifest: &Listed) -> PathBuf {
    dir.join(manifest_name(shard, manifest))
}

/// Name of a file that a shard's manifest names.
pub fn file_name(shard: ShardId, file: &FileRef) -> String {
    format!("shards/{shard}/files/{}", file.name())
}

/// Name of the state.
pub fn state_name(state: &Listed) -> String {
    format!("state-{}.json", state.digest)
}

/// Path of the state.
pub fn state_path(dir: &Path, state: &Listed) -> PathBuf {
    dir.join(state_name(state))
}

/// Whether a backup gives such names to what it holds beside the list. Whatever else lies in the place is not ours to
/// remove.
pub fn is_ours(name: &str) -> bool {
    let parts: Vec<&str> = name.split('/').collect();
    match parts[..] {
        [name] => name.starts_with("state-"),
        ["shards", shard, name] => is_number(shard) && name.starts_with("manifest-"),
        ["shards", shard, "files", name] => is_number(shard) && !name.is_empty(),
        _ => false,
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Reads a file and checks its digest.
pub fn read_listed(fs: &impl Fs, path: &Path, listed: &Listed) -> Result<Vec<u8>, BackupError> {
    let bytes = fs.read(path, listed.bytes).map_err(BackupError::io(path))?;
    if digest(&bytes) == listed.digest {
        return Ok(bytes);
    }
    Err(BackupError::another_digest(path.display()))
}

impl List {
    /// A list of nothing yet.
    pub fn new(cluster_id: String, begun_ms: i64, state: Listed) -> Self {
        let release = env!("CARGO_PKG_VERSION").to_owned();
        Self { version: VERSION, release, cluster_id, begun_ms, state, shards: BTreeMap::new() }
    }

    /// Reads a backup's list; `None` where there is no backup.
    pub fn load(fs: &impl Fs, dir: &Path) -> Result<Option<Self>, BackupError> {
        let path = dir.join(LIST_FILE);
        if !fs.exists(&path).map_err(BackupError::io(&path))? {
            return Ok(None);
        }
        let bytes = fs.read(&path, MAX_LIST_BYTES).map_err(BackupError::io(&path))?;
        Self::decode(&bytes, path.display()).map(Some)
    }

    /// Reads a list from its bytes; errors name `file`.
    pub fn decode(bytes: &[u8], file: impl std::fmt::Display) -> Result<Self, BackupError> {
        let file = file.to_string();
        let sealed: Sealed = match serde_json::from_slice(bytes) {
            Ok(sealed) => sealed,
            Err(error) => return Err(BackupError::Damaged { file, reason: error.to_string() }),
        };
        if sealed.backup.version > VERSION {
            return Err(BackupError::Version { file, version: sealed.backup.version });
        }
        if sealed.backup.sealed_digest() != sealed.digest {
            return Err(BackupError::another_digest(file));
        }
        Ok(sealed.backup)
    }

    /// The list with its digest.
    pub fn encode(&self) -> Vec<u8> {
        let sealed = Sealed { backup: self.clone(), digest: self.sealed_digest() };
        serde_json::to_vec_pretty(&sealed).expect("a list has text keys and no failing serializers")
    }

    /// Makes the list the durable one.
    pub fn store(self, fs: &impl Fs, dir: &Path) -> Result<(), BackupError> {
        let path = dir.join(LIST_FILE);
        fs.write_atomic(&path, &self.encode()).map_err(BackupError::io(&path))
    }

    fn sealed_digest(&self) -> String {
        digest(&serde_json::to_vec(self).expect("a list has text keys and no failing serializers"))
    }
}

#[cfg(test)]
mod tests {
    use storage::fs::mem::MemFs;

    use super::*;

    #[test]
    fn a_list_that_was_changed_is_refused() {
        let (fs, dir) = (MemFs::new(1), Path::new("/backup"));
        fs.create_dir_durable(dir).expect("a directory");
        assert!(List::load(&fs, dir).expect("readable").is_none());
        let mut list = List::new("c".to_owned(), 7, Listed::of(b"state"));
        list.shards.insert(ShardId(3), Listed::of(b"manifest"));
        list.clone().store(&fs, dir).expect("writable");
        assert_eq!(List::load(&fs, dir).expect("readable"), Some(list.clone()));
        let path = dir.join(LIST_FILE);
        let len = fs.read(&path, 1 << 20).expect("readable").len() as u64;
        for byte in 0..len {
            let copy = fs.fork(2);
            copy.flip_bit(&path, byte, 2).expect("a byte");
            let again = List::load(&copy, dir);
            // A blank between tokens may become another one.
            assert!(again.is_err() || again.is_ok_and(|again| again == Some(list.clone())), "byte {byte}");
        }
    }

    #[test]
    fn only_what_a_backup_names_is_its_own() {
        let shard = ShardId(3);
        let file = FileRef::of(b"content", storage::manifest::FileKind::Segment);
        let listed = Listed::of(b"content");
        let names = [state_name(&listed), manifest_name(shard, &listed), file_name(shard, &file)];
        assert!(names.iter().all(|name| is_ours(name)), "{names:?}");
        assert!(is_ours(&format!("{}.part", names[2])));
        let others = [
            "",
            LIST_FILE,
            "LOCK",
            "notes.txt",
            "shards/3",
            "shards/x/files/a",
            "shards/3/files",
            "a/state-b",
        ];
        for other in others.into_iter().chain(["shards/3/files/", "shards/3/other", "shards/3/files/a/b"]) {
            assert!(!is_ours(other), "{other}");
        }
    }

    #[test]
    fn a_listed_file_is_checked() {
        let (fs, dir) = (MemFs::new(1), Path::new("/backup"));
        fs.create_dir_durable(dir).expect("a directory");
        let listed = Listed::of(b"content");
        let path = state_path(dir, &listed);
        assert!(matches!(read_listed(&fs, &path, &listed), Err(BackupError::Io { .. })), "missing");
        fs.write_atomic(&path, b"content").expect("writable");
        assert_eq!(read_listed(&fs, &path, &listed).expect("whole"), b"content");
        fs.flip_bit(&path, 3, 1).expect("a byte");
        assert!(matches!(read_listed(&fs, &path, &listed), Err(BackupError::Damaged { .. })));
    }
}
