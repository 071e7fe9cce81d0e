use super::*;

#[track_caller]
fn check(holder: &str, age_s: u64, expected: Bid) {
    let spec = LeaseSpec {
        holder_identity: Some(holder.into()),
        lease_duration_seconds: Some(15),
        lease_transitions: Some(3),
        ..LeaseSpec::default()
    };
    assert_eq!(decide(&spec, Duration::from_secs(age_s), "me"), expected, "{holder} {age_s}");
}

#[test]
fn a_lease_is_taken_only_when_it_is_free_or_stood_still_for_its_duration() {
    check("me", 0, Bid::Write { transitions: 3, acquired: false });
    check("other", 14, Bid::Wait);
    check("other", 15, Bid::Write { transitions: 4, acquired: true });
    check("", 0, Bid::Write { transitions: 4, acquired: true });
}
