//! `/api/v1/sql`: a statement in, rows out. What statements mean is in `sql`.
//!
//! ```text
//! thread of the query: rows ─► pieces of the answer, two may wait ─► the client
//! ```
//!
//! A short answer is sent whole, with its length. Of a long one the client gets the first pieces while the last rows are
//! being read. Then it is too late to answer with an error: a statement that fails breaks the connection off, so that no
//! client takes a part for the whole.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use ::sql::format::{Format, encode};
use ::sql::{Parameter, Parameters, SqlError, SqlQuery};
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use query::CancelFlag;
use serde_json::Value;
use tokio::sync::mpsc;

use super::active::{Asked, Notes};
use super::read::Freshness;
use super::{App, Params};
use crate::auth::AuthContext;
use crate::error::ApiError;

/// An answer of up to so many bytes is sent whole.
const SHORT_BYTES: usize = 1 << 20;
/// Pieces that may wait.
const WAITING: usize = 2;

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
    let (sender, pieces) = mpsc::channel(WAITING);
    let queries = backend.queries.clone();
    let made = move |_, notes: Arc<Notes>| async move {
        let rows = engine.execute(&query).await?;
        // Writing a large answer is work for the query's threads, too.
        let give = |piece| {
            let sender = sender.clone();
            async move { sender.send(piece).await.is_ok() }
        };
        match encode(rows, format, give).await? {
            Some(count) => notes.count(count),
            None => return Err(SqlError::canceled()),
        }
        Ok::<_, SqlError>(())
    };
    let run = async move { queries.run_any(asked, cancel, made).await };
    let answering = Answering { pieces, asked: Some(Box::pin(run)) };
    let mut response = Response::new(answering.into_body().await?);
    let media_type = HeaderValue::from_static(format.media_type());
    response.headers_mut().insert(header::CONTENT_TYPE, media_type);
    Ok(response)
}

/// A statement that is being answered. Dropping it stops the statement.
struct Answering {
    pieces: mpsc::Receiver<Bytes>,
    /// The query; none once it has ended well.
    asked: Option<BoxFuture<'static, Result<(), ApiError>>>,
}

impl Answering {
    /// The next piece; nothing at the end.
    async fn next(&mut self) -> Result<Option<Bytes>, ApiError> {
        if let Some(asked) = &mut self.asked {
            tokio::select! {
                biased;
                Some(piece) = self.pieces.recv() => return Ok(Some(piece)),
                outcome = asked => {
                    self.asked = None;
                    outcome?;
                }
            }
        }
        // What it gave before it ended.
        Ok(self.pieces.try_recv().ok())
    }

    /// The whole answer, if it is short, or its beginning and what makes the rest.
    async fn into_body(mut self) -> Result<Body, ApiError> {
        let (mut first, mut bytes) = (VecDeque::new(), 0);
        while bytes <= SHORT_BYTES {
            match self.next().await? {
                Some(piece) => {
                    bytes += piece.len();
                    first.push_back(piece);
                }
                None => {
                    let pieces: Vec<Bytes> = first.into();
                    return Ok(Body::from(pieces.concat()));
                }
            }
        }
        let pieces = futures_util::stream::try_unfold((first, self), |(mut first, mut rest)| async move {
            let piece = match first.pop_front() {
                Some(piece) => Some(piece),
                None => rest.next().await?,
            };
            Ok::<_, ApiError>(piece.map(|piece| (piece, (first, rest))))
        });
        Ok(Body::from_stream(pieces))
    }
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
