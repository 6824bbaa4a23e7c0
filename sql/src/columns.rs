//! What tables consist of: the columns of a walk at a shard, their types, and the tables made of them.
//!
//! Moments are milliseconds in UTC. A label that a series does not have is null, since PromQL's empty value means
//! absence. Columns of the series (name, labels) are the same for all of its rows, which the shards make use of.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use protocol::sql::{SqlColumn, SqlColumnKind, SqlTable};

/// The time zone of all moments.
pub const UTC: &str = "+00:00";

/// A column of a walk.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ScanColumn {
    /// What it holds.
    pub kind: SqlColumnKind,
    /// Which label, for [`SqlColumnKind::Label`].
    pub label: String,
}

impl ScanColumn {
    /// A column other than a label's.
    pub fn of(kind: SqlColumnKind) -> Self {
        Self { kind, label: String::new() }
    }

    /// The column of a label.
    pub fn label(name: impl Into<String>) -> Self {
        Self { kind: SqlColumnKind::Label, label: name.into() }
    }

    /// Reads what came from a coordinator.
    pub fn from_wire(column: &SqlColumn) -> Option<Self> {
        let kind = SqlColumnKind::try_from(column.kind).ok()?;
        Some(Self { kind, label: column.label.clone() })
    }

    /// For a shard.
    pub fn to_wire(&self) -> SqlColumn {
        SqlColumn { kind: self.kind as i32, label: self.label.clone() }
    }

    /// Whether all rows of a series have the same.
    pub fn is_of_series(&self) -> bool {
        matches!(self.kind, SqlColumnKind::Name | SqlColumnKind::Labels | SqlColumnKind::Label)
    }

    /// Its type.
    pub fn data_type(&self) -> DataType {
        match self.kind {
            SqlColumnKind::Name | SqlColumnKind::Label => DataType::Utf8,
            SqlColumnKind::Labels | SqlColumnKind::ExemplarLabels => map_type(),
            SqlColumnKind::Time => time_type(),
            SqlColumnKind::Value
            | SqlColumnKind::Count
            | SqlColumnKind::Sum
            | SqlColumnKind::ZeroThreshold
            | SqlColumnKind::ZeroCount => DataType::Float64,
            SqlColumnKind::Schema => DataType::Int32,
            SqlColumnKind::Buckets => buckets_type(),
        }
    }

    /// What it is called in plans.
    pub fn name(&self) -> String {
        match self.kind {
            SqlColumnKind::Label => self.label.clone(),
            kind => builtin_name(kind).to_owned(),
        }
    }
}

fn builtin_name(kind: SqlColumnKind) -> &'static str {
    match kind {
        SqlColumnKind::Name => "name",
        SqlColumnKind::Labels => "labels",
        SqlColumnKind::Label => "label",
        SqlColumnKind::Time => "time",
        SqlColumnKind::Value => "value",
        SqlColumnKind::Count => "count",
        SqlColumnKind::Sum => "sum",
        SqlColumnKind::Schema => "schema",
        SqlColumnKind::ZeroThreshold => "zero_threshold",
        SqlColumnKind::ZeroCount => "zero_count",
        SqlColumnKind::Buckets => "buckets",
        SqlColumnKind::ExemplarLabels => "exemplar_labels",
    }
}

/// The type of moments.
pub fn time_type() -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, Some(UTC.into()))
}

/// The type of label sets.
pub fn map_type() -> DataType {
    let entries = Fields::from(vec![
        Field::new("keys", DataType::Utf8, false),
        Field::new("values", DataType::Utf8, true),
    ]);
    DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entries), false)), false)
}

/// Fields of a bucket.
pub fn bucket_fields() -> Fields {
    Fields::from(vec![
        Field::new("lower", DataType::Float64, false),
        Field::new("upper", DataType::Float64, false),
        Field::new("count", DataType::Float64, false),
    ])
}

fn buckets_type() -> DataType {
    DataType::List(Arc::new(Field::new("item", DataType::Struct(bucket_fields()), true)))
}

/// A table over the cluster's data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// What it is called in plans.
    pub name: String,
    /// Its kind of rows.
    pub kind: SqlTable,
    /// Rows of this metric only.
    pub metric: Option<String>,
    /// Where its columns come from.
    pub columns: Vec<ScanColumn>,
    /// What they are called and of which type they are.
    pub schema: SchemaRef,
}

impl Table {
    fn of(name: &str, kind: SqlTable, kinds: &[SqlColumnKind]) -> Self {
        let columns: Vec<ScanColumn> = kinds.iter().map(|kind| ScanColumn::of(*kind)).collect();
        let fields: Vec<Field> = columns
            .iter()
            .map(|column| Field::new(builtin_name(column.kind), column.data_type(), true))
            .collect();
        let schema = Arc::new(Schema::new(fields));
        Self { name: name.to_owned(), kind, metric: None, columns, schema }
    }

    /// All float samples.
    pub fn metrics() -> Self {
        use SqlColumnKind::{Labels, Name, Time, Value};
        Self::of("metrics", SqlTable::Samples, &[Name, Labels, Time, Value])
    }

    /// All native histograms.
    pub fn histograms() -> Self {
        use SqlColumnKind::{Buckets, Count, Labels, Name, Schema, Sum, Time, ZeroCount, ZeroThreshold};
        let kinds = [Name, Labels, Time, Count, Sum, Schema, ZeroThreshold, ZeroCount, Buckets];
        Self::of("histograms", SqlTable::Histograms, &kinds)
    }

    /// All exemplars.
    pub fn exemplars() -> Self {
        use SqlColumnKind::{ExemplarLabels, Labels, Name, Time, Value};
        Self::of("exemplars", SqlTable::Exemplars, &[Name, Labels, Time, Value, ExemplarLabels])
    }

    /// The float samples of a metric, a column for each of its labels.
    pub fn metric(metric: &str, labels: &[String]) -> Self {
        let mut columns = vec![ScanColumn::of(SqlColumnKind::Time), ScanColumn::of(SqlColumnKind::Value)];
        let mut fields =
            vec![Field::new("time", time_type(), true), Field::new("value", DataType::Float64, true)];
        for label in labels {
            // Two columns of a table can not have one name.
            let mut name = label.clone();
            while fields.iter().any(|field| *field.name() == name)
                || (name != *label && labels.contains(&name))
            {
                name.insert_str(0, "label_");
            }
            fields.push(Field::new(name, DataType::Utf8, true));
            columns.push(ScanColumn::label(label));
        }
        Self {
            name: metric.to_owned(),
            kind: SqlTable::Samples,
            metric: Some(metric.to_owned()),
            columns,
            schema: Arc::new(Schema::new(fields)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_never_hide_time_and_value() {
        let labels: Vec<String> = ["job", "label_time", "time"].map(str::to_owned).into();
        let table = Table::metric("m", &labels);
        let names: Vec<&str> = table.schema.fields().iter().map(|field| field.name().as_str()).collect();
        assert_eq!(names, ["time", "value", "job", "label_time", "label_label_time"]);
        assert_eq!(table.columns[4], ScanColumn::label("time"));
    }

    #[test]
    fn columns_survive_the_wire() {
        for column in Table::histograms().columns.into_iter().chain([ScanColumn::label("a")]) {
            assert_eq!(ScanColumn::from_wire(&column.to_wire()), Some(column));
        }
        assert_eq!(ScanColumn::from_wire(&SqlColumn { kind: 99, label: String::new() }), None);
    }
}
