//! Ports that the kernel must not give to the node's own connections: NodePorts, and those of masqueraded flows. A
//! socket that had one would lose its answers.

use std::{collections::BTreeSet, fs, io, ops::RangeInclusive};

/// Of the calling thread's network namespace.
const PATH: &str = "/proc/sys/net/ipv4/ip_local_reserved_ports";

/// Adds ports to those that are reserved already.
pub fn reserve(ranges: &[RangeInclusive<u16>]) -> io::Result<()> {
    change(|ports| ports.extend(ranges.iter().cloned().flatten()))
}

/// Takes ports off again.
pub fn release(ranges: &[RangeInclusive<u16>]) -> io::Result<()> {
    change(|ports| ports.retain(|port| !ranges.iter().any(|range| range.contains(port))))
}

fn change(edit: impl FnOnce(&mut BTreeSet<u16>)) -> io::Result<()> {
    let before = fs::read_to_string(PATH)?;
    let mut ports = parse(&before);
    edit(&mut ports);
    let after = render(&ports);
    // An empty write changes nothing; a line end alone clears the list.
    if after == before.trim() { Ok(()) } else { fs::write(PATH, format!("{after}\n")) }
}

/// As `proc_do_large_bitmap` (kernel/sysctl.c) prints it: `80,443,30000-32767`.
fn parse(text: &str) -> BTreeSet<u16> {
    let range = |part: &str| -> Option<RangeInclusive<u16>> {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse().ok()?..=last.parse().ok()?)
    };
    text.trim().split(',').filter_map(range).flatten().collect()
}

fn render(ports: &BTreeSet<u16>) -> String {
    let mut ranges: Vec<(u16, u16)> = Vec::new();
    for port in ports {
        match ranges.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(*port) => *last = *port,
            _ => ranges.push((*port, *port)),
        }
    }
    let text = |(first, last): &(u16, u16)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    ranges.iter().map(text).collect::<Vec<_>>().join(",")
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
}
