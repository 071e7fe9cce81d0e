//! What the store reads back: for `tests/fuzz`, which has no disk to damage.

use bytes::Bytes;

use crate::cache::splice;
use crate::embedded::record;

/// The file of a log, its batches one after another, and the records of each, whatever their checksums are.
pub fn log(bytes: &[u8]) {
    let mut rest = bytes;
    while let Some(header) = record::Header::parse(rest) {
        let (_, payload) = rest.split_at(record::BATCH_HEADER.min(rest.len()));
        let (payload, after) = payload.split_at(header.length.min(payload.len()));
        _ = header.matches(payload);
        for found in record::records(&Bytes::copy_from_slice(payload)) {
            assert!(found.at <= payload.len());
        }
        rest = after;
    }
    _ = record::contains_batch(rest);
}

/// A batch of records, each of a key and a value or none, as the log holds it.
#[must_use]
pub fn batch(records: &[(&str, Option<&[u8]>)]) -> Vec<u8> {
    let mut batch = record::Batch::new();
    for (revision, (key, value)) in (1..).zip(records) {
        batch.push(key, *value, crate::Revision(revision), crate::Revision(1));
    }
    batch.seal().to_vec()
}

/// `json` with a resourceVersion in its metadata, as clients are sent it.
#[must_use]
pub fn versioned(json: &[u8], revision: u64) -> Option<Vec<u8>> {
    splice::splice("", json, revision, "")
}
