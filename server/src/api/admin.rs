//! Deleting data, as Prometheus' admin API does it.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use query::promql::parser::parse_selector;
use query::source::TimeRange;

use super::{App, Params};
use crate::auth::AuthContext;
use crate::error::ApiError;

/// `/api/v1/admin/tsdb/delete_series`
pub async fn delete_series(
    State(app): State<Arc<App>>,
    auth: AuthContext,
    params: Params,
) -> Result<StatusCode, ApiError> {
    let selectors = params
        .all("match[]")
        .map(|text| {
            parse_selector(text)
                .map_err(|e| ApiError::bad_data(format!("invalid parameter \"match[]\": {e}")))
        })
        .collect::<Result<Vec<_>, _>>()?;
    if selectors.is_empty() {
        return Err(ApiError::bad_data("no match[] parameter provided"));
    }
    let start = params.time_ms("start")?.unwrap_or(TimeRange::ALL.start);
    let end = params.time_ms("end")?.unwrap_or(TimeRange::ALL.end);
    if end < start {
        return Err(ApiError::bad_data("end timestamp must not be before start time"));
    }
    let operations = &app.backend()?.operations;
    for matchers in selectors {
        operations.delete_series(auth.tenant.clone(), matchers, (start, end)).await?;
    }
    Ok(StatusCode::NO_CONTENT)
}

/// `/api/v1/admin/tsdb/clean_tombstones`
pub async fn clean_tombstones(State(app): State<Arc<App>>) -> Result<StatusCode, ApiError> {
    app.backend()?.operations.clean_tombstones().await?;
    Ok(StatusCode::NO_CONTENT)
}
