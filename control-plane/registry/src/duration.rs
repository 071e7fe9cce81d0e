//! Ages for people, as `k8s.io/apimachinery/pkg/util/duration`.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// How long ago an RFC 3339 time was, or `<unknown>`.
pub fn since(timestamp: &str, now: OffsetDateTime) -> String {
    parse(timestamp).map_or_else(|| "<unknown>".to_owned(), |then| human(now - then))
}

pub fn parse(timestamp: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(timestamp, &Rfc3339).ok()
}

/// RFC 3339 in UTC, to the second, as `metav1.Time`.
pub fn format(when: OffsetDateTime) -> String {
    let when = when.to_offset(time::UtcOffset::UTC).replace_nanosecond(0).unwrap_or(when);
    when.format(&Rfc3339).unwrap_or_default()
}

/// `HumanDuration`: at most two units, three significant digits or so.
pub fn human(duration: time::Duration) -> String {
    const MINUTE: i64 = 60;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;
    const YEAR: i64 = 365 * DAY;
    // Go truncates to whole seconds; an age up to two seconds in the future is clock skew.
    let seconds = duration.whole_seconds();
    let with = |value: i64, unit: char, rest: i64, rest_unit: char| {
        if rest == 0 { format!("{value}{unit}") } else { format!("{value}{unit}{rest}{rest_unit}") }
    };
    match seconds {
        ..=-2 => "<invalid>".to_owned(),
        -1 => "0s".to_owned(),
        s if s < 2 * MINUTE => format!("{s}s"),
        s if s < 10 * MINUTE => with(s / MINUTE, 'm', s % MINUTE, 's'),
        s if s < 3 * HOUR => format!("{}m", s / MINUTE),
        s if s < 8 * HOUR => with(s / HOUR, 'h', s / MINUTE % 60, 'm'),
        s if s < 2 * DAY => format!("{}h", s / HOUR),
        s if s < 8 * DAY => with(s / DAY, 'd', s / HOUR % 24, 'h'),
        s if s < 2 * YEAR => format!("{}d", s / DAY),
        s if s < 8 * YEAR => with(s / YEAR, 'y', s / DAY % 365, 'd'),
        s => format!("{}y", s / YEAR),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(seconds: i64, expected: &str) {
        assert_eq!(human(time::Duration::seconds(seconds)), expected);
    }

    #[test]
    fn a_duration_has_at_most_two_units() {
        check(-2, "<invalid>");
        check(-1, "0s");
        check(0, "0s");
        check(119, "119s");
        check(120, "2m");
        check(125, "2m5s");
        check(600, "10m");
        check(3 * 3600 - 1, "179m");
        check(3 * 3600, "3h");
        check(3 * 3600 + 61, "3h1m");
        check(9 * 3600 + 61, "9h");
        check(47 * 3600 + 3599, "47h");
        check(2 * 86400, "2d");
        check(2 * 86400 + 7200, "2d2h");
        check(8 * 86400, "8d");
        check(729 * 86400, "729d");
        check(2 * 365 * 86400, "2y");
        check(2 * 365 * 86400 + 86400, "2y1d");
        check(8 * 365 * 86400, "8y");
    }

    #[test]
    fn an_unparsable_time_is_unknown() {
        assert_eq!(since("", OffsetDateTime::UNIX_EPOCH), "<unknown>");
    }
}
