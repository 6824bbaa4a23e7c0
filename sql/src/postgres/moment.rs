//! Moments and days in PostgreSQL's forms.
//!
//! Text is ISO in UTC, `2026-01-31 12:00:00.5+00`; binary are microseconds or days since 2000-01-01. What has no
//! form, years after 294247 and before 4714 BC, is `infinity` and `-infinity` in both.

use std::fmt::Write;

/// Days from 1970 to 2000.
const EPOCH_DAYS: i64 = 10_957;
const DAY_MICROS: i64 = 86_400_000_000;
const EPOCH_MICROS: i64 = EPOCH_DAYS * DAY_MICROS;

/// The first day that has a form, 4714-11-24 BC, and the first behind the last that microseconds since 1970 reach.
const FIRST_DAY: i64 = -2_440_588;
const END_DAY: i64 = 106_751_991;

/// Year, month, day of a day since 1970 in the Gregorian calendar; years before 1 are 0 and less.
fn civil(day: i64) -> (i64, i64, i64) {
    // Eras of 400 years that begin on the 1st of March, so that leap days are at the ends of years.
    let shifted = day + 719_468;
    let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

fn write_day(out: &mut String, day: i64) -> bool {
    let (year, month, day) = civil(day);
    let (shown, is_before) = if year < 1 { (1 - year, true) } else { (year, false) };
    let _ = write!(out, "{shown:04}-{month:02}-{day:02}");
    is_before
}

/// A time of the day.
pub(super) fn time_text(micros: i64) -> String {
    let seconds = micros / 1_000_000;
    let mut out = format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    let fraction = micros % 1_000_000;
    if fraction != 0 {
        let _ = write!(out, ".{fraction:06}");
        out.truncate(out.trim_end_matches('0').len());
    }
    out
}

fn infinity(is_late: bool) -> &'static str {
    if is_late { "infinity" } else { "-infinity" }
}

/// A moment as text, by microseconds since 1970.
pub(super) fn moment_text(micros: i64, with_zone: bool) -> String {
    let (day, of_day) = (micros.div_euclid(DAY_MICROS), micros.rem_euclid(DAY_MICROS));
    if !(FIRST_DAY..END_DAY).contains(&day) {
        return infinity(micros > 0).to_owned();
    }
    let mut out = String::new();
    let is_before = write_day(&mut out, day);
    out.push(' ');
    out.push_str(&time_text(of_day));
    if with_zone {
        out.push_str("+00");
    }
    if is_before {
        out.push_str(" BC");
    }
    out
}

/// The same in binary.
pub(super) fn moment_binary(micros: i64) -> i64 {
    if (FIRST_DAY..END_DAY).contains(&micros.div_euclid(DAY_MICROS)) {
        micros.saturating_sub(EPOCH_MICROS)
    } else if micros > 0 {
        i64::MAX
    } else {
        i64::MIN
    }
}

/// Microseconds since 1970 of a binary moment; the infinities are the ends of time.
pub(super) fn of_moment_binary(micros: i64) -> i64 {
    micros.saturating_add(EPOCH_MICROS)
}

/// A day as text, by days since 1970.
pub(super) fn day_text(day: i64) -> String {
    if !(FIRST_DAY..END_DAY).contains(&day) {
        return infinity(day > 0).to_owned();
    }
    let mut out = String::new();
    if write_day(&mut out, day) {
        out.push_str(" BC");
    }
    out
}

/// The same in binary.
pub(super) fn day_binary(day: i64) -> i32 {
    if (FIRST_DAY..END_DAY).contains(&day) {
        i32::try_from(day - EPOCH_DAYS).unwrap_or(i32::MAX)
    } else if day > 0 {
        i32::MAX
    } else {
        i32::MIN
    }
}

/// Days since 1970 of a binary day.
pub(super) fn of_day_binary(day: i32) -> i64 {
    i64::from(day) + EPOCH_DAYS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments() {
        assert_eq!(moment_text(0, true), "1970-01-01 00:00:00+00");
        assert_eq!(moment_text(-1, false), "1969-12-31 23:59:59.999999");
        assert_eq!(moment_text(1_772_323_199_500_000, true), "2026-02-28 23:59:59.5+00");
        assert_eq!(moment_text(951_782_400_000_000, false), "2000-02-29 00:00:00");
        assert_eq!(moment_text(-62_167_219_200_000_000, true), "0001-01-01 00:00:00+00 BC");
        assert_eq!(moment_text(i64::MAX, true), "infinity");
        assert_eq!(moment_text(i64::MIN, true), "-infinity");
        assert_eq!(moment_binary(EPOCH_MICROS), 0);
        assert_eq!((moment_binary(i64::MAX), moment_binary(i64::MIN)), (i64::MAX, i64::MIN));
        assert_eq!(of_moment_binary(moment_binary(77)), 77);
        assert_eq!(of_moment_binary(i64::MAX), i64::MAX);
    }

    #[test]
    fn days() {
        assert_eq!(day_text(EPOCH_DAYS), "2000-01-01");
        assert_eq!((day_binary(EPOCH_DAYS), of_day_binary(0)), (0, EPOCH_DAYS));
        assert_eq!(day_text(i64::MIN), "-infinity");
        assert_eq!(day_binary(i64::MAX), i32::MAX);
        assert_eq!(day_text(FIRST_DAY), "4714-11-24 BC");
    }
}
