//! Writes `metadata.resourceVersion` into JSON bytes without parsing the document.

mod scan;
#[cfg(test)]
mod tests;

use std::ops::Range;

use scan::Scanner;

/// `bytes` with `metadata.resourceVersion` set to `revision`, between `prefix` and `suffix`.
/// `None` if `bytes` is no JSON object or its `metadata` is none.
pub fn splice(prefix: &str, bytes: &[u8], revision: u64, suffix: &str) -> Option<Vec<u8>> {
    let site = locate(bytes)?;
    let mut digits = [0; 20];
    let parts = [
        prefix.as_bytes(),
        bytes.get(..site.replace.start)?,
        site.before.as_bytes(),
        b"\"resourceVersion\":\"",
        decimal(revision, &mut digits),
        b"\"",
        site.after.as_bytes(),
        bytes.get(site.replace.end..)?,
        suffix.as_bytes(),
    ];
    // Exact capacity: the vector becomes the long-lived buffer of the object.
    let mut out = Vec::with_capacity(parts.iter().map(|part| part.len()).sum());
    for part in parts {
        out.extend_from_slice(part);
    }
    Some(out)
}

/// Where the version goes: `bytes[replace]` gives way to `before`, the member, `after`.
struct Site {
    replace: Range<usize>,
    before: &'static str,
    after: &'static str,
}

fn locate(bytes: &[u8]) -> Option<Site> {
    let mut scanner = Scanner::new(bytes);
    let document = scanner.open_object()?;
    let Some(_) = scanner.find_member("metadata")? else {
        let after = if document.empty { "}" } else { "}," };
        let at = document.start;
        return Some(Site { replace: at..at, before: "\"metadata\":{", after });
    };
    let metadata = scanner.open_object()?;
    if let Some(member) = scanner.find_member("resourceVersion")? {
        scanner.skip_value()?;
        return Some(Site { replace: member..scanner.position(), before: "", after: "" });
    }
    let after = if metadata.empty { "" } else { "," };
    Some(Site { replace: metadata.start..metadata.start, before: "", after })
}

fn decimal(mut number: u64, buffer: &mut [u8; 20]) -> &[u8] {
    let mut at = buffer.len();
    loop {
        at -= 1;
        buffer[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return &buffer[at..];
        }
    }
}
