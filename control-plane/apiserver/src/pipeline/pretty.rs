//! JSON for people: as Go's `json.MarshalIndent` shows it to whoever asks with `pretty`, or comes with a browser or curl
//! (`endpoints/handlers/negotiation.isPrettyPrint`).

use bytes::Bytes;
use futures::TryStreamExt;
use http::{HeaderMap, Response, header};

use crate::body::Body;
use crate::request_info::RequestInfo;

/// How the agents begin that a person sits behind.
const PEOPLE: [&str; 3] = ["curl", "Wget", "Mozilla/5.0"];
/// What upstream shows so to everybody.
const ALWAYS: [&str; 2] = ["/", "/version"];

pub fn is_wanted(info: &RequestInfo, query: &str, headers: &HeaderMap) -> bool {
    let of_api =
        info.is_resource || info.path == "/api" || info.path.starts_with("/api/") || info.path.starts_with("/apis");
    if ALWAYS.contains(&info.path.as_str()) || !of_api {
        return ALWAYS.contains(&info.path.as_str());
    }
    if let Some(asked) =
        query.split('&').find_map(|pair| pair.strip_prefix("pretty=")).filter(|asked| !asked.is_empty())
    {
        return ["1", "t", "T", "true", "TRUE", "True"].contains(&asked);
    }
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    text(header::ACCEPT).contains("pretty=1") || PEOPLE.iter().any(|agent| text(header::USER_AGENT).starts_with(agent))
}

/// The same answer, if it is JSON, in lines.
pub fn indented(response: Response<Body>) -> Response<Body> {
    let content_type = response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let is_json = content_type.is_some_and(|ty| ty.split(';').next() == Some("application/json"));
    if !is_json || response.headers().contains_key(header::CONTENT_ENCODING) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    parts.headers.remove(header::CONTENT_LENGTH);
    let mut indenter = Indenter::default();
    let body = match body {
        Body::Full(Some(json)) => Body::from(indenter.feed(&json)),
        Body::Full(None) => Body::empty(),
        Body::Stream(json) => Body::stream(json.map_ok(move |part| indenter.feed(&part))),
    };
    Response::from_parts(parts, body)
}

/// Indents JSON that comes in parts.
#[derive(Default)]
struct Indenter {
    depth: usize,
    in_string: bool,
    escaped: bool,
    /// The last byte opened an object or a list, which may be empty.
    opened: bool,
}

impl Indenter {
    fn feed(&mut self, json: &[u8]) -> Bytes {
        let mut out = Vec::with_capacity(json.len() * 2);
        json.iter().for_each(|byte| self.put(*byte, &mut out));
        out.into()
    }

    fn put(&mut self, byte: u8, out: &mut Vec<u8>) {
        if self.in_string {
            out.push(byte);
            self.in_string = byte != b'"' || self.escaped;
            self.escaped = byte == b'\\' && !self.escaped;
            return;
        }
        match byte {
            b' ' | b'\n' | b'\t' | b'\r' => {}
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                if !std::mem::take(&mut self.opened) {
                    self.line(out);
                }
                out.push(byte);
            }
            b',' => {
                out.push(byte);
                self.line(out);
            }
            b':' => out.extend(b": "),
            _ => {
                if std::mem::take(&mut self.opened) {
                    self.line(out);
                }
                out.push(byte);
                self.in_string = byte == b'"';
                if matches!(byte, b'{' | b'[') {
                    self.depth += 1;
                    self.opened = true;
                }
            }
        }
    }

    fn line(&self, out: &mut Vec<u8>) {
        out.push(b'\n');
        out.resize(out.len() + 2 * self.depth, b' ');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_those_of_go_however_the_json_comes() {
        let json = r#"{"a":{},"b":[],"c":[1,{"d":"x: {\"y\\"}],"e":null}"#;
        let expected = "{\n  \"a\": {},\n  \"b\": [],\n  \"c\": [\n    1,\n    {\n      \"d\": \"x: {\\\"y\\\\\"\n    }\n  ],\n  \"e\": null\n}";
        for size in 1..json.len() {
            let mut indenter = Indenter::default();
            let parts = json.as_bytes().chunks(size).map(|part| indenter.feed(part));
            assert_eq!(String::from_utf8(parts.collect::<Vec<_>>().concat()).unwrap(), expected, "in parts of {size}");
        }
        let again: serde_json::Value = serde_json::from_str(expected).unwrap();
        assert_eq!(serde_json::to_string_pretty(&again).unwrap(), expected);
    }

    #[track_caller]
    fn check(path: &str, headers: &[(http::HeaderName, &str)], expected: bool) {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let info = RequestInfo::new(&http::Method::GET, path, query);
        let headers = headers.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect();
        assert_eq!(is_wanted(&info, query, &headers), expected, "{path}?{query} {headers:?}");
    }

    #[test]
    fn people_are_known_by_what_they_ask_and_come_with() {
        let pods = "/api/v1/pods";
        check(pods, &[], false);
        check("/api/v1/pods?limit=1&pretty=true", &[], true);
        check(pods, &[(header::USER_AGENT, "curl/8.5.0")], true);
        check("/api/v1/pods?pretty=false", &[(header::USER_AGENT, "curl/8.5.0")], false);
        check("/apis", &[(header::USER_AGENT, "Mozilla/5.0 (X11)")], true);
        check(pods, &[(header::USER_AGENT, "kubectl/v1.36.0")], false);
        check(pods, &[(header::ACCEPT, "application/json;pretty=1")], true);
        check("/version", &[], true);
        check("/openapi/v3", &[(header::USER_AGENT, "curl/8.5.0")], false);
    }
}
