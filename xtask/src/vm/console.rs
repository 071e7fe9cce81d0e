//! What a machine says on its console about its steps: lines that begin with `xb:`, and libtest's.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

/// What one kernel has and did, by name.
#[derive(Debug, Default)]
pub struct Report {
    /// The machine reached our init.
    pub booted: bool,
    /// The machine ended by itself.
    pub done: bool,
    pub features: BTreeMap<String, String>,
    /// Verified instructions of each program.
    pub instructions: BTreeMap<String, String>,
    /// How each step ended.
    pub steps: BTreeMap<String, String>,
    /// Tests of the step that runs, as libtest counts them at the end.
    tests: Option<String>,
}

impl Report {
    /// Takes in one line. A line worth showing comes back as text.
    pub fn read(&mut self, line: &str) -> Option<String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["test", "result:", _, passed, "passed;", failed, "failed;", ..] => {
                let failed = if *failed == "0" { String::new() } else { format!(" {failed} failed") };
                self.tests = Some(format!("{passed} passed{failed}"));
                return None;
            }
            ["test", name, "...", "FAILED"] => return Some(format!("{name} FAILED")),
            _ => {}
        }
        let words: Vec<&str> = line.strip_prefix("xb: ")?.split_whitespace().collect();
        match words.as_slice() {
            ["booted", release] => {
                self.booted = true;
                Some(format!("booted {release}"))
            }
            ["feature", name, value] => {
                self.features.insert((*name).to_owned(), (*value).to_owned());
                None
            }
            ["instructions", name, count] => {
                self.instructions.insert((*name).to_owned(), (*count).to_owned());
                None
            }
            ["step", name, status, seconds] => {
                let verdict = if *status == "0" { "ok" } else { "FAILED" };
                let tests = self.tests.take().map(|tests| format!(", {tests}")).unwrap_or_default();
                let result = format!("{verdict}{tests}, {seconds} s");
                let news = format!("{name}: {result}");
                self.steps.insert((*name).to_owned(), result);
                Some(news)
            }
            ["done"] => {
                self.done = true;
                None
            }
            _ => Some(words.join(" ")),
        }
    }

    /// Verified instructions as numbers.
    ///
    /// # Errors
    /// When the machine said something else.
    pub fn counts(&self) -> Result<BTreeMap<String, u64>> {
        let count = |(program, count): (&String, &String)| {
            Ok((program.clone(), count.parse().with_context(|| format!("instructions of {program}: {count:?}"))?))
        };
        self.instructions.iter().map(count).collect()
    }

    pub fn passed(&self, step: &str) -> bool {
        self.steps.get(step).is_some_and(|result| result.starts_with("ok"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_passes_only_if_it_ended_with_zero() {
        let mut report = Report::default();
        for line in [
            "xb: booted 6.1.0",
            "xb: step load 0 2.1",
            "test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s",
            "xb: step unit 0 1.5",
            "test result: FAILED. 7 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 8.00s",
            "xb: step topology 101 9.0",
            "[ 1.0] noise",
            "xb: done",
        ] {
            report.read(line);
        }
        assert!(report.booted && report.done);
        assert!(report.passed("load"));
        assert!(!report.passed("topology"));
        assert!(!report.passed("cluster"), "a step that never ended");
        let said = |step: &str| report.steps[step].as_str();
        assert_eq!(
            [said("load"), said("unit"), said("topology")],
            ["ok, 2.1 s", "ok, 3 passed, 1.5 s", "FAILED, 7 passed 1 failed, 9.0 s"]
        );
    }

    #[test]
    fn instructions_are_numbers() {
        let mut report = Report::default();
        report.read("xb: instructions from_pod 27422");
        assert_eq!(report.counts().expect("numbers"), BTreeMap::from([("from_pod".to_owned(), 27422)]));
        report.read("xb: instructions to_pod many");
        assert!(report.counts().expect_err("not a number").to_string().contains("to_pod"));
    }

    #[test]
    fn a_test_that_fails_is_named() {
        let mut report = Report::default();
        assert_eq!(report.read("test a::b ... FAILED").as_deref(), Some("a::b FAILED"));
        assert_eq!(report.read("test a::c ... ok"), None);
    }
}
