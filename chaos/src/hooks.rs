//! What a node lets chaos do to it from inside: the file by which a harness tells it so.
//!
//! `pharos server --fault-file FILE` reads [`NodeFaults`] from that file, at its start and whenever it changes, and copies
//! what it has put into effect to [`NodeFaults::seen_path`], so that the harness knows when a fault begins and that it
//! does. Whether its power can be cut, by [`storage::fs::undo`], is decided when it starts. Only nodes on a data directory
//! with [`CHAOS_MARKER`] in it take the flag; without it there are no hooks.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// A file by which data directories are marked that were made here. Only there do a node's chaos hooks work.
pub const CHAOS_MARKER: &str = "MADE-BY-CHAOS";

/// What is wrong with a node's disk and clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NodeFaults {
    /// Bytes that the files of its data directory may have in all.
    pub disk_quota_bytes: Option<u64>,
    /// How much longer each sync takes.
    pub sync_delay_ms: u64,
    /// And by anything up to this besides.
    pub sync_jitter_ms: u64,
    /// What its wall clock shows more than the system's.
    pub clock_offset_ms: i64,
    /// Whether it notes in [`NodeFaults::undo_path`] how to undo what is not durable. Can not be changed while it runs.
    pub power_cuts: bool,
}

impl NodeFaults {
    /// Reads what a file says; nothing is wrong where there is none.
    pub fn read(path: &Path) -> io::Result<Self> {
        match std::fs::read(path) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error),
        }
    }

    /// Writes a file in one step: who reads it finds the old or the new one whole.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let aside = with_suffix(path, ".tmp");
        std::fs::write(&aside, serde_json::to_vec(self)?)?;
        std::fs::rename(aside, path)
    }

    /// The directory in which a node keeps what a power cut needs.
    pub fn undo_path(path: &Path) -> PathBuf {
        with_suffix(path, ".undo")
    }

    /// Where a node says what it has put into effect.
    pub fn seen_path(path: &Path) -> PathBuf {
        with_suffix(path, ".seen")
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name: OsString = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read_as_they_were_written() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("node-1.faults");
        assert_eq!(NodeFaults::read(&path).expect("none"), NodeFaults::default());
        let faults = NodeFaults {
            disk_quota_bytes: Some(7),
            sync_delay_ms: 3,
            sync_jitter_ms: 1,
            clock_offset_ms: -3_600_000,
            power_cuts: true,
        };
        faults.write(&path).expect("writable");
        assert_eq!(NodeFaults::read(&path).expect("some"), faults);
        std::fs::write(&path, "{\"disk_quota\": 1}").expect("writable");
        NodeFaults::read(&path).expect_err("a fault that there is not is no fault that is left out");
    }
}
