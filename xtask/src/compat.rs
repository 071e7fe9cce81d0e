//! `cargo xtask compat`: writes `docs/compatibility.md` from what tests find.
//!
//! The part about kinds is the work of a test of `xebec-apiserver` (`tests/api/compat.rs`), which also checks it in every run of the tests. The
//! part about features is a list of tests ([`FEATURES`]): a feature works when all of its tests pass.

mod features;

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::{sh, test, up};
use features::Feature;

const PAGE: &str = "docs/compatibility.md";
const FEATURES: &str = "xtask/src/compat/features.txt";
const BEGIN: &str = "<!-- features: begin -->\n";
const END: &str = "<!-- features: end -->\n";
/// Its tests start whole clusters.
const CLUSTERS: &str = "xebec-tests";

#[derive(Args)]
pub struct Compat {
    /// Only write the part about kinds (half a minute); features stay as they are
    #[arg(long, conflicts_with = "check")]
    kinds: bool,
    /// Only look whether the features are those of the list, and their tests exist
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
        let features = features::read(&fs::read_to_string(sh::root().join(FEATURES)).context(FEATURES)?)?;
        let passed = passed(&features)?;
        let page = fs::read_to_string(sh::root().join(PAGE)).context(PAGE)?;
        fs::write(sh::root().join(PAGE), with_features(&page, &features::render(&features, &passed))?).context(PAGE)
    }
}

/// Compares the features of the page with the list, as if all tests passed: a run in which one does not fails by itself.
///
/// # Errors
/// A test of the list that does not exist, a stale page.
pub fn check() -> Result<()> {
    let features = features::read(&fs::read_to_string(sh::root().join(FEATURES)).context(FEATURES)?)?;
    let mut list = sh::cargo();
    list.args(["nextest", "list", "--message-format", "oneline", "--color", "never"]);
    for package in packages(&features) {
        list.args(["--package", package]);
    }
    let listed = sh::read(&mut list)?;
    let known: BTreeSet<String> = listed.lines().filter_map(features::test_of).collect();
    let named = || features.iter().flat_map(|feature| &feature.tests);
    let missing: Vec<_> = named().filter(|test| !known.contains(*test)).map(String::as_str).collect();
    if !missing.is_empty() {
        bail!("{FEATURES} names tests that do not exist: {}", missing.join(", "));
    }
    let page = fs::read_to_string(sh::root().join(PAGE)).context(PAGE)?;
    if with_features(&page, &features::render(&features, &named().cloned().collect()))? != page {
        bail!("{PAGE} is stale: run `cargo xtask compat`");
    }
    Ok(())
}

/// Lets the test write its part.
fn kinds() -> Result<()> {
    let filter = "test(=compat::the_page_says_what_every_kind_can_do)";
    let mut run = sh::cargo();
    run.args(["nextest", "run", "--package", "xebec-apiserver", "-E", filter]);
    sh::run(run.env("XEBEC_COMPATIBILITY", "write"))
}

/// Runs the tests of all features and says which passed.
fn passed(features: &[Feature]) -> Result<BTreeSet<String>> {
    let mut passed = BTreeSet::new();
    for package in packages(features) {
        let mut run = match package {
            // A binary that is named by hand is not built.
            CLUSTERS if std::env::var_os("XEBEC").is_some() => sh::cargo(),
            CLUSTERS => {
                up::release()?;
                test::nextest()?
            }
            _ => sh::cargo(),
        };
        let tests = features.iter().flat_map(|feature| &feature.tests).filter_map(|test| test.split_once(' '));
        let tests: BTreeSet<_> = tests.filter(|(owner, _)| *owner == package).map(|(_, test)| test).collect();
        let filter: Vec<_> = tests.into_iter().map(|test| format!("test(={test})")).collect();
        run.args(["nextest", "run", "--package", package, "--no-fail-fast", "--color", "never"]);
        run.args(["--status-level", "pass", "--final-status-level", "none", "-E", &filter.join(" | ")]);
        passed.extend(outcome(&mut run)?.lines().filter_map(features::passed));
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

fn packages(features: &[Feature]) -> BTreeSet<&str> {
    features.iter().flat_map(|feature| &feature.tests).filter_map(|test| Some(test.split_once(' ')?.0)).collect()
}

fn with_features(page: &str, features: &str) -> Result<String> {
    let begin = page.find(BEGIN).with_context(|| format!("{PAGE} has no {BEGIN}"))? + BEGIN.len();
    let end = page.find(END).with_context(|| format!("{PAGE} has no {END}"))?;
    Ok(format!("{}{features}{}", &page[..begin], &page[end..]))
}
