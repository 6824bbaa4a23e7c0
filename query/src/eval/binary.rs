//! Binary operations. Which series meet is found once, by signature; then whole columns are computed. Only where
//! several series of one side share a signature does the step decide which of them is there.

use std::sync::Arc;

use protocol::histogram::{CounterResetHint, Histogram};
use protocol::labels::{Labels, METRIC_NAME};

use super::{Evaluator, Result};
use crate::annotations::HistogramOperation;
use crate::error::QueryError;
use crate::exec::column_bytes;
use crate::format::format_labels;
use crate::histogram::{HistogramExt, trim};
use crate::promql::ast::{Binary, BinaryOp, Cardinality, Matching};
use crate::promql::span::Span;
use crate::value::{Grid, Map, Sample, Series, is_absent, is_metadata_label, merge_same_labels};

/// An operation between scalars.
pub(super) fn scalar_operation(op: BinaryOp, left: f64, right: f64) -> f64 {
    let truth = |is: bool| if is { 1.0 } else { 0.0 };
    match op {
        BinaryOp::Equal => truth(left == right),
        BinaryOp::NotEqual => truth(left != right),
        BinaryOp::Greater => truth(left > right),
        BinaryOp::Less => truth(left < right),
        BinaryOp::GreaterEqual => truth(left >= right),
        BinaryOp::LessEqual => truth(left <= right),
        _ => arithmetic(op, left, right),
    }
}

#[inline]
fn arithmetic(op: BinaryOp, left: f64, right: f64) -> f64 {
    match op {
        BinaryOp::Add => left + right,
        BinaryOp::Sub => left - right,
        BinaryOp::Mul => left * right,
        BinaryOp::Div => left / right,
        BinaryOp::Mod => left % right,
        BinaryOp::Pow => power(left, right),
        BinaryOp::Atan2 => left.atan2(right),
        _ => f64::NAN,
    }
}

/// Go's `Pow`, which differs from C's nowhere but is total over the same special cases.
fn power(base: f64, exponent: f64) -> f64 {
    base.powf(exponent)
}

#[inline]
fn comparison(op: BinaryOp, left: f64, right: f64) -> bool {
    scalar_operation(op, left, right) == 1.0
}

/// What an operation between two samples gives.
enum Outcome {
    /// Nothing, and the types were to blame.
    Incompatible,
    /// A value; `keep` says whether a comparison held.
    Value { value: Computed, keep: bool },
}

enum Computed {
    Float(f64),
    Histogram(Arc<Histogram>),
}

fn type_name(sample: Sample<'_>) -> &'static str {
    match sample {
        Sample::Float(_) => "float",
        Sample::Histogram(_) => "histogram",
    }
}

impl Evaluator<'_> {
    fn operate(&self, op: BinaryOp, span: Span, left: Sample<'_>, right: Sample<'_>) -> Outcome {
        use BinaryOp::{Add, Div, Equal, Mul, NotEqual, Sub, TrimLower, TrimUpper};
        let float = |value: f64, keep: bool| Outcome::Value { value: Computed::Float(value), keep };
        let histogram = |h: Histogram| Outcome::Value { value: Computed::Histogram(Arc::new(h)), keep: true };
        let compacted = |mut h: Histogram| {
            h.compact();
            histogram(h)
        };
        match (left, right) {
            (Sample::Float(l), Sample::Float(r)) if op.is_comparison() => float(l, comparison(op, l, r)),
            (Sample::Float(l), Sample::Float(r)) if op.changes_schema() => float(arithmetic(op, l, r), true),
            (Sample::Float(l), Sample::Histogram(r)) if op == Mul => {
                let mut h = (**r).clone();
                h.scale(l);
                compacted(h)
            }
            (Sample::Histogram(l), Sample::Float(r)) if op == Mul => {
                let mut h = (**l).clone();
                h.scale(r);
                compacted(h)
            }
            (Sample::Histogram(l), Sample::Float(r)) if op == Div => {
                let mut h = (**l).clone();
                h.divide(r);
                compacted(h)
            }
            (Sample::Histogram(l), Sample::Float(r)) if matches!(op, TrimUpper | TrimLower) => {
                histogram(trim(l, r, op == TrimUpper))
            }
            (Sample::Histogram(l), Sample::Histogram(r)) if matches!(op, Add | Sub) => {
                let mut h = (**l).clone();
                let (met, operation) = match op {
                    Add => (h.add(r), HistogramOperation::Addition),
                    _ => (h.subtract(r), HistogramOperation::Subtraction),
                };
                let mut notes = self.notes.borrow_mut();
                let Ok(meeting) = met else {
                    notes.incompatible_bucket_layout(op.as_str(), span);
                    return Outcome::Incompatible;
                };
                if op == Sub {
                    h.counter_reset_hint = CounterResetHint::Gauge;
                }
                if meeting.reset_collision {
                    notes.counter_reset_collision(operation, span);
                }
                if meeting.bounds_reconciled {
                    notes.mismatched_custom_buckets(operation, span);
                }
                compacted(h)
            }
            (Sample::Histogram(l), Sample::Histogram(r)) if matches!(op, Equal | NotEqual) => {
                let keep = l.same_as(r) == (op == Equal);
                Outcome::Value { value: Computed::Histogram(Arc::clone(l)), keep }
            }
            _ => {
                let (left, right) = (type_name(left), type_name(right));
                self.notes.borrow_mut().incompatible_types(left, op.as_str(), right, span);
                Outcome::Incompatible
            }
        }
    }

    /// A series by a scalar (`swapped`: the scalar stands left). What a comparison rejects is absent.
    pub(super) fn operate_with_scalar(
        &self,
        binary: &Binary,
        span: Span,
        mut series: Series,
        scalars: &[f64],
        swapped: bool,
    ) -> Series {
        let op = binary.op;
        if series.histograms.is_empty() && op.changes_schema() {
            for (value, scalar) in series.values.iter_mut().zip(scalars).filter(|(v, _)| !is_absent(**v)) {
                *value =
                    if swapped { arithmetic(op, *scalar, *value) } else { arithmetic(op, *value, *scalar) };
            }
            return series;
        }
        let mut out = Series::empty(series.labels.clone(), series.values.len());
        out.drop_name = series.drop_name;
        for (step, scalar) in scalars.iter().enumerate() {
            let Some(sample) = series.get(step) else { continue };
            let scalar = Sample::Float(*scalar);
            let (left, right) = if swapped { (scalar, sample) } else { (sample, scalar) };
            let Outcome::Value { value, keep } = self.operate(op, span, left, right) else { continue };
            if binary.return_bool {
                out.values[step] = if keep { 1.0 } else { 0.0 };
            } else if op.is_comparison() {
                // The vector's value is what passes, on whichever side it stands.
                if keep {
                    out.set(step, sample);
                }
            } else {
                put(&mut out, step, value);
            }
        }
        out
    }

    /// An operation between two vectors.
    pub(super) fn vectors(&self, binary: &Binary, span: Span, grid: Grid) -> Result<Vec<Series>> {
        let left = self.vector(&binary.left, grid)?;
        let right = self.vector(&binary.right, grid)?;
        self.budget.check()?;
        if binary.op.is_set() {
            // A flag per step for each signature of the side that decides.
            let deciding = if binary.op == BinaryOp::Or { left.len() } else { right.len() };
            let _held = self.budget.hold_while((grid.count as u64).saturating_mul(deciding as u64))?;
            return set_operation(binary.op, &binary.matching, left, right, grid.count);
        }
        let results = Join::new(self, binary, span, grid.count, left, right).run()?;
        merge_same_labels(results)
    }
}

fn put(series: &mut Series, step: usize, value: Computed) {
    match value {
        Computed::Float(value) => series.values[step] = value,
        Computed::Histogram(h) => series.set_histogram(step, h),
    }
}

/// The part of the labels by which the sides find each other.
fn signature(labels: &Labels, matching: &Matching) -> Labels {
    let listed = |name: &str| matching.labels.iter().any(|label| label == name);
    if matching.on {
        labels.filtered(listed)
    } else {
        labels.filtered(|name| name != METRIC_NAME && !listed(name))
    }
}

/// Numbers for the signatures of two sides.
fn number_signatures(
    matching: &Matching,
    left: &[Series],
    right: &[Series],
) -> (Vec<usize>, Vec<usize>, usize) {
    let mut numbers: Map<Labels, usize> = Map::default();
    let mut number = |series: &Series| {
        let next = numbers.len();
        *numbers.entry(signature(&series.labels, matching)).or_insert(next)
    };
    let left = left.iter().map(&mut number).collect();
    let right = right.iter().map(&mut number).collect();
    let count = numbers.len();
    (left, right, count)
}

/// Steps at which any series of a signature has a sample.
fn presence(series: &[Series], signatures: &[usize], count: usize, steps: usize) -> Vec<Vec<bool>> {
    let mut present = vec![Vec::new(); count];
    for (series, signature) in series.iter().zip(signatures) {
        let row: &mut Vec<bool> = &mut present[*signature];
        row.resize(steps, false);
        for (step, slot) in row.iter_mut().enumerate() {
            *slot |= series.has(step);
        }
    }
    present
}

fn set_operation(
    op: BinaryOp,
    matching: &Matching,
    mut left: Vec<Series>,
    mut right: Vec<Series>,
    steps: usize,
) -> Result<Vec<Series>> {
    let (left_signatures, right_signatures, count) = number_signatures(matching, &left, &right);
    let (masked, signatures, other) = match op {
        BinaryOp::Or => (&mut right, &right_signatures, presence(&left, &left_signatures, count, steps)),
        _ => (&mut left, &left_signatures, presence(&right, &right_signatures, count, steps)),
    };
    // `and` keeps what the other side has too, `unless` and the right side of `or` what it has not.
    let keep_present = op == BinaryOp::And;
    for (series, signature) in masked.iter_mut().zip(signatures) {
        for step in 0..steps {
            let present = other[*signature].get(step).copied().unwrap_or(false);
            if present != keep_present {
                series.clear(step);
            }
        }
    }
    left.retain(Series::has_any);
    if op != BinaryOp::Or {
        return Ok(left);
    }
    right.retain(Series::has_any);
    left.append(&mut right);
    merge_same_labels(left)
}

/// One-to-one, many-to-one and one-to-many matching.
struct Join<'e, 'a> {
    evaluator: &'e Evaluator<'a>,
    binary: &'e Binary,
    span: Span,
    steps: usize,
    /// The "many" side, or the left one.
    many: Vec<Series>,
    /// The "one" side, or the right one.
    one: Vec<Series>,
    many_signatures: Vec<usize>,
    one_by_signature: Vec<Vec<usize>>,
    /// Sides were swapped: `group_right`.
    swapped: bool,
}

/// The results of one pair of series.
struct Pair {
    series: Series,
    signature: usize,
    /// Steps at which the pair met, whether or not a comparison held.
    met: Vec<bool>,
}

impl<'e, 'a> Join<'e, 'a> {
    fn new(
        evaluator: &'e Evaluator<'a>,
        binary: &'e Binary,
        span: Span,
        steps: usize,
        left: Vec<Series>,
        right: Vec<Series>,
    ) -> Self {
        let swapped = binary.matching.cardinality == Cardinality::OneToMany;
        let (many, one) = if swapped { (right, left) } else { (left, right) };
        let (many_signatures, one_signatures, count) = number_signatures(&binary.matching, &many, &one);
        let mut one_by_signature = vec![Vec::new(); count];
        for (i, signature) in one_signatures.iter().enumerate() {
            one_by_signature[*signature].push(i);
        }
        Self { evaluator, binary, span, steps, many, one, many_signatures, one_by_signature, swapped }
    }

    /// The value that a missing series of the "one" (or "many") side counts as.
    fn fills(&self) -> (Option<f64>, Option<f64>) {
        let matching = &self.binary.matching;
        // As in Prometheus the right fill stands for the "one" side, whichever side of the operator that is.
        (matching.fill_right, matching.fill_left)
    }

    fn run(self) -> Result<Vec<Series>> {
        let (fill_one, fill_many) = self.fills();
        self.refuse_doubles(fill_one.is_some() || fill_many.is_some())?;
        let mut pairs: Vec<Pair> = Vec::new();
        // Flags per step: which steps a signature met at, and the series at hand.
        let flags = (self.steps as u64).saturating_mul(self.one_by_signature.len() as u64 + 1);
        let _held = self.evaluator.budget.hold_while(flags)?;
        let mut one_met: Vec<Vec<bool>> = vec![Vec::new(); self.one_by_signature.len()];
        for (many, signature) in self.many.iter().zip(&self.many_signatures) {
            self.evaluator.budget.check()?;
            let candidates = &self.one_by_signature[*signature];
            let mut seen = vec![false; self.steps];
            for one in candidates {
                let one = &self.one[*one];
                let labels = self.result_labels(&many.labels, &one.labels);
                let mut pair = self.pair(labels, many, *signature)?;
                for step in 0..self.steps {
                    let (Some(m), Some(o)) = (many.get(step), one.get(step)) else {
                        seen[step] |= one.has(step);
                        continue;
                    };
                    seen[step] = true;
                    self.meet(&mut pair, step, m, o);
                }
                pairs.push(pair);
            }
            if let Some(fill) = fill_one {
                let filler = signature_labels(&many.labels, &self.binary.matching);
                let mut pair = self.pair(self.result_labels(&many.labels, &filler), many, *signature)?;
                for step in (0..self.steps).filter(|step| !seen[*step]) {
                    if let Some(m) = many.get(step) {
                        self.meet(&mut pair, step, m, Sample::Float(fill));
                    }
                }
                pairs.push(pair);
            }
        }
        for pair in &pairs {
            let row = &mut one_met[pair.signature];
            row.resize(self.steps, false);
            for (slot, met) in row.iter_mut().zip(&pair.met) {
                *slot |= met;
            }
        }
        self.refuse_ambiguous(&pairs)?;
        if let Some(fill) = fill_many {
            for (signature, ones) in self.one_by_signature.iter().enumerate() {
                for one in ones {
                    let one = &self.one[*one];
                    let filler = signature_labels(&one.labels, &self.binary.matching);
                    let labels = self.result_labels(&filler, &one.labels);
                    let mut pair = self.pair(labels, one, signature)?;
                    for step in 0..self.steps {
                        let matched = one_met[signature].get(step).copied().unwrap_or(false);
                        if let (Some(o), false) = (one.get(step), matched) {
                            self.meet(&mut pair, step, Sample::Float(fill), o);
                        }
                    }
                    pairs.push(pair);
                }
            }
        }
        Ok(pairs.into_iter().map(|pair| pair.series).filter(Series::has_any).collect())
    }

    fn pair(&self, labels: Labels, origin: &Series, signature: usize) -> Result<Pair> {
        // The pair's values and a flag per step.
        let bytes = column_bytes(self.steps) + self.steps as u64 + labels.as_bytes().len() as u64;
        self.evaluator.budget.hold(bytes)?;
        let mut series = Series::empty(labels, self.steps);
        series.drop_name = self.binary.return_bool || (!self.binary.op.changes_schema() && origin.drop_name);
        if self.binary.return_bool && !self.evaluator.features.delayed_name_removal {
            series = self.evaluator.without_name(series);
        }
        Ok(Pair { series, signature, met: vec![false; self.steps] })
    }

    fn meet(&self, pair: &mut Pair, step: usize, many: Sample<'_>, one: Sample<'_>) {
        let (left, right) = if self.swapped { (one, many) } else { (many, one) };
        let Outcome::Value { value, keep } = self.evaluator.operate(self.binary.op, self.span, left, right)
        else {
            return;
        };
        pair.met[step] = true;
        if self.binary.return_bool {
            pair.series.values[step] = if keep { 1.0 } else { 0.0 };
        } else if keep {
            put(&mut pair.series, step, value);
        }
    }

    fn result_labels(&self, many: &Labels, one: &Labels) -> Labels {
        let (op, matching) = (self.binary.op, &self.binary.matching);
        let listed = |name: &str| matching.labels.iter().any(|label| label == name);
        let one_to_one = matching.cardinality == Cardinality::OneToOne;
        let labels = many.filtered(|name| {
            !(op.changes_schema() && is_metadata_label(name)) && (!one_to_one || matching.on == listed(name))
        });
        // Labels named by `group_left` and `group_right` come from the "one" side, absence included.
        matching.include.iter().fold(labels, |labels, name| labels.with(name, one.get(name).unwrap_or("")))
    }

    /// Fails when at a step two series of the "one" side have the same signature.
    fn refuse_doubles(&self, filled: bool) -> Result<()> {
        for ones in self.one_by_signature.iter().filter(|ones| ones.len() > 1) {
            for step in 0..self.steps {
                let mut there = ones.iter().map(|i| &self.one[*i]).filter(|one| one.has(step));
                let (Some(first), Some(second)) = (there.next(), there.next()) else { continue };
                // With nothing on the other side nobody is there to be matched.
                if !filled && !self.many.iter().any(|many| many.has(step)) {
                    continue;
                }
                let group = signature_labels(&first.labels, &self.binary.matching);
                let side = if self.swapped { "left" } else { "right" };
                let mut both = [&first.labels, &second.labels];
                both.sort();
                return Err(QueryError::Execution(format!(
                    "found duplicate series for the match group {} on the {side} hand-side of the operation: \
                     [{}, {}];many-to-many matching not allowed: matching labels must be unique on one side",
                    format_labels(&group),
                    format_labels(both[0]),
                    format_labels(both[1]),
                )));
            }
        }
        Ok(())
    }

    /// Fails when two results of one signature can not be told apart.
    fn refuse_ambiguous(&self, pairs: &[Pair]) -> Result<()> {
        let one_to_one = self.binary.matching.cardinality == Cardinality::OneToOne;
        let mut taken: Map<(usize, Option<&Labels>), Vec<bool>> = Map::default();
        for pair in pairs {
            let labels = (!one_to_one).then_some(&pair.series.labels);
            let row = taken.entry((pair.signature, labels)).or_insert_with(|| vec![false; self.steps]);
            for (slot, met) in row.iter_mut().zip(&pair.met) {
                if *slot && *met {
                    let message = if one_to_one {
                        "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)"
                    } else {
                        "multiple matches for labels: grouping labels must ensure unique matches"
                    };
                    return Err(QueryError::Execution(message.to_owned()));
                }
                *slot |= met;
            }
        }
        Ok(())
    }
}

/// The labels of a match group, as messages and fills show it.
fn signature_labels(labels: &Labels, matching: &Matching) -> Labels {
    let listed = |name: &str| matching.labels.iter().any(|label| label == name);
    if matching.on {
        labels.filtered(listed)
    } else {
        labels.filtered(|name| !listed(name) && name != METRIC_NAME)
    }
}
