//! What a run prints.

use std::fmt;

use serde::Serialize;

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

#[derive(Debug, Default, Serialize)]
pub struct Report {
    figures: Vec<Figure>,
}

impl Report {
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

    pub fn to_json(&self) -> serde_json::Result<String> {
        serde_json::to_string_pretty(self)
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
