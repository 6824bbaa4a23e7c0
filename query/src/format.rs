//! Numbers and strings as Prometheus (Go) writes them. Label values, JSON and messages depend on these to the
//! last character.

/// The shortest digits that read back as the same number, never with an exponent (Go's `'f', -1`).
pub fn format_f64(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        (if value > 0.0 { "+Inf" } else { "-Inf" }).to_owned()
    } else {
        let Decimal { digits, point } = Decimal::shortest(value);
        let sign = if value.is_sign_negative() { "-" } else { "" };
        match usize::try_from(point) {
            _ if digits.is_empty() => format!("{sign}0"),
            Ok(point) if point >= digits.len() => {
                format!("{sign}{digits}{}", "0".repeat(point - digits.len()))
            }
            Ok(point) if point > 0 => format!("{sign}{}.{}", &digits[..point], &digits[point..]),
            _ => format!("{sign}0.{}{digits}", "0".repeat(point.unsigned_abs() as usize)),
        }
    }
}

/// The shortest digits that read back as a number; of several the closest to it, of two as close the even one. Rust's own
/// formatting takes the other of such two.
struct Decimal {
    /// Without zeros in front and behind; none for zero.
    digits: String,
    /// How many of them stand before the point.
    point: i32,
}

impl Decimal {
    fn shortest(value: f64) -> Self {
        let mut buffer = ryu::Buffer::new();
        let (mantissa, exponent) = split_exponent(buffer.format_finite(value.abs()));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all = format!("{whole}{fraction}");
        let digits = all.trim_start_matches('0');
        let point = whole.len() as i32 + exponent - (all.len() - digits.len()) as i32;
        Self { digits: digits.trim_end_matches('0').to_owned(), point }
    }
}

/// A sample's value in the JSON API: like [`format_f64`], with an exponent below 1e-6 and from 1e21 on.
pub fn format_value(value: f64) -> String {
    let magnitude = value.abs();
    if value.is_finite() && magnitude != 0.0 && !(1e-6..1e21).contains(&magnitude) {
        return exponent_form(value);
    }
    format_f64(value)
}

/// Appends what [`format_value`] gives. Answers of dashboards are mostly these: whole numbers, and others that need no
/// exponent, are written without a detour.
pub fn push_value(out: &mut String, value: f64) {
    let whole = value as i64;
    if whole as f64 == value && whole.unsigned_abs() < 1 << 53 && (whole != 0 || value.is_sign_positive()) {
        out.push_str(itoa::Buffer::new().format(whole));
    } else if (1e-5..1e16).contains(&value.abs()) {
        let mut buffer = ryu::Buffer::new();
        let text = buffer.format_finite(value);
        out.push_str(text.strip_suffix(".0").unwrap_or(text));
    } else {
        out.push_str(&format_value(value));
    }
}

/// Go's `%g`: an exponent below 1e-4 and from 1e6 on (the shortest form counts as six digits of precision).
pub fn format_g(value: f64) -> String {
    if !value.is_finite() || value == 0.0 {
        return if value == 0.0 && value.is_sign_negative() { "-0".to_owned() } else { format_f64(value) };
    }
    let exponent = Decimal::shortest(value).point - 1;
    if (-4..6).contains(&exponent) { format_f64(value) } else { exponent_form(value) }
}

/// Go's `%.<n>g`.
pub fn format_g_precision(value: f64, precision: usize) -> String {
    if !value.is_finite() || value == 0.0 {
        return format_g(value);
    }
    let precision = precision.max(1);
    let scientific = format!("{value:.*e}", precision - 1);
    let (digits, exponent) = split_exponent(&scientific);
    if exponent < -4 || exponent >= precision as i32 {
        let digits = trim_zeros(digits);
        return format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs());
    }
    let decimals = (precision as i32 - 1 - exponent).max(0) as usize;
    trim_zeros(&format!("{value:.decimals$}")).to_owned()
}

/// Go's `'e', -1`: at least two digits of exponent. Not of zero.
fn exponent_form(value: f64) -> String {
    let Decimal { digits, point } = Decimal::shortest(value);
    let sign = if value.is_sign_negative() { "-" } else { "" };
    let (first, rest) = digits.split_at(digits.len().min(1));
    let dot = if rest.is_empty() { "" } else { "." };
    let exponent = point - 1;
    format!("{sign}{first}{dot}{rest}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
}

fn split_exponent(scientific: &str) -> (&str, i32) {
    match scientific.split_once('e') {
        Some((digits, exponent)) => (digits, exponent.parse().unwrap_or(0)),
        None => (scientific, 0),
    }
}

fn trim_zeros(digits: &str) -> &str {
    if digits.contains('.') { digits.trim_end_matches('0').trim_end_matches('.') } else { digits }
}

/// A float as OpenMetrics writes it: always with a point or an exponent (`1.0`).
pub fn format_open_metrics(value: f64) -> String {
    if !value.is_finite() {
        return format_f64(value);
    }
    let text = format_g(value);
    if text.contains(['.', 'e']) { text } else { text + ".0" }
}

/// A string as Go's `strconv.Quote` writes it; bytes that are no UTF-8 come as `\x..`.
pub fn quote_bytes(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() + 2);
    out.push('"');
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\u{7}' => out.push_str("\\a"),
                '\u{8}' => out.push_str("\\b"),
                '\u{b}' => out.push_str("\\v"),
                '\u{c}' => out.push_str("\\f"),
                c if (c as u32) < 0x20 || c as u32 == 0x7f => out.push_str(&format!("\\x{:02x}", c as u32)),
                c => out.push(c),
            }
        }
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out.push('"');
    out
}

/// A label set as Prometheus' messages show it: `{__name__="a", b="c"}`.
pub fn format_labels(labels: &protocol::labels::Labels) -> String {
    let mut out = String::from("{");
    for (i, (name, value)) in labels.iter().enumerate() {
        if i > 0 {
            out.push_str(", ");
        }
        let plain = name
            .bytes()
            .enumerate()
            .all(|(i, b)| b == b'_' || b.is_ascii_alphabetic() || (i > 0 && b.is_ascii_digit()));
        if plain {
            out.push_str(name);
        } else {
            out.push_str(&quote_bytes(name.as_bytes()));
        }
        out.push('=');
        out.push_str(&quote_bytes(value.as_bytes()));
    }
    out.push('}');
    out
}

/// Reads a float as Go's `ParseFloat` does: `Inf`, `+inf`, `infinity`, `NaN` in any case.
pub fn parse_float(text: &str) -> Option<f64> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    match unsigned.to_ascii_lowercase().as_str() {
        "inf" | "infinity" => Some(if text.starts_with('-') { f64::NEG_INFINITY } else { f64::INFINITY }),
        "nan" if unsigned.len() == text.len() => Some(f64::NAN),
        lower if lower.bytes().next().is_some_and(|b| b.is_ascii_digit() || b == b'.') => {
            text.strip_prefix('+').unwrap_or(text).parse().ok()
        }
        _ => None,
    }
}

/// Appends milliseconds as JSON seconds: `1435781451.781`.
pub fn push_seconds(out: &mut String, millis: i64) {
    let magnitude = millis.unsigned_abs();
    if millis < 0 {
        out.push('-');
    }
    out.push_str(itoa::Buffer::new().format(magnitude / 1000));
    if !magnitude.is_multiple_of(1000) {
        // The digits of a thousand and the rest, its first digit aside.
        let mut buffer = itoa::Buffer::new();
        out.push('.');
        out.push_str(&buffer.format(1000 + magnitude % 1000)[1..]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_look_like_gos() {
        for (value, text) in [
            (1.0, "1"),
            (0.1, "0.1"),
            (-0.0, "-0"),
            (1e6, "1000000"),
            (1e21, "1e+21"),
            (1.5e-7, "1.5e-07"),
            (1e-6, "0.000001"),
            (f64::INFINITY, "+Inf"),
            (f64::NAN, "NaN"),
            (9.988465674311579e307, "9.98846567431158e+307"),
            (5e-324, "5e-324"),
            (0.001, "0.001"),
            (-120.0, "-120"),
            // Halfway between two of as many digits.
            (-1379826031047935.25, "-1379826031047935.2"),
            (1379826031047935.75, "1379826031047935.8"),
            (9007199254740993.0, "9007199254740992"),
        ] {
            assert_eq!(format_value(value), text);
        }
    }

    proptest::proptest! {
        #[test]
        fn appended_values_are_the_same(bits: u64, small in -1e7..1e7f64, exponent in -12..24i32) {
            let scaled = small * 10f64.powi(exponent);
            for value in [f64::from_bits(bits), small, small.trunc(), scaled, scaled.trunc(), 0.0, -0.0] {
                let mut appended = String::new();
                push_value(&mut appended, value);
                proptest::prop_assert_eq!(appended, format_value(value));
            }
        }
    }

    #[test]
    fn g_looks_like_gos() {
        for (value, text) in [
            (0.5, "0.5"),
            (100.0, "100"),
            (1e6, "1e+06"),
            (123456.0, "123456"),
            (1234567.0, "1.234567e+06"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (12345678.5, "1.23456785e+07"),
            (-2.0, "-2"),
        ] {
            assert_eq!(format_g(value), text, "{value}");
        }
        assert_eq!(format_g_precision(123.0, 2), "1.2e+02");
        assert_eq!(format_g_precision(0.5, 2), "0.5");
        assert_eq!(format_g_precision(50.0, 2), "50");
        assert_eq!(format_open_metrics(1.0), "1.0");
        assert_eq!(format_open_metrics(0.25), "0.25");
    }

    #[test]
    fn strings_and_times() {
        assert_eq!(quote_bytes(b"a\xc5z\n\""), r#""a\xc5z\n\"""#);
        let mut seconds = String::new();
        for millis in [1_435_781_451_781, 1_500, -20, 0, 3_000, i64::MIN] {
            push_seconds(&mut seconds, millis);
            seconds.push(' ');
        }
        assert_eq!(seconds, "1435781451.781 1.500 -0.020 0 3 -9223372036854775.808 ");
        assert_eq!(parse_float("+Inf"), Some(f64::INFINITY));
        assert_eq!(parse_float(".2"), Some(0.2));
        assert_eq!(parse_float("1e0"), Some(1.0));
        assert_eq!(parse_float("Hello"), None);
        assert_eq!(parse_float(""), None);
    }
}
