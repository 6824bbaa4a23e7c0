//! Deletes of samples and of log records: a tombstone in the log of every shard, and giving back the space of what is
//! deleted.
//!
//! A shard's leader puts the delete into the shard's log; once it is applied there, no linearizable read shows what it
//! hides. The shards are not asked as one: an error means that some may have deleted already, and the same delete may be
//! sent again. Sent again it also hides what was written between the two.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft_rt::{AsyncRuntime, Instant};
use protocol::command::{Command, CommandBody, CommandHeader};
use protocol::ids::{ShardId, TenantId};
use protocol::logs::{LogFilter, TimestampNs};
use protocol::matcher::Matcher;
use protocol::sample::TimestampMs;

use crate::env::Env;
use crate::error::ClusterError;
use crate::network::rpc::{Refusal, Request};
use crate::node::Node;
use crate::shard::Group;

/// Deletes of a shard that segments may still have to be read through. Each costs every read a little.
const MAX_TOMBSTONES: u64 = 1000;
/// How long one attempt at a leader may take.
const ATTEMPT: Duration = Duration::from_secs(5);

/// Samples to delete.
#[derive(Clone, Debug, PartialEq)]
pub struct Delete {
    /// Whose.
    pub tenant: TenantId,
    /// Of which series; all must match.
    pub matchers: Vec<Matcher>,
    /// First timestamp.
    pub start_ms: TimestampMs,
    /// Last timestamp.
    pub end_ms: TimestampMs,
}

impl Delete {
    /// The bytes that go to a shard's leader: a command whose header the leader replaces by its own.
    fn encode(self) -> Bytes {
        let Self { tenant, matchers, start_ms, end_ms } = self;
        let body = CommandBody::DeleteSeries { tenant, matchers, start_ms, end_ms };
        Command { header: CommandHeader::default(), body }.encode()
    }
}

/// Log records to delete.
#[derive(Clone, Debug, PartialEq)]
pub struct LogDelete {
    /// Whose.
    pub tenant: TenantId,
    /// Which of them.
    pub filter: LogFilter,
    /// First time.
    pub start_ns: TimestampNs,
    /// Last time.
    pub end_ns: TimestampNs,
}

impl LogDelete {
    /// As those of [`Delete`].
    fn encode(self) -> Bytes {
        let Self { tenant, filter, start_ns, end_ns } = self;
        let body = CommandBody::DeleteLogs { tenant, filter, start_ns, end_ns };
        Command { header: CommandHeader::default(), body }.encode()
    }
}

/// What is asked of every shard's leader.
#[derive(Clone)]
enum Task {
    Delete(Bytes),
    Clean,
}

impl<E: Env> Node<E> {
    /// Deletes samples that were written before, on all shards. Ends when no linearizable read shows them any more.
    pub async fn delete_series(
        self: &Arc<Self>,
        delete: Delete,
        timeout: Duration,
    ) -> Result<(), ClusterError> {
        self.at_all_leaders("the delete", Task::Delete(delete.encode()), timeout).await
    }

    /// Deletes log records that were written before, on all shards. Ends when no linearizable read shows them any more.
    pub async fn delete_logs(
        self: &Arc<Self>,
        delete: LogDelete,
        timeout: Duration,
    ) -> Result<(), ClusterError> {
        self.at_all_leaders("the delete", Task::Delete(delete.encode()), timeout).await
    }

    /// Rewrites the segments that hold deleted samples or records without them, on all shards. Ends when the leaders have.
    pub async fn clean_tombstones(self: &Arc<Self>, timeout: Duration) -> Result<(), ClusterError> {
        self.at_all_leaders("cleaning", Task::Clean, timeout).await
    }

    async fn at_all_leaders(
        self: &Arc<Self>,
        what: &'static str,
        task: Task,
        timeout: Duration,
    ) -> Result<(), ClusterError> {
        let attempt = move |node: Arc<Self>, shard, left| {
            let task = task.clone();
            async move { node.at_leader(shard, &task, left).await }
        };
        self.on_all_shards(what, timeout, attempt).await
    }

    async fn at_leader(self: &Arc<Self>, shard: ShardId, task: &Task, left: Duration) -> Result<(), String> {
        match (self.leader_of(shard), task) {
            (None, _) => Err("no leader is known".to_owned()),
            (Some(leader), Task::Delete(command)) => {
                let attempt = left.min(ATTEMPT);
                if leader == self.id() {
                    let deleted = self.delete_here(shard, command, attempt).await;
                    return deleted.map_err(|refusal| refusal.to_string());
                }
                let request = Request::Delete { shard, command: command.clone() };
                self.context.peers.call::<()>(leader, &request, attempt).await.map_err(|e| e.to_string())
            }
            (Some(leader), Task::Clean) => {
                if leader == self.id() {
                    let group = self.group(shard).ok_or("the replica is not here")?;
                    return self.clean_here(&group, left).await;
                }
                let request = Request::Clean { shard };
                self.context.peers.call::<()>(leader, &request, left).await.map_err(|e| e.to_string())
            }
        }
    }

    /// Puts a delete into the log of a shard that this node leads, and waits until it is applied.
    pub(super) async fn delete_here(
        &self,
        shard: ShardId,
        command: &[u8],
        timeout: Duration,
    ) -> Result<(), Refusal> {
        let group = self.group(shard).ok_or(Refusal::NotHosted)?;
        let store = &group.shard.as_ref().ok_or(Refusal::NotHosted)?.store;
        let body = match Command::decode(command) {
            Ok(Command { body: body @ CommandBody::DeleteSeries { .. }, .. }) => body,
            Ok(Command { body: body @ CommandBody::DeleteLogs { .. }, .. }) => body,
            Ok(_) => return Err(Refusal::Malformed { part: "delete".to_owned() }),
            Err(e) => return Err(Refusal::Malformed { part: e.to_string() }),
        };
        let stats = store.stats();
        if stats.tombstones >= MAX_TOMBSTONES {
            return Err(Refusal::Unknown {
                reason: format!("{MAX_TOMBSTONES} deletes are outstanding: clean the tombstones first"),
            });
        }
        let command = Command { header: group.command_header(), body }.encode();
        match E::Runtime::timeout(timeout, group.submit(command)).await {
            Ok(Ok(_)) => {
                group.wake.wake();
                Ok(())
            }
            Ok(Err(e)) => Err(e.into_refusal()),
            Err(_) => Err(Refusal::Unknown { reason: format!("not committed within {timeout:?}") }),
        }
    }

    /// Rewrites what deletes have cut into, on a shard that this node leads.
    pub(super) async fn clean_here(&self, group: &Arc<Group<E>>, timeout: Duration) -> Result<(), String> {
        let Some(shard) = &group.shard else { return Ok(()) };
        let now = <E::Runtime as AsyncRuntime>::Instant::now;
        let deadline = now() + timeout;
        loop {
            let stats = shard.store.stats();
            if stats.tombstones == 0 {
                return Ok(());
            }
            if now() >= deadline || !group.is_leader() || self.context.is_stopping() {
                return Err("cleaning was begun but did not end here".to_owned());
            }
            self.step_store(group, &shard.store, |policy| policy.clean_tombstones = true).await;
            group.wake.wake();
            E::Runtime::sleep(super::POLL).await;
        }
    }
}
