//! `/api/v1/sql`: a statement in, rows out. What statements mean is in `sql`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ::sql::format::{Format, encode};
use ::sql::{Parameter, Parameters, SqlQuery};
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use query::CancelFlag;
use serde_json::Value;

use super::active::Asked;
use super::read::Freshness;
use super::{App, Params};
use crate::auth::AuthContext;
use crate::error::ApiError;

/// `/api/v1/sql`
pub async fn sql(
    State(app): State<Arc<App>>,
    auth: AuthContext,
    freshness: Freshness,
    params: Params,
) -> Result<Response, ApiError> {
    let text = params.required("query")?.to_owned();
    let name = params.get("format").unwrap_or("json");
    let format = Format::from_name(name)
        .ok_or_else(|| ApiError::bad_data(format!("format: {name:?} is not json, ndjson, csv or arrow")))?;
    let timeout = params.duration_ms("timeout")?.map(|ms| Duration::from_millis(ms.unsigned_abs()));
    let cancel = CancelFlag::default();
    let asked = Asked::list(&auth.tenant, "sql", text.clone());
    let query = SqlQuery {
        text,
        parameters: parameters(&params)?,
        tenant: auth.tenant,
        consistency: freshness.0,
        timeout,
        cancel: cancel.clone(),
    };
    let backend = app.backend()?;
    let engine = backend.sql.clone();
    let answered = backend.queries.run_any(asked, cancel, move |_, notes| async move {
        let rows = engine.execute(&query).await?;
        // Writing a large answer is work for the query's threads, too.
        let (body, count) = encode(rows, format).await?;
        notes.count(count);
        Ok::<_, ::sql::SqlError>(body)
    });
    let mut response = Response::new(Body::from(answered.await?));
    let media_type = HeaderValue::from_static(format.media_type());
    response.headers_mut().insert(header::CONTENT_TYPE, media_type);
    Ok(response)
}

/// The values of `params`.
fn parameters(params: &Params) -> Result<Parameters, ApiError> {
    let Some(text) = params.get("params") else { return Ok(Parameters::new()) };
    let wrong = |what: String| ApiError::bad_data(format!("invalid parameter \"params\": {what}"));
    let value = |name: &str, value: Value| match value {
        Value::Null => Ok(Parameter::Null),
        Value::Bool(value) => Ok(Parameter::Bool(value)),
        Value::Number(number) => Ok(Parameter::Number(number.to_string())),
        Value::String(text) => Ok(Parameter::Text(text)),
        Value::Array(_) | Value::Object(_) => Err(wrong(format!("the value of {name} is no plain value"))),
    };
    match serde_json::from_str(text).map_err(|error| wrong(error.to_string()))? {
        Value::Array(list) => {
            let numbered = list.into_iter().enumerate().map(|(at, item)| ((at + 1).to_string(), item));
            numbered.map(|(name, item)| Ok((name.clone(), value(&name, item)?))).collect()
        }
        Value::Object(map) => {
            let named: BTreeMap<String, Value> = map.into_iter().collect();
            named.into_iter().map(|(name, item)| Ok((name.clone(), value(&name, item)?))).collect()
        }
        _ => Err(wrong("neither an array nor an object".to_owned())),
    }
}
