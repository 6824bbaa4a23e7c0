//! Times and durations of the Prometheus API: seconds with a fraction, or RFC 3339; seconds, or `5m`.

use query::promql::parser::parse_duration;

/// Prometheus' own limits of a timestamp in seconds: what fits milliseconds in 64 bits.
const MAX_SECONDS: f64 = 9_223_372_036_854_775.0;

/// Milliseconds since 1970 of a time parameter.
pub fn parse_time_ms(text: &str) -> Option<i64> {
    // A `+` in a query string is a space to most parsers, and RFC 3339 offsets have one.
    let text = text.trim();
    if let Ok(seconds) = text.parse::<f64>() {
        return (seconds.is_finite() && seconds.abs() <= MAX_SECONDS)
            .then(|| (seconds * 1000.0).round() as i64);
    }
    parse_rfc3339_ms(text)
}

/// Nanoseconds since 1970 of a time parameter about logs: whole numbers of up to ten digits are seconds, longer ones
/// nanoseconds, as Loki takes them; else seconds with a fraction, or RFC 3339.
pub fn parse_time_ns(text: &str) -> Option<i64> {
    let text = text.trim();
    if let Ok(number) = text.parse::<i64>() {
        return if text.len() <= 10 { number.checked_mul(NANOS) } else { Some(number) };
    }
    if let Ok(seconds) = text.parse::<f64>() {
        let ns = seconds * NANOS as f64;
        return (ns.abs() < i64::MAX as f64).then_some(ns.round() as i64);
    }
    // The fraction goes by itself, since milliseconds are too coarse for it.
    let Some((before, fraction)) = text.split_once('.') else {
        return parse_rfc3339_ms(text)?.checked_mul(1_000_000);
    };
    let digits = fraction.len() - fraction.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (fraction, zone) = fraction.split_at(digits);
    if fraction.is_empty() {
        return None;
    }
    let fraction: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let whole = parse_rfc3339_ms(&format!("{before}{zone}"))?.checked_mul(1_000_000)?;
    whole.checked_add(fraction.parse().ok()?)
}

/// Nanoseconds of a second.
const NANOS: i64 = 1_000_000_000;

/// RFC 3339 in UTC with nanoseconds.
pub fn format_rfc3339_ns(ns: i64) -> String {
    let seconds = format_rfc3339(ns.div_euclid(NANOS) * 1000);
    format!("{}.{:09}Z", seconds.trim_end_matches('Z'), ns.rem_euclid(NANOS))
}

/// Milliseconds of a duration parameter; never negative.
pub fn parse_duration_ms(text: &str) -> Option<i64> {
    if let Ok(seconds) = text.parse::<f64>() {
        return (seconds.is_finite() && (0.0..=MAX_SECONDS).contains(&seconds))
            .then(|| (seconds * 1000.0).round() as i64);
    }
    // Units from large to small, each once: what Prometheus takes, not what settings may be written as.
    parse_duration(text).ok()
}

fn parse_rfc3339_ms(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    let number = |from: usize, len: usize| -> Option<i64> {
        let digits = bytes.get(from..from + len)?;
        digits
            .iter()
            .all(u8::is_ascii_digit)
            .then(|| digits.iter().fold(0, |n, d| n * 10 + i64::from(d - b'0')))
    };
    let is = |at: usize, allowed: &[u8]| bytes.get(at).is_some_and(|b| allowed.contains(b));
    let (year, month, day) = (number(0, 4)?, number(5, 2)?, number(8, 2)?);
    let (hour, minute, second) = (number(11, 2)?, number(14, 2)?, number(17, 2)?);
    if !(is(4, b"-") && is(7, b"-") && is(10, b"Tt ") && is(13, b":") && is(16, b":")) {
        return None;
    }
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days_in_month = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=days_in_month).contains(&day) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let mut at = 19;
    let mut fraction_ms = 0;
    if is(at, b".") {
        let digits = bytes[at + 1..].iter().take_while(|b| b.is_ascii_digit()).count();
        if digits == 0 {
            return None;
        }
        // Truncated to milliseconds, as Go does when it converts.
        for place in 0..3 {
            let digit = if place < digits { number(at + 1 + place, 1)? } else { 0 };
            fraction_ms = fraction_ms * 10 + digit;
        }
        at += 1 + digits;
    }
    let offset_minutes = match bytes.get(at)? {
        b'Z' | b'z' if bytes.len() == at + 1 => 0,
        sign @ (b'+' | b'-' | b' ') if bytes.len() == at + 6 && is(at + 3, b":") => {
            let minutes = number(at + 1, 2)? * 60 + number(at + 4, 2)?;
            if *sign == b'-' { -minutes } else { minutes }
        }
        _ => return None,
    };
    let seconds =
        days_from_civil(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - offset_minutes * 60;
    Some(seconds * 1000 + fraction_ms)
}

/// Days since 1970-01-01 of a date in the Gregorian calendar: counts from March, so that the leap day comes last.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let shifted = if month <= 2 { year - 1 } else { year };
    let era = shifted.div_euclid(400);
    let year_of_era = shifted.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// RFC 3339 in UTC with seconds, for people and for `runtimeinfo`.
pub fn format_rfc3339(ms: i64) -> String {
    let (days, second_of_day) = (ms.div_euclid(86_400_000), ms.rem_euclid(86_400_000) / 1000);
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (second_of_day / 3600, second_of_day / 60 % 60, second_of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn time(text: &str, ms: Option<i64>) {
        assert_eq!(parse_time_ms(text), ms, "{text}");
    }

    #[test]
    fn times_of_logs() {
        let check = |text: &str, ns: Option<i64>| assert_eq!(parse_time_ns(text), ns, "{text}");
        check("1500000000", Some(1_500_000_000_000_000_000));
        check("1500000000123456789", Some(1_500_000_000_123_456_789));
        check("1500000000.5", Some(1_500_000_000_500_000_000));
        check("2017-07-14T02:40:00.123456789Z", Some(1_500_000_000_123_456_789));
        check("2017-07-14T04:40:00.5+02:00", Some(1_500_000_000_500_000_000));
        check("2017-07-14T02:40:00Z", Some(1_500_000_000_000_000_000));
        for text in ["", "now", "2017-07-14T02:40:00.Z", "1e30", "9999999999999999999999"] {
            check(text, None);
        }
        assert_eq!(format_rfc3339_ns(1_500_000_000_000_000_007), "2017-07-14T02:40:00.000000007Z");
        assert_eq!(format_rfc3339_ns(-1), "1969-12-31T23:59:59.999999999Z");
    }

    #[test]
    fn times() {
        time("1435781451.781", Some(1_435_781_451_781));
        time("-1.5", Some(-1500));
        time("0", Some(0));
        time("2015-07-01T20:10:51.781Z", Some(1_435_781_451_781));
        time("2015-07-01T22:10:51+02:00", Some(1_435_781_451_000));
        time("2015-07-01T22:10:51 02:00", Some(1_435_781_451_000));
        time("1969-12-31T23:59:59.9999Z", Some(-1));
        time("2000-02-29T00:00:00Z", Some(951_782_400_000));
        for bad in [
            "",
            "now",
            "NaN",
            "inf",
            "1e300",
            "2015-07-01",
            "2015-13-01T00:00:00Z",
            "1900-02-29T00:00:00Z",
            "2015-07-01T20:10:51",
            "2015-06-30T23:59:60Z",
        ] {
            time(bad, None);
        }
    }

    #[test]
    fn durations() {
        assert_eq!(parse_duration_ms("15"), Some(15_000));
        assert_eq!(parse_duration_ms("0.25"), Some(250));
        assert_eq!(parse_duration_ms("1h30m"), Some(5_400_000));
        assert_eq!(parse_duration_ms("1y2w3d4h5m6s7ms"), Some(33_019_506_007));
        for bad in ["", "-1", "x", "NaN", "-5m", "1m1h", "5m 30s", " 5m", "5m5m", "1.5h", "300y"] {
            assert_eq!(parse_duration_ms(bad), None, "{bad}");
        }
    }

    #[test]
    fn dates_return() {
        for ms in [0, 951_782_400_000, 1_435_781_451_000, 4_107_542_399_000, -86_400_000] {
            assert_eq!(parse_time_ms(&format_rfc3339(ms)), Some(ms));
        }
    }
}
