//! histogram_quantile, histogram_quantiles and histogram_fraction, over classic and native histograms alike.
//!
//! A classic histogram is found once for all steps: the series that differ in `le` only. At a step its buckets are
//! those that have a float there; a native histogram of the same labels at that step makes the step ambiguous, and
//! both are left out.

use protocol::labels::Labels;

use super::{Evaluator, Result};
use crate::exec::{Budget, column_bytes};
use crate::format::{format_open_metrics, parse_float};
use crate::histogram::{self, ClassicBucket};
use crate::promql::ast::Expr;
use crate::promql::functions::FunctionId;
use crate::promql::functions::labels::value_label;
use crate::promql::span::Span;
use crate::value::{Grid, Map, Series, is_absent, merge_same_labels};

/// The label that holds a bucket's upper bound.
const BUCKET_LABEL: &str = "le";

/// A histogram, classic or native or both in turn.
struct Group {
    labels: Labels,
    drop_name: bool,
    /// Bound and index of the series of each classic bucket.
    classic: Vec<(f64, usize)>,
    /// Index of the series that has native histograms.
    native: Option<usize>,
}

/// What is computed of each histogram.
enum Wanted {
    Quantile(Vec<f64>),
    Fraction(Vec<f64>, Vec<f64>),
}

impl Evaluator<'_> {
    /// Calls of the three functions.
    pub(super) fn over_buckets(&self, id: FunctionId, args: &[Expr], grid: Grid) -> Result<Vec<Series>> {
        let out = match id {
            FunctionId::HistogramQuantile => {
                let quantiles = self.scalar(&args[0], grid)?;
                self.doubt_quantiles(&quantiles, args[0].span);
                let groups = self.groups(&args[1], grid)?;
                self.each_group(
                    &groups,
                    &Wanted::Quantile(quantiles),
                    args[0].span,
                    args[1].span,
                    grid,
                    None,
                )?
            }
            FunctionId::HistogramFraction => {
                let (lower, upper) = (self.scalar(&args[0], grid)?, self.scalar(&args[1], grid)?);
                let groups = self.groups(&args[2], grid)?;
                self.each_group(
                    &groups,
                    &Wanted::Fraction(lower, upper),
                    args[0].span,
                    args[2].span,
                    grid,
                    None,
                )?
            }
            _ => {
                let label = value_label(args[1].string_literal().unwrap_or(&Default::default()))?;
                let groups = self.groups(&args[0], grid)?;
                let mut out = Vec::new();
                for arg in &args[2..] {
                    let quantiles = self.scalar(arg, grid)?;
                    self.doubt_quantiles(&quantiles, arg.span);
                    let named = Some((label.as_str(), quantiles.clone()));
                    let wanted = Wanted::Quantile(quantiles);
                    out.extend(self.each_group(&groups, &wanted, args[0].span, args[0].span, grid, named)?);
                }
                out
            }
        };
        if self.features.delayed_name_removal { Ok(out) } else { merge_same_labels(out) }
    }

    fn doubt_quantiles(&self, quantiles: &[f64], span: Span) {
        let mut notes = self.notes.borrow_mut();
        for q in quantiles.iter().filter(|q| !(0.0..=1.0).contains(*q)) {
            notes.invalid_quantile(*q, span);
        }
    }

    fn groups(&self, input: &Expr, grid: Grid) -> Result<(Vec<Series>, Vec<Group>)> {
        let series = self.vector(input, grid)?;
        let mut by_labels: Map<Labels, usize> = Map::default();
        let mut groups: Vec<Group> = Vec::new();
        let mut group = |labels: Labels, drop_name: bool, groups: &mut Vec<Group>| {
            *by_labels.entry(labels.clone()).or_insert_with(|| {
                groups.push(Group { labels, drop_name, classic: Vec::new(), native: None });
                groups.len() - 1
            })
        };
        for (i, s) in series.iter().enumerate() {
            if s.values.iter().any(|v| !is_absent(*v)) {
                let bound = s.labels.get(BUCKET_LABEL).unwrap_or("");
                match parse_float(bound) {
                    Some(bound) => {
                        let labels = s.labels.filtered(|name| name != BUCKET_LABEL);
                        let at = group(labels, s.drop_name, &mut groups);
                        groups[at].classic.push((bound, i));
                    }
                    None => {
                        self.notes.borrow_mut().bad_bucket_label(s.labels.metric_name(), bound, input.span);
                    }
                }
            }
            if s.histograms.iter().any(Option::is_some) {
                let at = group(s.labels.clone(), s.drop_name, &mut groups);
                groups[at].native = Some(i);
            }
        }
        Ok((series, groups))
    }

    fn each_group(
        &self,
        (series, groups): &(Vec<Series>, Vec<Group>),
        wanted: &Wanted,
        span: Span,
        input_span: Span,
        grid: Grid,
        quantile_label: Option<(&str, Vec<f64>)>,
    ) -> Result<Vec<Series>> {
        let mut out = Vec::with_capacity(groups.len());
        let mut buckets: Vec<ClassicBucket> = Vec::new();
        for group in groups {
            self.budget.check()?;
            let metric = group.labels.metric_name();
            self.budget.hold(column_bytes(grid.count) + group.labels.as_bytes().len() as u64)?;
            let mut result = Series::empty(group.labels.clone(), grid.count);
            result.drop_name = group.drop_name;
            for step in 0..grid.count {
                buckets.clear();
                for (bound, i) in &group.classic {
                    let count = series[*i].values[step];
                    if !is_absent(count) {
                        buckets.push(ClassicBucket { upper: *bound, count });
                    }
                }
                let native = group.native.and_then(|i| series[i].histogram(step));
                let mut notes = self.notes.borrow_mut();
                result.values[step] = match (native, buckets.is_empty()) {
                    (None, true) => continue,
                    (Some(_), false) => {
                        notes.mixed_classic_native(metric, input_span);
                        continue;
                    }
                    (Some(h), true) => match wanted {
                        Wanted::Quantile(q) => histogram::quantile(q[step], h, metric, span, &mut notes),
                        Wanted::Fraction(lower, upper) => {
                            histogram::fraction(lower[step], upper[step], h, metric, span, &mut notes)
                        }
                    },
                    (None, false) => match wanted {
                        Wanted::Quantile(q) => {
                            let found = histogram::classic_quantile(q[step], &mut buckets);
                            if let Some((lowest, highest, difference)) = found.forced {
                                let name = if self.features.delayed_name_removal { metric } else { "" };
                                let at = grid.at(step);
                                notes.forced_monotonicity(name, input_span, at, lowest, highest, difference);
                            }
                            found.value
                        }
                        Wanted::Fraction(lower, upper) => {
                            histogram::classic_fraction(lower[step], upper[step], &mut buckets)
                        }
                    },
                };
            }
            if !result.has_any() {
                continue;
            }
            let result = self.without_name(result);
            match &quantile_label {
                None => out.push(result),
                Some((label, quantiles)) => out.extend(by_quantile(result, label, quantiles, self.budget)?),
            }
        }
        Ok(out)
    }
}

/// Labels a series with its quantile; a series for each, where the quantile changes over time.
fn by_quantile(result: Series, label: &str, quantiles: &[f64], budget: &Budget) -> Result<Vec<Series>> {
    let mut out: Vec<(u64, Series)> = Vec::new();
    for (step, q) in quantiles.iter().enumerate() {
        if is_absent(result.values[step]) {
            continue;
        }
        let bits = q.to_bits();
        let at = match out.iter().position(|(b, _)| *b == bits) {
            Some(at) => at,
            None => {
                let labels = result.labels.with(label, &format_open_metrics(*q));
                budget.hold(column_bytes(result.values.len()) + labels.as_bytes().len() as u64)?;
                let mut series = Series::empty(labels, result.values.len());
                series.drop_name = result.drop_name;
                out.push((bits, series));
                out.len() - 1
            }
        };
        out[at].1.values[step] = result.values[step];
    }
    Ok(out.into_iter().map(|(_, series)| series).collect())
}
