//! Aggregations, as running states that can be merged.
//!
//! A shard fills an [`Aggregator`] with its series and sends the states; the coordinator merges the states of all
//! shards, in shard order, and finishes them. With one shard that is the same sequence of operations as without
//! shards. States carry what merging needs to be exact: compensated sums as (high, low), counts, the mean that an
//! average turns into when its sum overflows, mean and spread of Welford's variance, both compensated.
//!
//! Per step a state is empty, has floats, has histograms, or both (which sums and averages answer with a warning).

use std::collections::BTreeMap;
use std::sync::Arc;

use protocol::histogram::Histogram;
use protocol::labels::{Labels, METRIC_NAME};

use super::{Evaluator, Result};
use crate::annotations::Annotations;
use crate::error::QueryError;
use crate::format::format_f64;
use crate::histogram::HistogramExt;
use crate::kahan;
use crate::plan::{go_max, go_min};
use crate::promql::ast::{Aggregate, AggregateOp};
use crate::promql::functions::labels::value_label;
use crate::promql::functions::over_time::{HistogramTotal, quantile_of};
use crate::promql::span::Span;
use crate::value::{ABSENT, Grid, Map, Sample, Series, is_absent};
use crate::xxh64;

/// The state is a mean instead of a sum: the sum overflowed.
pub const FLAG_MEAN: u8 = 1;

/// Histograms met that can not be added.
pub const FLAG_INCOMPATIBLE: u32 = 1;
/// The histogram state is a mean.
pub const FLAG_HISTOGRAM_MEAN: u32 = 2;
/// A histogram said that a reset came before it.
pub const FLAG_RESET: u32 = 4;
/// A histogram said that no reset came before it.
pub const FLAG_NOT_RESET: u32 = 8;
/// Custom bounds differed.
pub const FLAG_RECONCILED: u32 = 16;

/// State of histograms at a step.
#[derive(Clone, Debug)]
pub enum HistogramState {
    /// Their running total.
    Total(Box<HistogramTotal>),
    /// They do not go together.
    Incompatible,
}

/// States of one group, a column each. Columns that an operator does not need stay empty.
#[derive(Clone, Debug)]
pub struct Group {
    /// Labels of the output.
    pub labels: Labels,
    /// Some input drops its name when the query ends.
    pub drop_name: bool,
    /// Sum, mean, extreme or count; absent where there was no float.
    pub high: Vec<f64>,
    /// What the additions to `high` lost.
    pub low: Vec<f64>,
    /// Number of floats.
    pub count: Vec<f64>,
    /// Sum of squared distances from the mean.
    pub spread: Vec<f64>,
    /// What the additions to `spread` lost.
    pub spread_low: Vec<f64>,
    /// [`FLAG_MEAN`]
    pub flags: Vec<u8>,
    /// Histogram states.
    pub histograms: BTreeMap<usize, HistogramState>,
    /// Columns of a quantile's input.
    pub rows: Vec<Vec<f64>>,
}

/// An aggregation under way.
pub struct Aggregator {
    op: AggregateOp,
    grouping: Vec<String>,
    without: bool,
    steps: usize,
    /// Where the aggregated expression stands, for warnings.
    span: Span,
    index: Map<Labels, usize>,
    /// The groups, in order of appearance.
    pub groups: Vec<Group>,
}

impl Aggregator {
    /// Starts empty.
    pub fn new(aggregate: &Aggregate, steps: usize) -> Self {
        Self {
            op: aggregate.op,
            grouping: aggregate.grouping.clone(),
            without: aggregate.without,
            steps,
            span: aggregate.expr.span,
            index: Map::default(),
            groups: Vec::new(),
        }
    }

    /// The labels of a series' group.
    fn group_labels(&self, labels: &Labels) -> Labels {
        let listed = |name: &str| self.grouping.iter().any(|label| label == name);
        if self.without {
            labels.filtered(|name| name != METRIC_NAME && !listed(name))
        } else if self.grouping.is_empty() {
            Labels::empty()
        } else {
            labels.filtered(listed)
        }
    }

    /// The group of these labels, made when it is new.
    pub fn group(&mut self, labels: Labels) -> &mut Group {
        let at = match self.index.get(&labels) {
            Some(at) => *at,
            None => {
                let steps = self.steps;
                let column = |wanted: bool, with: f64| if wanted { vec![with; steps] } else { Vec::new() };
                use AggregateOp::{Avg, Quantile, Stddev, Stdvar, Sum};
                let spread = matches!(self.op, Stddev | Stdvar);
                self.groups.push(Group {
                    labels: labels.clone(),
                    drop_name: false,
                    high: column(self.op != Quantile, ABSENT),
                    low: column(matches!(self.op, Sum | Avg) || spread, 0.0),
                    count: column(self.op == Avg || spread, 0.0),
                    spread: column(spread, 0.0),
                    spread_low: column(spread, 0.0),
                    flags: if self.op == Avg { vec![0; steps] } else { Vec::new() },
                    histograms: BTreeMap::new(),
                    rows: Vec::new(),
                });
                self.index.insert(labels, self.groups.len() - 1);
                self.groups.len() - 1
            }
        };
        &mut self.groups[at]
    }

    /// Takes in a series.
    pub fn add(&mut self, series: Series, notes: &mut Annotations) {
        let labels = self.group_labels(&series.labels);
        let (op, span) = (self.op, self.span);
        if op == AggregateOp::Quantile {
            note_ignored(op, &series, span, notes);
            if series.values.iter().any(|v| !is_absent(*v)) {
                let group = self.group(labels);
                group.drop_name |= series.drop_name;
                group.rows.push(series.values);
            }
            return;
        }
        let group = self.group(labels);
        group.drop_name |= series.drop_name;
        for (step, value) in series.values.iter().enumerate().filter(|(_, v)| !is_absent(**v)) {
            group.add_float(op, step, *value);
        }
        for (step, h) in series.histograms.iter().enumerate() {
            if let Some(h) = h {
                group.add_histogram(op, step, h, series.labels.metric_name(), span, notes);
            }
        }
    }

    /// Takes in the states of another part of the input.
    pub fn merge(&mut self, mut other: Group, notes: &mut Annotations) {
        let (op, span) = (self.op, self.span);
        let mine = self.group(other.labels.clone());
        mine.drop_name |= other.drop_name;
        mine.rows.append(&mut other.rows);
        for step in 0..other.high.len() {
            if !is_absent(other.high[step]) {
                mine.merge_floats(op, step, &other);
            }
        }
        for (step, state) in std::mem::take(&mut other.histograms) {
            mine.merge_histograms(op, step, state, span, notes);
        }
    }

    /// The output. `params` has the parameter at each step.
    pub fn finish(self, params: &[f64], notes: &mut Annotations) -> Vec<Series> {
        let (op, span, steps) = (self.op, self.span, self.steps);
        let finished = self.groups.into_iter().map(|group| group.finish(op, steps, params, span, notes));
        finished.filter(Series::has_any).collect()
    }
}

fn note_ignored(op: AggregateOp, series: &Series, span: Span, notes: &mut Annotations) {
    if series.histograms.iter().any(Option::is_some) {
        notes.histogram_ignored_in_aggregation(op.as_str(), span);
    }
}

impl Group {
    #[inline]
    fn add_float(&mut self, op: AggregateOp, step: usize, value: f64) {
        use AggregateOp::{Avg, Count, Group as GroupOp, Max, Min, Stddev, Stdvar, Sum};
        let first = is_absent(self.high[step]);
        match op {
            Sum if first => self.high[step] = value,
            Sum => (self.high[step], self.low[step]) = kahan::add(value, self.high[step], self.low[step]),
            Avg if first => (self.high[step], self.count[step]) = (value, 1.0),
            Avg => self.average(step, value, 0.0, 1.0, false),
            Min if first || self.high[step] > value || self.high[step].is_nan() => self.high[step] = value,
            Max if first || self.high[step] < value || self.high[step].is_nan() => self.high[step] = value,
            Count => self.high[step] = if first { 1.0 } else { self.high[step] + 1.0 },
            GroupOp => self.high[step] = 1.0,
            Stddev | Stdvar => {
                if first {
                    (self.high[step], self.low[step], self.count[step]) = (0.0, 0.0, 0.0);
                }
                self.count[step] += 1.0;
                let (high, low) = (self.high[step], self.low[step]);
                let delta = value - (high + low);
                let (high, low) = kahan::add(delta / self.count[step], high, low);
                (self.high[step], self.low[step]) = (high, low);
                // A value that is not finite spoils the spread, also as the only one.
                let gain = if value.is_finite() { delta * (value - (high + low)) } else { f64::NAN };
                let (spread, spread_low) = kahan::add(gain, self.spread[step], self.spread_low[step]);
                (self.spread[step], self.spread_low[step]) = (spread, spread_low);
            }
            _ => {}
        }
    }

    /// Adds a sum (or mean) of `count` floats to an average.
    fn average(&mut self, step: usize, high: f64, low: f64, count: f64, is_mean: bool) {
        let before = self.count[step];
        let total = before + count;
        self.count[step] = total;
        if self.flags[step] & FLAG_MEAN == 0 && !is_mean {
            let (sum, lost) = kahan::add(high, self.high[step], self.low[step]);
            if !sum.is_infinite() {
                (self.high[step], self.low[step]) = (sum, lost + low);
                return;
            }
        }
        if self.flags[step] & FLAG_MEAN == 0 {
            self.flags[step] |= FLAG_MEAN;
            self.high[step] /= before;
            self.low[step] /= before;
        }
        let share = before / total;
        let (part, part_low) = match is_mean {
            true => (high * (count / total), low * (count / total)),
            false => (high / total, low / total),
        };
        let (mean, lost) = kahan::add(part, share * self.high[step], share * self.low[step]);
        (self.high[step], self.low[step]) = (mean, lost + part_low);
    }

    fn merge_floats(&mut self, op: AggregateOp, step: usize, other: &Self) {
        use AggregateOp::{Avg, Count, Stddev, Stdvar, Sum};
        let at = |column: &[f64]| column.get(step).copied().unwrap_or(0.0);
        if is_absent(self.high[step]) {
            self.high[step] = other.high[step];
            for (mine, theirs) in [
                (&mut self.low, &other.low),
                (&mut self.count, &other.count),
                (&mut self.spread, &other.spread),
                (&mut self.spread_low, &other.spread_low),
            ] {
                if let Some(slot) = mine.get_mut(step) {
                    *slot = at(theirs);
                }
            }
            if let Some(flags) = self.flags.get_mut(step) {
                *flags = other.flags.get(step).copied().unwrap_or(0);
            }
            return;
        }
        match op {
            Sum => {
                let (sum, lost) = kahan::add(other.high[step], self.high[step], self.low[step]);
                (self.high[step], self.low[step]) = (sum, lost + at(&other.low));
            }
            Avg => {
                let is_mean = other.flags.get(step).copied().unwrap_or(0) & FLAG_MEAN != 0;
                self.average(step, other.high[step], at(&other.low), at(&other.count), is_mean);
            }
            Count => self.high[step] += other.high[step],
            Stddev | Stdvar => {
                let (before, count) = (self.count[step], at(&other.count));
                let total = before + count;
                let delta = (other.high[step] - self.high[step]) + (at(&other.low) - self.low[step]);
                let shift = delta * (count / total);
                (self.high[step], self.low[step]) = kahan::add(shift, self.high[step], self.low[step]);
                let (mut spread, mut low) =
                    kahan::add(other.spread[step], self.spread[step], self.spread_low[step]);
                (spread, low) = kahan::add(delta * delta * (before * count / total), spread, low);
                (self.spread[step], self.spread_low[step]) = (spread, low + at(&other.spread_low));
                self.count[step] = total;
            }
            // min, max, group: a state is a value like any other.
            _ => self.add_float(op, step, other.high[step]),
        }
    }

    fn add_histogram(
        &mut self,
        op: AggregateOp,
        step: usize,
        h: &Arc<Histogram>,
        metric: &str,
        span: Span,
        notes: &mut Annotations,
    ) {
        match op {
            AggregateOp::Count | AggregateOp::Group => self.add_float(op, step, 0.0),
            AggregateOp::Sum | AggregateOp::Avg => {
                use std::collections::btree_map::Entry;
                match self.histograms.entry(step) {
                    Entry::Vacant(slot) => {
                        slot.insert(HistogramState::Total(Box::new(HistogramTotal::new(h))));
                    }
                    Entry::Occupied(mut slot) => {
                        let HistogramState::Total(total) = slot.get_mut() else { return };
                        if total.add(h, op == AggregateOp::Avg).is_err() {
                            notes.mixed_exponential_custom(metric, span);
                            slot.insert(HistogramState::Incompatible);
                        }
                    }
                }
            }
            _ => notes.histogram_ignored_in_aggregation(op.as_str(), span),
        }
    }

    fn merge_histograms(
        &mut self,
        op: AggregateOp,
        step: usize,
        state: HistogramState,
        span: Span,
        notes: &mut Annotations,
    ) {
        use std::collections::btree_map::Entry;
        match self.histograms.entry(step) {
            Entry::Vacant(slot) => {
                slot.insert(state);
            }
            Entry::Occupied(mut slot) => match (slot.get_mut(), state) {
                (HistogramState::Incompatible, _) => {}
                (_, HistogramState::Incompatible) => {
                    slot.insert(HistogramState::Incompatible);
                }
                (HistogramState::Total(mine), HistogramState::Total(theirs)) => {
                    if mine.merge(&theirs, op == AggregateOp::Avg).is_err() {
                        notes.mixed_exponential_custom("", span);
                        slot.insert(HistogramState::Incompatible);
                    }
                }
            },
        }
    }

    fn finish(
        self,
        op: AggregateOp,
        steps: usize,
        params: &[f64],
        span: Span,
        notes: &mut Annotations,
    ) -> Series {
        use AggregateOp::{Avg, Quantile, Stddev, Stdvar, Sum};
        let mut out = Series::empty(self.labels, steps);
        out.drop_name = self.drop_name;
        if op == Quantile {
            let mut values = Vec::with_capacity(self.rows.len());
            for (step, slot) in out.values.iter_mut().enumerate() {
                values.clear();
                values.extend(self.rows.iter().map(|row| row[step]).filter(|v| !is_absent(*v)));
                if !values.is_empty() {
                    *slot = quantile_of(params.get(step).copied().unwrap_or(f64::NAN), &mut values);
                }
            }
            return out;
        }
        for (step, slot) in out.values.iter_mut().enumerate() {
            let high = self.high[step];
            if is_absent(high) || self.histograms.contains_key(&step) {
                continue;
            }
            let value = match op {
                Sum => high + self.low[step],
                Avg if self.flags[step] & FLAG_MEAN != 0 => high + self.low[step],
                Avg => high / self.count[step] + self.low[step] / self.count[step],
                Stdvar => (self.spread[step] + self.spread_low[step]) / self.count[step],
                Stddev => ((self.spread[step] + self.spread_low[step]) / self.count[step]).sqrt(),
                _ => high,
            };
            *slot = if is_absent(value) { f64::NAN } else { value };
        }
        for (step, state) in self.histograms {
            if !is_absent(self.high[step]) {
                notes.mixed_floats_histograms_aggregation(span);
                continue;
            }
            let HistogramState::Total(total) = state else { continue };
            total.annotate(notes, span);
            let HistogramTotal { mut sum, low, count, is_mean, .. } = *total;
            let divisor = if op == Avg && !is_mean { count } else { 1.0 };
            if divisor != 1.0 {
                sum.divide(divisor);
            }
            if let Some(mut low) = low {
                if divisor != 1.0 {
                    low.divide(divisor);
                }
                if sum.add(&low).is_err() {
                    continue;
                }
            }
            sum.compact();
            out.set_histogram(step, Arc::new(sum));
        }
        out
    }
}

impl Evaluator<'_> {
    /// An aggregation over whatever its expression gives here.
    pub(super) fn aggregate(&self, aggregate: &Aggregate, span: Span, grid: Grid) -> Result<Vec<Series>> {
        if aggregate.op == AggregateOp::CountValues {
            return self.count_values(aggregate, grid);
        }
        let params = self.aggregate_params(aggregate, grid)?;
        if aggregate.op.selects() {
            let Some(params) = params else { return Ok(Vec::new()) };
            let series = self.vector(&aggregate.expr, grid)?;
            return self.select_series(aggregate, span, series, &params, grid);
        }
        let aggregator = self.running(aggregate, grid)?;
        Ok(aggregator.finish(&params.unwrap_or_default(), &mut self.notes.borrow_mut()))
    }

    /// The running states of an aggregation.
    pub(crate) fn running(&self, aggregate: &Aggregate, grid: Grid) -> Result<Aggregator> {
        let mut aggregator = Aggregator::new(aggregate, grid.count);
        let mut groups = 0;
        self.stream(&aggregate.expr, grid, &mut |series| {
            aggregator.add(series, &mut self.notes.borrow_mut());
            if aggregator.groups.len() > groups || aggregate.op == AggregateOp::Quantile {
                groups = aggregator.groups.len();
                self.budget.hold(grid.count as u64 * 8 + 256)?;
            }
            Ok(())
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
                        *by_labels.entry(labels.clone()).or_insert_with(|| {
                            out.push(Series::empty(labels, grid.count));
                            out.len() - 1
                        })
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

#[cfg(test)]
mod tests;
