//! Functions that look at more than one series: labels, order, absence.

use protocol::labels::{Labels, METRIC_NAME};
use std::cmp::Ordering;

use super::{Evaluator, Result};
use crate::error::QueryError;
use crate::exec::column_bytes;
use crate::promql::ast::{Expr, ExprKind, Text, ValueType};
use crate::promql::functions::FunctionId;
use crate::promql::functions::labels::{Replace, absent_labels, join, label_name, natural_order};
use crate::promql::span::Span;
use crate::value::{ABSENT, Grid, Series, is_absent, merge_same_labels};

fn text(expr: &Expr) -> Result<&Text> {
    expr.string_literal()
        .ok_or_else(|| QueryError::Execution(format!("expected a string literal, got {expr}")))
}

impl Evaluator<'_> {
    /// A function from vectors to a vector that is no per-series work.
    pub(super) fn call(&self, id: FunctionId, args: &[Expr], span: Span, grid: Grid) -> Result<Vec<Series>> {
        use FunctionId as Id;
        if grid.count > 1 && matches!(id, Id::Sort | Id::SortDesc | Id::SortByLabel | Id::SortByLabelDesc) {
            self.notes.borrow_mut().sort_in_range_query(span);
        }
        match id {
            FunctionId::VectorOf => {
                let values = self.scalar(&args[0], grid)?;
                Ok(vec![Series { labels: Labels::empty(), drop_name: false, values, histograms: Vec::new() }])
            }
            FunctionId::Absent => {
                let present = self.present(&args[0], grid)?;
                self.budget.hold(column_bytes(grid.count))?;
                Ok(absence(&args[0], &present, false))
            }
            FunctionId::AbsentOverTime => {
                let present = self.present_over_time(args, grid)?;
                self.budget.hold(column_bytes(grid.count))?;
                Ok(absence(&args[0], &present, true))
            }
            FunctionId::LabelReplace => {
                let replace =
                    Replace::new(text(&args[1])?, text(&args[2])?, text(&args[3])?, text(&args[4])?)?;
                let mut series = self.vector(&args[0], grid)?;
                for s in &mut series {
                    if let Some(labels) = replace.apply(&s.labels) {
                        s.labels = labels;
                        s.drop_name &= !replace.sets_name();
                    }
                }
                merge_same_labels(series)
            }
            FunctionId::LabelJoin => {
                let sources = args[3..]
                    .iter()
                    .map(|arg| label_name(text(arg)?, "source", "label_join"))
                    .collect::<Result<Vec<_>>>()?;
                let target = label_name(text(&args[1])?, "destination", "label_join")?;
                let separator = text(&args[2])?.lossy();
                let mut series = self.vector(&args[0], grid)?;
                for s in &mut series {
                    s.labels = join(&s.labels, &target, &separator, &sources);
                    s.drop_name &= target != METRIC_NAME;
                }
                merge_same_labels(series)
            }
            FunctionId::Sort | FunctionId::SortDesc => {
                let mut series = self.vector(&args[0], grid)?;
                for s in &mut series {
                    s.histograms = Vec::new();
                }
                series.retain(Series::has_any);
                if grid.count == 1 {
                    let descending = id == FunctionId::SortDesc;
                    series.sort_by(|a, b| by_value(a.values[0], b.values[0], descending));
                }
                Ok(series)
            }
            FunctionId::SortByLabel | FunctionId::SortByLabelDesc => {
                let names = args[1..].iter().map(|arg| Ok(text(arg)?.lossy())).collect::<Result<Vec<_>>>()?;
                let mut series = self.vector(&args[0], grid)?;
                series.sort_by(|a, b| {
                    let value = |s: &Series, name: &str| s.labels.get(name).unwrap_or("").to_owned();
                    let order = names
                        .iter()
                        .map(|name| natural_order(&value(a, name), &value(b, name)))
                        .find(|order| order.is_ne())
                        .unwrap_or_else(|| a.labels.cmp(&b.labels));
                    if id == FunctionId::SortByLabel { order } else { order.reverse() }
                });
                Ok(series)
            }
            FunctionId::HistogramQuantile
            | FunctionId::HistogramQuantiles
            | FunctionId::HistogramFraction => self.over_buckets(id, args, grid),
            FunctionId::Info => self.info(args, span, grid),
            other => Err(QueryError::Execution(format!("{other:?} is no function of vectors"))),
        }
    }

    /// Steps at which a vector has an element.
    pub(crate) fn present(&self, expr: &Expr, grid: Grid) -> Result<Vec<bool>> {
        let mut present = self.no_steps(grid)?;
        self.stream(expr, grid, &mut |series| {
            for (step, slot) in present.iter_mut().enumerate() {
                *slot |= series.has(step);
            }
            Ok(())
        })?;
        Ok(present)
    }

    /// A flag for each step, none set.
    fn no_steps(&self, grid: Grid) -> Result<Vec<bool>> {
        self.budget.hold(grid.count as u64)?;
        Ok(vec![false; grid.count])
    }

    /// Steps at which a range has a sample.
    pub(crate) fn present_over_time(&self, args: &[Expr], grid: Grid) -> Result<Vec<bool>> {
        let mut present = self.no_steps(grid)?;
        self.over_range(FunctionId::PresentOverTime, args, grid, &mut |series| {
            for (slot, value) in present.iter_mut().zip(&series.values) {
                *slot |= !is_absent(*value);
            }
            Ok(())
        })?;
        Ok(present)
    }
}

/// The element that stands for absence, at the steps at which nothing is present.
pub(crate) fn absence(arg: &Expr, present: &[bool], over_time: bool) -> Vec<Series> {
    if present.iter().all(|present| *present) {
        return Vec::new();
    }
    let labels = match &arg.unwrapped().kind {
        ExprKind::Vector(selector) => absent_labels(&selector.matchers),
        ExprKind::Matrix(matrix) => absent_labels(&matrix.selector.matchers),
        _ => Labels::empty(),
    };
    debug_assert!(!over_time || arg.value_type() == ValueType::Matrix);
    let values = present.iter().map(|present| if *present { ABSENT } else { 1.0 }).collect();
    vec![Series { labels, drop_name: over_time, values, histograms: Vec::new() }]
}

/// Order of values; NaN always comes last.
fn by_value(a: f64, b: f64, descending: bool) -> Ordering {
    match (a.is_nan(), b.is_nan()) {
        (true, true) => Ordering::Equal,
        (true, false) => Ordering::Greater,
        (false, true) => Ordering::Less,
        (false, false) => {
            let order = a.partial_cmp(&b).unwrap_or(Ordering::Equal);
            if descending { order.reverse() } else { order }
        }
    }
}
