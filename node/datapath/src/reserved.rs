//! Ports that the kernel must not give to the node's own connections: NodePorts, and those of masqueraded flows. A
//! socket that had one would lose its answers.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, Read},
    ops::RangeInclusive,
    path::Path,
};

use crate::{
    error::{Error, Result},
    record::Record,
};

/// Of the calling thread's network namespace.
const PATH: &str = "/proc/sys/net/ipv4/ip_local_reserved_ports";
/// What of the list is there because of this node: first and last port of each range, in the upper and lower half of a
/// number.
const RECORD: &str = "xb_reserved";

/// Every second port, each with a comma.
const LIST_BYTES_MAX: usize = 6 << 15;

type Ports = BTreeSet<u16>;

/// Has the ports of `ranges` reserved, and those no more that were only for an earlier call. `directory` is the node's own
/// in the bpf filesystem.
pub fn reserve(directory: &Path, ranges: &[RangeInclusive<u16>]) -> Result<()> {
    let record = Record::ensure(directory, RECORD)?;
    let (listed, before) = (list()?, recorded(&record)?);
    let (after, ours) = plan(&listed, &before, &ranges.iter().cloned().flatten().collect());
    // Before the list: an agent that ends in between leaves a port too many in the record, not one that nobody releases.
    record.set(&packed(&(&before | &ours)))?;
    let written = write(&listed, &after);
    record.set(&packed(if written.is_ok() { &ours } else { &before }))?;
    written
}

/// Takes off the list what [`reserve`] put there, and says what that was, as the kernel does: `61000-65535`, or nothing.
pub fn release(directory: &Path) -> Result<String> {
    let Some(record) = Record::open(directory, RECORD)? else { return Ok(String::new()) };
    let (listed, ours) = (list()?, recorded(&record)?);
    write(&listed, &(&listed - &ours))?;
    Ok(render(&(&listed & &ours)))
}

/// The list as it has to be, and what of it is this node's. What others reserved stays theirs, also where the node wants
/// the same ports.
fn plan(listed: &Ports, ours: &Ports, wanted: &Ports) -> (Ports, Ports) {
    let others = listed - ours;
    (&others | wanted, wanted - &others)
}

fn recorded(record: &Record) -> Result<Ports> {
    Ok(record.members()?.into_iter().flat_map(|range| (range >> 16) as u16..=range as u16).collect())
}

fn packed(ports: &Ports) -> BTreeSet<u32> {
    ranges(ports).into_iter().map(|(first, last)| u32::from(first) << 16 | u32::from(last)).collect()
}

/// In one call: from a second one the kernel has nothing to say, so that a small buffer would cut the list
/// (`proc_do_large_bitmap`). `fs::read_to_string` begins with 32 bytes.
fn list() -> Result<Ports> {
    let mut text = vec![0; LIST_BYTES_MAX];
    let length = fs::File::open(PATH).and_then(|mut file| file.read(&mut text)).map_err(failed("read"))?;
    Ok(parse(&String::from_utf8_lossy(&text[..length])))
}

fn write(before: &Ports, after: &Ports) -> Result<()> {
    // An empty write changes nothing; a line end alone clears the list.
    if after == before { Ok(()) } else { fs::write(PATH, format!("{}\n", render(after))).map_err(failed("write")) }
}

fn failed(operation: &'static str) -> impl Fn(io::Error) -> Error {
    move |source| Error::Sysctl { operation, path: PATH, source }
}

/// As `proc_do_large_bitmap` (kernel/sysctl.c) prints it: `80,443,30000-32767`.
fn parse(text: &str) -> Ports {
    let range = |part: &str| -> Option<RangeInclusive<u16>> {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse().ok()?..=last.parse().ok()?)
    };
    text.trim().split(',').filter_map(range).flatten().collect()
}

fn render(ports: &Ports) -> String {
    let text = |(first, last): &(u16, u16)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    ranges(ports).iter().map(text).collect::<Vec<_>>().join(",")
}

fn ranges(ports: &Ports) -> Vec<(u16, u16)> {
    let mut ranges: Vec<(u16, u16)> = Vec::new();
    for port in ports {
        match ranges.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(*port) => *last = *port,
            _ => ranges.push((*port, *port)),
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, ports: usize) {
        let parsed = parse(text);
        assert_eq!(parsed.len(), ports, "{text}");
        assert_eq!(render(&parsed), text.trim());
    }

    #[test]
    fn lists_are_read_and_written_as_the_kernel_does() {
        check("\n", 0);
        check("80\n", 1);
        check("80,443,30000-32767,65535\n", 2_771);
        assert_eq!(render(&parse("5,3-4,4,9")), "3-5,9");
    }

    #[test]
    fn what_others_reserved_stays_theirs() {
        let check = |listed: &str, ours: &str, wanted: &str, after: &str, then_ours: &str| {
            let (list, own) = plan(&parse(listed), &parse(ours), &parse(wanted));
            assert_eq!((render(&list), render(&own)), (after.to_owned(), then_ours.to_owned()), "{listed} {ours}");
        };
        check("", "", "10-20", "10-20", "10-20");
        check("9,15-30", "", "10-20", "9-30", "10-14");
        // Another range: the earlier one goes, but for what others have.
        check("9-30", "10-14", "40", "9,15-30,40", "40");
        // An administrator took some away, and some that are wanted.
        check("12", "10-20", "10-14", "10-14", "10-14");
    }

    #[test]
    fn a_range_is_recorded_in_one_number() {
        let ports = parse("1,30000-32767,61000-65535");
        assert_eq!(packed(&ports).len(), 3);
        let back = packed(&ports).into_iter().flat_map(|range| (range >> 16) as u16..=range as u16);
        assert_eq!(back.collect::<Ports>(), ports);
    }
}
