//! A real kubectl.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::cluster::text;
use crate::{eventually, patient};

#[derive(Clone, Debug)]
pub struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
}

impl Kubectl {
    pub fn new(program: PathBuf, kubeconfig: PathBuf) -> Self {
        Self { program, kubeconfig }
    }

    /// The file that runs.
    pub fn program(&self) -> &Path {
        &self.program
    }

    pub fn command(&self, line: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.env("KUBECONFIG", &self.kubeconfig).args(words(line).into_iter().map(patiently));
        command
    }

    /// Standard output of a call that succeeds. Words are split at spaces; single quotes keep them.
    #[track_caller]
    pub fn ok(&self, line: &str) -> String {
        self.run(line, None).unwrap_or_else(|error| panic!("kubectl {line}: {error}"))
    }

    /// As [`Self::ok`], with `input` on standard input.
    #[track_caller]
    pub fn ok_with(&self, line: &str, input: &str) -> String {
        self.run(line, Some(input)).unwrap_or_else(|error| panic!("kubectl {line}: {error}"))
    }

    /// What a call that fails printed.
    #[track_caller]
    pub fn fails(&self, line: &str, input: Option<&str>) -> String {
        match self.run(line, input) {
            Ok(output) => panic!("kubectl {line} should fail, but printed {output}"),
            Err(error) => error,
        }
    }

    /// The object or list that `get … -o json` prints.
    #[track_caller]
    pub fn json(&self, line: &str) -> Value {
        let output = self.ok(&format!("{line} -o json"));
        serde_json::from_str(&output).unwrap_or_else(|error| panic!("kubectl {line}: {error} in {output}"))
    }

    /// Repeats a call until it succeeds and its output contains `wanted`.
    #[track_caller]
    pub fn until(&self, seconds: u64, line: &str, wanted: &str) -> String {
        eventually(&format!("kubectl {line} prints {wanted:?}"), seconds, || match self.run(line, None) {
            Ok(output) if output.contains(wanted) => Ok(output),
            Ok(output) => Err(output),
            Err(error) => Err(error),
        })
    }

    /// A call in the background.
    pub fn spawn(&self, line: &str) -> Child {
        self.command(line).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("start kubectl")
    }

    /// Standard output, or both streams of a call that failed.
    pub fn run(&self, line: &str, input: Option<&str>) -> Result<String, String> {
        let mut command = self.command(line);
        command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("start kubectl");
        if let (Some(input), Some(mut stdin)) = (input, child.stdin.take()) {
            stdin.write_all(input.as_bytes()).expect("write to kubectl");
        }
        let output = child.wait_with_output().expect("wait for kubectl");
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            false => Err(text(&output)),
        }
    }
}

/// `--timeout=60s` is as long as the machine needs.
fn patiently(word: String) -> String {
    let seconds = word.strip_prefix("--timeout=").and_then(|rest| rest.strip_suffix('s')?.parse().ok());
    seconds.map_or(word, |seconds| format!("--timeout={}s", patient(seconds)))
}

/// Splits at spaces; single quotes keep them.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![];
    let (mut word, mut quoted, mut open) = (String::new(), false, false);
    for character in line.chars() {
        match character {
            '\'' => (quoted, open) = (!quoted, true),
            ' ' if !quoted => {
                if open {
                    words.push(std::mem::take(&mut word));
                }
                open = false;
            }
            _ => {
                word.push(character);
                open = true;
            }
        }
    }
    if open {
        words.push(word);
    }
    words
}
