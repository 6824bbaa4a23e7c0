//! Spans: OTLP and Zipkin.
//!
//! ```text
//! body -> decompress -> decoder ─spans─> a batch for each shard that one of the traces lies on -> durable, applied -> 2xx
//! ```
//!
//! **Sent again.** A request is known by the key that its `Idempotency-Key` header gives, else by its own content, since
//! spans carry the client's times: repeated within ten minutes it changes nothing, whichever node it comes to. Where only
//! some shards could be reached the answer is 503, and the same bytes again complete the rest.
//!
//! **What is left out** (without ids, too old, too far in the future, not to be read) is counted and named; the rest is
//! written. OTLP says so in a partial success; Zipkin's clients, whose protocol has no word for it, get 400.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use cluster::router::logs::LogReceipt;
use cluster::router::spans::SpanBatchBuilder;
use protocol::ids::TenantId;
use protocol::otlp::json::Request as JsonRequest;
use protocol::otlp::response::PartialSuccess;
use protocol::otlp::traces as otlp_traces;
use protocol::shippers::zipkin;

use super::Ingest;
use super::budget::Share;
use super::decompress::{Coding, decompress};
use super::logs::{
    DECODED_FACTOR, add_token, coding_of, declared_key, failed_with, invalid, media_type, token, with_token,
};
use super::otlp::{Encoding, Exported};
use super::request::{Failure, is_short};

/// A request of spans that got through.
struct Written {
    receipt: LogReceipt,
    /// Spans left out, and why the first was.
    rejected: u64,
    offence: String,
}

/// What a decoder says of a body: spans that it left out, and why it left out the first.
type Decoded = (u64, Option<String>);

impl Ingest {
    /// Writes an OTLP export of traces whose message has arrived.
    pub(super) async fn export_traces(
        &self,
        tenant: &TenantId,
        headers: &HeaderMap,
        encoding: Encoding,
        coding: Coding,
        body: Bytes,
        share: Share,
    ) -> Result<Exported, Failure> {
        let key = declared_key(headers)?;
        let decode = move |body: &[u8], batch: &mut SpanBatchBuilder| {
            let protobuf = encoding.protobuf(JsonRequest::Traces, body)?;
            let decoded = otlp_traces::decode(&protobuf, batch)?;
            Ok((decoded.rejected, decoded.offence))
        };
        let written = self.write_spans("otlp_traces", tenant, key, coding, (body, share), decode).await?;
        let partial = match written.rejected {
            0 => PartialSuccess::default(),
            rejected => PartialSuccess { rejected, message: written.offence },
        };
        Ok(Exported { partial, token: token(&written.receipt) })
    }

    /// Answers one list of spans of Zipkin's clients.
    pub async fn zipkin_spans(&self, tenant: &TenantId, headers: &HeaderMap, body: Body) -> Response {
        let written = async {
            let is_json = match media_type(headers).as_str() {
                // Some clients say nothing, and mean this.
                "application/json" | "" => true,
                "application/x-protobuf" | "application/protobuf" => false,
                other => {
                    let message = format!(
                        "content type {other:?} is not supported; send application/json or application/x-protobuf"
                    );
                    return Err(Failure::unsupported(message));
                }
            };
            let (key, coding) = (declared_key(headers)?, coding_of(headers)?);
            let mut share = self.budget.share();
            let body = self.receive(body, &mut share, self.settings.otlp_max_body_bytes).await?;
            self.write_spans("zipkin", tenant, key, coding, (body, share), move |body, batch| {
                let taken = match is_json {
                    true => zipkin::decode_json(body, batch).map_err(|reason| {
                        invalid(format!("the body is no list of Zipkin's spans: {reason}"))
                    })?,
                    false => zipkin::decode_protobuf(body, batch)?,
                };
                Ok((taken.rejected, taken.offence))
            })
            .await
        };
        match written.await {
            Ok(written) if written.rejected == 0 => with_token(StatusCode::ACCEPTED, &written.receipt),
            Ok(written) => {
                let message = format!("{} spans were left out: {}", written.rejected, written.offence);
                let mut response = (StatusCode::BAD_REQUEST, message).into_response();
                add_token(&mut response, &written.receipt);
                response
            }
            Err(failure) => failed_with(&failure, failure.message.clone(), "text/plain; charset=utf-8"),
        }
    }

    /// Undoes a body, decodes it and writes its spans.
    async fn write_spans(
        &self,
        protocol: &'static str,
        tenant: &TenantId,
        key: Option<String>,
        coding: Coding,
        (body, mut share): (Bytes, Share),
        decode: impl FnOnce(&[u8], &mut SpanBatchBuilder) -> Result<Decoded, Failure> + Send + 'static,
    ) -> Result<Written, Failure> {
        self.metrics.received(protocol, body.len());
        let (spans, logs, owner) = (Arc::clone(&self.spans), Arc::clone(&self.logs), tenant.clone());
        let (len, limit) = (body.len(), self.settings.otlp_max_body_bytes);
        let work = move || {
            let arrived = body.len();
            let message = decompress(coding, &body, limit, |len| share.grow_to(arrived + len))?;
            drop(body);
            if !share.grow_to(arrived + message.len().saturating_mul(DECODED_FACTOR)) {
                return Err(Failure::full());
            }
            let mut batch = spans.span_batch(&owner)?;
            let (left_out, offence) = decode(&message, &mut batch)?;
            let (outside, too_deep, without_id) = (batch.outside(), batch.too_deep(), batch.without_id());
            let key = match key {
                Some(key) => logs.declared_key(&owner, &key),
                None => logs.body_key(&owner, &message),
            };
            drop(message);
            let prepared = spans.prepare_spans(batch, Some(key))?;
            let rejected = left_out + outside.len() + too_deep + without_id;
            let offence = offence.unwrap_or_else(|| match (outside.is_empty(), without_id) {
                (true, 0) => format!("{too_deep} spans are nested too deeply"),
                (true, _) => format!("{without_id} spans have no id, or none of their trace"),
                (false, _) => {
                    let (old, new) = (outside.too_old, outside.too_new);
                    format!(
                        "{old} spans are older than what is kept and {new} too far in the future, the first at {} ns \
                         since 1970",
                        outside.first
                    )
                }
            });
            Ok((prepared, rejected, offence, share))
        };
        let (prepared, rejected, offence, _share) = self.decode_with(is_short(len), work).await?;
        let receipt = self.logs.deliver_logs(prepared).await?;
        self.metrics.spans(protocol, receipt.records, rejected);
        Ok(Written { receipt, rejected, offence })
    }
}
