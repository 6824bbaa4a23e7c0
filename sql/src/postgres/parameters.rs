//! Values of parameters as clients send them, as text or in binary form.

use super::moment::{day_text, moment_text, of_day_binary, of_moment_binary};
use super::values::types;
use crate::error::SqlError;
use crate::statement::{CastType, Parameter};

fn wrong(number: usize, what: impl std::fmt::Display) -> SqlError {
    SqlError::invalid(format!("the parameter ${number}: {what}")).with_state("22P02")
}

fn cast(text: impl Into<String>, to: CastType) -> Parameter {
    Parameter::Cast { text: Some(text.into()), to }
}

fn float(value: f64) -> Parameter {
    // With an exponent it is a float whatever its value.
    if value.is_finite() {
        Parameter::Number(format!("{value:e}"))
    } else {
        cast(value.to_string(), CastType::Float)
    }
}

fn fixed<const N: usize>(number: usize, bytes: &[u8]) -> Result<[u8; N], SqlError> {
    bytes.try_into().map_err(|_| wrong(number, format!("{} bytes where its type has {N}", bytes.len())))
}

/// The value of parameter `number`, of a type and in a form (0 text, 1 binary); none for null.
pub fn parameter(number: usize, oid: u32, format: i16, bytes: Option<&[u8]>) -> Result<Parameter, SqlError> {
    let Some(bytes) = bytes else { return Ok(null(oid)) };
    match format {
        0 => {
            let text = std::str::from_utf8(bytes).map_err(|_| wrong(number, "is not UTF-8"))?;
            of_text(number, oid, text)
        }
        1 => of_binary(number, oid, bytes),
        format => Err(wrong(number, format!("the form {format} is neither text (0) nor binary (1)"))),
    }
}

fn null(oid: u32) -> Parameter {
    let to = match oid {
        types::BOOL => CastType::Bool,
        types::INT2 | types::INT4 | types::INT8 | types::OID => CastType::Int,
        types::FLOAT4 | types::FLOAT8 => CastType::Float,
        types::TIMESTAMP | types::TIMESTAMPTZ => CastType::Moment,
        types::DATE => CastType::Day,
        types::INTERVAL => CastType::Interval,
        _ => return Parameter::Null,
    };
    Parameter::Cast { text: None, to }
}

fn of_text(number: usize, oid: u32, text: &str) -> Result<Parameter, SqlError> {
    let trimmed = text.trim();
    let no = |what: &str| wrong(number, format!("{text:?} is no {what}"));
    Ok(match oid {
        types::BOOL => Parameter::Bool(match trimmed.to_ascii_lowercase().as_str() {
            "t" | "true" | "y" | "yes" | "on" | "1" => true,
            "f" | "false" | "n" | "no" | "off" | "0" => false,
            _ => return Err(no("boolean")),
        }),
        types::INT2 | types::INT4 | types::INT8 | types::OID => {
            Parameter::Number(trimmed.parse::<i64>().map_err(|_| no("integer"))?.to_string())
        }
        types::FLOAT4 | types::FLOAT8 => float(trimmed.parse().map_err(|_| no("number"))?),
        types::NUMERIC => {
            let digits = trimmed.strip_prefix(['-', '+']).unwrap_or(trimmed);
            let is_plain = digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
                && digits.bytes().filter(|byte| *byte == b'.').count() <= 1
                && digits.bytes().any(|byte| byte.is_ascii_digit());
            match is_plain {
                true => Parameter::Number(trimmed.strip_prefix('+').unwrap_or(trimmed).to_owned()),
                false => float(trimmed.parse().map_err(|_| no("number"))?),
            }
        }
        types::TIMESTAMP | types::TIMESTAMPTZ => cast(trimmed, CastType::Moment),
        types::DATE => cast(trimmed, CastType::Day),
        types::INTERVAL => cast(trimmed, CastType::Interval),
        0
        | types::UNKNOWN
        | types::TEXT
        | types::VARCHAR
        | types::BPCHAR
        | types::NAME
        | types::JSON
        | types::UUID => Parameter::Text(text.to_owned()),
        oid => return Err(unsupported(number, oid)),
    })
}

fn unsupported(number: usize, oid: u32) -> SqlError {
    let message = format!("the parameter ${number}: values of the type {oid} are not taken");
    SqlError::invalid(message).with_state("0A000").with_hint("send it as text, and cast it in the statement")
}

fn of_binary(number: usize, oid: u32, bytes: &[u8]) -> Result<Parameter, SqlError> {
    let whole = |value: i64| Parameter::Number(value.to_string());
    Ok(match oid {
        types::BOOL => Parameter::Bool(fixed::<1>(number, bytes)? != [0]),
        types::INT2 => whole(i16::from_be_bytes(fixed(number, bytes)?).into()),
        types::INT4 => whole(i32::from_be_bytes(fixed(number, bytes)?).into()),
        types::INT8 => whole(i64::from_be_bytes(fixed(number, bytes)?)),
        types::OID => whole(u32::from_be_bytes(fixed(number, bytes)?).into()),
        types::FLOAT4 => float(f32::from_be_bytes(fixed(number, bytes)?).into()),
        types::FLOAT8 => float(f64::from_be_bytes(fixed(number, bytes)?)),
        types::NUMERIC => {
            let text = numeric(bytes).ok_or_else(|| wrong(number, "is no numeric"))?;
            return of_text(number, types::NUMERIC, &text);
        }
        types::TIMESTAMP | types::TIMESTAMPTZ => {
            let micros = of_moment_binary(i64::from_be_bytes(fixed(number, bytes)?));
            cast(moment_text(micros, false), CastType::Moment)
        }
        types::DATE => {
            cast(day_text(of_day_binary(i32::from_be_bytes(fixed(number, bytes)?))), CastType::Day)
        }
        types::INTERVAL => {
            let bytes: [u8; 16] = fixed(number, bytes)?;
            let [micros, rest] = [&bytes[..8], &bytes[8..]];
            let micros = i64::from_be_bytes(fixed(number, micros)?);
            let days = i32::from_be_bytes(fixed(number, &rest[..4])?);
            let months = i32::from_be_bytes(fixed(number, &rest[4..])?);
            cast(format!("{months} months {days} days {micros} microseconds"), CastType::Interval)
        }
        types::UUID => return Err(unsupported(number, oid)),
        // In text form that is what it is.
        oid => {
            let text = std::str::from_utf8(bytes).map_err(|_| wrong(number, "is not UTF-8"))?;
            return of_text(number, oid, text);
        }
    })
}

/// A binary numeric as digits: counts of groups of four digits, weight of the first, sign, scale, groups.
fn numeric(bytes: &[u8]) -> Option<String> {
    let (head, groups) = bytes.split_first_chunk::<8>()?;
    let word = |at: usize| i16::from_be_bytes([head[at], head[at + 1]]);
    let (count, weight, sign, scale) =
        (word(0), i32::from(word(2)), word(4) as u16, usize::from(word(6) as u16));
    match sign {
        0xc000 => return Some("NaN".to_owned()),
        0xd000 => return Some("Infinity".to_owned()),
        0xf000 => return Some("-Infinity".to_owned()),
        0 | 0x4000 => {}
        _ => return None,
    }
    if groups.len() != usize::try_from(count).ok()? * 2 || !(-64..64).contains(&weight) || scale > 1000 {
        return None;
    }
    let group = |place: i32| {
        let at = usize::try_from(weight - place).ok()?.checked_mul(2)?;
        Some(i16::from_be_bytes([*groups.get(at)?, *groups.get(at + 1)?]))
    };
    let mut out = String::from(if sign == 0x4000 { "-" } else { "" });
    for place in (0..=weight.max(0)).rev() {
        out.push_str(&format!("{:04}", group(place).unwrap_or(0)));
    }
    if scale > 0 {
        let fraction: String =
            (1..=scale.div_ceil(4) as i32).map(|at| format!("{:04}", group(-at).unwrap_or(0))).collect();
        out.push('.');
        out.push_str(fraction.get(..scale)?);
    }
    Some(out)
}

/// Some value of a type, to find out what a statement would answer.
pub fn sample(oid: u32) -> Parameter {
    match oid {
        types::BOOL => Parameter::Bool(false),
        types::INT2 | types::INT4 | types::INT8 | types::OID => Parameter::Number("0".to_owned()),
        types::FLOAT4 | types::FLOAT8 => float(0.0),
        types::NUMERIC => Parameter::Number("0.0".to_owned()),
        types::TIMESTAMP | types::TIMESTAMPTZ => cast("2000-01-01 00:00:00", CastType::Moment),
        types::DATE => cast("2000-01-01", CastType::Day),
        types::INTERVAL => cast("0 days", CastType::Interval),
        _ => Parameter::Text(String::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(text: &str) -> Parameter {
        Parameter::Number(text.to_owned())
    }

    #[test]
    fn values_as_text_and_in_binary() {
        let text = |oid, text: &str| parameter(1, oid, 0, Some(text.as_bytes())).expect("a value");
        let binary = |oid, bytes: &[u8]| parameter(1, oid, 1, Some(bytes)).expect("a value");
        assert_eq!(text(types::INT4, "-7"), number("-7"));
        assert_eq!(binary(types::INT4, &(-7_i32).to_be_bytes()), number("-7"));
        assert_eq!(binary(types::INT8, &7_i64.to_be_bytes()), text(types::INT8, "7"));
        assert_eq!(binary(types::FLOAT8, &1.5_f64.to_be_bytes()), number("1.5e0"));
        assert_eq!(text(types::FLOAT8, "2"), number("2e0"));
        assert_eq!(text(types::FLOAT8, "NaN"), cast("NaN", CastType::Float));
        assert_eq!(text(types::BOOL, "t"), binary(types::BOOL, &[1]));
        assert_eq!(text(types::TEXT, "it's"), Parameter::Text("it's".to_owned()));
        assert_eq!(binary(0, b"x"), Parameter::Text("x".to_owned()));
        assert_eq!(
            binary(types::TIMESTAMPTZ, &0_i64.to_be_bytes()),
            cast("2000-01-01 00:00:00", CastType::Moment)
        );
        assert_eq!(binary(types::DATE, &1_i32.to_be_bytes()), cast("2000-01-02", CastType::Day));
        assert_eq!(text(types::NUMERIC, "-12.50"), number("-12.50"));
        // -12.5, in groups 12 and 5000.
        let bytes = [0, 2, 0, 0, 0x40, 0, 0, 1, 0, 12, 0x13, 0x88];
        assert_eq!(binary(types::NUMERIC, &bytes), number("-0012.5"));
        assert_eq!(parameter(1, types::TEXT, 0, None), Ok(Parameter::Null));
    }

    #[test]
    fn what_is_no_value_is_refused_by_its_number() {
        for (oid, format, bytes) in [
            (types::INT4, 0, b"x".as_slice()),
            (types::INT4, 1, b"abc"),
            (types::INT4, 2, b"1"),
            (types::BOOL, 0, b"maybe"),
            (types::FLOAT8, 0, b""),
            (types::NUMERIC, 0, b"1.2.3"),
            (types::NUMERIC, 1, b"\0\x09\0\0\0\0\0\0"),
            (types::TEXT, 0, b"\xff"),
            (types::TIMESTAMP, 1, b"1"),
            (1007, 0, b"{1}"),
        ] {
            let error = parameter(3, oid, format, Some(bytes)).expect_err("no value");
            assert!(error.message.contains("$3"), "{error}");
        }
    }
}
