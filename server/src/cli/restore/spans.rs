//! Spans: of each window, what the cluster lacks.
//!
//! ```text
//! spans of a window ─► how often the cluster holds each of them, by its ids ─► the rest, as one OTLP request
//! ```
//!
//! A request is an entry on each shard that one of its traces lies on, so one that is cut short may be there in part: that is
//! why spans are compared one by one, not by the moment. Its key is made from its content.

use std::collections::BTreeMap;

use protocol::ids::{ShardId, TenantId};
use protocol::logs::value::id_text;
use protocol::logs::{LogRecord, LogStream, RowSignal};
use protocol::otlp::response::PartialSuccess;
use protocol::otlp::traces::SpanEncoder;
use protocol::spans::{SpanSink, row};
use serde_json::Value;
use storage::archive::Archive;

use super::super::CliError;
use super::super::client::{Exchange, Target};
use super::Tally;
use super::windows::{Encoded, MAX_ROWS, Row, Windows};
use crate::backup::digest;

/// Ids of a trace and a span, as text.
type Ids = (String, String);

/// A span, as a request of its own; requests one behind the other are one.
struct SpanRow {
    ids: Ids,
    message: Vec<u8>,
}

impl Encoded for SpanRow {
    fn message(&self) -> &[u8] {
        &self.message
    }
}

/// Restores the spans of all shards.
pub(super) fn restore(
    target: &Target,
    archives: &[(ShardId, Archive)],
    tally: &mut Tally,
) -> Result<(), CliError> {
    let windows = Windows { archives, signal: RowSignal::Spans, encode: &encode };
    windows.each(&mut |tenant, window| {
        let before = tally.spans.written;
        send_missing(target, tenant, window, tally)?;
        Ok(tally.spans.written - before)
    })
}

fn encode(stream: &LogStream<'_>, record: &LogRecord<'_>) -> Result<SpanRow, CliError> {
    let ids = (id_text(&record.trace_id), id_text(&record.span_id));
    let span = row::span_of(record.clone())
        .map_err(|error| CliError::Failed(format!("a row of the backup is no span: {error}")))?;
    let mut encoder = SpanEncoder::default();
    encoder.stream(stream);
    encoder.span(&span);
    Ok(SpanRow { ids, message: encoder.finish() })
}

/// Sends the spans of which the cluster holds fewer than the backup.
fn send_missing(
    target: &Target,
    tenant: &TenantId,
    mut window: Vec<Row<SpanRow>>,
    tally: &mut Tally,
) -> Result<(), CliError> {
    let (Some(first), Some(last)) = (window.first().map(|row| row.0), window.last().map(|row| row.0)) else {
        return Ok(());
    };
    let mut there = held(target, tenant, first, last)?;
    let count = window.len();
    // Each of the cluster's stands for one of ours.
    window.retain(|(_, span)| match there.get_mut(&span.ids) {
        Some(left @ 1..) => {
            *left -= 1;
            false
        }
        _ => true,
    });
    tally.spans.there += (count - window.len()) as u64;
    for part in window.chunks(MAX_ROWS) {
        let body: Vec<u8> = part.iter().flat_map(|(_, span)| span.message.iter().copied()).collect();
        let key = format!("restore-{}", digest(&body));
        let headers = [("idempotency-key", key.as_str()), ("content-type", "application/x-protobuf")];
        let answer = target.ask(&Exchange::post("/v1/traces", &[], &body).of(tenant).with(&headers))?;
        let partial = PartialSuccess::from_protobuf(&answer)
            .ok_or_else(|| CliError::Failed("the answer to spans is not understood".to_owned()))?;
        tally.spans.written += (part.len() as u64).saturating_sub(partial.rejected);
        tally.refuse(partial.rejected, &partial.message);
    }
    Ok(())
}

/// How often the cluster holds each span of a closed range of time.
fn held(target: &Target, tenant: &TenantId, first: i64, last: i64) -> Result<BTreeMap<Ids, u64>, CliError> {
    let time = |ns: i64| format!("arrow_cast({ns}, 'Timestamp(Nanosecond, Some(\"UTC\"))')");
    let statement = format!(
        "SELECT trace_id, span_id, count(*) FROM spans WHERE time >= {} AND time <= {} GROUP BY trace_id, span_id",
        time(first),
        time(last)
    );
    let query = [("query", statement)];
    let answer = target.ask(&Exchange::get("/api/v1/sql", &query).of(tenant))?;
    let misunderstood =
        || CliError::Failed("the answer to a question for spans is not understood".to_owned());
    let answer: Value = serde_json::from_slice(&answer).map_err(|_| misunderstood())?;
    let rows = answer["data"]["rows"].as_array().ok_or_else(misunderstood)?;
    let one = |row: &Value| {
        let id = |at: usize| row[at].as_str().map(str::to_owned);
        Some(((id(0)?, id(1)?), row[2].as_u64()?))
    };
    rows.iter().map(|row| one(row).ok_or_else(misunderstood)).collect()
}
