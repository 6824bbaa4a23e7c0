//! What the log says, in log order: the state that a replay up to some batch gives.
//!
//! One implementation serves both sides. At open it is fed from the files; from then on the writer feeds it each batch
//! after its sync. So whatever the writer decides from it (the checkpoint at the start of a segment, which segments
//! nobody needs any more) is decided from durable state only, and equals what the next open will find.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use protocol::ids::ShardId;

use super::format::{GroupCheckpoint, Kind, RecordHeader};
use super::{Damage, Place};

/// Most entries of a group that a checkpoint may name.
const MAX_ENTRIES: u64 = 1 << 28;

/// State of all groups.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) groups: BTreeMap<ShardId, LedgerGroup>,
    /// Entries in each segment that some group still holds.
    live: BTreeMap<u32, u64>,
    /// A batch could not be read at all: every group may have lost something, but for those in `cleared`.
    pub(super) suspect: Option<Damage>,
    pub(super) cleared: BTreeSet<ShardId>,
}

/// State of one group.
#[derive(Debug, Default)]
pub(super) struct LedgerGroup {
    pub(super) vote: Option<Bytes>,
    pub(super) committed: Option<Bytes>,
    pub(super) purged: Option<(u64, Bytes)>,
    /// Index of the first of `places`.
    pub(super) first: u64,
    /// [`Place::NOWHERE`] for entries that a checkpoint names but no segment before it holds: fine if they are purged
    /// or rewritten later, else lost.
    pub(super) places: VecDeque<Place>,
    missing_damage: Option<Damage>,
    pub(super) corrupt: Option<Damage>,
    history: u64,
}

impl LedgerGroup {
    /// Index after the last entry, if the group ever had one.
    fn next(&self) -> Option<u64> {
        if self.places.is_empty() {
            return self.purged.as_ref().map(|(index, _)| index + 1);
        }
        Some(self.first + self.places.len() as u64)
    }

    /// Extends the digest of the group's history.
    fn remember(&mut self, record: &RecordHeader) {
        let mut bytes = [0; 13];
        bytes[..8].copy_from_slice(&record.index.to_le_bytes());
        bytes[8..12].copy_from_slice(&record.crc.to_le_bytes());
        bytes[12] = record.kind as u8;
        self.history = xxhash_rust::xxh3::xxh3_64_with_seed(&bytes, self.history);
    }

    /// Whether an entry is (still) at a place.
    pub(super) fn holds(&self, index: u64, place: Place) -> bool {
        let at = index.checked_sub(self.first).and_then(|at| usize::try_from(at).ok());
        at.and_then(|at| self.places.get(at)) == Some(&place)
    }

    fn place_mut(&mut self, index: u64) -> Option<&mut Place> {
        let at = index.checked_sub(self.first).and_then(|at| usize::try_from(at).ok())?;
        self.places.get_mut(at)
    }

    fn entries(&self) -> Option<(u64, u64)> {
        (!self.places.is_empty()).then(|| (self.first, self.first + self.places.len() as u64 - 1))
    }

    fn checkpoint(&self, corrupt: bool) -> GroupCheckpoint {
        GroupCheckpoint {
            vote: self.vote.clone(),
            committed: self.committed.clone(),
            purged: self.purged.clone(),
            entries: self.entries(),
            corrupt,
            history: self.history,
        }
    }
}

impl Ledger {
    /// Takes a record over. `damage` describes the place in the log, for the case that the record contradicts what
    /// came before.
    pub(super) fn apply(
        &mut self,
        record: &RecordHeader,
        place: Place,
        body: &[u8],
        damage: impl Fn(&str) -> Damage,
    ) {
        if !matches!(record.kind, Kind::Mark | Kind::Seal | Kind::Remove) {
            self.groups.entry(record.group).or_default().remember(record);
        }
        match record.kind {
            Kind::Mark | Kind::Seal => {}
            Kind::Suspect | Kind::Group => debug_assert!(false, "checkpoints go through load()"),
            Kind::Remove => self.remove(record.group),
            Kind::Entry => {
                let group = self.groups.entry(record.group).or_default();
                match group.next() {
                    Some(next) if next != record.index => {
                        // Entries in between are lost, or these were never allowed: the group can not be trusted.
                        let found = format!("entry {} where {next} was due", record.index);
                        group.corrupt.get_or_insert_with(|| damage(&found));
                    }
                    _ => {
                        if group.places.is_empty() {
                            group.first = record.index;
                        }
                        group.places.push_back(place);
                        *self.live.entry(place.segment).or_default() += 1;
                    }
                }
            }
            Kind::Rewrite => {
                let group = self.groups.entry(record.group).or_default();
                if let Some(held) = group.place_mut(record.index) {
                    let old = std::mem::replace(held, place);
                    Self::release(&mut self.live, old);
                    *self.live.entry(place.segment).or_default() += 1;
                }
            }
            Kind::Vote => {
                self.groups.entry(record.group).or_default().vote = Some(Bytes::copy_from_slice(body));
            }
            Kind::Committed => {
                self.groups.entry(record.group).or_default().committed = Some(Bytes::copy_from_slice(body));
            }
            Kind::Truncate => self.truncate(record.group, record.index),
            Kind::Purge => self.purge(record.group, record.index, Bytes::copy_from_slice(body)),
        }
    }

    fn release(live: &mut BTreeMap<u32, u64>, place: Place) {
        if let Some(count) = live.get_mut(&place.segment) {
            *count -= 1;
            if *count == 0 {
                live.remove(&place.segment);
            }
        }
    }

    /// Entries from `from` on are gone.
    fn truncate(&mut self, group: ShardId, from: u64) {
        let Some(group) = self.groups.get_mut(&group) else { return };
        while !group.places.is_empty() && group.first + group.places.len() as u64 > from {
            if let Some(place) = group.places.pop_back() {
                Self::release(&mut self.live, place);
            }
        }
    }

    /// Entries up to `upto` are gone.
    fn purge(&mut self, group: ShardId, upto: u64, id: Bytes) {
        let group = self.groups.entry(group).or_default();
        if group.purged.as_ref().is_some_and(|(index, _)| *index >= upto) {
            return;
        }
        group.purged = Some((upto, id));
        while !group.places.is_empty() && group.first <= upto {
            if let Some(place) = group.places.pop_front() {
                Self::release(&mut self.live, place);
            }
            group.first += 1;
        }
    }

    fn forget(&mut self, group: ShardId) {
        if let Some(old) = self.groups.remove(&group) {
            for place in old.places {
                Self::release(&mut self.live, place);
            }
        }
    }

    fn remove(&mut self, group: ShardId) {
        self.forget(group);
        if self.suspect.is_some() {
            self.cleared.insert(group);
        }
    }

    /// Names the groups that lost something for good: entries that no segment on disk holds.
    pub(super) fn find_missing(&mut self) {
        for group in self.groups.values_mut() {
            if group.places.contains(&Place::NOWHERE)
                && let Some(damage) = group.missing_damage.take()
            {
                group.corrupt.get_or_insert(damage);
            }
        }
    }

    /// Marks the group of an unreadable record.
    pub(super) fn mark_corrupt(&mut self, group: ShardId, damage: Damage) {
        self.groups.entry(group).or_default().corrupt.get_or_insert(damage);
    }

    /// Marks all groups, as nobody knows whose records were lost. A later loss makes removals before it worthless.
    pub(super) fn mark_suspect(&mut self, damage: Damage) {
        self.suspect = Some(damage);
        self.cleared.clear();
    }

    /// State to write at the start of a segment. Damage is part of it, as the segment that shows it may be deleted.
    pub(super) fn checkpoint(&self) -> Vec<(ShardId, GroupCheckpoint)> {
        self.groups.iter().map(|(&id, group)| (id, group.checkpoint(group.corrupt.is_some()))).collect()
    }

    /// Takes a group's checkpoint over. Its entries count as missing until they are purged.
    pub(super) fn load(&mut self, id: ShardId, state: GroupCheckpoint, damage: impl Fn(&str) -> Damage) {
        self.forget(id);
        let (first, count) = state.entries.map_or((0, 0), |(first, last)| (first, last - first + 1));
        // Checksummed, so this is for a log written by something else than this code.
        let absurd = count > MAX_ENTRIES;
        let count = if absurd { 0 } else { count as usize };
        let group = LedgerGroup {
            first,
            places: std::iter::repeat_n(Place::NOWHERE, count).collect(),
            vote: state.vote,
            committed: state.committed,
            purged: state.purged,
            missing_damage: state.entries.map(|_| damage("entries are in no older segment")),
            corrupt: if absurd {
                Some(damage("the checkpoint names more entries than fit"))
            } else {
                state.corrupt.then(|| damage("found damaged before"))
            },
            history: state.history,
        };
        self.groups.insert(id, group);
    }

    /// Compares the checkpoint at the start of a later segment with what the replay found before it. The checkpoint is
    /// the truth, and the digest of the history makes the comparison exact: whatever record was lost before, its group
    /// differs. What the checkpoint holds of such a group is taken over; only its entries stay lost, if they are still
    /// needed at the end.
    pub(super) fn compare(
        &mut self,
        states: BTreeMap<ShardId, GroupCheckpoint>,
        damage: impl Fn(&str) -> Damage,
    ) {
        let lost: Vec<ShardId> = self.groups.keys().filter(|id| !states.contains_key(id)).copied().collect();
        for id in lost {
            self.forget(id);
        }
        for (id, state) in states {
            match self.groups.get_mut(&id) {
                Some(group) if group.checkpoint(state.corrupt) == state => {
                    group.corrupt = state.corrupt.then(|| damage("found damaged before"));
                }
                _ => self.load(id, state, &damage),
            }
        }
    }

    /// Entries that groups hold in a segment, in order.
    pub(super) fn entries_in(&self, segment: u32) -> Vec<(ShardId, u64, Place)> {
        let mut found = Vec::new();
        for (&id, group) in &self.groups {
            let entries = group.places.iter().zip(group.first..);
            found.extend(
                entries
                    .filter(|(place, _)| place.segment == segment)
                    .map(|(&place, index)| (id, index, place)),
            );
        }
        found
    }

    /// Whether any group holds an entry in a segment.
    pub(super) fn needs(&self, segment: u32) -> bool {
        self.live.contains_key(&segment)
    }
}
