//! Values of answers in PostgreSQL's types, as text or in binary form.
//!
//! Unsigned numbers of 64 bits are `numeric`, maps, structs and lists of those are `json`, lists of plain values are
//! arrays. Moments have microseconds: finer ones are cut.

use datafusion::arrow::array::{Array, AsArray};
use datafusion::arrow::datatypes::{
    DataType, Date32Type, Date64Type, DurationMicrosecondType, DurationMillisecondType,
    DurationNanosecondType, DurationSecondType, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type,
    Int32Type, Int64Type, IntervalDayTimeType, IntervalMonthDayNanoType, IntervalUnit, IntervalYearMonthType,
    Schema, Time32MillisecondType, Time32SecondType, Time64MicrosecondType, Time64NanosecondType, TimeUnit,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
    UInt8Type, UInt16Type, UInt32Type,
};
use datafusion::arrow::error::ArrowError;
use protocol::postgres::Column;

use super::moment::{day_binary, day_text, moment_binary, moment_text, time_text};
use crate::error::SqlError;
use crate::format::{json_value, text_value};

/// Numbers of types in `pg_type`.
pub(super) mod types {
    pub const BOOL: u32 = 16;
    pub const BYTEA: u32 = 17;
    pub const NAME: u32 = 19;
    pub const INT8: u32 = 20;
    pub const INT2: u32 = 21;
    pub const INT4: u32 = 23;
    pub const TEXT: u32 = 25;
    pub const OID: u32 = 26;
    pub const JSON: u32 = 114;
    pub const FLOAT4: u32 = 700;
    pub const FLOAT8: u32 = 701;
    pub const UNKNOWN: u32 = 705;
    pub const BPCHAR: u32 = 1042;
    pub const VARCHAR: u32 = 1043;
    pub const DATE: u32 = 1082;
    pub const TIME: u32 = 1083;
    pub const TIMESTAMP: u32 = 1114;
    pub const TIMESTAMPTZ: u32 = 1184;
    pub const INTERVAL: u32 = 1186;
    pub const NUMERIC: u32 = 1700;
    pub const UUID: u32 = 2950;
}

/// Columns that an answer may have, as PostgreSQL has it.
const MAX_COLUMNS: usize = 1664;

/// Number of the type that values of a type have for clients.
pub fn oid(data_type: &DataType) -> u32 {
    match data_type {
        DataType::Boolean => types::BOOL,
        DataType::Int8 | DataType::Int16 | DataType::UInt8 => types::INT2,
        DataType::Int32 | DataType::UInt16 => types::INT4,
        DataType::Int64 | DataType::UInt32 => types::INT8,
        DataType::Float16 | DataType::Float32 => types::FLOAT4,
        DataType::Float64 => types::FLOAT8,
        DataType::UInt64
        | DataType::Decimal32(..)
        | DataType::Decimal64(..)
        | DataType::Decimal128(..)
        | DataType::Decimal256(..) => types::NUMERIC,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            types::BYTEA
        }
        DataType::Timestamp(_, Some(_)) => types::TIMESTAMPTZ,
        DataType::Timestamp(_, None) => types::TIMESTAMP,
        DataType::Date32 | DataType::Date64 => types::DATE,
        DataType::Time32(_) | DataType::Time64(_) => types::TIME,
        DataType::Interval(_) | DataType::Duration(_) => types::INTERVAL,
        DataType::Struct(_) | DataType::Map(..) => types::JSON,
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            array_oid(oid(item.data_type())).unwrap_or(types::JSON)
        }
        DataType::Dictionary(_, value) => oid(value),
        _ => types::TEXT,
    }
}

/// Number of the type of arrays of a type; none where there are none of it here.
fn array_oid(item: u32) -> Option<u32> {
    Some(match item {
        types::BOOL => 1000,
        types::INT2 => 1005,
        types::INT4 => 1007,
        types::INT8 => 1016,
        types::TEXT => 1009,
        types::FLOAT4 => 1021,
        types::FLOAT8 => 1022,
        types::TIMESTAMP => 1115,
        types::DATE => 1182,
        types::TIMESTAMPTZ => 1185,
        types::INTERVAL => 1187,
        types::NUMERIC => 1231,
        _ => return None,
    })
}

fn size(oid: u32) -> i16 {
    match oid {
        types::BOOL => 1,
        types::INT2 => 2,
        types::INT4 | types::FLOAT4 | types::DATE => 4,
        types::INT8 | types::FLOAT8 | types::TIME | types::TIMESTAMP | types::TIMESTAMPTZ => 8,
        types::INTERVAL => 16,
        _ => -1,
    }
}

/// The columns of an answer. `formats` are none for text, one for all columns, or one each.
pub fn columns(schema: &Schema, formats: &[i16]) -> Result<Vec<Column>, SqlError> {
    let count = schema.fields().len();
    if count > MAX_COLUMNS {
        return Err(SqlError::invalid(format!("the answer has {count} columns, more than {MAX_COLUMNS}")));
    }
    if formats.len() > 1 && formats.len() != count {
        let message = format!("{} forms for the answer's {count} columns", formats.len());
        return Err(SqlError::invalid(message).with_state("08P01"));
    }
    if let Some(format) = formats.iter().find(|format| !matches!(format, 0 | 1)) {
        let message = format!("the form {format} of columns is neither text (0) nor binary (1)");
        return Err(SqlError::invalid(message).with_state("08P01"));
    }
    let column = |(at, field): (usize, &std::sync::Arc<datafusion::arrow::datatypes::Field>)| {
        let oid = oid(field.data_type());
        let format = if formats.len() == 1 { formats[0] } else { formats.get(at).copied().unwrap_or(0) };
        Column { name: field.name().clone(), oid, size: size(oid), binary: format == 1 }
    };
    Ok(schema.fields().iter().enumerate().map(column).collect())
}

/// Writes the value of a row in a form; false, and nothing, for a null.
pub fn value(out: &mut Vec<u8>, array: &dyn Array, row: usize, binary: bool) -> Result<bool, ArrowError> {
    if array.data_type() == &DataType::Null || array.is_null(row) {
        return Ok(false);
    }
    if let DataType::Dictionary(..) = array.data_type() {
        let dictionary = array.as_any_dictionary();
        let key = dictionary.normalized_keys()[row];
        return value(out, dictionary.values().as_ref(), key, binary);
    }
    if binary {
        as_binary(out, array, row)?
    } else {
        as_text(out, array, row)?
    }
    Ok(true)
}

/// Microseconds since 1970.
fn micros(array: &dyn Array, row: usize, unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => array.as_primitive::<TimestampSecondType>().value(row).saturating_mul(1_000_000),
        TimeUnit::Millisecond => {
            array.as_primitive::<TimestampMillisecondType>().value(row).saturating_mul(1_000)
        }
        TimeUnit::Microsecond => array.as_primitive::<TimestampMicrosecondType>().value(row),
        TimeUnit::Nanosecond => array.as_primitive::<TimestampNanosecondType>().value(row).div_euclid(1_000),
    }
}

fn time_micros(array: &dyn Array, row: usize, unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => i64::from(array.as_primitive::<Time32SecondType>().value(row)) * 1_000_000,
        TimeUnit::Millisecond => i64::from(array.as_primitive::<Time32MillisecondType>().value(row)) * 1_000,
        TimeUnit::Microsecond => array.as_primitive::<Time64MicrosecondType>().value(row),
        TimeUnit::Nanosecond => array.as_primitive::<Time64NanosecondType>().value(row) / 1_000,
    }
}

fn days(array: &dyn Array, row: usize) -> i64 {
    match array.data_type() {
        DataType::Date64 => array.as_primitive::<Date64Type>().value(row).div_euclid(86_400_000),
        _ => array.as_primitive::<Date32Type>().value(row).into(),
    }
}

/// Months, days, microseconds.
fn interval(array: &dyn Array, row: usize) -> (i32, i32, i64) {
    match array.data_type() {
        DataType::Interval(IntervalUnit::YearMonth) => {
            (array.as_primitive::<IntervalYearMonthType>().value(row), 0, 0)
        }
        DataType::Interval(IntervalUnit::DayTime) => {
            let value = array.as_primitive::<IntervalDayTimeType>().value(row);
            (0, value.days, i64::from(value.milliseconds) * 1_000)
        }
        DataType::Interval(IntervalUnit::MonthDayNano) => {
            let value = array.as_primitive::<IntervalMonthDayNanoType>().value(row);
            (value.months, value.days, value.nanoseconds / 1_000)
        }
        DataType::Duration(TimeUnit::Second) => {
            (0, 0, array.as_primitive::<DurationSecondType>().value(row).saturating_mul(1_000_000))
        }
        DataType::Duration(TimeUnit::Millisecond) => {
            (0, 0, array.as_primitive::<DurationMillisecondType>().value(row).saturating_mul(1_000))
        }
        DataType::Duration(TimeUnit::Microsecond) => {
            (0, 0, array.as_primitive::<DurationMicrosecondType>().value(row))
        }
        _ => (0, 0, array.as_primitive::<DurationNanosecondType>().value(row) / 1_000),
    }
}

/// `1 year 2 mons -3 days 04:05:06.7`
fn interval_text((months, days, micros): (i32, i32, i64)) -> String {
    let mut parts = Vec::new();
    let mut part = |count: i32, unit: &str| {
        if count != 0 {
            parts.push(format!("{count} {unit}{}", if count == 1 { "" } else { "s" }));
        }
    };
    part(months / 12, "year");
    part(months % 12, "mon");
    part(days, "day");
    if micros != 0 || parts.is_empty() {
        let sign = if micros < 0 { "-" } else { "" };
        parts.push(format!("{sign}{}", time_text(micros.saturating_abs())));
    }
    parts.join(" ")
}

fn list(array: &dyn Array, row: usize) -> std::sync::Arc<dyn Array> {
    match array.data_type() {
        DataType::LargeList(_) => array.as_list::<i64>().value(row),
        DataType::FixedSizeList(..) => array.as_fixed_size_list().value(row),
        _ => array.as_list::<i32>().value(row),
    }
}

fn bytes(array: &dyn Array, row: usize) -> &[u8] {
    match array.data_type() {
        DataType::LargeBinary => array.as_binary::<i64>().value(row),
        DataType::BinaryView => array.as_binary_view().value(row),
        DataType::FixedSizeBinary(_) => array.as_fixed_size_binary().value(row),
        _ => array.as_binary::<i32>().value(row),
    }
}

fn json(out: &mut Vec<u8>, array: &dyn Array, row: usize) -> Result<(), ArrowError> {
    let mut text = String::new();
    json_value(&mut text, array, row)?;
    out.extend_from_slice(text.as_bytes());
    Ok(())
}

fn as_text(out: &mut Vec<u8>, array: &dyn Array, row: usize) -> Result<(), ArrowError> {
    let text = match array.data_type() {
        DataType::Boolean => if array.as_boolean().value(row) { "t" } else { "f" }.to_owned(),
        DataType::Utf8 => {
            out.extend_from_slice(array.as_string::<i32>().value(row).as_bytes());
            return Ok(());
        }
        DataType::Float16 => text_value(
            &datafusion::arrow::array::Float64Array::from(vec![
                array.as_primitive::<Float16Type>().value(row).to_f64(),
            ]),
            0,
        )?,
        DataType::Float32 => {
            let value = array.as_primitive::<Float32Type>().value(row);
            // The shortest digits of the smaller type; names of what is no number are the larger one's.
            if value.is_finite() {
                value.to_string()
            } else {
                f64::from(value).to_string().replace("inf", "Infinity")
            }
        }
        DataType::Timestamp(unit, zone) => moment_text(micros(array, row, *unit), zone.is_some()),
        DataType::Date32 | DataType::Date64 => day_text(days(array, row)),
        DataType::Time32(unit) | DataType::Time64(unit) => time_text(time_micros(array, row, *unit)),
        DataType::Interval(_) | DataType::Duration(_) => interval_text(interval(array, row)),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            let digits = bytes(array, row).iter().map(|byte| format!("{byte:02x}"));
            std::iter::once("\\x".to_owned()).chain(digits).collect()
        }
        DataType::Struct(_) | DataType::Map(..) => return json(out, array, row),
        DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..) => {
            return if oid(array.data_type()) == types::JSON {
                json(out, array, row)
            } else {
                array_text(out, list(array, row).as_ref())
            };
        }
        _ => text_value(array, row)?,
    };
    out.extend_from_slice(text.as_bytes());
    Ok(())
}

/// `{1,NULL,"a b"}`
fn array_text(out: &mut Vec<u8>, items: &dyn Array) -> Result<(), ArrowError> {
    out.push(b'{');
    let mut item = Vec::new();
    for at in 0..items.len() {
        if at > 0 {
            out.push(b',');
        }
        item.clear();
        if !value(&mut item, items, at, false)? {
            out.extend_from_slice(b"NULL");
            continue;
        }
        let is_special =
            |byte: &u8| matches!(byte, b'{' | b'}' | b',' | b'"' | b'\\') || byte.is_ascii_whitespace();
        if item.is_empty() || item.eq_ignore_ascii_case(b"null") || item.iter().any(is_special) {
            out.push(b'"');
            for byte in &item {
                if matches!(byte, b'"' | b'\\') {
                    out.push(b'\\');
                }
                out.push(*byte);
            }
            out.push(b'"');
        } else {
            out.extend_from_slice(&item);
        }
    }
    out.push(b'}');
    Ok(())
}

fn as_binary(out: &mut Vec<u8>, array: &dyn Array, row: usize) -> Result<(), ArrowError> {
    macro_rules! whole {
        ($type:ty as $to:ty) => {
            out.extend_from_slice(&<$to>::from(array.as_primitive::<$type>().value(row)).to_be_bytes())
        };
    }
    match array.data_type() {
        DataType::Boolean => out.push(array.as_boolean().value(row).into()),
        DataType::Int8 => whole!(Int8Type as i16),
        DataType::Int16 => whole!(Int16Type as i16),
        DataType::UInt8 => whole!(UInt8Type as i16),
        DataType::Int32 => whole!(Int32Type as i32),
        DataType::UInt16 => whole!(UInt16Type as i32),
        DataType::Int64 => whole!(Int64Type as i64),
        DataType::UInt32 => whole!(UInt32Type as i64),
        DataType::Float16 => whole!(Float16Type as f32),
        DataType::Float32 => whole!(Float32Type as f32),
        DataType::Float64 => whole!(Float64Type as f64),
        DataType::Timestamp(unit, _) => {
            out.extend_from_slice(&moment_binary(micros(array, row, *unit)).to_be_bytes());
        }
        DataType::Date32 | DataType::Date64 => {
            out.extend_from_slice(&day_binary(days(array, row)).to_be_bytes());
        }
        DataType::Time32(unit) | DataType::Time64(unit) => {
            out.extend_from_slice(&time_micros(array, row, *unit).to_be_bytes());
        }
        DataType::Interval(_) | DataType::Duration(_) => {
            let (months, days, micros) = interval(array, row);
            out.extend_from_slice(&micros.to_be_bytes());
            out.extend_from_slice(&days.to_be_bytes());
            out.extend_from_slice(&months.to_be_bytes());
        }
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            out.extend_from_slice(bytes(array, row));
        }
        data_type if oid(data_type) == types::NUMERIC => numeric(out, &text_value(array, row)?),
        DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..)
            if oid(array.data_type()) != types::JSON =>
        {
            array_binary(out, list(array, row).as_ref())?;
        }
        // Text and JSON are in binary what they are as text.
        _ => as_text(out, array, row)?,
    }
    Ok(())
}

/// Dimensions, whether there are nulls, type of items; length and first index of the dimension; items.
fn array_binary(out: &mut Vec<u8>, items: &dyn Array) -> Result<(), ArrowError> {
    let mut word = |value: u32| out.extend_from_slice(&value.to_be_bytes());
    word(u32::from(!items.is_empty()));
    word(u32::from(items.null_count() > 0));
    word(oid(items.data_type()));
    if !items.is_empty() {
        word(u32::try_from(items.len()).unwrap_or(u32::MAX));
        word(1);
    }
    for at in 0..items.len() {
        let start = out.len();
        out.extend_from_slice(&[0xff; 4]);
        if value(out, items, at, true)? {
            let length = u32::try_from(out.len() - start - 4).unwrap_or(u32::MAX);
            out[start..start + 4].copy_from_slice(&length.to_be_bytes());
        }
    }
    Ok(())
}

/// A decimal in binary: groups of four digits, weight of the first, sign, digits behind the point.
fn numeric(out: &mut Vec<u8>, text: &str) {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let padded = format!("{}{whole}", "0".repeat((4 - whole.len() % 4) % 4));
    let behind = format!("{fraction}{}", "0".repeat((4 - fraction.len() % 4) % 4));
    let group = |chunk: &[u8]| chunk.iter().fold(0_i16, |sum, digit| sum * 10 + i16::from(digit - b'0'));
    let mut groups: Vec<i16> =
        padded.as_bytes().chunks(4).chain(behind.as_bytes().chunks(4)).map(group).collect();
    let mut weight = (padded.len() / 4) as i16 - 1;
    let leading = groups.iter().take_while(|group| **group == 0).count();
    groups.drain(..leading);
    weight -= leading as i16;
    while groups.last() == Some(&0) {
        groups.pop();
    }
    let sign: u16 = if text.starts_with('-') && !groups.is_empty() { 0x4000 } else { 0 };
    if groups.is_empty() {
        weight = 0;
    }
    let head = [groups.len() as u16, weight as u16, sign, fraction.len() as u16];
    head.iter().for_each(|word| out.extend_from_slice(&word.to_be_bytes()));
    groups.iter().for_each(|group| out.extend_from_slice(&group.to_be_bytes()));
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{
        ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int64Array,
        IntervalMonthDayNanoArray, ListArray, StringArray, TimestampMillisecondArray, UInt64Array,
    };
    use datafusion::arrow::datatypes::{Field, IntervalMonthDayNano};

    use super::*;

    #[track_caller]
    fn check(array: impl Array + 'static, expected_oid: u32, text: &str, binary: &[u8]) {
        let array: ArrayRef = Arc::new(array);
        assert_eq!(oid(array.data_type()), expected_oid);
        let mut out = Vec::new();
        assert!(value(&mut out, array.as_ref(), 0, false).expect("text"));
        assert_eq!(String::from_utf8_lossy(&out), text);
        out.clear();
        assert!(value(&mut out, array.as_ref(), 0, true).expect("binary"));
        assert_eq!(out, binary, "{text}");
    }

    #[test]
    fn plain_values() {
        check(BooleanArray::from(vec![true]), types::BOOL, "t", &[1]);
        check(Int64Array::from(vec![-2]), types::INT8, "-2", &(-2_i64).to_be_bytes());
        check(Float64Array::from(vec![1.5]), types::FLOAT8, "1.5", &1.5_f64.to_be_bytes());
        check(
            Float64Array::from(vec![f64::NEG_INFINITY]),
            types::FLOAT8,
            "-Infinity",
            &f64::NEG_INFINITY.to_be_bytes(),
        );
        check(
            Float32Array::from(vec![f32::NEG_INFINITY]),
            types::FLOAT4,
            "-Infinity",
            &f32::NEG_INFINITY.to_be_bytes(),
        );
        check(Float32Array::from(vec![0.1]), types::FLOAT4, "0.1", &0.1_f32.to_be_bytes());
        check(StringArray::from(vec!["é"]), types::TEXT, "é", "é".as_bytes());
        let times = TimestampMillisecondArray::from(vec![946_684_800_500]);
        check(times.clone(), types::TIMESTAMP, "2000-01-01 00:00:00.5", &500_000_i64.to_be_bytes());
        let times = times.with_timezone("+00:00");
        check(times, types::TIMESTAMPTZ, "2000-01-01 00:00:00.5+00", &500_000_i64.to_be_bytes());
        check(Date32Array::from(vec![10_958]), types::DATE, "2000-01-02", &1_i32.to_be_bytes());
        let interval = IntervalMonthDayNano::new(14, -3, 14_706_700_000_000);
        let binary =
            [&14_706_700_000_i64.to_be_bytes()[..], &(-3_i32).to_be_bytes()[..], &14_i32.to_be_bytes()[..]]
                .concat();
        check(
            IntervalMonthDayNanoArray::from(vec![interval]),
            types::INTERVAL,
            "1 year 2 mons -3 days 04:05:06.7",
            &binary,
        );
    }

    #[test]
    fn numerics() {
        let decimal = |value: i128, scale| {
            Decimal128Array::from(vec![value]).with_precision_and_scale(38, scale).expect("a decimal")
        };
        let words = |words: &[i16]| words.iter().flat_map(|word| word.to_be_bytes()).collect::<Vec<u8>>();
        check(
            UInt64Array::from(vec![u64::MAX]),
            types::NUMERIC,
            "18446744073709551615",
            &words(&[5, 4, 0, 0, 1844, 6744, 737, 955, 1615]),
        );
        check(decimal(-1250, 2), types::NUMERIC, "-12.50", &words(&[2, 0, 0x4000, 2, 12, 5000]));
        check(decimal(5, 4), types::NUMERIC, "0.0005", &words(&[1, -1, 0, 4, 5]));
        check(decimal(0, 2), types::NUMERIC, "0.00", &words(&[0, 0, 0, 2]));
        check(decimal(100_000_000, 0), types::NUMERIC, "100000000", &words(&[1, 2, 0, 0, 1]));
    }

    #[test]
    fn lists() {
        let list = ListArray::from_iter_primitive::<Int64Type, _, _>([Some(vec![Some(1), None])]);
        let head = [0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 20, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 8];
        let binary = [&head[..], &1_i64.to_be_bytes()[..], &[0xff; 4][..]];
        check(list, 1016, "{1,NULL}", &binary.concat());
        let mut out = Vec::new();
        array_text(&mut out, &StringArray::from(vec!["a", "b c", "", "null", "q\"\\", "{"])).expect("text");
        assert_eq!(String::from_utf8_lossy(&out), r#"{a,"b c","","null","q\"\\","{"}"#);
    }

    #[test]
    fn nulls_are_nothing() {
        let mut out = Vec::new();
        for binary in [false, true] {
            assert!(!value(&mut out, &Int64Array::from(vec![None]), 0, binary).expect("a null"));
            let nulls = datafusion::arrow::array::NullArray::new(1);
            assert!(!value(&mut out, &nulls, 0, binary).expect("a null"));
        }
        assert!(out.is_empty());
    }

    #[test]
    fn forms_of_columns() {
        let field = |name: &str| Field::new(name, DataType::Int64, true);
        let schema = Schema::new(vec![field("a"), field("b")]);
        let binary = |formats: &[i16]| {
            let columns = columns(&schema, formats)?;
            Ok::<_, SqlError>(columns.iter().map(|column| column.binary).collect::<Vec<_>>())
        };
        assert_eq!(binary(&[]), Ok(vec![false, false]));
        assert_eq!(binary(&[1]), Ok(vec![true, true]));
        assert_eq!(binary(&[1, 0]), Ok(vec![true, false]));
        assert!(binary(&[1, 0, 1]).is_err());
        assert!(binary(&[2]).is_err());
    }
}
