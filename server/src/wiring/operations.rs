//! What the HTTP surface asks of the node.

use std::sync::Arc;
use std::time::Duration;

use cluster::error::ClusterError;
use cluster::node::{Delete, LogDelete, Node};
use cluster::status::{ClusterStatus, ShardStatus};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use protocol::error::ErrorKind;
use protocol::ids::{META_GROUP, NodeId, ShardId, TenantId};
use protocol::logs::{LogFilter, TimestampNs};
use protocol::matcher::Matcher;
use protocol::sample::TimestampMs;
use serde_json::{Value, json};
use storage::manifest::SegmentMeta;

use crate::api::cluster::Operations;
use crate::error::{ApiError, chain};
use crate::runtime::TokioEnv;

/// How long a status waits for nodes that do not answer.
const STATUS_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a delete may look for leaders.
const DELETE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the meta group may take over a token.
const TOKEN_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a flush or a membership change may take while its client waits.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(600);

/// A node, as its operators see it.
pub struct NodeOperations(pub Arc<Node<TokioEnv>>);

pub(super) fn answer<T>(result: Result<T, ClusterError>) -> Result<T, ApiError> {
    result.map_err(|error| match error.kind() {
        ErrorKind::Internal | ErrorKind::Corruption => ApiError::internal(&error),
        kind => ApiError::new(kind, chain(&error)),
    })
}

impl Operations for NodeOperations {
    fn readiness(&self) -> Result<(), String> {
        if self.0.is_ready() { Ok(()) } else { Err(self.unready()) }
    }

    fn status(&self) -> BoxFuture<'_, Result<Value, ApiError>> {
        async move { Ok(render(&self.0.status(STATUS_TIMEOUT).await)) }.boxed()
    }

    fn segments(&self) -> Vec<SegmentMeta> {
        self.0
            .segments()
            .into_iter()
            .map(|(_, meta)| meta)
            .filter(|meta| meta.partition.is_metrics())
            .collect()
    }

    fn flush(&self) -> BoxFuture<'_, Result<(), ApiError>> {
        async move { answer(self.0.force_flush(CHANGE_TIMEOUT).await) }.boxed()
    }

    fn delete_series(
        &self,
        tenant: TenantId,
        matchers: Vec<Matcher>,
        (start_ms, end_ms): (TimestampMs, TimestampMs),
    ) -> BoxFuture<'_, Result<(), ApiError>> {
        let delete = Delete { tenant, matchers, start_ms, end_ms };
        async move { answer(self.0.delete_series(delete, DELETE_TIMEOUT).await) }.boxed()
    }

    fn delete_logs(
        &self,
        tenant: TenantId,
        filter: LogFilter,
        (start_ns, end_ns): (TimestampNs, TimestampNs),
    ) -> BoxFuture<'_, Result<(), ApiError>> {
        let delete = LogDelete { tenant, filter, start_ns, end_ns };
        async move { answer(self.0.delete_logs(delete, DELETE_TIMEOUT).await) }.boxed()
    }

    fn clean_tombstones(&self) -> BoxFuture<'_, Result<(), ApiError>> {
        async move { answer(self.0.clean_tombstones(CHANGE_TIMEOUT).await) }.boxed()
    }

    fn make_join_token(&self, life_ms: i64) -> BoxFuture<'_, Result<String, ApiError>> {
        let life = Duration::from_millis(u64::try_from(life_ms).unwrap_or_default());
        async move { Ok(answer(self.0.make_join_token(life, TOKEN_TIMEOUT).await)?.to_string()) }.boxed()
    }

    fn join_by_token_only(&self, only: bool) -> BoxFuture<'_, Result<(), ApiError>> {
        async move { answer(self.0.join_by_token_only(only, TOKEN_TIMEOUT).await) }.boxed()
    }

    fn move_replica(&self, shard: ShardId, from: NodeId, to: NodeId) -> BoxFuture<'_, Result<(), ApiError>> {
        async move { answer(self.0.move_replica(shard, from, to, CHANGE_TIMEOUT).await) }.boxed()
    }

    fn transfer(&self, shard: ShardId) -> BoxFuture<'_, Result<(), ApiError>> {
        async move {
            if !self.0.leads(shard) {
                return Err(ApiError::new(
                    ErrorKind::Conflict,
                    format!("this node does not lead shard {shard}"),
                ));
            }
            self.0.transfer_leader(shard).await;
            match self.0.leads(shard) {
                false => Ok(()),
                true => Err(ApiError::new(
                    ErrorKind::Unavailable,
                    format!("no replica can take shard {shard} over"),
                )),
            }
        }
        .boxed()
    }

    fn drain(&self, node: NodeId) -> BoxFuture<'_, Result<(), ApiError>> {
        async move { answer(self.0.drain(node, CHANGE_TIMEOUT).await) }.boxed()
    }

    fn remove(&self, node: NodeId) -> BoxFuture<'_, Result<(), ApiError>> {
        async move { answer(self.0.remove(node, CHANGE_TIMEOUT).await) }.boxed()
    }
}

impl NodeOperations {
    /// In words, which replicas keep the node from being ready.
    fn unready(&self) -> String {
        let status = self.0.node_status();
        let troubles: Vec<String> = status
            .groups
            .iter()
            .filter_map(|group| {
                let behind = group.pulse.last_log.saturating_sub(group.pulse.applied);
                match &group.error {
                    Some(error) => Some(format!("group {} does not run: {error}", group.pulse.group)),
                    None if behind > 0 => {
                        Some(format!("group {} is {behind} entries behind", group.pulse.group))
                    }
                    None => None,
                }
            })
            .collect();
        if troubles.is_empty() {
            "the replicas of this node are being opened".to_owned()
        } else {
            troubles.join("; ")
        }
    }
}

/// `/cluster/status`: the cluster's own account with what scripts look for put where they look. `shards` holds the data
/// shards, `meta` the meta group, `local` the digests of this node's replicas.
fn render(status: &ClusterStatus) -> Value {
    let nodes: Vec<Value> = status
        .nodes
        .iter()
        .map(|member| {
            let mut row = json!({
                "id": member.id,
                "addr": member.addr,
                "state": member.state,
                "epoch": member.epoch,
                "reachable": member.reachable,
            });
            if let Some(own) = &member.status {
                row["ready"] = json!(own.ready);
                row["version"] = json!(own.version);
                row["clock_offset_ms"] = json!(own.clock_offset_ms);
                row["clock_disagrees"] = json!(own.clock_disagrees);
                row["log_bytes"] = json!(own.log.disk_bytes);
            }
            row
        })
        .collect();
    let local: Vec<Value> = status
        .nodes
        .iter()
        .filter(|member| member.id == status.node)
        .filter_map(|member| member.status.as_ref())
        .flat_map(|own| &own.groups)
        .filter(|group| group.pulse.group != META_GROUP)
        .map(|group| {
            let digest = group.data.as_ref().map(|d| json!({"op_index": d.digest_index, "digest": d.digest}));
            json!({
                "shard": group.pulse.group,
                "role": group.pulse.role,
                "term": group.pulse.term,
                "applied": group.pulse.applied,
                "digest": digest,
                "error": group.error,
            })
        })
        .collect();
    let (meta, shards): (Vec<&ShardStatus>, Vec<&ShardStatus>) =
        status.shards.iter().partition(|shard| shard.id == META_GROUP);
    json!({
        "cluster_id": status.cluster_id,
        "node": status.node,
        "meta_leader": status.meta_leader,
        "epoch": status.epoch,
        "nodes": nodes,
        "meta": meta.first().map(|shard| shard_row(shard)),
        "shards": shards.into_iter().map(shard_row).collect::<Vec<_>>(),
        "local": local,
    })
}

fn shard_row(shard: &ShardStatus) -> Value {
    let mut row = serde_json::to_value(shard).unwrap_or_default();
    // As far as anybody has come: what a chaos scenario takes for the traffic of a shard.
    row["applied"] = json!(shard.replicas.iter().map(|replica| replica.applied).max());
    row
}
