//! What a machine says on its console about its steps: lines that begin with `xb:`.

use std::collections::BTreeMap;

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
}

impl Report {
    /// Takes in one line. A line worth showing comes back as text.
    pub fn read(&mut self, line: &str) -> Option<String> {
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
                let result = if *status == "0" { format!("ok, {seconds} s") } else { format!("FAILED, {seconds} s") };
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
        for line in ["xb: booted 6.1.0", "xb: step load 0 2.1", "xb: step topology 101 9.0", "[ 1.0] noise", "xb: done"]
        {
            report.read(line);
        }
        assert!(report.booted && report.done);
        assert!(report.passed("load"));
        assert!(!report.passed("topology"));
        assert!(!report.passed("cluster"), "a step that never ended");
    }
}
