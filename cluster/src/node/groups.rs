//! Follows the meta state: starts the replicas that this node should hold, ends those it should not.
//!
//! A replica's directory names it (`replica`: its [`ReplicaId`]). One that holds an older placement of the same shard is
//! taken away before the new one starts: its name is never used again. See `shard_dirs.rs` for how. As long as the group
//! may need its vote it runs on, or is started again, in place of the new one.
//!
//! A replica that can not be opened because its files or its part of the log are damaged is given up, and made anew from
//! the others, only while those are seen to be whole: another replica leads, and a majority without this one follows it
//! and is caught up. Until then nothing is touched. A file of a later release is no damage.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use openraft_rt::{AsyncRuntime, Instant, Oneshot, OneshotSender, WatchReceiver};
use protocol::ids::{LogIndex, META_GROUP, ShardId};
use storage::engine::ShardStore;
use storage::error::StorageError;

use crate::env::{Env, StepKind};
use crate::error::ClusterError;
use crate::meta::{MemberState, MetaCommand, MetaOutcome, MetaState, ReplicaId, ShardMeta};
use crate::node::identity::SHARDS_DIR;
use crate::node::shard_dirs::{self, Aside, Holds};
use crate::node::{Node, lock};
use crate::placement;
use crate::shard::proposer::Proposer;
use crate::shard::{Group, Running, ShardParts, Wake, log_index};
use crate::state_machine::{Machine, ShardMachine};
use crate::status::GroupPulse;

/// How often replicas that could not be started or ended are looked at again.
const AGAIN: Duration = Duration::from_millis(500);
/// A replica that fails to open for a reason that may pass is tried again after twice the time each time, up to this
/// often.
const MAX_DOUBLINGS: u32 = 6;
/// A damaged replica is not given up before it has been down for so long: what the others said while it (or another that
/// broke with it) still ran counts no more by then. [`super::context::REACHABLE_FOR`] and the longest way of a pulse.
const SURE_AFTER: Duration = Duration::from_millis(4500);

/// A replica that could not be opened.
#[derive(Debug)]
pub(super) struct Broken<I> {
    replica: ReplicaId,
    /// Its bytes are wrong or gone: trying again does not help.
    is_damaged: bool,
    since: I,
    /// When to try again.
    again: I,
    tries: u32,
    /// How often it was looked at and kept, although damaged.
    pub kept: u32,
}

/// What to do about a replica that does not run.
enum Try {
    Open,
    Renew,
    Wait,
}

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
                (Some(wanted), Some(group)) if group.replica == wanted => {
                    self.remove_lost(shard, |leader| !leader.joint && leader.voters.contains(&wanted)).await;
                }
                // A newer placement of the same shard: the old one ends when its group can do without it.
                (Some(_), Some(group)) => {
                    if group.is_leader() {
                        // It would wait for its own successor, which can not begin before it has ended.
                        self.transfer_leader(shard).await;
                    } else if self.has_left(&group) || self.may_end(&group, meta) {
                        self.end_group(&group, true).await;
                    }
                }
                (Some(wanted), None) => {
                    let (node, next) = (self.clone(), self.next_try(shard, wanted));
                    starting.push(E::Runtime::spawn(async move {
                        match next {
                            Try::Open => {
                                if let Err(e) = node.start_shard(shard, wanted).await {
                                    node.note_broken(shard, wanted, &e);
                                }
                            }
                            Try::Renew => node.renew(shard, wanted).await,
                            Try::Wait => {}
                        }
                    }));
                }
                (None, Some(group)) => {
                    if self.has_left(&group) {
                        self.end_group(&group, false).await;
                    }
                }
                (None, None) => self.look_at_unwanted(shard).await,
            }
        }
        for start in starting {
            // A panic in there ended only that task; the next look tries again.
            let _ = start.await;
        }
    }

    fn shards_dir(&self) -> PathBuf {
        self.context.config.data_dir.join(SHARDS_DIR)
    }

    fn shard_dir(&self, shard: ShardId) -> PathBuf {
        self.shards_dir().join(shard.to_string())
    }

    /// Starts a replica, empty or with what its directory holds.
    async fn start_shard(self: &Arc<Self>, shard: ShardId, wanted: ReplicaId) -> Result<(), ClusterError> {
        self.finish_leaving(shard).await?;
        let holds = lock(&self.dirs).holds(shard);
        match holds {
            Some(Holds::Replica(here)) if here == wanted => return self.open_shard(shard, wanted).await,
            Some(Holds::Replica(here)) if here.generation() > wanted.generation() => {
                let reason = format!("replica {here} is newer than what is known of the cluster");
                return Err(ClusterError::Refused { reason });
            }
            Some(Holds::Nameless(Some(upto))) if upto.generation() >= wanted.generation() => {
                return Err(self.nameless(shard));
            }
            Some(Holds::Replica(old) | Holds::Nameless(Some(old))) if self.can_spare(shard, old) => {
                self.take_away(shard, old, true).await?;
            }
            Some(Holds::Replica(old)) => {
                // Its vote may be what the group lacks to have a leader, and without one nobody can tell.
                self.open_unwanted(shard, old).await;
                return Ok(());
            }
            Some(Holds::Nameless(Some(old))) => {
                let reason = format!("replica {old} may still be needed: no majority without it is whole");
                return Err(ClusterError::Refused { reason });
            }
            // The name is durable before the log knows of the replica, so its loss is damage.
            Some(Holds::Nameless(None)) | None if self.is_in_log(shard) => return Err(self.nameless(shard)),
            // A replica that never began, or one that was on its way out before; nobody counts on it.
            Some(Holds::Nameless(None)) => {
                self.take_away(shard, ReplicaId::new(self.id(), 0), false).await?;
            }
            None => {
                // Damage that nobody can attribute is none of a group that was never here.
                if self.context.wal.state(shard).damage.is_some() {
                    self.remove_from_log(shard).await?;
                }
            }
        }
        self.name_shard(shard, Holds::Replica(wanted)).await?;
        self.open_shard(shard, wanted).await
    }

    fn nameless(&self, shard: ShardId) -> ClusterError {
        let reason = "which replica it holds is not known any more".to_owned();
        ClusterError::Corrupt { path: self.shard_dir(shard), reason }
    }

    /// Whether the log holds votes or entries of a group.
    fn is_in_log(&self, shard: ShardId) -> bool {
        let state = self.context.wal.state(shard);
        state.vote.is_some() || state.purged.is_some() || state.last.is_some() || state.committed.is_some()
    }

    /// Starts a replica that the group may still count on although it is not wanted any more. One that can not be opened
    /// is set aside once the group can do without it.
    async fn look_at_unwanted(self: &Arc<Self>, shard: ShardId) {
        let holds = lock(&self.dirs).holds(shard);
        let result = match holds {
            Some(Holds::Replica(replica)) => match self.next_try(shard, replica) {
                Try::Renew if self.can_spare(shard, replica) => self.take_away(shard, replica, true).await,
                _ => {
                    self.open_unwanted(shard, replica).await;
                    Ok(())
                }
            },
            Some(Holds::Nameless(_)) => Ok(()),
            None => {
                let nobody = ReplicaId::new(self.id(), 0);
                self.remove_lost(shard, |_| self.can_spare(shard, nobody)).await;
                self.finish_leaving(shard).await
            }
        };
        if let Err(e) = result {
            tracing::warn!(%shard, error = &e as &dyn std::error::Error, "an old replica could not be set aside");
        }
    }

    /// Opens a replica that this node should not hold any more, or not under this name, where that makes sense.
    async fn open_unwanted(self: &Arc<Self>, shard: ShardId, replica: ReplicaId) {
        if let Try::Open = self.next_try(shard, replica)
            && let Err(error) = self.open_shard(shard, replica).await
        {
            self.note_broken(shard, replica, &error);
        }
    }

    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&E::Fs, &Path) -> io::Result<T> + Send + 'static,
    ) -> Result<T, ClusterError> {
        let (fs, shards) = (self.context.env.fs().clone(), self.shards_dir());
        let path = shards.clone();
        let result = self.context.env.run_step(StepKind::Transfer, move || work(&fs, &shards)).await;
        result.map_err(|source| ClusterError::Io { path, source })
    }

    async fn name_shard(&self, shard: ShardId, holds: Holds) -> Result<(), ClusterError> {
        self.on_disk(move |fs, shards| shard_dirs::write_name(fs, shards, shard, holds)).await?;
        lock(&self.dirs).named(shard, holds);
        Ok(())
    }

    async fn remove_from_log(&self, shard: ShardId) -> Result<(), ClusterError> {
        let (sender, done) = <E::Runtime as AsyncRuntime>::Oneshot::channel();
        self.context.wal.remove_group(
            shard,
            Box::new(move |result| {
                let _ = sender.send(result);
            }),
        );
        match done.await {
            Ok(result) => Ok(result?),
            Err(_) => Err(ClusterError::Refused { reason: "the log is closed".to_owned() }),
        }
    }

    /// Takes a replica off the node: its name and data, then its log. With `keep` its files stay aside.
    async fn take_away(&self, shard: ShardId, replica: ReplicaId, keep: bool) -> Result<(), ClusterError> {
        let aside = Aside { shard, replica };
        self.on_disk(move |fs, shards| shard_dirs::take_away(fs, shards, aside)).await?;
        lock(&self.dirs).taken_away(aside);
        self.remove_from_log(shard).await?;
        self.settle(aside, keep).await
    }

    /// Does what a crash kept [`Node::take_away`] from doing.
    async fn finish_leaving(&self, shard: ShardId) -> Result<(), ClusterError> {
        let leaving = lock(&self.dirs).leaving(shard);
        match leaving {
            Some(aside) => {
                self.remove_from_log(shard).await?;
                self.settle(aside, true).await
            }
            None => Ok(()),
        }
    }

    async fn settle(&self, aside: Aside, keep: bool) -> Result<(), ClusterError> {
        self.on_disk(move |fs, shards| shard_dirs::settle(fs, shards, aside, keep)).await?;
        lock(&self.dirs).settled(aside, keep);
        Ok(())
    }

    /// Removes replicas that were set aside, once the shard's leader says that nobody will want them.
    async fn remove_lost(&self, shard: ShardId, unneeded: impl Fn(&GroupPulse) -> bool) {
        let lost = lock(&self.dirs).lost(shard);
        if lost.is_empty() || !self.leader_pulse(shard).is_some_and(|leader| unneeded(&leader)) {
            return;
        }
        for aside in lost {
            match self.on_disk(move |fs, shards| shard_dirs::remove_lost(fs, shards, aside)).await {
                Ok(()) => {
                    tracing::info!(%shard, replica = %aside.replica, "files of a lost replica are removed");
                    lock(&self.dirs).removed(aside);
                }
                Err(e) => {
                    tracing::warn!(%shard, error = &e as &dyn std::error::Error, "files of a lost replica stay")
                }
            }
        }
    }

    /// The word of a shard's leader, this node's replica included.
    fn leader_pulse(&self, shard: ShardId) -> Option<GroupPulse> {
        let own = self.group(shard).filter(|group| group.is_leader()).map(|group| group.place());
        let heard = self.context.pulses.leader_pulse(shard);
        own.into_iter().chain(heard).max_by_key(|leader| leader.term)
    }

    /// Whether a shard lives on without a replica of this node, as far as the others' last words say: see
    /// [`placement::can_spare`].
    fn can_spare(&self, shard: ShardId, replica: ReplicaId) -> bool {
        let words = self.context.pulses.words_on(shard);
        self.trusted_leader(shard).is_some_and(|leader| placement::can_spare(&leader, &words, replica))
    }

    /// Whether a running replica may end, so that its successor on this node can begin: see [`placement::may_end`].
    fn may_end(&self, group: &Group<E>, meta: &ShardMeta) -> bool {
        let mut words = self.context.pulses.words_on(group.id);
        words.push(group.place());
        let leader = self.trusted_leader(group.id);
        leader.is_some_and(|leader| placement::may_end(&leader, &words, meta, group.replica))
    }

    /// What another node said last as a shard's leader. Nothing while somebody knows of a newer meta state than this node.
    fn trusted_leader(&self, shard: ShardId) -> Option<GroupPulse> {
        let pulses = &self.context.pulses;
        let knows = pulses.newest_meta_version().is_some_and(|newest| self.meta().version >= newest);
        pulses.leader_pulse(shard).filter(|_| knows)
    }

    async fn open_shard(self: &Arc<Self>, shard: ShardId, replica: ReplicaId) -> Result<(), ClusterError> {
        let context = &self.context;
        let log = context.wal.state(shard);
        if let Some(damage) = log.damage {
            return Err(ClusterError::Corrupt { path: damage.path.clone(), reason: damage.to_string() });
        }
        // What the log gave up must be in the store.
        let covered = log.purged.map_or(LogIndex(0), |(index, _)| log_index(index));
        let (fs, dir, options) =
            (context.env.fs().clone(), self.shard_dir(shard), context.config.store.clone());
        let memory = context.config.memory.clone();
        let open = move || ShardStore::open_within(fs, &dir, shard, options, covered, memory);
        let store = context.env.run_step(StepKind::Open, open).await;
        let store = Arc::new(store.map_err(|source| ClusterError::Storage { shard, source })?);
        let wake: Arc<Wake<E::Runtime>> = Arc::default();
        let on_applied = {
            let wake = wake.clone();
            Arc::new(move || wake.wake())
        };
        let (clock, running) = (context.clock.clone(), Running::default());
        let (env, config) = (context.env.clone(), &context.config);
        let machine =
            ShardMachine::new(env, shard, store.clone(), clock, running.clone(), config, on_applied)
                .map_err(|e| ClusterError::Corrupt { path: self.shard_dir(shard), reason: e.to_string() })?;
        let parts = ShardParts { store, running, proposer: Proposer::default(), gate: Default::default() };
        let group = self.open_group(shard, replica, Machine::Shard(machine), Some(parts), wake).await?;
        lock(&self.broken).remove(&shard);
        tracing::info!(node = %self.id(), %shard, %replica, "replica started");
        self.run_group(group);
        Ok(())
    }

    /// What to do about a replica that does not run.
    fn next_try(&self, shard: ShardId, replica: ReplicaId) -> Try {
        match lock(&self.broken).get(&shard).filter(|broken| broken.replica == replica) {
            Some(broken) if broken.is_damaged => Try::Renew,
            Some(broken) if <E::Runtime as AsyncRuntime>::Instant::now() < broken.again => Try::Wait,
            _ => Try::Open,
        }
    }

    /// Remembers that a replica could not be opened, and says so once.
    fn note_broken(&self, shard: ShardId, replica: ReplicaId, error: &ClusterError) {
        let is_damaged = match error {
            ClusterError::Corrupt { .. } => true,
            ClusterError::Storage { source, .. } => {
                matches!(source, StorageError::Corrupt { .. } | StorageError::MissingFile { .. })
            }
            _ => false,
        };
        let now = <E::Runtime as AsyncRuntime>::Instant::now();
        let mut all = lock(&self.broken);
        let before = all.get(&shard).filter(|broken| broken.replica == replica);
        if before.is_none_or(|broken| broken.is_damaged != is_damaged) {
            tracing::error!(node = %self.id(), %shard, %replica, error = error as &dyn std::error::Error, "replica can not be started");
        }
        let (since, tries) = before.map_or((now, 0), |broken| (broken.since, broken.tries));
        let again = now + AGAIN.saturating_mul(1 << tries.min(MAX_DOUBLINGS));
        let broken = Broken { replica, is_damaged, since, again, tries: tries + 1, kept: 0 };
        all.insert(shard, broken);
    }

    /// Gives a damaged replica up, if its group lives on without it: a new one on this node takes its place. Otherwise it
    /// is kept as it is: the other copies may be worse.
    async fn renew(self: &Arc<Self>, shard: ShardId, lost: ReplicaId) {
        let now = <E::Runtime as AsyncRuntime>::Instant::now();
        let Some(since) = lock(&self.broken).get(&shard).map(|broken| broken.since) else { return };
        if now.saturating_duration_since(since) < SURE_AFTER {
            return;
        }
        if !self.can_spare(shard, lost) {
            if let Some(broken) = lock(&self.broken).get_mut(&shard) {
                broken.kept += 1;
                if broken.kept == 1 {
                    tracing::error!(node = %self.id(), %shard, replica = %lost, "a damaged replica is kept: no majority without it is known to be whole");
                }
            }
            return;
        }
        let holds = lock(&self.dirs).holds(shard);
        // The name tells the new replica that whatever the log holds is not its own.
        if matches!(holds, None | Some(Holds::Nameless(None)))
            && let Err(e) = self.name_shard(shard, Holds::Nameless(Some(lost))).await
        {
            tracing::warn!(%shard, error = &e as &dyn std::error::Error, "replica could not be given up yet");
            return;
        }
        self.propose_renewal(shard, lost).await;
    }

    /// Gives a running replica up that needs files which nobody has any more, as [`Node::renew`] does with one that can not
    /// be opened. A leader hands over first.
    pub(super) async fn give_up(self: &Arc<Self>, group: &Arc<Group<E>>) {
        if group.is_leader() {
            self.transfer_leader(group.id).await;
        } else if self.can_spare(group.id, group.replica) {
            self.propose_renewal(group.id, group.replica).await;
        }
    }

    async fn propose_renewal(&self, shard: ShardId, lost: ReplicaId) {
        match self.propose_meta(MetaCommand::RenewReplica { shard, lost }, Duration::from_secs(5)).await {
            Ok(MetaOutcome::Refused { reason }) => {
                tracing::warn!(node = %self.id(), %shard, %lost, reason, "a damaged replica is kept")
            }
            Ok(_) => {
                tracing::warn!(node = %self.id(), %shard, %lost, "replica is damaged and will be made anew")
            }
            Err(e) => {
                tracing::warn!(node = %self.id(), %shard, error = %e, "replica could not be given up yet")
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

    /// Ends a replica and removes its data, or sets it aside with `keep`.
    async fn end_group(self: &Arc<Self>, group: &Arc<Group<E>>, keep: bool) {
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
        if let Err(e) = self.take_away(group.id, group.replica, keep).await {
            // Its name is never used again; the next start of a placement of this shard sees to it first.
            tracing::warn!(shard = %group.id, error = &e as &dyn std::error::Error, "replica could not be removed");
        }
    }
}
