//! Logs: of each window, what the cluster lacks.
//!
//! ```text
//! records of a window ─► what the cluster holds there, moment by moment ─► the rest, as one batch
//! ```
//!
//! A window is sent as one request, which is one entry of one shard unless a single moment is larger: so the cluster holds
//! all of it or nothing. Its key is made from its content: while the shard remembers keys, a request that arrives twice is
//! one.

use std::collections::BTreeMap;

use protocol::ids::{ShardId, TenantId};
use protocol::logs::codec::{encode_record, encode_stream};
use protocol::logs::{LogRecord, LogStream, RowSignal};
use protocol::varint;
use serde_json::Value;
use storage::archive::Archive;

use super::super::CliError;
use super::super::client::{Exchange, Target};
use super::Tally;
use super::windows::{MAX_ROWS, Row, Windows};
use crate::backup::digest;

/// Rows of a page when the cluster is asked what it holds.
const PAGE: usize = 1000;

/// Restores the logs of all shards.
pub(super) fn restore(
    target: &Target,
    archives: &[(ShardId, Archive)],
    tally: &mut Tally,
) -> Result<(), CliError> {
    let windows = Windows { archives, signal: RowSignal::Logs, encode: &encode };
    windows.each(&mut |tenant, window| {
        let before = tally.logs.written;
        send_missing(target, tenant, window, tally)?;
        Ok(tally.logs.written - before)
    })
}

/// Stream and record as the restore's request has them.
fn encode(stream: &LogStream<'_>, record: &LogRecord<'_>) -> Result<Vec<u8>, CliError> {
    let (mut message, mut part) = (Vec::new(), Vec::new());
    encode_stream(stream, &mut part);
    varint::write_prefixed(&mut message, &part);
    part.clear();
    encode_record(record, &mut part);
    varint::write_prefixed(&mut message, &part);
    Ok(message)
}

/// Sends the records of moments of which the cluster holds fewer than the backup.
fn send_missing(
    target: &Target,
    tenant: &TenantId,
    mut window: Vec<Row<Vec<u8>>>,
    tally: &mut Tally,
) -> Result<(), CliError> {
    let (Some(first), Some(last)) = (window.first().map(|r| r.0), window.last().map(|r| r.0)) else {
        return Ok(());
    };
    let there = moments(target, tenant, first, last)?;
    if !there.is_empty() {
        let mut ours = BTreeMap::<i64, u64>::new();
        window.iter().for_each(|(time, _)| *ours.entry(*time).or_default() += 1);
        let count = window.len();
        window.retain(|(time, _)| there.get(time).copied().unwrap_or(0) < ours[time]);
        tally.logs.there += (count - window.len()) as u64;
    }
    // More than one part only where a single moment is larger than a window.
    for part in window.chunks(MAX_ROWS) {
        let body: Vec<u8> = part.iter().flat_map(|(_, message)| message.iter().copied()).collect();
        let key = format!("restore-{}", digest(&body));
        let headers = [("idempotency-key", key.as_str()), ("content-type", "application/octet-stream")];
        let exchange = Exchange::post("/api/v1/admin/restore/logs", &[], &body).of(tenant).with(&headers);
        let (status, answer) = target.exchange(&exchange)?;
        let text = String::from_utf8_lossy(&answer).into_owned();
        let json: Value = serde_json::from_str(&text).unwrap_or_default();
        match (status, json["records"].as_u64()) {
            (200 | 400, Some(records)) => {
                tally.logs.written += records;
                let offence = json["error"].as_str().unwrap_or_default();
                tally.refuse((part.len() as u64).saturating_sub(records), offence);
            }
            _ => {
                return Err(CliError::Failed(format!("the node answered {status} to logs: {}", text.trim())));
            }
        }
    }
    Ok(())
}

/// How many records the cluster holds of each moment of a closed range.
fn moments(
    target: &Target,
    tenant: &TenantId,
    first: i64,
    last: i64,
) -> Result<BTreeMap<i64, u64>, CliError> {
    let (mut found, mut cursor) = (BTreeMap::new(), None::<String>);
    loop {
        let mut query = vec![
            ("query", "*".to_owned()),
            ("start", first.to_string()),
            ("end", last.to_string()),
            ("limit", PAGE.to_string()),
            ("direction", "forward".to_owned()),
        ];
        query.extend(cursor.take().map(|cursor| ("cursor", cursor)));
        let exchange = Exchange::get("/api/v1/logs/query", &query).of(tenant);
        let answer: Value = serde_json::from_slice(&target.ask(&exchange)?)
            .map_err(|error| CliError::Failed(format!("a search's answer is not understood: {error}")))?;
        for row in answer["data"]["rows"].as_array().into_iter().flatten() {
            let time = row["timeUnixNano"].as_str().and_then(|text| text.parse().ok());
            let time = time.ok_or_else(|| CliError::Failed("a row of a search has no time".to_owned()))?;
            *found.entry(time).or_default() += 1;
        }
        match answer["data"]["cursor"].as_str() {
            Some(next) => cursor = Some(next.to_owned()),
            None => return Ok(found),
        }
    }
}
