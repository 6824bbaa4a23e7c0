//! The log as its groups see it: every submitted change is in force, durable or not.
//!
//! Per group: vote, committed and purged position, and the entries in two overlapping runs,
//!
//! ```text
//!   first                                   next
//!     │ places (on disk)          │ unplaced │
//!     └───────────────────────────┴──────────┘
//!                     └── cached ────────────┘
//! ```
//!
//! Entries that have no place yet are always cached; of the others the latest are, within the log's bound.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use protocol::ids::ShardId;

use super::format::{MAX_BATCH_RECORDS, MAX_RECORD_BYTES, MAX_STATE_BYTES};
use super::recover::Recovered;
use super::{Damage, Done, GroupState, GroupStats, Place, WalEntry, WalError, WalStats};
use crate::fs::Fs;

/// Most bytes of one append: it goes to one batch, whose offsets have 32 bits.
const MAX_APPEND_BYTES: usize = 1 << 30;

/// A change on its way to the log.
pub(super) enum Change {
    Entries {
        group: ShardId,
        ticket: u64,
        entries: Vec<WalEntry>,
    },
    Vote {
        group: ShardId,
        vote: Bytes,
    },
    Truncate {
        group: ShardId,
        from: u64,
    },
    Purge {
        group: ShardId,
        index: u64,
        id: Bytes,
    },
    Remove {
        group: ShardId,
    },
    Mark,
    /// Nothing to write; the callback only keeps its turn.
    Nothing,
}

impl Change {
    pub(super) fn records(&self) -> usize {
        match self {
            Self::Entries { entries, .. } => entries.len(),
            Self::Nothing => 0,
            _ => 1,
        }
    }

    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Entries { entries, .. } => entries.iter().map(entry_bytes).sum(),
            Self::Vote { vote, .. } => vote.len(),
            Self::Purge { id, .. } => id.len(),
            _ => 0,
        }
    }
}

/// A change and who waits for it.
pub(super) struct Item {
    pub(super) change: Change,
    pub(super) done: Done,
}

/// A segment file.
pub(super) struct SegmentFile<F: Fs> {
    pub(super) path: PathBuf,
    pub(super) file: Arc<F::File>,
    pub(super) len: u64,
}

impl<F: Fs> Clone for SegmentFile<F> {
    fn clone(&self) -> Self {
        Self { path: self.path.clone(), file: self.file.clone(), len: self.len }
    }
}

/// Entries of one append that are not on disk yet.
#[derive(Debug)]
struct Run {
    ticket: u64,
    first: u64,
    count: u64,
}

#[derive(Debug, Default)]
struct Group {
    vote: Option<Bytes>,
    committed: Option<Bytes>,
    committed_waits: bool,
    purged: Option<(u64, Bytes)>,
    /// Index of the first entry, and of the first of `places`. Means nothing without entries.
    first: u64,
    places: VecDeque<Place>,
    unplaced: VecDeque<Run>,
    cached: VecDeque<(Bytes, Bytes)>,
    cached_bytes: usize,
    bytes: u64,
    damage: Option<Damage>,
}

/// What an entry costs in memory and on disk.
fn entry_bytes(entry: &WalEntry) -> usize {
    record_bytes(entry.head.len() + entry.body.len())
}

/// A record's bytes with its header.
fn record_bytes(len: usize) -> usize {
    len + super::format::RECORD_HEADER_BYTES
}

impl Group {
    fn count(&self) -> u64 {
        self.places.len() as u64 + self.unplaced_count()
    }

    fn unplaced_count(&self) -> u64 {
        self.unplaced.iter().map(|run| run.count).sum()
    }

    fn is_empty(&self) -> bool {
        self.places.is_empty() && self.unplaced.is_empty()
    }

    fn next(&self) -> u64 {
        self.first + self.count()
    }

    /// The index that the next entry must have, if it is not free.
    fn due(&self) -> Option<u64> {
        if self.is_empty() { self.purged.as_ref().map(|(index, _)| index + 1) } else { Some(self.next()) }
    }

    fn pop_cached(&mut self, front: bool) -> usize {
        let popped = if front { self.cached.pop_front() } else { self.cached.pop_back() };
        let bytes = popped.map_or(0, |(head, body)| record_bytes(head.len() + body.len()));
        self.cached_bytes -= bytes;
        bytes
    }

    /// Drops the last entry; gives the bytes that left the cache.
    fn pop_back(&mut self) -> usize {
        let cached = self.pop_cached(false);
        match self.unplaced.back_mut() {
            Some(run) => {
                run.count -= 1;
                self.bytes -= cached as u64;
                if run.count == 0 {
                    self.unplaced.pop_back();
                }
            }
            None => {
                if let Some(place) = self.places.pop_back() {
                    self.bytes -= record_bytes(place.len as usize) as u64;
                }
            }
        }
        cached
    }

    /// Drops the first entry; gives the bytes that left the cache.
    fn pop_front(&mut self) -> usize {
        let is_cached = self.cached.len() as u64 == self.count();
        let cached = if is_cached { self.pop_cached(true) } else { 0 };
        match self.places.pop_front() {
            Some(place) => self.bytes -= record_bytes(place.len as usize) as u64,
            None => {
                self.bytes -= cached as u64;
                if let Some(run) = self.unplaced.front_mut() {
                    run.first += 1;
                    run.count -= 1;
                    if run.count == 0 {
                        self.unplaced.pop_front();
                    }
                }
            }
        }
        self.first += 1;
        cached
    }
}

/// Entries next to each other in one file.
pub(super) struct ColdRun<F: Fs> {
    pub(super) file: Arc<F::File>,
    pub(super) path: PathBuf,
    pub(super) first_index: u64,
    pub(super) places: Vec<Place>,
    /// From the first place's start to the last one's end.
    pub(super) bytes: u32,
}

/// What to read from disk, and what memory holds after it.
pub(super) struct ReadPlan<F: Fs> {
    pub(super) cold: Vec<ColdRun<F>>,
    pub(super) cached: Vec<WalEntry>,
}

/// State of the whole log.
pub(super) struct State<F: Fs> {
    groups: BTreeMap<ShardId, Group>,
    segments: BTreeMap<u32, SegmentFile<F>>,
    /// Damage that nobody can attribute: it is on every group that was not removed since.
    suspect: Option<Damage>,
    cleared: Vec<ShardId>,
    queue: VecDeque<Item>,
    queued_bytes: usize,
    next_ticket: u64,
    cached_bytes: usize,
    cache_limit: usize,
    closed: bool,
    poisoned: Option<Arc<str>>,
    /// Whether the last batch was a mark, or marks are due to be decided.
    marked: bool,
    batches_at_last_look: u64,
    batches: u64,
    records: u64,
    written_bytes: u64,
    cold_read_bytes: u64,
    rewritten_bytes: u64,
}

impl<F: Fs> State<F> {
    pub(super) fn new(recovered: &Recovered<F>) -> Self {
        let ledger = &recovered.ledger;
        let groups = ledger.groups.iter().map(|(&id, group)| {
            // Places of lost entries are nowhere, but then the group is damaged and nobody reads it.
            let bytes = group.places.iter().map(|place| record_bytes(place.len as usize) as u64).sum();
            let group = Group {
                vote: group.vote.clone(),
                committed: group.committed.clone(),
                purged: group.purged.clone(),
                first: group.first,
                places: group.places.clone(),
                bytes,
                damage: group.corrupt.clone(),
                ..Group::default()
            };
            (id, group)
        });
        Self {
            groups: groups.collect(),
            segments: recovered.segments.clone(),
            suspect: ledger.suspect.clone(),
            cleared: ledger.cleared.iter().copied().collect(),
            queue: VecDeque::new(),
            queued_bytes: 0,
            next_ticket: 0,
            cached_bytes: 0,
            cache_limit: recovered.cache_bytes,
            closed: false,
            poisoned: None,
            marked: recovered.marked,
            batches_at_last_look: 0,
            batches: 0,
            records: 0,
            written_bytes: 0,
            cold_read_bytes: 0,
            rewritten_bytes: 0,
        }
    }

    pub(super) fn accepts(&self) -> Result<(), WalError> {
        match &self.poisoned {
            Some(reason) => Err(WalError::Poisoned { reason: reason.clone() }),
            None if self.closed => Err(WalError::Closed),
            None => Ok(()),
        }
    }

    /// Puts a change at the end of the queue. `true` if it was empty, so that the writer must be woken.
    pub(super) fn enqueue(&mut self, change: Change, done: Done) -> bool {
        self.queued_bytes += change.bytes();
        self.queue.push_back(Item { change, done });
        self.queue.len() == 1
    }

    pub(super) fn close(&mut self) {
        if !self.closed && self.poisoned.is_none() {
            if !self.marked || !self.queue.is_empty() {
                self.enqueue(Change::Mark, super::ignore());
            }
            self.closed = true;
        }
    }

    fn damage_of(&self, group: ShardId) -> Option<&Damage> {
        let own = self.groups.get(&group).and_then(|group| group.damage.as_ref());
        own.or_else(|| self.suspect.as_ref().filter(|_| !self.cleared.contains(&group)))
    }

    fn healthy(&self, group: ShardId) -> Result<(), WalError> {
        match self.damage_of(group) {
            Some(damage) => Err(WalError::GroupDamaged { group, damage: damage.clone() }),
            None => Ok(()),
        }
    }

    pub(super) fn check(&self, group: ShardId) -> Result<(), WalError> {
        self.accepts()?;
        self.healthy(group)
    }

    fn check_state_len(group: ShardId, bytes: &Bytes) -> Result<(), WalError> {
        if bytes.len() > MAX_STATE_BYTES / 4 {
            return Err(WalError::TooLarge { group, bytes: bytes.len() });
        }
        Ok(())
    }

    pub(super) fn append(&mut self, id: ShardId, entries: Vec<WalEntry>) -> Result<Change, WalError> {
        self.healthy(id)?;
        for entry in &entries {
            let bytes = entry.head.len() + entry.body.len();
            if bytes > MAX_RECORD_BYTES || entry.head.len() > usize::from(u8::MAX) {
                return Err(WalError::TooLarge { group: id, bytes });
            }
        }
        let total: usize = entries.iter().map(entry_bytes).sum();
        if total > MAX_APPEND_BYTES || entries.len() > MAX_BATCH_RECORDS / 2 {
            return Err(WalError::TooLarge { group: id, bytes: total });
        }
        let Some(first) = entries.first().map(|entry| entry.index) else { return Ok(Change::Nothing) };
        let group = self.groups.entry(id).or_default();
        let mut expected = group.due().unwrap_or(first);
        for entry in &entries {
            if entry.index != expected || expected == u64::MAX {
                return Err(WalError::Gap { group: id, expected, found: entry.index });
            }
            expected += 1;
        }
        if group.is_empty() {
            group.first = first;
        }
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        group.unplaced.push_back(Run { ticket, first, count: entries.len() as u64 });
        let mut bytes = 0;
        for entry in &entries {
            bytes += entry_bytes(entry);
            group.cached.push_back((entry.head.clone(), entry.body.clone()));
        }
        group.cached_bytes += bytes;
        group.bytes += bytes as u64;
        self.cached_bytes += bytes;
        Ok(Change::Entries { group: id, ticket, entries })
    }

    pub(super) fn save_vote(&mut self, group: ShardId, vote: Bytes) -> Result<Change, WalError> {
        self.healthy(group)?;
        Self::check_state_len(group, &vote)?;
        self.groups.entry(group).or_default().vote = Some(vote.clone());
        Ok(Change::Vote { group, vote })
    }

    pub(super) fn save_committed(&mut self, group: ShardId, committed: Bytes) -> Result<(), WalError> {
        self.healthy(group)?;
        Self::check_state_len(group, &committed)?;
        let group = self.groups.entry(group).or_default();
        group.committed = Some(committed);
        group.committed_waits = true;
        Ok(())
    }

    pub(super) fn truncate_after(&mut self, id: ShardId, index: Option<u64>) -> Result<Change, WalError> {
        self.healthy(id)?;
        let from = index.map_or(0, |index| index.saturating_add(1));
        let Some(group) = self.groups.get_mut(&id) else { return Ok(Change::Nothing) };
        if group.is_empty() || from >= group.next() {
            return Ok(Change::Nothing);
        }
        while !group.is_empty() && group.next() > from {
            self.cached_bytes -= group.pop_back();
        }
        Ok(Change::Truncate { group: id, from })
    }

    pub(super) fn purge(&mut self, id: ShardId, index: u64, purged: Bytes) -> Result<Change, WalError> {
        self.healthy(id)?;
        Self::check_state_len(id, &purged)?;
        let group = self.groups.entry(id).or_default();
        if index == u64::MAX {
            return Err(WalError::Gap { group: id, expected: group.next(), found: index });
        }
        if group.purged.as_ref().is_some_and(|(old, _)| *old >= index) {
            return Ok(Change::Nothing);
        }
        group.purged = Some((index, purged.clone()));
        while !group.is_empty() && group.first <= index {
            self.cached_bytes -= group.pop_front();
        }
        Ok(Change::Purge { group: id, index, id: purged })
    }

    pub(super) fn remove_group(&mut self, id: ShardId) -> Result<Change, WalError> {
        if let Some(group) = self.groups.remove(&id) {
            self.cached_bytes -= group.cached_bytes;
        } else if self.damage_of(id).is_none() {
            return Ok(Change::Nothing);
        }
        if self.suspect.is_some() && !self.cleared.contains(&id) {
            self.cleared.push(id);
        }
        Ok(Change::Remove { group: id })
    }

    pub(super) fn mark_damaged(&mut self, id: ShardId, damage: Damage) {
        self.groups.entry(id).or_default().damage.get_or_insert(damage);
    }

    pub(super) fn mark_if_idle(&mut self) -> bool {
        let quiet = self.batches == self.batches_at_last_look && self.queue.is_empty();
        self.batches_at_last_look = self.batches;
        if !quiet || self.marked || self.accepts().is_err() {
            return false;
        }
        // Set by the writer too; here it keeps a second look from marking twice.
        self.marked = true;
        self.enqueue(Change::Mark, super::ignore())
    }

    pub(super) fn group_ids(&self) -> Vec<ShardId> {
        self.groups.keys().copied().collect()
    }

    pub(super) fn group_state(&self, id: ShardId) -> GroupState {
        let mut state = GroupState { damage: self.damage_of(id).cloned(), ..GroupState::default() };
        if let Some(group) = self.groups.get(&id) {
            state.vote = group.vote.clone();
            state.committed = group.committed.clone();
            state.purged = group.purged.clone();
            if !group.is_empty() {
                state.first = Some(group.first);
                state.last = Some(group.next() - 1);
            }
        }
        state
    }

    pub(super) fn plan_read(
        &self,
        id: ShardId,
        range: Range<u64>,
        max_bytes: usize,
    ) -> Result<ReadPlan<F>, WalError> {
        self.healthy(id)?;
        let mut plan = ReadPlan { cold: Vec::new(), cached: Vec::new() };
        let Some(group) = self.groups.get(&id).filter(|group| !group.is_empty()) else { return Ok(plan) };
        let (start, end) = (range.start.max(group.first), range.end.min(group.next()));
        let cached_from = group.next() - group.cached.len() as u64;
        let mut bytes = 0usize;
        for index in start..end {
            let at = index.checked_sub(cached_from).map(|at| at as usize);
            if let Some((head, body)) = at.and_then(|at| group.cached.get(at)) {
                bytes = bytes.saturating_add(head.len() + body.len());
                if bytes > max_bytes && index > start {
                    break;
                }
                plan.cached.push(WalEntry { index, head: head.clone(), body: body.clone() });
                continue;
            }
            let place = group.places[(index - group.first) as usize];
            bytes = bytes.saturating_add(place.len as usize);
            if bytes > max_bytes && index > start {
                break;
            }
            match plan.cold.last_mut() {
                Some(run) if run.follows(place) => {
                    run.bytes += place.len;
                    run.places.push(place);
                }
                _ => {
                    let segment =
                        self.segments.get(&place.segment).ok_or_else(|| WalError::GroupDamaged {
                            group: id,
                            damage: Damage {
                                path: PathBuf::from(super::recover::segment_name(place.segment)),
                                offset: u64::from(place.offset),
                                reason: format!("entry {index} is in a segment that was deleted"),
                            },
                        })?;
                    plan.cold.push(ColdRun {
                        file: segment.file.clone(),
                        path: segment.path.clone(),
                        first_index: index,
                        places: vec![place],
                        bytes: place.len,
                    });
                }
            }
        }
        Ok(plan)
    }

    pub(super) fn count_cold_read(&mut self, bytes: u64) {
        self.cold_read_bytes += bytes;
    }

    pub(super) fn count_rewritten(&mut self, bytes: u64) {
        self.rewritten_bytes += bytes;
    }

    pub(super) fn group_bytes(&self, id: ShardId) -> u64 {
        self.groups.get(&id).map_or(0, |group| group.bytes)
    }

    pub(super) fn stats(&self) -> WalStats {
        let mut before = 0;
        let mut starts = BTreeMap::new();
        for (&sequence, segment) in &self.segments {
            starts.insert(sequence, before);
            before += segment.len;
        }
        let disk_bytes = before;
        let oldest = self.segments.keys().next().copied();
        let mut pinning = None;
        let mut groups = Vec::with_capacity(self.groups.len());
        for (&id, group) in &self.groups {
            // Mostly the first entry, but for those that were rewritten.
            let oldest_place = group.places.iter().min_by_key(|place| (place.segment, place.offset));
            let pinned_from = oldest_place.map(|place| {
                if Some(place.segment) == oldest && self.segments.len() > 1 && pinning.is_none() {
                    pinning = Some(id);
                }
                starts.get(&place.segment).copied().unwrap_or(0) + u64::from(place.offset)
            });
            groups.push(GroupStats {
                group: id,
                entries: group.count(),
                bytes: group.bytes,
                pinned_bytes: pinned_from.map_or(0, |from| disk_bytes.saturating_sub(from)),
            });
        }
        WalStats {
            segments: self.segments.len(),
            disk_bytes,
            groups,
            pinning,
            queued_bytes: self.queued_bytes,
            cached_bytes: self.cached_bytes,
            batches: self.batches,
            records: self.records,
            written_bytes: self.written_bytes,
            cold_read_bytes: self.cold_read_bytes,
            rewritten_bytes: self.rewritten_bytes,
        }
    }

    // What follows serves the writer.

    /// Whether the writer has something to do, or `None` if it never will again.
    pub(super) fn has_work(&self) -> Option<bool> {
        match self.queue.is_empty() {
            _ if self.poisoned.is_some() => None,
            true if self.closed => None,
            empty => Some(!empty),
        }
    }

    /// Takes the next items, at least one if there are any, and with the last ones the committed positions that wait.
    #[allow(clippy::type_complexity)]
    pub(super) fn take(
        &mut self,
        max_bytes: usize,
        max_records: usize,
    ) -> Result<(Vec<Item>, Vec<(ShardId, Bytes)>), WalError> {
        if let Some(reason) = &self.poisoned {
            return Err(WalError::Poisoned { reason: reason.clone() });
        }
        let (mut bytes, mut records) = (0, 0);
        let mut items = Vec::new();
        while let Some(item) = self.queue.front() {
            records += item.change.records();
            if !items.is_empty() && (bytes >= max_bytes || records > max_records) {
                break;
            }
            bytes += item.change.bytes();
            items.extend(self.queue.pop_front());
        }
        self.queued_bytes -= bytes;
        // A noted position may rely on any change that was submitted before it, so it goes with the last of them.
        let mut committed = Vec::new();
        if !items.is_empty() && self.queue.is_empty() {
            for (&id, group) in &mut self.groups {
                if std::mem::take(&mut group.committed_waits)
                    && let Some(bytes) = &group.committed
                {
                    committed.push((id, bytes.clone()));
                }
            }
        }
        Ok((items, committed))
    }

    /// Puts back what could not be written, to be taken first next time.
    pub(super) fn put_back(&mut self, items: Vec<Item>, committed: Vec<(ShardId, Bytes)>) {
        for item in items.into_iter().rev() {
            self.queued_bytes += item.change.bytes();
            self.queue.push_front(item);
        }
        for (id, _) in committed {
            if let Some(group) = self.groups.get_mut(&id) {
                group.committed_waits = group.committed.is_some();
            }
        }
    }

    /// Ends the log. Gives the items that still wait.
    pub(super) fn poison(&mut self, reason: Arc<str>) -> Vec<Item> {
        self.poisoned.get_or_insert(reason);
        self.queued_bytes = 0;
        std::mem::take(&mut self.queue).into()
    }

    pub(super) fn add_segment(&mut self, sequence: u32, segment: SegmentFile<F>) {
        self.segments.insert(sequence, segment);
    }

    pub(super) fn segment_file(&self, sequence: u32) -> Option<Arc<F::File>> {
        self.segments.get(&sequence).map(|segment| segment.file.clone())
    }

    pub(super) fn drop_segment(&mut self, sequence: u32) {
        self.segments.remove(&sequence);
    }

    /// Notes where the entries of an append are, as far as they were not truncated or purged meanwhile.
    pub(super) fn place(&mut self, id: ShardId, ticket: u64, first: u64, places: &[Place]) {
        let Some(group) = self.groups.get_mut(&id) else { return };
        // Appends of a group are written in order, so that its oldest run is this one or this one is gone.
        let Some(run) = group.unplaced.pop_front_if(|run| run.ticket == ticket) else { return };
        let skip = (run.first - first) as usize;
        group.places.extend(&places[skip..skip + run.count as usize]);
    }

    /// Notes that an entry was rewritten, if it is still there: one that was truncated and appended anew has no place yet,
    /// as only the writer gives places.
    pub(super) fn replace(&mut self, id: ShardId, index: u64, old: Place, new: Place) {
        if let Some(group) = self.groups.get_mut(&id)
            && let Some(at) = index.checked_sub(group.first)
            && let Some(place) = group.places.get_mut(at as usize)
        {
            debug_assert_eq!(*place, old, "state and ledger differ");
            *place = new;
        }
    }

    /// Ends a batch: counts it and makes the cache fit its bound.
    pub(super) fn batch_written(&mut self, records: u64, bytes: u64, is_mark: bool) {
        self.batches += 1;
        self.records += records;
        self.written_bytes += bytes;
        self.marked = is_mark;
        if self.cached_bytes <= self.cache_limit {
            return;
        }
        // Below the bound by a margin, so that not every batch has to evict. The largest caches give first: small
        // ones are the short tails of idle groups.
        let target = self.cache_limit - self.cache_limit / 8;
        while self.cached_bytes > target {
            let largest = self
                .groups
                .values_mut()
                .filter(|group| group.cached.len() as u64 > group.unplaced_count())
                .max_by_key(|group| group.cached_bytes);
            let Some(group) = largest else { return };
            let goal =
                group.cached_bytes.saturating_sub(self.cached_bytes - target).max(group.cached_bytes / 2);
            let evictable = group.cached.len() as u64 - group.unplaced_count();
            for _ in 0..evictable {
                self.cached_bytes -= group.pop_cached(true);
                if group.cached_bytes <= goal {
                    break;
                }
            }
        }
    }
}

impl<F: Fs> ColdRun<F> {
    /// Whether a place continues the run, so that one read serves both.
    fn follows(&self, place: Place) -> bool {
        self.places.last().is_some_and(|last| {
            last.segment == place.segment
                && last.offset + last.len == place.offset
                && self.bytes.checked_add(place.len).is_some()
        })
    }
}
