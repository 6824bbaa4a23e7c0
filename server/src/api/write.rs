//! Routes into the ways in for data; what they do is in [`crate::ingest`].

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;

use super::App;
use crate::auth::AuthContext;
use crate::error::ApiError;

/// `/api/v1/write`
pub async fn remote_write(
    State(app): State<Arc<App>>,
    auth: AuthContext,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    Ok(app.backend()?.ingest.remote_write(&auth.tenant, &headers, body).await)
}
