//! `cargo xtask compat`: writes `docs/compatibility.md` from what tests find.
//!
//! The part about kinds is the work of a test of `xebec-apiserver` (`tests/api/compat.rs`), which also checks it in every run of the tests. The
//! parts about features and about the behaviours that upstream certifies are lists of tests ([`LISTS`]): what is listed works when all of its
//! tests pass.

mod list;

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::{sh, test, up};
use list::{Entry, List};

const PAGE: &str = "docs/compatibility.md";
const LISTS: [List; 2] = [
    List { file: "xtask/src/compat/features.txt", what: "feature", mark: "features" },
    List { file: "xtask/src/compat/conformance.txt", what: "upstream's test", mark: "conformance" },
];
/// Its tests start whole clusters.
const CLUSTERS: &str = "xebec-tests";

#[derive(Args)]
pub struct Compat {
    /// Only write the part about kinds (half a minute); the rest stays as it is
    #[arg(long, conflicts_with = "check")]
    kinds: bool,
    /// Only look whether the page has what is listed, and the tests exist
    #[arg(long)]
    check: bool,
}

impl Compat {
    /// # Errors
    /// A test that does not exist or cannot be run, a stale page.
    pub fn run(&self) -> Result<()> {
        if self.check {
            return check();
        }
        kinds()?;
        if self.kinds {
            return Ok(());
        }
        let lists = read()?;
        let entries: Vec<&Entry> = lists.iter().flat_map(|(_, entries)| entries).collect();
        write(&lists, &passed(&entries)?)
    }
}

/// Compares the page with the lists, as if all tests passed: a run in which one does not fails by itself.
///
/// # Errors
/// A test of a list that does not exist, a stale page.
pub fn check() -> Result<()> {
    let lists = read()?;
    let entries: Vec<&Entry> = lists.iter().flat_map(|(_, entries)| entries).collect();
    let named: BTreeSet<String> = entries.iter().flat_map(|entry| &entry.tests).cloned().collect();
    let page = fs::read_to_string(sh::root().join(PAGE)).context(PAGE)?;
    if with_lists(&page, &lists, &named)? != page {
        bail!("{PAGE} is stale: run `cargo xtask compat`");
    }
    let mut known = BTreeSet::new();
    for packages in [test::WORKSPACE, test::CLUSTERS] {
        let mut nextest = sh::cargo();
        nextest.args(["nextest", "list", "--message-format", "oneline", "--color", "never"]).args(packages);
        known.extend(sh::read(&mut nextest)?.lines().filter_map(list::test_of));
    }
    for (list, entries) in &lists {
        let named = entries.iter().flat_map(|entry| &entry.tests);
        let missing: Vec<_> = named.filter(|test| !known.contains(*test)).map(String::as_str).collect();
        if !missing.is_empty() {
            bail!("{} names tests that do not exist: {}", list.file, missing.join(", "));
        }
    }
    Ok(())
}

fn read() -> Result<Vec<(List, Vec<Entry>)>> {
    let read = |list: List| {
        let text = fs::read_to_string(sh::root().join(list.file)).context(list.file)?;
        let entries = list::read(&text).context(list.file)?;
        Ok((list, entries))
    };
    LISTS.into_iter().map(read).collect()
}

fn write(lists: &[(List, Vec<Entry>)], passed: &BTreeSet<String>) -> Result<()> {
    let page = fs::read_to_string(sh::root().join(PAGE)).context(PAGE)?;
    fs::write(sh::root().join(PAGE), with_lists(&page, lists, passed)?).context(PAGE)
}

/// Lets the test write its part.
fn kinds() -> Result<()> {
    let filter = "test(=compat::the_page_says_what_every_kind_can_do)";
    let mut run = sh::cargo();
    run.args(["nextest", "run", "--package", "xebec-apiserver", "-E", filter]);
    sh::run(run.env("XEBEC_COMPATIBILITY", "write"))
}

/// Runs the tests that are listed and says which passed.
fn passed(entries: &[&Entry]) -> Result<BTreeSet<String>> {
    let mut passed = BTreeSet::new();
    for package in packages(entries) {
        let mut run = match package {
            // A binary that is named by hand is not built.
            CLUSTERS if std::env::var_os("XEBEC").is_some() => sh::cargo(),
            CLUSTERS => {
                up::release()?;
                test::nextest()?
            }
            _ => sh::cargo(),
        };
        let tests = entries.iter().flat_map(|entry| &entry.tests).filter_map(|test| test.split_once(' '));
        let tests: BTreeSet<_> = tests.filter(|(owner, _)| *owner == package).map(|(_, test)| test).collect();
        let filter: Vec<_> = tests.into_iter().map(|test| format!("test(={test})")).collect();
        run.args(["nextest", "run", "--package", package, "--no-fail-fast", "--color", "never"]);
        run.args(["--status-level", "pass", "--final-status-level", "none", "-E", &filter.join(" | ")]);
        passed.extend(outcome(&mut run)?.lines().filter_map(list::passed));
    }
    Ok(passed)
}

/// What nextest says of each test; tests that fail are its matter, not ours.
fn outcome(run: &mut Command) -> Result<String> {
    let output = run.stdout(Stdio::inherit()).stderr(Stdio::piped()).output().context("start cargo nextest")?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    eprint!("{text}");
    Ok(text)
}

fn packages<'a>(entries: &[&'a Entry]) -> BTreeSet<&'a str> {
    entries.iter().flat_map(|entry| &entry.tests).filter_map(|test| Some(test.split_once(' ')?.0)).collect()
}

fn with_lists(page: &str, lists: &[(List, Vec<Entry>)], passed: &BTreeSet<String>) -> Result<String> {
    lists.iter().try_fold(page.to_owned(), |page, (list, entries)| {
        let (begin, end) = (format!("<!-- {}: begin -->\n\n", list.mark), format!("<!-- {}: end -->\n", list.mark));
        let at = |mark: &str| page.find(mark).with_context(|| format!("{PAGE} has no {mark}"));
        let (begin, end) = (at(&begin)? + begin.len(), at(&end)?);
        Ok(format!("{}{}{}", &page[..begin], list::render(list.what, entries, passed), &page[end..]))
    })
}
