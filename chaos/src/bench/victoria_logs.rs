//! The questions of the log benchmark in VictoriaLogs' words, and how it takes OTLP.
//!
//! Each is asked by the endpoint that its own pages use for it: counts and statistics by `stats_query`, rows by `query` with a
//! limit, which gives the newest ones, and the histogram by `hits`.

use std::io;

use anyhow::Context;
use serde_json::Value;

use super::queries::encode;
use super::rows::{Figure, Question};
use crate::http::{Answer, Connection};
use crate::log_workload::{SPAN_NS, Truth};

/// Sends an OTLP export of logs. Attributes of the resource become the fields of a stream.
pub(super) fn post(connection: &mut Connection, body: &[u8]) -> io::Result<Answer> {
    connection.post_otlp("/insert/opentelemetry/v1/logs", body)
}

/// What the statistic `n` adds up to over all groups.
fn statistic(answer: &[Value]) -> anyhow::Result<u64> {
    let groups = answer.first().and_then(|root| root["data"]["result"].as_array()).context("no result")?;
    let counts = groups.iter().filter(|group| group["metric"]["__name__"] == "n");
    counts
        .map(|group| {
            let text = group["value"][1].as_str().context("a statistic has a value")?;
            text.parse::<u64>().with_context(|| format!("{text:?} is no count"))
        })
        .sum()
}

/// Rows of the answer, each a document.
fn rows(answer: &[Value]) -> anyhow::Result<u64> {
    Ok(answer.len() as u64)
}

/// Rows that a histogram counted.
fn hits(answer: &[Value]) -> anyhow::Result<u64> {
    let groups = answer.first().and_then(|root| root["hits"].as_array()).context("no hits")?;
    groups.iter().map(|group| group["total"].as_u64().context("hits have a total")).sum()
}

/// The eleven questions, over all lines.
pub(super) fn questions(truth: &Truth, start_ns: i64) -> Vec<Question> {
    let range = format!("start={start_ns}&end={}", start_ns + SPAN_NS);
    let of = |name, endpoint: &str, search: &str, more: &str, figure: Figure, expected| {
        let path = format!("/select/logsql/{endpoint}?query={}{more}", encode(search));
        Question { name, path, figure, expected }
    };
    let stats = |name, search: &str, pipe: &str, expected| {
        of(name, "stats_query", &format!("{search} | stats {pipe}"), "", statistic, expected)
    };
    let newest = |name, search: &str, limit: u64, expected: u64| {
        of(name, "query", search, &format!("&limit={limit}&{range}"), rows, expected.min(limit))
    };
    let needle: String = truth.needle.0.iter().map(|byte| format!("{byte:02x}")).collect();
    let payment = r#"failed "service.name":=payment severity_text:=ERROR"#;
    vec![
        stats("phrase_count", r#""context deadline exceeded""#, "count() n", truth.phrase),
        newest("phrase_rows_1000", r#""context deadline exceeded""#, 1000, truth.phrase),
        stats("word_and_fields", payment, "count() n", truth.word_and_fields),
        of(
            "level_per_minute",
            "hits",
            "*",
            &format!("&field=severity_text&step=1m&{range}"),
            hits,
            truth.lines,
        ),
        newest("last_100_of_service", r#"{service.name="checkout"}"#, 100, truth.lines),
        newest("needle_trace_id", &format!("trace_id:={needle}"), 1000, truth.needle.1),
        stats("regex_count", r#"~"took [0-9]+ rows=1[0-9]{2} ""#, "count() n", truth.regex),
        stats("substring_count", r#"*"nection refus"*"#, "count() n", truth.substring),
        stats("slow_by_service", "duration_ms:>1500", r#"by ("service.name") count() n"#, truth.slow),
        stats("p99_duration", "*", "count(duration_ms) n, quantile(0.99, duration_ms) q", truth.durations),
        stats("uniq_users", "*", "count_uniq(user_id) n", truth.users),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::log_workload::{LogWorkload, encode_requests};

    #[test]
    fn answers_are_counted() {
        let group = |name: &str, value: &str| json!({"metric": {"__name__": name}, "value": [1.5, value]});
        let result = [group("n", "3"), group("q", "0.5"), group("n", "4")];
        assert_eq!(statistic(&[json!({"data": {"result": result}})]).unwrap(), 7);
        assert!(statistic(&[json!({"data": {"result": [group("n", "x")]}})]).is_err());
        assert!(statistic(&[]).is_err());
        assert_eq!(rows(&[json!({}), json!({})]).unwrap(), 2);
        assert_eq!(hits(&[json!({"hits": [{"total": 2}, {"total": 5}]})]).unwrap(), 7);
        assert!(hits(&[json!({"hits": [{}]})]).is_err());
    }

    #[test]
    fn both_stores_are_asked_the_same() {
        let mut truth = Truth::default();
        encode_requests(&mut LogWorkload::new(2000, 1, 0), 1, 1, &mut truth);
        let of = |questions: Vec<Question>| -> Vec<(&'static str, u64)> {
            questions.iter().map(|question| (question.name, question.expected)).collect()
        };
        assert_eq!(of(questions(&truth, 0)), of(super::super::logs::questions(&truth, 0)));
    }
}
