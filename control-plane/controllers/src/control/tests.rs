use super::*;
use std::cell::Cell;

fn meta(uid: &str, owner: Option<&str>) -> ObjectMeta {
    let owner =
        owner.map(|uid| OwnerReference { uid: uid.into(), controller: Some(true), ..OwnerReference::default() });
    ObjectMeta { uid: Some(uid.into()), owner_references: owner.map(|o| vec![o]), ..ObjectMeta::default() }
}

#[track_caller]
fn check(owner: Option<&str>, selected: bool, owner_deleting: bool, expected: Claim) {
    let mut me = meta("me", None);
    if owner_deleting {
        me.deletion_timestamp = Some(xebec_types::time::time(xebec_types::time::now()));
    }
    assert_eq!(claim(&meta("pod", owner), &me, selected), expected);
}

#[test]
fn ownership_follows_the_selector() {
    check(Some("me"), true, false, Claim::Own);
    check(Some("me"), false, false, Claim::Release);
    check(Some("other"), true, false, Claim::Ignore);
    check(None, true, false, Claim::Adopt);
    check(None, false, false, Claim::Ignore);
    check(None, true, true, Claim::Ignore);
    check(Some("me"), false, true, Claim::Ignore);
    check(Some("me"), true, true, Claim::Own);
}

#[test]
fn expectations_hold_until_every_write_was_seen() {
    let expectations = Expectations::default();
    assert!(expectations.satisfied("rs"));
    expectations.expect_creations("rs", 2);
    expectations.expect_deletions("rs", ["a"].into_iter());
    expectations.creation_observed("rs");
    expectations.creation_observed("rs");
    assert!(!expectations.satisfied("rs"));
    expectations.deletion_observed("rs", "a");
    assert!(expectations.satisfied("rs"));
}

#[tokio::test]
async fn batches_double_and_stop_at_the_first_failure() {
    let calls = Cell::new(0);
    let (done, result) = slow_start(100, || {
        calls.set(calls.get() + 1);
        let fails = calls.get() == 5;
        async move {
            let refused = || Error::LinesCodecMaxLineLengthExceeded;
            if fails { Err(refused()) } else { Ok(()) }
        }
    })
    .await;
    assert!(result.is_err());
    assert_eq!((calls.get(), done), (7, 6), "1 + 2 + 4 were tried");
}
