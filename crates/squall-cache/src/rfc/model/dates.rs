//! Dates as a server writes them. Nothing here reads any.

/// In the form that is sent today.
pub(super) fn written(seconds: u64) -> String {
    let days = seconds / 86_400;
    // 1970-01-01 was a Thursday.
    let day = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"][(days % 7) as usize];
    let (year, month, date) = civil(days);
    let month =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"][month];
    let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{day}, {date:02} {month} {year} {hour:02}:{minute:02}:{second:02} GMT")
}

fn civil(mut days: u64) -> (u64, usize, u64) {
    let leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let mut year = 1970;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let months = [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while days >= months[month] {
        days -= months[month];
        month += 1;
    }
    (year, month, days + 1)
}

#[test]
fn dates_are_those_of_the_calendar() {
    assert_eq!(written(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
    assert_eq!(written(1_709_164_800), "Thu, 29 Feb 2024 00:00:00 GMT");
    assert_eq!(written(1_800_000_000), "Fri, 15 Jan 2027 08:00:00 GMT");
}
