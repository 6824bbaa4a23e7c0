//! Durations and sizes as LogQL writes them.

use std::fmt::Write;

const SECOND: i128 = 1_000_000_000;

/// Units of durations, the longest names first.
const DURATIONS: [(&str, i128); 9] = [
    ("ms", 1_000_000),
    ("us", 1_000),
    ("µs", 1_000),
    ("ns", 1),
    ("s", SECOND),
    ("m", 60 * SECOND),
    ("h", 3_600 * SECOND),
    ("d", 86_400 * SECOND),
    ("w", 604_800 * SECOND),
];

/// Nanoseconds of a duration such as `1h30m` or `1.5s`; `with_days` also takes `d` and `w`, which stand in ranges, but not
/// in what is read from lines.
pub fn parse_duration(text: &str, with_days: bool) -> Option<i64> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total = 0i128;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').filter(|end| *end > 0)?;
        let (number, behind) = rest.split_at(digits);
        let (unit, scale) = DURATIONS.iter().find(|(unit, _)| behind.starts_with(unit))?;
        if !with_days && matches!(*unit, "d" | "w") {
            return None;
        }
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let whole: i128 = if whole.is_empty() { 0 } else { whole.parse::<u64>().ok()?.into() };
        total = total.checked_add(whole.checked_mul(*scale)?)?;
        if !fraction.is_empty() {
            let fraction: f64 = format!("0.{fraction}").parse().ok()?;
            total = total.checked_add((fraction * *scale as f64) as i128)?;
        }
        rest = &behind[unit.len()..];
    }
    i64::try_from(if negative { -total } else { total }).ok()
}

/// A duration that [`parse_duration`] reads back.
pub fn format_duration(ns: i64) -> String {
    if ns == 0 {
        return "0s".to_owned();
    }
    let mut out = String::new();
    if ns < 0 {
        out.push('-');
    }
    let mut rest = ns.unsigned_abs();
    for (unit, scale) in [
        ("h", 3_600_000_000_000),
        ("m", 60_000_000_000),
        ("s", 1_000_000_000),
        ("ms", 1_000_000),
        ("us", 1_000),
        ("ns", 1),
    ] {
        if rest >= scale {
            let _ = write!(out, "{}{unit}", rest / scale);
            rest %= scale;
        }
    }
    out
}

/// Bytes of a size such as `20KB` or `1.5 MiB`; case does not matter, and no unit means bytes.
pub fn parse_bytes(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.' && c != ',').unwrap_or(text.len());
    let number: f64 = text[..end].replace(',', "").parse().ok()?;
    let unit = text[end..].trim().to_ascii_lowercase();
    let (letter, base) = match unit.strip_suffix('b').unwrap_or(&unit) {
        "" => ("", 1000u64),
        bare => match bare.strip_suffix('i') {
            Some(letter) => (letter, 1024),
            None => (bare, 1000),
        },
    };
    let power = match letter {
        "" if base == 1000 => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        "e" => 6,
        _ => return None,
    };
    let bytes = number * (base.pow(power)) as f64;
    (bytes.is_finite() && bytes < u64::MAX as f64).then_some(bytes as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let check =
            |text: &str, expected: Option<i64>| assert_eq!(parse_duration(text, true), expected, "{text}");
        check("5m", Some(300_000_000_000));
        check("1h30m", Some(5_400_000_000_000));
        check("1.5s", Some(1_500_000_000));
        check("250ms", Some(250_000_000));
        check("10µs", Some(10_000));
        check("1d", Some(86_400_000_000_000));
        check("-1s", Some(-1_000_000_000));
        check("0", Some(0));
        for text in ["", "5", "m", "1x", "5m3", ".s", "1..5s", "99999999999w"] {
            check(text, None);
        }
        assert_eq!(parse_duration("1d", false), None);
        for ns in [0, 1, -1_500_000_000, 5_400_000_000_001, i64::MAX, i64::MIN + 1] {
            assert_eq!(parse_duration(&format_duration(ns), false), Some(ns));
        }
    }

    #[test]
    fn sizes() {
        let check = |text: &str, expected: Option<u64>| assert_eq!(parse_bytes(text), expected, "{text}");
        check("20KB", Some(20_000));
        check("1KiB", Some(1024));
        check("1.5 MiB", Some(1_572_864));
        check("42", Some(42));
        check("42B", Some(42));
        check("3g", Some(3_000_000_000));
        check("1,000", Some(1000));
        for text in ["", "KB", "1x", "1iB", "-1", "999999EB"] {
            check(text, None);
        }
    }
}
