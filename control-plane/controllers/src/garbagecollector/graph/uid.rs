use std::fmt;
use uuid::Uuid;
use uuid::fmt::Hyphenated;

/// An object's uid in 24 bytes: servers give each object a UUID (RFC 9562), and there is one here for every object of
/// the cluster. References may say anything.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Uid(Repr);

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
enum Repr {
    /// Not aligned to its 16 bytes.
    Uuid(uuid::Bytes),
    Other(Box<str>),
}

const _: () = assert!(size_of::<Uid>() == 24);

impl From<&str> for Uid {
    fn from(text: &str) -> Self {
        let mut buffer = [0; Hyphenated::LENGTH];
        // Two spellings of a UUID are two uids: uids are compared as strings.
        let is_spelled_so = |uuid: &Uuid| uuid.hyphenated().encode_lower(&mut buffer) == text;
        Self(match Uuid::try_parse(text).ok().filter(is_spelled_so) {
            Some(uuid) => Repr::Uuid(uuid.into_bytes()),
            None => Repr::Other(text.into()),
        })
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Repr::Uuid(bytes) => Uuid::from_bytes(*bytes).hyphenated().fmt(f),
            Repr::Other(text) => f.write_str(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uid_is_shown_as_it_was_spelled() {
        let canonical = "b41a1f9f-abbc-4602-a998-b1190d08bfa2";
        for text in [canonical, &canonical.to_uppercase(), &canonical.replace('-', ""), "", "a", "{b41a1f9f}"] {
            let uid = Uid::from(text);
            assert_eq!(uid.to_string(), text);
            assert_eq!(uid == Uid::from(canonical), text == canonical, "{text}");
        }
    }
}
