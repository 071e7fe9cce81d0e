use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

#[test]
fn doubles_from_ten_seconds_to_five_minutes_and_starts_afresh_after_ten() {
    let mut backoff = Backoff::default();
    assert_eq!(backoff.left("a", at(0), at(0)), None, "the first restart is immediate");
    let mut waits = Vec::new();
    for _ in 0..7 {
        backoff.next("a", at(0), at(0));
        waits.push(backoff.left("a", at(0), at(0)).unwrap().as_secs());
    }
    assert_eq!(waits, [10, 20, 40, 80, 160, 300, 300]);
    assert_eq!(backoff.left("a", at(0), at(299)).unwrap().as_secs(), 1);
    assert_eq!(backoff.left("a", at(0), at(300)), None);
    assert_eq!(backoff.left("a", at(601), at(601)), None, "it ran long enough");
    backoff.next("a", at(601), at(601));
    assert_eq!(backoff.delay("a"), INITIAL);
    backoff.forget("a");
    assert_eq!(backoff.left("a", at(601), at(601)), None);
}
