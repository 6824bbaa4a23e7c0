//! Reads the log as a crash left it on disk, and compares it with what all disks have held before.
//!
//! This looks below the nodes: not at what they say, but at what a restart will find. Checked are: the log opens and no
//! group is damaged (nothing here damages files); entries with one log id have one body on every disk, ever; an entry
//! that was committed is never another one; votes on one disk never go back; purged and committed positions lie where
//! the entries allow it.

use std::collections::BTreeMap;
use std::hash::Hasher;
use std::path::Path;

use cluster::types::codec;
use protocol::ids::ShardId;
use storage::fs::Fs;
use storage::fs::mem::MemFs;
use storage::wal::{Wal, WalEntry, WalOptions};
use xxhash_rust::xxh3::Xxh3;

use crate::sim::oracle::{Oracle, invariant};

/// Where a node keeps its log.
const LOG_DIR: &str = "/data/wal";

/// Bytes of entries that are read at a time.
const READ_BYTES: usize = 4 << 20;

/// What all disks have held.
#[derive(Default)]
pub struct DiskLogs {
    /// Body by (group, index, log id).
    bodies: BTreeMap<(u16, u64, Vec<u8>), u64>,
    /// Log id of committed entries by (group, index).
    committed: BTreeMap<(u16, u64), Vec<u8>>,
    /// Last vote by (machine, disk, group).
    votes: BTreeMap<(usize, u64, u16), cluster::types::Vote>,
}

impl DiskLogs {
    /// Reads the log on a copy of a disk. `disk_number` counts the disks that the machine has had; without it, votes are
    /// not compared with those that the disk held before.
    pub fn look(&mut self, at: usize, disk_number: Option<u64>, disk: &MemFs, oracle: &Oracle) {
        let copy = disk.fork(1);
        copy.set_quota(None);
        let dir = Path::new(LOG_DIR);
        if !matches!(copy.exists(dir), Ok(true)) {
            return;
        }
        let broken =
            |number, what: String| oracle.violate(number, format!("disk of machine {}: {what}", at + 1));
        let log = match Wal::open(copy, dir, WalOptions::default()) {
            Ok((log, _writer)) => log,
            Err(error) => return broken(invariant::NOTHING_LOST, format!("the log does not open: {error}")),
        };
        for group in log.groups() {
            if let Err((number, what)) = self.look_at_group(at, disk_number, &log, group) {
                broken(number, format!("group {group}: {what}"));
            }
        }
    }

    fn look_at_group(
        &mut self,
        at: usize,
        disk: Option<u64>,
        log: &Wal<MemFs>,
        group: ShardId,
    ) -> Result<(), (u8, String)> {
        let state = log.state(group);
        if let Some(damage) = &state.damage {
            return Err((invariant::NOTHING_LOST, format!("nothing damaged the log, yet it is: {damage}")));
        }
        if let Some(bytes) = &state.vote {
            let vote =
                codec::decode_vote(bytes).map_err(|e| (invariant::NEVER_BACK, format!("vote: {e}")))?;
            if let Some(disk) = disk
                && let Some(before) = self.votes.insert((at, disk, group.0), vote)
                && vote.partial_cmp(&before).is_none_or(|order| order.is_lt())
            {
                return Err((invariant::NEVER_BACK, format!("the vote went back from {before} to {vote}")));
            }
        }
        let committed = match &state.committed {
            None => None,
            Some(bytes) => {
                let id =
                    codec::decode_log_id(bytes).map_err(|e| (invariant::ORDER, format!("committed: {e}")))?;
                Some(id.index)
            }
        };
        let purged = state.purged.as_ref().map(|(index, _)| *index);
        if let (Some(purged), Some(first)) = (purged, state.first)
            && first != purged + 1
        {
            return Err((invariant::ORDER, format!("purged up to {purged}, first entry is {first}")));
        }
        let (Some(first), Some(last)) = (state.first, state.last) else { return Ok(()) };
        let mut next = first;
        while next <= last {
            let entries = log.read(group, next..last + 1, READ_BYTES).map_err(|e| {
                (invariant::NOTHING_LOST, format!("entries from {next} on can not be read: {e}"))
            })?;
            if entries.is_empty() {
                return Err((invariant::NOTHING_LOST, format!("entries {next} to {last} are not there")));
            }
            for entry in &entries {
                if entry.index != next {
                    return Err((
                        invariant::LOG_MATCHING,
                        format!("entry {} where {next} is due", entry.index),
                    ));
                }
                self.look_at_entry(
                    group,
                    entry,
                    committed.is_some_and(|committed| entry.index <= committed),
                )?;
                next += 1;
            }
        }
        Ok(())
    }

    fn look_at_entry(
        &mut self,
        group: ShardId,
        entry: &WalEntry,
        committed: bool,
    ) -> Result<(), (u8, String)> {
        let mut hasher = Xxh3::new();
        hasher.write(&entry.body);
        let body = hasher.finish();
        let head = entry.head.to_vec();
        let known = self.bodies.entry((group.0, entry.index, head.clone())).or_insert(body);
        if *known != body {
            let what =
                format!("entry {} differs from what another disk holds under the same log id", entry.index);
            return Err((invariant::LOG_MATCHING, what));
        }
        if committed {
            let known = self.committed.entry((group.0, entry.index)).or_insert_with(|| head.clone());
            if *known != head {
                let what = format!("entry {} was committed and is another one now", entry.index);
                return Err((invariant::COMMITTED_IMMUTABLE, what));
            }
        }
        Ok(())
    }
}
