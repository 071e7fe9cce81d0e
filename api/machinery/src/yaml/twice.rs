//! Where a document has a key twice. YAML's events carry their lines only into errors: the document is walked once for
//! each such key, up to an error at it.

use std::collections::HashSet;
use std::fmt;

use serde::de::{self, DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// So many are looked up, as each costs a walk.
const LINES_MAX: usize = 16;

/// Keys that their mapping has already, in the words of `yaml.UnmarshalStrict`. Lines count from 1.
pub(super) fn lines(bytes: &[u8]) -> Vec<String> {
    (0..LINES_MAX).map_while(|skip| line(bytes, skip)).collect()
}

fn line(bytes: &[u8], mut skip: usize) -> Option<String> {
    let mut found = None;
    let walk = Walk { skip: &mut skip, found: &mut found };
    let error = walk.deserialize(serde_yaml_ng::Deserializer::from_slice(bytes)).err()?;
    let line = error.location()?.line();
    found.map(|key| format!("line {line}: key {key:?} already set in map"))
}

struct Walk<'a> {
    /// Keys to pass over before the one that is asked for.
    skip: &'a mut usize,
    found: &'a mut Option<String>,
}

impl Walk<'_> {
    fn reborrow(&mut self) -> Walk<'_> {
        Walk { skip: self.skip, found: self.found }
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_some<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_newtype_struct<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_enum<A: de::EnumAccess<'de>>(self, data: A) -> Result<(), A::Error> {
        data.variant::<IgnoredAny>().map(|_| ())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(self.reborrow())?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut access: A) -> Result<(), A::Error> {
        let mut seen = HashSet::new();
        while access.next_key_seed(Key { seen: &mut seen, walk: self.reborrow() })?.is_some() {
            access.next_value_seed(self.reborrow())?;
        }
        Ok(())
    }
}

struct Key<'a> {
    seen: &'a mut HashSet<String>,
    walk: Walk<'a>,
}

impl Key<'_> {
    fn note<E: de::Error>(self, key: String) -> Result<(), E> {
        if self.seen.insert(key.clone()) {
            return Ok(());
        }
        if *self.walk.skip > 0 {
            *self.walk.skip -= 1;
            return Ok(());
        }
        *self.walk.found = Some(key);
        Err(E::custom("already set in map"))
    }
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = ();

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: de::Error>(self, v: &str) -> Result<(), E> {
        self.note(v.to_owned())
    }

    fn visit_bool<E: de::Error>(self, v: bool) -> Result<(), E> {
        self.note(v.to_string())
    }

    fn visit_i64<E: de::Error>(self, v: i64) -> Result<(), E> {
        self.note(v.to_string())
    }

    fn visit_u64<E: de::Error>(self, v: u64) -> Result<(), E> {
        self.note(v.to_string())
    }

    fn visit_f64<E: de::Error>(self, v: f64) -> Result<(), E> {
        self.note(v.to_string())
    }
}
