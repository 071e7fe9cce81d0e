//! Descriptions of definitions and fields, for `kubectl explain`. They are packed at build time (`build.rs`) and unpacked only while a document is made.

use std::collections::HashMap;
use std::io::Read;

use flate2::read::DeflateDecoder;

static PACKED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptions.deflate"));

/// What upstream says of its types: by the name of a definition, and by that and a field.
pub(crate) struct Descriptions(HashMap<(String, String), String>);

impl Descriptions {
    pub(crate) fn unpack() -> Self {
        let mut text = String::new();
        // The data is our own: it unpacks, or there are no descriptions.
        _ = DeflateDecoder::new(PACKED).read_to_string(&mut text);
        let mut found = HashMap::new();
        let (mut definition, mut field) = ("", String::new());
        for line in text.lines() {
            match line.split_at_checked(2) {
                Some(("D ", name)) => (definition, field) = (name, String::new()),
                Some(("F ", name)) => field = normal(name),
                Some((_, words)) => {
                    _ = found.insert((definition.to_owned(), field.clone()), words.replace('\x01', "\n"))
                }
                None => {}
            }
        }
        Self(found)
    }

    pub(crate) fn definition(&self, name: &str) -> Option<&str> {
        self.field(name, "")
    }

    pub(crate) fn field(&self, definition: &str, field: &str) -> Option<&str> {
        match (self.0.get(&(definition.to_owned(), normal(field))), field) {
            (Some(text), _) => Some(text),
            // The crate leaves these two out of its structs.
            (None, "apiVersion") => Some("The version of the schema of this representation of an object."),
            (None, "kind") => Some("The REST resource this object represents."),
            _ => None,
        }
    }
}

/// `podIPs` in the API is `pod_ips` in Rust.
fn normal(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upstream_is_quoted() {
        let descriptions = Descriptions::unpack();
        let spec = "io.k8s.api.core.v1.PodSpec";
        assert!(descriptions.definition(spec).is_some_and(|d| d.contains("pod")));
        for field in ["hostIPC", "volumes", "setHostnameAsFQDN"] {
            assert!(descriptions.field(spec, field).is_some(), "{field}");
        }
        assert_eq!(descriptions.field(spec, "none"), None);
    }
}
