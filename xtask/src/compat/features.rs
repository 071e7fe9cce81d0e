//! The list of features, and the table made of it.
//!
//! A line with `#` begins an area. The others are `FEATURE = PACKAGE TEST, PACKAGE TEST`, packages without `xebec-`; a feature without tests does
//! not work, and what follows `!` says why or how far.

use std::collections::BTreeSet;
use std::fmt::Write;

use anyhow::{Context, Result};

#[derive(Debug, PartialEq, Eq)]
pub struct Feature {
    pub area: String,
    pub name: String,
    /// `xebec-apiserver lists::pages_are_one_snapshot`
    pub tests: Vec<String>,
    pub remark: String,
}

/// # Errors
/// A line that is neither an area nor a feature.
pub fn read(text: &str) -> Result<Vec<Feature>> {
    let mut area = String::new();
    let mut features = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(name) = line.strip_prefix("# ") {
            name.clone_into(&mut area);
            continue;
        }
        let (name, rest) = line.split_once(" =").with_context(|| format!("`{line}` has no ` =`"))?;
        let (tests, remark) = rest.split_once('!').unwrap_or((rest, ""));
        let tests = tests.split(',').map(str::trim).filter(|test| !test.is_empty());
        features.push(Feature {
            area: area.clone(),
            name: name.to_owned(),
            tests: tests.map(|test| format!("xebec-{test}")).collect(),
            remark: remark.trim().to_owned(),
        });
    }
    Ok(features)
}

/// The tables: a feature works when it has tests and all of them passed.
pub fn render(features: &[Feature], passed: &BTreeSet<String>) -> String {
    let mut out = String::new();
    for area in features.chunk_by(|a, b| a.area == b.area) {
        let _infallible = writeln!(out, "\n### {}\n\n| feature | | shown by |\n|---|:-:|---|", area[0].area);
        for feature in area {
            let works = !feature.tests.is_empty() && feature.tests.iter().all(|test| passed.contains(test));
            let tests: Vec<_> = feature.tests.iter().map(|test| format!("`{}`", &test["xebec-".len()..])).collect();
            let remark = if feature.remark.is_empty() { vec![] } else { vec![feature.remark.clone()] };
            let shown = [tests, remark].concat().join(", ");
            let _infallible = writeln!(out, "| {} | {} | {shown} |", feature.name, if works { "✓" } else { "✗" });
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
    fn a_feature_works_when_all_its_tests_passed() {
        let features = read("# A\none = a x::y, b z\ntwo = a x::q\n# B\nthree = ! not there\n").expect("a list");
        let lines =
            ["  PASS [   0.1s] xebec-a::bin x::y", "  PASS [   0.1s] (2/3) xebec-b z", "  FAIL [   0.1s] xebec-a x::q"];
        let passed: BTreeSet<_> = lines.into_iter().filter_map(passed).collect();
        let page = render(&features, &passed);
        assert!(page.contains("| one | ✓ | `a x::y`, `b z` |"), "{page}");
        assert!(page.contains("| two | ✗ | `a x::q` |"), "{page}");
        assert!(page.contains("### B") && page.contains("| three | ✗ | not there |"), "{page}");
    }

    #[test]
    fn lists_and_runs_name_tests_alike() {
        assert_eq!(test_of("xebec-a::bin x::y"), passed("PASS [ 12.345s] xebec-a::bin x::y"));
        assert_eq!(passed("        SLOW [> 60.000s] xebec-a::bin x::y"), None);
        assert!(read("no sign of a feature").is_err());
    }
}
