//! Times as people and other programs read them.

use std::time::SystemTime;

use squall_types::calendar::{Day, unix_micros};

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
    use std::time::Duration;

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
}
