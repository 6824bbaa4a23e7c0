//! `POST /api/v1/write`: Prometheus remote write 1.0 and 2.0.
//!
//! | answer | when |
//! |---|---|
//! | 204 | everything is durable on a quorum and applied; with the `*-Written` counts and the commit token |
//! | 400 | the body is corrupt and nothing is written; or some rows were refused and *the rest is written*: counts and the first offences are named |
//! | 408, 413, 415 | the body did not come, is too long, is of another type or encoding |
//! | 503 | this node is full or a shard's outcome is unknown: send the same again |
//!
//! Senders retry every 5xx for ever and 429 only when told to, and no other 4xx at all. So what can never succeed is a 4xx,
//! what may is a 503, and nothing here is a 429. Errors are one line of text, which senders put into their logs.
//!
//! A sender of 2.0 takes a 2xx without the counts for a receiver that did not understand it, so they are always there.
//! Old senders name neither type nor encoding; they mean 1.0 and snappy.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use cluster::router::{Prepared, RouteError, WriteReceipt};
use protocol::error::ErrorKind;
use protocol::ids::TenantId;
use protocol::remote_write::{DecodeError, Version, decode, decompress, decompressed_len};

use super::Ingest;
use super::budget::Share;
use super::request::full;
use crate::error::{ApiError, outside};

/// Header with the commit token of a write.
pub const COMMIT_TOKEN_HEADER: &str = "x-pharos-commit-token";

const SAMPLES_WRITTEN: HeaderName = HeaderName::from_static("x-prometheus-remote-write-samples-written");
const HISTOGRAMS_WRITTEN: HeaderName =
    HeaderName::from_static("x-prometheus-remote-write-histograms-written");
const EXEMPLARS_WRITTEN: HeaderName = HeaderName::from_static("x-prometheus-remote-write-exemplars-written");

/// Bodies up to this length, decompressed, are decoded where they arrive; it takes some 0.2 ms. Longer ones go to the
/// pool, so that they do not hold up other connections.
const IN_PLACE_BYTES: usize = 1 << 20;

/// A decoded request takes at most about this many times its bytes: the body and the lists over it.
const DECODED_FACTOR: usize = 2;

impl Ingest {
    /// Answers one request.
    pub async fn remote_write(&self, tenant: &TenantId, headers: &HeaderMap, body: Body) -> Response {
        let version = match check_types(headers) {
            Ok(version) => version,
            Err(failure) => return failure.into_response(),
        };
        match self.write(tenant, version, body).await {
            Ok(receipt) => answer(&receipt),
            Err(failure) => failure.into_response(),
        }
    }

    async fn write(&self, tenant: &TenantId, version: Version, body: Body) -> Result<WriteReceipt, Failure> {
        let protocol = match version {
            Version::V1 => "remote_write_1",
            Version::V2 => "remote_write_2",
        };
        let mut share = self.budget.share();
        let max_body = self.settings.limits.max_body_bytes;
        // What does not compress grows by a sixth at most.
        let max_compressed = max_body.saturating_add(max_body / 6).saturating_add(32);
        let compressed = self.receive(body, &mut share, max_compressed).await?;
        self.metrics.received(protocol, compressed.len());
        let prepared = self.decode(tenant, version, compressed, &mut share).await?;
        let receipt = self.writer.deliver(prepared).await?;
        self.metrics.written(protocol, [receipt.samples, receipt.histograms, receipt.exemplars]);
        self.metrics.rejected(protocol, &receipt.rejections);
        Ok(receipt)
    }

    /// Decodes and splits a request, here or on the pool.
    async fn decode(
        &self,
        tenant: &TenantId,
        version: Version,
        compressed: Bytes,
        share: &mut Share,
    ) -> Result<Prepared, Failure> {
        let limits = self.settings.limits;
        let len = decompressed_len(&compressed, &limits)?;
        if !share.grow_to(compressed.len() + len.saturating_mul(DECODED_FACTOR)) {
            return Err(full().into());
        }
        let (writer, tenant) = (std::sync::Arc::clone(&self.writer), tenant.clone());
        let work = move || {
            let body = decompress(&compressed, &limits)?;
            drop(compressed);
            let batch = decode(version, body, writer.fingerprint_key(), &limits)?;
            Ok::<_, Failure>(writer.prepare(&tenant, batch)?)
        };
        self.decode_with(len <= IN_PLACE_BYTES, work).await
    }
}

/// Which message the headers announce.
fn check_types(headers: &HeaderMap) -> Result<Version, Failure> {
    let unsupported = |text| Failure { status: StatusCode::UNSUPPORTED_MEDIA_TYPE, text, counts: true };
    let version = match headers.get(header::CONTENT_TYPE) {
        None => Version::V1,
        Some(value) => version_of(value).ok_or_else(|| {
            unsupported(format!(
                "content type {value:?} is not supported; send application/x-protobuf, with \
                 proto=prometheus.WriteRequest or proto=io.prometheus.write.v2.Request"
            ))
        })?,
    };
    let mut encodings = headers.get_all(header::CONTENT_ENCODING).iter();
    match encodings.find(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"snappy")) {
        None => Ok(version),
        Some(other) => Err(unsupported(format!(
            "content encoding {other:?} is not supported; send snappy (block format)"
        ))),
    }
}

fn version_of(content_type: &HeaderValue) -> Option<Version> {
    let mut parts = content_type.to_str().ok()?.split(';').map(str::trim);
    if !parts.next()?.eq_ignore_ascii_case("application/x-protobuf") {
        return None;
    }
    let mut version = Version::V1;
    for (name, value) in
        parts.filter(|part| !part.is_empty()).map(|part| part.split_once('=').unwrap_or((part, "")))
    {
        if name.trim().eq_ignore_ascii_case("proto") {
            version = match value.trim().trim_matches('"') {
                "prometheus.WriteRequest" => Version::V1,
                "io.prometheus.write.v2.Request" => Version::V2,
                _ => return None,
            };
        }
    }
    Some(version)
}

/// The answer of a request that got through, with or without refusals.
fn answer(receipt: &WriteReceipt) -> Response {
    let mut response = match receipt.rejections.is_empty() {
        true => StatusCode::NO_CONTENT.into_response(),
        false => text(StatusCode::BAD_REQUEST, &receipt.rejections.to_string()),
    };
    let headers = response.headers_mut();
    put_counts(headers, [receipt.samples, receipt.histograms, receipt.exemplars]);
    if !receipt.token.is_empty()
        && let Ok(token) = HeaderValue::from_str(&receipt.token.to_string())
    {
        headers.insert(HeaderName::from_static(COMMIT_TOKEN_HEADER), token);
    }
    response
}

fn put_counts(headers: &mut HeaderMap, [samples, histograms, exemplars]: [u64; 3]) {
    headers.insert(SAMPLES_WRITTEN, samples.into());
    headers.insert(HISTOGRAMS_WRITTEN, histograms.into());
    headers.insert(EXEMPLARS_WRITTEN, exemplars.into());
}

/// One line of text.
fn text(status: StatusCode, message: &str) -> Response {
    let line = message.replace(['\n', '\r'], " ") + "\n";
    (status, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], line).into_response()
}

/// A request of which nothing is confirmed.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
struct Failure {
    status: StatusCode,
    text: String,
    /// Whether it is certain that nothing was written, so that the counts may say so.
    counts: bool,
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self { status: error.status(), text: error.to_string(), counts: true }
    }
}

impl From<DecodeError> for Failure {
    fn from(error: DecodeError) -> Self {
        Self { status: status_of(error.kind()), text: error.to_string(), counts: true }
    }
}

impl From<RouteError> for Failure {
    fn from(error: RouteError) -> Self {
        let counts = !matches!(error, RouteError::Shards { .. });
        Self { status: status_of(error.kind()), text: error.to_string(), counts }
    }
}

/// The table's code, but where senders of remote write expect another: too much is 413, and what may be tried again is
/// never 429.
fn status_of(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::LimitExceeded => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorKind::ResourceExhausted => StatusCode::SERVICE_UNAVAILABLE,
        kind => outside(kind).status,
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut response = text(self.status, &self.text);
        let headers = response.headers_mut();
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if self.counts {
            put_counts(headers, [0; 3]);
        }
        response
    }
}
