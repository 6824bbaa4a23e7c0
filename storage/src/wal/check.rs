//! Looking through a log for damage without changing a byte of it, while no node runs on it.
//!
//! The replay is the one that opening does; only what opening repairs is left as it is. More is named than opening
//! minds: also a bad byte in what was purged long ago says that the disk forgets.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use protocol::ids::ShardId;

use super::recover::{ASIDE_SUFFIX, Opened, Tail, scan, segment_name, segment_sequence};
use super::{Damage, GroupState, WalError};
use crate::fs::{Fs, OpenMode};

/// What a look through a log found.
#[derive(Debug, Default)]
pub struct LogCheck {
    /// Segment files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Places that are not as they were written, each once, in the order of files and offsets.
    pub damage: Vec<Damage>,
    /// Files and offsets of those that nobody needs: what was written there was purged since, or the replica given up.
    pub unneeded: BTreeSet<(PathBuf, u64)>,
    /// What a crash left after the last synced batch. The next start cuts it: nothing in it was acknowledged.
    pub torn: Option<TornTail>,
    /// What opening would say of each group.
    pub groups: BTreeMap<ShardId, GroupState>,
}

/// The rest of a batch that was never acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TornTail {
    /// The newest segment.
    pub path: PathBuf,
    /// Where it begins.
    pub offset: u64,
    /// How long it is.
    pub bytes: u64,
}

/// Reads the whole log in a directory. An error means that a file can not be read or is of another release; it says
/// nothing of the others.
pub fn check<F: Fs>(fs: &F, dir: &Path) -> Result<LogCheck, WalError> {
    let mut files = Vec::new();
    for entry in fs.list(dir).map_err(|e| WalError::io(dir, "listing the directory", e))? {
        if !entry.name.ends_with(ASIDE_SUFFIX)
            && let Some(sequence) = segment_sequence(&entry.name)
        {
            files.push(Opened::open(fs, dir.join(&entry.name), sequence, OpenMode::Read)?);
        }
    }
    let scanned = scan(&files, 0)?;
    let ledger = scanned.replay.ledger;
    let is_lost = |group: &ShardId| {
        ledger.suspect.is_some() || ledger.groups.get(group).is_some_and(|group| group.corrupt.is_some())
    };
    let noted = scanned.replay.noted;
    let unneeded = noted.iter().filter(|(_, group)| group.as_ref().is_some_and(|group| !is_lost(group)));
    let unneeded = unneeded.map(|(damage, _)| (damage.path.clone(), damage.offset)).collect();
    let mut damage: Vec<Damage> = noted.into_iter().map(|(damage, _)| damage).collect();
    for pair in files.windows(2) {
        if pair[1].sequence != pair[0].sequence + 1 {
            let path = dir.join(segment_name(pair[0].sequence + 1));
            damage.push(Damage { path, offset: 0, reason: "the segment is missing".to_owned() });
        }
    }
    damage.extend(ledger.suspect.iter().cloned());
    damage.extend(ledger.groups.values().filter_map(|group| group.corrupt.clone()));
    damage.sort_by(|a, b| (&a.path, a.offset).cmp(&(&b.path, b.offset)));
    // The first is the replay's own word, which says most.
    damage.dedup_by(|a, b| (&a.path, a.offset) == (&b.path, b.offset));
    let torn = match (files.last(), scanned.tail) {
        (Some(newest), Tail::Torn { from, end }) => {
            Some(TornTail { path: newest.path.clone(), offset: from, bytes: end - from })
        }
        _ => None,
    };
    let groups = ledger.groups.iter().map(|(id, group)| {
        let suspect = ledger.suspect.as_ref().filter(|_| !ledger.cleared.contains(id));
        let (first, last) = match group.places.len() as u64 {
            0 => (None, None),
            count => (Some(group.first), Some(group.first + count - 1)),
        };
        let state = GroupState {
            vote: group.vote.clone(),
            committed: group.committed.clone(),
            purged: group.purged.clone(),
            first,
            last,
            damage: group.corrupt.as_ref().or(suspect).cloned(),
        };
        (*id, state)
    });
    let groups = groups.collect();
    let (count, bytes) = (files.len() as u64, files.iter().map(|file| file.len).sum());
    Ok(LogCheck { files: count, bytes, damage, unneeded, torn, groups })
}
