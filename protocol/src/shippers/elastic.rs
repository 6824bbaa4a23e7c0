//! Elasticsearch's bulk requests: an action and, for most of them, a document, line by line.
//!
//! ```text
//! {"create":{"_index":"logs-app"}}
//! {"@timestamp":"2026-11-28T10:30:00Z","message":"hello","log":{"level":"info"}}
//! ```
//!
//! `create` and `index` bring a record; its index is the stream's `index`. Logs are not changed afterwards, so `update`
//! and `delete` are refused, each for itself. Clients read the outcomes by position, so there is one for each action,
//! in order.

use std::borrow::Cow;

use super::Taken;
use super::fields::{FieldNames, record_of, text};
use super::json;
use super::lines::read_object;
use crate::logs::{LogSink, LogStream, LogValue, TimestampNs};

/// What became of one action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// `create` or `index`, or what was asked for instead.
    pub action: String,
    /// The index it names.
    pub index: String,
    /// Why it was refused.
    pub offence: Option<String>,
}

/// A bulk request, walked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bulk {
    /// One for each action.
    pub outcomes: Vec<Outcome>,
    /// In all.
    pub taken: Taken,
}

/// Most actions of a request.
pub const MAX_ACTIONS: usize = 1 << 18;

/// Most values of an action's line.
const MAX_ACTION_VALUES: usize = 64;

/// Walks a body. The error is of a request that can not be followed at all; what the sink got is then to be dropped.
pub fn decode(
    body: &[u8],
    default_index: &str,
    now_ns: TimestampNs,
    sink: &mut impl LogSink,
) -> Result<Bulk, String> {
    let mut bulk = Bulk::default();
    let mut current: Option<String> = None;
    let mut lines = body.split(|byte| *byte == b'\n').enumerate();
    while let Some((number, line)) = lines.next() {
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let number = number + 1;
        if bulk.outcomes.len() >= MAX_ACTIONS {
            return Err(format!("the request has more than {MAX_ACTIONS} actions"));
        }
        let (action, index) = read_action(line).map_err(|offence| format!("line {number}: {offence}"))?;
        let index = if index.is_empty() { default_index.to_owned() } else { index };
        if action == "delete" || action == "update" {
            if action == "update" {
                lines.next();
            }
            let offence = format!("logs are not changed afterwards: {action} is not supported");
            bulk.taken.reject(|| format!("line {number}: {offence}"));
            bulk.outcomes.push(Outcome { action, index, offence: Some(offence) });
            continue;
        }
        let Some((at, document)) = lines.next() else {
            return Err(format!("line {number}: the document of the last action is missing"));
        };
        let offence = match read_object(document) {
            Ok(object) => {
                if current.as_ref() != Some(&index) {
                    let resource =
                        if index.is_empty() { Vec::new() } else { vec![text("index", index.as_str())] };
                    sink.stream(&LogStream { resource, ..LogStream::default() });
                    current = Some(index.clone());
                }
                let mut record = record_of(object, FieldNames::default());
                if record.time_ns == 0 {
                    record.observed_ns = now_ns;
                    bulk.taken.lacks_time = true;
                }
                sink.record(&record);
                bulk.taken.records += 1;
                None
            }
            Err(offence) => Some(format!("the document is no JSON object: {offence}")),
        };
        if let Some(offence) = &offence {
            bulk.taken.reject(|| format!("line {}: {offence}", at + 1));
        }
        bulk.outcomes.push(Outcome { action, index, offence });
    }
    Ok(bulk)
}

/// The action of a line and the index it names.
fn read_action(line: &[u8]) -> Result<(String, String), String> {
    let entries = match json::read(line, MAX_ACTION_VALUES)? {
        LogValue::Map(entries) => entries,
        _ => return Err("an action is a JSON object".into()),
    };
    let [(action, details)] = entries.as_slice() else {
        return Err("an action has one key".into());
    };
    if !["create", "index", "update", "delete"].contains(&action.as_ref()) {
        return Err(format!("{action:?} is no action"));
    }
    let index = match details {
        LogValue::Map(details) => details.iter().find_map(|(key, value)| match value {
            LogValue::String(index) if key == "_index" => Some(Cow::clone(index)),
            _ => None,
        }),
        _ => return Err("the action's details are a JSON object".into()),
    };
    Ok((action.to_string(), index.map(Cow::into_owned).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shippers::testing::Lines;

    #[test]
    fn documents_become_records_and_outcomes_keep_their_order() {
        let body = br#"{"create":{"_index":"a"}}
{"@timestamp":"2026-11-28T10:30:00Z","message":"one","log":{"level":"error"},"host":{"name":"h"}}
{"delete":{"_index":"a","_id":"1"}}
{"update":{"_id":"1"}}
{"doc":{}}

{"index":{}}
{"message":"two"}
{"index":{"_index":"b"}}
nonsense
"#;
        let mut sink = Lines::default();
        let bulk = decode(body, "default", 9, &mut sink).expect("it can be followed");
        assert_eq!(
            sink.0,
            [
                "stream {index=\"a\"}",
                "1795861800000000000/0 error(17) \"one\" {host.name=\"h\"}",
                "stream {index=\"default\"}",
                "0/9 (0) \"two\" {}",
            ]
        );
        let outcomes: Vec<_> = bulk
            .outcomes
            .iter()
            .map(|o| (o.action.as_str(), o.index.as_str(), o.offence.is_none()))
            .collect();
        assert_eq!(
            outcomes,
            [
                ("create", "a", true),
                ("delete", "a", false),
                ("update", "default", false),
                ("index", "default", true),
                ("index", "b", false)
            ]
        );
        assert_eq!((bulk.taken.records, bulk.taken.rejected, bulk.taken.lacks_time), (2, 3, true));
    }

    #[test]
    fn what_can_not_be_followed_is_refused() {
        for (body, offence) in [
            ("{\"create\":{}}", "document of the last action is missing"),
            ("{\"message\":\"x\"}\n{}", "is no action"),
            ("{\"create\":{},\"index\":{}}\n{}", "one key"),
            ("[]\n{}", "JSON object"),
            ("{\"create\":1}\n{}", "details"),
            ("x", "line 1"),
        ] {
            let error = decode(body.as_bytes(), "", 1, &mut Lines::default()).expect_err(body);
            assert!(error.contains(offence), "{error}");
        }
        assert_eq!(decode(b"\n\n", "", 1, &mut Lines::default()), Ok(Bulk::default()));
    }
}
