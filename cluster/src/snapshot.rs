//! What travels when a replica is too far behind for the log: a manifest, and the files it lacks.
//!
//! A snapshot is the state machine's manifest at a log position: names (content hashes) and lengths of its files. The
//! sender offers it; the receiver says which files it lacks by fetching them, a piece at a time, checks each against its
//! hash, and installs the manifest. Files it has already are not sent, and a transfer that broke goes on where it was.
//! The meta group's snapshot is its export file, whole, in place of the manifest.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::types::{LeaderId, Node};

/// What openraft calls the data of a snapshot.
#[derive(Clone)]
pub struct SnapshotData {
    /// Encoded manifest; for the meta group the export file.
    pub manifest: Bytes,
    /// Keeps the manifest's files from being removed as long as somebody may fetch them.
    pub pin: Option<Arc<dyn Any + Send + Sync>>,
}

impl SnapshotData {
    /// A snapshot whose files are on this disk already, or that has none.
    pub fn unpinned(manifest: Bytes) -> Self {
        Self { manifest, pin: None }
    }
}

impl fmt::Debug for SnapshotData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SnapshotData({} bytes)", self.manifest.len())
    }
}

/// A snapshot with its position and membership.
pub type Snapshot = openraft::Snapshot<LeaderId, u64, Node, SnapshotData>;
/// Position and membership of a snapshot.
pub type SnapshotMeta = openraft::SnapshotMeta<LeaderId, u64, Node>;
