//! Follows the meta state: starts the replicas that this node should hold, ends those it should not.
//!
//! A replica's directory names it (`replica`: its [`ReplicaId`]). One that holds an older placement of the same shard is
//! wiped before the new one starts: its name is never used again, so nobody can miss it.

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use openraft_rt::{AsyncRuntime, Oneshot, OneshotSender, WatchReceiver};
use protocol::ids::{META_GROUP, ShardId};
use storage::engine::ShardStore;
use storage::error::StorageError;
use storage::fs::Fs;

use crate::env::{Env, StepKind};
use crate::error::ClusterError;
use crate::meta::{MemberState, MetaCommand, MetaState, ReplicaId};
use crate::node::identity::SHARDS_DIR;
use crate::node::{Node, lock};
use crate::shard::proposer::Proposer;
use crate::shard::{Group, Running, ShardParts, Wake};
use crate::state_machine::{Machine, ShardMachine};

/// How often replicas that could not be started or ended are looked at again.
const AGAIN: Duration = Duration::from_millis(500);
const REPLICA_FILE: &str = "replica";

/// The task.
pub(super) async fn follow_meta<E: Env>(node: Weak<Node<E>>) {
    let Some(first) = node.upgrade() else { return };
    let mut meta = first.context.meta.subscribe();
    drop(first);
    let mut version = None;
    loop {
        let Some(this) = node.upgrade().filter(|n| !n.context.is_stopping()) else { return };
        let state = meta.borrow_and_update().clone();
        this.take_in(&state);
        this.match_groups(&state).await;
        if version.replace(state.version) != Some(state.version) {
            for group in this.all_groups() {
                // Its leader may have a membership to change now.
                group.wake.wake();
            }
        }
        drop(this);
        if let Ok(Err(_)) = E::Runtime::timeout(AGAIN, meta.changed()).await {
            return;
        }
    }
}

impl<E: Env> Node<E> {
    /// Addresses, and whether we are still wanted.
    fn take_in(&self, state: &MetaState) {
        if !state.is_bootstrapped() {
            return;
        }
        let others = state.present().filter(|(id, _)| *id != self.id());
        self.context.peers.set(others.map(|(id, member)| (id, member.addr.clone())));
        self.context.pulses.retain(|id| state.addr(id).is_some());
        for (id, member) in &state.members {
            if member.state == MemberState::Removed {
                self.context.clock.forget(*id);
            }
        }
        if state.members.get(&self.id()).is_some_and(|m| m.state == MemberState::Removed) {
            self.context.abort("this node was removed from the cluster, or replaced after its disk was lost");
        }
    }

    async fn match_groups(self: &Arc<Self>, state: &MetaState) {
        // Opening replays the log: side by side, so that a restart uses all cores.
        let mut starting = Vec::new();
        for (&shard, meta) in &state.shards {
            if self.context.is_stopping() {
                return;
            }
            let running = self.group(shard);
            match (meta.replica_on(self.id()), running) {
                (Some(wanted), Some(group)) if group.replica == wanted => {}
                // A newer placement of the same shard: the old one is of no use to anybody.
                (Some(_), Some(group)) => self.end_group(&group).await,
                (Some(wanted), None) => {
                    let (node, replicas) = (self.clone(), meta.replicas.len());
                    starting.push(E::Runtime::spawn(async move {
                        if let Err(e) = node.start_shard(shard, wanted).await {
                            node.shard_failed(shard, wanted, replicas, e).await;
                        }
                    }));
                }
                (None, Some(group)) => {
                    if self.has_left(&group) {
                        self.end_group(&group).await;
                    }
                }
                (None, None) => {
                    if let Err(e) = self.resume_unwanted(shard).await {
                        tracing::warn!(%shard, error = %e, "a replica that nobody wants could not be opened");
                    }
                }
            }
        }
        for start in starting {
            // A panic in there ended only that task; the next look tries again.
            let _ = start.await;
        }
    }

    fn shard_dir(&self, shard: ShardId) -> PathBuf {
        self.context.config.data_dir.join(SHARDS_DIR).join(shard.to_string())
    }

    /// The replica that the directory of a shard holds.
    fn replica_on_disk(&self, shard: ShardId) -> Result<Option<ReplicaId>, ClusterError> {
        let path = self.shard_dir(shard).join(REPLICA_FILE);
        let fs = self.context.env.fs();
        let io = |source| ClusterError::Io { path: path.clone(), source };
        if !fs.exists(&path).map_err(io)? {
            return Ok(None);
        }
        let bytes = fs.read(&path, 64).map_err(io)?;
        let text = std::str::from_utf8(&bytes).ok().and_then(|t| t.trim().parse().ok());
        let corrupt =
            || ClusterError::Corrupt { path: path.clone(), reason: "it holds no replica's number".into() };
        text.map(|id| Some(ReplicaId(id))).ok_or_else(corrupt)
    }

    /// Starts a replica, empty or with what its directory holds.
    async fn start_shard(self: &Arc<Self>, shard: ShardId, wanted: ReplicaId) -> Result<(), ClusterError> {
        if self.replica_on_disk(shard)? != Some(wanted) {
            self.wipe(shard).await?;
            self.name_replica(shard, wanted)?;
        }
        self.open_shard(shard, wanted).await
    }

    /// Starts a replica that the group may still count on although it is not wanted any more.
    async fn resume_unwanted(self: &Arc<Self>, shard: ShardId) -> Result<(), ClusterError> {
        if lock(&self.broken).contains_key(&shard) {
            return Ok(());
        }
        match self.replica_on_disk(shard)? {
            Some(replica) => self.open_shard(shard, replica).await,
            None => Ok(()),
        }
    }

    fn name_replica(&self, shard: ShardId, replica: ReplicaId) -> Result<(), ClusterError> {
        let dir = self.shard_dir(shard);
        let fs = self.context.env.fs();
        let io = |source| ClusterError::Io { path: dir.clone(), source };
        fs.create_dir_all(&dir).map_err(io)?;
        if let Some(parent) = dir.parent() {
            fs.sync_dir(parent).map_err(io)?;
        }
        fs.write_atomic(&dir.join(REPLICA_FILE), replica.0.to_string().as_bytes()).map_err(io)
    }

    async fn open_shard(self: &Arc<Self>, shard: ShardId, replica: ReplicaId) -> Result<(), ClusterError> {
        let context = &self.context;
        if let Some(damage) = context.wal.state(shard).damage {
            return Err(ClusterError::Corrupt { path: damage.path.clone(), reason: damage.to_string() });
        }
        let (fs, dir, options) =
            (context.env.fs().clone(), self.shard_dir(shard), context.config.store.clone());
        let open = move || ShardStore::open(fs, &dir, shard, options);
        let store = context.env.run_step(StepKind::Open, open).await;
        let store = Arc::new(store.map_err(|source| ClusterError::Storage { shard, source })?);
        let wake: Arc<Wake<E::Runtime>> = Arc::default();
        let on_applied = {
            let wake = wake.clone();
            Arc::new(move || wake.wake())
        };
        let (clock, running) = (context.clock.clone(), Running::default());
        let machine =
            ShardMachine::new(context.env.clone(), shard, store.clone(), clock, running.clone(), on_applied)
                .map_err(|e| ClusterError::Corrupt { path: self.shard_dir(shard), reason: e.to_string() })?;
        let parts = ShardParts { store, running, proposer: Proposer::default(), gate: Default::default() };
        let group = self.open_group(shard, replica, Machine::Shard(machine), Some(parts), wake).await?;
        lock(&self.broken).remove(&shard);
        tracing::info!(node = %self.id(), %shard, %replica, "replica started");
        self.run_group(group);
        Ok(())
    }

    /// A replica that can not be opened is given up if the others can make a new one, and reported if not.
    async fn shard_failed(
        self: &Arc<Self>,
        shard: ShardId,
        lost: ReplicaId,
        replicas: usize,
        error: ClusterError,
    ) {
        let damaged = match &error {
            ClusterError::Corrupt { .. } => true,
            ClusterError::Storage { source, .. } => {
                matches!(source, StorageError::Corrupt { .. } | StorageError::MissingFile { .. })
            }
            _ => false,
        };
        let known = lock(&self.broken).insert(shard, error.to_string());
        if known.is_none() {
            tracing::error!(node = %self.id(), %shard, replica = %lost, error = &error as &dyn std::error::Error, "replica can not be started");
        }
        if damaged && replicas > 1 {
            match self.propose_meta(MetaCommand::RenewReplica { shard, lost }, Duration::from_secs(5)).await {
                Ok(_) => {
                    tracing::warn!(node = %self.id(), %shard, %lost, "replica is damaged and will be made anew")
                }
                Err(e) => {
                    tracing::warn!(node = %self.id(), %shard, error = %e, "replica could not be given up yet")
                }
            }
        }
    }

    /// Whether the shard's leader says that a replica is no member of the group any more.
    fn has_left(&self, group: &Group<E>) -> bool {
        let term = group.with_metrics(|m| m.current_term);
        self.context.pulses.leader_pulse(group.id).is_some_and(|leader| {
            leader.term >= term
                && !leader.joint
                && !leader.voters.contains(&group.replica)
                && !leader.learners.contains(&group.replica)
        })
    }

    /// Ends a replica and removes its data.
    async fn end_group(self: &Arc<Self>, group: &Arc<Group<E>>) {
        if group.id == META_GROUP {
            return;
        }
        tracing::info!(node = %self.id(), shard = %group.id, replica = %group.replica, "replica leaves this node");
        lock(&self.groups).remove(&group.id);
        group.stopping.store(true, Ordering::Release);
        group.wake.wake();
        if let Err(e) = group.raft.shutdown().await {
            tracing::warn!(shard = %group.id, error = %e, "a group did not end well");
        }
        // Steps that began for this replica must not write into the directory of the next.
        while group.shard.as_ref().is_some_and(|shard| !shard.running.is_idle()) {
            E::Runtime::sleep(super::POLL).await;
        }
        if let Err(e) = self.wipe(group.id).await {
            // Its name is never used again; the next start of a placement of this shard wipes it first.
            tracing::warn!(shard = %group.id, error = &e as &dyn std::error::Error, "replica could not be removed");
        }
    }

    /// Removes log and data of a shard. The log first: entries without a store are only waste, a store without its log
    /// would be a replica that forgot its votes.
    async fn wipe(&self, shard: ShardId) -> Result<(), ClusterError> {
        let (sender, done) = <E::Runtime as AsyncRuntime>::Oneshot::channel();
        self.context.wal.remove_group(
            shard,
            Box::new(move |result| {
                let _ = sender.send(result);
            }),
        );
        match done.await {
            Ok(result) => result?,
            Err(_) => return Err(ClusterError::Refused { reason: "the log is closed".to_owned() }),
        }
        let (fs, dir) = (self.context.env.fs().clone(), self.shard_dir(shard));
        let path = dir.clone();
        let remove = move || {
            fs.remove_dir_all(&dir)?;
            dir.parent().map_or(Ok(()), |parent| fs.sync_dir(parent))
        };
        self.context
            .env
            .run_step(StepKind::Transfer, remove)
            .await
            .map_err(|source| ClusterError::Io { path, source })
    }
}
