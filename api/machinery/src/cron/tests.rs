use super::*;

fn at(text: &str) -> DateTime<Utc> {
    DateTime::parse_from_rfc3339(text).expect("RFC 3339").to_utc()
}

#[track_caller]
fn check_in(schedule: &str, zone: Option<&str>, after: &str, expected: &str) {
    let zone = zone.map(|name| super::zone(name).expect("a zone"));
    let schedule = Schedule::parse(schedule, zone).expect("a schedule");
    let next = schedule.next(at(after)).map(|t| t.with_timezone(&schedule.zone()).to_rfc3339());
    assert_eq!(next.as_deref(), Some(expected), "{schedule:?} after {after}");
}

#[track_caller]
fn check(schedule: &str, after: &str, expected: &str) {
    check_in(schedule, None, after, &format!("{expected}+00:00"));
}

#[test]
fn the_next_time_is_found() {
    check("0/15 * * * *", "2026-07-09T14:45:00Z", "2026-07-09T15:00:00");
    check("0/15 * * * *", "2026-07-09T14:59:59Z", "2026-07-09T15:00:00");
    check("20-35/15 * * * *", "2026-07-09T14:46:00Z", "2026-07-09T15:20:00");
    check("0 0 29 2 *", "2026-01-01T00:00:00Z", "2028-02-29T00:00:00");
    check("30 8 * * 1-5", "2026-07-10T09:00:00Z", "2026-07-13T08:30:00");
    check("0 12 * Apr Sun", "2026-01-01T00:00:00Z", "2026-04-05T12:00:00");
    check("5,10 4 1 * ?", "2026-01-01T04:05:00Z", "2026-01-01T04:10:00");
    check("0 0 31 * *", "2026-04-01T00:00:00Z", "2026-05-31T00:00:00");
    check("59 23 31 12 *", "2026-12-31T23:59:00Z", "2027-12-31T23:59:00");
}

#[test]
fn days_of_month_and_week_combine_as_in_cron() {
    // Both are given: either will do.
    check("0 0 1 * Mon", "2026-07-02T00:00:00Z", "2026-07-06T00:00:00");
    check("0 0 1,15 * Sun", "2026-07-13T00:00:00Z", "2026-07-15T00:00:00");
    // One is a star: both must match.
    check("0 0 * * Mon", "2026-07-07T00:00:00Z", "2026-07-13T00:00:00");
    // A star with a step is no star.
    check("0 0 */10 * Sun", "2026-07-10T00:00:00Z", "2026-07-11T00:00:00");
}

#[test]
fn descriptors_stand_for_schedules() {
    check("@hourly", "2026-07-09T14:45:00Z", "2026-07-09T15:00:00");
    check("@daily", "2026-07-09T14:45:00Z", "2026-07-10T00:00:00");
    check("@weekly", "2026-07-09T14:45:00Z", "2026-07-12T00:00:00");
    check("@monthly", "2026-07-09T14:45:00Z", "2026-08-01T00:00:00");
    check("@yearly", "2026-07-09T14:45:00Z", "2027-01-01T00:00:00");
    check("@every 1h30m", "2026-07-09T14:45:10Z", "2026-07-09T16:15:10");
    check("@every 100ms", "2026-07-09T14:45:10Z", "2026-07-09T14:45:11");
    check("@every -5m", "2026-07-09T14:45:10Z", "2026-07-09T14:45:11");
}

#[test]
fn time_zones_have_their_own_clock() {
    let berlin = Some("Europe/Berlin");
    check_in("0 8 * * *", berlin, "2026-01-01T00:00:00Z", "2026-01-01T08:00:00+01:00");
    check_in("0 8 * * *", berlin, "2026-07-01T00:00:00Z", "2026-07-01T08:00:00+02:00");
    check_in("TZ=Asia/Kolkata 30 9 * * *", None, "2026-01-01T00:00:00Z", "2026-01-01T09:30:00+05:30");
    // An hour that is skipped has no times; one that is repeated has them twice.
    check_in("30 2 * * *", berlin, "2026-03-28T12:00:00Z", "2026-03-30T02:30:00+02:00");
    check_in("30 2 * * *", berlin, "2026-10-24T12:00:00Z", "2026-10-25T02:30:00+02:00");
    check_in("30 2 * * *", berlin, "2026-10-25T00:30:00Z", "2026-10-25T02:30:00+01:00");
}

#[track_caller]
fn check_refused(text: &str, expected: &str) {
    assert_eq!(Schedule::parse(text, None).map_err(|e| e.to_string()), Err(expected.to_owned()), "{text:?}");
}

#[test]
fn what_is_no_schedule_is_told_in_the_words_of_cron() {
    check_refused("", "empty spec string");
    check_refused(" ", "expected exactly 5 fields, found 0: []");
    check_refused("error", "expected exactly 5 fields, found 1: [error]");
    check_refused("* * * * * *", "expected exactly 5 fields, found 6: [* * * * * *]");
    check_refused("60 * * * *", "end of range (60) above maximum (59): 60");
    check_refused("* 24 * * *", "end of range (24) above maximum (23): 24");
    check_refused("* * 0 * *", "beginning of range (0) below minimum (1): 0");
    check_refused("* * * * 7", "end of range (7) above maximum (6): 7");
    check_refused("5-3 * * * *", "beginning of range (5) beyond end of range (3): 5-3");
    check_refused("1-2-3 * * * *", "too many hyphens: 1-2-3");
    check_refused("1/2/3 * * * *", "too many slashes: 1/2/3");
    check_refused("*/0 * * * *", "step of range should be a positive number: */0");
    check_refused("x * * * *", "failed to parse int from x: strconv.Atoi: parsing \"x\": invalid syntax");
    check_refused("*/-5 * * * *", "negative number (-5) not allowed: -5");
    check_refused("@sometimes", "unrecognized descriptor: @sometimes");
    check_refused("@every 5", "failed to parse duration @every 5: time: missing unit in duration \"5\"");
    check_refused("TZ=Nowhere * * * * *", "provided bad location Nowhere: unknown time zone Nowhere");
}

#[test]
fn the_text_s_zone_comes_before_the_field_s() {
    check_in("TZ=UTC 0 8 * * *", Some("Europe/Berlin"), "2026-01-01T00:00:00Z", "2026-01-01T08:00:00+00:00");
}

#[test]
fn a_day_that_does_not_exist_never_comes() {
    let never = Schedule::parse("59 23 31 2 *", None).expect("a schedule");
    assert_eq!(never.next(at("2026-01-01T00:00:00Z")), None);
}
