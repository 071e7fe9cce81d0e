//! Which of the times that passed is the one to act on: upstream's `mostRecentScheduleTime`.

use chrono::{DateTime, Duration, Utc};
use xebec_machinery::cron::Schedule;

/// More missed times than this are told of: a clock jumped, or nobody was there for long.
const MANY: i64 = 100;

#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Missed {
    /// The latest time that is due.
    pub latest: Option<DateTime<Utc>>,
    pub many: bool,
}

/// `earliest` is the last time that was acted on, or the beginning.
pub(super) fn missed(schedule: &Schedule, earliest: DateTime<Utc>, now: DateTime<Utc>) -> Missed {
    let Some(first) = schedule.next(earliest).filter(|first| *first <= now) else { return Missed::default() };
    let one = Missed { latest: Some(first), many: false };
    let Some(second) = schedule.next(first).filter(|second| *second <= now) else { return one };
    // Not all are walked: after a year of minutes that would take long. The walk begins as near to now
    // as an even schedule allows, and further back if an uneven one has nothing there.
    let interval = (second - first).num_seconds().max(1);
    let count = (now - first).num_seconds() / interval + 1;
    let mut back = (count - 2).max(0);
    let latest = loop {
        let from = first + Duration::seconds(back * interval);
        let due = std::iter::successors(Some(from), |at| schedule.next(*at).filter(|next| *next <= now));
        match due.skip(1).last() {
            Some(latest) => break latest,
            None if back == 0 => break first,
            None => back /= 2,
        }
    };
    Missed { latest: Some(latest), many: count > MANY }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        DateTime::parse_from_rfc3339(text).expect("RFC 3339").to_utc()
    }

    #[track_caller]
    fn check(schedule: &str, earliest: &str, now: &str, expected: Option<&str>, many: bool) {
        let schedule = Schedule::parse(schedule, None).expect("a schedule");
        let found = missed(&schedule, at(earliest), at(now));
        assert_eq!(found, Missed { latest: expected.map(at), many }, "{earliest} to {now}");
    }

    #[test]
    fn only_the_latest_time_is_acted_on() {
        let hourly = "0 * * * *";
        check(hourly, "2026-01-01T10:00:00Z", "2026-01-01T10:59:59Z", None, false);
        check(hourly, "2026-01-01T10:00:00Z", "2026-01-01T11:00:00Z", Some("2026-01-01T11:00:00Z"), false);
        check(hourly, "2026-01-01T10:00:00Z", "2026-01-01T13:30:00Z", Some("2026-01-01T13:00:00Z"), false);
        check(hourly, "2026-01-01T10:00:00Z", "2026-01-09T13:30:00Z", Some("2026-01-09T13:00:00Z"), true);
        check("* * * * *", "2020-01-01T00:00:00Z", "2026-01-01T00:00:30Z", Some("2026-01-01T00:00:00Z"), true);
        // An uneven one: weekdays at 6, 10 and 14 o'clock.
        check("30 6-16/4 * * 1-5", "2026-01-02T06:30:00Z", "2026-01-04T12:00:00Z", Some("2026-01-02T14:30:00Z"), false);
        check("59 23 31 2 *", "2026-01-01T00:00:00Z", "2026-01-04T00:00:00Z", None, false);
    }
}
