//! Dates of HTTP (RFC 9110, section 5.6.7), in all three forms, as seconds of Unix time.

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const LONG_DAYS: [&str; 7] =
    ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

/// `Sun, 06 Nov 1994 08:49:37 GMT`, `Sunday, 06-Nov-94 08:49:37 GMT` or
/// `Sun Nov  6 08:49:37 1994`. `now_s` tells the century of the second.
pub(super) fn parse_date(text: &str, now_s: u64) -> Option<u64> {
    let (day, rest) = match text.split_once(", ") {
        Some(parts) => parts,
        None => return parse_asctime(text),
    };
    // Some write names in another case.
    let is_in = |days: [&str; 7]| days.iter().any(|name| name.eq_ignore_ascii_case(day));
    if is_in(DAYS) {
        let [date, month, year, time, zone] = words(rest)?;
        return (is_gmt(zone) && date.len() == 2)
            .then(|| seconds(number(date, 2)?, month, number(year, 4)?, time))?;
    }
    if !is_in(LONG_DAYS) {
        return None;
    }
    let (date, rest) = rest.split_once('-')?;
    let (month, rest) = rest.split_once('-')?;
    let [year, time, zone] = words(rest)?;
    if !is_gmt(zone) {
        return None;
    }
    let year = number(year, 2)?;
    // What seems to be more than 50 years ahead is the past year with the same digits.
    let (this_year, ..) = civil(now_s / 86_400);
    let mut full = this_year - this_year % 100 + year;
    if full > this_year + 50 {
        full -= 100;
    }
    seconds(number(date, 2)?, month, full, time)
}

fn parse_asctime(text: &str) -> Option<u64> {
    let (day, rest) = text.split_once(' ')?;
    if !DAYS.contains(&day) {
        return None;
    }
    let (month, rest) = rest.split_once(' ')?;
    let [date, time, year] = words(rest.trim_start())?;
    seconds(number(date, date.len())?, month, number(year, 4)?, time)
}

fn is_gmt(zone: &str) -> bool {
    zone.eq_ignore_ascii_case("GMT")
}

/// In the form that is sent.
pub(super) fn write_date(seconds: u64) -> String {
    let days = seconds / 86_400;
    let (year, month, date) = civil(days);
    // 1970-01-01 was a Thursday, and `DAYS` begins with Monday.
    let (day, month) = (DAYS[((days + 3) % 7) as usize], MONTHS[month as usize - 1]);
    let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{day}, {date:02} {month} {year:04} {hour:02}:{minute:02}:{second:02} GMT")
}

fn words<const N: usize>(text: &str) -> Option<[&str; N]> {
    let mut words = text.split(' ');
    let mut found = [""; N];
    for place in &mut found {
        *place = words.next()?;
    }
    words.next().is_none().then_some(found)
}

fn number(text: &str, digits: usize) -> Option<u64> {
    let good = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
    good.then(|| text.parse().ok())?
}

fn seconds(date: u64, month: &str, year: u64, time: &str) -> Option<u64> {
    let month = MONTHS.iter().position(|name| name.eq_ignore_ascii_case(month))? as u64 + 1;
    let (hour, rest) = time.split_once(':')?;
    let (minute, second) = rest.split_once(':')?;
    let (hour, minute, second) = (number(hour, 2)?, number(minute, 2)?, number(second, 2)?);
    // 60 is a leap second.
    if year < 1970 || !(1..=31).contains(&date) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    Some(days_before(year, month, date) * 86_400 + hour * 3_600 + minute * 60 + second)
}

/// Days since 1970 (Howard Hinnant, "chrono-compatible low-level date algorithms").
fn days_before(year: u64, month: u64, date: u64) -> u64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year / 400, year % 400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + date - 1;
    let of_era = of_era * 365 + of_era / 4 - of_era / 100 + of_year;
    era * 146_097 + of_era - 719_468
}

/// Year, month and date of a day since 1970.
fn civil(days: u64) -> (u64, u64, u64) {
    let mut year = 1970 + days / 366;
    while days_before(year + 1, 1, 1) <= days {
        year += 1;
    }
    let mut month = 1;
    while month < 12 && days_before(year, month + 1, 1) <= days {
        month += 1;
    }
    (year, month, days - days_before(year, month, 1) + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_S: u64 = 1_795_651_200; // 2026-11-26

    #[track_caller]
    fn check(text: &str, expected: Option<u64>) {
        assert_eq!(parse_date(text, NOW_S), expected, "{text:?}");
    }

    #[test]
    fn all_three_forms_are_read() {
        for text in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
            "SUN, 06 nov 1994 08:49:37 gmt",
        ] {
            check(text, Some(784_111_777));
        }
        check("Thu, 26 Nov 2026 00:00:00 GMT", Some(NOW_S));
        check("Thu, 29 Feb 2024 00:00:00 GMT", Some(1_709_164_800));
        // 76 is 2076 in 2026, 77 is 1977.
        check("Thursday, 26-Nov-76 00:00:00 GMT", Some(3_373_574_400));
        check("Saturday, 26-Nov-77 00:00:00 GMT", Some(249_350_400));
    }

    #[test]
    fn what_is_written_can_be_read() {
        assert_eq!(write_date(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
        for seconds in (0..5_000_000_000).step_by(86_399 * 13) {
            check(&write_date(seconds), Some(seconds));
        }
    }

    #[test]
    fn nothing_else_is_a_date() {
        for text in [
            "",
            "0",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 06 Nov 1994 08:49:37 CET",
            "Sun, 6 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 24:00:00 GMT",
            "Sun, 06 Nov 94 08:49:37 GMT",
            "Fun, 06 Nov 1994 08:49:37 GMT",
            "1994-11-06T08:49:37Z",
        ] {
            check(text, None);
        }
    }
}
