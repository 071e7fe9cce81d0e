//! `application/vnd.kubernetes.protobuf`: objects to and from protobuf, driven by the table.
//!
//! A body is `k8s\0` and a `runtime.Unknown`, whose `raw` is the object without `apiVersion` and `kind`.

mod decode;
mod encode;
mod wire;

use serde_json::Value;
use xebec_machinery::{GroupVersionKind, object};

use crate::{DefId, schema};
use wire::{Reader, Writer};

const MAGIC: &[u8] = b"k8s\0";

/// As deep as JSON may nest.
const DEPTH_MAX: usize = 128;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")]
    Magic,
    #[error("unexpected EOF")]
    Truncated,
    #[error("proto: {0}")]
    Malformed(&'static str),
    #[error("no kind {kind:?} is registered for version {api_version:?}")]
    UnknownKind { api_version: String, kind: String },
    #[error("{0}")]
    Value(String),
}

/// Decodes a body. The kind in the envelope decides the type; an envelope with JSON inside is read too.
pub fn decode(body: &[u8]) -> Result<Value, Error> {
    let envelope = Envelope::read(body)?;
    if envelope.content_type == "application/json" {
        return serde_json::from_slice(envelope.raw).map_err(|e| Error::Value(e.to_string()));
    }
    let def = definition(&envelope.api_version, &envelope.kind)?;
    let mut value = decode::object(def, envelope.raw, 0)?;
    object::set_type(&mut value, &envelope.api_version, &envelope.kind);
    Ok(value)
}

/// Encodes an object that says what it is.
pub fn encode(value: &Value) -> Result<Vec<u8>, Error> {
    let (api_version, kind) = (object::api_version(value), object::kind(value));
    let def = definition(api_version, kind)?;
    let mut raw = Writer::default();
    encode::object(def, value, &mut raw)?;
    let mut type_meta = Writer::default();
    type_meta.bytes(1, api_version.as_bytes());
    type_meta.bytes(2, kind.as_bytes());
    let mut out = Writer::from(MAGIC.to_vec());
    out.bytes(1, type_meta.as_slice());
    out.bytes(2, raw.as_slice());
    // Go writes the two empty strings of the envelope as well.
    out.bytes(3, b"");
    out.bytes(4, b"");
    Ok(out.into())
}

/// One frame of a watch: the length as four bytes, then a `WatchEvent` whose object is already encoded.
pub fn watch_frame(event: &str, object: &[u8]) -> Vec<u8> {
    let mut raw = Writer::default();
    raw.bytes(1, object);
    let mut message = Writer::default();
    message.bytes(1, event.as_bytes());
    message.bytes(2, raw.as_slice());
    let message = Vec::from(message);
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    [length.to_be_bytes().as_slice(), &message].concat()
}

/// What the envelope of a body says the object is.
pub fn kind_of(body: &[u8]) -> Result<GroupVersionKind, Error> {
    let Envelope { api_version, kind, .. } = Envelope::read(body)?;
    GroupVersionKind::from_api_version(&api_version, &kind).map_err(|e| Error::Value(e.to_string()))
}

fn definition(api_version: &str, kind: &str) -> Result<DefId, Error> {
    let gvk = GroupVersionKind::from_api_version(api_version, kind).ok();
    gvk.and_then(|gvk| schema().by_kind(&gvk))
        .ok_or_else(|| Error::UnknownKind { api_version: api_version.to_owned(), kind: kind.to_owned() })
}

struct Envelope<'a> {
    api_version: String,
    kind: String,
    raw: &'a [u8],
    content_type: &'a str,
}

impl<'a> Envelope<'a> {
    fn read(body: &'a [u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(body.strip_prefix(MAGIC).ok_or(Error::Magic)?);
        let mut envelope = Self { api_version: String::new(), kind: String::new(), raw: &[], content_type: "" };
        while let Some((tag, value)) = reader.field()? {
            match tag {
                1 => {
                    let mut type_meta = Reader::new(value.bytes()?);
                    while let Some((tag, value)) = type_meta.field()? {
                        match tag {
                            1 => value.str()?.clone_into(&mut envelope.api_version),
                            2 => value.str()?.clone_into(&mut envelope.kind),
                            _ => {}
                        }
                    }
                }
                2 => envelope.raw = value.bytes()?,
                4 => envelope.content_type = value.str()?,
                _ => {}
            }
        }
        Ok(envelope)
    }
}

#[cfg(test)]
mod tests;
