//! Rows on their way through a walk: columns of the series once per series, columns of the rows once per row.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int32Array, ListArray, MapBuilder, RecordBatch,
    RecordBatchOptions, StringBuilder, StructArray, TimestampMillisecondArray, UInt32Array, new_null_array,
};
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::arrow::compute::{filter, filter_record_batch, take};
use datafusion::arrow::datatypes::{DataType, Field, SchemaRef};
use protocol::histogram::Histogram;
use protocol::labels::{Labels, METRIC_NAME};
use protocol::sql::SqlColumnKind;
use query::histogram::HistogramExt;
use query::source::Exemplar;

use super::{Part, Result};
use crate::columns::{ScanColumn, UTC, bucket_fields};

/// Whether a column is asked for by expressions over rows, or only by such over series, or by none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Need {
    #[default]
    None,
    PerSeries,
    PerRow,
}

/// Rows being gathered.
pub(super) struct Rows {
    columns: Vec<ScanColumn>,
    schema: SchemaRef,
    /// Columns that expressions refer to; the others are not made.
    needed: Vec<Need>,
    series: Vec<Labels>,
    series_of: Vec<u32>,
    times: Vec<i64>,
    values: Vec<f64>,
    histograms: Vec<Histogram>,
    exemplar_labels: Vec<Labels>,
}

impl Rows {
    pub fn new(columns: Vec<ScanColumn>, schema: SchemaRef, needed: Vec<Need>) -> Self {
        Self {
            columns,
            schema,
            needed,
            series: Vec::new(),
            series_of: Vec::new(),
            times: Vec::new(),
            values: Vec::new(),
            histograms: Vec::new(),
            exemplar_labels: Vec::new(),
        }
    }

    /// Rows that follow are of this series.
    pub fn begin(&mut self, labels: &Labels) {
        self.series.push(labels.clone());
    }

    fn note(&mut self, rows: usize) {
        let series = self.series.len().saturating_sub(1) as u32;
        self.series_of.resize(self.series_of.len() + rows, series);
    }

    pub fn samples(&mut self, times: &[i64], values: &[f64]) {
        self.note(times.len());
        self.times.extend_from_slice(times);
        self.values.extend_from_slice(values);
    }

    pub fn histogram(&mut self, time: i64, histogram: &Histogram) {
        self.note(1);
        self.times.push(time);
        self.histograms.push(histogram.clone());
    }

    pub fn exemplar(&mut self, exemplar: &Exemplar) {
        self.note(1);
        self.times.push(exemplar.timestamp);
        self.values.push(exemplar.value);
        self.exemplar_labels.push(exemplar.labels.clone());
    }

    pub fn len(&self) -> usize {
        self.times.len()
    }

    pub fn clear(&mut self) {
        self.series.clear();
        self.series_of.clear();
        self.times.clear();
        self.values.clear();
        self.histograms.clear();
        self.exemplar_labels.clear();
    }

    /// What was gathered, as columns.
    pub fn batch(&self) -> Result<Batch> {
        let series: Vec<ArrayRef> = self
            .columns
            .iter()
            .zip(&self.needed)
            .map(|(column, need)| match column.kind {
                _ if *need == Need::None => new_null_array(&column.data_type(), self.series.len()),
                SqlColumnKind::Name => self.labels_column(METRIC_NAME),
                SqlColumnKind::Label => self.labels_column(&column.label),
                SqlColumnKind::Labels => maps(&self.series),
                _ => new_null_array(&column.data_type(), self.series.len()),
            })
            .collect();
        let series_of = UInt32Array::from(self.series_of.clone());
        let mut rows: Vec<ArrayRef> = Vec::with_capacity(self.columns.len());
        for (at, column) in self.columns.iter().enumerate() {
            rows.push(match (self.needed[at] == Need::PerRow, column.is_of_series()) {
                (false, _) => new_null_array(&column.data_type(), self.len()),
                (true, true) => take(&series[at], &series_of, None)?,
                (true, false) => self.row_column(column.kind),
            });
        }
        let batch = |columns, rows| {
            let options = RecordBatchOptions::new().with_row_count(Some(rows));
            RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)
        };
        Ok(Batch { series: batch(series, self.series.len())?, rows: batch(rows, self.len())?, series_of })
    }

    fn labels_column(&self, name: &str) -> ArrayRef {
        let mut out = StringBuilder::new();
        for labels in &self.series {
            out.append_option(labels.get(name));
        }
        Arc::new(out.finish())
    }

    fn row_column(&self, kind: SqlColumnKind) -> ArrayRef {
        let of_histograms = |value: fn(&Histogram) -> f64| -> ArrayRef {
            Arc::new(Float64Array::from_iter_values(self.histograms.iter().map(value)))
        };
        let rows = self.len();
        let made: ArrayRef = match kind {
            SqlColumnKind::Time => {
                Arc::new(TimestampMillisecondArray::from(self.times.clone()).with_timezone(UTC))
            }
            SqlColumnKind::Value => Arc::new(Float64Array::from(self.values.clone())),
            SqlColumnKind::Count => of_histograms(|h| h.count),
            SqlColumnKind::Sum => of_histograms(|h| h.sum),
            SqlColumnKind::ZeroThreshold => of_histograms(|h| h.zero_threshold),
            SqlColumnKind::ZeroCount => of_histograms(|h| h.zero_count),
            SqlColumnKind::Schema => {
                Arc::new(Int32Array::from_iter_values(self.histograms.iter().map(|h| h.schema)))
            }
            SqlColumnKind::Buckets => buckets(&self.histograms),
            SqlColumnKind::ExemplarLabels => maps(&self.exemplar_labels),
            SqlColumnKind::Name | SqlColumnKind::Labels | SqlColumnKind::Label => {
                new_null_array(&ScanColumn::of(kind).data_type(), rows)
            }
        };
        // A table whose rows do not have the column: a coordinator does not ask for it.
        if made.len() == rows { made } else { new_null_array(&ScanColumn::of(kind).data_type(), rows) }
    }
}

/// Label sets as maps, without the metric's name.
fn maps(sets: &[Labels]) -> ArrayRef {
    let mut out = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
    for labels in sets {
        for (name, value) in labels.iter().filter(|(name, _)| *name != METRIC_NAME) {
            out.keys().append_value(name);
            out.values().append_value(value);
        }
        // Keys and values were appended in pairs.
        let _ = out.append(true);
    }
    Arc::new(out.finish())
}

/// Buckets that are not empty, the lowest first.
fn buckets(histograms: &[Histogram]) -> ArrayRef {
    let (mut lower, mut upper, mut count) = (Vec::new(), Vec::new(), Vec::new());
    let mut lengths = Vec::new();
    for histogram in histograms {
        let filled: Vec<_> = histogram.buckets().into_iter().filter(|b| b.count != 0.0).collect();
        lengths.push(filled.len());
        for bucket in filled {
            lower.push(bucket.lower);
            upper.push(bucket.upper);
            count.push(bucket.count);
        }
    }
    let columns: Vec<ArrayRef> = [lower, upper, count]
        .into_iter()
        .map(|column| Arc::new(Float64Array::from(column)) as ArrayRef)
        .collect();
    let fields = bucket_fields();
    let item = Arc::new(Field::new("item", DataType::Struct(fields.clone()), true));
    let values = Arc::new(StructArray::new(fields, columns, None));
    Arc::new(ListArray::new(item, OffsetBuffer::from_lengths(lengths), values, None))
}

/// Rows in columns.
pub(super) struct Batch {
    series: RecordBatch,
    rows: RecordBatch,
    series_of: UInt32Array,
}

impl Batch {
    pub fn len(&self) -> usize {
        self.series_of.len()
    }

    /// The series of each row.
    pub fn series_of(&self) -> &UInt32Array {
        &self.series_of
    }

    /// An expression's value per row.
    pub fn value(&self, part: &Part) -> Result<ArrayRef> {
        if part.of_series {
            return Ok(take(&self.of_series(part)?, &self.series_of, None)?);
        }
        Ok(part.expr.evaluate(&self.rows)?.into_array(self.len())?)
    }

    /// The value of an expression over the series, per series.
    pub fn of_series(&self, part: &Part) -> Result<ArrayRef> {
        Ok(part.expr.evaluate(&self.series)?.into_array(self.series.num_rows())?)
    }

    /// Keeps the rows of which a condition is true.
    pub fn keep(&mut self, part: &Part) -> Result<()> {
        let mask = self.mask(part)?;
        if mask.true_count() == mask.len() {
            return Ok(());
        }
        self.rows = filter_record_batch(&self.rows, &mask)?;
        self.series_of = filter(&self.series_of, &mask)?.as_primitive().clone();
        Ok(())
    }

    /// Of which rows a condition is true.
    pub fn mask(&self, part: &Part) -> Result<BooleanArray> {
        let value = self.value(part)?;
        let Some(mask) = value.as_boolean_opt() else {
            return Err(crate::exprs::ExprError::Malformed("a filter is no condition").into());
        };
        // Unknown is not true.
        Ok(if mask.null_count() > 0 {
            datafusion::arrow::compute::prep_null_mask_filter(mask)
        } else {
            mask.clone()
        })
    }
}
