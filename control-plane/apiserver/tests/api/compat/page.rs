//! The page's part about kinds.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;

use super::{COLUMNS, Mark, Row};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/compatibility.md");
const BEGIN: &str = "<!-- kinds: begin -->\n";
const END: &str = "<!-- kinds: end -->\n";

/// What upstream's 1.36 serves by default: `GROUP/VERSION RESOURCE SUBRESOURCE…`, from the API's definitions in k8s-openapi (`v1_36`) and
/// kubernetes/kubernetes `api/discovery`.
const UPSTREAM: &str = include_str!("upstream.txt");

/// What is left out on purpose, and why.
const LEFT_OUT: [(&str, &str); 4] = [
    ("v1", "deprecated since 1.19: `/readyz?verbose` says it"),
    ("admissionregistration.k8s.io/v1", "admission webhooks and policies do not exist, and nobody shall rely on them"),
    ("apiregistration.k8s.io/v1", "aggregation does not exist"),
    ("flowcontrol.apiserver.k8s.io/v1", "requests are limited by one rule for all"),
];

/// Compares with what is committed, or writes it if `XEBEC_COMPATIBILITY` is `write`.
pub fn check(kinds: &str) {
    let page = std::fs::read_to_string(PAGE).expect("docs/compatibility.md");
    let begin = page.find(BEGIN).expect("the mark at which kinds begin") + BEGIN.len();
    let end = page.find(END).expect("the mark at which kinds end");
    if std::env::var("XEBEC_COMPATIBILITY").is_ok_and(|wanted| wanted == "write") {
        let written = format!("{}{kinds}{}", &page[..begin], &page[end..]);
        std::fs::write(Path::new(PAGE), written).expect("write docs/compatibility.md");
        return;
    }
    let committed = &page[begin..end];
    let stale: Vec<_> = kinds.lines().filter(|line| !committed.lines().any(|old| old == *line)).collect();
    assert!(
        kinds == committed,
        "docs/compatibility.md is stale: run `cargo xtask compat --kinds`. Found:\n{}",
        stale.join("\n")
    );
}

pub fn render(rows: &[Row]) -> String {
    let mut out = String::new();
    let groups: Vec<&[Row]> = rows.chunk_by(|a, b| a.kind.api_version() == b.kind.api_version()).collect();
    let works = |row: &Row| {
        row.marks.iter().chain(row.parts.iter().map(|(_, mark)| mark)).filter(|m| matches!(m, Mark::Works)).count()
    };
    let broken = faults(rows);
    let total: usize = rows.iter().map(works).sum();
    let _infallible = writeln!(
        out,
        "{} kinds in {} groups and versions: {total} cells of these tables work, {} do not.\n",
        rows.len(),
        groups.len(),
        broken.len()
    );
    out.push_str(&head());
    for group in groups {
        let _infallible = writeln!(out, "| **{}** |{}", group[0].kind.api_version(), " |".repeat(COLUMNS.len()));
        for row in group {
            let cells: String =
                (0..COLUMNS.len()).map(|i| format!(" {} |", row.marks.get(i).map_or("", symbol))).collect();
            let _infallible = writeln!(out, "| {} |{cells}", row.kind.kind);
        }
    }
    out.push_str("\n### Other subresources\n\n| subresource | |\n|---|---|\n");
    for row in rows {
        for (name, mark) in &row.parts {
            let _infallible = writeln!(out, "| {}/{name} | {} |", row.kind.plural, symbol(mark));
        }
    }
    out.push_str("\n### What fails\n\n");
    match broken.is_empty() {
        true => out.push_str("Nothing.\n"),
        false => broken.iter().for_each(|fault| _ = writeln!(out, "- {fault}")),
    }
    out.push_str("\n### In upstream's discovery of 1.36, and not here\n\n");
    out.push_str(&missing(rows));
    out
}

fn head() -> String {
    let part = |index: usize, name: &str| match index {
        5..=8 => format!("patch: {name}"),
        12..=14 => format!("status: {name}"),
        18..=19 => format!("protobuf {name}"),
        _ => name.to_owned(),
    };
    let names: String = COLUMNS.iter().enumerate().map(|(i, (name, _))| format!(" {} |", part(i, name))).collect();
    format!("| kind |{names}\n|---|{}\n", ":-:|".repeat(COLUMNS.len()))
}

fn symbol(mark: &Mark) -> &'static str {
    match mark {
        Mark::Works => "✓",
        Mark::Broken(_) => "✗",
        Mark::NeedsNode => "node",
        Mark::NotOffered => "",
    }
}

fn faults(rows: &[Row]) -> Vec<String> {
    let mut faults = Vec::new();
    for row in rows {
        let columns =
            COLUMNS.iter().map(|(name, needs)| format!("{}{name}", if *needs == "/status" { "status " } else { "" }));
        let named = columns.zip(&row.marks).chain(row.parts.iter().map(|(name, mark)| (name.clone(), mark)));
        for (name, mark) in named {
            if let Mark::Broken(fault) = mark {
                // The whole of it for whoever mends it; the page must not change from run to run.
                eprintln!("{} {} {name}: {fault}", row.kind.api_version(), row.kind.kind);
                faults.push(format!("{} {}: {name}", row.kind.api_version(), row.kind.kind));
            }
        }
    }
    faults
}

fn missing(rows: &[Row]) -> String {
    let mut served = BTreeSet::new();
    for row in rows {
        let resource = format!("{} {}", row.kind.api_version(), row.kind.plural);
        served.extend(row.kind.subresources.iter().map(|(name, _)| format!("{resource}/{name}")));
        served.insert(resource);
    }
    let mut absent: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for line in UPSTREAM.lines() {
        let mut words = line.split(' ');
        let (group, plural) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        let all = std::iter::once(plural.to_owned()).chain(words.map(|part| format!("{plural}/{part}")));
        let not_here = all.filter(|resource| !served.contains(&format!("{group} {resource}")));
        not_here.for_each(|resource| absent.entry(group).or_default().push(resource));
    }
    let mut out = String::from("| group | resources | |\n|---|---|---|\n");
    for (group, resources) in absent {
        let why = LEFT_OUT.iter().find(|(left_out, _)| *left_out == group).map_or("", |(_, why)| why);
        let _infallible = writeln!(out, "| {group} | {} | {why} |", resources.join(", "));
    }
    out
}
