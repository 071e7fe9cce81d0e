//! Times as the API writes them: `Time` has whole seconds, `MicroTime` six digits; both in UTC.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// As a `metav1.Time`: `2026-01-02T03:04:05Z`.
pub fn rfc3339(at: SystemTime) -> String {
    let mut text = date_time(at.into());
    text.push('Z');
    text
}

/// As a `metav1.MicroTime`: `2026-01-02T03:04:05.000006Z`.
pub fn rfc3339_micro(at: SystemTime) -> String {
    let at = OffsetDateTime::from(at);
    format!("{}.{:06}Z", date_time(at), at.microsecond())
}

fn date_time(at: OffsetDateTime) -> String {
    let (year, month, day) = at.to_calendar_date();
    let (hour, minute, second) = at.to_hms();
    format!("{year:04}-{:02}-{day:02}T{hour:02}:{minute:02}:{second:02}", u8::from(month))
}

/// Any RFC 3339 time, with any offset and fraction.
pub fn parse(text: &str) -> Option<SystemTime> {
    OffsetDateTime::parse(text, &Rfc3339).ok().map(SystemTime::from)
}

/// Seconds and nanoseconds since the epoch, as protobuf's Timestamp has them.
pub fn from_unix(seconds: i64, nanos: u32) -> Option<SystemTime> {
    let fraction = Duration::from_nanos(nanos.into());
    let whole = Duration::from_secs(seconds.unsigned_abs());
    let base = if seconds < 0 { UNIX_EPOCH.checked_sub(whole) } else { UNIX_EPOCH.checked_add(whole) };
    // Years of more than four digits cannot be written.
    base?.checked_add(fraction).filter(|_| (-62_135_596_800..253_402_300_800).contains(&seconds))
}

/// The reverse of [`from_unix`].
pub fn to_unix(at: SystemTime) -> (i64, u32) {
    let at = OffsetDateTime::from(at);
    (at.unix_timestamp(), at.nanosecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_round_trip() {
        let check = |text: &str, seconds: &str, micros: &str| {
            let at = parse(text).expect("a time");
            assert_eq!((rfc3339(at).as_str(), rfc3339_micro(at).as_str()), (seconds, micros));
            let (s, n) = to_unix(at);
            assert_eq!(from_unix(s, n), Some(at));
        };
        check("2026-01-02T03:04:05Z", "2026-01-02T03:04:05Z", "2026-01-02T03:04:05.000000Z");
        check("2026-01-02T05:04:05.1234567+02:00", "2026-01-02T03:04:05Z", "2026-01-02T03:04:05.123456Z");
        check("1969-12-31T23:59:59.5Z", "1969-12-31T23:59:59Z", "1969-12-31T23:59:59.500000Z");
        assert_eq!(parse("yesterday"), None);
    }
}
