//! One task per group that sees to everything which is not a request.
//!
//! It looks around when something was applied, when a membership or leadership changed, and every [`TICK`]:
//! - runs the store's jobs as steps, several at a time, and gives the results back;
//! - as leader, proposes what the store says is due: begin or install a flush or merge, drop old partitions;
//! - fetches files that are damaged here or differ from what the leader installed; a replica that needs files which nobody
//!   has any more is given up, while the others can make it anew;
//! - gives up what is left of transfers that ended long ago;
//! - when a flush has become durable, tells openraft (a snapshot that costs nothing) and lets the log go;
//! - as leader, brings the group's membership one step closer to what the meta state wants;
//! - as leader whom no quorum has answered for [`DEAF_AFTER`], gives the leadership up;
//! - initialises a shard that was never born; ends the node when openraft has failed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use openraft::{ChangeMembers, ServerState};
use openraft_rt::{AsyncRuntime, Instant, Select3, WatchReceiver};
use protocol::ids::{LogIndex, META_GROUP};
use storage::engine::{FlushPolicy, Job, ShardStore};

use crate::env::{Env, StepKind, detach};
use crate::meta::{MetaCommand, ReplicaId};
use crate::node::Node;
use crate::placement::{self, Change};
use crate::shard::{Group, is_committed, log_index};
use crate::types::{self, LogId};

/// How often a group is looked at when nothing happens.
const TICK: Duration = Duration::from_millis(500);
/// Least time between two looks: entries come in thousands a second, what the driver does can wait for a few.
const GAP: Duration = Duration::from_millis(5);
/// Jobs that one look starts: the reactor has other things to do.
const MAX_JOBS_PER_LOOK: usize = 8;
/// Pause after a step that failed.
const FAILURE_PAUSE: Duration = Duration::from_secs(1);
/// Entries of the meta group after which its state is written and its log may go.
const META_EXPORT_ENTRIES: u64 = 64;
/// Bytes of covered log that a leader keeps for members that lag behind.
const KEEP_FOR_LAGGARDS_BYTES: u64 = 64 << 20;
/// Pause after a membership change that failed.
const CHANGE_PAUSE: Duration = Duration::from_millis(200);
/// Rounds of asking everybody for a file that nobody has, after which the replica is given up.
const HOPELESS_ROUNDS: u32 = 5;
/// Parts of files that nobody asked for in this time are given up.
const ABANDONED_AFTER: Duration = Duration::from_secs(600);
/// A leader that is heard but hears nobody keeps the others from electing and can commit nothing. After so long without a
/// quorum's answer, twice what the slowest election takes, it gives up.
const DEAF_AFTER: Duration = Duration::from_secs(2);
/// How long a membership change may take before the group is looked at again. The change itself goes on.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(10);

/// What the driver remembers between two looks.
struct Driver<E: Env> {
    group: Arc<Group<E>>,
    /// What others were last told about role and members.
    told: Option<(ServerState, Option<u64>, Option<LogId>, bool)>,
    /// The flushed position that openraft was last told of.
    snapshot_asked: u64,
    purge_asked: u64,
    /// Not before this a failed job is tried again.
    jobs_after: <E::Runtime as AsyncRuntime>::Instant,
    birth_told: Arc<AtomicBool>,
    fetching: Arc<AtomicBool>,
    /// Rounds in a row in which some file was nowhere to be had.
    hopeless: Arc<AtomicU32>,
    /// When a transfer was last under way, if anything of it may be left.
    transferred: Option<<E::Runtime as AsyncRuntime>::Instant>,
    job_failed: Arc<AtomicBool>,
    /// Since when this replica has led without giving up, if it leads.
    leads_since: Option<<E::Runtime as AsyncRuntime>::Instant>,
}

/// The task. Ends with the replica or the node.
pub(super) async fn drive<E: Env>(node: Weak<Node<E>>, group: Arc<Group<E>>) {
    let now = <E::Runtime as AsyncRuntime>::Instant::now;
    let mut wake = group.wake.listen();
    let mut metrics = group.raft.server_metrics();
    let mut driver = Driver {
        group,
        told: None,
        snapshot_asked: 0,
        purge_asked: 0,
        jobs_after: now(),
        birth_told: Arc::default(),
        fetching: Arc::default(),
        hopeless: Arc::default(),
        transferred: None,
        job_failed: Arc::default(),
        leads_since: None,
    };
    loop {
        let Some(node) = node.upgrade() else { return };
        if driver.group.is_stopping() || !driver.look(&node).await {
            return;
        }
        drop(node);
        let tick = E::Runtime::sleep(TICK);
        match E::Runtime::select3(metrics.changed(), wake.changed(), tick).await {
            // The core has ended; the next look says so.
            Select3::First(Err(_)) => E::Runtime::sleep(GAP * 10).await,
            Select3::First(Ok(())) | Select3::Third(()) => {}
            Select3::Second(_) => E::Runtime::sleep(GAP).await,
        }
    }
}

impl<E: Env> Driver<E> {
    /// One look around. `false` ends the task.
    async fn look(&mut self, node: &Arc<Node<E>>) -> bool {
        let failed = self.group.with_metrics(|m| m.running_state.as_ref().err().map(ToString::to_string));
        if let Some(reason) = failed {
            if !self.group.is_stopping() && !node.context.is_stopping() {
                node.context.abort(&format!("group {}: {reason}", self.group.id));
            }
            return false;
        }
        self.tell(node);
        self.run_jobs(node);
        self.forget_transfers(node);
        self.snapshot_and_purge(node).await;
        if self.group.id != META_GROUP {
            self.birth(node).await;
        }
        if !node.context.is_stopping() && self.group.is_leader() {
            self.propose(node);
            self.change_members(node);
            self.give_up_when_deaf().await;
        } else {
            self.leads_since = None;
        }
        true
    }

    /// As leader of others whom no quorum has answered for long: asks one of them to lead and, by what openraft makes of
    /// that, sends no more heartbeats. Then they elect, whether they have heard it or not.
    async fn give_up_when_deaf(&mut self) {
        let now = <E::Runtime as AsyncRuntime>::Instant::now();
        let since = *self.leads_since.get_or_insert(now);
        let group = &self.group;
        let heir = group.with_metrics(|m| {
            let heard = m.last_quorum_acked.map_or(since, |at| since.max(at.into_inner()));
            if now.saturating_duration_since(heard) < DEAF_AFTER {
                return None;
            }
            let voters = m.membership_config.membership().voter_ids();
            let others: Vec<u64> = voters.filter(|voter| *voter != group.replica.0).collect();
            others.get(m.current_term as usize % others.len().max(1)).copied()
        });
        let Some(heir) = heir else { return };
        tracing::warn!(group = %group.id, heir, "no quorum answers this leader: it gives up");
        self.leads_since = Some(now);
        // An error means that the group has ended.
        let _ = group.raft.trigger().transfer_leader(heir).await;
    }

    /// Lets the others hear at once when this replica's place in the group changed.
    fn tell(&mut self, node: &Arc<Node<E>>) {
        let news = self.group.with_metrics(|m| {
            (m.state, m.current_leader, *m.membership_config.log_id(), is_committed::<E>(m))
        });
        if self.told.as_ref() != Some(&news) {
            self.told = Some(news);
            node.context.leader_news.wake();
            node.context.pulse_now.wake();
        }
    }

    fn run_jobs(&mut self, node: &Arc<Node<E>>) {
        let Some(shard) = &self.group.shard else { return };
        let now = <E::Runtime as AsyncRuntime>::Instant::now();
        if self.job_failed.swap(false, Ordering::AcqRel) {
            self.jobs_after = now + FAILURE_PAUSE;
        }
        if now < self.jobs_after {
            return;
        }
        for _ in 0..MAX_JOBS_PER_LOOK {
            let Some(job) = shard.store.next_job() else { break };
            let (group, failed, running) =
                (self.group.clone(), self.job_failed.clone(), shard.running.enter());
            detach::<E>(async move {
                let _running = running;
                if !run_job(&group, job).await {
                    failed.store(true, Ordering::Release);
                }
                group.wake.wake();
            });
        }
        let missing = shard.store.missing_files();
        if !missing.is_empty() && !self.fetching.swap(true, Ordering::AcqRel) {
            let (node, group, fetching) = (node.clone(), self.group.clone(), self.fetching.clone());
            let hopeless = self.hopeless.clone();
            detach::<E>(async move {
                let mut is_hopeless = false;
                for file in missing {
                    let holders = node.holders(&group);
                    let mut result = Err("nobody to fetch it from answers".to_owned());
                    let mut nowhere = !holders.is_empty();
                    for holder in holders {
                        let pulled = node.pull_file(holder.node(), &group, &file, |_| true).await;
                        nowhere &= pulled.as_ref().is_err_and(|e| e.is_missing);
                        result = pulled.map_err(|e| e.reason);
                        if result.is_ok() {
                            break;
                        }
                    }
                    is_hopeless |= nowhere;
                    match result {
                        Ok(()) => {
                            tracing::warn!(shard = %group.id, file = file.name(), "fetched a file that differed here")
                        }
                        Err(reason) => {
                            tracing::warn!(shard = %group.id, file = file.name(), reason, "could not fetch a file");
                            E::Runtime::sleep(FAILURE_PAUSE).await;
                        }
                    }
                }
                let rounds = if is_hopeless { hopeless.load(Ordering::Acquire) + 1 } else { 0 };
                hopeless.store(rounds, Ordering::Release);
                if rounds >= HOPELESS_ROUNDS {
                    node.give_up(&group).await;
                }
                fetching.store(false, Ordering::Release);
                group.wake.wake();
            });
        }
    }

    /// Removes what is left of transfers that ended long ago.
    fn forget_transfers(&mut self, node: &Arc<Node<E>>) {
        let Some(shard) = &self.group.shard else { return };
        let now = <E::Runtime as AsyncRuntime>::Instant::now();
        if node.is_receiving(self.group.id) || self.fetching.load(Ordering::Acquire) {
            self.transferred = Some(now);
        }
        if self.transferred.is_none_or(|last| now.saturating_duration_since(last) < ABANDONED_AFTER) {
            return;
        }
        self.transferred = None;
        let (group, store, running) = (self.group.clone(), shard.store.clone(), shard.running.enter());
        detach::<E>(async move {
            let forget = move || {
                let _running = running;
                store.forget_transfers()
            };
            if let Err(e) = group.context.env.run_step(StepKind::Transfer, forget).await {
                tracing::warn!(shard = %group.id, error = &e as &dyn std::error::Error, "parts of files stay behind");
            }
        });
    }

    /// As leader: what the store says is due. One command at a time, each applied before the next is asked for.
    fn propose(&self, node: &Arc<Node<E>>) {
        let Some(shard) = &self.group.shard else { return };
        if self.group.commanding.swap(true, Ordering::AcqRel) {
            return;
        }
        let header = self.group.command_header();
        let policy = node.flush_policy(&self.group, header.encoder_epoch);
        let Some(command) = shard.store.propose(&policy, header.cluster_time_ms) else {
            self.group.commanding.store(false, Ordering::Release);
            return;
        };
        let (group, bytes) = (self.group.clone(), command.encode());
        detach::<E>(async move {
            submit(&group, bytes).await;
            group.commanding.store(false, Ordering::Release);
            group.wake.wake();
        });
    }

    async fn snapshot_and_purge(&mut self, node: &Arc<Node<E>>) {
        let group = &self.group;
        let (snapshot, purged, applied) = group.with_metrics(|m| {
            let index = |id: Option<u64>| id.map_or(0, |i| log_index(i).0);
            (
                index(m.snapshot.map(|id| id.index)),
                index(m.purged.map(|id| id.index)),
                index(m.last_applied.map(|id| id.index)),
            )
        });
        let due = match &group.shard {
            Some(shard) => shard.store.flushed().map_or(0, |p| p.index.0),
            // The first export is worth it at once: it holds the secret and the shards.
            None if node.meta().is_bootstrapped()
                && (snapshot == 0 || applied >= snapshot + META_EXPORT_ENTRIES) =>
            {
                applied
            }
            None => 0,
        };
        if due > snapshot && due > self.snapshot_asked {
            self.snapshot_asked = due;
            if group.raft.trigger().snapshot().await.is_err() {
                return;
            }
        }
        if snapshot <= purged {
            return;
        }
        let upto = self.purge_limit(node, snapshot);
        if upto > purged && upto > self.purge_asked {
            self.purge_asked = upto;
            // openraft's index is one less than ours. An error means that the group has ended.
            let _ = group.raft.trigger().purge_log(upto - 1).await;
        }
    }

    /// Up to where the log may go. A leader keeps what members that answer still lack, within reason: sending entries is
    /// cheaper than sending files.
    fn purge_limit(&self, node: &Arc<Node<E>>, snapshot: u64) -> u64 {
        if node.context.log_bytes(self.group.id) > KEEP_FOR_LAGGARDS_BYTES {
            return snapshot;
        }
        let reachable = node.context.reachable();
        let slowest = self.group.with_metrics(|m| {
            let members =
                m.replication.iter().flatten().filter(|(r, _)| reachable.contains(&ReplicaId(**r).node()));
            members.map(|(_, id)| id.map_or(0, |id| log_index(id.index).0)).min()
        });
        slowest.map_or(snapshot, |slowest| slowest.min(snapshot))
    }

    /// Initialises a shard that the meta state has planned but that never lived, and tells the meta group that it does.
    async fn birth(&self, node: &Arc<Node<E>>) {
        let group = &self.group;
        let meta = node.meta();
        let Some(plan) = meta.shards.get(&group.id).filter(|s| !s.born) else { return };
        if plan.replica_ids().ne([group.replica]) || group.replica.generation() != 1 {
            return;
        }
        match group.raft.is_initialized().await {
            Ok(true) => {}
            Ok(false) => {
                let addr = node.context.config.advertise.clone();
                let members = BTreeMap::from([(group.replica.0, types::Node { addr })]);
                if let Err(e) = group.raft.initialize(members).await {
                    tracing::warn!(shard = %group.id, error = %e, "shard could not be initialised");
                    return;
                }
            }
            Err(_) => return,
        }
        if self.birth_told.swap(true, Ordering::AcqRel) {
            return;
        }
        let (node, shard, told) = (node.clone(), group.id, self.birth_told.clone());
        detach::<E>(async move {
            if node.propose_meta(MetaCommand::ShardBorn { shard }, Duration::from_secs(10)).await.is_err() {
                told.store(false, Ordering::Release);
            }
        });
    }

    /// As leader: one step of the membership towards what is wanted.
    fn change_members(&self, node: &Arc<Node<E>>) {
        let group = &self.group;
        let meta = node.meta();
        // One change has to be committed before openraft takes the next.
        if !meta.is_bootstrapped()
            || group.changing.load(Ordering::Acquire)
            || !group.with_metrics(is_committed::<E>)
        {
            return;
        }
        let (pulse, reachable) = (group.place(), node.context.reachable());
        // A leader that was removed leads on until openraft has it step aside, and may not change members any more.
        if !pulse.voters.contains(&group.replica) && !pulse.learners.contains(&group.replica) {
            return;
        }
        let (voters, learners) = if group.id == META_GROUP {
            let voting: BTreeSet<ReplicaId> = pulse.voters.iter().copied().collect();
            placement::meta_members(&meta, &voting, &reachable)
        } else {
            let Some(shard) = meta.shards.get(&group.id) else { return };
            (shard.replica_ids().collect(), BTreeSet::new())
        };
        let Some(change) = placement::reconcile(&pulse, &voters, &learners, &reachable) else { return };
        if group.changing.swap(true, Ordering::AcqRel) {
            return;
        }
        let (node, group) = (node.clone(), group.clone());
        detach::<E>(async move {
            let timeout = E::Runtime::timeout(CHANGE_TIMEOUT, carry_out(&node, &group, &change)).await;
            match timeout {
                Ok(Ok(())) => tracing::info!(group = %group.id, ?change, "membership changed"),
                Ok(Err(reason)) => {
                    tracing::debug!(group = %group.id, ?change, reason, "membership change failed");
                    E::Runtime::sleep(CHANGE_PAUSE).await;
                }
                Err(_) => tracing::warn!(group = %group.id, ?change, "membership change takes long"),
            }
            group.changing.store(false, Ordering::Release);
            group.wake.wake();
        });
    }
}

async fn run_job<E: Env>(group: &Group<E>, job: Job<E::Fs>) -> bool {
    let kind = if job.name() == "merge" { StepKind::Merge } else { StepKind::Flush };
    let result = group.context.env.run_step(kind, move || job.run()).await;
    let Some(shard) = &group.shard else { return true };
    match shard.store.finish_job(result) {
        Ok(()) => true,
        Err(e) => {
            tracing::warn!(shard = %group.id, error = &e as &dyn std::error::Error, "a job failed and will run again");
            false
        }
    }
}

/// A command of the store is under way. Ends with the value: whoever waits for it may give up at any time.
struct Commanding<'a>(&'a AtomicBool);

impl Drop for Commanding<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// Submits a command of the store; a failure is no matter, the store will say again what is due.
async fn submit<E: Env>(group: &Group<E>, command: Bytes) {
    if let Err(e) = group.submit(command).await {
        tracing::debug!(shard = %group.id, error = ?e, "a command of the store was not committed");
    }
}

async fn carry_out<E: Env>(node: &Node<E>, group: &Group<E>, change: &Change) -> Result<(), String> {
    let raft = &group.raft;
    let raw = |set: &BTreeSet<ReplicaId>| set.iter().map(|r| r.0).collect::<BTreeSet<u64>>();
    match change {
        Change::LeaveJoint => {
            let nothing = ChangeMembers::AddVoterIds(BTreeSet::new());
            raft.change_membership(nothing, false).await.map_err(|e| e.to_string())?;
        }
        Change::AddLearner(replica) => {
            let meta = node.meta();
            let addr = meta.addr(replica.node()).ok_or("the node has no address")?.to_owned();
            raft.add_learner(replica.0, types::Node { addr }, false).await.map_err(|e| e.to_string())?;
        }
        Change::SetVoters(voters) => {
            raft.change_membership(raw(voters), false).await.map_err(|e| e.to_string())?;
        }
        Change::RemoveLearners(learners) => {
            raft.change_membership(ChangeMembers::RemoveNodes(raw(learners)), false)
                .await
                .map_err(|e| e.to_string())?;
        }
        Change::HandOver(heir) => {
            if !group.hears(*heir) {
                return Err(format!("{heir} does not answer"));
            }
            raft.trigger().transfer_leader(heir.0).await.map_err(|e| e.to_string())?;
            // Give the heir the time of an election before the group is looked at again.
            E::Runtime::sleep(Duration::from_secs(1)).await;
        }
    }
    Ok(())
}

impl<E: Env> Node<E> {
    /// When to flush, merge and drop. Nothing is dropped by a time that only this node's clock vouches for.
    fn flush_policy(&self, group: &Group<E>, encoder_epoch: u16) -> FlushPolicy {
        let evict_before_ms = self.evict_before_ms(group);
        let mut policy = FlushPolicy { encoder_epoch, evict_before_ms, ..self.context.config.flush.clone() };
        if !self.context.has_cluster_time() {
            policy.retention = Arc::default();
            policy.evict_before_ms = None;
        }
        policy
    }

    /// The other replicas of a group, its leader first.
    fn holders(&self, group: &Group<E>) -> Vec<ReplicaId> {
        let leader = group.leader();
        let mut others: Vec<ReplicaId> = group.with_metrics(|m| {
            m.membership_config
                .membership()
                .nodes()
                .map(|(id, _)| ReplicaId(*id))
                .filter(|r| *r != group.replica)
                .collect()
        });
        others.sort_by_key(|r| (Some(*r) != leader, *r));
        others
    }

    /// Flushes a shard that this node leads. With `wait`, ends when everything begun by it is installed and durable.
    pub(super) async fn flush_here(
        &self,
        group: &Arc<Group<E>>,
        wait: bool,
        timeout: Duration,
    ) -> Result<(), String> {
        let Some(shard) = &group.shard else { return Ok(()) };
        let header = group.command_header();
        let command = shard.store.begin_flush_command(header.encoder_epoch, header.cluster_time_ms);
        let submitted = E::Runtime::timeout(timeout, group.submit(command.encode())).await;
        let (index, _) =
            submitted.map_err(|_| "not committed in time".to_owned())?.map_err(|e| format!("{e:?}"))?;
        group.wake.wake();
        if !wait {
            return Ok(());
        }
        let now = <E::Runtime as AsyncRuntime>::Instant::now;
        let deadline = now() + timeout;
        loop {
            if self.settle_store(group, &shard.store, index).await {
                return Ok(());
            }
            if now() >= deadline || !group.is_leader() {
                return Err("the flush was begun but did not end here".to_owned());
            }
            group.wake.wake();
            E::Runtime::sleep(super::POLL).await;
        }
    }

    /// Brings a store one step closer to having everything flushed and merged; whether it has.
    async fn settle_store(&self, group: &Group<E>, store: &ShardStore<E::Fs>, index: LogIndex) -> bool {
        self.step_store(group, store, |policy| policy.merge_all = true).await
            && store.flushed().is_some_and(|p| p.index >= index)
    }

    /// Proposes what is due by a policy of its own; whether nothing is, nor under way.
    pub(super) async fn step_store(
        &self,
        group: &Group<E>,
        store: &ShardStore<E::Fs>,
        change: impl FnOnce(&mut FlushPolicy),
    ) -> bool {
        if store.is_busy() || group.commanding.swap(true, Ordering::AcqRel) {
            return false;
        }
        let commanding = Commanding(&group.commanding);
        let header = group.command_header();
        let mut policy = self.flush_policy(group, header.encoder_epoch);
        change(&mut policy);
        let due = store.propose(&policy, header.cluster_time_ms);
        if let Some(command) = &due {
            submit(group, command.encode()).await;
        }
        drop(commanding);
        due.is_none() && !store.is_busy()
    }
}
