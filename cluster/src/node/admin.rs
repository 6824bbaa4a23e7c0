//! What people ask of the cluster: flush, move, drain, remove. Each is a change of the meta state that the ordinary
//! machinery carries out; the call waits until it has.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use openraft_rt::{AsyncRuntime, Instant};
use protocol::ids::{NodeId, ShardId};

use crate::env::Env;
use crate::error::ClusterError;
use crate::meta::{MemberState, MetaCommand, MetaOutcome};
use crate::node::Node;
use crate::placement::{self, View};

/// How long this node may take to hear what the meta leader has applied.
const KNOWS_BY: Duration = Duration::from_secs(2);

fn refused(reason: impl Into<String>) -> ClusterError {
    ClusterError::Refused { reason: reason.into() }
}

impl<E: Env> Node<E> {
    async fn change(&self, command: MetaCommand, timeout: Duration) -> Result<(), ClusterError> {
        match self.propose_meta(command, timeout).await? {
            MetaOutcome::Refused { reason } => Err(refused(reason)),
            MetaOutcome::Stale { newest } => Err(refused(format!("its newest version is {newest}"))),
            MetaOutcome::Done | MetaOutcome::Node { .. } | MetaOutcome::Dashboard { .. } => Ok(()),
        }
    }

    /// Stores a dashboard, or deletes it, and waits until this node shows it so. The outcome is [`MetaOutcome::Dashboard`]
    /// or [`MetaOutcome::Done`], else why it was not done.
    pub async fn change_dashboard(
        &self,
        command: MetaCommand,
        timeout: Duration,
    ) -> Result<MetaOutcome, ClusterError> {
        let shown = match &command {
            MetaCommand::SaveDashboard(save) => Some((save.tenant.clone(), save.uid.clone())),
            MetaCommand::DeleteDashboard { tenant, uid, .. } => Some((tenant.clone(), uid.clone())),
            _ => None,
        };
        let outcome = self.propose_meta(command, timeout).await?;
        if let Some((tenant, uid)) = shown {
            // A leader elsewhere applied it first; here it may take a moment, or others may have changed it since.
            let here = || {
                let meta = self.meta();
                let newest =
                    meta.dashboards.versions(&tenant, &uid).and_then(|v| v.last()).map(|v| v.version);
                let done = match &outcome {
                    MetaOutcome::Dashboard { version } => newest.is_some_and(|n| n >= *version),
                    MetaOutcome::Done => newest.is_none(),
                    _ => true,
                };
                if done { Ok(()) } else { Err("this node has not applied it yet".to_owned()) }
            };
            // It is committed whatever this node knows.
            let _ = self.wait_until("a change of a dashboard", KNOWS_BY, here).await;
        }
        Ok(outcome)
    }

    /// Who leads and who lives, as this node has heard.
    pub fn view(&self) -> View {
        let own: Vec<_> = self.all_groups().iter().map(|g| g.pulse()).collect();
        self.context.pulses.view(self.id(), &own)
    }

    /// Shards whose Raft group is not what the meta state wants, or has no leader.
    pub fn unsettled(&self) -> Vec<ShardId> {
        let (meta, view) = (self.meta(), self.view());
        let settled = |id: &ShardId, shard| placement::is_settled(shard, view.leaders.get(id));
        meta.shards.iter().filter(|(id, shard)| !settled(id, shard)).map(|(id, _)| *id).collect()
    }

    async fn wait_until(
        &self,
        what: &'static str,
        timeout: Duration,
        done: impl Fn() -> Result<(), String>,
    ) -> Result<(), ClusterError> {
        let now = <E::Runtime as AsyncRuntime>::Instant::now;
        let deadline = now() + timeout;
        loop {
            match done() {
                Ok(()) => return Ok(()),
                Err(reason) if now() >= deadline => return Err(ClusterError::Timeout { what, reason }),
                Err(_) => E::Runtime::sleep(super::POLL).await,
            }
        }
    }

    /// Flushes and merges all shards; ends when everything is installed and durable at their leaders.
    pub async fn force_flush(self: &Arc<Self>, timeout: Duration) -> Result<(), ClusterError> {
        let flush = |node: Arc<Self>, shard, left| async move { node.ask_flush(shard, true, left).await };
        self.on_all_shards("the flush", timeout, flush).await
    }

    /// Does something for every shard, for each by itself, trying again until the deadline. An attempt is told how long it
    /// may take.
    pub(super) async fn on_all_shards<F, A>(
        self: &Arc<Self>,
        what: &'static str,
        timeout: Duration,
        attempt: F,
    ) -> Result<(), ClusterError>
    where
        F: Fn(Arc<Self>, ShardId, Duration) -> A + Clone + Send + Sync + 'static,
        A: Future<Output = Result<(), String>> + Send + 'static,
    {
        let deadline = <E::Runtime as AsyncRuntime>::Instant::now() + timeout;
        let shards: Vec<ShardId> = self.meta().shards.keys().copied().collect();
        let running: Vec<_> = shards
            .into_iter()
            .map(|shard| {
                let (node, attempt) = (self.clone(), attempt.clone());
                E::Runtime::spawn(async move {
                    let done = Self::until(deadline, |left| attempt(node.clone(), shard, left)).await;
                    done.map_err(|reason| format!("shard {shard}: {reason}"))
                })
            })
            .collect();
        let mut result = Ok(());
        for task in running {
            if let Err(reason) = task.await.unwrap_or_else(|e| Err(e.to_string())) {
                result = Err(ClusterError::Timeout { what, reason });
            }
        }
        result
    }

    /// Tries something again and again until it is done or the deadline has passed.
    pub(super) async fn until<T, A>(
        deadline: <E::Runtime as AsyncRuntime>::Instant,
        attempt: impl Fn(Duration) -> A,
    ) -> Result<T, String>
    where
        A: Future<Output = Result<T, String>>,
    {
        let now = <E::Runtime as AsyncRuntime>::Instant::now;
        loop {
            match attempt(deadline.saturating_duration_since(now())).await {
                Ok(done) => return Ok(done),
                Err(reason) if now() >= deadline => return Err(reason),
                Err(_) => E::Runtime::sleep(super::POLL).await,
            }
        }
    }

    /// Moves a replica of a shard from one node to another, and waits until the group has changed. A change of the shard
    /// that is under way, placement's own for instance, is let through first. Balancing leaves the shard there until the
    /// members of the cluster change.
    pub async fn move_replica(
        &self,
        shard: ShardId,
        from: NodeId,
        to: NodeId,
        timeout: Duration,
    ) -> Result<(), ClusterError> {
        let now = <E::Runtime as AsyncRuntime>::Instant::now;
        let deadline = now() + timeout;
        loop {
            let left = || deadline.saturating_duration_since(now());
            self.wait_until("the change of the shard that is under way", left(), || {
                if self.unsettled().contains(&shard) { Err("it has not ended".into()) } else { Ok(()) }
            })
            .await?;
            let meta = self.meta();
            let plan =
                meta.shards.get(&shard).ok_or_else(|| refused(format!("there is no shard {shard}")))?;
            let mut nodes: BTreeSet<NodeId> = plan.replicas.keys().copied().collect();
            if !nodes.remove(&from) {
                return Err(refused(format!("node {from} holds no replica of shard {shard}")));
            }
            if !nodes.insert(to) {
                return Err(refused(format!("node {to} holds a replica of shard {shard} already")));
            }
            if meta.members.get(&to).is_none_or(|m| m.state != MemberState::Active) {
                return Err(refused(format!("node {to} takes no replicas")));
            }
            let command = MetaCommand::SetReplicas {
                shard,
                version: plan.version,
                nodes: nodes.into_iter().collect(),
                pinned: true,
            };
            match self.change(command, left()).await {
                Ok(()) => break,
                // Another change of the shard came first; what was decided on it is decided again when it is known here.
                Err(ClusterError::Refused { .. })
                    if self.shard_changes(shard, plan.version, left()).await => {}
                Err(e) => return Err(e),
            }
        }
        self.wait_until("the move", deadline.saturating_duration_since(now()), || {
            let moved = self.meta().shards.get(&shard).is_some_and(|s| !s.replicas.contains_key(&from));
            if !moved || self.unsettled().contains(&shard) {
                Err("the group has not changed yet".into())
            } else {
                Ok(())
            }
        })
        .await
    }

    /// Whether a shard has another version than `version` by the time that this node knows what the meta leader knew when it
    /// refused a change.
    async fn shard_changes(&self, shard: ShardId, version: u64, timeout: Duration) -> bool {
        let changed = || match self.meta().shards.get(&shard) {
            Some(shard) if shard.version == version => Err(String::new()),
            _ => Ok(()),
        };
        self.wait_until("news of the shard", timeout.min(KNOWS_BY), changed).await.is_ok()
    }

    /// Has a node's replicas moved away and its leaderships handed over, and waits until it holds none.
    pub async fn drain(&self, node: NodeId, timeout: Duration) -> Result<(), ClusterError> {
        let meta = self.meta();
        let others = meta.active().filter(|n| *n != node).count();
        if others == 0 {
            return Err(refused(format!("node {node} is the only one that can hold data")));
        }
        self.change(MetaCommand::SetMemberState { node, state: MemberState::Draining }, timeout).await?;
        self.wait_until("the drain", timeout, || {
            let meta = self.meta();
            let held = meta.shards.iter().filter(|(_, s)| s.replicas.contains_key(&node)).count();
            let unsettled = self.unsettled();
            match (held, unsettled.len()) {
                (0, 0) => Ok(()),
                (0, n) => Err(format!("{n} shards are changing")),
                (n, _) => Err(format!("it holds {n} shards")),
            }
        })
        .await
    }

    /// Ends a drain: the node takes replicas again.
    pub async fn undrain(&self, node: NodeId, timeout: Duration) -> Result<(), ClusterError> {
        self.change(MetaCommand::SetMemberState { node, state: MemberState::Active }, timeout).await
    }

    /// Takes a drained node out of the cluster, for good. Refused while it holds a shard, or while any shard has fewer
    /// replicas than it should.
    pub async fn remove(&self, node: NodeId, timeout: Duration) -> Result<(), ClusterError> {
        let unsettled = self.unsettled();
        if !unsettled.is_empty() {
            let list: Vec<String> = unsettled.iter().map(ShardId::to_string).collect();
            return Err(refused(format!("shards {} are changing or lack replicas", list.join(", "))));
        }
        self.change(MetaCommand::SetMemberState { node, state: MemberState::Removed }, timeout).await
    }

    /// Reads a setting of the layers above.
    pub fn setting(&self, key: &str) -> Option<String> {
        self.meta().settings.values.get(key).cloned()
    }

    /// Sets or removes a setting of the layers above.
    pub async fn set_setting(
        &self,
        key: &str,
        value: Option<String>,
        timeout: Duration,
    ) -> Result<(), ClusterError> {
        self.change(MetaCommand::SetValue { key: key.to_owned(), value }, timeout).await
    }
}
