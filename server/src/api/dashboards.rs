//! Dashboards over HTTP: list, read, save, delete, and versions.
//!
//! ```text
//! PUT /api/v1/dashboards/{uid}   {"expected": 3, "message": "why", "dashboard": {"title": ...}}
//!   200 {"uid", "version": 4}    409 with the newest version where it is not 3 any more; 0 is for a new one
//! ```
//!
//! A document is an object with a title; what else is in it is the page's business. It is stored as compact JSON in the
//! meta group, so every node has it, and a save that was answered survives what the cluster survives.

use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::response::Response;
use cluster::meta::dashboards::{
    DashboardHead, DashboardSave, DashboardVersion, Dashboards, MAX_DOCUMENT_BYTES, is_uid,
};
use futures_util::future::BoxFuture;
use protocol::error::ErrorKind;
use protocol::ids::TenantId;
use serde::Deserialize;
use serde_json::{Value, json};

use super::envelope::success;
use super::{App, Params, body};
use crate::auth::AuthContext;
use crate::error::ApiError;
use crate::runtime::now_ms;

/// Where dashboards are kept. [`crate::wiring`] implements it over the meta group.
pub trait DashboardStore: Send + Sync {
    /// Calls with what this node has of them.
    fn read(&self, look: &mut dyn FnMut(&Dashboards));
    /// Stores a version; its number.
    fn save(&self, save: DashboardSave) -> BoxFuture<'_, Result<u64, ApiError>>;
    /// Deletes a dashboard whose newest version is `expected`.
    fn delete(&self, tenant: TenantId, uid: String, expected: u64) -> BoxFuture<'_, Result<(), ApiError>>;
}

/// That the dashboard is not as who changes it saw it.
pub fn stale(uid: &str, expected: u64, newest: u64) -> ApiError {
    let message = match (expected, newest) {
        (_, 0) => format!("there is no dashboard {uid}; it may have been deleted"),
        (0, newest) => format!("there is a dashboard {uid} already, of version {newest}"),
        _ => format!("dashboard {uid} has version {newest}; what is saved was made from version {expected}"),
    };
    ApiError::new(ErrorKind::Conflict, message)
}

fn absent(uid: &str) -> ApiError {
    ApiError::new(ErrorKind::NotFound, format!("there is no dashboard {uid}"))
}

fn row(uid: &str, version: &DashboardVersion) -> Value {
    json!({
        "uid": uid,
        "title": version.head.title,
        "folder": version.head.folder,
        "tags": version.head.tags,
        "version": version.version,
        "updated": version.updated_ms,
        "message": version.message,
        "bytes": version.document.len(),
    })
}

/// A row with its document.
fn whole(uid: &str, version: &DashboardVersion) -> Result<Value, ApiError> {
    let mut out = row(uid, version);
    out["dashboard"] = serde_json::from_str(&version.document).map_err(|error| ApiError::internal(&error))?;
    Ok(out)
}

/// `GET /api/v1/dashboards`
pub async fn list(State(app): State<Arc<App>>, auth: AuthContext) -> Result<Response, ApiError> {
    let mut rows = Vec::new();
    app.backend()?.dashboards.read(&mut |all| {
        rows.extend(all.list(&auth.tenant).map(|(uid, version)| row(uid, version)));
    });
    Ok(success(&rows))
}

/// The versions of a dashboard as this node has them.
fn versions_of(app: &App, tenant: &TenantId, uid: &str) -> Result<Vec<Arc<DashboardVersion>>, ApiError> {
    let mut found = None;
    app.backend()?.dashboards.read(&mut |all| {
        found = all.versions(tenant, uid).map(|versions| versions.to_vec());
    });
    found.ok_or_else(|| absent(uid))
}

/// `GET /api/v1/dashboards/{uid}`
pub async fn get(
    State(app): State<Arc<App>>,
    auth: AuthContext,
    Path(uid): Path<String>,
) -> Result<Response, ApiError> {
    let versions = versions_of(&app, &auth.tenant, &uid)?;
    let newest = versions.last().ok_or_else(|| absent(&uid))?;
    Ok(success(&whole(&uid, newest)?))
}

/// `GET /api/v1/dashboards/{uid}/versions`
pub async fn versions(
    State(app): State<Arc<App>>,
    auth: AuthContext,
    Path(uid): Path<String>,
) -> Result<Response, ApiError> {
    let versions = versions_of(&app, &auth.tenant, &uid)?;
    let rows: Vec<Value> = versions.iter().rev().map(|version| row(&uid, version)).collect();
    Ok(success(&rows))
}

/// `GET /api/v1/dashboards/{uid}/versions/{version}`
pub async fn version(
    State(app): State<Arc<App>>,
    auth: AuthContext,
    Path((uid, number)): Path<(String, String)>,
) -> Result<Response, ApiError> {
    let number: u64 =
        number.parse().map_err(|_| ApiError::bad_data(format!("{number:?} is not a version's number")))?;
    let versions = versions_of(&app, &auth.tenant, &uid)?;
    let found = versions.iter().find(|version| version.version == number).ok_or_else(|| {
        ApiError::new(ErrorKind::NotFound, format!("version {number} of dashboard {uid} is not kept"))
    })?;
    Ok(success(&whole(&uid, found)?))
}

/// Body of a save.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SaveBody {
    expected: u64,
    #[serde(default)]
    message: String,
    dashboard: Value,
}

/// Title, folder and tags of a document, or what is wrong with it.
fn head_of(document: &Value) -> Result<DashboardHead, ApiError> {
    let bad = |what: &str| ApiError::bad_data(format!("the dashboard {what}"));
    let fields = document.as_object().ok_or_else(|| bad("is not an object"))?;
    let text = |name: &str| match fields.get(name) {
        None | Some(Value::Null) => Ok(String::new()),
        Some(Value::String(text)) => Ok(text.trim().to_owned()),
        Some(_) => Err(bad(&format!("has a {name} that is not text"))),
    };
    let title = text("title")?;
    if title.is_empty() {
        return Err(bad("has no title"));
    }
    let tags = match fields.get("tags") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(tags)) => tags
            .iter()
            .map(|tag| tag.as_str().map(str::to_owned).ok_or_else(|| bad("has a tag that is not text")))
            .collect::<Result<_, _>>()?,
        Some(_) => return Err(bad("has tags that are no list")),
    };
    Ok(DashboardHead { title, folder: text("folder")?, tags })
}

/// `PUT /api/v1/dashboards/{uid}`
pub async fn save(
    State(app): State<Arc<App>>,
    auth: AuthContext,
    Path(uid): Path<String>,
    request: Request,
) -> Result<Response, ApiError> {
    if !is_uid(&uid) {
        return Err(ApiError::bad_data(format!(
            "{uid:?} can not be a dashboard's name: 1 to 64 of [A-Za-z0-9_-]"
        )));
    }
    // What surrounds the document is short; white space in it is given some room.
    let limit = MAX_DOCUMENT_BYTES * 2;
    let bytes = body::collect(request.into_body(), limit, app.config.http.body_timeout.0).await?;
    let body: SaveBody =
        serde_json::from_slice(&bytes).map_err(|error| ApiError::bad_data(format!("the body: {error}")))?;
    let head = head_of(&body.dashboard)?;
    let document = body.dashboard.to_string();
    if document.len() > MAX_DOCUMENT_BYTES {
        let message = format!("the dashboard has {} bytes, allowed are {MAX_DOCUMENT_BYTES}", document.len());
        return Err(ApiError::new(ErrorKind::LimitExceeded, message));
    }
    let save = DashboardSave {
        tenant: auth.tenant,
        uid: uid.clone(),
        expected: body.expected,
        updated_ms: now_ms(),
        message: body.message,
        head,
        document,
    };
    let version = app.backend()?.dashboards.save(save).await?;
    Ok(success(&json!({"uid": uid, "version": version})))
}

/// `DELETE /api/v1/dashboards/{uid}`
pub async fn delete(
    State(app): State<Arc<App>>,
    auth: AuthContext,
    Path(uid): Path<String>,
    params: Params,
) -> Result<Response, ApiError> {
    params.required("expected")?;
    let expected = params.number("expected")?.unwrap_or_default();
    versions_of(&app, &auth.tenant, &uid)?;
    app.backend()?.dashboards.delete(auth.tenant, uid.clone(), expected).await?;
    Ok(success(&json!({"deleted": uid})))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_has_a_title() {
        let head = head_of(&json!({"title": " Hosts ", "folder": "infra", "tags": ["a", "b"], "panels": []}));
        let head = head.expect("a head");
        assert_eq!((head.title.as_str(), head.folder.as_str()), ("Hosts", "infra"));
        assert_eq!(head.tags, ["a", "b"]);
        let bad = [
            json!([]),
            json!({}),
            json!({"title": ""}),
            json!({"title": 1}),
            json!({"title": "a", "tags": "b"}),
            json!({"title": "a", "tags": [1]}),
            json!({"title": "a", "folder": {}}),
        ];
        for document in bad {
            assert_eq!(
                head_of(&document).expect_err("refused").kind(),
                ErrorKind::InvalidInput,
                "{document}"
            );
        }
    }

    #[test]
    fn a_conflict_says_what_is_there() {
        assert!(stale("a", 3, 5).to_string().contains("version 5"));
        assert!(stale("a", 0, 5).to_string().contains("already"));
        assert!(stale("a", 3, 0).to_string().contains("no dashboard"));
        assert_eq!(stale("a", 3, 5).kind(), ErrorKind::Conflict);
    }
}
