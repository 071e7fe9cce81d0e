use super::*;

const LOG: &str = "2026-01-02T03:04:05.000000001Z stdout F one\n\
2026-01-02T03:04:06.000000001Z stderr P tw\n\
2026-01-02T03:04:06.000000002Z stderr F o\n\
2026-01-02T03:04:07.000000001Z stdout F three\n";

async fn read(query: &[(&str, &str)]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("0.log");
    std::fs::write(&path, LOG).unwrap();
    let query: Vec<_> = query.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    let (sender, mut receiver) = mpsc::channel(16);
    let options = LogOptions::parse(&query).unwrap();
    let reader = tokio::spawn(stream(path, options, Box::new(|| Box::pin(async { false })), sender));
    let mut text = Vec::new();
    while let Some(bytes) = receiver.recv().await {
        text.extend_from_slice(&bytes);
    }
    reader.await.unwrap().unwrap();
    String::from_utf8(text).unwrap()
}

#[tokio::test]
async fn options_choose_lines_and_their_form() {
    let table: [(&[(&str, &str)], &str); 8] = [
        (&[], "one\ntwo\nthree\n"),
        (&[("tailLines", "1")], "three\n"),
        (&[("tailLines", "0")], ""),
        (&[("tailLines", "99")], "one\ntwo\nthree\n"),
        (&[("limitBytes", "5")], "one\nt"),
        (&[("sinceTime", "2026-01-02T03:04:07Z")], "three\n"),
        (&[("timestamps", "true"), ("tailLines", "1")], "2026-01-02T03:04:07.000000001Z three\n"),
        (&[("follow", "true")], "one\ntwo\nthree\n"),
    ];
    for (query, want) in table {
        assert_eq!(read(query).await, want, "{query:?}");
    }
}

#[test]
fn numbers_that_are_none_are_refused() {
    let parse = |key: &str, value: &str| LogOptions::parse(&[(key.into(), value.into())]);
    assert_eq!(parse("tailLines", "x").unwrap_err(), "invalid tailLines: \"x\"");
    assert!(parse("sinceTime", "yesterday").is_err());
    assert!(parse("sinceSeconds", "60").unwrap().since.is_some());
}
