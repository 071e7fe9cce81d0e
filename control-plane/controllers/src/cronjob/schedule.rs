//! When a schedule is due: the five fields and descriptors of `robfig/cron`'s `ParseStandard`, which is
//! what upstream uses. Its Rust counterparts differ in day-of-week numbers, in `?` and in how day of
//! month and day of week combine.

use chrono::{DateTime, Datelike, Duration, DurationRound, TimeZone, Timelike, Utc};
use chrono_tz::Tz;

/// A field of a schedule: its bounds, and names that stand for numbers.
struct Bounds {
    min: u32,
    max: u32,
    names: &'static [&'static str],
}

const FIELDS: [Bounds; 5] = [
    Bounds { min: 0, max: 59, names: &[] },
    Bounds { min: 0, max: 23, names: &[] },
    Bounds { min: 1, max: 31, names: &[] },
    Bounds {
        min: 1,
        max: 12,
        names: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
    },
    Bounds { min: 0, max: 6, names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"] },
];

/// A schedule that is not due for so long never is.
const YEARS_MAX: i64 = 5;

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

/// The values that match, as bits. Whether it was a star decides how days combine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Field {
    bits: u64,
    star: bool,
}

impl Field {
    fn has(self, value: u32) -> bool {
        self.bits & (1 << value) != 0
    }
}

/// Why a text is no schedule, or no time zone.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum InvalidSchedule {
    #[error("unknown time zone {0}")]
    Zone(String),
    #[error("expected exactly 5 fields, found {found}: {text}")]
    Count { found: usize, text: String },
    #[error("unrecognized descriptor: {0}")]
    Descriptor(String),
    #[error("failed to parse field: {0}")]
    Field(String),
}

impl Schedule {
    /// `zone` is the CronJob's `timeZone`; without one, and without `TZ=` in the text, it is UTC, as
    /// in a controller manager that runs in a container.
    pub fn parse(text: &str, zone: Option<&str>) -> Result<Self, InvalidSchedule> {
        let mut rest = text.trim();
        let mut zone = zone;
        let prefixed = rest.strip_prefix("CRON_TZ=").or_else(|| rest.strip_prefix("TZ="));
        if let Some(prefixed) = prefixed {
            let (named, after) = prefixed.split_once(' ').unwrap_or((prefixed, ""));
            zone = zone.or(Some(named));
            rest = after.trim();
        }
        let zone = zone.map_or(Ok(Tz::UTC), |name| name.parse().map_err(|_| InvalidSchedule::Zone(name.into())))?;
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
            When::Every(interval) => (after + *interval).duration_trunc(Duration::seconds(1)).ok(),
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
        return Err(InvalidSchedule::Count { found: words.len(), text: text.into() });
    };
    let [m, h, d, mo, w] = &FIELDS;
    Ok([field(minute, m)?, field(hour, h)?, field(day, d)?, field(month, mo)?, field(weekday, w)?])
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
            let interval = other.strip_prefix("@every ").and_then(go_duration);
            interval.map(When::Every).ok_or_else(|| InvalidSchedule::Descriptor(text.into()))
        }
    }
}

/// `time.ParseDuration`, in whole seconds and at least one.
fn go_duration(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let at = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(at);
        let number: f64 = number.parse().ok()?;
        let unit = [("ms", 1e-3), ("us", 1e-6), ("µs", 1e-6), ("ns", 1e-9), ("h", 3600.0), ("m", 60.0), ("s", 1.0)];
        let (unit, factor) = unit.into_iter().find(|(unit, _)| tail.starts_with(unit))?;
        seconds += number * factor;
        rest = &tail[unit.len()..];
    }
    // Bounded by the length of what a CronJob may hold, and saturating.
    #[allow(clippy::cast_possible_truncation)]
    let whole = seconds as i64;
    Duration::try_seconds(whole.max(1))
}

fn field(text: &str, bounds: &Bounds) -> Result<Field, InvalidSchedule> {
    let mut field = Field { bits: 0, star: false };
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (bits, star) = range(part, bounds).ok_or_else(|| InvalidSchedule::Field(part.into()))?;
        field.bits |= bits;
        field.star |= star;
    }
    Ok(field)
}

/// `number | number-number [/number]`, or a star, which `?` is too. A star with a step is none.
fn range(text: &str, bounds: &Bounds) -> Option<(u64, bool)> {
    let (range, step) = text.split_once('/').map_or((text, None), |(range, step)| (range, Some(step)));
    let (low, high) = range.split_once('-').map_or((range, None), |(low, high)| (low, Some(high)));
    let step: Option<usize> = match step {
        Some(step) => Some(step.parse().ok().filter(|step| *step > 0)?),
        None => None,
    };
    let is_star = ["*", "?"].contains(&low);
    let start = if is_star { bounds.min } else { number(low, bounds)? };
    let end = match high {
        _ if is_star => bounds.max,
        Some(high) => number(high, bounds)?,
        None if step.is_some() => bounds.max,
        None => start,
    };
    if start < bounds.min || end > bounds.max || start > end {
        return None;
    }
    let bits = (start..=end).step_by(step.unwrap_or(1)).fold(0, |bits, value| bits | 1 << value);
    Some((bits, is_star && step.is_none_or(|step| step == 1)))
}

fn number(text: &str, bounds: &Bounds) -> Option<u32> {
    let named = bounds.names.iter().zip(bounds.min..).find(|(name, _)| name.eq_ignore_ascii_case(text));
    named.map(|(_, value)| value).or_else(|| text.parse().ok())
}

#[cfg(test)]
mod tests;
