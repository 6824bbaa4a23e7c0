//! Who this node is: a small file that no data directory with data may lack.
//!
//! A node that started with an empty disk under its old name would vote again in terms in which it has voted, and claim
//! entries that it has lost. So the name lives with the data: the file is written before anything else, and a directory
//! that holds a log or shards without it is refused. A node that lost everything joins under a new name.
//!
//! ```text
//! {"identity": {...}, "crc32c": checksum of the identity's JSON as it is written}
//! ```
//!
//! Stages: `incarnation` alone (about to join or to make a cluster), then with `cluster_id` and `node`. `bootstrap` holds
//! what the first node decided about the new cluster, until the meta group has it.

use std::path::{Path, PathBuf};

use protocol::ids::{ClusterSecret, NodeId};
use serde::{Deserialize, Serialize};
use storage::fs::Fs;

use crate::error::ClusterError;

const FILE: &str = "identity.json";
/// What a node writes besides; if any of it is there, so must the file be.
pub(crate) const WAL_DIR: &str = "wal";
pub(crate) const SHARDS_DIR: &str = "shards";
pub(crate) const META_FILE: &str = "meta.export";

/// Who a node is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Random number of this data directory.
    pub incarnation: u64,
    /// The cluster it belongs to.
    pub cluster_id: Option<String>,
    /// Its id there.
    pub node: Option<NodeId>,
    /// The cluster it is about to make.
    pub bootstrap: Option<Bootstrap>,
    /// Addresses of other members when it joined: where to look for the others until the meta state says better.
    #[serde(default)]
    pub peers: Vec<(NodeId, String)>,
}

/// What the first node decides about a new cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bootstrap {
    /// Key of the hashes.
    pub secret: ClusterSecret,
    /// Number of shards.
    pub shards: u16,
    /// Replication factor.
    pub replication_factor: u32,
}

#[derive(Serialize, Deserialize)]
struct File {
    identity: Identity,
    crc32c: u32,
}

fn checksum(identity: &Identity) -> u32 {
    crc32c::crc32c(&serde_json::to_vec(identity).expect("an identity has no failing serializers"))
}

impl Identity {
    /// Where it is kept in a data directory.
    pub(crate) fn path(dir: &Path) -> PathBuf {
        dir.join(FILE)
    }

    /// Reads the identity of a data directory; `None` for an empty one.
    pub fn load<F: Fs>(fs: &F, dir: &Path) -> Result<Option<Self>, ClusterError> {
        let path = Self::path(dir);
        let io = |source| ClusterError::Io { path: path.clone(), source };
        if !fs.exists(&path).map_err(io)? {
            for name in [WAL_DIR, SHARDS_DIR, META_FILE] {
                if fs.exists(&dir.join(name)).map_err(io)? {
                    return Err(ClusterError::NoIdentity { path: dir.into() });
                }
            }
            return Ok(None);
        }
        let bytes = fs.read(&path, 1 << 20).map_err(io)?;
        let corrupt = |reason: String| ClusterError::Corrupt { path: path.clone(), reason };
        let file: File = serde_json::from_slice(&bytes).map_err(|e| corrupt(e.to_string()))?;
        if checksum(&file.identity) != file.crc32c {
            return Err(corrupt("its checksum does not match".into()));
        }
        Ok(Some(file.identity))
    }

    /// Writes the identity, durable on return.
    pub fn save<F: Fs>(&self, fs: &F, dir: &Path) -> Result<(), ClusterError> {
        let file = File { identity: self.clone(), crc32c: checksum(self) };
        let bytes = serde_json::to_vec(&file).expect("an identity has no failing serializers");
        let path = Self::path(dir);
        fs.write_atomic(&path, &bytes).map_err(|source| ClusterError::Io { path, source })
    }
}

#[cfg(test)]
mod tests {
    use storage::fs::mem::MemFs;

    use super::*;

    fn identity() -> Identity {
        Identity {
            incarnation: u64::MAX,
            cluster_id: Some("c".into()),
            node: Some(NodeId(3)),
            bootstrap: Some(Bootstrap { secret: ClusterSecret([9; 32]), shards: 16, replication_factor: 3 }),
            peers: vec![(NodeId(1), "a:1".into())],
        }
    }

    #[test]
    fn it_survives_and_notices_damage() {
        let (fs, dir) = (MemFs::new(1), Path::new("/data"));
        fs.create_dir_all(dir).unwrap();
        assert_eq!(Identity::load(&fs, dir).unwrap(), None);
        identity().save(&fs, dir).unwrap();
        assert_eq!(Identity::load(&fs, dir).unwrap(), Some(identity()));
        let len = fs.read(&Identity::path(dir), 1 << 20).unwrap().len() as u64;
        for byte in 0..len {
            let copy = fs.fork(2);
            copy.flip_bit(&Identity::path(dir), byte, 0).unwrap();
            let again = Identity::load(&copy, dir);
            assert!(again.is_err() || again.is_ok_and(|i| i == Some(identity())), "flip in byte {byte}");
        }
    }

    #[test]
    fn data_without_a_name_is_refused() {
        let (fs, dir) = (MemFs::new(1), Path::new("/data"));
        fs.create_dir_all(&dir.join(WAL_DIR)).unwrap();
        assert!(matches!(Identity::load(&fs, dir), Err(ClusterError::NoIdentity { .. })));
    }
}
