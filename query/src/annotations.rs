//! Warnings and information that come with a result, in Prometheus' words.
//!
//! They are told apart by text and place: a warning that every series raises at every step appears once. Fixes of
//! classic histograms' monotonicity are summarised instead: how many samples, between which times and buckets.

use std::collections::BTreeMap;

use protocol::scan::AnnotationMessage;

use crate::format::{format_g, format_g_precision, quote_bytes};
use crate::promql::span::Span;

/// What an operation over histograms is called in messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HistogramOperation {
    /// `+`
    Addition,
    /// `-`
    Subtraction,
    /// `sum`, `avg` and their `_over_time`.
    Aggregation,
}

impl HistogramOperation {
    fn as_str(self) -> &'static str {
        match self {
            Self::Addition => "addition",
            Self::Subtraction => "subtraction",
            Self::Aggregation => "aggregation",
        }
    }
}

/// The annotations of a query.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Annotations {
    entries: BTreeMap<Key, Option<Summary>>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    info: bool,
    text: String,
    span_start: Option<u32>,
}

#[derive(Clone, Debug, PartialEq)]
struct Summary {
    count: u64,
    first_ms: i64,
    last_ms: i64,
    lowest: f64,
    highest: f64,
    difference: f64,
}

impl Summary {
    fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.first_ms = self.first_ms.min(other.first_ms);
        self.last_ms = self.last_ms.max(other.last_ms);
        self.lowest = self.lowest.min(other.lowest);
        self.highest = self.highest.max(other.highest);
        self.difference = self.difference.max(other.difference);
    }
}

const FORCED_MONOTONICITY: &str = "input to histogram_quantile needed to be fixed for monotonicity (see \
    https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile)";

fn quoted(text: &str) -> String {
    quote_bytes(text.as_bytes())
}

fn for_metric(text: String, metric: &str) -> String {
    if metric.is_empty() { text } else { format!("{text} for metric name {}", quoted(metric)) }
}

impl Annotations {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn add(&mut self, info: bool, text: String, span: Span) {
        let key = Key { info, text, span_start: Some(span.start) };
        self.entries.entry(key).or_insert(None);
    }

    /// Takes over all of another.
    pub fn merge(&mut self, other: Self) {
        for (key, summary) in other.entries {
            match (self.entries.entry(key).or_insert(None), summary) {
                (Some(mine), Some(theirs)) => mine.merge(&theirs),
                (mine @ None, theirs @ Some(_)) => *mine = theirs,
                (_, None) => {}
            }
        }
    }

    /// A warning without a place: about the request or the data as a whole.
    pub fn warning(&mut self, text: impl Into<String>) {
        self.entries.insert(Key { info: false, text: text.into(), span_start: None }, None);
    }

    /// A quantile outside of 0 to 1.
    pub fn invalid_quantile(&mut self, quantile: f64, span: Span) {
        let text = format!("quantile value should be between 0 and 1, got {}", format_g(quantile));
        self.add(false, text, span);
    }

    /// A ratio outside of -1 to 1.
    pub fn invalid_ratio(&mut self, ratio: f64, capped: f64, span: Span) {
        let (ratio, capped) = (format_g(ratio), format_g(capped));
        let text = format!("ratio value should be between -1 and 1, got {ratio}, capping to {capped}");
        self.add(false, text, span);
    }

    /// A classic bucket without a usable `le`.
    pub fn bad_bucket_label(&mut self, metric: &str, label: &str, span: Span) {
        let text = format!("bucket label \"le\" is missing or has a malformed value of {}", quoted(label));
        self.add(false, for_metric(text, metric), span);
    }

    /// Floats and histograms in one range.
    pub fn mixed_floats_histograms(&mut self, metric: &str, span: Span) {
        let text = format!("encountered a mix of histograms and floats for metric name {}", quoted(metric));
        self.add(false, text, span);
    }

    /// Floats and histograms in one aggregated group.
    pub fn mixed_floats_histograms_aggregation(&mut self, span: Span) {
        self.add(false, "encountered a mix of histograms and floats for aggregation".to_owned(), span);
    }

    /// Classic and native histograms of one series.
    pub fn mixed_classic_native(&mut self, metric: &str, span: Span) {
        let text = "vector contains a mix of classic and native histograms".to_owned();
        self.add(false, for_metric(text, metric), span);
    }

    /// A counter function over a gauge histogram.
    pub fn not_a_counter(&mut self, metric: &str, span: Span) {
        self.add(false, format!("this native histogram metric is not a counter: {}", quoted(metric)), span);
    }

    /// A gauge function over a counter histogram.
    pub fn not_a_gauge(&mut self, metric: &str, span: Span) {
        self.add(false, format!("this native histogram metric is not a gauge: {}", quoted(metric)), span);
    }

    /// A range has a part of an hour in it that is rolled up.
    pub fn parts_of_rolled_hours(&mut self, span: Span) {
        let text = "of older hours only roll-ups are left: what looks at a part of such an hour goes by the few samples that \
                    are left of it; ranges, steps and offsets that are full hours are exact";
        self.add(false, text.to_owned(), span);
    }

    /// A function that roll-ups can not answer.
    pub fn not_told_by_rollups(&mut self, span: Span) {
        let text = "of older hours only roll-ups are left, which do not tell what this function asks: there is no value where \
                    its range reaches into them";
        self.add(false, text.to_owned(), span);
    }

    /// Exponential and custom buckets meet.
    pub fn mixed_exponential_custom(&mut self, metric: &str, span: Span) {
        let text = format!(
            "vector contains a mix of histograms with exponential and custom buckets schemas for metric name {}",
            quoted(metric)
        );
        self.add(false, text, span);
    }

    /// Two histograms that a binary operator can not bring together.
    pub fn incompatible_bucket_layout(&mut self, operator: &str, span: Span) {
        let text = format!("incompatible bucket layout encountered for binary operator {operator}");
        self.add(false, text, span);
    }

    /// Histograms that say "reset" and "not reset" were brought together.
    pub fn counter_reset_collision(&mut self, operation: HistogramOperation, span: Span) {
        let text = format!("conflicting counter resets during histogram {}", operation.as_str());
        self.add(false, text, span);
    }

    /// Custom buckets of different bounds were brought together.
    pub fn mismatched_custom_buckets(&mut self, operation: HistogramOperation, span: Span) {
        let text = format!("mismatched custom buckets were reconciled during {}", operation.as_str());
        self.add(true, text, span);
    }

    /// A sort of which nothing remains.
    pub fn sort_in_range_query(&mut self, span: Span) {
        let text =
            "sort is ineffective for range queries since results are always ordered by labels".to_owned();
        self.add(false, text, span);
    }

    /// A rate over something that does not look like a counter by its name.
    pub fn possible_non_counter(&mut self, metric: &str, span: Span) {
        let text = format!(
            "metric might not be a counter, name does not end in _total/_sum/_count/_bucket: {}",
            quoted(metric)
        );
        self.add(true, text, span);
    }

    /// A rate over something that is no counter by its type label.
    pub fn possible_non_counter_label(&mut self, metric: &str, label: &str, span: Span) {
        let text = format!(
            "metric might not be a counter, __type__ label is not set to \"counter\" or \"histogram\", got {}: {}",
            quoted(label),
            quoted(metric)
        );
        self.add(true, text, span);
    }

    /// A classic histogram whose counts had to be made ascending.
    pub fn forced_monotonicity(
        &mut self,
        metric: &str,
        span: Span,
        at_ms: i64,
        lowest: f64,
        highest: f64,
        difference: f64,
    ) {
        let text = for_metric(FORCED_MONOTONICITY.to_owned(), metric);
        let new = Summary { count: 1, first_ms: at_ms, last_ms: at_ms, lowest, highest, difference };
        let key = Key { info: true, text, span_start: Some(span.start) };
        match self.entries.entry(key).or_insert(None) {
            Some(summary) => summary.merge(&new),
            none => *none = Some(new),
        }
    }

    /// A binary operator over samples of types that it can not bring together.
    pub fn incompatible_types(&mut self, left: &str, operator: &str, right: &str, span: Span) {
        let text = format!(
            "incompatible sample types encountered for binary operator {}: {left} {operator} {right}",
            quoted(operator)
        );
        self.add(true, text, span);
    }

    /// An aggregation that can not take histograms met one.
    pub fn histogram_ignored_in_aggregation(&mut self, aggregation: &str, span: Span) {
        self.add(true, format!("ignored histogram in {aggregation} aggregation"), span);
    }

    /// A function that can not take histograms met some beside floats.
    pub fn histogram_ignored_in_mixed_range(&mut self, metric: &str, span: Span) {
        let text = format!(
            "ignored histograms in a range containing both floats and histograms for metric name {}",
            quoted(metric)
        );
        self.add(true, text, span);
    }

    /// A quantile that fell among NaN observations.
    pub fn quantile_nan_result(&mut self, metric: &str, span: Span) {
        let text = "input to histogram_quantile has NaN observations, result is NaN".to_owned();
        self.add(true, for_metric(text, metric), span);
    }

    /// A quantile shifted by NaN observations.
    pub fn quantile_nan_skew(&mut self, metric: &str, span: Span) {
        let text = "input to histogram_quantile has NaN observations, result is skewed higher".to_owned();
        self.add(true, for_metric(text, metric), span);
    }

    /// A fraction that leaves NaN observations out.
    pub fn fraction_nan(&mut self, metric: &str, span: Span) {
        let text = "input to histogram_fraction has NaN observations, which are excluded from all fractions"
            .to_owned();
        self.add(true, for_metric(text, metric), span);
    }

    /// The warnings, each with its place in the query.
    pub fn warnings(&self, query: &str) -> Vec<String> {
        self.render(query, false)
    }

    /// The information, each with its place in the query.
    pub fn infos(&self, query: &str) -> Vec<String> {
        self.render(query, true)
    }

    fn render(&self, query: &str, info: bool) -> Vec<String> {
        let entries = self.entries.iter().filter(|(key, _)| key.info == info);
        entries
            .map(|(key, summary)| {
                let Some(start) = key.span_start else { return key.text.clone() };
                let mut text = format!("PromQL {}: {}", if info { "info" } else { "warning" }, key.text);
                if let Some(s) = summary {
                    text += &format!(
                        ", from buckets {} to {}, with a max diff of {}, over {} samples from {} to {}",
                        format_g(s.lowest),
                        format_g(s.highest),
                        format_g_precision(s.difference, 2),
                        s.count,
                        rfc3339(s.first_ms),
                        rfc3339(s.last_ms)
                    );
                }
                let place = Span { start, end: start }.line_column(query);
                format!("{text} ({place})")
            })
            .collect()
    }

    /// For the answer of a fragment.
    pub(crate) fn to_wire(&self) -> Vec<AnnotationMessage> {
        let message = |(key, summary): (&Key, &Option<Summary>)| AnnotationMessage {
            warning: !key.info,
            text: key.text.clone(),
            position: key.span_start.map_or(0, |start| start.saturating_add(1)),
            first_ms: summary.as_ref().map_or(0, |s| s.first_ms),
            last_ms: summary.as_ref().map_or(0, |s| s.last_ms),
            numbers: summary.as_ref().map_or(Vec::new(), |s| vec![s.lowest, s.highest, s.difference]),
            count: summary.as_ref().map_or(0, |s| s.count),
        };
        self.entries.iter().map(message).collect()
    }

    /// From the answer of a fragment.
    pub(crate) fn from_wire(messages: Vec<AnnotationMessage>) -> Self {
        let mut all = Self::default();
        for m in messages {
            let summary = match m.numbers[..] {
                [lowest, highest, difference] if m.count > 0 => Some(Summary {
                    count: m.count,
                    first_ms: m.first_ms,
                    last_ms: m.last_ms,
                    lowest,
                    highest,
                    difference,
                }),
                _ => None,
            };
            let key = Key { info: !m.warning, text: m.text, span_start: m.position.checked_sub(1) };
            all.entries.insert(key, summary);
        }
        all
    }
}

/// A time as RFC 3339 in UTC, to the second.
fn rfc3339(millis: i64) -> String {
    let seconds = millis.div_euclid(1000);
    let date = crate::calendar::Date::from_unix(seconds);
    let of_day = seconds.rem_euclid(86_400);
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
        date.year,
        date.month,
        date.day,
        of_day / 3600,
        of_day / 60 % 60,
        of_day % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wording_place_and_wire() {
        let mut notes = Annotations::default();
        notes.not_a_gauge("m", Span { start: 22, end: 30 });
        notes.not_a_gauge("m", Span { start: 22, end: 30 });
        notes.forced_monotonicity("", Span { start: 0, end: 1 }, 1000, 0.5, 2.0, 0.25);
        notes.forced_monotonicity("", Span { start: 0, end: 1 }, 3000, 0.1, 1.0, 0.5);
        let query = "histogram_count(delta(m[5m]))";
        assert_eq!(
            notes.warnings(query),
            ["PromQL warning: this native histogram metric is not a gauge: \"m\" (1:23)"]
        );
        let info = &notes.infos(query)[0];
        assert!(info.contains("from buckets 0.1 to 2, with a max diff of 0.5, over 2 samples"), "{info}");
        assert!(info.ends_with("from 1970-01-01T00:00:01Z to 1970-01-01T00:00:03Z (1:1)"), "{info}");
        assert_eq!(Annotations::from_wire(notes.to_wire()), notes);
    }
}
