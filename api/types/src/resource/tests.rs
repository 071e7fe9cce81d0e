use super::*;

#[track_caller]
fn check(text: &str, expected_milli: Option<i64>) {
    assert_eq!(milli(&Quantity(text.into())), expected_milli, "{text}");
}

#[test]
fn quantities_scale_and_round_up() {
    check("1", Some(1000));
    check("100m", Some(100));
    check("0.5", Some(500));
    check("1.5Gi", Some(1_610_612_736_000));
    check("1e3", Some(1_000_000));
    check("1u", Some(1));
    check("-1", Some(-1000));
    check("2k", Some(2_000_000));
}

#[test]
fn nonsense_is_none() {
    check("", None);
    check("m", None);
    check("1Q", None);
    check("9E", None);
}
