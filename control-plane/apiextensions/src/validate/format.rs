//! String formats (`apiextensions-apiserver/pkg/apiserver/validation/formats.go` lists those that are checked).

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

use base64::Engine;
use regex::Regex;
use xebec_machinery::validation;

/// Whether a text has a format; formats that are not known hold for every text.
pub fn matches(format: &str, text: &str) -> bool {
    match format {
        "date" => is_date(text),
        "date-time" | "datetime" => is_date_time(text),
        "duration" => is_duration(text),
        "ipv4" => text.parse::<Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<Ipv6Addr>().is_ok(),
        "cidr" => validation::cidr(text).is_empty(),
        "byte" => base64::engine::general_purpose::STANDARD.decode(text).is_ok(),
        "uri" => is_uri(text),
        "email" => is_email(text),
        "hostname" => is_hostname(text),
        "mac" => mac(text),
        "uuid" => uuid(text, None),
        "uuid3" => uuid(text, Some('3')),
        "uuid4" => uuid(text, Some('4')),
        "uuid5" => uuid(text, Some('5')),
        "hexcolor" => hex(text.strip_prefix('#').unwrap_or(text), &[3, 6]),
        "bsonobjectid" => hex(text, &[24]),
        "k8s-short-name" => validation::dns1123_label(text).is_empty(),
        "k8s-long-name" => validation::dns1123_subdomain(text).is_empty(),
        _ => true,
    }
}

fn hex(text: &str, lengths: &[usize]) -> bool {
    lengths.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit())
}

fn is_date(text: &str) -> bool {
    let parse = |text: &str| time::Date::parse(text, &time::format_description::well_known::Iso8601::DATE).is_ok();
    text.len() == "2006-01-02".len() && parse(text)
}

fn is_date_time(text: &str) -> bool {
    // Go's validator takes a space or a small t between date and time.
    let text: String = text.chars().map(|c| if c == ' ' || c == 't' { 'T' } else { c }).collect();
    chrono::DateTime::parse_from_rfc3339(&text).is_ok()
}

/// Go's durations, and those of `strfmt` with words.
fn is_duration(text: &str) -> bool {
    static DURATION: LazyLock<Option<Regex>> = LazyLock::new(|| {
        let words =
            r"ns|us|µs|μs|ms|s|m|h|d|w|nanos?|micros?|millis?|seconds?|secs?|minutes?|mins?|hours?|hrs?|days?|weeks?";
        Regex::new(&format!(r"^[+-]?(0|(\d+(\.\d*)?|\.\d+)\s*({words})(\s*(\d+(\.\d*)?|\.\d+)\s*({words}))*)$")).ok()
    });
    DURATION.as_ref().is_some_and(|duration| duration.is_match(text))
}

fn is_uri(text: &str) -> bool {
    // As Go's `ParseRequestURI`: absolute, or an absolute path.
    if text.contains(|c: char| c.is_control() || c == ' ') {
        return false;
    }
    let scheme = |s: &str| {
        s.starts_with(|c: char| c.is_ascii_alphabetic())
            && s.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
    };
    text.starts_with('/') || text.split_once(':').is_some_and(|(s, rest)| scheme(s) && !rest.is_empty())
}

fn is_email(text: &str) -> bool {
    text.rsplit_once('@').is_some_and(|(user, host)| !user.is_empty() && !user.contains(' ') && is_hostname(host))
}

fn is_hostname(text: &str) -> bool {
    let label = |l: &str| {
        (1..=63).contains(&l.len())
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !l.starts_with('-')
            && !l.ends_with('-')
    };
    text.len() <= 255 && text.split('.').all(label)
}

fn mac(text: &str) -> bool {
    let separator = if text.contains('-') { '-' } else { ':' };
    let parts: Vec<&str> = text.split(separator).collect();
    [6, 8, 20].contains(&parts.len()) && parts.iter().all(|part| hex(part, &[2]))
}

fn uuid(text: &str, version: Option<char>) -> bool {
    let digits: String = text.chars().filter(|c| *c != '-').collect();
    let grouped = text.len() == 32 || (text.len() == 36 && [8, 13, 18, 23].iter().all(|i| text.as_bytes()[*i] == b'-'));
    grouped && hex(&digits, &[32]) && version.is_none_or(|v| digits.chars().nth(12) == Some(v))
}

#[cfg(test)]
mod tests {
    #[track_caller]
    fn check(format: &str, good: &[&str], bad: &[&str]) {
        for text in good {
            assert!(super::matches(format, text), "{format} {text:?}");
        }
        for text in bad {
            assert!(!super::matches(format, text), "{format} {text:?}");
        }
    }

    #[test]
    fn formats_are_recognized() {
        check("date", &["2024-02-29"], &["2023-02-29", "20230228", "2024-2-29", ""]);
        check("date-time", &["2024-02-29T01:02:03Z", "2024-02-29 01:02:03.5+02:00"], &["2024-02-29", "now"]);
        check("duration", &["1h30m", "5s", "0", "2 days", "-1.5h"], &["h", "1", "1x", ""]);
        check("ipv4", &["10.0.0.1"], &["10.0.0.256", "::1"]);
        check("ipv6", &["::1"], &["10.0.0.1"]);
        check("cidr", &["10.0.0.0/8", "fd00::/64"], &["10.0.0.0", "10.0.0.0/33"]);
        check("byte", &["aGk=", ""], &["aGk", "!"]);
        check("uri", &["https://x.y/z", "/a", "mailto:a@b"], &["x", "", "http://a b"]);
        check("email", &["a@b.c"], &["a", "@b", "a@"]);
        check("hostname", &["a.b-c"], &["-a", "a..b", "ä"]);
        check("mac", &["01:23:45:67:89:ab"], &["01:23:45:67:89", "01:23:45:67:89:xy"]);
        check("uuid", &["6ba7b810-9dad-11d1-80b4-00c04fd430c8"], &["6ba7b810", "6ba7b810-9dad-11d1-80b4-00c04fd430cx"]);
        check("uuid4", &["16fd2706-8baf-433b-82eb-8c7fada847da"], &["6ba7b810-9dad-11d1-80b4-00c04fd430c8"]);
        check("hexcolor", &["#fff", "a0b1c2"], &["#ff", "#ggg"]);
        check("k8s-short-name", &["a-b"], &["a.b", "A"]);
        check("unheard-of", &["anything"], &[]);
    }
}
