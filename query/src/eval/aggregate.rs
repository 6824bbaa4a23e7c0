//! Aggregations, as running states that can be merged.
//!
//! A shard fills an [`Aggregator`] with its series and sends the states; the coordinator merges the states of all
//! shards, in shard order, and finishes them. With one shard that is the same sequence of operations as without
//! shards. States carry what merging needs to be exact: compensated sums as (high, low), counts, the mean that an
//! average turns into when its sum overflows, mean and spread of Welford's variance, both compensated.
//!
//! Per step a state is empty, has floats, has histograms, or both (which sums and averages answer with a warning).

mod select;

use std::collections::BTreeMap;
use std::sync::Arc;

use protocol::histogram::Histogram;
use protocol::labels::{Labels, METRIC_NAME};

use crate::annotations::Annotations;
use crate::error::QueryError;
use crate::exec::{Budget, column_bytes};
use crate::histogram::HistogramExt;
use crate::kahan;
use crate::promql::ast::{Aggregate, AggregateOp};
use crate::promql::functions::over_time::{HistogramTotal, quantile_of};
use crate::promql::span::Span;
use crate::value::{ABSENT, Map, Series, is_absent};

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
    /// The metric of the newest histogram, for warnings.
    pub metric: String,
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

    /// Columns of a float per step that a group has, rounded up.
    fn columns(&self) -> u64 {
        use AggregateOp::{Avg, Quantile, Stddev, Stdvar, Sum};
        match self.op {
            Quantile => 0,
            Sum => 2,
            // One for the flags, which are bytes.
            Avg => 4,
            Stddev | Stdvar => 5,
            _ => 1,
        }
    }

    /// Bytes that a new group of these labels holds.
    fn group_bytes(&self, labels: &Labels) -> u64 {
        // The labels stand in the index too.
        column_bytes(self.steps) * self.columns() + 2 * labels.as_bytes().len() as u64 + 256
    }

    /// The group of these labels, made when it is new, which the budget has to allow.
    pub fn group(&mut self, labels: Labels, budget: &Budget) -> Result<&mut Group, QueryError> {
        let at = match self.index.get(&labels) {
            Some(at) => *at,
            None => {
                budget.hold(self.group_bytes(&labels))?;
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
                    metric: String::new(),
                });
                self.index.insert(labels, self.groups.len() - 1);
                self.groups.len() - 1
            }
        };
        Ok(&mut self.groups[at])
    }

    /// Takes in a series.
    pub fn add(
        &mut self,
        series: Series,
        notes: &mut Annotations,
        budget: &Budget,
    ) -> Result<(), QueryError> {
        let labels = self.group_labels(&series.labels);
        let (op, span) = (self.op, self.span);
        if op == AggregateOp::Quantile {
            note_ignored(op, &series, span, notes);
            if series.values.iter().any(|v| !is_absent(*v)) {
                let group = self.group(labels, budget)?;
                group.drop_name |= series.drop_name;
                budget.hold(column_bytes(series.values.len()))?;
                group.rows.push(series.values);
            }
            return Ok(());
        }
        let group = self.group(labels, budget)?;
        group.drop_name |= series.drop_name;
        for (step, value) in series.values.iter().enumerate().filter(|(_, v)| !is_absent(**v)) {
            group.add_float(op, step, *value);
        }
        let metric = series.labels.metric_name();
        if series.histograms.iter().any(Option::is_some) && group.metric != metric {
            metric.clone_into(&mut group.metric);
        }
        for (step, h) in series.histograms.iter().enumerate() {
            if let Some(h) = h {
                group.add_histogram(op, step, h, metric, span, notes);
            }
        }
        Ok(())
    }

    /// Takes in the states of another part of the input.
    pub fn merge(
        &mut self,
        mut other: Group,
        notes: &mut Annotations,
        budget: &Budget,
    ) -> Result<(), QueryError> {
        let (op, span) = (self.op, self.span);
        let mine = self.group(other.labels.clone(), budget)?;
        mine.drop_name |= other.drop_name;
        mine.rows.append(&mut other.rows);
        if op == AggregateOp::Quantile {
            return Ok(());
        }
        for step in 0..other.high.len() {
            if !is_absent(other.high[step]) {
                mine.merge_floats(op, step, &other);
            }
        }
        for (step, state) in std::mem::take(&mut other.histograms) {
            mine.merge_histograms(op, step, state, &other.metric, span, notes);
        }
        if !other.metric.is_empty() {
            mine.metric = other.metric;
        }
        Ok(())
    }

    /// The output. `params` has the parameter at each step.
    pub fn finish(
        mut self,
        params: &[f64],
        notes: &mut Annotations,
        budget: &Budget,
    ) -> Result<Vec<Series>, QueryError> {
        let (op, span, steps) = (self.op, self.span, self.steps);
        let mut finished = Vec::new();
        for group in std::mem::take(&mut self.groups) {
            let bytes = self.group_bytes(&group.labels);
            budget.hold(column_bytes(steps))?;
            let series = group.finish(op, steps, params, span, notes);
            budget.release(bytes);
            if series.has_any() {
                finished.push(series);
            } else {
                budget.release(column_bytes(steps));
            }
        }
        Ok(finished)
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
        metric: &str,
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
                        notes.mixed_exponential_custom(metric, span);
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

#[cfg(test)]
mod tests;
