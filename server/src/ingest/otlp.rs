//! OTLP: export requests over HTTP (`POST /v1/metrics`, `/v1/logs` and `/v1/traces`, the
//! first two under Prometheus' and Loki's paths, too) and over gRPC.
//!
//! | HTTP | gRPC | when |
//! |---|---|---|
//! | 200 | OK | everything is durable on a quorum and applied; or some points were refused, *the rest is written*, and the partial success counts and names them |
//! | 400 | INVALID_ARGUMENT | the body is corrupt and nothing is written |
//! | 408, 413, 415 | RESOURCE_EXHAUSTED, UNIMPLEMENTED | the body did not come, is too long, is of another type or encoding |
//! | 429, 503 | UNAVAILABLE | this node is full or a shard's outcome is unknown: send the same again |
//!
//! Answers are in the type of the request; an error's body is a `google.rpc.Status`. Clients retry 429 and 503 (and
//! UNAVAILABLE), nothing else, and never what was a partial success. The limit holds after decompression.
//!
//! Refused points are counted as the router does, by sample: a refused histogram counts as many as it has series, but
//! never more points than the request has.

use std::borrow::Cow;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use cluster::router::{Prepared, WriteReceipt};
use protocol::ids::TenantId;
use protocol::otlp::json::{self, Request as JsonRequest};
use protocol::otlp::response::{PartialSuccess, Signal, status_to_json, status_to_protobuf};
use protocol::otlp::{DecodeError, metrics};
use protocol::remote_write::Limits;
use protocol::write_batch::Rejections;

use super::Ingest;
use super::budget::Share;
use super::decompress::{Coding, decompress};
use super::remote_write::COMMIT_TOKEN_HEADER;
use super::request::{Failure, is_short};

/// How a message is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// As protobuf.
    Protobuf,
    /// As JSON.
    Json,
}

impl Encoding {
    fn of_headers(headers: &HeaderMap) -> Option<Self> {
        let value = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
        match value.split(';').next()?.trim().to_ascii_lowercase().as_str() {
            "application/x-protobuf" | "application/protobuf" => Some(Self::Protobuf),
            "application/json" => Some(Self::Json),
            _ => None,
        }
    }

    /// A request as protobuf.
    pub fn protobuf(self, request: JsonRequest, body: &[u8]) -> Result<Cow<'_, [u8]>, DecodeError> {
        Ok(match self {
            Self::Protobuf => Cow::Borrowed(body),
            Self::Json => Cow::Owned(json::to_protobuf(request, body)?),
        })
    }

    const fn content_type(self) -> &'static str {
        match self {
            Self::Protobuf => "application/x-protobuf",
            Self::Json => "application/json",
        }
    }
}

/// A decoded request takes at most about this many times its bytes: the body and the lists over it.
const DECODED_FACTOR: usize = 2;

/// An export that got through, with or without refusals.
#[derive(Debug)]
pub struct Exported {
    /// What was refused.
    pub partial: PartialSuccess,
    /// Which entries hold the rest.
    pub token: Option<HeaderValue>,
}

impl Ingest {
    /// Answers one export over HTTP.
    pub async fn otlp(&self, signal: Signal, tenant: &TenantId, headers: &HeaderMap, body: Body) -> Response {
        let Some(encoding) = Encoding::of_headers(headers) else {
            let found =
                headers.get(header::CONTENT_TYPE).map_or("none".to_owned(), |value| format!("{value:?}"));
            let message = format!(
                "content type {found} is not supported; send application/x-protobuf or application/json"
            );
            return failed(Encoding::Json, &Failure::unsupported(message));
        };
        let coding = match Coding::of_headers(headers) {
            Ok(coding) => coding,
            Err(name) => {
                let message = format!(
                    "content encoding {name} is not supported; send gzip, zstd, deflate, snappy or none"
                );
                return failed(encoding, &Failure::unsupported(message));
            }
        };
        let exported = async {
            let mut share = self.budget.share();
            let body = self.receive(body, &mut share, self.settings.otlp_max_body_bytes).await?;
            match signal {
                Signal::Metrics => self.export_metrics(tenant, encoding, coding, body, share).await,
                Signal::Logs => self.export_logs(tenant, headers, encoding, coding, body, share).await,
                Signal::Traces => self.export_traces(tenant, headers, encoding, coding, body, share).await,
            }
        };
        match exported.await {
            Ok(exported) => succeeded(encoding, signal, exported),
            Err(failure) => failed(encoding, &failure),
        }
    }

    /// Writes an export of metrics whose message has arrived.
    pub(super) async fn export_metrics(
        &self,
        tenant: &TenantId,
        encoding: Encoding,
        coding: Coding,
        body: Bytes,
        share: Share,
    ) -> Result<Exported, Failure> {
        const PROTOCOL: &str = "otlp_metrics";
        self.metrics.received(PROTOCOL, body.len());
        let (prepared, points, _share) = self.decode_metrics(tenant, encoding, coding, body, share).await?;
        let receipt = self.writer.deliver(prepared).await?;
        self.metrics.written(PROTOCOL, [receipt.samples, receipt.histograms, receipt.exemplars]);
        self.metrics.rejected(PROTOCOL, &receipt.rejections);
        Ok(Exported { partial: partial_success(&receipt.rejections, points), token: token(&receipt) })
    }

    /// Decodes and splits a request, here or on the pool. The share goes along, and comes back.
    async fn decode_metrics(
        &self,
        tenant: &TenantId,
        encoding: Encoding,
        coding: Coding,
        body: Bytes,
        mut share: Share,
    ) -> Result<(Prepared, u64, Share), Failure> {
        let limits = Limits { max_body_bytes: self.settings.otlp_max_body_bytes, ..self.settings.limits };
        let translation = std::sync::Arc::clone(&self.settings.translation);
        let (writer, tenant) = (std::sync::Arc::clone(&self.writer), tenant.clone());
        let len = body.len();
        let work = move || {
            let arrived = body.len();
            let mut message =
                decompress(coding, &body, limits.max_body_bytes, |len| share.grow_to(arrived + len))?;
            drop(body);
            if encoding == Encoding::Json {
                if !share.grow_to(arrived + message.len().saturating_mul(2)) {
                    return Err(Failure::full());
                }
                message = json::to_protobuf(JsonRequest::Metrics, &message).map_err(DecodeError::from)?;
            }
            if !share.grow_to(arrived + message.len().saturating_mul(DECODED_FACTOR)) {
                return Err(Failure::full());
            }
            let decoded = metrics::decode(message, writer.fingerprint_key(), &translation, &limits)?;
            let points = decoded.points;
            Ok((writer.prepare(&tenant, decoded.batch)?, points, share))
        };
        self.decode_with(is_short(len), work).await
    }
}

fn partial_success(rejections: &Rejections, points: u64) -> PartialSuccess {
    if rejections.is_empty() {
        return PartialSuccess::default();
    }
    let rejected = rejections.samples.saturating_add(rejections.histograms).min(points);
    PartialSuccess { rejected, message: rejections.to_string() }
}

fn token(receipt: &WriteReceipt) -> Option<HeaderValue> {
    if receipt.token.is_empty() {
        return None;
    }
    HeaderValue::from_str(&receipt.token.to_string()).ok()
}

fn succeeded(encoding: Encoding, signal: Signal, exported: Exported) -> Response {
    let body = match encoding {
        Encoding::Protobuf => exported.partial.to_protobuf(),
        Encoding::Json => exported.partial.to_json(signal).into_bytes(),
    };
    let mut response = ([(header::CONTENT_TYPE, encoding.content_type())], body).into_response();
    if let Some(token) = exported.token {
        response.headers_mut().insert(HeaderName::from_static(COMMIT_TOKEN_HEADER), token);
    }
    response
}

fn failed(encoding: Encoding, failure: &Failure) -> Response {
    let body = match encoding {
        Encoding::Protobuf => status_to_protobuf(failure.code, &failure.message),
        Encoding::Json => status_to_json(failure.code, &failure.message).into_bytes(),
    };
    let mut response =
        (failure.status, [(header::CONTENT_TYPE, encoding.content_type())], body).into_response();
    if matches!(failure.status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}
