//! The directories of shards on this node: which replica each holds, and replicas that were set aside.
//!
//! ```text
//! shards/<shard>/replica                its ReplicaId; with " damaged" behind it: the number was lost, and the replica was
//!                                       this one or an earlier one
//! shards/<shard>.<replica>.leaving/     set aside, the log may still hold its entries
//! shards/<shard>.<replica>.lost/        set aside, the log holds nothing of it
//! ```
//!
//! A replica that a newer placement replaces is set aside, not removed: if the copies that it relied on turn out to be no
//! better, its files are still there. It goes when the new replica votes. The name goes first, in one rename with
//! everything else, then the log, so that a crash at any point leaves a replica with its votes or none at all.
//!
//! The directory is read once, when the node starts; from then on memory says what is there.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use protocol::ids::ShardId;
use storage::fs::Fs;

use crate::meta::ReplicaId;

const REPLICA_FILE: &str = "replica";
const DAMAGED: &str = "damaged";
const LEAVING: &str = "leaving";
const LOST: &str = "lost";

/// What the directory of a shard holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holds {
    /// This replica.
    Replica(ReplicaId),
    /// A replica that is not known any more: this one or an earlier one, if anything is known of it.
    Nameless(Option<ReplicaId>),
}

/// A replica set aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Aside {
    pub shard: ShardId,
    pub replica: ReplicaId,
}

/// What is on disk.
#[derive(Debug, Default)]
pub(crate) struct ShardDirs {
    here: BTreeMap<ShardId, Holds>,
    leaving: BTreeSet<Aside>,
    lost: BTreeSet<Aside>,
}

impl Aside {
    fn path(self, shards: &Path, stage: &str) -> PathBuf {
        shards.join(format!("{}.{}.{stage}", self.shard, self.replica.0))
    }

    fn parse(name: &str) -> Option<(Self, &str)> {
        let mut parts = name.splitn(3, '.');
        let (shard, replica, stage) = (parts.next()?, parts.next()?, parts.next()?);
        Some((Self { shard: ShardId(shard.parse().ok()?), replica: ReplicaId(replica.parse().ok()?) }, stage))
    }
}

fn read_name<F: Fs>(fs: &F, dir: &Path) -> Holds {
    let Ok(bytes) = fs.read(&dir.join(REPLICA_FILE), 64) else { return Holds::Nameless(None) };
    let text = String::from_utf8_lossy(&bytes);
    let mut words = text.split_whitespace();
    let replica = words.next().and_then(|number| number.parse().ok()).map(ReplicaId);
    match (replica, words.next()) {
        (Some(replica), None) => Holds::Replica(replica),
        (replica, Some(DAMAGED)) => Holds::Nameless(replica),
        _ => Holds::Nameless(None),
    }
}

impl ShardDirs {
    /// Looks at a node's shards. A name that can not be read is none.
    pub fn read<F: Fs>(fs: &F, shards: &Path) -> io::Result<Self> {
        let mut dirs = Self::default();
        for entry in fs.list(shards)?.into_iter().filter(|entry| entry.is_dir) {
            if let Ok(shard) = entry.name.parse() {
                dirs.here.insert(ShardId(shard), read_name(fs, &shards.join(&entry.name)));
            } else if let Some((aside, stage)) = Aside::parse(&entry.name) {
                match stage {
                    LEAVING => dirs.leaving.insert(aside),
                    LOST => dirs.lost.insert(aside),
                    _ => false,
                };
            }
        }
        Ok(dirs)
    }

    /// Where the name of a shard's replica is.
    pub fn name_file(dir: &Path) -> PathBuf {
        dir.join(REPLICA_FILE)
    }

    /// The shards with a directory, and what that holds.
    pub fn here(&self) -> impl Iterator<Item = (ShardId, Holds)> {
        self.here.iter().map(|(shard, holds)| (*shard, *holds))
    }

    /// What a shard's directory holds, if there is one.
    pub fn holds(&self, shard: ShardId) -> Option<Holds> {
        self.here.get(&shard).copied()
    }

    /// Replicas of a shard whose log may still be there.
    pub fn leaving(&self, shard: ShardId) -> Option<Aside> {
        self.leaving.iter().find(|aside| aside.shard == shard).copied()
    }

    /// Replicas of a shard that wait for a newer one to vote.
    pub fn lost(&self, shard: ShardId) -> Vec<Aside> {
        self.lost.iter().filter(|aside| aside.shard == shard).copied().collect()
    }

    /// Notes what [`write_name`] did.
    pub fn named(&mut self, shard: ShardId, holds: Holds) {
        self.here.insert(shard, holds);
    }

    /// Notes what [`take_away`] did.
    pub fn taken_away(&mut self, aside: Aside) {
        self.here.remove(&aside.shard);
        self.leaving.insert(aside);
    }

    /// Notes what [`settle`] did.
    pub fn settled(&mut self, aside: Aside, keep: bool) {
        self.leaving.remove(&aside);
        if keep {
            self.lost.insert(aside);
        }
    }

    /// Notes that [`remove_lost`] did its work.
    pub fn removed(&mut self, aside: Aside) {
        self.lost.remove(&aside);
    }
}

/// Names the replica of a shard's directory, which is made if it is not there. Durable on return.
pub(super) fn write_name<F: Fs>(fs: &F, shards: &Path, shard: ShardId, holds: Holds) -> io::Result<()> {
    let text = match holds {
        Holds::Replica(replica) => replica.0.to_string(),
        Holds::Nameless(Some(upto)) => format!("{} {DAMAGED}", upto.0),
        Holds::Nameless(None) => DAMAGED.to_owned(),
    };
    let dir = shards.join(shard.to_string());
    fs.create_dir_all(&dir)?;
    fs.sync_dir(shards)?;
    fs.write_atomic(&dir.join(REPLICA_FILE), text.as_bytes())
}

/// Sets a shard's directory aside, name and all. Durable on return.
pub(super) fn take_away<F: Fs>(fs: &F, shards: &Path, aside: Aside) -> io::Result<()> {
    let (from, to) = (shards.join(aside.shard.to_string()), aside.path(shards, LEAVING));
    if !fs.exists(&from)? {
        // Only the log knows of it; the directory says that the log's part is on its way out.
        fs.create_dir_all(&to)?;
        return fs.sync_dir(shards);
    }
    fs.remove_dir_all(&to)?;
    fs.rename(&from, &to)?;
    fs.sync_dir(shards)
}

/// Notes on disk that the log holds nothing more of a replica, or removes it altogether.
pub(super) fn settle<F: Fs>(fs: &F, shards: &Path, aside: Aside, keep: bool) -> io::Result<()> {
    let from = aside.path(shards, LEAVING);
    if keep {
        let to = aside.path(shards, LOST);
        fs.remove_dir_all(&to)?;
        fs.rename(&from, &to)?;
    } else {
        fs.remove_dir_all(&from)?;
    }
    fs.sync_dir(shards)
}

/// Removes a replica that was set aside.
pub(super) fn remove_lost<F: Fs>(fs: &F, shards: &Path, aside: Aside) -> io::Result<()> {
    fs.remove_dir_all(&aside.path(shards, LOST))?;
    fs.sync_dir(shards)
}

#[cfg(test)]
mod tests {
    use protocol::ids::NodeId;
    use storage::fs::mem::{CrashMode, MemFs};

    use super::*;

    const SHARD: ShardId = ShardId(7);

    fn shards() -> &'static Path {
        Path::new("/data/shards")
    }

    /// A disk that holds a replica with a file.
    fn disk(seed: u64, replica: ReplicaId) -> MemFs {
        let fs = MemFs::new(seed);
        fs.create_dir_durable(shards()).unwrap();
        write_name(&fs, shards(), SHARD, Holds::Replica(replica)).unwrap();
        fs.write_atomic(&shards().join("7/manifest"), b"data").unwrap();
        fs
    }

    #[test]
    fn names_survive_and_lost_ones_are_no_name() {
        let replica = ReplicaId::new(NodeId(2), 3);
        let fs = disk(1, replica);
        let holds = |fs: &MemFs| ShardDirs::read(fs, shards()).unwrap().holds(SHARD);
        assert_eq!(holds(&fs), Some(Holds::Replica(replica)));
        write_name(&fs, shards(), SHARD, Holds::Nameless(Some(replica))).unwrap();
        assert_eq!(holds(&fs), Some(Holds::Nameless(Some(replica))));
        fs.write_atomic(&shards().join("7/replica"), b"\xff?").unwrap();
        assert_eq!(holds(&fs), Some(Holds::Nameless(None)));
        fs.delete(&shards().join("7/replica")).unwrap();
        assert_eq!(holds(&fs), Some(Holds::Nameless(None)));
        assert_eq!(ShardDirs::read(&fs, shards()).unwrap().holds(ShardId(8)), None);
    }

    #[test]
    fn a_crash_leaves_a_replica_whole_or_without_its_name() {
        let replica = ReplicaId::new(NodeId(2), 1);
        let aside = Aside { shard: SHARD, replica };
        for keep in [true, false] {
            for n in 1.. {
                let fs = disk(n, replica);
                fs.power_off_after(n);
                let whole = take_away(&fs, shards(), aside).and_then(|()| settle(&fs, shards(), aside, keep));
                for mode in CrashMode::POWER {
                    let left = fs.fork(n).crash(mode);
                    let dirs = ShardDirs::read(&left, shards()).unwrap();
                    let places = (dirs.holds(SHARD), dirs.leaving(SHARD), dirs.lost(SHARD).len());
                    let expected = [
                        (Some(Holds::Replica(replica)), None, 0),
                        (None, Some(aside), 0),
                        (None, None, usize::from(keep)),
                    ];
                    assert!(expected.contains(&places), "operation {n}, {mode:?}: {places:?}");
                    if places == expected[2] && keep {
                        let kept = aside.path(shards(), LOST).join("manifest");
                        assert_eq!(left.read(&kept, 10).unwrap(), b"data");
                    }
                }
                if whole.is_ok() {
                    assert!(n > 3, "no operation failed");
                    break;
                }
            }
        }
    }
}
