//! Tasks of the node as a whole: pulses, the log's size, and, on the meta leader, placement.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use openraft_rt::{AsyncRuntime, Instant, WatchReceiver};
use protocol::ids::{META_GROUP, NodeId, ShardId};

use crate::env::{Env, detach};
use crate::error::ClusterError;
use crate::meta::{MemberState, MetaCommand, MetaOutcome, ReplicaId};
use crate::network::rpc::{Refusal, Request};
use crate::node::Node;
use crate::placement::{self, Step};
use crate::shard::Group;
use crate::status::Pulse;

/// How often a node speaks when nothing changes.
const PULSE: Duration = Duration::from_secs(1);
/// Least time between two pulses.
const PULSE_GAP: Duration = Duration::from_millis(50);
/// How long an answer to a pulse may take.
const PULSE_TIMEOUT: Duration = Duration::from_millis(1500);
/// How often an idle log is marked as whole.
const MARK: Duration = Duration::from_millis(200);
/// Every so many marks the log's size is looked at.
const MARKS_PER_CHECK: u32 = 5;
/// How often the meta leader thinks about placement.
const PLACEMENT: Duration = Duration::from_millis(300);

/// Tells the peers about this node, and hears about them.
pub(super) async fn pulses<E: Env>(node: Weak<Node<E>>) {
    let Some(first) = node.upgrade() else { return };
    let mut now = first.context.pulse_now.listen();
    drop(first);
    loop {
        let Some(this) = node.upgrade().filter(|n| !n.context.is_stopping()) else { return };
        let pulse = this.pulse();
        for peer in this.context.peers.others() {
            let (this, pulse) = (this.clone(), pulse.clone());
            detach::<E>(async move { this.ping(peer, pulse).await });
        }
        drop(this);
        E::Runtime::sleep(PULSE_GAP).await;
        if let Ok(Err(_)) = E::Runtime::timeout(PULSE, now.changed()).await {
            return;
        }
    }
}

impl<E: Env> Node<E> {
    /// Tells a peer about this node, and takes in what it answers.
    pub(super) async fn ping(&self, peer: NodeId, pulse: Pulse) {
        let context = &self.context;
        let sent = context.env.now_ms();
        let request = Request::Ping(Box::new(Pulse { clock_ms: sent, ..pulse }));
        match context.peers.call::<Pulse>(peer, &request, PULSE_TIMEOUT).await {
            Ok(pulse) => {
                context.clock.heard(peer, pulse.clock_ms, sent, context.env.now_ms());
                self.hear(pulse);
            }
            Err(e) => {
                if e.refusal() == Some(&Refusal::Retired) {
                    context.abort("the other members say that this node was removed from the cluster");
                }
                tracing::trace!(%peer, error = %e, "no answer to a pulse");
            }
        }
    }

    /// Takes in a peer's pulse.
    pub(super) fn hear(&self, pulse: Pulse) {
        self.context.pulses.take(pulse);
        self.context.leader_news.wake();
    }

    /// Gets a command into the meta group, here or at its leader, and waits until it is applied there.
    pub async fn propose_meta(
        &self,
        command: MetaCommand,
        timeout: Duration,
    ) -> Result<MetaOutcome, ClusterError> {
        let now = <E::Runtime as AsyncRuntime>::Instant::now;
        let deadline = now() + timeout;
        let mut reason = "no leader is known".to_owned();
        loop {
            let left = deadline.saturating_duration_since(now());
            if left.is_zero() || self.context.is_stopping() {
                return Err(ClusterError::Timeout { what: "a change of the cluster's state", reason });
            }
            match self.leader_of(META_GROUP) {
                Some(leader) if leader == self.id() => {
                    match E::Runtime::timeout(left, self.propose_meta_here(&command)).await {
                        Ok(Ok(outcome)) => return Ok(outcome),
                        Ok(Err(e)) => reason = e.to_string(),
                        Err(_) => continue,
                    }
                }
                Some(leader) => {
                    let request = Request::Meta(command.clone());
                    match self.context.peers.call(leader, &request, left.min(Duration::from_secs(5))).await {
                        Ok(outcome) => return Ok(outcome),
                        Err(e) => reason = e.to_string(),
                    }
                }
                None => {}
            }
            E::Runtime::sleep(super::POLL.min(left)).await;
        }
    }

    /// Gets a command into the meta group that this node leads.
    pub(super) async fn propose_meta_here(&self, command: &MetaCommand) -> Result<MetaOutcome, Refusal> {
        let group = self.meta_group().ok_or(Refusal::NotHosted)?;
        let bytes = serde_json::to_vec(command).expect("commands have no failing serializers");
        let (_, outcome) = group.submit(bytes.into()).await.map_err(|e| e.into_refusal())?;
        serde_json::from_slice(&outcome)
            .map_err(|e| Refusal::Unknown { reason: format!("outcome makes no sense: {e}") })
    }
}

/// Marks an idle log as whole, so that damage to its end is not taken for a torn tail, and keeps log and memory below
/// their limits: asks for a flush of the shard that holds most of either.
pub(super) async fn housekeeping<E: Env>(node: Weak<Node<E>>) {
    for round in 0u32.. {
        E::Runtime::sleep(MARK).await;
        let Some(this) = node.upgrade().filter(|n| !n.context.is_stopping()) else { return };
        this.context.wal.mark_if_idle();
        this.relieve_memory();
        if round % MARKS_PER_CHECK == 0 {
            this.check_disk().await;
            this.check_log().await;
            this.check_member();
        }
    }
}

impl<E: Env> Node<E> {
    async fn check_log(self: &Arc<Self>) {
        let (stats, limit) = (self.context.wal.stats(), self.context.config.max_unflushed_bytes);
        let live: u64 = stats.groups.iter().map(|g| g.bytes).sum();
        let shards = stats.groups.iter().filter(|g| g.group != META_GROUP);
        // Entries that segments cover already go by themselves: of a busy shard nothing more is to be had now.
        let is_idle = |shard: ShardId| {
            self.group(shard).and_then(|g| g.shard.as_ref().map(|s| !s.store.is_busy())).unwrap_or(false)
        };
        let shards = shards.filter(|g| g.bytes > 0 && is_idle(g.group));
        let due = if live > limit {
            shards.max_by_key(|g| (g.bytes, g.group))
        } else if stats.disk_bytes > 2 * limit {
            // Little is needed, but it is spread over old files.
            shards.max_by_key(|g| (g.pinned_bytes, g.group))
        } else {
            return;
        };
        let Some((shard, bytes)) = due.map(|g| (g.group, g.bytes)) else { return };
        tracing::info!(%shard, bytes, "the log is large: asking for a flush");
        if let Err(reason) = self.ask_flush(shard, false, Duration::from_secs(10)).await {
            tracing::warn!(%shard, reason, "a flush could not be begun");
        }
    }

    /// Has a shard flushed by its leader.
    pub(super) async fn ask_flush(
        self: &Arc<Self>,
        shard: ShardId,
        wait: bool,
        timeout: Duration,
    ) -> Result<(), String> {
        match self.leader_of(shard) {
            None => Err("no leader is known".to_owned()),
            Some(leader) if leader == self.id() => {
                let group = self.group(shard).ok_or("the replica is not here")?;
                self.flush_here(&group, wait, timeout).await
            }
            Some(leader) => {
                let request = Request::Flush { shards: vec![shard], wait };
                self.context.peers.call::<()>(leader, &request, timeout).await.map_err(|e| e.to_string())
            }
        }
    }

    /// Tells the cluster when this node listens elsewhere than it used to, or knows other epochs.
    fn check_member(self: &Arc<Self>) {
        let (context, id) = (&self.context, self.id());
        let (config, incarnation, meta) = (&context.config, context.incarnation, self.meta());
        let Some(member) = meta.members.get(&id).filter(|m| m.incarnation == incarnation) else { return };
        let command = if member.addr != config.advertise {
            MetaCommand::SetAddr { node: id, incarnation, addr: config.advertise.clone() }
        } else if member.epoch != config.newest_epoch {
            MetaCommand::SetEpoch { node: id, incarnation, epoch: config.newest_epoch }
        } else {
            return;
        };
        let node = self.clone();
        detach::<E>(async move {
            match node.propose_meta(command, Duration::from_secs(5)).await {
                Ok(MetaOutcome::Refused { reason }) => {
                    tracing::warn!(reason, "news of this node were refused")
                }
                Ok(_) => {}
                Err(e) => tracing::debug!(error = %e, "news of this node could not be told"),
            }
        });
    }
}

/// What the meta leader does: activates nodes that joined, and carries out the plan.
pub(super) async fn placement<E: Env>(node: Weak<Node<E>>) {
    let mut watch: Option<Watch<E>> = None;
    loop {
        E::Runtime::sleep(PLACEMENT).await;
        let Some(this) = node.upgrade().filter(|n| !n.context.is_stopping()) else { return };
        if this.leads(META_GROUP) && this.meta().is_bootstrapped() {
            let watch = watch.get_or_insert_with(Watch::begin);
            watch.look(&this);
            this.place(&watch.absent).await;
        } else {
            watch = None;
        }
    }
}

/// What a meta leader knows of nodes that are silent.
struct Watch<E: Env> {
    /// When it began to lead: before that it may have been the one that nobody could reach.
    since: <E::Runtime as AsyncRuntime>::Instant,
    absent: BTreeSet<NodeId>,
}

impl<E: Env> Watch<E> {
    fn begin() -> Self {
        Self { since: <E::Runtime as AsyncRuntime>::Instant::now(), absent: BTreeSet::new() }
    }

    /// Finds out who has been silent for too long, and says so once.
    fn look(&mut self, node: &Node<E>) {
        let Some(patience) = node.context.config.rebuild_after else { return };
        let watched = <E::Runtime as AsyncRuntime>::Instant::now().saturating_duration_since(self.since);
        let is_absent = |id: &NodeId| {
            let silence = node.context.pulses.silence(*id).unwrap_or(watched);
            *id != node.id() && silence.min(watched) >= patience
        };
        let absent: BTreeSet<NodeId> = node.meta().active().filter(is_absent).collect();
        for id in absent.difference(&self.absent) {
            let seconds = patience.as_secs();
            tracing::warn!(node = %id, seconds, "a node is silent for long: nodes that lack its shards are given them");
        }
        for id in self.absent.difference(&absent) {
            tracing::info!(node = %id, "a node that was silent for long is back");
        }
        self.absent = absent;
    }
}

impl<E: Env> Node<E> {
    async fn place(self: &Arc<Self>, absent: &BTreeSet<NodeId>) {
        let meta = self.meta();
        let timeout = Duration::from_secs(5);
        for (&node, member) in &meta.members {
            // A node is ready for work once it speaks and knows of itself.
            let knows = self.context.pulses.meta_version(node).is_some_and(|v| v > 0);
            if member.state == MemberState::Joining && knows {
                let command = MetaCommand::SetMemberState { node, state: MemberState::Active };
                tracing::info!(%node, addr = member.addr, "node joins in");
                if let Err(e) = self.propose_meta(command, timeout).await {
                    tracing::debug!(error = %e, "a node could not be activated yet");
                    return;
                }
            }
        }
        let (epoch, in_use) = (meta.known_epoch(), meta.settings.encoder_epoch);
        if epoch > in_use {
            tracing::info!(epoch, "all members know a newer epoch: it is used from now on");
            if let Err(e) = self.propose_meta(MetaCommand::SetEncoderEpoch { epoch }, timeout).await {
                tracing::debug!(error = %e, "the epoch could not be raised yet");
                return;
            }
        }
        let own: Vec<_> = self.all_groups().iter().map(|g| g.pulse()).collect();
        let mut view = self.context.pulses.view(self.id(), &own);
        view.absent.clone_from(absent);
        if self.context.disk_full.load(Ordering::Acquire) {
            view.full.insert(self.id());
        }
        for step in placement::plan(&self.meta(), &view) {
            match step {
                Step::SetReplicas { shard, version, nodes } => {
                    tracing::info!(%shard, ?nodes, "replicas are placed");
                    let command = MetaCommand::SetReplicas { shard, version, nodes, pinned: false };
                    match self.propose_meta(command, timeout).await {
                        Ok(MetaOutcome::Refused { reason }) => {
                            tracing::debug!(%shard, reason, "placement was overtaken")
                        }
                        Ok(_) => {}
                        Err(e) => {
                            tracing::debug!(error = %e, "placement is interrupted");
                            return;
                        }
                    }
                }
                Step::Transfer { shard, from, to } => {
                    match self.ask_step(shard, from, to).await {
                        Ok(()) => tracing::info!(%shard, %from, to = %to.node(), "leadership moves"),
                        Err(reason) => tracing::debug!(%shard, reason, "leadership did not move"),
                    }
                    // Decide on what the pulses say afterwards.
                    E::Runtime::sleep(Duration::from_millis(300)).await;
                }
            }
        }
    }

    async fn ask_step(&self, group: ShardId, from: NodeId, to: ReplicaId) -> Result<(), String> {
        if from == self.id() {
            let group = self.group(group).ok_or("the replica is not here")?;
            return self.step_aside(&group, to).await;
        }
        let request = Request::Step { group, to };
        self.context.peers.call::<()>(from, &request, Duration::from_secs(2)).await.map_err(|e| e.to_string())
    }

    /// Hands a group's leadership to a replica that answers and is caught up.
    pub(super) async fn step_aside(&self, group: &Group<E>, to: ReplicaId) -> Result<(), String> {
        let pulse = group.place();
        let fit = group.is_leader()
            && pulse.voters.contains(&to)
            && placement::is_caught_up(&pulse, to)
            && self.context.reachable().contains(&to.node())
            && group.hears(to);
        if !fit {
            return Err(format!("{to} can not take over"));
        }
        group.raft.trigger().transfer_leader(to.0).await.map_err(|e| e.to_string())
    }
}
