//! A fragment at a shard: walk over the rows, keep what passes, answer rows or states of aggregates.
//!
//! ```text
//! ShardSource ─► Rows (several series side by side, about 8,192 rows) ─► filters ─► sink: rows | first rows | groups
//!             └► Tallies, where samples need only be counted
//! ```
//!
//! Rows of one series share its name and labels. Expressions over those alone are evaluated once per series, not per
//! row: filters on labels drop whole series, and groups by labels cost a number per row instead of text.
//!
//! All memory that grows with the data is charged to the query's budget and the node's ledger. Everything in a request
//! came from a peer: what can not be read is answered with an error, see [`Fragment::run`].

mod groups;
mod output;
mod rows;
mod sink;
mod tallies;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use datafusion::arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::ipc::reader::StreamReader;
use datafusion::error::DataFusionError;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::utils::collect_columns;
use prost::Message;
use protocol::ids::TenantId;
use protocol::matcher::Matcher;
use protocol::sample::is_stale_nan;
use protocol::scan::{FragmentAnswer, FragmentBody, FragmentError, FragmentRequest};
use protocol::sql::{SqlAnswer, SqlRequest, SqlSegment, SqlTable, VERSION, end_rows};
use query::exec::Budget;
use query::fragment::matchers;
use query::source::{ShardSource, Tally, TallyBy, TimeRange};
use query::{Control, Limits, QueryError};

use crate::columns::ScanColumn;
use crate::exprs::{ExprError, Reader};
use crate::shard::output::Output;
use crate::shard::rows::{Need, Rows};
use crate::shard::sink::Sink;
use crate::shard::tallies::{Taken, Tallies};

type Result<T> = std::result::Result<T, ShardError>;

/// Rows that are worked on at once.
const BATCH_ROWS: usize = 8192;

/// Why a fragment fails. Errors of the query travel inside the answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ShardError {
    #[error(transparent)]
    Query(#[from] QueryError),
    #[error(transparent)]
    Expr(#[from] ExprError),
    #[error(transparent)]
    Engine(#[from] DataFusionError),
    #[error(transparent)]
    Arrow(#[from] ArrowError),
}

impl From<ShardError> for QueryError {
    fn from(error: ShardError) -> Self {
        match error {
            ShardError::Query(error) => error,
            ShardError::Expr(ExprError::Types(error)) | ShardError::Engine(error) => {
                let error = crate::SqlError::from(error);
                Self::Execution(error.to_string())
            }
            ShardError::Expr(error) => Self::Protocol(error.to_string()),
            ShardError::Arrow(error) => Self::Execution(error.to_string()),
        }
    }
}

/// A fragment of SQL.
#[derive(Clone, Debug)]
pub struct Fragment {
    version: u32,
    tenant: String,
    query: u64,
    round: u32,
    request: SqlRequest,
}

impl Fragment {
    /// The fragment that bytes hold; `None` where they hold another kind, or nothing that can be read.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let FragmentRequest { version, tenant, body, query, round } = FragmentRequest::decode(bytes).ok()?;
        match body {
            Some(FragmentBody::Sql(request)) => Some(Self { version, tenant, query, round, request }),
            _ => None,
        }
    }

    /// Whose data.
    pub fn tenant(&self) -> &str {
        &self.tenant
    }

    /// Number of the statement that it is part of; 0 for none.
    pub fn query(&self) -> u64 {
        self.query
    }

    /// The statement that it is part of.
    pub fn statement(&self) -> &str {
        &self.request.statement
    }

    /// Runs it on a shard and gives the bytes of the answer. Blocks on disk and CPU.
    pub fn run(self, source: &dyn ShardSource, limits: Limits, control: impl Into<Control>) -> Vec<u8> {
        let started = Instant::now();
        let (mut answer, rows) = self.answer(source, limits, control.into()).unwrap_or_else(|error| {
            let (kind, message) = QueryError::from(error).to_wire();
            let error = Some(FragmentError { kind, message });
            (FragmentAnswer { error, ..Default::default() }, Vec::new())
        });
        answer.stats.get_or_insert_default().micros = started.elapsed().as_micros() as u64;
        if self.request.rows_first && !rows.is_empty() {
            let mut out = rows;
            end_rows(&mut out, &answer);
            return out;
        }
        if let Some(sql) = &mut answer.sql {
            sql.rows = rows.into();
        }
        answer.encode_to_vec()
    }

    /// The answer without its rows, and these.
    fn answer(
        &self,
        source: &dyn ShardSource,
        limits: Limits,
        control: Control,
    ) -> Result<(FragmentAnswer, Vec<u8>)> {
        if self.version > VERSION {
            let message = format!("version {} is newer than this node's {VERSION}", self.version);
            return Err(QueryError::Protocol(message).into());
        }
        let tenant = TenantId::new(&self.tenant).map_err(|e| QueryError::Protocol(e.to_string()))?;
        let limits = Limits { max_samples: limits.max_samples.min(self.request.max_samples), ..limits };
        let budget = Budget::new(limits, control).within(source.memory()).in_round(self.round);
        let table = SqlTable::try_from(self.request.table)
            .map_err(|_| QueryError::Protocol(format!("table {} is unknown", self.request.table)))?;
        if table == SqlTable::Segments {
            return Ok((segments(source, &tenant)?, Vec::new()));
        }
        let range = TimeRange::new(self.request.start_ms, self.request.end_ms);
        let matchers = matchers(self.request.matchers.as_ref())?;
        let mut walk = Walk::new(&self.request, &budget)?;
        walk.run(source, &tenant, &matchers, range, table)?;
        let counted = walk.counted;
        let output = walk.finish()?;
        let (row_count, too_long) = (output.rows(), output.is_too_long());
        if !too_long {
            budget.settle();
        }
        let (segments, open) = source.segment_counts(range);
        let answer = SqlAnswer {
            rows: bytes::Bytes::new(),
            row_count,
            segments,
            segments_pruned: segments.saturating_sub(open),
            segment_list: Vec::new(),
            counted,
            too_long,
        };
        let rows = if too_long { Vec::new() } else { output.finish(&budget)? };
        Ok((FragmentAnswer { sql: Some(answer), stats: Some(budget.stats()), ..Default::default() }, rows))
    }
}

fn segments(source: &dyn ShardSource, tenant: &TenantId) -> Result<FragmentAnswer> {
    let list = source.segments(tenant).map_err(QueryError::from)?;
    let row = |segment: query::source::SegmentInfo| SqlSegment {
        name: segment.name,
        bytes: segment.bytes,
        min_time_ms: segment.range.start,
        max_time_ms: segment.range.end,
        series: segment.series,
    };
    let answer = SqlAnswer { segment_list: list.into_iter().map(row).collect(), ..Default::default() };
    Ok(FragmentAnswer { sql: Some(answer), ..Default::default() })
}

/// An expression, and whether it is the same for all rows of a series.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub expr: Arc<dyn PhysicalExpr>,
    pub of_series: bool,
}

/// What reading a request needs.
pub(crate) struct Plan<'a> {
    pub request: &'a SqlRequest,
    pub columns: Vec<ScanColumn>,
    /// Of the walk's rows.
    pub schema: SchemaRef,
    pub reader: Reader,
    /// Of the answer.
    pub answer: SchemaRef,
}

impl<'a> Plan<'a> {
    fn new(request: &'a SqlRequest) -> Result<Self> {
        let columns: Vec<ScanColumn> = request
            .columns
            .iter()
            .map(|column| ScanColumn::from_wire(column).ok_or(ExprError::Malformed("an unknown column")))
            .collect::<std::result::Result<_, _>>()?;
        // Two columns may have one name: expressions go by their places.
        let fields: Vec<Field> = columns.iter().map(|c| Field::new(c.name(), c.data_type(), true)).collect();
        let schema = Arc::new(Schema::new(fields));
        let reader = Reader::new(&request.literals, Arc::clone(&schema))?;
        let answer = StreamReader::try_new(request.schema.as_slice(), None)?.schema();
        Ok(Self { request, columns, schema, reader, answer })
    }

    pub fn part(&self, expr: &protocol::sql::SqlExpr) -> Result<Part> {
        let expr = self.reader.read(expr)?;
        let of_series = collect_columns(&expr).iter().all(|c| self.columns[c.index()].is_of_series());
        Ok(Part { expr, of_series })
    }

    pub fn parts(&self, exprs: &[protocol::sql::SqlExpr]) -> Result<Vec<Part>> {
        exprs.iter().map(|expr| self.part(expr)).collect()
    }
}

/// A walk under way.
struct Walk<'a> {
    rows: Rows,
    filters: Vec<Part>,
    sink: Sink,
    budget: &'a Budget,
    output: Output,
    /// What aggregates take of tallies, where these are enough.
    taken: Option<Vec<Taken>>,
    tallies: Tallies,
    /// Samples that were counted and not read.
    counted: u64,
    /// Whether any expression needs a column.
    needs_columns: bool,
}

impl<'a> Walk<'a> {
    fn new(request: &SqlRequest, budget: &'a Budget) -> Result<Self> {
        let plan = Plan::new(request)?;
        let mut filters = plan.parts(&request.filters)?;
        // Those that drop whole series first.
        filters.sort_by_key(|filter| !filter.of_series);
        let sink = Sink::new(&plan)?;
        let mut needed = vec![Need::None; plan.columns.len()];
        for part in filters.iter().chain(sink.parts()) {
            let need = if part.of_series { Need::PerSeries } else { Need::PerRow };
            for column in collect_columns(&part.expr) {
                needed[column.index()] = needed[column.index()].max(need);
            }
        }
        let taken = tallies::taken(&plan, &filters)?;
        let of_series = |(column, need): (&ScanColumn, &Need)| column.is_of_series() && *need != Need::None;
        let needs_columns = plan.columns.iter().zip(&needed).any(of_series);
        let output = Output::new(request, &plan.answer)?;
        let rows = Rows::new(plan.columns, plan.schema, needed);
        let (tallies, counted) = (Tallies::default(), 0);
        Ok(Self { rows, filters, sink, budget, output, taken, tallies, counted, needs_columns })
    }

    fn run(
        &mut self,
        source: &dyn ShardSource,
        tenant: &TenantId,
        matchers: &[Matcher],
        range: TimeRange,
        table: SqlTable,
    ) -> Result<()> {
        let mut failed = None;
        let mut step = |outcome: Result<bool>| match outcome {
            Ok(true) => ControlFlow::Continue(()),
            Ok(false) => ControlFlow::Break(()),
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        };
        let walked = match table {
            SqlTable::Samples if self.taken.is_some() => {
                let by = if self.needs_columns { TallyBy::Series } else { TallyBy::Nothing };
                source
                    .tally(tenant, matchers, range, by, &mut |labels, tally| step(self.tally(labels, tally)))
            }
            SqlTable::Exemplars => source.exemplars(tenant, matchers, range, &mut |labels, exemplars| {
                step(self.exemplars(labels, exemplars))
            }),
            SqlTable::Histograms => source.select(tenant, matchers, range, &mut |series| {
                step(self.histograms(series.labels, series.histogram_times, series.histograms))
            }),
            _ => source.select(tenant, matchers, range, &mut |series| {
                step(self.samples(series.labels, series.times, series.values))
            }),
        };
        if let Some(error) = failed {
            return Err(error);
        }
        walked.map_err(QueryError::from)?;
        self.flush().map(|_| ())
    }

    /// Takes in the float samples of a series; false once there are rows enough.
    fn samples(&mut self, labels: &protocol::labels::Labels, times: &[i64], values: &[f64]) -> Result<bool> {
        if times.is_empty() {
            return Ok(true);
        }
        self.budget.charge_series()?;
        self.budget.charge_samples(times.len() as u64)?;
        let stale = values.iter().any(|value| is_stale_nan(*value));
        for (times, values) in times.chunks(BATCH_ROWS).zip(values.chunks(BATCH_ROWS)) {
            self.rows.begin(labels);
            if stale {
                for (time, value) in times.iter().zip(values).filter(|(_, value)| !is_stale_nan(**value)) {
                    self.rows.samples(&[*time], &[*value]);
                }
            } else {
                self.rows.samples(times, values);
            }
            if self.rows.len() >= BATCH_ROWS && !self.flush()? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Takes in a part of the samples as they were counted.
    fn tally(&mut self, labels: &protocol::labels::Labels, tally: &Tally) -> Result<bool> {
        self.budget.charge_read(tally.read_series, tally.read_samples)?;
        if tally.samples == 0 {
            return Ok(true);
        }
        self.counted += tally.samples.saturating_sub(tally.read_samples);
        self.tallies.push(labels, tally, &mut self.rows);
        if self.rows.len() >= BATCH_ROWS { self.flush() } else { Ok(true) }
    }

    fn histograms(
        &mut self,
        labels: &protocol::labels::Labels,
        times: &[i64],
        histograms: &[protocol::histogram::Histogram],
    ) -> Result<bool> {
        if times.is_empty() {
            return Ok(true);
        }
        self.budget.charge_series()?;
        self.budget.charge_samples(times.len() as u64)?;
        self.rows.begin(labels);
        for (time, histogram) in times.iter().zip(histograms).filter(|(_, h)| !is_stale_nan(h.sum)) {
            self.rows.histogram(*time, histogram);
        }
        if self.rows.len() >= BATCH_ROWS { self.flush() } else { Ok(true) }
    }

    fn exemplars(
        &mut self,
        labels: &protocol::labels::Labels,
        exemplars: &[query::source::Exemplar],
    ) -> Result<bool> {
        if exemplars.is_empty() {
            return Ok(true);
        }
        self.budget.charge_series()?;
        self.budget.charge_samples(exemplars.len() as u64)?;
        self.rows.begin(labels);
        for exemplar in exemplars {
            self.rows.exemplar(exemplar);
        }
        if self.rows.len() >= BATCH_ROWS { self.flush() } else { Ok(true) }
    }

    /// Sends what was gathered on its way; false once there are rows enough.
    fn flush(&mut self) -> Result<bool> {
        self.budget.check()?;
        if self.rows.len() == 0 {
            self.rows.clear();
            return Ok(true);
        }
        let mut batch = self.rows.batch()?;
        self.rows.clear();
        let tallies = std::mem::take(&mut self.tallies);
        for filter in &self.filters {
            batch.keep(filter)?;
            if batch.len() == 0 {
                return Ok(true);
            }
        }
        match &self.taken {
            None => self.sink.push(&batch, &mut self.output, self.budget),
            Some(taken) => {
                self.sink.merge(&batch, &tallies.columns(&batch)?, taken, self.budget)?;
                Ok(true)
            }
        }
    }

    /// The rows that are answered.
    fn finish(mut self) -> Result<Output> {
        if !self.output.is_too_long() {
            self.sink.finish(&mut self.output, self.budget)?;
        }
        Ok(self.output)
    }
}
