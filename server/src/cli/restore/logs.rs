//! Logs of all shards together, window by window of time.
//!
//! ```text
//! shards ─► records of the next window, by time ─► what the cluster holds there, moment by moment ─► the rest, as one batch
//! ```
//!
//! A window holds whole moments (equal nanoseconds) and is sent as one request, which is one entry of one shard unless a single
//! moment is larger: so the cluster holds all of it or nothing. Its key is made from its content: while the shard remembers
//! keys, a request that arrives twice is one.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use protocol::ids::{ShardId, TenantId};
use protocol::logs::codec::{encode_record, encode_stream};
use protocol::logs::{LogColumns, LogFilter, LogScan, RowSignal};
use protocol::varint;
use serde_json::Value;
use storage::archive::Archive;
use storage::logs::scan::LogReader;

use super::super::client::{Exchange, Target};
use super::super::{CliError, complain};
use super::Tally;
use crate::backup::digest;

/// Records of a window, and of a request.
const MAX_RECORDS: usize = 4000;
/// Their bytes.
const MAX_BYTES: usize = 1 << 20;
/// Rows of a page when the cluster is asked what it holds.
const PAGE: usize = 1000;

/// A record: its time, and stream and record as the restore's request has them.
type Record = (i64, Vec<u8>);

/// Restores the logs of all shards.
pub(super) fn restore(
    target: &Target,
    archives: &[(ShardId, Archive)],
    tally: &mut Tally,
) -> Result<(), CliError> {
    let tenants: BTreeSet<&TenantId> = archives.iter().flat_map(|(_, archive)| archive.tenants()).collect();
    for tenant in tenants {
        let (before, mut from) = (tally.records, i64::MIN);
        while let Some(window) = next_window(archives, tenant, from)? {
            let Some((last, _)) = window.last() else { break };
            let next = last.checked_add(1);
            send_missing(target, tenant, window, tally)?;
            match next {
                Some(next) => from = next,
                None => break,
            }
        }
        if tally.records > before {
            complain(&format!("tenant {tenant}: {} log records", tally.records - before));
        }
    }
    Ok(())
}

/// Records of a shard from a time on, in order; whether there may be more.
fn read(
    archive: &Archive,
    tenant: &TenantId,
    (from, to): (i64, i64),
    limit: usize,
) -> Result<(Vec<Record>, bool), CliError> {
    let scan = LogScan {
        start_ns: from,
        end_ns: to,
        filter: LogFilter::All,
        newest_first: false,
        columns: LogColumns::All,
    };
    let (mut records, mut bytes, mut more) = (Vec::new(), 0, false);
    let reader = LogReader { signal: RowSignal::Logs, tenant, should_stop: &|| false };
    let visit = &mut |stream: &protocol::logs::LogStream<'_>, record: &protocol::logs::LogRecord<'_>| {
        if records.len() >= limit || (limit < usize::MAX && bytes >= MAX_BYTES) {
            more = true;
            return ControlFlow::Break(());
        }
        let (mut message, mut part) = (Vec::new(), Vec::new());
        encode_stream(stream, &mut part);
        varint::write_prefixed(&mut message, &part);
        part.clear();
        encode_record(record, &mut part);
        varint::write_prefixed(&mut message, &part);
        bytes += message.len();
        records.push((record.effective_ns(), message));
        ControlFlow::Continue(())
    };
    archive
        .snapshot()
        .log_records(reader, &scan, visit)
        .map_err(|error| CliError::Failed(crate::error::chain(&error)))?;
    Ok((records, more))
}

/// The records of the next window from a time on: whole moments, as many as fit, at least one.
fn next_window(
    archives: &[(ShardId, Archive)],
    tenant: &TenantId,
    from: i64,
) -> Result<Option<Vec<Record>>, CliError> {
    let (mut all, mut end) = (Vec::new(), None::<i64>);
    for (_, archive) in archives {
        let (records, more) = read(archive, tenant, (from, i64::MAX), MAX_RECORDS)?;
        if more && let Some((last, _)) = records.last() {
            // Of its last moment there may be more.
            end = Some(end.map_or(*last, |end| end.min(*last)));
        }
        all.extend(records);
    }
    all.sort_by_key(|(time, _)| *time);
    let mut bytes = 0;
    let cut = all.iter().enumerate().find(|(at, (_, message))| {
        bytes += message.len();
        *at >= MAX_RECORDS || (bytes > MAX_BYTES && *at > 0)
    });
    let end = match (end, cut.map(|(_, (time, _))| *time)) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    };
    let Some(first) = all.first().map(|(time, _)| *time) else { return Ok(None) };
    match end {
        None => Ok(Some(all)),
        Some(end) if first < end => {
            all.retain(|(time, _)| *time < end);
            Ok(Some(all))
        }
        // One moment that is larger than a window.
        Some(_) => {
            all.clear();
            for (_, archive) in archives {
                all.extend(read(archive, tenant, (first, first), usize::MAX)?.0);
            }
            Ok(Some(all))
        }
    }
}

/// Sends the records of moments of which the cluster holds fewer than the backup.
fn send_missing(
    target: &Target,
    tenant: &TenantId,
    mut window: Vec<Record>,
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
        tally.records_there += (count - window.len()) as u64;
    }
    // More than one part only where a single moment is larger than a window.
    for part in window.chunks(MAX_RECORDS) {
        let body: Vec<u8> = part.iter().flat_map(|(_, message)| message.iter().copied()).collect();
        let key = format!("restore-{}", digest(&body));
        let headers = [("idempotency-key", key.as_str()), ("content-type", "application/octet-stream")];
        let exchange = Exchange::post("/api/v1/admin/restore/logs", &[], &body).of(tenant).with(&headers);
        let (status, answer) = target.exchange(&exchange)?;
        let text = String::from_utf8_lossy(&answer).into_owned();
        let json: Value = serde_json::from_str(&text).unwrap_or_default();
        match (status, json["records"].as_u64()) {
            (200 | 400, Some(records)) => {
                tally.records += records;
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
