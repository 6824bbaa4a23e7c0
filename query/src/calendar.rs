//! Dates in UTC from seconds since 1970, for the time functions: proleptic Gregorian, any year.

/// A day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Date {
    /// Year, may be negative.
    pub year: i64,
    /// Month from 1.
    pub month: u32,
    /// Day of the month from 1.
    pub day: u32,
}

/// Whether a year has a 29th of February.
pub fn is_leap(year: i64) -> bool {
    year.rem_euclid(4) == 0 && (year.rem_euclid(100) != 0 || year.rem_euclid(400) == 0)
}

/// Days of a month.
pub fn days_in_month(year: i64, month: u32) -> u32 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

impl Date {
    /// The day that holds a second.
    pub fn from_unix(seconds: i64) -> Self {
        // Days are counted from 1 March of year 0, so that leap days end a year and months follow one formula.
        let days = seconds.div_euclid(86_400) + 719_468;
        let era = days.div_euclid(146_097);
        let of_era = days.rem_euclid(146_097);
        let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * of_year + 2) / 153;
        let day = (of_year - (153 * shifted_month + 2) / 5 + 1) as u32;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 } as u32;
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        Self { year, month, day }
    }

    /// Day of the year from 1.
    pub fn day_of_year(self) -> u32 {
        (1..self.month).map(|month| days_in_month(self.year, month)).sum::<u32>() + self.day
    }
}

/// Day of the week of a second, 0 is Sunday.
pub fn day_of_week(seconds: i64) -> i64 {
    (seconds.div_euclid(86_400) + 4).rem_euclid(7)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_days() {
        for (seconds, (year, month, day), week) in [
            (0, (1970, 1, 1), 4),
            (1_136_239_445, (2006, 1, 2), 1),
            (1_230_767_999, (2008, 12, 31), 3),
            (1_456_790_399, (2016, 2, 29), 1),
            (-1, (1969, 12, 31), 3),
            (-62_135_596_801, (0, 12, 31), 0),
        ] {
            assert_eq!(Date::from_unix(seconds), Date { year, month, day }, "{seconds}");
            assert_eq!(day_of_week(seconds), week, "{seconds}");
        }
        assert_eq!(Date::from_unix(1_483_191_420).day_of_year(), 366);
    }

    #[test]
    fn every_day_follows_the_one_before() {
        let mut before = Date::from_unix(-800_000 * 86_400);
        for day in -799_999..800_000_i64 {
            let date = Date::from_unix(day * 86_400);
            let expected = if before.day < days_in_month(before.year, before.month) {
                Date { day: before.day + 1, ..before }
            } else if before.month < 12 {
                Date { day: 1, month: before.month + 1, ..before }
            } else {
                Date { day: 1, month: 1, year: before.year + 1 }
            };
            assert_eq!(date, expected);
            before = date;
        }
    }
}
