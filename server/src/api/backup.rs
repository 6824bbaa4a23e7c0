//! What `pharos backup` and `pharos restore` ask of a node. Any node answers for all shards.
//!
//! ```text
//! GET  /api/v1/admin/backup/state                        the meta state's part of a backup, JSON
//! POST /api/v1/admin/backup/shard?shard=3                flushes the shard; its manifest
//! GET  /api/v1/admin/backup/file?shard=3&file=..&bytes=..&offset=..   a piece of a file; 404 when nobody has it any more
//! POST /api/v1/admin/restore/logs                        records, written as any others; Idempotency-Key
//! POST /api/v1/admin/restore/settings                    cluster settings that are not set yet, JSON
//! ```
//!
//! Metrics are restored by remote write 2.0 and dashboards by their own API: only what no protocol carries without loss
//! has a way of its own.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use protocol::error::ErrorKind;
use protocol::ids::ShardId;
use storage::manifest::FileRef;

use super::envelope::success;
use super::{App, Params, body};
use crate::auth::AuthContext;
use crate::backup::State as BackupState;
use crate::error::ApiError;

/// Longest settings document.
const MAX_SETTINGS_BYTES: usize = 16 << 20;

/// What the node gives a backup. [`crate::wiring`] implements it.
pub trait BackupSource: Send + Sync {
    /// The meta state's part.
    fn state(&self) -> BackupState;
    /// Flushes a shard and gives its manifest.
    fn capture(&self, shard: ShardId) -> BoxFuture<'_, Result<Bytes, ApiError>>;
    /// A piece of a file; `None` if no replica has it any more.
    fn file_piece(
        &self,
        shard: ShardId,
        file: FileRef,
        offset: u64,
    ) -> BoxFuture<'_, Result<Option<Bytes>, ApiError>>;
    /// Sets what is not set yet.
    fn restore_settings(&self, values: BTreeMap<String, String>) -> BoxFuture<'_, Result<(), ApiError>>;
}

fn octets(bytes: Bytes) -> Response {
    ([(header::CONTENT_TYPE, "application/octet-stream")], bytes).into_response()
}

fn shard_of(params: &Params) -> Result<ShardId, ApiError> {
    params.required("shard")?;
    Ok(ShardId(params.number("shard")?.unwrap_or_default()))
}

/// `GET /api/v1/admin/backup/state`
pub async fn state(State(app): State<Arc<App>>) -> Result<Response, ApiError> {
    Ok(success(&app.backend()?.backup.state()))
}

/// `POST /api/v1/admin/backup/shard`
pub async fn shard(State(app): State<Arc<App>>, params: Params) -> Result<Response, ApiError> {
    Ok(octets(app.backend()?.backup.capture(shard_of(&params)?).await?))
}

/// `GET /api/v1/admin/backup/file`
pub async fn file(State(app): State<Arc<App>>, params: Params) -> Result<Response, ApiError> {
    let shard = shard_of(&params)?;
    let name = params.required("file")?;
    let (bytes, offset) = (params.number("bytes")?.unwrap_or(0), params.number("offset")?.unwrap_or(0));
    let file = FileRef::parse(name, bytes).ok_or_else(|| {
        ApiError::bad_data(format!("invalid parameter \"file\": {name:?} is no file's name"))
    })?;
    match app.backend()?.backup.file_piece(shard, file, offset).await? {
        Some(piece) => Ok(octets(piece)),
        None => Err(ApiError::new(ErrorKind::NotFound, format!("shard {shard} has no file {name} any more"))),
    }
}

/// `POST /api/v1/admin/restore/logs`
pub async fn restore_logs(
    State(app): State<Arc<App>>,
    auth: AuthContext,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    Ok(app.backend()?.ingest.restored_logs(&auth.tenant, &headers, body).await)
}

/// `POST /api/v1/admin/restore/settings`
pub async fn restore_settings(State(app): State<Arc<App>>, body: Body) -> Result<Response, ApiError> {
    let bytes = body::collect(body, MAX_SETTINGS_BYTES, app.config.http.body_timeout.0).await?;
    let values: BTreeMap<String, String> = serde_json::from_slice(&bytes)
        .map_err(|error| ApiError::bad_data(format!("the body is no object of texts: {error}")))?;
    app.backend()?.backup.restore_settings(values).await?;
    Ok(success(&serde_json::Value::Null))
}
