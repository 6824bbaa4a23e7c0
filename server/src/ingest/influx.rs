//! InfluxDB's line protocol: `POST /write` (version 1) and `POST /api/v2/write` (version 2).
//!
//! | answer | when |
//! |---|---|
//! | 204 | everything is durable on a quorum and applied; fields that hold text are no samples, and their number is in a header |
//! | 400 | lines were refused, by number, and *the rest is written* |
//! | 413, 415 | the body is too long, or of another encoding |
//! | 503 | this node is full or a shard's outcome is unknown: send the same again |
//!
//! Clients of version 1 read the error from `{"error": ...}` and from a header, those of version 2 from `code` and
//! `message`. The database of version 1 and the bucket of version 2 become the label `db`. A line without time gets
//! that of its arrival: sent again, it is another sample.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use cluster::router::WriteReceipt;
use protocol::ids::TenantId;
use protocol::influx::{self, Precision};
use serde_json::json;

use super::Ingest;
use super::decompress::{Coding, decompress};
use super::remote_write::COMMIT_TOKEN_HEADER;
use super::request::{Failure, is_short};
use crate::runtime::now_ms;

/// Version that old clients look for: the last of the first.
const VERSION: HeaderValue = HeaderValue::from_static("1.8.10");
const VERSION_HEADER: HeaderName = HeaderName::from_static("x-influxdb-version");
const ERROR_HEADER: HeaderName = HeaderName::from_static("x-influxdb-error");
const TEXT_FIELDS_HEADER: HeaderName = HeaderName::from_static("x-pharos-text-fields-dropped");

/// Labels of lines are written out once for each field of them.
const DECODED_FACTOR: usize = 4;

/// Which API a request follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Api {
    /// `/write`
    V1,
    /// `/api/v2/write`
    V2,
}

/// What the query string says.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    /// Unit of timestamps.
    pub precision: &'a str,
    /// Database or bucket.
    pub database: &'a str,
}

impl Ingest {
    /// Answers one write.
    pub async fn influx_write(
        &self,
        api: Api,
        tenant: &TenantId,
        query: Query<'_>,
        headers: &HeaderMap,
        body: Body,
    ) -> Response {
        let mut response = match self.write_lines(tenant, query, headers, body).await {
            Ok((receipt, text_fields)) => answer(api, &receipt, text_fields),
            Err(failure) => failed(api, failure.status, &failure.message),
        };
        response.headers_mut().insert(VERSION_HEADER, VERSION);
        response
    }

    async fn write_lines(
        &self,
        tenant: &TenantId,
        query: Query<'_>,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<(WriteReceipt, u64), Failure> {
        const PROTOCOL: &str = "influx";
        let unsupported = |name| {
            let message =
                format!("content encoding {name} is not supported; send gzip, zstd, deflate, snappy or none");
            Failure::unsupported(message)
        };
        let coding = Coding::of_headers(headers).map_err(unsupported)?;
        let Some(precision) = Precision::from_name(query.precision) else {
            let message = format!("precision {:?} is not known: ns, us, ms, s, m or h", query.precision);
            return Err(Failure::new(protocol::error::ErrorKind::InvalidInput, message));
        };
        let limits = self.settings.limits;
        let mut share = self.budget.share();
        let body = self.receive(body, &mut share, limits.max_body_bytes).await?;
        self.metrics.received(PROTOCOL, body.len());
        let (writer, tenant, database) =
            (std::sync::Arc::clone(&self.writer), tenant.clone(), query.database.to_owned());
        let len = body.len();
        let work = move || {
            let arrived = body.len();
            let lines = decompress(coding, &body, limits.max_body_bytes, |len| share.grow_to(arrived + len))?;
            drop(body);
            if !share.grow_to(arrived + lines.len().saturating_mul(DECODED_FACTOR)) {
                return Err(Failure::full());
            }
            let label = Some(("db", database.as_str())).filter(|(_, database)| !database.is_empty());
            let decoded =
                influx::decode(&lines, precision, now_ms(), label, writer.fingerprint_key(), &limits)?;
            Ok((writer.prepare(&tenant, decoded.batch)?, decoded.text_fields, share))
        };
        let (prepared, text_fields, _share) = self.decode_with(is_short(len), work).await?;
        let receipt = self.writer.deliver(prepared).await?;
        self.metrics.written(PROTOCOL, [receipt.samples, receipt.histograms, receipt.exemplars]);
        self.metrics.rejected(PROTOCOL, &receipt.rejections);
        Ok((receipt, text_fields))
    }
}

fn answer(api: Api, receipt: &WriteReceipt, text_fields: u64) -> Response {
    let mut response = match receipt.rejections.is_empty() {
        true => StatusCode::NO_CONTENT.into_response(),
        false => failed(api, StatusCode::BAD_REQUEST, &format!("partial write: {}", receipt.rejections)),
    };
    let headers = response.headers_mut();
    if text_fields > 0 {
        headers.insert(TEXT_FIELDS_HEADER, text_fields.into());
    }
    if !receipt.token.is_empty()
        && let Ok(token) = HeaderValue::from_str(&receipt.token.to_string())
    {
        headers.insert(HeaderName::from_static(COMMIT_TOKEN_HEADER), token);
    }
    response
}

fn failed(api: Api, status: StatusCode, message: &str) -> Response {
    let body = match api {
        Api::V1 => json!({"error": message}),
        Api::V2 => json!({"code": code(status), "message": message}),
    };
    let mut response =
        (status, [(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response();
    let headers = response.headers_mut();
    if api == Api::V1 {
        let line: String = message.chars().map(|c| if c.is_ascii_graphic() { c } else { ' ' }).collect();
        if let Ok(line) = HeaderValue::from_str(&line) {
            headers.insert(ERROR_HEADER, line);
        }
    }
    if matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// The code of version 2 for a status.
fn code(status: StatusCode) -> &'static str {
    match status {
        StatusCode::PAYLOAD_TOO_LARGE => "request too large",
        StatusCode::TOO_MANY_REQUESTS => "too many requests",
        StatusCode::SERVICE_UNAVAILABLE => "unavailable",
        StatusCode::INTERNAL_SERVER_ERROR => "internal error",
        _ => "invalid",
    }
}

/// `/ping`: clients ask it whether a server is there, and which.
pub fn ping() -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    response.headers_mut().insert(VERSION_HEADER, VERSION);
    response
}

/// `/health`, as version 2 has it.
pub fn health(is_ready: bool) -> Response {
    let (status, word) = match is_ready {
        true => (StatusCode::OK, "pass"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "fail"),
    };
    let message = if is_ready { "ready for writes" } else { "the node is starting" };
    let body = json!({
        "name": "influxdb", "status": word, "message": message, "checks": [], "version": env!("CARGO_PKG_VERSION"),
    });
    (status, [(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

/// `/query`: there is no InfluxQL here, but clients create their database before they write, and list those there are.
pub fn query(statement: &str) -> Response {
    let words: Vec<String> = statement.split_whitespace().map(str::to_ascii_uppercase).collect();
    let result = match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["CREATE", "DATABASE", ..] => json!({"statement_id": 0}),
        ["SHOW", "DATABASES", ..] => {
            json!({"statement_id": 0, "series": [{"name": "databases", "columns": ["name"], "values": []}]})
        }
        _ => {
            return failed(
                Api::V1,
                StatusCode::BAD_REQUEST,
                "InfluxQL is not spoken here; query with PromQL",
            );
        }
    };
    let mut response =
        ([(header::CONTENT_TYPE, "application/json")], json!({"results": [result]}).to_string())
            .into_response();
    response.headers_mut().insert(VERSION_HEADER, VERSION);
    response
}
