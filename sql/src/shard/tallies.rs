//! Aggregates that need no sample to be read: how many there are, and the first and last moment.
//!
//! ```text
//! ShardSource::tally ─► Tallies (a row per part of the samples) ─► filters of series ─► states of aggregates, merged
//! ```
//!
//! A fragment is answered this way where its filters and groups are over series alone and its aggregates are `count` and
//! `min` or `max` of the time. A part of the samples is then one row, of which `count` counts as many as the part has.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Int64Array, TimestampMillisecondArray};
use datafusion::arrow::compute::take;
use datafusion::physical_expr::expressions::Column;
use protocol::labels::Labels;
use protocol::sql::{SqlColumnKind, SqlTable};
use query::source::Tally;

use super::rows::{Batch, Rows};
use super::{Part, Plan, Result};
use crate::columns::UTC;

/// What an aggregate takes from a tally.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// The number of samples, where the argument is not null.
    Samples,
    First,
    Last,
}

/// How all aggregates of a fragment are answered from tallies; `None` where some can not be.
pub(super) fn taken(plan: &Plan<'_>, filters: &[Part]) -> Result<Option<Vec<Taken>>> {
    let request = plan.request;
    let is_of_series = |parts: &[Part]| parts.iter().all(|part| part.of_series);
    if request.table != SqlTable::Samples as i32
        || !request.aggregate
        || !is_of_series(filters)
        || !is_of_series(&plan.parts(&request.groups)?)
    {
        return Ok(None);
    }
    let mut taken = Vec::new();
    for aggregate in &request.aggregates {
        let args = plan.parts(&aggregate.args)?;
        let filter = aggregate.filter.as_ref().map(|filter| plan.part(filter)).transpose()?;
        let [arg] = args.as_slice() else { return Ok(None) };
        let column = arg.expr.downcast_ref::<Column>().and_then(|column| plan.columns.get(column.index()));
        let kind = column.map(|column| column.kind);
        // A sample has a time and a value.
        let is_present = matches!(kind, Some(SqlColumnKind::Time | SqlColumnKind::Value));
        taken.push(match aggregate.function.as_str() {
            _ if aggregate.distinct || filter.as_ref().is_some_and(|filter| !filter.of_series) => {
                return Ok(None);
            }
            "count" if is_present || arg.of_series => Taken::Samples,
            "min" if kind == Some(SqlColumnKind::Time) => Taken::First,
            "max" if kind == Some(SqlColumnKind::Time) => Taken::Last,
            _ => return Ok(None),
        });
    }
    Ok(Some(taken))
}

/// Parts of the samples being gathered.
#[derive(Default)]
pub(super) struct Tallies {
    samples: Vec<i64>,
    first: Vec<i64>,
    last: Vec<i64>,
}

impl Tallies {
    /// Adds a part that has samples, as one row.
    pub fn push(&mut self, labels: &Labels, tally: &Tally, rows: &mut Rows) {
        rows.begin(labels);
        rows.samples(&[tally.first], &[0.0]);
        self.samples.push(tally.samples as i64);
        self.first.push(tally.first);
        self.last.push(tally.last);
    }

    /// What aggregates take of the rows that are left of a batch.
    pub fn columns(&self, batch: &Batch) -> Result<TallyColumns> {
        let times = |times: &[i64]| -> ArrayRef {
            Arc::new(TimestampMillisecondArray::from(times.to_vec()).with_timezone(UTC))
        };
        let left = |column: ArrayRef| Ok::<_, super::ShardError>(take(&column, batch.series_of(), None)?);
        Ok(TallyColumns {
            samples: left(Arc::new(Int64Array::from(self.samples.clone())))?,
            first: left(times(&self.first))?,
            last: left(times(&self.last))?,
        })
    }
}

/// Tallies in columns.
pub(super) struct TallyColumns {
    samples: ArrayRef,
    first: ArrayRef,
    last: ArrayRef,
}

impl TallyColumns {
    pub fn of(&self, taken: Taken) -> &ArrayRef {
        match taken {
            Taken::Samples => &self.samples,
            Taken::First => &self.first,
            Taken::Last => &self.last,
        }
    }
}
