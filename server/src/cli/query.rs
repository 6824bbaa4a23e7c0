//! `pharos query`

use clap::Args;
use serde_json::Value;

use super::client::Target;
use super::table::table;
use super::{CliError, complain, say};
use crate::api::time::{format_rfc3339, parse_duration_ms, parse_time_ms};
use crate::runtime::now_ms;

const EXAMPLES: &str = "\
Examples:
  pharos query 'up'
  pharos query 'sum by (instance) (rate(process_cpu_seconds_total[1m]))'
  pharos query 'rate(pharos_http_requests_total[1m])' --start -15m --step 1m
  pharos query 'count({job=\"pharos\"})' --time 2026-01-31T12:00:00Z --json
  pharos query 'sum by (instance) (rate(process_cpu_seconds_total[1m]))' --explain

Times are seconds since 1970, RFC 3339, or a distance back from now such as -15m.";

/// Arguments of `pharos query`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct QueryArgs {
    /// A PromQL expression
    expression: String,
    /// The moment [default: now]
    #[arg(long, allow_hyphen_values = true, conflicts_with_all = ["start", "end", "step"])]
    time: Option<String>,
    /// First moment of a range
    #[arg(long, allow_hyphen_values = true)]
    start: Option<String>,
    /// Last moment of a range [default: now]
    #[arg(long, allow_hyphen_values = true, requires = "start")]
    end: Option<String>,
    /// Distance of the moments of a range [default: a 60th of it, at least 1s]
    #[arg(long, requires = "start")]
    step: Option<String>,
    /// Shows where each part is evaluated and what each shard did, instead of the result
    #[arg(long)]
    explain: bool,
    /// Prints the server's answer as it is
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

fn moment(name: &str, text: &str, now: i64) -> Result<i64, CliError> {
    let back = text.strip_prefix('-').filter(|rest| rest.parse::<f64>().is_err()).and_then(parse_duration_ms);
    let parsed = back.map(|ms| now - ms).or_else(|| parse_time_ms(text));
    parsed.ok_or_else(|| CliError::Failed(format!("--{name}: {text:?} is no time")))
}

fn seconds(ms: i64) -> String {
    format!("{:.3}", ms as f64 / 1000.0)
}

impl QueryArgs {
    pub fn run(self) -> Result<(), CliError> {
        let now = now_ms();
        let mut params = vec![("query", self.expression.clone())];
        let path = match &self.start {
            None => {
                let time = self.time.as_deref().map_or(Ok(now), |text| moment("time", text, now))?;
                params.push(("time", seconds(time)));
                "/api/v1/query"
            }
            Some(start) => {
                let start = moment("start", start, now)?;
                let end = self.end.as_deref().map_or(Ok(now), |text| moment("end", text, now))?;
                let step = match &self.step {
                    Some(text) => parse_duration_ms(text)
                        .ok_or_else(|| CliError::Failed(format!("--step: {text:?} is no duration")))?,
                    None => ((end - start) / 60).max(1000),
                };
                params.extend([("start", seconds(start)), ("end", seconds(end)), ("step", seconds(step))]);
                "/api/v1/query_range"
            }
        };
        if self.explain {
            params.extend([("explain", "true".to_owned()), ("stats", "true".to_owned())]);
        }
        let answer = self.target.post(path, &params)?;
        if self.json {
            say(&answer.to_string());
            return Ok(());
        }
        for remark in ["warnings", "infos"].into_iter().filter_map(|key| answer[key].as_array()).flatten() {
            complain(remark.as_str().unwrap_or_default());
        }
        say(&if self.explain { explained(&answer["data"]) } else { shown(&answer["data"]) });
        Ok(())
    }
}

/// The plan, what each shard did, and the sums, for people.
fn explained(data: &Value) -> String {
    fn plan(node: &Value, depth: usize, rows: &mut Vec<Vec<String>>) {
        let text = |key: &str| node[key].as_str().unwrap_or_default().to_owned();
        let once = if node["once"] == true { ", once for all steps" } else { "" };
        rows.push(vec![
            format!("{}{}", "  ".repeat(depth), text("expression")),
            format!("{}{once}", text("place")),
        ]);
        for part in node["parts"].as_array().into_iter().flatten() {
            plan(part, depth + 1, rows);
        }
    }
    let mut rows = Vec::new();
    plan(&data["explain"]["plan"], 0, &mut rows);
    let mut out = vec![table(&["expression", "evaluated"], &rows)];
    for fragment in data["explain"]["fragments"].as_array().into_iter().flatten() {
        let text = |key: &str| fragment[key].as_str().unwrap_or_default();
        out.push(format!(
            "\n{}\n  {} steps, {} ms, used {} time(s)",
            text("expression"),
            fragment["steps"],
            millis(&fragment["seconds"]),
            fragment["uses"],
        ));
        let row = |shard: &Value| {
            let count = |key: &str| shard[key].to_string();
            vec![
                count("shard"),
                count("series"),
                count("samples"),
                count("rows"),
                count("bytes"),
                millis(&shard["seconds"]),
            ]
        };
        let shards: Vec<Vec<String>> = fragment["shards"].as_array().into_iter().flatten().map(row).collect();
        out.push(table(&["shard", "series", "samples", "rows", "bytes", "ms"], &shards));
    }
    let timings = &data["stats"]["timings"];
    out.push(format!(
        "\nwaited {} ms for a place, {} ms for the shards, evaluated {} ms; {} samples of {} series",
        millis(&timings["execQueueTime"]),
        millis(&timings["queryPreparationTime"]),
        millis(&timings["innerEvalTime"]),
        data["stats"]["samples"]["totalQueryableSamples"],
        data["stats"]["pharos"]["series"],
    ));
    out.join("\n")
}

fn millis(seconds: &Value) -> String {
    format!("{:.1}", seconds.as_f64().unwrap_or_default() * 1000.0)
}

/// A result for people.
fn shown(data: &Value) -> String {
    let empty = Vec::new();
    let result = &data["result"];
    match data["resultType"].as_str() {
        Some("scalar" | "string") => result[1].as_str().unwrap_or_default().to_owned(),
        Some("vector") => {
            let rows = result.as_array().unwrap_or(&empty);
            if rows.is_empty() {
                return "no series".to_owned();
            }
            let rows: Vec<Vec<String>> = rows
                .iter()
                .map(|row| vec![labels(&row["metric"]), sample(row, "value", "histogram")])
                .collect();
            table(&["series", "value"], &rows)
        }
        _ => {
            let series = result.as_array().unwrap_or(&empty);
            if series.is_empty() {
                return "no series".to_owned();
            }
            let mut out = Vec::new();
            for row in series {
                out.push(labels(&row["metric"]));
                for key in ["values", "histograms"] {
                    for point in row[key].as_array().unwrap_or(&empty) {
                        let time = format_rfc3339((point[0].as_f64().unwrap_or(0.0) * 1000.0).round() as i64);
                        out.push(format!("  {time}  {}", point_text(&point[1])));
                    }
                }
            }
            out.join("\n")
        }
    }
}

fn sample(row: &Value, float: &str, histogram: &str) -> String {
    let point = if row[float].is_array() { &row[float][1] } else { &row[histogram][1] };
    point_text(point)
}

fn point_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        histogram => format!(
            "histogram count={} sum={}",
            histogram["count"].as_str().unwrap_or("?"),
            histogram["sum"].as_str().unwrap_or("?")
        ),
    }
}

/// Labels as a selector: `up{job="x"}`.
fn labels(metric: &Value) -> String {
    let Some(map) = metric.as_object() else { return "{}".to_owned() };
    let name = map.get("__name__").and_then(Value::as_str).unwrap_or_default();
    let rest: Vec<String> = map
        .iter()
        .filter(|(key, _)| *key != "__name__")
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    if rest.is_empty() && !name.is_empty() {
        name.to_owned()
    } else {
        format!("{name}{{{}}}", rest.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn results_for_people() {
        let vector = json!({"resultType": "vector", "result": [
            {"metric": {"__name__": "up", "job": "a"}, "value": [1.5, "1"]},
            {"metric": {"__name__": "up"}, "value": [1.5, "0.5"]},
        ]});
        assert_eq!(shown(&vector), "series       value\nup{job=\"a\"}      1\nup             0.5");
        let matrix = json!({"resultType": "matrix", "result": [
            {"metric": {}, "values": [[0, "1"], [60.5, "NaN"]], "histograms": [[1, {"count": "3", "sum": "7"}]]},
        ]});
        let expected = "{}\n  1970-01-01T00:00:00Z  1\n  1970-01-01T00:01:00Z  NaN\n  1970-01-01T00:00:01Z  histogram count=3 sum=7";
        assert_eq!(shown(&matrix), expected);
        assert_eq!(shown(&json!({"resultType": "scalar", "result": [0, "2"]})), "2");
        assert_eq!(shown(&json!({"resultType": "vector", "result": []})), "no series");
    }

    #[test]
    fn explanations_for_people() {
        let data = json!({
            "explain": {
                "plan": {"expression": "sum(a) + 1", "place": "here", "once": false, "parts": [
                    {"expression": "sum(a)", "place": "at the shards", "once": true, "parts": []},
                ]},
                "fragments": [{"expression": "sum(a)", "steps": 2, "uses": 1, "seconds": 0.0015, "shards": [
                    {"shard": 1, "series": 3, "samples": 40, "rows": 1, "bytes": 99, "seconds": 0.001},
                ]}],
            },
            "stats": {
                "timings": {"execQueueTime": 0, "queryPreparationTime": 0.0015, "innerEvalTime": 0.0001},
                "samples": {"totalQueryableSamples": 40},
                "pharos": {"series": 3},
            },
        });
        let expected = "expression  evaluated\nsum(a) + 1  here\n  sum(a)    at the shards, once for all steps\n\n\
            sum(a)\n  2 steps, 1.5 ms, used 1 time(s)\n\
            shard  series  samples  rows  bytes   ms\n    1       3       40     1     99  1.0\n\n\
            waited 0.0 ms for a place, 1.5 ms for the shards, evaluated 0.1 ms; 40 samples of 3 series";
        assert_eq!(explained(&data), expected);
    }

    #[test]
    fn moments() {
        assert_eq!(moment("time", "-15m", 1_000_000).unwrap(), 100_000);
        assert_eq!(moment("time", "-5", 1_000_000).unwrap(), -5000);
        assert_eq!(moment("time", "12.5", 0).unwrap(), 12_500);
        assert!(moment("time", "soon", 0).is_err());
    }
}
