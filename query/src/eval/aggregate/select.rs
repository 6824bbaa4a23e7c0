//! Aggregations in an evaluator: parameters, and those that choose or count series instead of summing up.

use std::collections::BTreeMap;

use protocol::labels::Labels;

use super::{Aggregator, note_ignored};
use crate::error::QueryError;
use crate::eval::{Evaluator, Result};
use crate::exec::column_bytes;
use crate::format::format_f64;
use crate::histogram::HistogramExt;
use crate::plan::{go_max, go_min};
use crate::promql::ast::{Aggregate, AggregateOp};
use crate::promql::functions::labels::value_label;
use crate::promql::span::Span;
use crate::value::{Grid, Map, Sample, Series, is_absent};
use crate::xxh64;

impl Evaluator<'_> {
    /// An aggregation over whatever its expression gives here.
    pub(in crate::eval) fn aggregate(
        &self,
        aggregate: &Aggregate,
        span: Span,
        grid: Grid,
    ) -> Result<Vec<Series>> {
        if aggregate.op == AggregateOp::CountValues {
            return self.count_values(aggregate, grid);
        }
        let params = self.aggregate_params(aggregate, grid)?;
        if aggregate.op.selects() {
            let series = self.vector(&aggregate.expr, grid)?;
            let Some(params) = params else { return Ok(Vec::new()) };
            return self.select_series(aggregate, span, series, &params, grid);
        }
        let aggregator = self.running(aggregate, grid)?;
        aggregator.finish(&params.unwrap_or_default(), &mut self.notes.borrow_mut(), self.budget)
    }

    /// The running states of an aggregation.
    pub(crate) fn running(&self, aggregate: &Aggregate, grid: Grid) -> Result<Aggregator> {
        let mut aggregator = Aggregator::new(aggregate, grid.count);
        self.stream(&aggregate.expr, grid, &mut |series| {
            aggregator.add(series, &mut self.notes.borrow_mut(), self.budget)
        })?;
        Ok(aggregator)
    }

    /// The parameter at each step, checked. `None` when it selects nothing at any step.
    pub(crate) fn aggregate_params(&self, aggregate: &Aggregate, grid: Grid) -> Result<Option<Vec<f64>>> {
        let Some(param) = &aggregate.param else { return Ok(Some(Vec::new())) };
        if aggregate.op == AggregateOp::CountValues {
            return Ok(Some(Vec::new()));
        }
        let params = self.scalar(param, grid)?;
        let Some(first) = params.first() else { return Ok(None) };
        let max = params.iter().fold(*first, |a, b| go_max(a, *b));
        let min = params.iter().fold(*first, |a, b| go_min(a, *b));
        let fail = |message: String| Err(QueryError::Execution(message));
        let mut notes = self.notes.borrow_mut();
        match aggregate.op {
            AggregateOp::TopK | AggregateOp::BottomK | AggregateOp::LimitK => {
                if max < 1.0 {
                    return Ok(None);
                }
                if max.is_nan() {
                    return fail("Parameter value is NaN".to_owned());
                }
                if min <= i64::MIN as f64 {
                    return fail(format!("Scalar value {} underflows int64", crate::format::format_g(min)));
                }
                if max >= i64::MAX as f64 {
                    return fail(format!("Scalar value {} overflows int64", crate::format::format_g(max)));
                }
            }
            AggregateOp::LimitRatio => {
                if max == 0.0 && min == 0.0 {
                    return Ok(None);
                }
                if max.is_nan() {
                    return fail("Ratio value is NaN".to_owned());
                }
                if max > 1.0 {
                    notes.invalid_ratio(max, 1.0, param.span);
                }
                if min < -1.0 {
                    notes.invalid_ratio(min, -1.0, param.span);
                }
            }
            AggregateOp::Quantile => {
                if max.is_nan() {
                    notes.invalid_quantile(f64::NAN, param.span);
                }
                if max > 1.0 {
                    notes.invalid_quantile(max, param.span);
                }
                if min < 0.0 {
                    notes.invalid_quantile(min, param.span);
                }
            }
            _ => {}
        }
        Ok(Some(params))
    }

    /// topk, bottomk, limitk, limit_ratio: which series stay at which steps.
    pub(crate) fn select_series(
        &self,
        aggregate: &Aggregate,
        span: Span,
        series: Vec<Series>,
        params: &[f64],
        grid: Grid,
    ) -> Result<Vec<Series>> {
        let op = aggregate.op;
        let grouper = Aggregator::new(aggregate, 0);
        // In the order of their labels: that of appearance would depend on what the shards left out.
        let mut by_labels: BTreeMap<Labels, Vec<usize>> = BTreeMap::new();
        let by_value = matches!(op, AggregateOp::TopK | AggregateOp::BottomK);
        for (i, s) in series.iter().enumerate() {
            if by_value {
                note_ignored(op, s, span, &mut self.notes.borrow_mut());
            }
            by_labels.entry(grouper.group_labels(&s.labels)).or_default().push(i);
        }
        self.budget.hold(series.iter().map(Series::bytes).sum())?;
        let mut out: Vec<Series> = series
            .iter()
            .map(|s| Series { drop_name: s.drop_name, ..Series::empty(s.labels.clone(), grid.count) })
            .collect();
        let mut order: Vec<usize> = Vec::new();
        let ratios: Vec<f64> = match op {
            AggregateOp::LimitRatio => {
                series.iter().map(|s| xxh64::labels(&s.labels) as f64 / u64::MAX as f64).collect()
            }
            _ => Vec::new(),
        };
        let mut chosen: Vec<(f64, usize)> = Vec::new();
        for step in 0..grid.count {
            self.budget.check()?;
            let param = params[step];
            let k = (param as i64).min(series.len() as i64).max(0) as usize;
            for group in by_labels.values() {
                chosen.clear();
                match op {
                    AggregateOp::TopK | AggregateOp::BottomK => {
                        chosen.extend(
                            group
                                .iter()
                                .map(|i| (series[*i].values[step], *i))
                                .filter(|(v, _)| !is_absent(*v)),
                        );
                        let best_first = |a: &(f64, usize), b: &(f64, usize)| {
                            let by_value = match (a.0.is_nan(), b.0.is_nan()) {
                                (false, false) if op == AggregateOp::TopK => b.0.total_cmp(&a.0),
                                (false, false) => a.0.total_cmp(&b.0),
                                (a, b) => a.cmp(&b),
                            };
                            // Equal values: the first in label order stays. Zeros are equal whatever their sign.
                            let equal = a.0 == b.0;
                            if equal { a.1.cmp(&b.1) } else { by_value.then(a.1.cmp(&b.1)) }
                        };
                        if chosen.len() > k && k > 0 {
                            chosen.select_nth_unstable_by(k - 1, best_first);
                        }
                        chosen.truncate(k);
                        chosen.sort_unstable_by(best_first);
                    }
                    AggregateOp::LimitK => {
                        let there = group.iter().filter(|i| series[**i].has(step)).take(k);
                        chosen.extend(there.map(|i| (0.0, *i)));
                    }
                    _ => {
                        let ratio = param.clamp(-1.0, 1.0);
                        let inside = |offset: f64| {
                            (ratio >= 0.0 && offset < ratio) || (ratio < 0.0 && offset >= 1.0 + ratio)
                        };
                        let there = group.iter().filter(|i| inside(ratios[**i]) && series[**i].has(step));
                        chosen.extend(there.map(|i| (0.0, *i)));
                    }
                }
                for (_, i) in &chosen {
                    if let Some(sample) = series[*i].get(step) {
                        out[*i].set(step, sample);
                    }
                }
                if grid.count == 1 {
                    order.extend(chosen.iter().map(|(_, i)| *i));
                }
            }
        }
        if grid.count == 1 {
            // An instant query shows them best first.
            let mut slots: Vec<Option<Series>> = out.into_iter().map(Some).collect();
            return Ok(order.into_iter().filter_map(|i| slots[i].take()).collect());
        }
        out.retain(Series::has_any);
        Ok(out)
    }

    fn count_values(&self, aggregate: &Aggregate, grid: Grid) -> Result<Vec<Series>> {
        let label =
            aggregate.param.as_ref().and_then(|param| param.string_literal()).cloned().unwrap_or_default();
        let label = value_label(&label)?;
        let mut keyed = aggregate.clone();
        if !keyed.without && !keyed.grouping.contains(&label) {
            keyed.grouping.push(label.clone());
        }
        let grouper = Aggregator::new(&keyed, 0);
        let mut by_labels: Map<Labels, usize> = Map::default();
        let mut out: Vec<Series> = Vec::new();
        self.stream(&aggregate.expr, grid, &mut |series| {
            let mut last: Option<(u64, usize)> = None;
            for step in 0..grid.count {
                let Some(sample) = series.get(step) else { continue };
                let bits = match sample {
                    Sample::Float(value) => Some(value.to_bits()),
                    Sample::Histogram(_) => None,
                };
                let at = match last {
                    Some((same, at)) if Some(same) == bits => at,
                    _ => {
                        let text = match sample {
                            Sample::Float(value) => format_f64(value),
                            Sample::Histogram(h) => h.describe(),
                        };
                        let labels = grouper.group_labels(&series.labels.with(&label, &text));
                        match by_labels.get(&labels) {
                            Some(at) => *at,
                            None => {
                                self.budget
                                    .hold(column_bytes(grid.count) + labels.as_bytes().len() as u64)?;
                                by_labels.insert(labels.clone(), out.len());
                                out.push(Series::empty(labels, grid.count));
                                out.len() - 1
                            }
                        }
                    }
                };
                last = bits.map(|bits| (bits, at));
                let count = &mut out[at].values[step];
                *count = if is_absent(*count) { 1.0 } else { *count + 1.0 };
            }
            self.budget.hold(16)
        })?;
        Ok(out)
    }
}
