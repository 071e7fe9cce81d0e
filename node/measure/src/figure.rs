//! What a run prints.

use std::fmt;
use std::fmt::Write as _;

use serde::Serialize;

use crate::host::Host;
use crate::target::{Target, target};

/// One measured value beside what it is compared with and what it should be.
#[derive(Debug, Serialize)]
pub struct Figure {
    pub name: String,
    pub unit: &'static str,
    pub value: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer_value: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub met: Option<bool>,
}

#[derive(Debug, Serialize)]
pub struct Report {
    host: Host,
    /// What could not be measured, and why.
    left_out: Vec<String>,
    figures: Vec<Figure>,
}

impl Report {
    pub fn new(host: Host) -> Self {
        Self { host, left_out: Vec::new(), figures: Vec::new() }
    }

    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Adds a figure and shows it at once: a long run says where it is.
    pub fn add(&mut self, name: impl Into<String>, unit: &'static str, value: f64, peer: Option<(&str, f64)>) {
        let name = name.into();
        let target = target(&name);
        let (peer, peer_value) = peer.map(|(peer, value)| (peer.to_owned(), value)).unzip();
        let met = target.map(|target| target.met(value));
        let target = target.as_ref().map(Target::to_string);
        let figure = Figure { name, unit, value, peer, peer_value, target, met };
        eprintln!("{figure}");
        self.figures.push(figure);
    }

    /// Notes what is missing, and shows it at once.
    pub fn leave_out(&mut self, line: impl Into<String>) {
        let line = line.into();
        eprintln!("{line}");
        self.left_out.push(line);
    }

    pub fn left_out(&self) -> &[String] {
        &self.left_out
    }

    /// # Errors
    /// A value that JSON cannot hold.
    pub fn to_json(&self) -> serde_json::Result<String> {
        serde_json::to_string_pretty(self)
    }

    /// The host, every figure, and what was left out.
    pub fn markdown(&self) -> String {
        let left_out: String = self.left_out.iter().map(|line| format!("\n{line}\n")).collect();
        format!("{}\n\n{}{left_out}", self.host.line(), self.table(|_| true))
    }

    /// Figures as the rows of a table.
    pub fn table(&self, wanted: impl Fn(&Figure) -> bool) -> String {
        let mut text =
            String::from("| figure | value | unit | peer | peer's value | target | |\n|---|---|---|---|---|---|---|\n");
        for figure in self.figures.iter().filter(|figure| wanted(figure)) {
            let Figure { name, unit, value, peer, peer_value, target, met } = figure;
            let peer = peer.as_deref().unwrap_or_default();
            let peer_value = peer_value.map_or_else(String::new, |value| format!("{value:.2}"));
            let (target, met) =
                (target.as_deref().unwrap_or_default(), met.map_or("", |met| if met { "met" } else { "missed" }));
            // Writing to a string cannot fail.
            let _ = writeln!(text, "| {name} | {value:.2} | {unit} | {peer} | {peer_value} | {target} | {met} |");
        }
        text
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:.2} {}", self.name, self.value, self.unit)?;
        if let (Some(peer), Some(value)) = (&self.peer, self.peer_value) {
            write!(f, " ({peer}: {value:.2})")?;
        }
        if let (Some(target), Some(met)) = (&self.target, self.met) {
            write!(f, " [{target}: {}]", if met { "met" } else { "missed" })?;
        }
        Ok(())
    }
}
