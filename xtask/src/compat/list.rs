//! Lists of what tests show, and the tables made of them.
//!
//! A line with `#` begins an area. The others are `NAME = PACKAGE TEST, PACKAGE TEST`, packages without `xebec-`; what has no tests does not work,
//! and what follows `!` says why or how far.

use std::collections::BTreeSet;
use std::fmt::Write;

use anyhow::{Context, Result, bail};

/// A list, and the part of the page that is made of it.
pub struct List {
    /// From the root of the repository.
    pub file: &'static str,
    /// What its names are names of.
    pub what: &'static str,
    /// Between comments of this name on the page.
    pub mark: &'static str,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Entry {
    pub area: String,
    pub name: String,
    /// `xebec-apiserver lists::pages_are_one_snapshot`
    pub tests: Vec<String>,
    pub remark: String,
}

/// # Errors
/// A line that is neither an area nor an entry, a name that comes twice.
pub fn read(text: &str) -> Result<Vec<Entry>> {
    let mut area = String::new();
    let mut entries = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(name) = line.strip_prefix("# ") {
            name.clone_into(&mut area);
            continue;
        }
        let (name, rest) = line.split_once(" =").with_context(|| format!("`{line}` has no ` =`"))?;
        let (tests, remark) = rest.split_once('!').unwrap_or((rest, ""));
        if entries.iter().any(|known: &Entry| known.name == name) {
            bail!("`{name}` comes twice");
        }
        let tests = tests.split(',').map(str::trim).filter(|test| !test.is_empty());
        entries.push(Entry {
            area: area.clone(),
            name: name.to_owned(),
            tests: tests.map(|test| format!("xebec-{test}")).collect(),
            remark: remark.trim().to_owned(),
        });
    }
    Ok(entries)
}

/// The tables: what has tests works when all of them passed.
pub fn render(what: &str, entries: &[Entry], passed: &BTreeSet<String>) -> String {
    let works = |entry: &&Entry| !entry.tests.is_empty() && entry.tests.iter().all(|test| passed.contains(test));
    let mut out = format!("{} of {} are ✓.\n", entries.iter().filter(works).count(), entries.len());
    for area in entries.chunk_by(|a, b| a.area == b.area) {
        let (count, all) = (area.iter().filter(works).count(), area.len());
        let _infallible =
            writeln!(out, "\n### {}: {count} of {all}\n\n| {what} | | shown by |\n|---|:-:|---|", area[0].area);
        for entry in area {
            let tests: Vec<_> = entry.tests.iter().map(|test| format!("`{}`", &test["xebec-".len()..])).collect();
            let remark = if entry.remark.is_empty() { vec![] } else { vec![entry.remark.clone()] };
            let shown = [tests, remark].concat().join(", ");
            let _infallible = writeln!(out, "| {} | {} | {shown} |", entry.name, if works(&entry) { "✓" } else { "✗" });
        }
    }
    out.push('\n');
    out
}

/// The test in a line of `nextest list`: `xebec-apiserver::api lists::pages_are_one_snapshot`.
pub fn test_of(line: &str) -> Option<String> {
    let (binary, test) = line.trim().split_once(' ')?;
    let package = binary.split("::").next()?;
    Some(format!("{package} {test}"))
}

/// The test in a line of `nextest run` about one that passed.
pub fn passed(line: &str) -> Option<String> {
    let rest = line.trim().strip_prefix("PASS [")?;
    let (_, rest) = rest.split_once("] ")?;
    // `(1/30) ` where the version of nextest counts.
    test_of(rest.trim_start().split_once(") ").map_or(rest, |(_, rest)| rest))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{passed, read, render, test_of};

    #[test]
    fn what_is_listed_works_when_all_its_tests_passed() {
        let entries = read("# A\none = a x::y, b z\ntwo = a x::q\n# B\nthree = ! not there\n").expect("a list");
        let lines =
            ["  PASS [   0.1s] xebec-a::bin x::y", "  PASS [   0.1s] (2/3) xebec-b z", "  FAIL [   0.1s] xebec-a x::q"];
        let passed: BTreeSet<_> = lines.into_iter().filter_map(passed).collect();
        let page = render("feature", &entries, &passed);
        assert!(page.contains("| one | ✓ | `a x::y`, `b z` |"), "{page}");
        assert!(page.contains("| two | ✗ | `a x::q` |"), "{page}");
        assert!(page.contains("### B: 0 of 1") && page.contains("| three | ✗ | not there |"), "{page}");
        assert!(page.starts_with("1 of 3 are ✓.\n\n### A: 1 of 2"), "{page}");
    }

    #[test]
    fn lists_and_runs_name_tests_alike() {
        assert_eq!(test_of("xebec-a::bin x::y"), passed("PASS [ 12.345s] xebec-a::bin x::y"));
        assert_eq!(passed("        SLOW [> 60.000s] xebec-a::bin x::y"), None);
        assert!(read("no sign of an entry").is_err());
        assert!(read("one = a x\none = a y").is_err());
    }
}
