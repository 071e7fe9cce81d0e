use super::*;
use xebec_types::core::ObjectReference;

fn report(pod: &str, message: &str, second: i64) -> Report {
    Report {
        object: ObjectReference { name: Some(pod.into()), ..ObjectReference::default() },
        kind: EventType::Warning,
        reason: "BackOff".into(),
        message: message.into(),
        at: Timestamp::from_second(second).expect("in range"),
    }
}

fn known(name: &str, count: i32) -> Known {
    Known { name: name.into(), count }
}

#[test]
fn an_equal_event_is_counted() {
    let mut correlator = Correlator::default();
    let first = report("p", "restarting", 0);
    assert_eq!(correlator.correlate(&first), Verdict::Create { message: "restarting".into() });
    correlator.wrote(&first, known("p.1", 1));
    let verdict = correlator.correlate(&report("p", "restarting", 5));
    assert_eq!(verdict, Verdict::Count { known: known("p.1", 1), message: "restarting".into() });
    let other = correlator.correlate(&report("q", "restarting", 5));
    assert_eq!(other, Verdict::Create { message: "restarting".into() });
}

#[test]
fn the_tenth_similar_event_is_combined() {
    let mut correlator = Correlator::default();
    for n in 0..9 {
        let verdict = correlator.correlate(&report("p", &format!("m{n}"), n));
        assert_eq!(verdict, Verdict::Create { message: format!("m{n}") });
    }
    let tenth = report("p", "m9", 9);
    let message = "(combined from similar events): m9".to_string();
    assert_eq!(correlator.correlate(&tenth), Verdict::Create { message });
    correlator.wrote(&tenth, known("p.9", 1));
    let message = "(combined from similar events): m10".to_string();
    let verdict = correlator.correlate(&report("p", "m10", 10));
    assert_eq!(verdict, Verdict::Count { known: known("p.9", 1), message });
}

#[test]
fn a_flood_about_one_object_is_dropped_after_25() {
    let mut correlator = Correlator::default();
    let verdicts = (0..30).map(|_| correlator.correlate(&report("p", "m", 0)));
    assert_eq!(verdicts.filter(|v| *v == Verdict::Drop).count(), 5);
    assert_ne!(correlator.correlate(&report("p", "m", 301)), Verdict::Drop);
}

#[test]
fn memory_is_bounded() {
    let mut correlator = Correlator::default();
    for n in 0..5000 {
        correlator.correlate(&report(&format!("p{n}"), "m", n));
    }
    assert!(correlator.buckets.len() <= REMEMBERED);
}
