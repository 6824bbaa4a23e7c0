//! Pipelines: what happens to a line between the shard's blocks and an answer.
//!
//! ```text
//! record ─► Line { text, labels } ─stage─► ... ─► kept or dropped
//! ```
//!
//! Expressions, patterns and templates are compiled once for a query. [`pushed`] says which records cannot pass, as a
//! filter that storage evaluates; the pipeline tests all the same, so the filter may let too much through.

use std::sync::Arc;

use protocol::logs::{LogField, LogFilter, LogTest};
use protocol::matcher::MatchOp;
use regex::Regex;

use super::super::patterns;
use super::labels::{LabelSet, LineLabels, Origin};
use super::lineparse::{self, IpTest, Pattern, Step};
use super::parser::anchored;
use super::template::{Fields, Template};
use super::units::{parse_bytes, parse_duration};
use super::{
    Compare, Conversion, LabelChoice, LabelFilter, LabelMatcher, LabelValue, LineOp, LineTest, LogExpr,
    Stage, Unwrap,
};
use crate::error::QueryError;

type Result<T> = std::result::Result<T, QueryError>;

const FILTER_ERROR: &str = "LabelFilterErr";
const TEMPLATE_ERROR: &str = "TemplateFormatErr";
const SAMPLE_ERROR: &str = "SampleExtractionErr";

/// A line on its way.
pub(super) struct Line {
    pub text: String,
    pub labels: LineLabels,
    pub time_ns: i64,
}

impl Fields for Line {
    fn label(&self, name: &str) -> &str {
        self.labels.get(name)
    }

    fn line(&self) -> &str {
        &self.text
    }

    fn time_ns(&self) -> i64 {
        self.time_ns
    }
}

/// A matcher, ready to be asked.
#[derive(Clone, Debug)]
pub(super) struct CompiledMatcher {
    pub name: String,
    op: MatchOp,
    value: String,
    regex: Option<Regex>,
}

fn compile_regex(expression: &str) -> Result<Regex> {
    Regex::new(expression).map_err(|error| QueryError::BadParameter(format!("regular expression: {error}")))
}

impl CompiledMatcher {
    pub fn new(matcher: &LabelMatcher) -> Result<Self> {
        let regex = match matcher.op {
            MatchOp::Regex | MatchOp::NotRegex => Some(compile_regex(&anchored(&matcher.value))?),
            MatchOp::Equal | MatchOp::NotEqual => None,
        };
        Ok(Self { name: matcher.name.clone(), op: matcher.op, value: matcher.value.clone(), regex })
    }

    pub fn passes(&self, value: &str) -> bool {
        let matches = || self.regex.as_ref().is_some_and(|regex| regex.is_match(value));
        match self.op {
            MatchOp::Equal => value == self.value,
            MatchOp::NotEqual => value != self.value,
            MatchOp::Regex => matches(),
            MatchOp::NotRegex => !matches(),
        }
    }
}

/// Matchers, all of which are to be met.
pub(super) fn compile_matchers(matchers: &[LabelMatcher]) -> Result<Vec<CompiledMatcher>> {
    matchers.iter().map(CompiledMatcher::new).collect()
}

pub(super) fn all_pass(matchers: &[CompiledMatcher], labels: &LabelSet) -> bool {
    matchers.iter().all(|matcher| matcher.passes(labels.get(&matcher.name)))
}

#[derive(Debug)]
enum LineStep {
    Contains(String),
    Regex(Regex),
    Pattern(String),
    Ip(IpTest),
}

impl LineStep {
    fn matches(&self, line: &str) -> bool {
        match self {
            Self::Contains(text) => line.contains(text.as_str()),
            Self::Regex(regex) => regex.is_match(line),
            Self::Pattern(pattern) => patterns::matches(pattern, line),
            Self::Ip(test) => test.is_in_line(line),
        }
    }
}

#[derive(Debug)]
enum Choice {
    Name(String),
    Matcher(CompiledMatcher),
}

#[derive(Debug)]
enum Work {
    Line { is_negated: bool, tests: Vec<LineStep> },
    Json(Vec<(String, Vec<Step>)>),
    Logfmt { strict: bool, keep_empty: bool, only: Vec<(String, String)> },
    Regexp(Regex),
    Pattern(Pattern),
    Unpack,
    Filter(Filter),
    LineFormat(Template),
    LabelFormat(Vec<(String, Format)>),
    Drop(Vec<Choice>),
    Keep(Vec<Choice>),
    Decolorize(Regex),
}

#[derive(Debug)]
enum Format {
    Rename(String),
    Template(Template),
}

#[derive(Debug)]
enum Filter {
    And(Box<Filter>, Box<Filter>),
    Or(Box<Filter>, Box<Filter>),
    Match(CompiledMatcher),
    Number(String, Compare, f64),
    Duration(String, Compare, i64),
    Bytes(String, Compare, u64),
    Ip(String, bool, IpTest),
}

/// The stages of a query, ready for lines.
#[derive(Debug)]
pub(super) struct Pipeline {
    work: Vec<Work>,
    /// Parsers have nothing to do, since no label is looked at.
    skips_parsers: bool,
}

impl Pipeline {
    pub fn new(stages: &[Stage]) -> Result<Self> {
        let work = stages.iter().map(compile).collect::<Result<Vec<_>>>()?;
        Ok(Self { work, skips_parsers: false })
    }

    /// For a count without labels: if no stage looks at one either, nothing needs to be parsed, and no line fails.
    pub fn without_labels(mut self) -> Self {
        let looks_at_none = |work: &Work| {
            matches!(
                work,
                Work::Line { .. }
                    | Work::Json(_)
                    | Work::Logfmt { .. }
                    | Work::Regexp(_)
                    | Work::Pattern(_)
                    | Work::Decolorize(_)
            )
        };
        self.skips_parsers = self.work.iter().all(looks_at_none);
        self
    }

    /// Sends a line through; false: it is dropped.
    pub fn pass(&self, line: &mut Line) -> bool {
        self.work.iter().all(|work| self.step(work, line))
    }

    fn step(&self, work: &Work, line: &mut Line) -> bool {
        match work {
            Work::Line { is_negated, tests } => {
                return tests.iter().any(|test| test.matches(&line.text)) != *is_negated;
            }
            Work::Filter(filter) => return filter.passes(&mut line.labels),
            Work::Json(_) | Work::Logfmt { .. } | Work::Regexp(_) | Work::Pattern(_)
                if self.skips_parsers => {}
            Work::Json(paths) if paths.is_empty() => lineparse::json(&line.text, &mut line.labels),
            Work::Json(paths) => lineparse::json_paths(&line.text, paths, &mut line.labels),
            Work::Logfmt { strict, keep_empty, only } => {
                lineparse::logfmt(&line.text, *strict, *keep_empty, only, &mut line.labels);
            }
            Work::Regexp(regex) => lineparse::regexp(&line.text, regex, &mut line.labels),
            Work::Pattern(pattern) => pattern.extract(&line.text, &mut line.labels),
            Work::Unpack => {
                if let Some(entry) = lineparse::unpack(&line.text, &mut line.labels) {
                    line.text = entry;
                }
            }
            Work::LineFormat(template) => match template.fill(line) {
                Ok(text) => line.text = text,
                Err(reason) => line.labels.fail_again(TEMPLATE_ERROR, reason),
            },
            Work::LabelFormat(formats) => label_format(formats, line),
            Work::Drop(choices) => {
                for choice in choices {
                    match choice {
                        Choice::Name(name) => line.labels.remove(name),
                        Choice::Matcher(matcher) => {
                            if line.labels.find(&matcher.name).is_some_and(|(value, _)| matcher.passes(value))
                            {
                                line.labels.remove(&matcher.name);
                            }
                        }
                    }
                }
            }
            Work::Keep(choices) => {
                let kept = |name: &str, value: &str| {
                    choices.iter().any(|choice| match choice {
                        Choice::Name(wanted) => wanted == name,
                        Choice::Matcher(matcher) => matcher.name == name && matcher.passes(value),
                    })
                };
                let all = line.labels.all();
                for (name, value) in &all.0 {
                    if !name.starts_with("__error") && !kept(name, value) {
                        line.labels.remove(name);
                    }
                }
            }
            Work::Decolorize(escapes) => {
                if let std::borrow::Cow::Owned(text) = escapes.replace_all(&line.text, "") {
                    line.text = text;
                }
            }
        }
        true
    }
}

fn label_format(formats: &[(String, Format)], line: &mut Line) {
    for (name, format) in formats {
        match format {
            Format::Rename(source) => {
                let found = line.labels.find(source).map(|(value, origin)| (value.to_owned(), origin));
                if let Some((value, origin)) = found {
                    line.labels.remove(source);
                    line.labels.set(origin, name, value);
                }
            }
            Format::Template(template) => match template.fill(line) {
                Ok(value) => line.labels.set(Origin::Parsed, name, value),
                Err(reason) => line.labels.fail_again(TEMPLATE_ERROR, reason),
            },
        }
    }
}

fn compile(stage: &Stage) -> Result<Work> {
    let bad = |what: &str, reason: String| QueryError::BadParameter(format!("{what}: {reason}"));
    Ok(match stage {
        Stage::Line(op, tests) => {
            let compiled = tests.iter().map(|test| {
                Ok(match (test, op) {
                    (LineTest::Ip(text), _) => LineStep::Ip(ip_test(text)?),
                    (LineTest::Text(text), LineOp::Contains | LineOp::NotContains) => {
                        LineStep::Contains(text.clone())
                    }
                    (LineTest::Text(text), LineOp::Matches | LineOp::NotMatches) => {
                        LineStep::Regex(compile_regex(text)?)
                    }
                    (LineTest::Text(text), LineOp::Pattern | LineOp::NotPattern) => {
                        LineStep::Pattern(text.clone())
                    }
                })
            });
            let is_negated = matches!(op, LineOp::NotContains | LineOp::NotMatches | LineOp::NotPattern);
            Work::Line { is_negated, tests: compiled.collect::<Result<Vec<_>>>()? }
        }
        Stage::Json(paths) => {
            let compiled = paths.iter().map(|extraction| {
                let path = lineparse::parse_path(&extraction.path).ok_or_else(|| {
                    bad("json", format!("{} is no path", lineparse::quoted(&extraction.path)))
                })?;
                Ok((extraction.label.clone(), path))
            });
            Work::Json(compiled.collect::<Result<Vec<_>>>()?)
        }
        Stage::Logfmt { strict, keep_empty, extractions } => Work::Logfmt {
            strict: *strict,
            keep_empty: *keep_empty,
            only: extractions.iter().map(|e| (e.label.clone(), e.path.clone())).collect(),
        },
        Stage::Regexp(expression) => Work::Regexp(compile_regex(expression)?),
        Stage::Pattern(pattern) => {
            Work::Pattern(Pattern::new(pattern).map_err(|reason| bad("pattern", reason))?)
        }
        Stage::Unpack => Work::Unpack,
        Stage::Filter(filter) => Work::Filter(compile_filter(filter)?),
        Stage::LineFormat(template) => {
            Work::LineFormat(Template::new(template).map_err(|reason| bad("line_format", reason))?)
        }
        Stage::LabelFormat(formats) => {
            let compiled = formats.iter().map(|(name, value)| {
                let format = match value {
                    LabelValue::Rename(source) => Format::Rename(source.clone()),
                    LabelValue::Template(template) => Format::Template(
                        Template::new(template).map_err(|reason| bad("label_format", reason))?,
                    ),
                };
                Ok((name.clone(), format))
            });
            Work::LabelFormat(compiled.collect::<Result<Vec<_>>>()?)
        }
        Stage::Drop(choices) => Work::Drop(compile_choices(choices)?),
        Stage::Keep(choices) => Work::Keep(compile_choices(choices)?),
        Stage::Decolorize => Work::Decolorize(compile_regex("\x1b\\[[0-9;]*[A-Za-z]")?),
    })
}

fn ip_test(text: &str) -> Result<IpTest> {
    IpTest::new(text)
        .ok_or_else(|| QueryError::BadParameter(format!("ip: {text:?} is no address, range or network")))
}

fn compile_choices(choices: &[LabelChoice]) -> Result<Vec<Choice>> {
    let compiled = choices.iter().map(|choice| {
        Ok(match choice {
            LabelChoice::Name(name) => Choice::Name(name.clone()),
            LabelChoice::Matcher(matcher) => Choice::Matcher(CompiledMatcher::new(matcher)?),
        })
    });
    compiled.collect()
}

fn compile_filter(filter: &LabelFilter) -> Result<Filter> {
    Ok(match filter {
        LabelFilter::And(a, b) => Filter::And(Box::new(compile_filter(a)?), Box::new(compile_filter(b)?)),
        LabelFilter::Or(a, b) => Filter::Or(Box::new(compile_filter(a)?), Box::new(compile_filter(b)?)),
        LabelFilter::Match(matcher) => Filter::Match(CompiledMatcher::new(matcher)?),
        LabelFilter::Number(name, compare, value) => Filter::Number(name.clone(), *compare, *value),
        LabelFilter::Duration(name, compare, ns) => Filter::Duration(name.clone(), *compare, *ns),
        LabelFilter::Bytes(name, compare, bytes) => Filter::Bytes(name.clone(), *compare, *bytes),
        LabelFilter::Ip(name, is_equal, text) => Filter::Ip(name.clone(), *is_equal, ip_test(text)?),
    })
}

impl Filter {
    /// A label that is missing fails every comparison of numbers; one that is no number is an error that passes.
    fn passes(&self, labels: &mut LineLabels) -> bool {
        fn compared<T: PartialOrd>(
            labels: &mut LineLabels,
            name: &str,
            compare: Compare,
            wanted: T,
            read: impl FnOnce(&str) -> std::result::Result<T, String>,
        ) -> bool {
            let Some((value, _)) = labels.find(name) else { return false };
            match read(value) {
                Ok(value) => compare.holds(value, wanted),
                Err(reason) => {
                    labels.fail(FILTER_ERROR, reason);
                    true
                }
            }
        }
        match self {
            Self::And(a, b) => {
                let (a, b) = (a.passes(labels), b.passes(labels));
                a && b
            }
            Self::Or(a, b) => a.passes(labels) || b.passes(labels),
            Self::Match(matcher) => matcher.passes(labels.get(&matcher.name)),
            Self::Number(name, compare, wanted) => compared(labels, name, *compare, *wanted, read_number),
            Self::Duration(name, compare, wanted) => compared(labels, name, *compare, *wanted, read_duration),
            Self::Bytes(name, compare, wanted) => compared(labels, name, *compare, *wanted, read_bytes),
            Self::Ip(name, is_equal, test) => {
                let found = labels.find(name).map(|(value, _)| test.contains(value));
                match found {
                    None => false,
                    Some(Some(contains)) => contains == *is_equal,
                    Some(None) => !is_equal,
                }
            }
        }
    }
}

fn read_number(text: &str) -> std::result::Result<f64, String> {
    text.parse().map_err(|_| format!("strconv.ParseFloat: parsing {text:?}: invalid syntax"))
}

fn read_duration(text: &str) -> std::result::Result<i64, String> {
    parse_duration(text, false).ok_or_else(|| format!("time: invalid duration {text:?}"))
}

fn read_bytes(text: &str) -> std::result::Result<u64, String> {
    parse_bytes(text).ok_or_else(|| format!("strconv.ParseFloat: parsing {text:?}: invalid syntax"))
}

/// What makes a number of a line.
#[derive(Debug)]
pub(super) struct Unwrapper {
    label: String,
    conversion: Conversion,
    filters: Vec<Filter>,
}

impl Unwrapper {
    pub fn new(unwrap: &Unwrap) -> Result<Self> {
        let filters = unwrap.filters.iter().map(compile_filter).collect::<Result<Vec<_>>>()?;
        Ok(Self { label: unwrap.label.clone(), conversion: unwrap.conversion, filters })
    }

    /// The number; none where the line has none or a filter drops it.
    pub fn number(&self, line: &mut Line) -> Option<f64> {
        let text = line.labels.get(&self.label);
        if text.is_empty() {
            return None;
        }
        let read = match self.conversion {
            Conversion::None => read_number(text),
            Conversion::Duration => read_duration(text).map(|ns| ns as f64 / 1e9),
            Conversion::Bytes => read_bytes(text).map(|bytes| bytes as f64),
        };
        let number = read.unwrap_or_else(|reason| {
            line.labels.fail_again(SAMPLE_ERROR, reason);
            0.0
        });
        self.filters.iter().all(|filter| filter.passes(&mut line.labels)).then_some(number)
    }
}

/// What records have to meet to pass, as far as a shard can tell from its fields. `names` gives the names of attributes
/// that resources have, by the name of the label that they become.
pub(super) fn pushed(log: &LogExpr, names: &dyn Fn(&str) -> Vec<String>) -> LogFilter {
    let mut parts = Vec::new();
    for matcher in &log.matchers {
        parts.extend(pushed_matcher(matcher, &names(&matcher.name)));
    }
    parts.extend(pushed_stages(&log.stages, names).0);
    match parts.len() {
        0 => LogFilter::All,
        1 => parts.remove(0),
        _ => LogFilter::And(parts),
    }
}

/// Filters on lines before anything changes the line, and whether these are all of the stages.
pub(super) fn pushed_stages(stages: &[Stage], names: &dyn Fn(&str) -> Vec<String>) -> (Vec<LogFilter>, bool) {
    let mut parts = Vec::new();
    for stage in stages {
        match stage {
            Stage::Line(op, tests) => {
                if let Some(filter) = pushed_line(*op, tests) {
                    parts.push(filter);
                } else {
                    return (parts, false);
                }
            }
            // A label `trace_id` that no parser has set is the record's own, or an attribute of a record without one.
            Stage::Filter(LabelFilter::Match(matcher))
                if matcher.op == MatchOp::Equal && !matcher.value.is_empty() =>
            {
                let field = match matcher.name.as_str() {
                    "trace_id" => LogField::TraceId,
                    "span_id" => LogField::SpanId,
                    _ => return (parts, false),
                };
                if !names(&matcher.name).is_empty() {
                    return (parts, false);
                }
                let texts = vec![matcher.value.clone(), String::new()];
                parts.push(LogFilter::Field(field, LogTest::OneOf(texts)));
                return (parts, false);
            }
            _ => return (parts, false),
        }
    }
    (parts, true)
}

fn pushed_line(op: LineOp, tests: &[LineTest]) -> Option<LogFilter> {
    let mut any = Vec::new();
    for test in tests {
        let LineTest::Text(text) = test else { return None };
        any.push(match op {
            LineOp::Contains | LineOp::NotContains => {
                LogTest::Contains { text: text.clone(), ignore_case: false }
            }
            LineOp::Matches | LineOp::NotMatches => LogTest::Regex(text.clone()),
            LineOp::Pattern | LineOp::NotPattern => return None,
        });
    }
    let mut any: Vec<LogFilter> =
        any.into_iter().map(|test| LogFilter::Field(LogField::Body, test)).collect();
    let one = if any.len() == 1 { any.remove(0) } else { LogFilter::Or(any) };
    Some(match op {
        LineOp::NotContains | LineOp::NotMatches | LineOp::NotPattern => LogFilter::Not(Box::new(one)),
        _ => one,
    })
}

/// Whether the filter of a matcher lets exactly those through that the matcher does.
pub(super) fn is_exact(matcher: &LabelMatcher, names: &[String]) -> bool {
    let passes_empty = CompiledMatcher::new(matcher).is_ok_and(|matcher| matcher.passes(""));
    match matcher.op {
        MatchOp::Equal | MatchOp::Regex => names.len() <= 1 && (!passes_empty || names.is_empty()),
        MatchOp::NotEqual | MatchOp::NotRegex => names.len() <= 1 && passes_empty,
    }
}

fn pushed_matcher(matcher: &LabelMatcher, names: &[String]) -> Option<LogFilter> {
    let test = match matcher.op {
        MatchOp::Equal | MatchOp::NotEqual => LogTest::Equals(matcher.value.clone()),
        MatchOp::Regex | MatchOp::NotRegex => LogTest::Regex(anchored(&matcher.value)),
    };
    let passes_empty = CompiledMatcher::new(matcher).ok()?.passes("");
    let is_negated = matches!(matcher.op, MatchOp::NotEqual | MatchOp::NotRegex);
    let field = |name: &String| LogFilter::Field(LogField::ResourceAttribute(name.clone()), test.clone());
    match (is_negated, passes_empty) {
        // The value is that of one of these attributes; that there are several only lets more through.
        (false, false) => Some(LogFilter::Or(names.iter().map(field).collect())),
        // With several names it is not known which of them is the label.
        (true, true) if names.len() == 1 => Some(LogFilter::Not(Box::new(field(&names[0])))),
        _ => None,
    }
}

/// Labels of streams and of a line.
pub(super) fn line_of(
    base: &Arc<LabelSet>,
    stream: &protocol::logs::LogStream<'_>,
    record: &protocol::logs::LogRecord<'_>,
) -> Line {
    Line {
        text: record.body.text().into_owned(),
        labels: LineLabels::new(Arc::clone(base), super::labels::metadata(stream, record)),
        time_ns: record.effective_ns(),
    }
}
