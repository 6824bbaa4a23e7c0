//! Metric queries at the coordinator: what shards answered, and the tree over it.
//!
//! ```text
//! parts(tree)  what shards do: range aggregations, and sum, min, max over those that merge with them
//! evaluate     the rest of the tree over the answers, series by series
//! ```
//!
//! Labels and orders follow Loki: a division by zero is NaN, operations match series by their labels, `topk` chooses anew
//! at every step.

use std::collections::BTreeMap;

use super::labels::LabelSet;
use super::range::Steps;
use super::{AggregateOp, BinaryOp, Compare, Grouping, Matching, Metric, RangeExpr, RangeOp};
use crate::error::QueryError;
use crate::exec::Budget;
use crate::kahan::Sum;

type Result<T> = std::result::Result<T, QueryError>;

/// A series over the steps of a query.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Its labels.
    pub labels: LabelSet,
    /// Its value at each step, if there is one.
    pub values: Vec<Option<f64>>,
}

/// A part of a query that shards do.
pub(super) struct Part<'a> {
    pub range: &'a RangeExpr,
    /// An aggregation over it that merges with its states.
    outer: Option<Option<&'a Grouping>>,
}

/// The part that an expression is, if shards can do all of it.
pub(super) fn part_of(metric: &Metric) -> Option<Part<'_>> {
    match metric {
        Metric::Range(range) => Some(Part { range, outer: None }),
        Metric::Aggregate { op, grouping, expr, .. } => {
            let Metric::Range(range) = expr.as_ref() else { return None };
            let merges = match op {
                AggregateOp::Sum => matches!(
                    range.op,
                    RangeOp::Rate
                        | RangeOp::CountOverTime
                        | RangeOp::BytesRate
                        | RangeOp::BytesOverTime
                        | RangeOp::SumOverTime
                ),
                AggregateOp::Min => range.op == RangeOp::MinOverTime && range.grouping.is_none(),
                AggregateOp::Max => range.op == RangeOp::MaxOverTime && range.grouping.is_none(),
                _ => false,
            };
            merges.then_some(Part { range, outer: Some(grouping.as_ref()) })
        }
        _ => None,
    }
}

impl Part<'_> {
    /// Labels of the series that a line with some labels belongs to.
    pub fn labels(&self, all: &LabelSet) -> LabelSet {
        if self.range.op == RangeOp::AbsentOverTime {
            return LabelSet::default();
        }
        let unwrapped = self.range.unwrap.as_ref().map(|unwrap| unwrap.label.as_str());
        let own = match &self.range.grouping {
            Some(grouping) => grouped(all, grouping, unwrapped),
            None => all.filtered(|name| Some(name) != unwrapped),
        };
        match self.outer {
            None => own,
            Some(None) => LabelSet::default(),
            Some(Some(grouping)) => grouped(&own, grouping, None),
        }
    }

    /// Whether all lines belong to one series.
    pub fn has_no_labels(&self) -> bool {
        self.by_labels().is_some_and(<[String]>::is_empty)
    }

    /// The labels that series are told apart by, if these are known.
    pub fn by_labels(&self) -> Option<&[String]> {
        if self.range.op == RangeOp::AbsentOverTime {
            return Some(&[]);
        }
        match self.outer? {
            None => Some(&[]),
            Some(grouping) if !grouping.without => Some(&grouping.labels),
            Some(_) => None,
        }
    }
}

fn grouped(labels: &LabelSet, grouping: &Grouping, also_without: Option<&str>) -> LabelSet {
    labels.filtered(|name| match grouping.without {
        true => !grouping.labels.iter().any(|label| label == name) && Some(name) != also_without,
        false => grouping.labels.iter().any(|label| label == name),
    })
}

/// The parts of a tree, in the order in which [`evaluate`] comes to them.
pub(super) fn parts<'a>(metric: &'a Metric, out: &mut Vec<&'a Metric>) {
    if part_of(metric).is_some() {
        out.push(metric);
        return;
    }
    match metric {
        Metric::Number(_) | Metric::Vector(_) | Metric::Range(_) => {}
        Metric::Aggregate { expr, .. } | Metric::LabelReplace { expr, .. } => parts(expr, out),
        Metric::Binary { left, right, .. } => {
            parts(left, out);
            parts(right, out);
        }
    }
}

/// A number, or series.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// The same number at every step.
    Number(f64),
    /// Series, each set of labels once.
    Series(Vec<Series>),
}

/// What evaluation needs to know.
pub(super) struct Evaluation<'a> {
    pub steps: Steps,
    pub budget: &'a Budget,
}

impl Evaluation<'_> {
    /// Evaluates a tree; `answers` are those to its [`parts`].
    pub fn evaluate(
        &self,
        metric: &Metric,
        answers: &mut impl Iterator<Item = Vec<Series>>,
    ) -> Result<Value> {
        self.budget.check()?;
        if part_of(metric).is_some() {
            let answer =
                answers.next().ok_or_else(|| QueryError::Execution(format!("{metric} was not asked for")))?;
            return Ok(Value::Series(answer));
        }
        Ok(match metric {
            Metric::Number(value) => Value::Number(*value),
            Metric::Vector(value) => {
                self.hold(1)?;
                let series =
                    Series { labels: LabelSet::default(), values: vec![Some(*value); self.steps.count] };
                Value::Series(vec![series])
            }
            Metric::Range(_) => {
                return Err(QueryError::Execution(format!("{metric} was not asked of the shards")));
            }
            Metric::Aggregate { op, param, grouping, expr } => {
                let series = match self.evaluate(expr, answers)? {
                    Value::Series(series) => series,
                    Value::Number(_) => {
                        return Err(QueryError::BadParameter(format!(
                            "{} takes series, not a number",
                            op.as_str()
                        )));
                    }
                };
                Value::Series(self.aggregate(*op, *param, grouping.as_ref(), series)?)
            }
            Metric::LabelReplace { expr, destination, replacement, source, expression } => {
                let Value::Series(series) = self.evaluate(expr, answers)? else {
                    return Err(QueryError::BadParameter(
                        "label_replace takes series, not a number".to_owned(),
                    ));
                };
                let regex = regex::Regex::new(&super::parser::anchored(expression)).map_err(|error| {
                    QueryError::BadParameter(format!("invalid regex in label_replace: {error}"))
                })?;
                let replaced = series.into_iter().map(|mut series| {
                    if let Some(captures) = regex.captures(series.labels.get(source)) {
                        let mut value = String::new();
                        captures.expand(replacement, &mut value);
                        let mut pairs = vec![(destination.clone(), value)];
                        pairs.extend(series.labels.0.into_iter().filter(|(name, _)| name != destination));
                        series.labels = LabelSet::new(pairs);
                    }
                    series
                });
                let replaced: Vec<Series> = replaced.collect();
                check_unique(&replaced)?;
                Value::Series(replaced)
            }
            Metric::Binary { op, matching, left, right } => {
                let left = self.evaluate(left, answers)?;
                let right = self.evaluate(right, answers)?;
                self.binary(*op, matching, left, right)?
            }
        })
    }

    fn hold(&self, series: u64) -> Result<()> {
        self.budget
            .hold(series.saturating_mul(self.steps.count as u64 * size_of::<Option<f64>>() as u64 + 96))
    }

    fn aggregate(
        &self,
        op: AggregateOp,
        param: Option<f64>,
        grouping: Option<&Grouping>,
        mut series: Vec<Series>,
    ) -> Result<Vec<Series>> {
        if matches!(op, AggregateOp::Sort | AggregateOp::SortDesc) {
            // Of one step; a range is in the order of its labels whatever is asked.
            series.sort_by(|a, b| {
                let (a, b) = (a.values.first().copied().flatten(), b.values.first().copied().flatten());
                let ascending = a.unwrap_or(f64::NAN).total_cmp(&b.unwrap_or(f64::NAN));
                if op == AggregateOp::Sort { ascending } else { ascending.reverse() }
            });
            return Ok(series);
        }
        let mut groups: BTreeMap<LabelSet, Vec<usize>> = BTreeMap::new();
        for (at, one) in series.iter().enumerate() {
            let labels = grouping.map(|grouping| grouped(&one.labels, grouping, None)).unwrap_or_default();
            groups.entry(labels).or_default().push(at);
        }
        if matches!(op, AggregateOp::Topk | AggregateOp::Bottomk) {
            return self.select(op, param.unwrap_or(1.0) as usize, &groups, series);
        }
        self.hold(groups.len() as u64)?;
        let mut out = Vec::with_capacity(groups.len());
        for (labels, members) in groups {
            self.budget.check()?;
            let values = (0..self.steps.count).map(|step| {
                let mut values = members.iter().filter_map(|at| series[*at].values[step]).peekable();
                values.peek()?;
                Some(aggregated(op, values))
            });
            out.push(Series { labels, values: values.collect() });
        }
        Ok(out)
    }

    /// The largest or smallest of each group, at every step.
    fn select(
        &self,
        op: AggregateOp,
        count: usize,
        groups: &BTreeMap<LabelSet, Vec<usize>>,
        series: Vec<Series>,
    ) -> Result<Vec<Series>> {
        self.hold(series.len() as u64)?;
        let mut kept: Vec<Series> = series
            .iter()
            .map(|s| Series { labels: s.labels.clone(), values: vec![None; self.steps.count] })
            .collect();
        for members in groups.values() {
            self.budget.check()?;
            for step in 0..self.steps.count {
                let mut present: Vec<(f64, usize)> =
                    members.iter().filter_map(|at| Some((series[*at].values[step]?, *at))).collect();
                present.sort_by(|a, b| {
                    let ascending = a.0.partial_cmp(&b.0).unwrap_or_else(|| b.0.is_nan().cmp(&a.0.is_nan()));
                    let by_value = if op == AggregateOp::Topk { ascending.reverse() } else { ascending };
                    // NaN is never wanted before a number.
                    a.0.is_nan()
                        .cmp(&b.0.is_nan())
                        .then(by_value)
                        .then_with(|| series[a.1].labels.cmp(&series[b.1].labels))
                });
                for (value, at) in present.into_iter().take(count) {
                    kept[at].values[step] = Some(value);
                }
            }
        }
        kept.retain(|series| series.values.iter().any(Option::is_some));
        if self.steps.count == 1 {
            kept.sort_by(|a, b| {
                let (a, b) = (a.values[0].unwrap_or(f64::NAN), b.values[0].unwrap_or(f64::NAN));
                if op == AggregateOp::Topk { b.total_cmp(&a) } else { a.total_cmp(&b) }
            });
        }
        Ok(kept)
    }

    fn binary(&self, op: BinaryOp, matching: &Matching, left: Value, right: Value) -> Result<Value> {
        let with_number = |series: Vec<Series>, operate: &dyn Fn(f64) -> Option<f64>| {
            let mut series = series;
            for one in &mut series {
                for value in &mut one.values {
                    *value = value.and_then(operate);
                }
            }
            series.retain(|one| one.values.iter().any(Option::is_some));
            Value::Series(series)
        };
        Ok(match (left, right) {
            (Value::Number(a), Value::Number(b)) => match op {
                BinaryOp::Compare(compare) => Value::Number(f64::from(u8::from(compare.holds(a, b)))),
                _ => Value::Number(operated(op, a, b, true, false).unwrap_or(f64::NAN)),
            },
            (Value::Series(a), Value::Number(b)) => {
                with_number(a, &|a| operated(op, a, b, matching.returns_bool, false))
            }
            (Value::Number(a), Value::Series(b)) => {
                with_number(b, &|b| operated(op, a, b, matching.returns_bool, true))
            }
            (Value::Series(a), Value::Series(b)) => match op.is_set() {
                true => Value::Series(self.set(op, matching, a, b)),
                false => Value::Series(self.matched(op, matching, a, b)?),
            },
        })
    }

    fn set(&self, op: BinaryOp, matching: &Matching, left: Vec<Series>, right: Vec<Series>) -> Vec<Series> {
        let present = |side: &[Series]| {
            let mut at: BTreeMap<LabelSet, Vec<bool>> = BTreeMap::new();
            for series in side {
                let steps = at
                    .entry(signature(&series.labels, matching))
                    .or_insert_with(|| vec![false; self.steps.count]);
                for (step, value) in steps.iter_mut().zip(&series.values) {
                    *step |= value.is_some();
                }
            }
            at
        };
        let keep = |mut side: Vec<Series>, other: &BTreeMap<LabelSet, Vec<bool>>, where_present: bool| {
            for series in &mut side {
                let steps = other.get(&signature(&series.labels, matching));
                for (step, value) in series.values.iter_mut().enumerate() {
                    if steps.is_some_and(|steps| steps[step]) != where_present {
                        *value = None;
                    }
                }
            }
            side.retain(|series| series.values.iter().any(Option::is_some));
            side
        };
        match op {
            BinaryOp::And => keep(left, &present(&right), true),
            BinaryOp::Unless => keep(left, &present(&right), false),
            _ => {
                let of_left = present(&left);
                let mut all = left;
                all.extend(keep(right, &of_left, false));
                // The same labels may come from both sides, at different steps.
                let mut merged: BTreeMap<LabelSet, Series> = BTreeMap::new();
                for series in all {
                    match merged.get_mut(&series.labels) {
                        Some(known) => {
                            for (value, other) in known.values.iter_mut().zip(series.values) {
                                *value = value.or(other);
                            }
                        }
                        None => drop(merged.insert(series.labels.clone(), series)),
                    }
                }
                merged.into_values().collect()
            }
        }
    }

    fn matched(
        &self,
        op: BinaryOp,
        matching: &Matching,
        left: Vec<Series>,
        right: Vec<Series>,
    ) -> Result<Vec<Series>> {
        // The side that may have several series of a signature is called many.
        let swaps = matches!(matching.group, Some((false, _)));
        let (many, one) = if swaps { (right, left) } else { (left, right) };
        let mut ones: BTreeMap<LabelSet, Series> = BTreeMap::new();
        for series in one {
            let key = signature(&series.labels, matching);
            if let Some(known) = ones.get_mut(&key) {
                let both = known.values.iter().zip(&series.values).any(|(a, b)| a.is_some() && b.is_some());
                if both {
                    let side = if swaps { "left" } else { "right" };
                    return Err(QueryError::BadParameter(format!(
                        "found duplicate series on the {side} hand-side for the labels {key}; many-to-many matching not \
                         allowed: matching labels must be unique on one side"
                    )));
                }
                for (value, other) in known.values.iter_mut().zip(series.values) {
                    *value = value.or(other);
                }
            } else {
                ones.insert(key, series);
            }
        }
        self.hold(many.len() as u64)?;
        let mut out: BTreeMap<LabelSet, Series> = BTreeMap::new();
        for series in many {
            self.budget.check()?;
            let key = signature(&series.labels, matching);
            let Some(other) = ones.get(&key) else { continue };
            let values: Vec<Option<f64>> = series
                .values
                .iter()
                .zip(&other.values)
                .map(|(many, one)| {
                    let (left, right) = if swaps { (*one, *many) } else { (*many, *one) };
                    operated(op, left?, right?, matching.returns_bool, false)
                })
                .collect();
            if values.iter().all(Option::is_none) {
                continue;
            }
            let labels = match (&matching.group, &matching.on) {
                (Some((_, include)), _) => {
                    let mut pairs: Vec<(String, String)> = include
                        .iter()
                        .map(|name| (name.clone(), other.labels.get(name).to_owned()))
                        .collect();
                    pairs.extend(series.labels.0.iter().filter(|(name, _)| !include.contains(name)).cloned());
                    LabelSet::new(pairs)
                }
                (None, Some((true, names))) => series.labels.filtered(|name| names.iter().any(|n| n == name)),
                (None, Some((false, names))) => {
                    series.labels.filtered(|name| !names.iter().any(|n| n == name))
                }
                (None, None) => series.labels.clone(),
            };
            if let Some(known) = out.get_mut(&labels) {
                for (value, other) in known.values.iter_mut().zip(values) {
                    if value.is_some() && other.is_some() {
                        return Err(QueryError::BadParameter(format!(
                            "multiple matches for labels {labels}: many-to-one matching must be explicit (group_left/group_right)"
                        )));
                    }
                    *value = value.or(other);
                }
            } else {
                out.insert(labels.clone(), Series { labels, values });
            }
        }
        Ok(out.into_values().collect())
    }
}

fn check_unique(series: &[Series]) -> Result<()> {
    let mut seen = std::collections::BTreeSet::new();
    match series.iter().find(|series| !seen.insert(&series.labels)) {
        Some(twice) => {
            Err(QueryError::BadParameter(format!("the labels {} stand for several series", twice.labels)))
        }
        None => Ok(()),
    }
}

fn signature(labels: &LabelSet, matching: &Matching) -> LabelSet {
    match &matching.on {
        None => labels.clone(),
        Some((on, names)) => labels.filtered(|name| names.iter().any(|n| n == name) == *on),
    }
}

fn aggregated(op: AggregateOp, values: impl Iterator<Item = f64>) -> f64 {
    let (mut count, mut sum, mut least, mut most) = (0u64, Sum::default(), f64::NAN, f64::NAN);
    let (mut mean, mut squares) = (0.0, 0.0);
    for value in values {
        count += 1;
        sum.add(value);
        if value < least || least.is_nan() {
            least = value;
        }
        if value > most || most.is_nan() {
            most = value;
        }
        let delta = value - mean;
        mean += delta / count as f64;
        squares += delta * (value - mean);
    }
    match op {
        AggregateOp::Sum => sum.total(),
        AggregateOp::Avg => sum.total() / count as f64,
        AggregateOp::Min => least,
        AggregateOp::Max => most,
        AggregateOp::Count => count as f64,
        AggregateOp::Stdvar => squares / count as f64,
        AggregateOp::Stddev => (squares / count as f64).sqrt(),
        // These choose series instead.
        AggregateOp::Topk | AggregateOp::Bottomk | AggregateOp::Sort | AggregateOp::SortDesc => f64::NAN,
    }
}

/// Value of an operation; none where a comparison drops it. A comparison keeps the value of its series: the left side,
/// or with a number on the left (`keeps_right`) the right one.
fn operated(op: BinaryOp, a: f64, b: f64, returns_bool: bool, keeps_right: bool) -> Option<f64> {
    Some(match op {
        BinaryOp::Add => a + b,
        BinaryOp::Sub => a - b,
        BinaryOp::Mul => a * b,
        BinaryOp::Div if b == 0.0 => f64::NAN,
        BinaryOp::Div => a / b,
        BinaryOp::Mod if b == 0.0 => f64::NAN,
        BinaryOp::Mod => a % b,
        BinaryOp::Pow => a.powf(b),
        BinaryOp::Compare(compare) => return compared(compare, a, b, returns_bool, keeps_right),
        BinaryOp::Or | BinaryOp::And | BinaryOp::Unless => return None,
    })
}

fn compared(compare: Compare, a: f64, b: f64, returns_bool: bool, keeps_right: bool) -> Option<f64> {
    let holds = compare.holds(a, b);
    match returns_bool {
        true => Some(f64::from(u8::from(holds))),
        false => holds.then_some(if keeps_right { b } else { a }),
    }
}
