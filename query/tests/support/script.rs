//! The runner of Prometheus' test language: `load`, `clear`, `eval instant|range` with their expectations.
//!
//! Each `eval` is a case. An instant case also has to hold in the middle of a range query, and with `@` fixed on its
//! time when evaluated at other times, as Prometheus' own runner demands. What is asked is a [`Subject`]: the engine in
//! this process, or a server over HTTP.

use std::collections::BTreeMap;
use std::sync::Arc;

use protocol::histogram::{CounterResetHint, Histogram};
use protocol::labels::{Labels, METRIC_NAME};
use query::QueryKind;
use query::format::{format_labels, parse_float};
use query::histogram::HistogramExt;
use query::promql::ast::{At, Expr, ExprKind, ValueType};
use query::promql::functions::FunctionId;
use query::promql::parser::{parse, parse_duration};
use query::result::histogram_json;
use query::value::almost_equal;

use super::series::{Item, Line, parse_line, parse_series};

/// Relative error that Prometheus allows.
const EPSILON: f64 = 1e-6;

/// What came of a script.
#[derive(Debug, Default)]
pub struct Report {
    pub passed: usize,
    pub total: usize,
    /// `line: what`, of the cases that failed.
    pub failures: Vec<String>,
    /// All results, for comparison between numbers of shards.
    pub results: Vec<Ran>,
    /// Where those differ.
    pub differing: Vec<String>,
}

/// A value of a result.
#[derive(Clone, Debug)]
#[allow(dead_code, reason = "a subject gives one form of histograms or the other")]
pub enum Point {
    /// A float.
    Float(f64),
    /// A native histogram with all that the engine knows of it.
    Histogram(Arc<Histogram>),
    /// A native histogram as the API's JSON shows it.
    Shown(Shown),
}

/// What the API says of a native histogram.
#[derive(Clone, Debug)]
pub struct Shown {
    pub count: f64,
    pub sum: f64,
    /// Rule of the bounds, lower and upper bound, count.
    pub buckets: Vec<(u64, f64, f64, f64)>,
}

impl Shown {
    /// Reads `{"count":"..","sum":"..","buckets":[[rule,"lower","upper","count"],..]}`.
    pub fn from_json(json: &serde_json::Value) -> Option<Self> {
        let number = |value: &serde_json::Value| parse_float(value.as_str()?);
        let buckets = match json.get("buckets") {
            None => Vec::new(),
            Some(list) => list
                .as_array()?
                .iter()
                .map(|b| Some((b[0].as_u64()?, number(&b[1])?, number(&b[2])?, number(&b[3])?)))
                .collect::<Option<_>>()?,
        };
        Some(Self { count: number(&json["count"])?, sum: number(&json["sum"])?, buckets })
    }

    fn is_like(&self, other: &Self) -> bool {
        let close = |a: f64, b: f64| almost_equal(a, b, EPSILON);
        close(self.count, other.count)
            && close(self.sum, other.sum)
            && self.buckets.len() == other.buckets.len()
            && self
                .buckets
                .iter()
                .zip(&other.buckets)
                .all(|(a, b)| a.0 == b.0 && close(a.1, b.1) && close(a.2, b.2) && close(a.3, b.3))
    }
}

/// The value of a query.
#[derive(Clone, Debug)]
pub enum Found {
    Scalar(f64),
    String(String),
    /// In order.
    Vector(Vec<(Labels, Point)>),
    /// Points by time.
    Matrix(Vec<(Labels, BTreeMap<i64, Point>)>),
}

impl Found {
    fn type_name(&self) -> &'static str {
        match self {
            Self::Scalar(_) => "scalar",
            Self::String(_) => "string",
            Self::Vector(_) => "vector",
            Self::Matrix(_) => "matrix",
        }
    }
}

/// A query's answer.
#[derive(Clone, Debug)]
pub struct Answer {
    pub value: Found,
    pub warnings: Vec<String>,
    pub infos: Vec<String>,
}

/// A sample of a load.
#[derive(Clone, Debug)]
pub struct Load {
    pub labels: Labels,
    pub time: i64,
    pub item: Item,
}

/// What is put to the test.
pub trait Subject {
    /// Forgets all data.
    fn clear(&mut self);
    /// Stores samples; they can be read when this returns.
    fn load(&mut self, samples: &[Load]) -> Result<(), String>;
    /// Answers, or says why not.
    fn query(&mut self, query: &str, kind: QueryKind) -> Result<Answer, String>;
    /// Whether histograms are stored as they come, without a word on whether they were reset.
    fn raw_hints(&self) -> bool;
}

/// A query and what it gave.
#[derive(Clone, Debug)]
pub struct Ran {
    pub query: String,
    pub outcome: Result<Found, String>,
    /// Warnings and infos.
    pub notes: Vec<String>,
}

/// Runs one script.
pub fn run(script: &str, subject: &mut dyn Subject) -> Report {
    let mut runner = Runner { subject };
    let mut report = Report::default();
    let lines: Vec<&str> =
        script.lines().map(str::trim).map(|line| if line.starts_with('#') { "" } else { line }).collect();
    let mut i = 0;
    while i < lines.len() {
        let line = lines[i];
        let number = i + 1;
        i += 1;
        if line.is_empty() {
            continue;
        }
        let word = line.split_whitespace().next().unwrap_or("").to_lowercase();
        let block_end = lines[i..].iter().position(|l| l.is_empty()).map_or(lines.len(), |n| i + n);
        if word == "clear" {
            runner.subject.clear();
        } else if word.starts_with("load") {
            runner.load(line, &lines[i..block_end]).unwrap_or_else(|e| panic!("line {number}: {e}"));
            i = block_end;
        } else if word.starts_with("eval") {
            report.total += 1;
            match runner.eval(line, &lines[i..block_end], &mut report.results) {
                Ok(()) => report.passed += 1,
                Err(what) => report.failures.push(format!("line {number}: {line}: {what}")),
            }
            i = block_end;
        } else {
            panic!("line {number}: unknown command {line}");
        }
    }
    report
}

struct Runner<'a> {
    subject: &'a mut dyn Subject,
}

#[derive(Default)]
struct Expectations {
    fail: Option<Vec<Pattern>>,
    warn: Option<Vec<Pattern>>,
    info: Option<Vec<Pattern>>,
    no_warn: bool,
    no_info: bool,
    ordered: bool,
    string: Option<String>,
    range_vector: Option<(i64, i64, i64)>,
    scalar: Option<f64>,
    series: Vec<(Labels, Vec<Item>)>,
    /// The storage does not say whether a histogram was reset; results can only say what gauges are.
    raw_hints: bool,
}

enum Pattern {
    Any,
    Message(String),
    Regex(regex::Regex),
}

impl Pattern {
    fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if let Some(message) = text.strip_prefix("msg:") {
            return Ok(Self::Message(message.trim().to_owned()));
        }
        if let Some(pattern) = text.strip_prefix("regex:") {
            return regex::Regex::new(pattern.trim()).map(Self::Regex).map_err(|e| e.to_string());
        }
        Ok(Self::Any)
    }

    fn matches(&self, text: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Message(message) => message == text,
            Self::Regex(pattern) => pattern.is_match(text),
        }
    }
}

fn time(text: &str) -> Result<i64, String> {
    match text.strip_prefix('-') {
        Some(text) => parse_duration(text).map(|t| -t),
        None => {
            parse_duration(text).or_else(|e| text.parse::<f64>().map(|s| (s * 1000.0) as i64).map_err(|_| e))
        }
    }
}

fn unquote(text: &str) -> String {
    match parse(text).map(|e| e.kind) {
        Ok(ExprKind::String(text)) => text.lossy(),
        _ => text.to_owned(),
    }
}

impl Expectations {
    fn parse(lines: &[&str], suffix: &str) -> Result<Self, String> {
        let mut out = Self::default();
        match suffix {
            "fail" => out.fail = Some(Vec::new()),
            "warn" => out.warn = Some(Vec::new()),
            "info" => out.info = Some(Vec::new()),
            "ordered" => out.ordered = true,
            _ => {}
        }
        for line in lines {
            if let Some(rest) = line.strip_prefix("expect ").map(str::trim) {
                let (word, tail) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
                let mut add = |slot: fn(&mut Self) -> &mut Option<Vec<Pattern>>| -> Result<(), String> {
                    slot(&mut out).get_or_insert_default().push(Pattern::parse(tail)?);
                    Ok(())
                };
                match word {
                    "fail" => add(|e| &mut e.fail)?,
                    "warn" => add(|e| &mut e.warn)?,
                    "info" => add(|e| &mut e.info)?,
                    "no_warn" => out.no_warn = true,
                    "no_info" => out.no_info = true,
                    "ordered" => out.ordered = true,
                    "string" => out.string = Some(unquote(tail.trim())),
                    "range" => {
                        // range vector from A to B step S
                        let words: Vec<&str> = tail.split_whitespace().collect();
                        match words[..] {
                            ["vector", "from", start, "to", end, "step", step] => {
                                out.range_vector = Some((time(start)?, time(end)?, time(step)?));
                            }
                            _ => return Err(format!("can not read {line}")),
                        }
                    }
                    other => return Err(format!("unknown expectation {other}")),
                }
                continue;
            }
            if let Some(pattern) = line.strip_prefix("expected_fail_message ") {
                out.fail = Some(vec![Pattern::Message(pattern.trim().to_owned())]);
                continue;
            }
            if let Some(pattern) = line.strip_prefix("expected_fail_regexp ") {
                out.fail = Some(vec![Pattern::parse(&format!("regex:{pattern}"))?]);
                continue;
            }
            if let Some(value) = parse_float(line) {
                out.scalar = Some(value);
                continue;
            }
            out.series.push(parse_series(line)?);
        }
        Ok(out)
    }

    fn check_notes(&self, result: &Answer) -> Result<(), String> {
        let check = |wanted: &Option<Vec<Pattern>>, none: bool, found: &[String], kind: &str| {
            if none && !found.is_empty() {
                return Err(format!("unexpected {kind} {found:?}"));
            }
            let Some(wanted) = wanted else { return Ok(()) };
            if found.is_empty() {
                return Err(format!("expected {kind}"));
            }
            let all_wanted = wanted.iter().all(|w| found.iter().any(|f| w.matches(f)));
            let all_found = wanted.is_empty() || found.iter().all(|f| wanted.iter().any(|w| w.matches(f)));
            if all_wanted && all_found {
                Ok(())
            } else {
                Err(format!("other {kind} than expected: {found:?}"))
            }
        };
        check(&self.warn, self.no_warn, &result.warnings, "warnings")?;
        check(&self.info, self.no_info, &result.infos, "infos")
    }

    fn check_error(&self, text: &str) -> Result<(), String> {
        match &self.fail {
            None => Err(format!("unexpected error {text}")),
            Some(patterns) if patterns.is_empty() || patterns.iter().any(|p| p.matches(text)) => Ok(()),
            Some(_) => Err(format!("other error than expected: {text}")),
        }
    }

    /// A scalar or vector at one time.
    fn check_instant(&self, value: &Found) -> Result<(), String> {
        match value {
            Found::Scalar(found) => match self.scalar {
                Some(expected) if almost_equal(expected, *found, EPSILON) => Ok(()),
                expected => Err(format!("expected scalar {expected:?}, found {found}")),
            },
            Found::Vector(samples) => {
                if self.scalar.is_some() {
                    return Err("expected a scalar, found a vector".to_owned());
                }
                if samples.len() != self.series.len() {
                    let found: Vec<_> = samples
                        .iter()
                        .map(|(labels, value)| format!("{} {}", format_labels(labels), show(value)))
                        .collect();
                    let (e, f) = (self.series.len(), samples.len());
                    return Err(format!("expected {e} elements, found {f}: {found:?}"));
                }
                for (position, (labels, value)) in samples.iter().enumerate() {
                    let at = self.series.iter().position(|(expected, _)| expected == labels);
                    let Some(at) = at else {
                        return Err(format!("unexpected {}", format_labels(labels)));
                    };
                    if self.ordered && at != position {
                        return Err(format!("{} at position {position}", format_labels(labels)));
                    }
                    match &self.series[at].1[..] {
                        [item] => check_value(item, value, self.raw_hints)
                            .map_err(|e| format!("{}: {e}", format_labels(labels)))?,
                        items => return Err(format!("expected one value, the script has {}", items.len())),
                    }
                }
                Ok(())
            }
            other => Err(format!("expected an instant result, found {}", other.type_name())),
        }
    }

    /// Series over time.
    fn check_range(&self, value: &Found, start: i64, step: i64) -> Result<(), String> {
        let Found::Matrix(series) = value else {
            return Err(format!("expected a matrix, found {}", value.type_name()));
        };
        let expected: Vec<(&Labels, BTreeMap<i64, &Item>)> = self
            .series
            .iter()
            .map(|(labels, items)| {
                let at = |(i, item)| (start + i as i64 * step, item);
                let present = items.iter().enumerate().map(at);
                (labels, present.filter(|(_, item)| !matches!(item, Item::Omitted)).collect())
            })
            .collect();
        for (labels, found) in series {
            let Some((_, wanted)) = expected.iter().find(|(l, _)| *l == labels) else {
                return Err(format!("unexpected {}: {found:?}", format_labels(labels)));
            };
            if found.keys().ne(wanted.keys()) {
                let shown: Vec<_> = found.iter().map(|(t, v)| format!("{t}:{}", show(v))).collect();
                let times: Vec<_> = wanted.keys().collect();
                return Err(format!(
                    "{}: expected points at {times:?}, found {shown:?}",
                    format_labels(labels)
                ));
            }
            for (t, value) in found {
                check_value(wanted[t], value, self.raw_hints)
                    .map_err(|e| format!("{} at {t}: {e}", format_labels(labels)))?;
            }
        }
        for (labels, wanted) in expected.iter().filter(|(_, wanted)| !wanted.is_empty()) {
            if !series.iter().any(|(found, _)| found == *labels) {
                return Err(format!("missing {} with {} points", format_labels(labels), wanted.len()));
            }
        }
        Ok(())
    }
}

fn show(value: &Point) -> String {
    match value {
        Point::Float(value) => format!("{value}"),
        Point::Histogram(h) => h.describe(),
        Point::Shown(shown) => format!("{shown:?}"),
    }
}

fn check_value(expected: &Item, found: &Point, raw_hints: bool) -> Result<(), String> {
    match (expected, found) {
        (Item::Float(expected, _), Point::Float(found)) => {
            if almost_equal(*expected, *found, EPSILON) {
                Ok(())
            } else {
                Err(format!("expected {expected}, found {found}"))
            }
        }
        (Item::Histogram(expected, hint_set, _), Point::Histogram(found)) => {
            let (wanted, hint) = (expected.counter_reset_hint, found.counter_reset_hint);
            let comparable = !raw_hints || [wanted, hint].contains(&CounterResetHint::Gauge);
            let hint_differs = *hint_set && comparable && wanted != hint;
            if !histograms_alike(expected, found) || hint_differs {
                return Err(format!(
                    "expected {:?} {} found {:?} {}",
                    expected.counter_reset_hint,
                    expected.describe(),
                    found.counter_reset_hint,
                    found.describe()
                ));
            }
            Ok(())
        }
        (Item::Histogram(expected, ..), Point::Shown(found)) => {
            let json = serde_json::from_str(&histogram_json(expected)).map_err(|e| e.to_string())?;
            let wanted = Shown::from_json(&json).ok_or_else(|| format!("{json} is no histogram"))?;
            if wanted.is_like(found) { Ok(()) } else { Err(format!("expected {wanted:?}, found {found:?}")) }
        }
        (expected, found) => Err(format!("expected {expected:?}, found {}", show(found))),
    }
}

fn histograms_alike(a: &Histogram, b: &Histogram) -> bool {
    let (mut a, mut b) = (a.clone(), b.clone());
    a.compact();
    b.compact();
    let close = |x: &[f64], y: &[f64]| {
        x.len() == y.len() && x.iter().zip(y).all(|(x, y)| almost_equal(*x, *y, EPSILON))
    };
    a.schema == b.schema
        && close(&[a.count, a.sum, a.zero_count], &[b.count, b.sum, b.zero_count])
        && a.zero_threshold == b.zero_threshold
        && a.custom_values == b.custom_values
        && a.positive_spans == b.positive_spans
        && a.negative_spans == b.negative_spans
        && close(&a.positive_buckets, &b.positive_buckets)
        && close(&a.negative_buckets, &b.negative_buckets)
}

impl Runner<'_> {
    fn load(&mut self, line: &str, lines: &[&str]) -> Result<(), String> {
        let (word, step) = line.split_once(char::is_whitespace).ok_or("load without a step")?;
        let step = time(step.trim())?;
        // Of equal series in one command the last counts.
        let mut series: BTreeMap<Labels, Vec<Item>> = BTreeMap::new();
        let mut starts: BTreeMap<Labels, Vec<Option<i64>>> = BTreeMap::new();
        for line in lines {
            match parse_line(line)? {
                Line::Values(labels, items) => drop(series.insert(labels, items)),
                Line::Starts(labels, offsets) => drop(starts.insert(labels, offsets)),
            }
        }
        for (labels, items) in &mut series {
            let offsets = starts.get(labels).into_iter().flatten();
            for (i, (item, offset)) in items.iter_mut().zip(offsets).enumerate() {
                if let (Item::Float(_, start) | Item::Histogram(_, _, start), Some(offset)) = (item, offset) {
                    *start = i as i64 * step + offset;
                }
            }
        }
        let mut samples = Vec::new();
        for (labels, items) in &series {
            for (i, item) in items.iter().enumerate().filter(|(_, item)| !matches!(item, Item::Omitted)) {
                samples.push(Load { labels: labels.clone(), time: i as i64 * step, item: item.clone() });
            }
        }
        if word == "load_with_nhcb" {
            for (labels, time, h) in native_from_classic(&series, step) {
                samples.push(Load { labels, time, item: Item::Histogram(Box::new(h), false, 0) });
            }
        }
        self.subject.load(&samples)
    }

    fn eval(&mut self, line: &str, lines: &[&str], results: &mut Vec<Ran>) -> Result<(), String> {
        let (command, rest) = line.split_once(char::is_whitespace).ok_or("eval of nothing")?;
        let suffix = command.strip_prefix("eval").and_then(|s| s.strip_prefix('_')).unwrap_or("");
        let mut expectations = Expectations::parse(lines, suffix)?;
        expectations.raw_hints = self.subject.raw_hints();
        let rest = rest.trim_start();
        if let Some(rest) = rest.strip_prefix("instant") {
            let rest = rest.trim_start();
            let (at, query) = match rest.strip_prefix("at ") {
                Some(rest) => {
                    let (at, query) = rest.trim_start().split_once(char::is_whitespace).ok_or("no query")?;
                    (time(at)?, query.trim())
                }
                None => (0, rest),
            };
            return self.eval_instant(query, at, &expectations, results);
        }
        let rest = rest.strip_prefix("range").ok_or("neither instant nor range")?.trim_start();
        let mut words = rest.split_whitespace();
        let mut take = |expected: &str| match words.next() {
            Some(word) if word == expected => {
                words.next().ok_or_else(|| format!("nothing behind {expected}"))
            }
            other => Err(format!("expected {expected}, found {other:?}")),
        };
        let (start, end, step) = (take("from")?, take("to")?, take("step")?);
        let query = rest.split_once(&format!("step {step}")).map(|(_, query)| query);
        let query = match query {
            Some(query) => query.trim(),
            None => rest.split_once(step).ok_or("no query")?.1.trim(),
        };
        let (start, end, step) = (time(start)?, time(end)?, time(step)?);
        let result = self.subject.query(query, QueryKind::Range { start, end, step });
        results.push(ran(query, &result));
        match &result {
            Err(error) => expectations.check_error(error),
            Ok(_) if expectations.fail.is_some() => Err("expected an error".to_owned()),
            Ok(result) => {
                expectations.check_notes(result)?;
                expectations.check_range(&result.value, start, step)
            }
        }
    }

    fn eval_instant(
        &mut self,
        query: &str,
        at: i64,
        expectations: &Expectations,
        results: &mut Vec<Ran>,
    ) -> Result<(), String> {
        let result = self.subject.query(query, QueryKind::Instant { time: at });
        results.push(ran(query, &result));
        let result = match &result {
            Err(error) => return expectations.check_error(error),
            Ok(_) if expectations.fail.is_some() => return Err("expected an error".to_owned()),
            Ok(result) => result,
        };
        expectations.check_notes(result)?;
        match (&result.value, &expectations.string, &expectations.range_vector) {
            (Found::String(found), Some(expected), _) if found == expected => return Ok(()),
            (found, Some(expected), _) => return Err(format!("expected {expected:?}, found {found:?}")),
            (Found::Matrix(_), _, Some((start, _, step))) => {
                return expectations.check_range(&result.value, *start, *step);
            }
            _ => expectations.check_instant(&result.value)?,
        }
        for (query, at) in with_fixed_times(query, at) {
            let result = self.subject.query(&query, QueryKind::Instant { time: at });
            let checked = match &result {
                Ok(result) => expectations.check_instant(&result.value),
                Err(error) => Err(error.clone()),
            };
            checked.map_err(|e| format!("as {query} at {at}: {e}"))?;
        }
        if expectations.ordered || speaks_of_the_grid(query) {
            return Ok(());
        }
        let minute = 60_000;
        let kind = QueryKind::Range { start: at - minute, end: at + minute, step: minute };
        let ranged = self.subject.query(query, kind).map_err(|e| format!("as a range query: {e}"))?;
        let Found::Matrix(series) = ranged.value else {
            return Err("a range query gives no matrix".to_owned());
        };
        let middle: Vec<(Labels, Point)> = series
            .into_iter()
            .filter_map(|(labels, mut points)| Some((labels, points.remove(&at)?)))
            .collect();
        let value = match (&result.value, middle.first()) {
            (Found::Scalar(_), Some((_, Point::Float(value)))) => Found::Scalar(*value),
            (Found::Scalar(_), Some(_)) => return Err("a scalar became a histogram".to_owned()),
            _ => Found::Vector(middle),
        };
        expectations.check_instant(&value).map_err(|e| format!("as a range query: {e}"))
    }
}

fn ran(query: &str, result: &Result<Answer, String>) -> Ran {
    let (outcome, notes) = match result {
        Ok(result) => {
            let mut notes: Vec<String> = result.warnings.iter().chain(&result.infos).cloned().collect();
            notes.sort();
            (Ok(result.value.clone()), notes)
        }
        Err(error) => (Err(error.clone()), Vec::new()),
    };
    Ran { query: query.to_owned(), outcome, notes }
}

/// Whether the query asks what its own start, end, range or step is.
fn speaks_of_the_grid(query: &str) -> bool {
    fn within(expr: &Expr) -> bool {
        use FunctionId::{End, Range, Start, Step};
        let this = matches!(&expr.kind, ExprKind::Call { function, .. }
            if matches!(function.id, Start | End | Range | Step));
        this || expr.children().into_iter().any(within)
    }
    parse(query).is_ok_and(|expr| within(&expr))
}

/// The query with every selector fixed on its time, to be evaluated at other times.
fn with_fixed_times(query: &str, at: i64) -> Vec<(String, i64)> {
    let Ok(mut expr) = parse(query) else { return Vec::new() };
    if !matches!(expr.value_type(), ValueType::Scalar | ValueType::Vector) || !fix_times(&mut expr, at) {
        return Vec::new();
    }
    let times = if at == 0 { vec![-1000, 1000] } else { vec![-10 * at, 0, at / 5, at, 10 * at] };
    times.into_iter().map(|time| (expr.to_string(), time)).collect()
}

/// False when the value depends on the evaluation time all the same.
fn fix_times(expr: &mut Expr, at: i64) -> bool {
    match &mut expr.kind {
        ExprKind::Number { .. } | ExprKind::String(_) => true,
        ExprKind::Vector(selector) => {
            if !selector.labels_only {
                selector.at.get_or_insert(At::Time(at));
            }
            true
        }
        ExprKind::Matrix(matrix) => {
            matrix.selector.at.get_or_insert(At::Time(at));
            true
        }
        ExprKind::Subquery(subquery) => {
            subquery.at.get_or_insert(At::Time(at));
            // What is inside moves with the subquery's steps.
            let mut inner = subquery.expr.clone();
            fix_times(&mut inner, at)
        }
        ExprKind::Paren(inner) | ExprKind::Unary { expr: inner, .. } | ExprKind::StepInvariant(inner) => {
            fix_times(inner, at)
        }
        ExprKind::Binary(binary) => fix_times(&mut binary.left, at) & fix_times(&mut binary.right, at),
        ExprKind::Call { function, args } => {
            use FunctionId as Id;
            let depends = matches!(
                function.id,
                Id::DaysInMonth
                    | Id::DayOfMonth
                    | Id::DayOfWeek
                    | Id::DayOfYear
                    | Id::Hour
                    | Id::Minute
                    | Id::Month
                    | Id::Year
                    | Id::PredictLinear
                    | Id::Time
                    | Id::Timestamp
                    | Id::Start
                    | Id::End
                    | Id::Step
                    | Id::Range
            );
            args.iter_mut().fold(!depends, |fixed, arg| fix_times(arg, at) & fixed)
        }
        ExprKind::Aggregate(aggregate) => {
            let param = aggregate.param.as_mut().is_none_or(|param| fix_times(param, at));
            fix_times(&mut aggregate.expr, at) & param
        }
    }
}

/// Classic histograms of a load as native ones with custom buckets.
fn native_from_classic(series: &BTreeMap<Labels, Vec<Item>>, step: i64) -> Vec<(Labels, i64, Histogram)> {
    #[derive(Default)]
    struct Classic {
        buckets: Vec<(f64, f64)>,
        count: Option<f64>,
        sum: Option<f64>,
    }
    let mut found: BTreeMap<(Labels, i64), Classic> = BTreeMap::new();
    for (labels, items) in series {
        let name = labels.metric_name();
        let bound = labels.get("le").and_then(parse_float);
        let (base, part) = match name {
            n if n.ends_with("_bucket") && bound.is_some() => (n.strip_suffix("_bucket").unwrap_or(n), 0),
            n if n.ends_with("_count") => (n.strip_suffix("_count").unwrap_or(n), 1),
            n if n.ends_with("_sum") => (n.strip_suffix("_sum").unwrap_or(n), 2),
            _ => continue,
        };
        let base = labels.filtered(|name| name != "le").with(METRIC_NAME, base);
        for (i, item) in items.iter().enumerate() {
            let Item::Float(value, _) = item else { continue };
            let classic = found.entry((base.clone(), i as i64 * step)).or_default();
            match part {
                0 => {
                    let bound = bound.unwrap_or(f64::INFINITY);
                    match classic.buckets.iter_mut().find(|(b, _)| *b == bound) {
                        Some((_, count)) => *count = *value,
                        None => classic.buckets.push((bound, *value)),
                    }
                }
                1 => classic.count = Some(*value),
                _ => classic.sum = Some(*value),
            }
        }
    }
    let mut out = Vec::new();
    for ((labels, time), mut classic) in found {
        if classic.buckets.is_empty() {
            continue;
        }
        classic.buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        let total = classic.buckets.last().map_or(0.0, |(_, count)| *count);
        let count = classic.count.unwrap_or(total);
        let mut h = Histogram {
            schema: protocol::histogram::CUSTOM_BUCKETS_SCHEMA,
            count,
            sum: classic.sum.unwrap_or(0.0),
            ..Histogram::default()
        };
        h.custom_values = classic.buckets.iter().map(|(b, _)| *b).filter(|b| b.is_finite()).collect();
        let mut before = 0.0;
        for (_, cumulative) in &classic.buckets {
            h.positive_buckets.push(cumulative - before);
            before = *cumulative;
        }
        if classic.buckets.last().is_some_and(|(bound, _)| bound.is_finite()) {
            h.positive_buckets.push(count - before);
        }
        let length = h.positive_buckets.len() as u32;
        h.positive_spans = vec![protocol::histogram::Span { offset: 0, length }];
        h.compact();
        out.push((labels, time, h));
    }
    out
}
