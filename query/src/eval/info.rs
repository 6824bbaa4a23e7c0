//! info(): adds the labels of info metrics to series of the same `instance` and `job`.
//!
//! Info series are looked at as of the time at which the base series are (`@` and `offset` inside the argument
//! count). Of several info series of one name for the same identity the one with the newest sample wins.

use protocol::labels::{Labels, METRIC_NAME};
use protocol::matcher::{MatchOp, Matcher};

use super::{Evaluator, Result, millis};
use crate::error::QueryError;
use crate::format::format_labels;
use crate::promql::ast::{At, DurationValue, Edges, Expr, ExprKind, VectorSelector};
use crate::promql::functions;
use crate::promql::span::Span;
use crate::value::{Grid, Map, Series, is_absent, merge_same_labels};

/// The labels that say which target a series belongs to.
const IDENTITY: [&str; 2] = ["instance", "job"];

/// The info metric that is meant where none is named.
const DEFAULT_INFO: &str = "target_info";

/// Names that info metrics have.
const ANY_INFO: &str = ".+_info";

/// Places of the two questions that a call asks of the shards. No part of the text has them: parts never end before
/// they start.
fn question_span(call: Span, timestamps: bool) -> Span {
    Span { start: call.end.saturating_add(u32::from(timestamps)).max(1), end: call.start }
}

/// The selector of the info series of a call, at the times at which its argument looks at data.
pub(crate) fn info_selector(args: &[Expr], call: Span) -> Expr {
    let span = question_span(call, false);
    let mut matchers = match args.get(1).map(|arg| &arg.unwrapped().kind) {
        Some(ExprKind::Vector(selector)) => selector.matchers.clone(),
        _ => Vec::new(),
    };
    let mut names = matchers.iter().filter(|m| m.name() == METRIC_NAME).peekable();
    if names.peek().is_none() {
        matchers.insert(0, Matcher::equal(METRIC_NAME, DEFAULT_INFO));
    } else if names.all(|m| matches!(m.op(), MatchOp::NotEqual | MatchOp::NotRegex)) {
        // Only names that are not meant: of all those that info metrics have.
        matchers.splice(0..0, Matcher::new(METRIC_NAME, MatchOp::Regex, ANY_INFO).ok());
    }
    let (at, offset) = reference(&args[0]).unwrap_or((None, 0));
    let selector = VectorSelector {
        name: None,
        matchers,
        offset: (offset != 0).then(|| DurationValue::millis(offset)),
        at: at.map(At::Time),
        edges: Edges::Plain,
        labels_only: false,
        finds_resets: false,
    };
    Expr { kind: ExprKind::Vector(selector), span }
}

/// The call that gives the times of the info samples instead of their values.
pub(crate) fn info_timestamps(selector: Expr, call: Span) -> Expr {
    let function = functions::find("timestamp").expect("the table of functions has timestamp");
    let span = question_span(call, true);
    Expr { kind: ExprKind::Call { function, args: vec![selector] }, span }
}

/// When the first selector of an expression looks at data: at a fixed time or at the evaluation time, less an offset.
fn reference(expr: &Expr) -> Option<(Option<i64>, i64)> {
    let fixed = |at: Option<At>| match at {
        Some(At::Time(time)) => Some(time),
        _ => None,
    };
    let of = |s: &VectorSelector| Some((fixed(s.at), millis(s.offset.as_ref())));
    match &expr.kind {
        ExprKind::Vector(selector) => of(selector),
        ExprKind::Matrix(matrix) => of(&matrix.selector),
        ExprKind::Subquery(subquery) => {
            let (at, offset) = reference(&subquery.expr)?;
            match at {
                Some(_) => Some((at, offset)),
                None => Some((fixed(subquery.at), offset + millis(subquery.offset.as_ref()))),
            }
        }
        _ => expr.children().into_iter().find_map(reference),
    }
}

fn identity(labels: &Labels) -> Labels {
    labels.filtered(|name| IDENTITY.contains(&name))
}

/// The info series of one name and identity.
struct Candidates<'a> {
    name: &'a str,
    series: Vec<&'a Series>,
}

impl Evaluator<'_> {
    pub(super) fn info(&self, args: &[Expr], call: Span, grid: Grid) -> Result<Vec<Series>> {
        let base = self.vector(&args[0], grid)?;
        let selector = info_selector(args, call);
        let ExprKind::Vector(info) = &selector.kind else {
            return Err(QueryError::Execution("info got no selector".to_owned()));
        };
        let names: Vec<&Matcher> = info.matchers.iter().filter(|m| m.name() == METRIC_NAME).collect();
        let wanted: Vec<&Matcher> = info.matchers.iter().filter(|m| m.name() != METRIC_NAME).collect();
        // Series of the info metrics themselves are passed through.
        let is_info = |labels: &Labels| names.iter().all(|m| m.matches(labels.metric_name()));

        let samples = self.vector(&selector, grid)?;
        if samples.iter().any(|s| s.histograms.iter().any(Option::is_some))
            && base.iter().any(|b| !is_info(&b.labels))
        {
            return Err(QueryError::Execution("info sample should be float".to_owned()));
        }
        let times = self.vector(&info_timestamps(selector.clone(), call), grid)?;
        // Names were dropped from the times unless removal is delayed; both come in the same order.
        let named: Vec<Series> = samples
            .iter()
            .zip(&times)
            .map(|(sample, time)| Series { labels: sample.labels.clone(), ..time.clone() })
            .collect();
        let mut by_identity: Map<Labels, Vec<Candidates<'_>>> = Map::default();
        if samples.len() != times.len() {
            return Err(QueryError::Execution("info series changed while they were read".to_owned()));
        }
        for series in &named {
            let group = by_identity.entry(identity(&series.labels)).or_default();
            let name = series.labels.metric_name();
            match group.iter_mut().find(|candidates| candidates.name == name) {
                Some(candidates) => candidates.series.push(series),
                None => group.push(Candidates { name, series: vec![series] }),
            }
        }

        let mut out = Vec::new();
        for series in base {
            if is_info(&series.labels) {
                out.push(series);
                continue;
            }
            let none = Vec::new();
            let has_identity = IDENTITY.iter().any(|name| series.labels.get(name).is_some());
            let candidates = match has_identity {
                true => by_identity.get(&identity(&series.labels)).unwrap_or(&none),
                false => &none,
            };
            let mut enriched: Vec<Series> = Vec::new();
            for step in (0..grid.count).filter(|step| series.has(*step)) {
                let Some(labels) = enrich(&series.labels, candidates, &wanted, grid, step)? else { continue };
                let at = match enriched.iter().position(|s| s.labels == labels) {
                    Some(at) => at,
                    None => {
                        self.budget.hold(series.bytes() + labels.as_bytes().len() as u64)?;
                        let mut fresh = Series::empty(labels, grid.count);
                        fresh.drop_name = series.drop_name;
                        enriched.push(fresh);
                        enriched.len() - 1
                    }
                };
                if let Some(sample) = series.get(step) {
                    enriched[at].set(step, sample);
                }
            }
            out.extend(enriched);
        }
        merge_same_labels(out)
    }
}

/// The labels of a base series with those of its info series at a step; `None` when a wanted label is missing.
fn enrich(
    base: &Labels,
    candidates: &[Candidates<'_>],
    wanted: &[&Matcher],
    grid: Grid,
    step: usize,
) -> Result<Option<Labels>> {
    let mut found = false;
    let mut added: Vec<(&str, &str)> = Vec::new();
    for candidate in candidates {
        let mut newest: Option<(f64, &Series)> = None;
        for series in candidate.series.iter().filter(|s| !is_absent(s.values[step])) {
            let time = series.values[step];
            match newest {
                Some((best, _)) if best > time => {}
                Some((best, other)) if best == time => {
                    let at = grid.at(step);
                    return Err(QueryError::Execution(format!(
                        "found duplicate series for info metric: existing {} @ {at}, new {} @ {at}",
                        format_labels(&other.labels),
                        format_labels(&series.labels),
                    )));
                }
                _ => newest = Some((time, series)),
            }
        }
        let Some((_, info)) = newest else { continue };
        found = true;
        for (name, value) in &info.labels {
            if name == METRIC_NAME || !(wanted.is_empty() || wanted.iter().any(|m| m.name() == name)) {
                continue;
            }
            if added.iter().any(|(n, v)| *n == name && *v != value) {
                return Err(QueryError::Execution(format!("conflicting label: {name}")));
            }
            if base.get(name).is_none() {
                added.push((name, value));
            }
        }
    }
    if !found && !wanted.iter().all(|m| m.matches_absent()) {
        return Ok(None);
    }
    Ok(Some(added.into_iter().fold(base.clone(), |labels, (name, value)| labels.with(name, value))))
}
