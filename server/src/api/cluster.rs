//! State of the cluster and what an operator may do to it.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use futures_util::future::BoxFuture;
use protocol::ids::{NodeId, ShardId, TenantId};
use protocol::logs::{LogFilter, TimestampNs};
use protocol::matcher::Matcher;
use protocol::sample::TimestampMs;
use serde_json::Value;
use storage::manifest::SegmentMeta;

use super::envelope::{json_response, success};
use super::{App, Params};
use crate::error::ApiError;

/// What the HTTP surface asks of the node. [`crate::wiring`] implements it, tests imitate it.
pub trait Operations: Send + Sync {
    /// Nothing when the local replicas have caught up, else why not. Does not block and asks no peer.
    fn readiness(&self) -> Result<(), String>;
    /// Body of `/cluster/status`.
    fn status(&self) -> BoxFuture<'_, Result<Value, ApiError>>;
    /// The segments of the local replicas that hold samples.
    fn segments(&self) -> Vec<SegmentMeta>;
    /// Flushes and merges every shard on every replica.
    fn flush(&self) -> BoxFuture<'_, Result<(), ApiError>>;
    /// Deletes samples of a tenant's series in a time range.
    fn delete_series(
        &self,
        tenant: TenantId,
        matchers: Vec<Matcher>,
        range: (TimestampMs, TimestampMs),
    ) -> BoxFuture<'_, Result<(), ApiError>>;
    /// Deletes records of a tenant's logs that a filter finds, in a time range.
    fn delete_logs(
        &self,
        tenant: TenantId,
        filter: LogFilter,
        range: (TimestampNs, TimestampNs),
    ) -> BoxFuture<'_, Result<(), ApiError>>;
    /// Gives back the space of what is deleted.
    fn clean_tombstones(&self) -> BoxFuture<'_, Result<(), ApiError>>;
    /// Moves a replica.
    fn move_replica(&self, shard: ShardId, from: NodeId, to: NodeId) -> BoxFuture<'_, Result<(), ApiError>>;
    /// Moves all replicas off a node.
    fn drain(&self, node: NodeId) -> BoxFuture<'_, Result<(), ApiError>>;
    /// Removes a node for good.
    fn remove(&self, node: NodeId) -> BoxFuture<'_, Result<(), ApiError>>;
}

/// `/cluster/status`
pub async fn status(State(app): State<Arc<App>>) -> Result<Response, ApiError> {
    Ok(json_response(&app.backend()?.operations.status().await?))
}

/// `/api/v1/admin/flush`
pub async fn flush(State(app): State<Arc<App>>) -> Result<Response, ApiError> {
    app.backend()?.operations.flush().await?;
    Ok(success(&Value::Null))
}

fn node(params: &Params, name: &str) -> Result<NodeId, ApiError> {
    params.required(name)?;
    Ok(NodeId(params.number(name)?.unwrap_or_default()))
}

/// `/api/v1/cluster/move`
pub async fn move_replica(State(app): State<Arc<App>>, params: Params) -> Result<Response, ApiError> {
    params.required("shard")?;
    let shard = ShardId(params.number("shard")?.unwrap_or_default());
    let (from, to) = (node(&params, "from")?, node(&params, "to")?);
    app.backend()?.operations.move_replica(shard, from, to).await?;
    Ok(success(&Value::Null))
}

/// `/api/v1/cluster/drain`
pub async fn drain(State(app): State<Arc<App>>, params: Params) -> Result<Response, ApiError> {
    let node = node(&params, "node")?;
    app.backend()?.operations.drain(node).await?;
    Ok(success(&Value::Null))
}

/// `/api/v1/cluster/remove`
pub async fn remove(State(app): State<Arc<App>>, params: Params) -> Result<Response, ApiError> {
    let node = node(&params, "node")?;
    app.backend()?.operations.remove(node).await?;
    Ok(success(&Value::Null))
}
