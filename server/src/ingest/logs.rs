//! Logs: OTLP, Loki's push, Elasticsearch's bulk requests and JSON lines.
//!
//! ```text
//! body -> decompress -> decoder ─records─> batch (one entry of one shard) -> durable on a quorum and applied -> 2xx
//! ```
//!
//! **Sent again.** A request is known by the key that its `Idempotency-Key` header gives, or, where every record carries
//! the client's time, by its own content: repeated within ten minutes it changes nothing. Requests with records that
//! have no time of their own are written each time they come.
//!
//! **What is left out** (too old, too far in the future, not to be read) is counted and named, in the words of the
//! protocol; the rest is written:
//!
//! | | all taken | some left out | can not be read | full, in doubt |
//! |---|---|---|---|---|
//! | OTLP | 200 | 200, partial success | 400 | 429, 503 |
//! | Loki | 204 | 400 | 400 | 429, 503 |
//! | Elasticsearch | 200 | 200, `errors` and an error for each item | 400 | 429, 503 |
//! | JSON lines | 200 | 400 | 400 | 429, 503 |

use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use cluster::router::logs::LogReceipt;
use protocol::error::ErrorKind;
use protocol::ids::TenantId;
use protocol::logs::batch::LogBatchBuilder;
use protocol::logs::codec::{decode_record, decode_stream};
use protocol::logs::{LogRecord, LogSink, LogStream};
use protocol::otlp::json::Request as JsonRequest;
use protocol::otlp::logs as otlp_logs;
use protocol::otlp::response::PartialSuccess;
use protocol::shippers::elastic::{self, Bulk, Outcome};
use protocol::shippers::fields::FieldNames;
use protocol::shippers::{Taken, lines, loki};
use protocol::varint;
use serde_json::{Value, json};

use super::Ingest;
use super::budget::Share;
use super::decompress::{Coding, decompress};
use super::otlp::{Encoding, Exported};
use super::remote_write::COMMIT_TOKEN_HEADER;
use super::request::{Failure, is_short};
use crate::runtime::now_ns;

/// The key by which a client says that two requests are one.
const KEY_HEADER: HeaderName = HeaderName::from_static("idempotency-key");
/// Longest key.
const MAX_KEY_BYTES: usize = 1024;
/// What clients of Elasticsearch look for in every answer.
const PRODUCT_HEADER: HeaderName = HeaderName::from_static("x-elastic-product");
const PRODUCT: HeaderValue = HeaderValue::from_static("Elasticsearch");
/// The release whose protocol is spoken.
const ELASTIC_VERSION: &str = "8.17.0";

/// A decoded request takes at most about this many times its bytes: the body, its records, and what they pack to.
pub(super) const DECODED_FACTOR: usize = 3;

/// What JSON lines are read by, from the query string.
#[derive(Clone, Debug, Default)]
pub struct LineFields {
    /// Fields that make a stream.
    pub stream: Vec<String>,
    /// Field of the time, the usual names if there is none.
    pub time: Vec<String>,
    /// Field of the message.
    pub message: Vec<String>,
}

/// A request of logs that got through.
struct Written<T> {
    receipt: LogReceipt,
    /// Records left out, and why the first was.
    rejected: u64,
    offence: String,
    /// What else the decoder found.
    extra: T,
}

/// What a decoder says of a body.
struct Decoded<T> {
    rejected: u64,
    offence: Option<String>,
    /// Whether a record came without time.
    lacks_time: bool,
    extra: T,
}

impl From<Taken> for Decoded<()> {
    fn from(taken: Taken) -> Self {
        Self { rejected: taken.rejected, offence: taken.offence, lacks_time: taken.lacks_time, extra: () }
    }
}

pub(super) fn invalid(message: impl Into<String>) -> Failure {
    Failure::new(ErrorKind::InvalidInput, message.into())
}

/// The key that a request declares.
pub(super) fn declared_key(headers: &HeaderMap) -> Result<Option<String>, Failure> {
    let Some(value) = headers.get(KEY_HEADER) else { return Ok(None) };
    match value.to_str() {
        Ok(key) if !key.is_empty() && key.len() <= MAX_KEY_BYTES => Ok(Some(key.to_owned())),
        _ => Err(invalid(format!("an Idempotency-Key is 1 to {MAX_KEY_BYTES} visible characters"))),
    }
}

pub(super) fn coding_of(headers: &HeaderMap) -> Result<Coding, Failure> {
    Coding::of_headers(headers).map_err(|name| {
        Failure::unsupported(format!(
            "content encoding {name} is not supported; send gzip, zstd, deflate, snappy or none"
        ))
    })
}

pub(super) fn media_type(headers: &HeaderMap) -> String {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

impl Ingest {
    /// Writes an OTLP export of logs whose message has arrived.
    pub(super) async fn export_logs(
        &self,
        tenant: &TenantId,
        headers: &HeaderMap,
        encoding: Encoding,
        coding: Coding,
        body: Bytes,
        share: Share,
    ) -> Result<Exported, Failure> {
        let written = self
            .write_logs(
                "otlp_logs",
                tenant,
                declared_key(headers)?,
                coding,
                (body, share),
                move |body, batch| {
                    let protobuf = encoding.protobuf(JsonRequest::Logs, body)?;
                    let decoded = otlp_logs::decode(&protobuf, now_ns(), batch)?;
                    Ok(Decoded {
                        rejected: decoded.rejected,
                        offence: decoded.offence,
                        lacks_time: decoded.lacks_time,
                        extra: (),
                    })
                },
            )
            .await?;
        let partial = match written.rejected {
            0 => PartialSuccess::default(),
            rejected => PartialSuccess { rejected, message: written.offence },
        };
        Ok(Exported { partial, token: token(&written.receipt) })
    }

    /// Answers one push of Loki's clients.
    pub async fn loki_push(&self, tenant: &TenantId, headers: &HeaderMap, body: Body) -> Response {
        let written = async {
            let is_json = match media_type(headers).as_str() {
                "application/json" => true,
                "application/x-protobuf" | "application/octet-stream" | "" => false,
                other => {
                    let message = format!(
                        "content type {other:?} is not supported; send application/json or application/x-protobuf"
                    );
                    return Err(Failure::unsupported(message));
                }
            };
            // Protobuf comes as a block of snappy that no header names.
            let coding = match (coding_of(headers)?, is_json) {
                (Coding::Identity, false) => Coding::Snappy,
                (coding, _) => coding,
            };
            let arrived = self.collect_logs(body).await?;
            let key = declared_key(headers)?;
            self.write_logs("loki", tenant, key, coding, arrived, move |body, batch| {
                let taken = match is_json {
                    true => loki::decode_json(body, batch).map_err(invalid)?,
                    false => loki::decode_protobuf(body, batch)?,
                };
                Ok(Decoded::from(taken))
            })
            .await
        };
        match written.await {
            Ok(written) if written.rejected == 0 => with_token(StatusCode::NO_CONTENT, &written.receipt),
            Ok(written) => {
                let message = format!("{} entries were left out: {}", written.rejected, written.offence);
                let mut response = (StatusCode::BAD_REQUEST, message).into_response();
                add_token(&mut response, &written.receipt);
                response
            }
            Err(failure) => failed_with(&failure, failure.message.clone(), "text/plain; charset=utf-8"),
        }
    }

    /// Answers one bulk request of Elasticsearch's clients. `index` is that of actions which name none.
    pub async fn elastic_bulk(
        &self,
        tenant: &TenantId,
        index: &str,
        headers: &HeaderMap,
        body: Body,
    ) -> Response {
        let started = std::time::Instant::now();
        let index = index.to_owned();
        let written = async {
            let coding = coding_of(headers)?;
            let arrived = self.collect_logs(body).await?;
            self.write_logs(
                "elasticsearch",
                tenant,
                declared_key(headers)?,
                coding,
                arrived,
                move |body, batch| {
                    let mut sink = Watched { batch, fates: Vec::new() };
                    let bulk = elastic::decode(body, &index, now_ns(), &mut sink).map_err(invalid)?;
                    let fates = sink.fates;
                    let Bulk { outcomes, taken } = bulk;
                    Ok(Decoded {
                        rejected: taken.rejected,
                        offence: taken.offence,
                        lacks_time: taken.lacks_time,
                        extra: (outcomes, fates),
                    })
                },
            )
            .await
        };
        let mut response = match written.await {
            Ok(written) => {
                let (outcomes, fates) = &written.extra;
                let body = bulk_answer(outcomes, fates, started.elapsed().as_millis() as u64);
                let mut response =
                    ([(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response();
                add_token(&mut response, &written.receipt);
                response
            }
            Err(failure) => {
                let kind =
                    if failure.status.is_server_error() || failure.status == StatusCode::TOO_MANY_REQUESTS {
                        "es_rejected_execution_exception"
                    } else {
                        "illegal_argument_exception"
                    };
                let error = json!({"type": kind, "reason": failure.message});
                let body = json!({"error": error, "status": failure.status.as_u16()});
                failed_with(&failure, body.to_string(), "application/json")
            }
        };
        response.headers_mut().insert(PRODUCT_HEADER, PRODUCT);
        response
    }

    /// Answers a request of JSON lines.
    pub async fn json_lines(
        &self,
        tenant: &TenantId,
        fields: LineFields,
        headers: &HeaderMap,
        body: Body,
    ) -> Response {
        let written = async {
            let coding = coding_of(headers)?;
            let arrived = self.collect_logs(body).await?;
            self.write_logs(
                "json_lines",
                tenant,
                declared_key(headers)?,
                coding,
                arrived,
                move |body, batch| {
                    fn texts(list: &[String]) -> Vec<&str> {
                        list.iter().map(String::as_str).collect()
                    }
                    let (time, message, stream) =
                        (texts(&fields.time), texts(&fields.message), texts(&fields.stream));
                    let names = FieldNames { time: &time, message: &message };
                    Ok(Decoded::from(lines::decode(body, names, &stream, now_ns(), batch)))
                },
            )
            .await
        };
        counted(written.await)
    }

    /// Answers a request of a restore: records in the encoding of `protocol::logs::codec`, each behind its stream, both
    /// with their lengths.
    pub async fn restored_logs(&self, tenant: &TenantId, headers: &HeaderMap, body: Body) -> Response {
        let written = async {
            let coding = coding_of(headers)?;
            let arrived = self.collect_logs(body).await?;
            let key = declared_key(headers)?;
            self.write_logs("restore", tenant, key, coding, arrived, move |body, batch| {
                decode_restored(body, batch).map_err(|error| invalid(error.to_string()))?;
                Ok(Decoded { rejected: 0, offence: None, lacks_time: false, extra: () })
            })
            .await
        };
        counted(written.await)
    }

    async fn collect_logs(&self, body: Body) -> Result<(Bytes, Share), Failure> {
        let mut share = self.budget.share();
        let body = self.receive(body, &mut share, self.settings.otlp_max_body_bytes).await?;
        Ok((body, share))
    }

    /// Undoes a body, decodes it and writes its records.
    async fn write_logs<T: Send + 'static>(
        &self,
        protocol: &'static str,
        tenant: &TenantId,
        key: Option<String>,
        coding: Coding,
        (body, mut share): (Bytes, Share),
        decode: impl FnOnce(&[u8], &mut LogBatchBuilder) -> Result<Decoded<T>, Failure> + Send + 'static,
    ) -> Result<Written<T>, Failure> {
        self.metrics.received(protocol, body.len());
        let (writer, owner) = (Arc::clone(&self.logs), tenant.clone());
        let (len, limit) = (body.len(), self.settings.otlp_max_body_bytes);
        let work = move || {
            let arrived = body.len();
            let message = decompress(coding, &body, limit, |len| share.grow_to(arrived + len))?;
            drop(body);
            if !share.grow_to(arrived + message.len().saturating_mul(DECODED_FACTOR)) {
                return Err(Failure::full());
            }
            let mut batch = writer.log_batch(&owner)?;
            let decoded = decode(&message, &mut batch)?;
            let (outside, too_deep) = (batch.outside(), batch.too_deep());
            let key = match key {
                Some(key) => Some(writer.declared_key(&owner, &key)),
                None if decoded.lacks_time => None,
                None => Some(writer.body_key(&owner, &message)),
            };
            drop(message);
            let prepared = writer.prepare_logs(&owner, batch, key)?;
            let rejected = decoded.rejected + outside.len() + too_deep;
            let offence = decoded.offence.unwrap_or_else(|| match outside.is_empty() {
                true => format!("{too_deep} records are nested too deeply"),
                false => {
                    let (old, new) = (outside.too_old, outside.too_new);
                    format!(
                        "{old} records are older than what is kept and {new} too far in the future, the first at \
                         {} ns since 1970",
                        outside.first
                    )
                }
            });
            Ok((prepared, rejected, offence, decoded.extra, share))
        };
        let (prepared, rejected, offence, extra, _share) = self.decode_with(is_short(len), work).await?;
        let receipt = self.logs.deliver_logs(prepared).await?;
        self.metrics.logs(protocol, receipt.records, rejected);
        Ok(Written { receipt, rejected, offence, extra })
    }
}

/// How many records were taken, and what is wrong with the others.
fn counted(written: Result<Written<()>, Failure>) -> Response {
    let json = [(header::CONTENT_TYPE, "application/json")];
    match written {
        Ok(written) => {
            let status = if written.rejected == 0 { StatusCode::OK } else { StatusCode::BAD_REQUEST };
            let mut body = json!({"records": written.receipt.records});
            if written.rejected > 0 {
                body["rejected"] = written.rejected.into();
                body["error"] = written.offence.clone().into();
            }
            let mut response = (status, json, body.to_string()).into_response();
            add_token(&mut response, &written.receipt);
            response
        }
        Err(failure) => {
            failed_with(&failure, json!({"error": failure.message}).to_string(), "application/json")
        }
    }
}

fn decode_restored(mut body: &[u8], sink: &mut impl LogSink) -> Result<(), protocol::encoding::DecodeError> {
    use protocol::encoding::DecodeError;
    let input = &mut body;
    while !input.is_empty() {
        let stream = varint::read_prefixed(input).ok_or(DecodeError::Truncated)?;
        let mut record = varint::read_prefixed(input).ok_or(DecodeError::Truncated)?;
        sink.stream(&decode_stream(stream)?);
        sink.record(&decode_record(&mut record)?);
        if !record.is_empty() {
            return Err(DecodeError::Malformed("bytes after a record"));
        }
    }
    Ok(())
}

/// Notes of each record whether the batch took it: clients of Elasticsearch are told one by one.
struct Watched<'a> {
    batch: &'a mut LogBatchBuilder,
    fates: Vec<bool>,
}

impl LogSink for Watched<'_> {
    fn stream(&mut self, stream: &LogStream<'_>) {
        self.batch.stream(stream);
    }

    fn record(&mut self, record: &LogRecord<'_>) {
        let before = self.batch.len();
        self.batch.record(record);
        self.fates.push(self.batch.len() > before);
    }
}

fn bulk_answer(outcomes: &[Outcome], fates: &[bool], took_ms: u64) -> Value {
    let mut fates = fates.iter();
    let mut errors = false;
    let items: Vec<Value> = outcomes
        .iter()
        .map(|outcome| {
            let offence = match &outcome.offence {
                Some(offence) => Some(offence.clone()),
                None if fates.next().copied().unwrap_or(false) => None,
                None => Some("its time is outside of what is kept, or it is nested too deeply".to_owned()),
            };
            let mut item = json!({"_index": outcome.index, "status": 201, "result": "created"});
            if let Some(offence) = offence {
                errors = true;
                item = json!({
                    "_index": outcome.index,
                    "status": 400,
                    "error": {"type": "document_parsing_exception", "reason": offence},
                });
            }
            json!({&outcome.action: item})
        })
        .collect();
    json!({"took": took_ms, "errors": errors, "items": items})
}

/// What clients of Elasticsearch ask for before they send, or set up for themselves: who this is, a licence, policies,
/// templates and pipelines, none of which is needed here.
pub fn elastic_handshake(path: &str) -> Response {
    let body = match path {
        "/" => json!({
            "name": "pharos", "cluster_name": "pharos", "cluster_uuid": "pharos",
            "version": {
                "number": ELASTIC_VERSION, "build_flavor": "default", "build_type": "binary",
                "minimum_wire_compatibility_version": "7.17.0", "minimum_index_compatibility_version": "7.0.0",
            },
            "tagline": "You Know, for Search",
        }),
        "/_license" => json!({"license": {"status": "active", "type": "basic", "mode": "basic"}}),
        "/_xpack" => {
            json!({"license": {"type": "basic", "mode": "basic", "status": "active"}, "features": {}})
        }
        _ => json!({"acknowledged": true}),
    };
    let mut response = ([(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response();
    response.headers_mut().insert(PRODUCT_HEADER, PRODUCT);
    response
}

pub(super) fn token(receipt: &LogReceipt) -> Option<HeaderValue> {
    if receipt.token.is_empty() {
        return None;
    }
    HeaderValue::from_str(&receipt.token.to_string()).ok()
}

pub(super) fn add_token(response: &mut Response, receipt: &LogReceipt) {
    if let Some(token) = token(receipt) {
        response.headers_mut().insert(HeaderName::from_static(COMMIT_TOKEN_HEADER), token);
    }
}

pub(super) fn with_token(status: StatusCode, receipt: &LogReceipt) -> Response {
    let mut response = status.into_response();
    add_token(&mut response, receipt);
    response
}

pub(super) fn failed_with(failure: &Failure, body: String, content_type: &'static str) -> Response {
    let mut response = (failure.status, [(header::CONTENT_TYPE, content_type)], body).into_response();
    if matches!(failure.status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_no_records_of_a_restore_are_refused() {
        for bad in [&b"\x05abc"[..], b"\x00", b"\x01\xff\x01\xff"] {
            assert!(decode_restored(bad, &mut LogBatchBuilder::new()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn each_item_of_a_bulk_request_has_its_outcome() {
        let outcome = |offence: Option<&str>| Outcome {
            action: "create".into(),
            index: "logs".into(),
            offence: offence.map(str::to_owned),
        };
        let outcomes = [outcome(None), outcome(Some("no object")), outcome(None)];
        let answer = bulk_answer(&outcomes, &[true, false], 3);
        let status = |at: usize| answer["items"][at]["create"]["status"].clone();
        assert_eq!((status(0), status(1), status(2)), (json!(201), json!(400), json!(400)));
        assert_eq!(answer["errors"], json!(true));
        assert_eq!(answer["items"][1]["create"]["error"]["reason"], json!("no object"));
        assert_eq!(bulk_answer(&outcomes[..1], &[true], 3)["errors"], json!(false));
    }
}
