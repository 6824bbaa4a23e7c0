#![doc = include_str!("wal/format.md")]
//!
//! # The code
//!
//! ```text
//! append, save_vote, ... ─► state (in memory, readable at once) ─► queue ─┐
//!                                                                          ▼ LogWriter::write_pending
//!            callbacks in order ◄─ places into state ◄─ ledger ◄─ one write, one sync
//! open: segments ─► recover ─► ledger ─► state
//! ```
//!
//! * [`Wal`] is the side of the groups: it checks a change, makes it visible and queues it. It never touches a file,
//!   except for reading entries that the cache no longer holds.
//! * [`LogWriter`] is the one writer. It takes all that waits, writes it as one batch, syncs once, and calls back in
//!   the order of submission. While it syncs, the next batch gathers: that is the whole group commit. It owns no
//!   thread: production calls [`LogWriter::wait`] and [`LogWriter::write_pending`] in a loop, the simulator calls the
//!   latter when the waker fires.
//! * `ledger` is what the log says up to the last sync; `recover` builds it from the files.
//!
//! A write or sync that fails leaves the disk in an unknown state, so the log is *poisoned*: everything waiting and
//! everything later fails with [`WalError::Poisoned`], and the process is expected to stop. A full disk is no such
//! failure: nothing was acknowledged, and the same batch may be tried again.

mod check;
mod format;
mod ledger;
mod recover;
mod state;
#[cfg(test)]
mod tests;
mod writer;

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use protocol::error::ErrorKind;
use protocol::ids::ShardId;

use crate::fs::{Fs, FsFile};
pub use check::{LogCheck, TornTail, check};
use state::{Change, State};
pub use writer::LogWriter;

/// Settings of a log.
#[derive(Clone, Debug)]
pub struct WalOptions {
    /// Size of a segment file. A batch that does not fit gets a larger one.
    pub segment_bytes: u64,
    /// Entries kept in memory for readers, over all groups.
    pub cache_bytes: usize,
    /// A batch takes no further item once it is this large.
    pub batch_bytes: usize,
    /// When there are more segments than this, few entries that keep the oldest one alone are written again, so that it
    /// can go: an idle group must not make the log grow.
    pub rewrite_above_segments: usize,
    /// Secret of a new log, random: no bytes that a client writes can pass for a batch. An existing log keeps its own.
    pub salt: u64,
}

impl Default for WalOptions {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            cache_bytes: 32 << 20,
            batch_bytes: 8 << 20,
            rewrite_above_segments: 5,
            salt: 0,
        }
    }
}

/// An entry of a group's log. The log stores both parts without looking at them.
#[derive(Clone, PartialEq, Eq)]
pub struct WalEntry {
    /// Position in the group's log.
    pub index: u64,
    /// What the owner needs to know without the body, at most 255 bytes.
    pub head: Bytes,
    /// The payload. Shared with the cache, copied once into the write buffer.
    pub body: Bytes,
}

impl fmt::Debug for WalEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WalEntry({}: {} + {} bytes)", self.index, self.head.len(), self.body.len())
    }
}

/// Called when a change is durable, or never will be. Runs on the writer's thread: it must not block.
pub type Done = Box<dyn FnOnce(Result<(), WalError>) + Send>;

/// A [`Done`] for changes whose durability nobody waits for.
pub fn ignore() -> Done {
    Box::new(|_| {})
}

/// What a group's log holds, as of the last submitted change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupState {
    /// Last vote.
    pub vote: Option<Bytes>,
    /// Last committed position that was noted. May lag.
    pub committed: Option<Bytes>,
    /// Index up to which entries were purged, and its owner's bytes for it.
    pub purged: Option<(u64, Bytes)>,
    /// Index of the first entry, if there is any.
    pub first: Option<u64>,
    /// Index of the last entry, if there is any.
    pub last: Option<u64>,
    /// Set if records of the group were lost: it must neither vote nor acknowledge, and rejoin under a new id after
    /// [`Wal::remove_group`].
    pub damage: Option<Damage>,
}

/// Where and how the log is damaged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The segment file.
    pub path: PathBuf,
    /// Offset in it.
    pub offset: u64,
    /// The offence.
    pub reason: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at offset {}: {}", self.path.display(), self.offset, self.reason)
    }
}

/// Why the log refused.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WalError {
    /// The file system failed.
    #[error("log file {path}: {action} failed")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// The disk is full. Nothing was lost: the same batch is tried again at the next call.
    #[error("no space for the log in {path}")]
    NoSpace {
        /// The file that could not grow.
        path: PathBuf,
    },
    /// An earlier write or sync failed, so nobody knows what the disk holds. Only a restart helps.
    #[error("the log is poisoned: {reason}")]
    Poisoned {
        /// The first failure.
        reason: Arc<str>,
    },
    /// The log was closed.
    #[error("the log is closed")]
    Closed,
    /// Records of this group were lost.
    #[error("log of group {group} is damaged: {damage}")]
    GroupDamaged {
        /// The group.
        group: ShardId,
        /// The place.
        damage: Damage,
    },
    /// An entry does not follow the last one. The caller broke the contract.
    #[error("entry {found} of group {group} does not follow; {expected} is due")]
    Gap {
        /// The group.
        group: ShardId,
        /// The index that is due.
        expected: u64,
        /// The index that came.
        found: u64,
    },
    /// A record is longer than the format allows.
    #[error("a record of {bytes} bytes for group {group} is too long")]
    TooLarge {
        /// The group.
        group: ShardId,
        /// Its length.
        bytes: usize,
    },
    /// A segment was written by another release.
    #[error("log file {path} has version {version}, which this release does not know")]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
}

impl WalError {
    /// The kind of failure.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Io { .. } | Self::Poisoned { .. } | Self::Gap { .. } | Self::Version { .. } => {
                ErrorKind::Internal
            }
            Self::NoSpace { .. } => ErrorKind::ResourceExhausted,
            Self::Closed => ErrorKind::Unavailable,
            Self::GroupDamaged { .. } => ErrorKind::Corruption,
            Self::TooLarge { .. } => ErrorKind::LimitExceeded,
        }
    }

    fn io(path: &Path, action: &'static str, source: io::Error) -> Self {
        if source.kind() == io::ErrorKind::StorageFull {
            return Self::NoSpace { path: path.to_owned() };
        }
        Self::Io { path: path.to_owned(), action, source: Arc::new(source) }
    }
}

/// Figures of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WalStats {
    /// Segment files.
    pub segments: usize,
    /// Their lengths.
    pub disk_bytes: u64,
    /// Entries per group, in order of the groups.
    pub groups: Vec<GroupStats>,
    /// The group whose entries keep the oldest segment from being deleted. `None` if only the newest is left.
    pub pinning: Option<ShardId>,
    /// Bytes waiting to be written.
    pub queued_bytes: usize,
    /// Bytes of entries in memory.
    pub cached_bytes: usize,
    /// Batches written since open, each with one sync.
    pub batches: u64,
    /// Records in them.
    pub records: u64,
    /// Bytes in them.
    pub written_bytes: u64,
    /// Bytes read because the cache did not hold an entry.
    pub cold_read_bytes: u64,
    /// Bytes of entries written again because they alone kept the oldest segment.
    pub rewritten_bytes: u64,
}

/// Figures of a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupStats {
    /// The group.
    pub group: ShardId,
    /// Entries in its log.
    pub entries: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes of the log on disk from its first entry on: what it keeps from being deleted, others' bytes included.
    pub pinned_bytes: u64,
}

impl Place {
    /// No segment has this number.
    const NOWHERE: Self = Self { segment: 0, offset: 0, len: 0, crc: 0, head_len: 0 };
}

/// Where an entry is on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    segment: u32,
    offset: u32,
    len: u32,
    crc: u32,
    head_len: u8,
}

/// A node's log. Clones are handles to the same log; when the last one is dropped the log closes.
pub struct Wal<F: Fs> {
    shared: Arc<Shared<F>>,
    _closer: Arc<Closer<F>>,
}

impl<F: Fs> Clone for Wal<F> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone(), _closer: self._closer.clone() }
    }
}

impl<F: Fs> fmt::Debug for Wal<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wal").field("dir", &self.shared.dir).finish_non_exhaustive()
    }
}

struct Closer<F: Fs>(Arc<Shared<F>>);

impl<F: Fs> Drop for Closer<F> {
    fn drop(&mut self) {
        self.0.close();
    }
}

type Waker = Arc<dyn Fn() + Send + Sync>;

/// What the handles and the writer share. The state's lock is never held over input or output, nor over a callback;
/// the waker's is taken inside no other.
struct Shared<F: Fs> {
    fs: F,
    dir: PathBuf,
    options: WalOptions,
    salt: u64,
    state: Mutex<State<F>>,
    work: Condvar,
    waker: Mutex<Option<Waker>>,
}

impl<F: Fs> Shared<F> {
    fn state(&self) -> MutexGuard<'_, State<F>> {
        // A panic inside would be a broken invariant; it has stopped whoever caused it, the state is still whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        self.work.notify_all();
        let waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(waker) = waker {
            waker();
        }
    }

    fn close(&self) {
        self.state().close();
        self.wake();
    }

    fn submit(&self, done: Done, change: impl FnOnce(&mut State<F>) -> Result<Change, WalError>) {
        let submitted = {
            let mut state = self.state();
            match state.accepts().and_then(|()| change(&mut state)) {
                Ok(change) => Ok(state.enqueue(change, done)),
                Err(e) => Err((e, done)),
            }
        };
        match submitted {
            Ok(true) => self.wake(),
            Ok(false) => {}
            Err((e, done)) => done(Err(e)),
        }
    }
}

impl<F: Fs> Wal<F> {
    /// Opens the log in a directory, or begins one. A torn tail is cut; damaged groups are reported by
    /// [`Wal::state`], one by one, and the others go on.
    ///
    /// Reads the whole log once, in pieces: memory is bounded by the number of entries, not by their bytes.
    pub fn open(fs: F, dir: &Path, options: WalOptions) -> Result<(Self, LogWriter<F>), WalError> {
        let recovered = recover::recover(&fs, dir, &options)?;
        let state = State::new(&recovered);
        let shared = Arc::new(Shared {
            fs,
            dir: dir.to_owned(),
            options,
            salt: recovered.salt,
            state: Mutex::new(state),
            work: Condvar::new(),
            waker: Mutex::new(None),
        });
        let writer = LogWriter::new(shared.clone(), recovered);
        Ok((Self { _closer: Arc::new(Closer(shared.clone())), shared }, writer))
    }

    /// Groups that have any state, in order.
    pub fn groups(&self) -> Vec<ShardId> {
        self.shared.state().group_ids()
    }

    /// State of a group. One that was never written is empty, unless the log lost records that nobody can attribute.
    pub fn state(&self, group: ShardId) -> GroupState {
        self.shared.state().group_state(group)
    }

    /// Appends entries: readable on return, durable when `done` is called. Their indices follow the last entry's
    /// without a gap; the first entry of an empty group may have any.
    pub fn append(&self, group: ShardId, entries: Vec<WalEntry>, done: Done) {
        self.shared.submit(done, |state| state.append(group, entries));
    }

    /// Saves a vote: in force on return, durable when `done` is called, in order with entries.
    pub fn save_vote(&self, group: ShardId, vote: Bytes, done: Done) {
        self.shared.submit(done, |state| state.save_vote(group, vote));
    }

    /// Notes the committed position. It reaches the disk with the next batch and wakes nobody.
    pub fn save_committed(&self, group: ShardId, committed: Bytes) -> Result<(), WalError> {
        let mut state = self.shared.state();
        state.accepts()?;
        state.save_committed(group, committed)
    }

    /// Removes all entries after `index`, or all entries.
    pub fn truncate_after(&self, group: ShardId, index: Option<u64>, done: Done) {
        self.shared.submit(done, |state| state.truncate_after(group, index));
    }

    /// Removes all entries up to `index`, which may lie beyond the last entry; `id` is kept for the owner. Segments
    /// that no group needs are deleted once this is durable.
    pub fn purge(&self, group: ShardId, index: u64, id: Bytes, done: Done) {
        self.shared.submit(done, |state| state.purge(group, index, id));
    }

    /// Forgets a group with all its state, damage included.
    pub fn remove_group(&self, group: ShardId, done: Done) {
        self.shared.submit(done, |state| state.remove_group(group));
    }

    /// Entries of `range` that the log holds, from the first one on and without a gap, as many as fit `max_bytes`, but
    /// at least one.
    pub fn read(
        &self,
        group: ShardId,
        range: Range<u64>,
        max_bytes: usize,
    ) -> Result<Vec<WalEntry>, WalError> {
        let plan = self.shared.state().plan_read(group, range, max_bytes)?;
        let mut cold_bytes = 0;
        let mut entries = Vec::with_capacity(plan.cold.len() + plan.cached.len());
        for run in plan.cold {
            let mut bytes = vec![0; run.bytes as usize];
            let first = run.places.first().map_or(0, |place| place.offset);
            run.file
                .read_exact_at(u64::from(first), &mut bytes)
                .map_err(|e| WalError::io(&run.path, "reading an entry", e))?;
            cold_bytes += u64::from(run.bytes);
            let bytes = Bytes::from(bytes);
            for (place, index) in run.places.iter().zip(run.first_index..) {
                let start = (place.offset - first) as usize;
                let record = bytes.slice(start..start + place.len as usize);
                let seed = format::record_seed(self.shared.salt, group, index, format::Kind::Entry);
                if crc32c::crc32c_append(seed, &record) != place.crc {
                    let reason = format!("entry {index} went bad since the log was opened");
                    let damage = Damage { path: run.path.clone(), offset: u64::from(place.offset), reason };
                    self.shared.state().mark_damaged(group, damage.clone());
                    return Err(WalError::GroupDamaged { group, damage });
                }
                let head = record.slice(..place.head_len as usize);
                entries.push(WalEntry { index, head, body: record.slice(place.head_len as usize..) });
            }
        }
        if cold_bytes > 0 {
            self.shared.state().count_cold_read(cold_bytes);
        }
        entries.extend(plan.cached);
        Ok(entries)
    }

    /// What [`Wal::read`] gives, if memory holds all of it. Never blocks.
    pub fn read_cached(
        &self,
        group: ShardId,
        range: Range<u64>,
        max_bytes: usize,
    ) -> Result<Option<Vec<WalEntry>>, WalError> {
        let plan = self.shared.state().plan_read(group, range, max_bytes)?;
        Ok(plan.cold.is_empty().then_some(plan.cached))
    }

    /// Whether changes of a group would be accepted now.
    pub fn check(&self, group: ShardId) -> Result<(), WalError> {
        self.shared.state().check(group)
    }

    /// To be called from time to time, some 100 ms apart: when nothing was written since the last call, writes a mark,
    /// once. It says that everything before it was synced, so that damage to the last batch is no torn tail.
    pub fn mark_if_idle(&self) -> bool {
        let marked = self.shared.state().mark_if_idle();
        if marked {
            self.shared.wake();
        }
        marked
    }

    /// Figures.
    pub fn stats(&self) -> WalStats {
        self.shared.state().stats()
    }

    /// Bytes of a group's entries, on disk or on their way: [`GroupStats::bytes`] without the rest of the figures, which
    /// take longer to find out.
    pub fn group_bytes(&self, group: ShardId) -> u64 {
        self.shared.state().group_bytes(group)
    }

    /// Whether a write or sync failed, so that only a restart helps.
    pub fn is_poisoned(&self) -> bool {
        matches!(self.shared.state().accepts(), Err(WalError::Poisoned { .. }))
    }

    /// Refuses changes from now on. What waits is still written, and a mark after it.
    pub fn close(&self) {
        self.shared.close();
    }
}
