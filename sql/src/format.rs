//! Rows as bytes: JSON, lines of JSON, CSV, Arrow IPC.
//!
//! Numbers that JSON does not have (NaN, infinities) are texts, as in Prometheus' API. Moments are RFC 3339 in UTC.
//! `json` is one object, `{"status":"success","data":{"columns":[{"name":..,"type":..}],"rows":[[..],..]}}`; `ndjson` an
//! object per row and line; `csv` has a line of names first, a null is an empty field and an empty text is `""`.

use std::fmt::Write;

use bytes::Bytes;
use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::datatypes::{
    DataType, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, SchemaRef,
    UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::ipc::writer::StreamWriter;
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use futures_util::StreamExt;
use protocol::error::ErrorKind;

use crate::engine::Rows;
use crate::error::SqlError;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool};

/// How rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One object.
    Json,
    /// An object per row.
    Ndjson,
    /// Comma-separated values.
    Csv,
    /// An Arrow IPC stream.
    Arrow,
}

impl Format {
    /// The format of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "json" => Self::Json,
            "ndjson" => Self::Ndjson,
            "csv" => Self::Csv,
            "arrow" => Self::Arrow,
            _ => return None,
        })
    }

    /// Its media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Ndjson => "application/x-ndjson",
            Self::Csv => "text/csv; charset=utf-8",
            Self::Arrow => "application/vnd.apache.arrow.stream",
        }
    }
}

/// What a type is called in answers.
pub fn type_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Null => "null".to_owned(),
        DataType::Boolean => "boolean".to_owned(),
        DataType::Int8 | DataType::Int16 | DataType::UInt8 => "smallint".to_owned(),
        DataType::Int32 | DataType::UInt16 => "integer".to_owned(),
        DataType::Int64 | DataType::UInt32 | DataType::UInt64 => "bigint".to_owned(),
        DataType::Float16 | DataType::Float32 => "real".to_owned(),
        DataType::Float64 => "double".to_owned(),
        DataType::Decimal32(p, s)
        | DataType::Decimal64(p, s)
        | DataType::Decimal128(p, s)
        | DataType::Decimal256(p, s) => {
            format!("decimal({p},{s})")
        }
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "text".to_owned(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            "binary".to_owned()
        }
        DataType::Date32 | DataType::Date64 => "date".to_owned(),
        DataType::Time32(_) | DataType::Time64(_) => "time".to_owned(),
        DataType::Timestamp(..) => "timestamp".to_owned(),
        DataType::Interval(_) | DataType::Duration(_) => "interval".to_owned(),
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            format!("list({})", type_name(item.data_type()))
        }
        DataType::Struct(_) => "struct".to_owned(),
        DataType::Map(..) => "map".to_owned(),
        DataType::Dictionary(_, value) => type_name(value),
        other => other.to_string(),
    }
}

/// Text between quotes, as JSON has it.
fn quoted(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c < ' ' => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

fn float(out: &mut String, value: f64) {
    if value.is_finite() {
        // The shortest digits that give the same float.
        let _ = if value.abs() >= 1e16 || (value != 0.0 && value.abs() < 1e-5) {
            write!(out, "{value:e}")
        } else {
            write!(out, "{value}")
        };
    } else {
        quoted(out, non_finite(value));
    }
}

fn non_finite(value: f64) -> &'static str {
    match (value.is_nan(), value > 0.0) {
        (true, _) => "NaN",
        (false, true) => "Infinity",
        (false, false) => "-Infinity",
    }
}

const SHOWN: FormatOptions<'static> = FormatOptions::new().with_display_error(true);

fn shown(array: &dyn Array, row: usize) -> Result<String, ArrowError> {
    Ok(ArrayFormatter::try_new(array, &SHOWN)?.value(row).to_string())
}

/// A moment in UTC, `2026-01-31T12:00:00.5Z`.
fn moment(array: &dyn Array, row: usize) -> Result<String, ArrowError> {
    let text = shown(array, row)?;
    Ok(if text.ends_with('Z') || text.contains('+') { text } else { text + "Z" })
}

/// A value as JSON.
pub fn json_value(out: &mut String, array: &dyn Array, row: usize) -> Result<(), ArrowError> {
    if array.is_null(row) {
        out.push_str("null");
        return Ok(());
    }
    macro_rules! whole {
        ($type:ty) => {{
            let _ = write!(out, "{}", array.as_primitive::<$type>().value(row));
        }};
    }
    match array.data_type() {
        DataType::Null => out.push_str("null"),
        DataType::Boolean => out.push_str(if array.as_boolean().value(row) { "true" } else { "false" }),
        DataType::Int8 => whole!(Int8Type),
        DataType::Int16 => whole!(Int16Type),
        DataType::Int32 => whole!(Int32Type),
        DataType::Int64 => whole!(Int64Type),
        DataType::UInt8 => whole!(UInt8Type),
        DataType::UInt16 => whole!(UInt16Type),
        DataType::UInt32 => whole!(UInt32Type),
        DataType::UInt64 => whole!(UInt64Type),
        DataType::Float16 => float(out, array.as_primitive::<Float16Type>().value(row).to_f64()),
        DataType::Float32 => {
            let value = array.as_primitive::<Float32Type>().value(row);
            if value.is_finite() {
                let _ = write!(out, "{value}");
            } else {
                quoted(out, non_finite(value.into()));
            }
        }
        DataType::Float64 => float(out, array.as_primitive::<Float64Type>().value(row)),
        DataType::Decimal32(..)
        | DataType::Decimal64(..)
        | DataType::Decimal128(..)
        | DataType::Decimal256(..) => out.push_str(&shown(array, row)?),
        DataType::Utf8 => quoted(out, array.as_string::<i32>().value(row)),
        DataType::LargeUtf8 => quoted(out, array.as_string::<i64>().value(row)),
        DataType::Utf8View => quoted(out, array.as_string_view().value(row)),
        DataType::Timestamp(..) => quoted(out, &moment(array, row)?),
        DataType::List(_) => json_list(out, array.as_list::<i32>().value(row).as_ref())?,
        DataType::LargeList(_) => json_list(out, array.as_list::<i64>().value(row).as_ref())?,
        DataType::FixedSizeList(..) => json_list(out, array.as_fixed_size_list().value(row).as_ref())?,
        DataType::Struct(fields) => {
            let columns = array.as_struct().columns();
            out.push('{');
            for (at, (field, column)) in fields.iter().zip(columns).enumerate() {
                if at > 0 {
                    out.push(',');
                }
                quoted(out, field.name());
                out.push(':');
                json_value(out, column.as_ref(), row)?;
            }
            out.push('}');
        }
        DataType::Map(..) => {
            let entries = array.as_map().value(row);
            let (keys, values) = (entries.column(0), entries.column(1));
            out.push('{');
            for at in 0..entries.len() {
                if at > 0 {
                    out.push(',');
                }
                quoted(out, &shown(keys.as_ref(), at)?);
                out.push(':');
                json_value(out, values.as_ref(), at)?;
            }
            out.push('}');
        }
        DataType::Dictionary(..) => {
            let dictionary = array.as_any_dictionary();
            let key = dictionary.normalized_keys()[row];
            json_value(out, dictionary.values().as_ref(), key)?;
        }
        _ => quoted(out, &shown(array, row)?),
    }
    Ok(())
}

fn json_list(out: &mut String, items: &dyn Array) -> Result<(), ArrowError> {
    out.push('[');
    for at in 0..items.len() {
        if at > 0 {
            out.push(',');
        }
        json_value(out, items, at)?;
    }
    out.push(']');
    Ok(())
}

/// A value as text, the way PostgreSQL and CSV show it; lists, structs and maps as JSON.
pub fn text_value(array: &dyn Array, row: usize) -> Result<String, ArrowError> {
    Ok(match array.data_type() {
        DataType::Float64 => {
            let value = array.as_primitive::<Float64Type>().value(row);
            let mut out = String::new();
            if value.is_finite() {
                float(&mut out, value)
            } else {
                out.push_str(non_finite(value))
            }
            out
        }
        DataType::Timestamp(..) => moment(array, row)?,
        DataType::List(_)
        | DataType::LargeList(_)
        | DataType::FixedSizeList(..)
        | DataType::Struct(_)
        | DataType::Map(..) => {
            let mut out = String::new();
            json_value(&mut out, array, row)?;
            out
        }
        _ => shown(array, row)?,
    })
}

fn csv_field(out: &mut String, text: &str) {
    if text.is_empty() || text.contains([',', '"', '\n', '\r']) {
        out.push('"');
        out.push_str(&text.replace('"', "\"\""));
        out.push('"');
    } else {
        out.push_str(text);
    }
}

/// Writes rows in a format, batch by batch.
pub struct Encoder {
    format: Format,
    schema: SchemaRef,
    out: Vec<u8>,
    arrow: Option<StreamWriter<Vec<u8>>>,
    rows: u64,
}

impl Encoder {
    /// Begins an answer with these columns.
    pub fn new(format: Format, schema: SchemaRef) -> Result<Self, ArrowError> {
        let mut encoder = Self { format, schema, out: Vec::new(), arrow: None, rows: 0 };
        let schema = &encoder.schema;
        match format {
            Format::Json => {
                let mut text = String::from("{\"status\":\"success\",\"data\":{\"columns\":[");
                for (at, field) in schema.fields().iter().enumerate() {
                    text.push_str(if at > 0 { ",{\"name\":" } else { "{\"name\":" });
                    quoted(&mut text, field.name());
                    text.push_str(",\"type\":");
                    quoted(&mut text, &type_name(field.data_type()));
                    text.push('}');
                }
                text.push_str("],\"rows\":[");
                encoder.out = text.into_bytes();
            }
            Format::Ndjson => {}
            Format::Csv => {
                let mut text = String::new();
                for (at, field) in schema.fields().iter().enumerate() {
                    if at > 0 {
                        text.push(',');
                    }
                    csv_field(&mut text, field.name());
                }
                text.push('\n');
                encoder.out = text.into_bytes();
            }
            Format::Arrow => encoder.arrow = Some(StreamWriter::try_new(Vec::new(), schema)?),
        }
        Ok(encoder)
    }

    /// Adds rows.
    pub fn push(&mut self, batch: &RecordBatch) -> Result<(), ArrowError> {
        if let Some(arrow) = &mut self.arrow {
            return arrow.write(batch);
        }
        let mut text = String::new();
        for row in 0..batch.num_rows() {
            match self.format {
                Format::Json => {
                    text.push_str(if self.rows > 0 { ",[" } else { "[" });
                    for (at, column) in batch.columns().iter().enumerate() {
                        if at > 0 {
                            text.push(',');
                        }
                        json_value(&mut text, column.as_ref(), row)?;
                    }
                    text.push(']');
                }
                Format::Ndjson => {
                    text.push('{');
                    for (at, column) in batch.columns().iter().enumerate() {
                        if at > 0 {
                            text.push(',');
                        }
                        quoted(&mut text, self.schema.field(at).name());
                        text.push(':');
                        json_value(&mut text, column.as_ref(), row)?;
                    }
                    text.push_str("}\n");
                }
                Format::Csv | Format::Arrow => {
                    for (at, column) in batch.columns().iter().enumerate() {
                        if at > 0 {
                            text.push(',');
                        }
                        if !column.is_null(row) {
                            csv_field(&mut text, &text_value(column.as_ref(), row)?);
                        }
                    }
                    text.push('\n');
                }
            }
            self.rows += 1;
        }
        self.out.extend_from_slice(text.as_bytes());
        Ok(())
    }

    /// Bytes that are held.
    pub fn len(&self) -> usize {
        self.out.len() + self.arrow.as_ref().map_or(0, |arrow| arrow.get_ref().len())
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Gives what is held so far; more may follow.
    pub fn take(&mut self) -> Bytes {
        match &mut self.arrow {
            Some(arrow) => std::mem::take(arrow.get_mut()).into(),
            None => std::mem::take(&mut self.out).into(),
        }
    }

    /// Ends the answer and gives what is held.
    pub fn finish(mut self) -> Result<Bytes, ArrowError> {
        if let Some(arrow) = self.arrow {
            return Ok(arrow.into_inner()?.into());
        }
        if self.format == Format::Json {
            self.out.extend_from_slice(b"]}}");
        }
        Ok(self.out.into())
    }
}

/// Bytes of an answer that go on together.
const PIECE_BYTES: usize = 256 << 10;

/// Gives the rows of a statement on as bytes, piece by piece as they come, and says how many rows they are. `None` where
/// nobody takes a piece any more. What is written and not yet given on is charged to the statement.
pub async fn encode<T: Future<Output = bool>>(
    mut rows: Rows,
    format: Format,
    mut give: impl FnMut(Bytes) -> T,
) -> Result<Option<u64>, SqlError> {
    let failed =
        |error: ArrowError| SqlError::new(ErrorKind::Internal, format!("writing the answer: {error}"));
    let pool = std::sync::Arc::clone(rows.pool()) as std::sync::Arc<dyn MemoryPool>;
    let reservation = MemoryConsumer::new("the answer").register(&pool);
    let mut encoder = Encoder::new(format, std::sync::Arc::clone(rows.schema())).map_err(failed)?;
    let mut count = 0;
    while let Some(batch) = rows.next().await {
        let batch = batch?;
        count += batch.num_rows() as u64;
        encoder.push(&batch).map_err(failed)?;
        reservation.try_resize(encoder.len())?;
        if encoder.len() >= PIECE_BYTES && !give(encoder.take()).await {
            return Ok(None);
        }
    }
    let last = encoder.finish().map_err(failed)?;
    Ok((last.is_empty() || give(last).await).then_some(count))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{
        ArrayRef, Float64Array, Int64Array, ListArray, StringArray, TimestampMillisecondArray,
    };
    use datafusion::arrow::datatypes::{Field, Schema};
    use datafusion::arrow::ipc::reader::StreamReader;

    use super::*;

    fn batch() -> RecordBatch {
        let list = ListArray::from_iter_primitive::<Int64Type, _, _>([Some(vec![Some(1), None]), None]);
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("a", Arc::new(StringArray::from(vec![Some("x,\"y\"\n"), Some("")]))),
            ("n", Arc::new(Int64Array::from(vec![Some(-7), None]))),
            ("f", Arc::new(Float64Array::from(vec![1.5, f64::NAN]))),
            ("t", Arc::new(TimestampMillisecondArray::from(vec![0, 1500]).with_timezone("+00:00"))),
            ("l", Arc::new(list)),
        ];
        let fields: Vec<Field> =
            columns.iter().map(|(name, c)| Field::new(*name, c.data_type().clone(), true)).collect();
        let columns = columns.into_iter().map(|(_, column)| column).collect();
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).expect("a batch")
    }

    fn written(format: Format) -> Bytes {
        let batch = batch();
        let mut encoder = Encoder::new(format, batch.schema()).expect("an encoder");
        encoder.push(&batch).expect("rows");
        let whole = encoder.finish().expect("an end");

        // In pieces it is the same.
        let mut encoder = Encoder::new(format, batch.schema()).expect("an encoder");
        let mut pieces = encoder.take().to_vec();
        for row in 0..batch.num_rows() {
            encoder.push(&batch.slice(row, 1)).expect("a row");
            pieces.extend_from_slice(&encoder.take());
        }
        pieces.extend_from_slice(&encoder.finish().expect("an end"));
        match format {
            Format::Arrow => assert_eq!(read(&pieces), [batch.slice(0, 1), batch.slice(1, 1)]),
            _ => assert_eq!(pieces, whole),
        }
        whole
    }

    fn read(stream: &[u8]) -> Vec<RecordBatch> {
        let reader = StreamReader::try_new(stream, None).expect("Arrow");
        reader.map(|batch| batch.expect("rows")).collect()
    }

    #[test]
    fn formats() {
        let text = |format| String::from_utf8(written(format).to_vec()).expect("text");
        assert_eq!(
            text(Format::Ndjson),
            "{\"a\":\"x,\\\"y\\\"\\n\",\"n\":-7,\"f\":1.5,\"t\":\"1970-01-01T00:00:00Z\",\"l\":[1,null]}\n\
             {\"a\":\"\",\"n\":null,\"f\":\"NaN\",\"t\":\"1970-01-01T00:00:01.500Z\",\"l\":null}\n"
        );
        assert_eq!(
            text(Format::Csv),
            "a,n,f,t,l\n\"x,\"\"y\"\"\n\",-7,1.5,1970-01-01T00:00:00Z,\"[1,null]\"\n\
             \"\",,NaN,1970-01-01T00:00:01.500Z,\n"
        );
        assert_eq!(
            text(Format::Json),
            "{\"status\":\"success\",\"data\":{\"columns\":[{\"name\":\"a\",\"type\":\"text\"},\
             {\"name\":\"n\",\"type\":\"bigint\"},{\"name\":\"f\",\"type\":\"double\"},\
             {\"name\":\"t\",\"type\":\"timestamp\"},{\"name\":\"l\",\"type\":\"list(bigint)\"}],\
             \"rows\":[[\"x,\\\"y\\\"\\n\",-7,1.5,\"1970-01-01T00:00:00Z\",[1,null]],\
             [\"\",null,\"NaN\",\"1970-01-01T00:00:01.500Z\",null]]}}"
        );
        assert_eq!(read(&written(Format::Arrow)), [batch()]);
    }

    #[test]
    fn numbers_are_short_and_exact() {
        let shown = |value| {
            let mut out = String::new();
            float(&mut out, value);
            out
        };
        assert_eq!([shown(0.1), shown(1e300), shown(-0.0), shown(5e-324)], ["0.1", "1e300", "-0", "5e-324"]);
    }
}
