//! From committed entries into stores.
//!
//! One state machine type serves all groups, so that openraft is compiled once: [`Machine::Meta`] for group 0,
//! [`Machine::Shard`] for the others. openraft hands over a stream of entries; they are applied in batches of up to
//! [`BATCH_BYTES`]. A batch with much data in it runs as a step off the reactor, a small one in line, because the way to
//! another thread would cost more than the work.
//!
//! Commands never fail at apply: outcomes are part of the log's meaning and equal on all replicas, and applying touches
//! memory only. What can fail is the disk, in jobs (tried again) and when a snapshot is installed (openraft stops the
//! group, and with it the node).
//!
//! The snapshot of a shard is the manifest of its store, at the position up to which its segments cover the log. Building
//! one costs nothing: flushes write segments, a snapshot only names them.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, TryStreamExt};
use openraft::storage::{ApplyResponder, EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use protocol::command::HEADER_BYTES;
use protocol::ids::ShardId;
use protocol::memory::MemoryLedger;
use storage::engine::{LogPosition, ShardStore, SnapshotManifest};
use storage::mutant::{self, Mutant};

use crate::clock::ClusterClock;
use crate::env::{Env, StepKind};
use crate::meta::machine::{MetaBuilder, MetaMachine, unknown_epoch};
use crate::node::NodeConfig;
use crate::node::memory::wait_for_memory;
use crate::shard::{Running, log_index};
use crate::snapshot::{Snapshot, SnapshotData, SnapshotMeta};
use crate::types::{CommandResult, Entry, LogId, Payload, StoredMembership, Types, codec};

/// Bytes of commands that are applied in one step.
const BATCH_BYTES: usize = 1 << 20;
/// From this size on a batch leaves the reactor.
const STEP_BYTES: usize = 32 << 10;

type Config<E> = Types<<E as Env>::Runtime>;
type Item<E> = EntryResponder<Config<E>>;
type Answers<E> = Vec<(ApplyResponder<Config<E>>, CommandResult)>;

/// The state machine of a group.
pub enum Machine<E: Env> {
    /// Group 0.
    Meta(Box<MetaMachine<E>>),
    /// A shard.
    Shard(ShardMachine<E>),
}

/// The state machine of a shard: a [`ShardStore`] and the position it has applied.
pub struct ShardMachine<E: Env> {
    env: E,
    shard: ShardId,
    store: Arc<ShardStore<E::Fs>>,
    clock: Arc<ClusterClock>,
    last: Option<LogId>,
    membership: StoredMembership,
    running: Running,
    memory: MemoryLedger,
    newest_epoch: u16,
    /// Tells the shard's driver that something was applied that may want its attention.
    on_applied: Arc<dyn Fn() + Send + Sync>,
}

fn invalid(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

impl<E: Env> ShardMachine<E> {
    /// The machine over a store as it was opened: what its segments cover is applied.
    pub(crate) fn new(
        env: E,
        shard: ShardId,
        store: Arc<ShardStore<E::Fs>>,
        clock: Arc<ClusterClock>,
        running: Running,
        config: &NodeConfig,
        on_applied: Arc<dyn Fn() + Send + Sync>,
    ) -> Result<Self, codec::DecodeError> {
        let (last, membership) = flushed(&store)?;
        let (memory, newest_epoch) = (config.memory.clone(), config.newest_epoch);
        Ok(Self { env, shard, store, clock, last, membership, running, memory, newest_epoch, on_applied })
    }

    async fn apply(&mut self, mut items: Vec<Item<E>>, bytes: usize) -> io::Result<()> {
        if mutant::is(Mutant::LocalClockAtApply) {
            let now = self.env.now_ms();
            items.iter_mut().for_each(|(entry, _)| put_time(entry, now));
        }
        let Some((last, _)) = items.last() else { return Ok(()) };
        let last = last.log_id;
        for (entry, _) in &items {
            match &entry.payload {
                Payload::Normal(command) => {
                    if let Some((epoch, time)) = command_epoch_and_time(&command.0) {
                        if epoch > self.newest_epoch {
                            return Err(unknown_epoch(self.newest_epoch, epoch));
                        }
                        self.clock.seen(self.shard, time);
                    }
                }
                Payload::Membership(membership) => {
                    self.membership = StoredMembership::new(Some(entry.log_id), membership.clone());
                }
                Payload::Blank => {}
            }
        }
        wait_for_memory::<E>(&self.store, &self.memory).await;
        let store = self.store.clone();
        let answers: Answers<E> = if bytes < STEP_BYTES {
            apply_all::<E>(&store, items)
        } else {
            self.env.run_step(StepKind::Apply, move || apply_all::<E>(&store, items)).await
        };
        self.last = Some(last);
        for (responder, result) in answers {
            responder.send(result);
        }
        (self.on_applied)();
        Ok(())
    }
}

fn apply_all<E: Env>(store: &ShardStore<E::Fs>, items: Vec<Item<E>>) -> Answers<E> {
    let mut answers = Vec::new();
    for (entry, responder) in items {
        let result = apply_one(store, &entry);
        if let Some(responder) = responder {
            answers.push((responder, result));
        }
    }
    answers
}

fn apply_one<F: storage::fs::Fs>(store: &ShardStore<F>, entry: &Entry) -> CommandResult {
    let log_id = codec::encode_log_id(&entry.log_id);
    let at = LogPosition { index: log_index(entry.log_id.index), log_id: &log_id };
    match &entry.payload {
        Payload::Normal(command) => CommandResult(store.apply(at, &command.0)),
        Payload::Blank => {
            store.apply_blank(at);
            CommandResult::default()
        }
        Payload::Membership(membership) => {
            let stored = StoredMembership::new(Some(entry.log_id), membership.clone());
            store.set_membership(at, &codec::encode_stored_membership(&stored));
            CommandResult::default()
        }
    }
}

/// Epoch and cluster time in a command's header.
fn command_epoch_and_time(command: &[u8]) -> Option<(u16, i64)> {
    let header = command.get(..HEADER_BYTES)?;
    let time = i64::from_le_bytes(header[4..12].try_into().ok()?);
    Some((u16::from_le_bytes([header[2], header[3]]), time))
}

/// Puts another time into a command's header, for [`Mutant::LocalClockAtApply`].
fn put_time(entry: &mut Entry, time_ms: i64) {
    if let Payload::Normal(command) = &mut entry.payload
        && command.0.len() >= HEADER_BYTES
    {
        let mut bytes = command.0.to_vec();
        bytes[4..12].copy_from_slice(&time_ms.to_le_bytes());
        command.0 = bytes.into();
    }
}

/// The position that a store's segments cover, in openraft's terms.
pub(crate) fn flushed<F: storage::fs::Fs>(
    store: &ShardStore<F>,
) -> Result<(Option<LogId>, StoredMembership), codec::DecodeError> {
    match store.flushed() {
        None => Ok((None, StoredMembership::default())),
        Some(position) => position_of(&position.log_id, &position.membership),
    }
}

fn position_of(
    log_id: &[u8],
    membership: &[u8],
) -> Result<(Option<LogId>, StoredMembership), codec::DecodeError> {
    let membership = if membership.is_empty() {
        StoredMembership::default()
    } else {
        codec::decode_stored_membership(membership)?
    };
    Ok((Some(codec::decode_log_id(log_id)?), membership))
}

/// The store's manifest as a snapshot; none before the first flush.
fn snapshot_of<F: storage::fs::Fs>(store: &ShardStore<F>) -> io::Result<Option<Snapshot>> {
    let manifest = store.manifest_for_snapshot();
    let Some(position) = manifest.position() else { return Ok(None) };
    let (last_log_id, last_membership) =
        position_of(&position.log_id, &position.membership).map_err(invalid)?;
    let bytes: Bytes = manifest.bytes().clone();
    let data = SnapshotData { manifest: bytes, pin: Some(Arc::new(manifest)) };
    Ok(Some(Snapshot { meta: SnapshotMeta { last_log_id, last_membership }, snapshot: data }))
}

impl<E: Env> RaftStateMachine<Config<E>> for Machine<E> {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = Builder<E>;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        Ok(match self {
            Self::Meta(machine) => machine.applied(),
            Self::Shard(machine) => (machine.last, machine.membership.clone()),
        })
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<Item<E>, io::Error>> + Unpin + Send,
    {
        match self {
            Self::Meta(machine) => {
                let mut answers = Vec::new();
                while let Some((entry, responder)) = entries.try_next().await? {
                    let result = machine.apply(&entry)?;
                    answers.extend(responder.map(|responder| (responder, result)));
                }
                // Whoever hears of its command must find it in the view.
                machine.publish();
                for (responder, result) in answers {
                    responder.send(result);
                }
                Ok(())
            }
            Self::Shard(machine) => {
                let (mut items, mut bytes) = (Vec::new(), 0);
                while let Some((entry, responder)) = entries.try_next().await? {
                    if let Payload::Normal(command) = &entry.payload {
                        bytes += command.0.len();
                    }
                    items.push((entry, responder));
                    if bytes >= BATCH_BYTES {
                        machine.apply(std::mem::take(&mut items), bytes).await?;
                        bytes = 0;
                    }
                }
                machine.apply(items, bytes).await
            }
        }
    }

    async fn try_create_snapshot_builder(&mut self, _force: bool) -> Option<Builder<E>> {
        match self {
            Self::Meta(machine) => machine.applied().0.map(|_| Builder::Meta(Box::new(machine.builder()))),
            // Nothing is purged before the first flush, so nobody can need a snapshot before it.
            Self::Shard(machine) => machine.store.flushed().map(|_| Builder::Shard(machine.store.clone())),
        }
    }

    async fn get_snapshot_builder(&mut self) -> Builder<E> {
        match self {
            Self::Meta(machine) => Builder::Meta(Box::new(machine.builder())),
            Self::Shard(machine) => Builder::Shard(machine.store.clone()),
        }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: SnapshotData,
    ) -> Result<(), io::Error> {
        match self {
            Self::Meta(machine) => machine.install(meta, snapshot).await,
            Self::Shard(machine) => {
                let manifest = SnapshotManifest::decode(snapshot.manifest).map_err(invalid)?;
                let (store, running) = (machine.store.clone(), machine.running.enter());
                let step = move || {
                    let _running = running;
                    store.install_snapshot(&manifest)
                };
                machine.env.run_step(StepKind::Transfer, step).await.map_err(invalid)?;
                machine.last = meta.last_log_id;
                machine.membership = meta.last_membership.clone();
                (machine.on_applied)();
                Ok(())
            }
        }
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        match self {
            Self::Meta(machine) => Ok(machine.current()),
            Self::Shard(machine) => snapshot_of(&machine.store),
        }
    }
}

/// Builds a snapshot beside the state machine.
pub enum Builder<E: Env> {
    /// Writes the export file.
    Meta(Box<MetaBuilder<E>>),
    /// Names what is on disk.
    Shard(Arc<ShardStore<E::Fs>>),
}

impl<E: Env> RaftSnapshotBuilder<Config<E>> for Builder<E> {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        match self {
            Self::Meta(builder) => builder.build().await,
            Self::Shard(store) => {
                snapshot_of(store)?.ok_or_else(|| io::Error::other("the shard has not been flushed yet"))
            }
        }
    }
}
