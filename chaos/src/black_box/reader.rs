//! Reads numbers back: of one client, a count of them, or totals over all.

use std::collections::BTreeSet;
use std::io;
use std::ops::Range;

use serde_json::Value;

use crate::black_box::history::{Found, Runs, Signal};
use crate::black_box::numbered::{self, METRIC, SERVICE, log_body};
use crate::client::{escape, seconds};
use crate::http::{Answer, Connection};

/// Rows of a page of logs.
const PAGE: usize = 5000;
/// Numbers that one query asks for.
const WINDOW: u64 = 10_000;

/// The word for how an attempt ended.
pub fn result_of(answer: &io::Result<Answer>) -> String {
    match answer {
        Ok(answer) => answer.status.to_string(),
        Err(error) => match error.kind() {
            io::ErrorKind::ConnectionRefused => "refused".to_owned(),
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => "timeout".to_owned(),
            kind => format!("{kind:?}"),
        },
    }
}

/// The answer of the query API: its data, and whether it says that something is missing.
fn data_of(answer: io::Result<Answer>) -> Result<(Value, bool), String> {
    let result = result_of(&answer);
    let answer = answer.map_err(|_| result.clone())?;
    if answer.status != 200 {
        return Err(result);
    }
    let json: Value = serde_json::from_slice(&answer.body).map_err(|error| format!("no JSON: {error}"))?;
    if json["status"] != "success" {
        return Err(format!("200 without success: {}", answer.text()));
    }
    let is_partial = json["partial"] == true || json["data"]["partial"] == true;
    Ok((json["data"].clone(), is_partial))
}

/// A connection to one node, with the freshness that is asked for.
pub struct Reader<'a> {
    connection: &'a mut Connection,
    start_ms: i64,
    consistency: Option<&'a str>,
}

impl<'a> Reader<'a> {
    /// Reads linearizably, unless another `consistency` is given.
    pub fn new(connection: &'a mut Connection, start_ms: i64, consistency: Option<&'a str>) -> Self {
        Self { connection, start_ms, consistency }
    }

    fn get(&mut self, path: &str) -> Result<(Value, bool), String> {
        self.connection.refresh();
        let headers: Vec<(&str, &str)> =
            self.consistency.iter().map(|level| ("X-Pharos-Consistency", *level)).collect();
        data_of(self.connection.get_with(path, &headers))
    }

    fn instant(&mut self, expr: &str, at_ms: i64) -> Result<(Value, bool), String> {
        self.get(&format!("/api/v1/query?query={}&time={}", escape(expr), seconds(at_ms)))
    }

    /// The numbers `lo..hi` of one series of a client, or of all.
    pub fn read(
        &mut self,
        signal: Signal,
        client: usize,
        series: Range<usize>,
        (lo, hi): (u64, u64),
    ) -> Result<(Vec<Found>, bool), String> {
        let mut seen: Vec<Seen> = series.clone().map(|_| Seen::default()).collect();
        let mut is_partial = false;
        let window = WINDOW / series.len().max(1) as u64;
        for from in (lo..hi).step_by(window as usize) {
            let to = (from + window).min(hi);
            is_partial |= match signal {
                Signal::Metrics => self.read_samples(client, &series, (from, to), &mut seen)?,
                Signal::Logs => self.read_records(client, (from, to), &mut seen[0])?,
                Signal::Traces => self.read_spans(client, (from, to), &mut seen[0])?,
            };
        }
        Ok((seen.into_iter().map(Seen::found).collect(), is_partial))
    }

    fn read_samples(
        &mut self,
        client: usize,
        series: &Range<usize>,
        (from, to): (u64, u64),
        seen: &mut [Seen],
    ) -> Result<bool, String> {
        let one = if series.len() == 1 { format!(",series=\"{}\"", series.start) } else { String::new() };
        // A range is open on its left.
        let selector = format!("{METRIC}{{client=\"{client}\"{one}}}[{}ms]", to - from);
        let (data, is_partial) = self.instant(&selector, self.start_ms + to as i64 - 1)?;
        for row in data["result"].as_array().into_iter().flatten() {
            let number = row["metric"]["series"].as_str().and_then(|text| text.parse::<usize>().ok());
            let index = number.filter(|number| series.contains(number)).map(|number| number - series.start);
            let seen = index.and_then(|index| seen.get_mut(index));
            let seen = seen.ok_or_else(|| format!("a series that was not asked for: {}", row["metric"]))?;
            for point in row["values"].as_array().into_iter().flatten() {
                let at_ms = (point[0].as_f64().unwrap_or(f64::NAN) * 1000.0).round() as i64;
                let value: f64 = point[1].as_str().and_then(|text| text.parse().ok()).unwrap_or(f64::NAN);
                match u64::try_from(at_ms - self.start_ms) {
                    Ok(number) if (from..to).contains(&number) => {
                        seen.note(number, value == number as f64, || format!("sample {number} is {value}"));
                    }
                    _ => seen.wrong.push(format!("a sample at {at_ms} ms, outside of what was asked for")),
                }
            }
        }
        Ok(is_partial)
    }

    fn read_records(
        &mut self,
        client: usize,
        (from, to): (u64, u64),
        seen: &mut Seen,
    ) -> Result<bool, String> {
        let start_ms = self.start_ms;
        let ns = |number: u64| numbered::ns(start_ms, number);
        let question = format!(
            "/api/v1/logs/query?query={}&start={}&end={}&limit={PAGE}&direction=forward",
            escape(&format!("chaos_client:{client}")),
            ns(from),
            ns(to) - 1
        );
        let mut cursor: Option<String> = None;
        let mut is_partial = false;
        loop {
            let page = cursor.as_ref().map_or_else(String::new, |at| format!("&cursor={}", escape(at)));
            let (data, partial) = self.get(&format!("{question}{page}"))?;
            is_partial |= partial;
            for row in data["rows"].as_array().into_iter().flatten() {
                let body = row["body"].as_str().unwrap_or_default();
                match row["attributes"]["seq"].as_u64() {
                    Some(number) if (from..to).contains(&number) => {
                        let is_right = body == log_body(client, number)
                            && is_text(&row["timeUnixNano"], ns(number))
                            && is_text(&row["resource"]["chaos_client"], client);
                        seen.note(number, is_right, || format!("record {number} is {row}"));
                    }
                    _ => seen.wrong.push(format!("a record that was not asked for: {row}")),
                }
            }
            cursor = data["cursor"].as_str().map(str::to_owned);
            if cursor.is_none() {
                return Ok(is_partial);
            }
        }
    }

    fn read_spans(&mut self, client: usize, (from, to): (u64, u64), seen: &mut Seen) -> Result<bool, String> {
        let columns = "seq, at, duration_ns, name, kind, trace_id, span_id, parent_id";
        for row in self.spans(columns, Some(client), (from, to))? {
            match row[0].as_u64() {
                Some(number) if (from..to).contains(&number) => {
                    let span = numbered::span(client, self.start_ms, number);
                    let parent = match span.parent_id {
                        [0, 0, 0, 0, 0, 0, 0, 0] => Value::Null,
                        parent => format!("{:016x}", u64::from_be_bytes(parent)).into(),
                    };
                    let expected = serde_json::json!([
                        number,
                        span.start_ns,
                        span.end_ns - span.start_ns,
                        span.name,
                        if parent.is_null() { "server" } else { "internal" },
                        format!("{:032x}", u128::from_be_bytes(span.trace_id)),
                        format!("{:016x}", u64::from_be_bytes(span.span_id)),
                        parent,
                    ]);
                    seen.note(number, row == expected, || format!("span {number} is {row}"));
                }
                _ => seen.wrong.push(format!("a span that was not asked for: {row}")),
            }
        }
        Ok(false)
    }

    /// Asks in SQL for spans of a client, or of all: it fails where anything is missing.
    fn spans(
        &mut self,
        what: &str,
        client: Option<usize>,
        (lo, hi): (u64, u64),
    ) -> Result<Vec<Value>, String> {
        let of =
            client.map_or_else(String::new, |client| format!(" AND attributes['chaos_client'] = '{client}'"));
        let statement = format!(
            "SELECT {what} FROM (SELECT *, CAST(attributes['seq'] AS BIGINT) AS seq, CAST(time AS BIGINT) AS at FROM spans \
             WHERE service = '{SERVICE}'{of} AND time >= to_timestamp_nanos({}) AND time < to_timestamp_nanos({}))",
            numbered::ns(self.start_ms, lo),
            numbered::ns(self.start_ms, hi)
        );
        let (mut data, _) = self.get(&format!("/api/v1/sql?query={}", escape(&statement)))?;
        match data["rows"].take() {
            Value::Array(rows) => Ok(rows),
            _ => Err("an answer in SQL without rows".to_owned()),
        }
    }

    /// How many of `lo..hi` there are over all series of a client.
    pub fn count(
        &mut self,
        signal: Signal,
        client: usize,
        (lo, hi): (u64, u64),
    ) -> Result<(u64, bool), String> {
        match signal {
            Signal::Metrics => {
                let expr = format!("sum(count_over_time({METRIC}{{client=\"{client}\"}}[{}ms]))", hi - lo);
                let (data, is_partial) = self.instant(&expr, self.start_ms + hi as i64 - 1)?;
                Ok((first_value(&data)?.unwrap_or_default() as u64, is_partial))
            }
            Signal::Logs => {
                let (data, is_partial) = self.stats(&format!("chaos_client:{client}"), (lo, hi))?;
                Ok((data["count"].as_u64().ok_or("stats without a count")?, is_partial))
            }
            Signal::Traces => {
                let rows = self.spans("count(*)", Some(client), (lo, hi))?;
                let count = rows.first().and_then(|row| row[0].as_u64());
                Ok((count.ok_or("a count in SQL without a number")?, false))
            }
        }
    }

    fn stats(&mut self, query: &str, (lo, hi): (u64, u64)) -> Result<(Value, bool), String> {
        let (from, to) = (numbered::ns(self.start_ms, lo), numbered::ns(self.start_ms, hi) - 1);
        let query = escape(query);
        self.get(&format!("/api/v1/logs/stats?query={query}&field=seq&start={from}&end={to}"))
    }

    /// Count, sum and maximum of the numbers below `hi` of everything that the signal has.
    pub fn totals(&mut self, signal: Signal, hi: u64) -> Result<Vec<(&'static str, f64)>, String> {
        match signal {
            Signal::Metrics => ["count", "sum", "max"]
                .into_iter()
                .map(|what| {
                    let over = if what == "max" { "max" } else { "sum" };
                    let expr = format!("{over}({what}_over_time({METRIC}[{}ms]))", hi.max(1));
                    let (data, _) = self.instant(&expr, self.start_ms + hi.max(1) as i64 - 1)?;
                    Ok((what, first_value(&data)?.unwrap_or_default()))
                })
                .collect(),
            Signal::Logs => {
                let (data, _) = self.stats(&format!("service.name:{SERVICE}"), (0, hi.max(1)))?;
                let number = |value: &Value| value.as_f64().unwrap_or_default();
                Ok(vec![
                    ("count", number(&data["count"])),
                    ("sum", number(&data["numbers"]["sum"])),
                    ("max", number(&data["numbers"]["max"])),
                ])
            }
            Signal::Traces => {
                let rows = self.spans("count(*), sum(seq), max(seq)", None, (0, hi.max(1)))?;
                let row = rows.first().ok_or("totals in SQL without a row")?;
                let number = |index: usize| row[index].as_f64().unwrap_or_default();
                Ok(vec![("count", number(0)), ("sum", number(1)), ("max", number(2))])
            }
        }
    }
}

/// Whether a value is the text of a number.
fn is_text<T: std::str::FromStr + PartialEq>(value: &Value, number: T) -> bool {
    value.as_str().and_then(|text| text.parse().ok()) == Some(number)
}

/// The value of the only row of an instant query; `None` where there is no row.
fn first_value(data: &Value) -> Result<Option<f64>, String> {
    match data["result"].as_array().map(Vec::as_slice) {
        Some([]) => Ok(None),
        Some([row]) => {
            let value = row["value"][1].as_str().and_then(|text| text.parse().ok());
            value.map(Some).ok_or_else(|| format!("no value in {row}"))
        }
        _ => Err(format!("one row was expected: {data}")),
    }
}

#[derive(Default)]
struct Seen {
    once: BTreeSet<u64>,
    twice: Vec<u64>,
    wrong: Vec<String>,
}

impl Seen {
    fn note(&mut self, number: u64, is_right: bool, what: impl FnOnce() -> String) {
        if !self.once.insert(number) {
            self.twice.push(number);
        }
        if !is_right {
            self.wrong.push(what());
        }
    }

    fn found(mut self) -> Found {
        // A few tell all.
        self.wrong.truncate(20);
        Found { numbers: Runs::of(self.once), twice: Runs::of(self.twice), wrong: self.wrong }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_twice_or_wrong_is_found() {
        let mut seen = Seen::default();
        for number in [3, 4, 4, 5] {
            seen.note(number, number != 5, || format!("{number} is off"));
        }
        let found = seen.found();
        assert_eq!(found.numbers.0, [(3, 6)]);
        assert_eq!(found.twice.0, [(4, 5)]);
        assert_eq!(found.wrong, ["5 is off"]);
    }
}
