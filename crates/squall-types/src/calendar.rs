//! Days of the proleptic Gregorian calendar in UTC.
//!
//! The algorithms are Howard Hinnant's `civil_from_days` and `days_from_civil`
//! (<https://howardhinnant.github.io/date_algorithms.html>).

use std::fmt;
use std::time::{Duration, SystemTime};

/// A day, counted from 1970-01-01. Written `YYYY-MM-DD`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(pub u32);

impl Day {
    pub const SECONDS: u64 = 86_400;

    pub fn of_micros(unix_us: u64) -> Self {
        Self::of_seconds(unix_us / 1_000_000)
    }

    pub fn of_seconds(unix_s: u64) -> Self {
        Self(u32::try_from(unix_s / Self::SECONDS).unwrap_or(u32::MAX))
    }

    /// Seconds since 1970 at its beginning.
    pub fn start_s(self) -> u64 {
        u64::from(self.0) * Self::SECONDS
    }

    /// The first day of its month.
    pub fn first_of_month(self) -> Self {
        let (_, _, day) = self.civil();
        Self(self.0 - (day - 1))
    }

    /// The first day of the month after its own.
    pub fn first_of_next_month(self) -> Self {
        // No month has more than 31 days, so this lands in the next one.
        Self(self.first_of_month().0 + 31).first_of_month()
    }

    /// Year, month from 1, day from 1.
    pub fn civil(self) -> (i64, u32, u32) {
        let shifted = i64::from(self.0) + 719_468;
        let era = shifted / 146_097;
        let day_of_era = shifted % 146_097;
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        (year, month as u32, day as u32)
    }

    /// Reads `YYYY-MM-DD`; `None` when it is not a day since 1970.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        if bytes.len() != 10 || bytes[4] != b'-' || bytes[7] != b'-' {
            return None;
        }
        let number = |range: std::ops::Range<usize>| {
            let digits = text.get(range)?;
            digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse::<i64>().ok())?
        };
        let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
        let shifted_year = year - i64::from(month <= 2);
        let era = shifted_year.div_euclid(400);
        let year_of_era = shifted_year.rem_euclid(400);
        let shifted_month = if month > 2 { month - 3 } else { month + 9 };
        let day_of_year = (153 * shifted_month + 2) / 5 + day - 1;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        let parsed = Self(u32::try_from(era * 146_097 + day_of_era - 719_468).ok()?);
        // What does not come back the same (the 31st of a short month) is no day.
        (parsed.to_string() == text).then_some(parsed)
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = self.civil();
        write!(f, "{year:04}-{month:02}-{day:02}")
    }
}

/// Microseconds since 1970; times before are taken for 1970.
pub fn unix_micros(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_day_is_read_as_it_is_written() {
        for number in 0..60_000 {
            assert_eq!(Day::parse(&Day(number).to_string()), Some(Day(number)));
        }
        for bad in ["2026-02-30", "2026-13-01", "2026-1-1", "1969-12-31", "2026-11-2x", ""] {
            assert_eq!(Day::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn months_begin_with_their_first_day_and_end_before_the_next() {
        let mut month = Day(0);
        for number in 0..60_000 {
            let day = Day(number);
            if day.civil().2 == 1 {
                month = day;
            }
            assert_eq!(day.first_of_month(), month);
            let next = day.first_of_next_month();
            assert!(next > day && next.civil().2 == 1 && next.0 - month.0 <= 31);
        }
    }
}
