//! A group's Raft log on the node's shared write-ahead log.
//!
//! ```text
//! openraft core ── append, save_vote, truncate, purge ──► Wal (readable at once) ─► writer ─► IOFlushed / oneshot
//! replication, apply ── limited_get_log_entries, entries_stream ──► memory, or a read off the reactor
//! ```
//!
//! What openraft relies on, and where it comes from:
//!
//! * *All writes of a group are serialised, votes and entries alike.* They go through the log's one queue, in call order.
//! * *Appended entries are readable when `append` returns, durable when its callback fires.* So does the log promise.
//! * *A vote is durable when `save_vote` returns.* It waits for the sync. `truncate_after` and `purge` do not: a crash
//!   that loses one brings back entries, which is what a crash just before the call would have left, and no later write
//!   can be durable without it, as the log has one order.
//! * *The committed position is saved* (without a sync of its own), so that a restart applies what was applied before.
//!
//! Reads are bounded by bytes: replication and apply take at most [`MAX_READ_BYTES`] at once, but always an entry.
//! Entries that the log's cache no longer holds are read in a step off the reactor, as a disk may take its time.
//!
//! Every change of members is appended here before anybody else can see it, which is what [`Alone`] is made of.
//!
//! A group whose records were lost answers every call with an error, so that its Raft never starts: see
//! [`storage::wal::GroupState::damage`].

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::ops::{Bound, Range, RangeBounds};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use openraft_rt::{AsyncRuntime, Oneshot, OneshotSender};
use protocol::error::ErrorKind;
use protocol::ids::ShardId;
use storage::mutant::{self, Mutant};
use storage::wal::{self, Done, Wal, WalEntry, WalError};

use crate::env::{Env, StepKind};
use crate::meta::ReplicaId;
use crate::types::{Entry, LogId, Membership, Payload, Types, Vote, codec};

/// Most bytes of entries that are read at once; a single larger entry is read alone.
pub const MAX_READ_BYTES: usize = 4 << 20;

/// The log of one group. Clones are handles to the same log.
pub struct LogStore<E: Env> {
    env: E,
    wal: Wal<E::Fs>,
    group: ShardId,
    alone: Arc<Alone>,
}

/// Whether a replica is the only one that votes, by the last members in its log: as long as it is, nothing can be
/// committed without it, and nobody else can lead.
#[derive(Debug)]
pub struct Alone {
    me: u64,
    /// How often the members may have changed since the log was opened, and in the lowest bit whether they are known to
    /// be this replica alone since. 0 for what openraft found when it began.
    state: AtomicU64,
}

/// The members of a moment, see [`Alone::members`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Members(u64);

impl Members {
    /// Whether they are those that were there when the log was opened.
    pub const fn are_as_opened(self) -> bool {
        self.0 == 0
    }

    /// Whether they are known to be the one replica.
    pub const fn are_one(self) -> bool {
        self.0 & 1 == 1
    }
}

impl Alone {
    /// For a replica whose log is about to be opened.
    pub const fn new(me: ReplicaId) -> Self {
        Self { me: me.0, state: AtomicU64::new(0) }
    }

    /// Something to compare: two equal ones have had no change between them.
    pub fn members(&self) -> Members {
        Members(self.state.load(Ordering::Acquire))
    }

    /// Whether only this replica decides by these members.
    pub fn is_alone_in(&self, members: &Membership) -> bool {
        members.get_joint_config().len() == 1 && members.voter_ids().eq([self.me])
    }

    /// The members change now, or may change back. Only openraft's core writes, so that no two changes meet.
    fn note(&self, alone: bool) {
        let changes = (self.state.load(Ordering::Relaxed) >> 1) + 1;
        self.state.store((changes << 1) | u64::from(alone), Ordering::Release);
    }
}

impl<E: Env> Clone for LogStore<E> {
    fn clone(&self) -> Self {
        Self {
            env: self.env.clone(),
            wal: self.wal.clone(),
            group: self.group,
            alone: Arc::clone(&self.alone),
        }
    }
}

impl<E: Env> fmt::Debug for LogStore<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogStore").field("group", &self.group).finish_non_exhaustive()
    }
}

/// openraft speaks of input and output errors only, and takes each as fatal for the group.
fn io_error(error: WalError) -> io::Error {
    let kind = match error.kind() {
        ErrorKind::Corruption => io::ErrorKind::InvalidData,
        ErrorKind::ResourceExhausted => io::ErrorKind::StorageFull,
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, error)
}

fn undecodable(error: codec::DecodeError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

fn decode(entry: WalEntry) -> io::Result<Entry> {
    let decoded = codec::decode_entry_parts(&entry.head, entry.body).map_err(undecodable)?;
    if decoded.log_id.index != entry.index {
        let found = format!("entry {} says it is {}", entry.index, decoded.log_id.index);
        return Err(io::Error::new(io::ErrorKind::InvalidData, found));
    }
    Ok(decoded)
}

fn half_open(range: &impl RangeBounds<u64>) -> Range<u64> {
    let start = match range.start_bound() {
        Bound::Included(&at) => at,
        Bound::Excluded(&at) => at.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(&at) => at.saturating_add(1),
        Bound::Excluded(&at) => at,
        Bound::Unbounded => u64::MAX,
    };
    start..end
}

impl<E: Env> LogStore<E> {
    /// The log of a group on the node's log.
    pub fn new(env: E, wal: Wal<E::Fs>, group: ShardId, alone: Arc<Alone>) -> Self {
        Self { env, wal, group, alone }
    }

    /// Entries of a range that the log holds, as [`Wal::read`] bounds them.
    async fn read(&self, range: Range<u64>, max_bytes: usize) -> io::Result<Vec<Entry>> {
        let cached = self.wal.read_cached(self.group, range.clone(), max_bytes).map_err(io_error)?;
        let entries = match cached {
            Some(entries) => entries,
            None => {
                let (wal, group) = (self.wal.clone(), self.group);
                let read = move || wal.read(group, range, max_bytes);
                self.env.run_step(StepKind::Transfer, read).await.map_err(io_error)?
            }
        };
        entries.into_iter().map(decode).collect()
    }

    /// Submits a change and waits until it is durable.
    async fn synced(&self, submit: impl FnOnce(Done)) -> io::Result<()> {
        let (tx, rx) = <E::Runtime as AsyncRuntime>::Oneshot::channel::<Result<(), WalError>>();
        submit(Box::new(move |result| {
            // Whoever waited may have been stopped.
            let _ = tx.send(result);
        }));
        match rx.await {
            Ok(result) => result.map_err(io_error),
            Err(_) => Err(io_error(WalError::Closed)),
        }
    }
}

impl<E: Env> RaftLogReader<Types<E::Runtime>> for LogStore<E> {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> io::Result<Vec<Entry>>
    where
        RB: RangeBounds<u64> + Clone + fmt::Debug + Send,
    {
        self.read(half_open(&range), usize::MAX).await
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        self.wal.check(self.group).map_err(io_error)?;
        if mutant::is(Mutant::VoteForgotten) {
            return Ok(None);
        }
        let vote = self.wal.state(self.group).vote;
        vote.map(|bytes| codec::decode_vote(&bytes)).transpose().map_err(undecodable)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        let entries = self.read(start..end, MAX_READ_BYTES).await?;
        // The contract: never empty, and what comes starts where it was asked to. A purge may have come in between.
        match entries.first() {
            Some(first) if first.log_id.index == start => Ok(entries),
            None if start >= end => Ok(entries),
            _ => Err(io::Error::new(io::ErrorKind::NotFound, format!("entry {start} is not in the log"))),
        }
    }

    /// Reads as the consumer goes on, so that a long range does not have to fit into memory.
    async fn entries_stream<RB>(&mut self, range: RB) -> impl Stream<Item = io::Result<Entry>> + Send
    where
        RB: RangeBounds<u64> + Clone + fmt::Debug + Send,
    {
        struct Reading<E: Env> {
            store: LogStore<E>,
            next: u64,
            end: u64,
            read: VecDeque<Entry>,
        }
        let Range { start, end } = half_open(&range);
        let next = if mutant::is(Mutant::EntrySkipped) && start + 1 < end { start + 1 } else { start };
        let reading = Reading { store: self.clone(), next, end, read: VecDeque::new() };
        stream::unfold(Some(reading), |reading| async move {
            let mut reading = reading?;
            if reading.read.is_empty() && reading.next < reading.end {
                match reading.store.read(reading.next..reading.end, MAX_READ_BYTES).await {
                    Ok(entries) => reading.read = entries.into(),
                    Err(e) => return Some((Err(e), None)),
                }
            }
            let entry = reading.read.pop_front()?;
            reading.next = entry.log_id.index + 1;
            Some((Ok(entry), Some(reading)))
        })
        .boxed()
    }
}

impl<E: Env> RaftLogStorage<Types<E::Runtime>> for LogStore<E> {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<Types<E::Runtime>>> {
        self.wal.check(self.group).map_err(io_error)?;
        let state = self.wal.state(self.group);
        let purged =
            state.purged.map(|(_, id)| codec::decode_log_id(&id)).transpose().map_err(undecodable)?;
        let last = match state.last {
            Some(last) => self.read(last..last + 1, MAX_READ_BYTES).await?.pop().map(|entry| entry.log_id),
            None => purged,
        };
        Ok(LogState { last_purged_log_id: purged, last_log_id: last })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        let vote = Bytes::from(codec::encode_vote(vote));
        self.synced(|done| self.wal.save_vote(self.group, vote, done)).await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        match committed {
            Some(id) => {
                self.wal.save_committed(self.group, codec::encode_log_id(&id).into()).map_err(io_error)
            }
            None => Ok(()),
        }
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        self.wal.check(self.group).map_err(io_error)?;
        let committed = self.wal.state(self.group).committed;
        committed.map(|bytes| codec::decode_log_id(&bytes)).transpose().map_err(undecodable)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types<E::Runtime>>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + Send,
        I::IntoIter: Send,
    {
        let encode = |entry: Entry| {
            if let Payload::Membership(members) = &entry.payload {
                self.alone.note(self.alone.is_alone_in(members));
            }
            let (head, body) = codec::encode_entry_parts(&entry);
            WalEntry { index: entry.log_id.index, head: head.into(), body }
        };
        let entries = entries.into_iter().map(encode).collect();
        if mutant::is(Mutant::CallbackBeforeWrite) {
            self.wal.append(self.group, entries, wal::ignore());
            callback.io_completed(Ok(()));
            return Ok(());
        }
        let done =
            Box::new(move |result: Result<(), WalError>| callback.io_completed(result.map_err(io_error)));
        self.wal.append(self.group, entries, done);
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        self.wal.check(self.group).map_err(io_error)?;
        // Members among what goes make those before them count again.
        self.alone.note(false);
        self.wal.truncate_after(self.group, last.map(|id| id.index), wal::ignore());
        Ok(())
    }

    async fn purge(&mut self, id: LogId) -> io::Result<()> {
        self.wal.check(self.group).map_err(io_error)?;
        self.wal.purge(self.group, id.index, codec::encode_log_id(&id).into(), wal::ignore());
        Ok(())
    }
}
