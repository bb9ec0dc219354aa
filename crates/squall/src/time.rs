//! Times of the API, which are RFC 3339 in UTC, in the words of the person who reads them.

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970 of an RFC 3339 time in UTC, such as `2026-01-31T09:05:07.123Z`.
pub(crate) fn parse_utc_ms(text: &str) -> Option<i64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let mut date = date.splitn(3, '-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let (whole, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let mut clock = whole.splitn(3, ':').map(|part| part.parse::<i64>().ok());
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    let in_range = (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && (0..24).contains(&hour)
        && (0..60).contains(&minute)
        && (0..=60).contains(&second);
    if !in_range || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let milliseconds: i64 = format!("{fraction:0<3}")[..3].parse().ok()?;
    let seconds = ((days_from_civil(year, month, day) * 24 + hour) * 60 + minute) * 60 + second;
    Some(seconds * 1000 + milliseconds)
}

/// Days since 1970-01-01 of a date of the Gregorian calendar (Howard Hinnant,
/// "chrono-compatible low-level date algorithms", days_from_civil).
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// `14:05:07.123` in the local time zone.
pub(crate) fn local_clock(utc: &str) -> String {
    let Some((ms, local)) = parse_utc_ms(utc).and_then(|ms| Some((ms, local(ms)?))) else {
        return utc.to_owned();
    };
    format!(
        "{:02}:{:02}:{:02}.{:03}",
        local.tm_hour,
        local.tm_min,
        local.tm_sec,
        ms.rem_euclid(1000)
    )
}

/// `2026-01-31 14:05` in the local time zone.
pub(crate) fn local_minute(utc: &str) -> String {
    let Some(local) = parse_utc_ms(utc).and_then(local) else { return utc.to_owned() };
    format!(
        "{:04}-{:02}-{:02} {:02}:{:02}",
        local.tm_year + 1900,
        local.tm_mon + 1,
        local.tm_mday,
        local.tm_hour,
        local.tm_min
    )
}

fn local(ms: i64) -> Option<libc::tm> {
    let seconds: libc::time_t = ms.div_euclid(1000);
    // SAFETY: tm is plain data, for which all zeroes is a value (its zone may be null).
    let mut parts: libc::tm = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are valid for the call, and localtime_r keeps neither.
    let done = unsafe { libc::localtime_r(&raw const seconds, &raw mut parts) };
    (!done.is_null()).then_some(parts)
}

/// Seconds of `30d`, `12h`, `15m` or `90s`.
pub(crate) fn parse_duration_s(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is not a duration such as 30d, 12h, 15m or 90s");
    let unit_s = match text.chars().last().ok_or_else(wrong)? {
        'd' => 86_400,
        'h' => 3_600,
        'm' => 60,
        's' => 1,
        _ => return Err(wrong()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    let seconds = number.checked_mul(unit_s).filter(|seconds| *seconds <= DURATION_MAX_S);
    let seconds = seconds.ok_or_else(|| {
        let days = DURATION_MAX_S / 86_400;
        format!("{text} is more than {days}d; leave it out for no end")
    })?;
    if seconds == 0 { Err(wrong()) } else { Ok(seconds) }
}

/// What the admin API takes.
const DURATION_MAX_S: u64 = u32::MAX as u64;

/// Takes a day as the API does.
pub(crate) fn parse_day(text: &str) -> Result<String, String> {
    let shaped = text.len() == 10 && parse_utc_ms(&format!("{text}T00:00:00Z")).is_some();
    if shaped { Ok(text.to_owned()) } else { Err("write a day as YYYY-MM-DD".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn utc_times_are_read() {
        assert_eq!(parse_utc_ms("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(parse_utc_ms("2000-03-01T00:00:00.5Z"), Some(951_868_800_500));
        assert_eq!(parse_utc_ms("2026-11-23T14:26:24.123456Z"), Some(1_795_443_984_123));
        for wrong in ["", "2026", "2026-13-01T00:00:00Z", "2026-01-01T00:00:00+01:00"] {
            assert_eq!(parse_utc_ms(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn durations_and_days_are_read() {
        assert_eq!(parse_duration_s("30d"), Ok(2_592_000));
        assert_eq!(parse_duration_s("90s"), Ok(90));
        assert_eq!(parse_duration_s("49710d"), Ok(4_294_944_000));
        for long in ["49711d", "99999999999999999999s", "9999999999999999999d"] {
            assert!(parse_duration_s(long).is_err(), "{long}");
        }
        for wrong in ["", "d", "3w", "-1d", "0s", "1.5h"] {
            assert!(parse_duration_s(wrong).is_err(), "{wrong}");
        }
        assert!(parse_day("2026-01-31").is_ok());
        assert!(parse_day("31.1.2026").is_err() && parse_day("2026-1-31").is_err());
    }
}
