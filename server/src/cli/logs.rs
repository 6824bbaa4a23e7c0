//! `pharos logs`: searching logs, watching them as they come, and deleting them.

use std::collections::BTreeSet;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::Value;

use super::client::Target;
use super::{CliError, say};
use crate::api::time::{format_rfc3339_ns, parse_duration_ms, parse_time_ns};
use crate::runtime::now_ns;

const AFTER_HELP: &str = "\
Examples:
  pharos logs query 'service.name:checkout level>=warn \"connection refused\" -debug'
  pharos logs query 'status:[500 TO 599] /timeout|refused/' --start -15m --limit 1000
  pharos logs query '*' --start 2026-01-31T10:00:00Z --end 2026-01-31T11:00:00Z --json
  pharos logs tail 'level>=error'
  pharos logs delete 'user.email:x@example.org' --start 2026-01-01T00:00:00Z --end 2026-02-01T00:00:00Z

docs/logs.md has the language.";

/// Searches logs on a running cluster, shows them as they come, or deletes them.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct LogsArgs {
    #[command(subcommand)]
    command: LogsCommand,
}

#[derive(Debug, Subcommand)]
enum LogsCommand {
    /// Shows the newest records that a search finds, oldest of them first
    Query(QueryArgs),
    /// Shows records as they are written, until interrupted
    Tail(TailArgs),
    /// Deletes the records that a search finds
    Delete(DeleteArgs),
}

#[derive(Debug, Args)]
struct QueryArgs {
    /// What to look for; everything by default
    #[arg(default_value = "*", allow_hyphen_values = true)]
    search: String,
    /// First moment: RFC 3339, seconds, or a duration back from now such as -15m [default: -1h]
    #[arg(long, allow_hyphen_values = true, default_value = "-1h")]
    start: String,
    /// Last moment [default: now]
    #[arg(long, allow_hyphen_values = true)]
    end: Option<String>,
    /// At most so many records
    #[arg(long, default_value_t = 100)]
    limit: usize,
    /// Prints a record a line as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, Args)]
struct TailArgs {
    /// What to look for; everything by default
    #[arg(default_value = "*", allow_hyphen_values = true)]
    search: String,
    /// Prints a record a line as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, Args)]
struct DeleteArgs {
    /// What to delete; * for everything
    #[arg(allow_hyphen_values = true)]
    search: String,
    /// First moment: RFC 3339, seconds, or a duration back from now such as -15m
    #[arg(long, allow_hyphen_values = true)]
    start: String,
    /// Last moment
    #[arg(long, allow_hyphen_values = true)]
    end: String,
    #[command(flatten)]
    target: Target,
}

impl LogsArgs {
    pub fn run(self) -> Result<(), CliError> {
        match self.command {
            LogsCommand::Query(args) => args.run(),
            LogsCommand::Tail(args) => args.run(),
            LogsCommand::Delete(args) => args.run(),
        }
    }
}

fn moment(name: &str, text: &str, now_ns: i64) -> Result<i64, CliError> {
    let back = text.strip_prefix('-').filter(|rest| rest.parse::<f64>().is_err()).and_then(parse_duration_ms);
    let parsed =
        back.map(|ms| now_ns.saturating_sub(ms.saturating_mul(1_000_000))).or_else(|| parse_time_ns(text));
    parsed.ok_or_else(|| CliError::Failed(format!("--{name}: {text:?} is no time")))
}

/// Nanoseconds as a parameter, so that no server takes them for seconds.
fn param(ns: i64) -> String {
    format_rfc3339_ns(ns)
}

impl QueryArgs {
    fn run(self) -> Result<(), CliError> {
        let now = now_ns();
        let start = moment("start", &self.start, now)?;
        let end = self.end.as_deref().map_or(Ok(now), |text| moment("end", text, now))?;
        let params = [
            ("query", self.search),
            ("start", param(start)),
            ("end", param(end)),
            ("limit", self.limit.to_string()),
        ];
        let answer = self.target.post("/api/v1/logs/query", &params)?;
        for row in rows(&answer).iter().rev() {
            say(&if self.json { row.to_string() } else { line(row) });
        }
        Ok(())
    }
}

impl DeleteArgs {
    fn run(self) -> Result<(), CliError> {
        let now = now_ns();
        let (start, end) = (moment("start", &self.start, now)?, moment("end", &self.end, now)?);
        let params = [("query", self.search), ("start", param(start)), ("end", param(end))];
        self.target.post("/api/v1/logs/delete", &params)?;
        say("deleted: no query sees these records any more");
        Ok(())
    }
}

fn rows(answer: &Value) -> &[Value] {
    answer["data"]["rows"].as_array().map_or(&[], Vec::as_slice)
}

/// How often a tail asks, how far it looks back for what came late, and how much it takes at once.
const EVERY: Duration = Duration::from_secs(1);
const LOOKBACK_NS: i64 = 5_000_000_000;
const AT_ONCE: usize = 5_000;

impl TailArgs {
    fn run(self) -> Result<(), CliError> {
        let mut from = now_ns();
        let mut seen: BTreeSet<(i64, String)> = BTreeSet::new();
        loop {
            let params = [
                ("query", self.search.clone()),
                ("start", param(from)),
                ("end", param(now_ns())),
                ("direction", "forward".to_owned()),
                ("limit", (seen.len() + AT_ONCE).to_string()),
            ];
            let answer = self.target.post("/api/v1/logs/query", &params)?;
            for row in rows(&answer) {
                let time = row["timeUnixNano"].as_str().and_then(|text| text.parse().ok()).unwrap_or(from);
                let id = row["id"].as_str().unwrap_or_default().to_owned();
                if seen.insert((time, id)) {
                    say(&if self.json { row.to_string() } else { line(row) });
                }
                from = from.max(time.saturating_sub(LOOKBACK_NS));
            }
            seen = seen.split_off(&(from, String::new()));
            std::thread::sleep(EVERY);
        }
    }
}

/// A record for people: when, how bad, who, what, and its attributes.
fn line(row: &Value) -> String {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    };
    let mut out = text(&row["time"]);
    let level = row["level"].as_str().unwrap_or("-");
    out.push_str(&format!("  {level:<5}  "));
    if let Some(service) = row["resource"]["service.name"].as_str() {
        out.push_str(&format!("{service}  "));
    }
    out.push_str(&text(&row["body"]));
    for (key, value) in row["attributes"].as_object().into_iter().flatten() {
        out.push_str(&format!("  {key}={}", text(value)));
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn records_for_people() {
        let row = json!({
            "time": "2026-01-31T10:00:00.000000000Z",
            "level": "warn",
            "body": "it was slow",
            "resource": {"service.name": "checkout"},
            "attributes": {"ms": 1200, "route": "/pay"},
        });
        let expected = "2026-01-31T10:00:00.000000000Z  warn   checkout  it was slow  ms=1200  route=/pay";
        assert_eq!(line(&row), expected);
        assert_eq!(line(&json!({"time": "t", "body": {"a": 1}})), "t  -      {\"a\":1}");
    }

    #[test]
    fn moments() {
        let now = 1_000_000_000_000_000;
        assert_eq!(moment("start", "-15m", now).unwrap(), now - 900_000_000_000);
        assert_eq!(moment("start", "1500000000", now).unwrap(), 1_500_000_000_000_000_000);
        assert!(moment("start", "soon", now).is_err());
    }
}
