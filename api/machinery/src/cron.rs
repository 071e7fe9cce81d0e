//! Schedules: the five fields and descriptors of `robfig/cron`'s `ParseStandard`, which is what upstream uses, and its
//! words for what is none. Its Rust counterparts differ in day-of-week numbers, in `?` and in how day of month and day
//! of week combine.

mod field;

use chrono::{DateTime, Datelike, Duration, DurationRound, TimeZone, Timelike, Utc};
pub use chrono_tz::Tz;

use crate::duration::{self, InvalidDuration};
pub use field::InvalidField;
use field::{FIELDS, Field};

/// A schedule that is not due for so long never is.
const YEARS_MAX: i64 = 5;
const EVERY: &str = "@every ";

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Schedule {
    when: When,
    zone: Tz,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum When {
    Fields([Field; 5]),
    Every(Duration),
}

/// Why a text is no schedule.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum InvalidSchedule {
    #[error("empty spec string")]
    Empty,
    #[error("provided bad location {}: {_0}", .0.0)]
    Zone(UnknownZone),
    #[error("expected exactly 5 fields, found {found}: [{text}]")]
    Count { found: usize, text: String },
    #[error("unrecognized descriptor: {0}")]
    Descriptor(String),
    #[error("failed to parse duration {text}: {why}")]
    Every { text: String, why: InvalidDuration },
    #[error(transparent)]
    Field(#[from] InvalidField),
}

/// The time zone database does not have it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("unknown time zone {0}")]
pub struct UnknownZone(pub String);

/// A time zone by its name in the database. As in a container, the local one is UTC.
pub fn zone(name: &str) -> Result<Tz, UnknownZone> {
    match name {
        "" | "Local" => Ok(Tz::UTC),
        name => name.parse().map_err(|_| UnknownZone(name.to_owned())),
    }
}

impl Schedule {
    /// `zone` is the CronJob's `timeZone`, UTC without one; `TZ=` in the text comes first.
    pub fn parse(text: &str, zone: Option<Tz>) -> Result<Self, InvalidSchedule> {
        if text.is_empty() {
            return Err(InvalidSchedule::Empty);
        }
        let (mut rest, mut zone) = (text, zone.unwrap_or(Tz::UTC));
        if let Some(prefixed) = text.strip_prefix("CRON_TZ=").or_else(|| text.strip_prefix("TZ=")) {
            let (name, after) = prefixed.split_once(' ').unwrap_or((prefixed, ""));
            zone = self::zone(name).map_err(InvalidSchedule::Zone)?;
            rest = after.trim();
        }
        let when = if rest.starts_with('@') { descriptor(rest)? } else { When::Fields(fields(rest)?) };
        Ok(Self { when, zone })
    }

    #[must_use]
    pub fn zone(&self) -> Tz {
        self.zone
    }

    /// The first time after `after`, if there is one in the next years.
    #[must_use]
    pub fn next(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match &self.when {
            When::Every(interval) => after.checked_add_signed(*interval)?.duration_trunc(Duration::seconds(1)).ok(),
            When::Fields(fields) => next(fields, self.zone, after),
        }
    }
}

/// Walks the clock of the zone: by days as long as the day does not match, by hours, by minutes. An
/// hour that the clock skips has no times, and one that it repeats has them twice, as in `robfig/cron`.
fn next(fields: &[Field; 5], zone: Tz, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let [minutes, hours, ..] = fields;
    let mut at = after.duration_trunc(Duration::minutes(1)).ok()? + Duration::minutes(1);
    let end = after + Duration::days(366 * YEARS_MAX);
    while at < end {
        let local = zone.from_utc_datetime(&at.naive_utc());
        let to_next_hour = Duration::minutes(i64::from(60 - local.minute()));
        if !is_day(fields, &local) {
            // Midnight may be moved by a change of the clock: the last hours are walked.
            let left = 24 - i64::from(local.hour());
            at += if left > 4 { to_next_hour + Duration::hours(left - 4) } else { to_next_hour };
        } else if !hours.has(local.hour()) {
            at += to_next_hour;
        } else if !minutes.has(local.minute()) {
            at += Duration::minutes(1);
        } else {
            return Some(at);
        }
    }
    None
}

/// Day of month and day of week must both match if one is a star, and else one of them.
fn is_day(fields: &[Field; 5], local: &DateTime<Tz>) -> bool {
    let [_, _, day, month, weekday] = fields;
    let (of_month, of_week) = (day.has(local.day()), weekday.has(local.weekday().num_days_from_sunday()));
    let is_day = if day.star || weekday.star { of_month && of_week } else { of_month || of_week };
    month.has(local.month()) && is_day
}

fn fields(text: &str) -> Result<[Field; 5], InvalidSchedule> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let [minute, hour, day, month, weekday] = words[..] else {
        return Err(InvalidSchedule::Count { found: words.len(), text: words.join(" ") });
    };
    let [m, h, d, mo, w] = &FIELDS;
    Ok([m.field(minute)?, h.field(hour)?, d.field(day)?, mo.field(month)?, w.field(weekday)?])
}

fn descriptor(text: &str) -> Result<When, InvalidSchedule> {
    let fields = |text: &str| fields(text).map(When::Fields);
    match text {
        "@yearly" | "@annually" => fields("0 0 1 1 *"),
        "@monthly" => fields("0 0 1 * *"),
        "@weekly" => fields("0 0 * * 0"),
        "@daily" | "@midnight" => fields("0 0 * * *"),
        "@hourly" => fields("0 * * * *"),
        other => {
            let every = other.strip_prefix(EVERY).ok_or_else(|| InvalidSchedule::Descriptor(text.to_owned()))?;
            let nanos = duration::parse(every).map_err(|why| InvalidSchedule::Every { text: text.to_owned(), why })?;
            // Whole seconds, at least one.
            Ok(When::Every(Duration::seconds((nanos / 1_000_000_000).max(1))))
        }
    }
}

#[cfg(test)]
mod tests;
