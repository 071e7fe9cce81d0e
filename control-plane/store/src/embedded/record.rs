//! The bytes of a log file: batches, each written and synced as a whole.
//!
//! A batch is `magic, payload length, CRC-32 of the payload` (u32, little-endian) and the payload, records one after
//! another. A record is `op (u8), revision (u64), create revision (u64), key length (u32), value length (u32)`, key, value.

use bytes::{BufMut, Bytes};

use crate::Revision;

const MAGIC: u32 = 0x474c_4258;
pub const BATCH_HEADER: usize = 12;
const RECORD_HEADER: usize = 25;
const PUT: u8 = 1;
const DELETE: u8 = 2;

/// Appends records to a buffer that becomes one batch.
pub struct Batch {
    buffer: Vec<u8>,
}

impl Batch {
    pub fn new() -> Self {
        Self { buffer: vec![0; BATCH_HEADER] }
    }

    pub fn is_empty(&self) -> bool {
        self.buffer.len() == BATCH_HEADER
    }

    pub fn len(&self) -> usize {
        self.buffer.len()
    }

    /// Appends a record and returns where in the batch its value starts. No value is a deletion.
    pub fn push(&mut self, key: &str, value: Option<&[u8]>, revision: Revision, create: Revision) -> usize {
        self.buffer.reserve(RECORD_HEADER + key.len() + value.map_or(0, <[u8]>::len));
        self.buffer.put_u8(if value.is_some() { PUT } else { DELETE });
        self.buffer.put_u64_le(revision.0);
        self.buffer.put_u64_le(create.0);
        self.buffer.put_u32_le(key.len() as u32);
        self.buffer.put_u32_le(value.map_or(0, <[u8]>::len) as u32);
        self.buffer.extend_from_slice(key.as_bytes());
        let at = self.buffer.len();
        self.buffer.extend_from_slice(value.unwrap_or_default());
        at
    }

    /// The bytes to write.
    pub fn seal(&mut self) -> &[u8] {
        let crc = crc32fast::hash(&self.buffer[BATCH_HEADER..]);
        let length = (self.buffer.len() - BATCH_HEADER) as u32;
        self.buffer[..4].copy_from_slice(&MAGIC.to_le_bytes());
        self.buffer[4..8].copy_from_slice(&length.to_le_bytes());
        self.buffer[8..12].copy_from_slice(&crc.to_le_bytes());
        &self.buffer
    }

    /// Ready for the next batch. A buffer that an unusual batch blew up is given back.
    pub fn clear(&mut self) {
        self.buffer.truncate(BATCH_HEADER);
        self.buffer.shrink_to(1 << 20);
    }
}

#[derive(Clone, Copy)]
pub struct Header {
    pub length: usize,
    crc: u32,
}

impl Header {
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let word = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        (word(0)? == MAGIC).then_some(())?;
        Some(Self { length: word(4)? as usize, crc: word(8)? })
    }

    pub fn matches(&self, payload: &[u8]) -> bool {
        payload.len() == self.length && crc32fast::hash(payload) == self.crc
    }
}

/// A record inside a payload.
pub struct Record {
    pub revision: Revision,
    pub create: Revision,
    pub key: Bytes,
    /// Where the value starts in the payload.
    pub at: usize,
    /// None is a deletion.
    pub value: Option<Bytes>,
}

/// The records of a payload whose checksum matched; ends early if the payload makes no sense.
pub fn records(payload: &Bytes) -> impl Iterator<Item = Record> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let header = payload.get(at..at + RECORD_HEADER)?;
        let long = |i: usize| Some(Revision(u64::from_le_bytes(header.get(i..i + 8)?.try_into().ok()?)));
        let word = |i: usize| Some(u32::from_le_bytes(header.get(i..i + 4)?.try_into().ok()?) as usize);
        let (op, revision, create, key, value) = (header[0], long(1)?, long(9)?, word(17)?, word(21)?);
        let key_at = at + RECORD_HEADER;
        let value_at = key_at + key;
        at = value_at + value;
        (at <= payload.len()).then(|| Record {
            revision,
            create,
            key: payload.slice(key_at..value_at),
            at: value_at,
            value: (op == PUT).then(|| payload.slice(value_at..at)),
        })
    })
}

/// Whether a whole valid batch starts anywhere in `bytes`.
pub fn contains_batch(bytes: &[u8]) -> bool {
    memchr::memmem::find_iter(bytes, &MAGIC.to_le_bytes()).any(|at| {
        let Some(header) = Header::parse(&bytes[at..]) else { return false };
        let start = at + BATCH_HEADER;
        header.length > 0 && bytes.get(start..start + header.length).is_some_and(|payload| header.matches(payload))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_comes_back() {
        let mut batch = Batch::new();
        let at = batch.push("/a", Some(b"one"), Revision(2), Revision(2));
        batch.push("/a", None, Revision(3), Revision(2));
        let bytes = Bytes::copy_from_slice(batch.seal());
        assert_eq!(&bytes[at..at + 3], b"one");
        let header = Header::parse(&bytes).unwrap();
        let payload = bytes.slice(BATCH_HEADER..);
        assert!(header.matches(&payload));
        let records: Vec<_> = records(&payload).map(|r| (r.revision.0, r.value)).collect();
        assert_eq!(records, [(2, Some(Bytes::from("one"))), (3, None)]);
        assert!(contains_batch(&[b"xx", &bytes[..]].concat()));
        assert!(!contains_batch(&bytes[1..]));
    }
}
