//! Days and times of the proleptic Gregorian calendar in UTC.
//!
//! The algorithms are Howard Hinnant's `civil_from_days` and `days_from_civil`
//! (<https://howardhinnant.github.io/date_algorithms.html>).

use std::fmt;
use std::time::{Duration, SystemTime};

/// A day, counted from 1970-01-01. Written `YYYY-MM-DD`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Day(pub(crate) u32);

impl Day {
    pub(crate) fn of_micros(unix_us: u64) -> Self {
        Self(u32::try_from(unix_us / 86_400_000_000).unwrap_or(u32::MAX))
    }

    /// Year, month from 1, day from 1.
    pub(crate) fn civil(self) -> (i64, u32, u32) {
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
    pub(crate) fn parse(text: &str) -> Option<Self> {
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
pub(crate) fn unix_micros(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// Writes RFC 3339 times with milliseconds; remembers the last second, since most
/// lines of a batch share it.
#[derive(Default)]
pub(crate) struct Clock {
    second: u64,
    text: String,
}

impl Clock {
    /// `2026-11-23T08:49:28.123Z`
    pub(crate) fn rfc3339(&mut self, time: SystemTime) -> &str {
        let millis = unix_micros(time) / 1000;
        let second = millis / 1000;
        if self.text.is_empty() || self.second != second {
            let day = Day::of_micros(second * 1_000_000);
            let of_day = second % 86_400;
            let (hour, minute) = (of_day / 3600, of_day / 60 % 60);
            self.text = format!("{day}T{hour:02}:{minute:02}:{:02}.", of_day % 60);
            self.second = second;
        } else {
            self.text.truncate(self.text.len() - 4);
        }
        let millis = (millis % 1000) as u32;
        for digit in [millis / 100, millis / 10 % 10, millis % 10] {
            self.text.push(char::from_digit(digit, 10).unwrap_or('0'));
        }
        self.text.push('Z');
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(unix_ms: u64, text: &str) {
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(unix_ms);
        assert_eq!(Clock::default().rfc3339(time), text);
    }

    #[test]
    fn times_are_rfc_3339() {
        check(0, "1970-01-01T00:00:00.000Z");
        check(951_827_696_007, "2000-02-29T12:34:56.007Z");
        check(1_795_423_768_123, "2026-11-23T08:49:28.123Z");
    }

    #[test]
    fn a_clock_repeats_and_moves_on() {
        let mut clock = Clock::default();
        let at = |ms| SystemTime::UNIX_EPOCH + Duration::from_millis(ms);
        assert_eq!(clock.rfc3339(at(1_000)), "1970-01-01T00:00:01.000Z");
        assert_eq!(clock.rfc3339(at(1_999)), "1970-01-01T00:00:01.999Z");
        assert_eq!(clock.rfc3339(at(2_001)), "1970-01-01T00:00:02.001Z");
    }

    #[test]
    fn every_day_is_read_as_it_is_written() {
        for number in 0..60_000 {
            assert_eq!(Day::parse(&Day(number).to_string()), Some(Day(number)));
        }
        for bad in ["2026-02-30", "2026-13-01", "2026-1-1", "1969-12-31", "2026-11-2x", ""] {
            assert_eq!(Day::parse(bad), None, "{bad}");
        }
    }
}
