//! What the shards have answered, for the evaluator to find.

use std::ops::ControlFlow;

use protocol::ids::ShardId;
use protocol::matcher::Matcher;
use protocol::scan::FragmentAnswer;

use super::cache::Positions;
use super::collect::{Job, Kind};
use super::explain::FragmentTrace;
use super::{Result, Running, shifted};
use crate::annotations::Annotations;
use crate::error::QueryError;
use crate::eval::aggregate::Aggregator;
use crate::eval::{Data, absence};
use crate::exec::{Budget, column_bytes};
use crate::fragment::wire;
use crate::promql::ast::AggregateOp;
use crate::promql::ast::Expr;
use crate::promql::span::Span;
use crate::result::QueryStats;
use crate::source::{SeriesColumns, TimeRange};
use crate::value::{Grid, Map, Series, merge_same_labels};

/// Answers, by place and grid.
pub(super) struct Store {
    series: Map<(Span, Grid), Vec<Series>>,
    pub budget: Budget,
    pub notes: Annotations,
    pub stats: QueryStats,
    /// What was asked of the shards, where that is to be explained.
    pub traces: Vec<FragmentTrace>,
    /// The earliest positions of the shards that answers reflect; `None` where one told none.
    pub positions: Option<Positions>,
}

impl Store {
    pub fn new(budget: Budget) -> Self {
        Self {
            series: Map::default(),
            budget,
            notes: Annotations::default(),
            stats: QueryStats::default(),
            traces: Vec::new(),
            positions: Some(Positions::new()),
        }
    }

    /// Notes which position in its log a shard's answer reflects.
    pub fn note_position(&mut self, shard: ShardId, applied: u64) {
        match &mut self.positions {
            Some(positions) if applied > 0 => {
                let known = positions.entry(shard).or_insert(applied);
                *known = applied.min(*known);
            }
            positions => *positions = None,
        }
    }

    /// Counts what a shard's work cost.
    pub fn count(&mut self, answer: &FragmentAnswer, first: bool) -> Result<()> {
        let Some(stats) = answer.stats.as_ref().filter(|_| first) else { return Ok(()) };
        self.stats.total_queryable_samples += stats.samples;
        self.stats.series += stats.series;
        self.stats.peak_samples += stats.peak_samples;
        self.stats.shard_micros += stats.micros;
        self.budget.charge_samples(stats.samples)
    }

    /// Takes in the answers of all shards to a job. `shift` moves annotations from the twin that was asked.
    pub fn take_in(
        &mut self,
        running: &Running<'_>,
        job: &Job<'_>,
        answers: Vec<FragmentAnswer>,
        shift: i64,
        first: bool,
    ) -> Result<()> {
        let steps = job.grid.count;
        self.stats.fragments += u64::from(first);
        let mut rows: Vec<Vec<Series>> = Vec::with_capacity(answers.len());
        let mut partials = Vec::with_capacity(answers.len());
        for mut answer in answers {
            self.count(&answer, first)?;
            if job.text.is_none() {
                self.notes.merge(shifted(std::mem::take(&mut answer.annotations), shift));
            }
            let mut decoded = Vec::with_capacity(answer.series.len());
            for series in answer.series {
                let columns = 1 + u64::from(!series.histograms.is_empty());
                self.budget.hold(column_bytes(steps) * columns + series.labels.len() as u64 + 96)?;
                decoded.push(wire::series_from_wire(series, steps)?);
            }
            rows.push(decoded);
            partials.push(answer.partials);
        }
        let series = match job.kind {
            Kind::Rows => in_label_order(rows),
            Kind::Merge(aggregate) => {
                let mut whole = Aggregator::new(aggregate, steps);
                let mut notes = Annotations::default();
                for (rows, partials) in rows.into_iter().zip(partials) {
                    for row in rows {
                        let group = whole.group(row.labels, &self.budget)?;
                        group.drop_name |= row.drop_name;
                        group.rows.push(row.values);
                    }
                    for partial in partials {
                        let _decoded = self.budget.columns(wire::GROUP_COLUMNS, steps)?;
                        whole.merge(wire::group_from_wire(partial, steps)?, &mut notes, &self.budget)?;
                    }
                }
                let params = match aggregate.op {
                    AggregateOp::Quantile => {
                        running.with_evaluator(self, |e| e.aggregate_params(aggregate, job.grid))?
                    }
                    _ => None,
                };
                let mut series = whole.finish(&params.unwrap_or_default(), &mut notes, &self.budget)?;
                self.notes.merge(notes);
                // One shard meets groups in label order of its series, several one after the other; the order of
                // the groups' labels is the same for any number.
                series.sort_by(|a, b| a.labels.cmp(&b.labels));
                series
            }
            Kind::Select(aggregate, span) => {
                let rows = in_label_order(rows);
                running.with_evaluator(self, |e| match e.aggregate_params(aggregate, job.grid)? {
                    Some(params) => e.select_series(aggregate, span, rows, &params, job.grid),
                    None => Ok(Vec::new()),
                })?
            }
            Kind::Absence(arg, over_time) => {
                // A flag per step, and the series that stands for absence.
                self.budget.hold(column_bytes(steps) + steps as u64)?;
                let mut present = vec![false; steps];
                for partial in partials.iter().flatten() {
                    for step in wire::presence_from_wire(partial, steps)? {
                        present[step] = true;
                    }
                }
                absence(arg, &present, over_time)
            }
        };
        // Names that the last part dropped may have made labels of different shards equal.
        let series = match job.kind {
            Kind::Rows if !running.features.delayed_name_removal && !job.keep_names => {
                merge_same_labels(series)?
            }
            _ => series,
        };
        self.series.insert((job.span, job.grid), series);
        Ok(())
    }
}

/// The series of all shards in label order. Each shard's are in that order already, unless names were dropped.
fn in_label_order(rows: Vec<Vec<Series>>) -> Vec<Series> {
    let mut all: Vec<Series> = rows.into_iter().flatten().collect();
    all.sort_by(|a, b| a.labels.cmp(&b.labels));
    all
}

impl Data for Store {
    fn fetched(&self, expr: &Expr, grid: &Grid) -> Option<&[Series]> {
        self.series.get(&(expr.span, *grid)).map(Vec::as_slice)
    }

    fn bound_scalar(&self, _: &Expr) -> Option<&[f64]> {
        None
    }

    fn select(
        &self,
        matchers: &[Matcher],
        _: TimeRange,
        _: &mut dyn FnMut(SeriesColumns<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        Err(QueryError::Execution(format!("series {matchers:?} were not asked of the shards")))
    }
}
