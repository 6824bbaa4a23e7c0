//! The evaluator: expressions over a grid of steps, as columns of series.
//!
//! The same code runs at the shards and at the coordinator; what differs is [`Data`]: a shard reads its series, the
//! coordinator finds what the shards answered. Per-series work ("chains", see `plan::push`) streams: one series is
//! read, computed and handed on before the next is touched, so that an aggregation holds its groups, not its input.
//!
//! Order: selectors deliver series in label order and everything keeps the order of its input, so that "first" (in
//! `limitk`, and among equals in `topk`) means the same on any number of shards.

pub mod aggregate;
mod binary;
mod buckets;
mod calls;
pub(crate) mod info;
pub mod range;
mod rolled;
mod selector;
mod steady_rate;

pub(crate) use calls::absence;

use std::cell::RefCell;
use std::ops::ControlFlow;

use protocol::labels::Labels;
use protocol::matcher::Matcher;

use crate::annotations::Annotations;
use crate::error::QueryError;
use crate::exec::{Budget, column_bytes};
use crate::features::Features;
use crate::plan::push::{Chain, is_over_range, is_per_sample, keeps_name, names_one_metric};
use crate::plan::{QueryTimes, go_max, go_min};
use crate::promql::ast::{DurationValue, Expr, ExprKind, ValueType};
use crate::promql::functions::FunctionId;
use crate::promql::functions::math::{float_function, histogram_function};
use crate::source::{SeriesColumns, TimeRange};
use crate::value::{
    ABSENT, Grid, Series, is_absent, merge_same_labels, refuse_same_labels, without_metadata,
};

/// A result of evaluation.
pub type Result<T> = std::result::Result<T, QueryError>;

/// Takes the series of a stream.
pub type Sink<'s> = &'s mut dyn FnMut(Series) -> Result<()>;

/// Where the evaluator finds stored data.
pub trait Data {
    /// What the shards answered for this expression on this grid, if it was asked of them.
    fn fetched(&self, expr: &Expr, grid: &Grid) -> Option<&[Series]>;

    /// Values of a scalar that were sent along, one per step.
    fn bound_scalar(&self, expr: &Expr) -> Option<&[f64]>;

    /// Whether stored samples of a time were rolled up.
    fn has_rollups(&self, _range: TimeRange) -> bool {
        false
    }

    /// Visits stored series in label order.
    fn select(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
        visit: &mut dyn FnMut(SeriesColumns<'_>) -> ControlFlow<()>,
    ) -> Result<()>;
}

/// Evaluates expressions of one query.
pub struct Evaluator<'a> {
    /// Stored data.
    pub data: &'a dyn Data,
    /// Times of the whole query.
    pub times: QueryTimes,
    /// How far an instant selector looks back, milliseconds.
    pub lookback: i64,
    /// Step of subqueries that name none, milliseconds.
    pub subquery_step: i64,
    /// Switches.
    pub features: Features,
    /// What may still be used.
    pub budget: &'a Budget,
    /// Warnings and information so far.
    pub notes: RefCell<Annotations>,
}

/// Milliseconds of an optional duration, resolved.
pub(crate) fn millis(duration: Option<&DurationValue>) -> i64 {
    duration.map_or(0, |d| d.millis)
}

impl<'a> Evaluator<'a> {
    /// All series of an instant vector.
    pub fn vector(&self, expr: &Expr, grid: Grid) -> Result<Vec<Series>> {
        let mut out = Vec::new();
        self.stream(expr, grid, &mut |series| {
            self.budget.hold(series.bytes())?;
            out.push(series);
            Ok(())
        })?;
        Ok(out)
    }

    /// The values of a scalar, one per step.
    pub fn scalar(&self, expr: &Expr, grid: Grid) -> Result<Vec<f64>> {
        if let Some(values) = self.data.bound_scalar(expr)
            && values.len() == grid.count
        {
            self.budget.hold(column_bytes(grid.count))?;
            return Ok(values.to_vec());
        }
        self.budget.check()?;
        self.budget.hold(column_bytes(grid.count))?;
        let same = |value: f64| vec![value; grid.count];
        let seconds = |millis: i64| millis as f64 / 1000.0;
        Ok(match &expr.kind {
            ExprKind::Number { value, .. } => same(*value),
            ExprKind::Paren(inner) => self.scalar(inner, grid)?,
            ExprKind::StepInvariant(inner) => {
                if grid.count == 0 {
                    return Ok(Vec::new());
                }
                same(self.scalar(inner, Grid::single(grid.start, grid.step))?[0])
            }
            ExprKind::Unary { negative, expr } => {
                let mut values = self.scalar(expr, grid)?;
                if *negative {
                    values.iter_mut().for_each(|v| *v = -*v);
                }
                values
            }
            ExprKind::Binary(b) => {
                let (left, right) = (self.scalar(&b.left, grid)?, self.scalar(&b.right, grid)?);
                left.iter().zip(&right).map(|(l, r)| binary::scalar_operation(b.op, *l, *r)).collect()
            }
            ExprKind::Call { function, args } => match function.id {
                FunctionId::Time => (0..grid.count).map(|i| seconds(grid.at(i))).collect(),
                FunctionId::Pi => same(std::f64::consts::PI),
                FunctionId::Step => same(seconds(self.times.step)),
                FunctionId::Range => same(seconds(self.times.end.saturating_sub(self.times.start))),
                FunctionId::Start => same(seconds(self.times.start)),
                FunctionId::End => same(seconds(self.times.end)),
                FunctionId::MinOf | FunctionId::MaxOf => {
                    let pick = if function.id == FunctionId::MinOf { go_min } else { go_max };
                    let (a, b) = (self.scalar(&args[0], grid)?, self.scalar(&args[1], grid)?);
                    a.iter().zip(&b).map(|(a, b)| pick(*a, *b)).collect()
                }
                FunctionId::ScalarOf => self.scalar_of(&args[0], grid)?,
                _ => return Err(unexpected(expr)),
            },
            _ => return Err(unexpected(expr)),
        })
    }

    /// `scalar(v)`: the only float of each step, NaN where there is none or more than one.
    fn scalar_of(&self, expr: &Expr, grid: Grid) -> Result<Vec<f64>> {
        let _held = self.budget.hold_while(grid.count as u64)?;
        let mut values = vec![f64::NAN; grid.count];
        let mut seen = vec![0u8; grid.count];
        self.stream(expr, grid, &mut |series| {
            for (step, value) in series.values.iter().enumerate().filter(|(_, v)| !is_absent(**v)) {
                seen[step] = seen[step].saturating_add(1);
                values[step] = if seen[step] == 1 { *value } else { f64::NAN };
            }
            Ok(())
        })?;
        Ok(values)
    }

    /// Hands the series of an instant vector on, one by one, in order.
    pub fn stream(&self, expr: &Expr, grid: Grid, sink: Sink<'_>) -> Result<()> {
        if grid.count == 0 {
            return Ok(());
        }
        if let Some(series) = self.data.fetched(expr, &grid) {
            return series.iter().try_for_each(|series| {
                let _held = self.budget.hold_while(series.bytes())?;
                self.budget.work(grid.count as u64)?;
                sink(series.clone())
            });
        }
        self.budget.check()?;
        match &expr.kind {
            ExprKind::Vector(selector) => self.instant_selector(selector, expr.span, grid, sink),
            ExprKind::Paren(inner) => self.stream(inner, grid, sink),
            ExprKind::StepInvariant(inner) => {
                self.stream(inner, Grid::single(grid.start, grid.step), &mut |series| {
                    let columns = 1 + u64::from(!series.histograms.is_empty());
                    let _held = self.budget.columns(columns, grid.count)?;
                    sink(repeated(&series, grid.count))
                })
            }
            ExprKind::Unary { negative: false, expr } => self.stream(expr, grid, sink),
            ExprKind::Unary { negative: true, expr: inner } => {
                self.dropping_names(inner, sink, true, &mut |sink| {
                    self.stream(inner, grid, &mut |mut series| {
                        negate(&mut series);
                        sink(self.without_name(series))
                    })
                })
            }
            ExprKind::Binary(binary) => {
                let (left, right) = (binary.left.value_type(), binary.right.value_type());
                match (left, right) {
                    (ValueType::Vector, ValueType::Scalar) => {
                        self.with_scalar(binary, expr.span, &binary.left, &binary.right, false, grid, sink)
                    }
                    (ValueType::Scalar, ValueType::Vector) => {
                        self.with_scalar(binary, expr.span, &binary.right, &binary.left, true, grid, sink)
                    }
                    (ValueType::Vector, ValueType::Vector) => {
                        self.vectors(binary, expr.span, grid)?.into_iter().try_for_each(sink)
                    }
                    _ => self.scalar_series(expr, grid, sink),
                }
            }
            ExprKind::Call { function, args } if is_per_sample(function.id) => {
                self.per_sample(function.id, args, grid, sink)
            }
            ExprKind::Call { function, args } if is_over_range(function) => {
                let root = args.iter().find(|arg| arg.value_type() == ValueType::Matrix).unwrap_or(expr);
                if keeps_name(function.id) {
                    return self.over_range(function.id, args, grid, sink);
                }
                self.dropping_names(root, sink, false, &mut |sink| {
                    self.over_range(function.id, args, grid, &mut |series| sink(self.without_name(series)))
                })
            }
            ExprKind::Call { function, args } if function.returns == ValueType::Vector => {
                self.call(function.id, args, expr.span, grid)?.into_iter().try_for_each(sink)
            }
            ExprKind::Aggregate(aggregate) => {
                self.aggregate(aggregate, expr.span, grid)?.into_iter().try_for_each(sink)
            }
            ExprKind::Number { .. } | ExprKind::Call { .. } => self.scalar_series(expr, grid, sink),
            ExprKind::String(_) | ExprKind::Matrix(_) | ExprKind::Subquery(_) => Err(unexpected(expr)),
        }
    }

    /// A scalar where a vector is looked for: a series without labels.
    fn scalar_series(&self, expr: &Expr, grid: Grid, sink: Sink<'_>) -> Result<()> {
        let values = self.scalar(expr, grid)?;
        sink(Series { labels: Labels::empty(), drop_name: false, values, histograms: Vec::new() })
    }

    /// The series without its metric's name: at once, or when the query ends.
    pub(crate) fn without_name(&self, mut series: Series) -> Series {
        series.drop_name = true;
        if !self.features.delayed_name_removal {
            series.labels = without_metadata(&series.labels);
            series.drop_name = false;
        }
        series
    }

    /// Runs a part that drops names. Where that can make labels equal, its series are collected and those with equal
    /// labels merged (where `merge` says so, and they do not overlap) or refused.
    fn dropping_names(
        &self,
        input: &Expr,
        sink: Sink<'_>,
        merge: bool,
        run: &mut dyn FnMut(Sink<'_>) -> Result<()>,
    ) -> Result<()> {
        let unique = self.features.delayed_name_removal || root_names_one_metric(input);
        if unique {
            return run(sink);
        }
        let mut collected = Vec::new();
        run(&mut |series| {
            self.budget.hold(series.bytes())?;
            collected.push(series);
            Ok(())
        })?;
        if merge {
            merge_same_labels(collected)?.into_iter().try_for_each(sink)
        } else {
            refuse_same_labels(&collected)?;
            collected.into_iter().try_for_each(sink)
        }
    }

    /// A function of each sample.
    fn per_sample(&self, id: FunctionId, args: &[Expr], grid: Grid, sink: Sink<'_>) -> Result<()> {
        let Some(input) = args.first() else {
            // The time functions without an argument look at the evaluation time.
            let Some(f) = float_function(id) else { return Ok(()) };
            let _held = self.budget.columns(1, grid.count)?;
            let values = (0..grid.count).map(|i| f((grid.at(i).div_euclid(1000)) as f64, &[])).collect();
            return sink(Series {
                labels: Labels::empty(),
                drop_name: false,
                values,
                histograms: Vec::new(),
            });
        };
        if matches!(id, FunctionId::Timestamp | FunctionId::StartTimestamp) {
            return self.dropping_names(input, sink, true, &mut |sink| {
                self.timestamps(id, input, grid, &mut |series| sink(self.without_name(series)))
            });
        }
        let params = args[1..].iter().map(|arg| self.scalar(arg, grid)).collect::<Result<Vec<_>>>()?;
        self.dropping_names(input, sink, true, &mut |sink| {
            self.stream(input, grid, &mut |series| {
                let series = map_samples(id, series, &params);
                if series.has_any() { sink(self.without_name(series)) } else { Ok(()) }
            })
        })
    }

    /// An operation of each sample with a scalar.
    #[allow(clippy::too_many_arguments, reason = "the two sides, which is which, and where")]
    fn with_scalar(
        &self,
        binary: &crate::promql::ast::Binary,
        span: crate::promql::span::Span,
        vector: &Expr,
        scalar: &Expr,
        swapped: bool,
        grid: Grid,
        sink: Sink<'_>,
    ) -> Result<()> {
        let scalars = self.scalar(scalar, grid)?;
        let drops = binary.op.changes_schema() || binary.return_bool;
        let mut run = |sink: Sink<'_>| {
            self.stream(vector, grid, &mut |series| {
                // Histograms and comparisons are computed into columns of their own.
                let columns = 1 + u64::from(!series.histograms.is_empty());
                let _held = self.budget.columns(columns, grid.count)?;
                let series = self.operate_with_scalar(binary, span, series, &scalars, swapped);
                if !series.has_any() {
                    return Ok(());
                }
                sink(if drops { self.without_name(series) } else { series })
            })
        };
        if drops { self.dropping_names(vector, sink, true, &mut run) } else { run(sink) }
    }
}

/// Whether the series of an expression still differ when metric names are dropped.
fn root_names_one_metric(expr: &Expr) -> bool {
    match &expr.unwrapped().kind {
        ExprKind::Vector(selector) => names_one_metric(selector),
        ExprKind::Matrix(matrix) => names_one_metric(&matrix.selector),
        ExprKind::Subquery(subquery) => root_names_one_metric(&subquery.expr),
        _ => Chain::of(expr, &Features { delayed_name_removal: true, ..Features::default() })
            .is_some_and(|chain| names_one_metric(chain.root)),
    }
}

/// An error of ours: types are checked before evaluation.
fn unexpected(expr: &Expr) -> QueryError {
    QueryError::Execution(format!("unexpected expression {expr} during evaluation"))
}

/// The one sample of a series at every step.
fn repeated(series: &Series, steps: usize) -> Series {
    Series {
        labels: series.labels.clone(),
        drop_name: series.drop_name,
        values: vec![series.values.first().copied().unwrap_or(ABSENT); steps],
        histograms: match series.histograms.first() {
            Some(histogram) => vec![histogram.clone(); steps],
            None => Vec::new(),
        },
    }
}

fn negate(series: &mut Series) {
    use crate::histogram::HistogramExt;
    for value in series.values.iter_mut().filter(|v| !is_absent(**v)) {
        *value = -*value;
    }
    for histogram in series.histograms.iter_mut().flatten() {
        std::sync::Arc::make_mut(histogram).scale(-1.0);
    }
}

fn map_samples(id: FunctionId, mut series: Series, params: &[Vec<f64>]) -> Series {
    if let Some(f) = histogram_function(id) {
        for step in 0..series.values.len() {
            series.values[step] = series.histogram(step).map_or(ABSENT, |h| f(h));
        }
        series.histograms = Vec::new();
        return series;
    }
    series.histograms = Vec::new();
    let Some(f) = float_function(id) else { return series };
    let mut at = Vec::with_capacity(params.len());
    for (step, value) in series.values.iter_mut().enumerate().filter(|(_, v)| !is_absent(**v)) {
        at.clear();
        at.extend(params.iter().map(|column| column[step]));
        // Clamping between bounds that cross leaves nothing.
        *value = if id == FunctionId::Clamp && at[1] < at[0] { ABSENT } else { f(*value, &at) };
    }
    series
}
