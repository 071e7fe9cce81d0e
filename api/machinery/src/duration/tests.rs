use super::*;

#[track_caller]
fn check(text: &str, expected: Result<i64, &str>) {
    assert_eq!(parse(text).map_err(|e| e.to_string()), expected.map_err(str::to_owned), "{text:?}");
}

#[test]
fn durations_are_go_durations() {
    check("0", Ok(0));
    check("-0", Ok(0));
    check("1h30m", Ok(5_400_000_000_000));
    check("-1.5s", Ok(-1_500_000_000));
    check("+5ms", Ok(5_000_000));
    check(".5us", Ok(500));
    check("1.\u{b5}s2\u{3bc}s", Ok(3_000));
    check("0.9999999999999999999999s", Ok(999_999_999));
    check("-9223372036854775808ns", Ok(i64::MIN));
}

#[test]
fn what_is_no_duration_is_told_in_go_s_words() {
    for text in ["", "-", ".s", "h", "x", "9223372036854775808ns", "9223372036854775809ns", "3000000h"] {
        check(text, Err(&format!("time: invalid duration {text:?}")));
    }
    check("99999999999999999999s", Err("time: invalid duration \"99999999999999999999s\""));
    check("5", Err("time: missing unit in duration \"5\""));
    check("1h5", Err("time: missing unit in duration \"1h5\""));
    check("1h-1m", Err("time: unknown unit \"h-\" in duration \"1h-1m\""));
    check("5d", Err("time: unknown unit \"d\" in duration \"5d\""));
}
