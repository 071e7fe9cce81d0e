//! What is wrong with a text, in the words of Go's encoding/json, which clients know.

use serde_json::error::Category;

/// The words for `error`, which `bytes` led to. Those that Go has none for stay as they are.
pub fn worded(bytes: &[u8], error: &serde_json::Error) -> String {
    if error.classify() == Category::Eof {
        return "unexpected end of JSON input".to_owned();
    }
    let text = error.to_string();
    let (what, _) = text.split_once(" at line ").unwrap_or((&text, ""));
    let at = offset(bytes, error);
    let Some(&found) = bytes.get(at) else { return what.to_owned() };
    let place = match what {
        "expected value" => "looking for beginning of value".to_owned(),
        "key must be a string" => "looking for beginning of object key string".to_owned(),
        "trailing comma" if found == b'}' => "looking for beginning of object key string".to_owned(),
        "trailing comma" => "looking for beginning of value".to_owned(),
        "expected `,` or `}`" => "after object key:value pair".to_owned(),
        "expected `,` or `]`" => "after array element".to_owned(),
        "expected `:`" => "after object key".to_owned(),
        "trailing characters" => "after top-level value".to_owned(),
        "invalid escape" => "in string escape code".to_owned(),
        "invalid number" => "in numeric literal".to_owned(),
        "expected ident" => in_literal(bytes, at),
        what if what.starts_with("control character") => "in string literal".to_owned(),
        what => return what.to_owned(),
    };
    let found = match char::from(found) {
        '\'' => "\\'".to_owned(),
        '"' => "\"".to_owned(),
        other => other.escape_debug().to_string(),
    };
    format!("invalid character '{found}' {place}")
}

/// Where the byte is that does not fit.
fn offset(bytes: &[u8], error: &serde_json::Error) -> usize {
    let line = bytes.split_inclusive(|byte| *byte == b'\n').take(error.line().saturating_sub(1));
    (line.map(<[u8]>::len).sum::<usize>() + error.column()).saturating_sub(1)
}

/// One of the three words that JSON knows, spelled wrong.
fn in_literal(bytes: &[u8], at: usize) -> String {
    let words = ["null", "true", "false"];
    let fits = |word: &&str| {
        (1..word.len()).find(|length| at >= *length && bytes[at - length..at] == word.as_bytes()[..*length])
    };
    let found = words.iter().find_map(|word| fits(word).map(|length| (word, length)));
    match found {
        Some((word, length)) => format!("in literal {word} (expecting '{}')", char::from(word.as_bytes()[length])),
        None => "looking for beginning of value".to_owned(),
    }
}
