//! State of the cluster and what an operator may do to it.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use futures_util::future::BoxFuture;
use protocol::error::ErrorKind;
use protocol::ids::{NodeId, ShardId, TenantId};
use protocol::logs::{LogFilter, TimestampNs};
use protocol::matcher::Matcher;
use protocol::sample::TimestampMs;
use serde_json::{Value, json};
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
    /// Makes a join token that is good for so many milliseconds.
    fn make_join_token(&self, life_ms: i64) -> BoxFuture<'_, Result<String, ApiError>>;
    /// Lets nodes in by a token only, or whoever asks.
    fn join_by_token_only(&self, only: bool) -> BoxFuture<'_, Result<(), ApiError>>;
    /// Moves a replica.
    fn move_replica(&self, shard: ShardId, from: NodeId, to: NodeId) -> BoxFuture<'_, Result<(), ApiError>>;
    /// Hands a shard's leadership, which this node has, to another replica.
    fn transfer(&self, shard: ShardId) -> BoxFuture<'_, Result<(), ApiError>>;
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

/// How long a join token is good for, unless it is said.
const TOKEN_LIFE_MS: i64 = 3_600_000;

/// `/api/v1/cluster/token`
pub async fn make_join_token(State(app): State<Arc<App>>, params: Params) -> Result<Response, ApiError> {
    let life_ms = params.duration_ms("for")?.unwrap_or(TOKEN_LIFE_MS);
    let token = app.backend()?.operations.make_join_token(life_ms).await?;
    Ok(success(&json!({ "token": token })))
}

/// `/api/v1/cluster/join_by`
pub async fn join_by(State(app): State<Arc<App>>, params: Params) -> Result<Response, ApiError> {
    let only = match params.required("what")? {
        "token" => true,
        "address" => false,
        other => {
            let reason = format!("what: {other:?} is neither `token` nor `address`");
            return Err(ApiError::new(ErrorKind::InvalidInput, reason));
        }
    };
    app.backend()?.operations.join_by_token_only(only).await?;
    Ok(success(&Value::Null))
}

/// `/api/v1/cluster/move`
pub async fn move_replica(State(app): State<Arc<App>>, params: Params) -> Result<Response, ApiError> {
    params.required("shard")?;
    let shard = ShardId(params.number("shard")?.unwrap_or_default());
    let (from, to) = (node(&params, "from")?, node(&params, "to")?);
    app.backend()?.operations.move_replica(shard, from, to).await?;
    Ok(success(&Value::Null))
}

/// `/api/v1/cluster/transfer`
pub async fn transfer(State(app): State<Arc<App>>, params: Params) -> Result<Response, ApiError> {
    params.required("shard")?;
    let shard = ShardId(params.number("shard")?.unwrap_or_default());
    app.backend()?.operations.transfer(shard).await?;
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
