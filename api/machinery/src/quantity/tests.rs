use super::*;

fn q(text: &str) -> Quantity {
    text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
}

#[test]
fn the_canonical_form_is_upstreams() {
    let check = |text: &str, want: &str| assert_eq!(q(text).to_string(), want, "{text}");
    for (text, want) in [
        ("0", "0"),
        ("0Mi", "0"),
        ("0.0", "0"),
        ("1", "1"),
        ("+1", "1"),
        ("-1", "-1"),
        ("100m", "100m"),
        ("1000m", "1"),
        ("0.1", "100m"),
        ("1.5", "1500m"),
        (".5", "500m"),
        ("5.", "5"),
        ("1000", "1k"),
        ("1100", "1100"),
        ("1e3", "1e3"),
        ("12e6", "12e6"),
        ("1E3", "1e3"),
        ("100e-3", "100e-3"),
        ("1e1", "10"),
        ("1Ki", "1Ki"),
        ("1024Mi", "1Gi"),
        ("1.5Gi", "1536Mi"),
        ("512", "512"),
        ("0.5Ki", "512"),
        ("1023Ki", "1023Ki"),
        ("0.1Gi", "107374182400m"),
        ("123456789n", "123456789n"),
        ("1n", "1n"),
        ("0.1n", "1n"),
        ("1E", "1E"),
        ("9223372036854775807", "9223372036854775807"),
        ("9223372036854775808", "9223372036854775808"),
        ("100E", "100E"),
        ("8Ei", "9223372036854775807"),
        ("0.00000000000000000000000000000000000000001", "1n"),
        ("1e-100", "1e-9"),
        ("1e1000", "50e27"),
        ("9223372036854775807.5", "9223372036854775807500m"),
    ] {
        check(text, want);
    }
}

#[test]
fn what_is_no_quantity_is_refused() {
    for text in ["", "+", "a", "1 ", "1.2.3", "1mi", "1KiB", "Ki", "1e", "1ee3", "--1", "1_000", "0x1", "1i"] {
        assert!(text.parse::<Quantity>().is_err(), "{text}");
    }
}

#[test]
fn values_round_up() {
    let check = |text: &str, value, milli| assert_eq!((q(text).value(), q(text).as_milli()), (value, milli), "{text}");
    check("100m", 1, 100);
    check("1.0001", 2, 1001);
    check("-100m", -1, -100);
    check("2Gi", 1 << 31, 1000 << 31);
    check("10E", i64::MAX, i64::MAX);
    check("-10E", i64::MIN, i64::MIN);
}

#[test]
fn sums_are_exact_and_keep_the_format() {
    assert_eq!((q("100m") + q("0.9")).to_string(), "1");
    assert_eq!((q("1Gi") + q("1Mi")).to_string(), "1025Mi");
    assert_eq!((q("0") + q("1Gi")).to_string(), "1Gi");
    assert_eq!((q("1") - q("1500m")).to_string(), "-500m");
    assert_eq!([q("1"), q("2")].into_iter().sum::<Quantity>(), q("3"));
    assert!(q("1Gi") > q("1G"));
}
