use super::*;

/// Values that pass and values that fail one check.
fn check(validate: fn(&str) -> Messages, good: &[&str], bad: &[&str]) {
    for text in good {
        assert_eq!(validate(text), Vec::<String>::new(), "{text}");
    }
    for text in bad {
        assert!(!validate(text).is_empty(), "{text}");
    }
}

#[test]
fn names() {
    let long = "a".repeat(64);
    check(dns1123_label, &["a", "a-b", "1a"], &["", "A", "-a", "a-", "a.b", "a_b", &long]);
    check(dns1123_subdomain, &["a", "a.b", "1-a.b", &long], &["", "a..b", ".a", "a.", "A.b", &"a".repeat(254)]);
    check(dns1035_label, &["a", "a-1"], &["", "1a", "a.b", "a-"]);
    check(wildcard_dns1123_subdomain, &["*.a", "*.a.b"], &["*", "a.b", "*.*.a"]);
    check(qualified_name, &["a", "A_b.c", "x.y/A"], &["", "/a", "x/", "a/b/c", "X/a", "-a", &long]);
    check(label_value, &["", "a", "A.b_c-1"], &["-", "a b", "a/b", &long]);
    check(port_name, &["http", "a-1"], &["", "HTTP", "1", "a--b", "-a", "a-", "abcdefghijklmnop"]);
    check(path_segment_name, &["system:a", ""], &[".", "..", "a/b", "a%b"]);
}

#[test]
fn values() {
    check(ip, &["1.2.3.4", "::1"], &["", "1.2.3", "01.2.3.4", "a"]);
    check(cidr, &["1.2.3.0/24", "::/0", "1.2.3.4/8"], &["1.2.3.4", "1.2.3.0/33", "1.2.3.0/08", "/8", "1.2.3.0/+8"]);
    check(percent, &["0%", "100%"], &["", "%", "1", "-1%", "1.5%"]);
    check(env_var_name, &["A", "a b", "1"], &["", "a=b", "\u{e9}"]);
    check(config_map_key, &["a", ".a", "A_b-c"], &["", ".", "..", "..a", "a/b"]);
    assert!(
        port_num(1).is_empty() && port_num(65535).is_empty() && !port_num(0).is_empty() && !port_num(65536).is_empty()
    );
}

#[test]
fn messages_are_worded_as_upstream() {
    assert_eq!(
        dns1123_label("A"),
        [
            "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
        ]
    );
    assert_eq!(port_num(70000), ["must be between 1 and 65535, inclusive"]);
    assert_eq!(
        qualified_name(""),
        [
            "name part must be non-empty",
            "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
        ]
    );
}
