//! What a run prints.

use serde::Serialize;

/// One measured value beside what it is compared with.
#[derive(Debug, Serialize)]
pub struct Figure {
    pub name: String,
    pub unit: &'static str,
    pub value: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer_value: Option<f64>,
}

#[derive(Debug, Default, Serialize)]
pub struct Report {
    figures: Vec<Figure>,
}

impl Report {
    /// Adds a figure and shows it at once: a long run says where it is.
    pub fn add(&mut self, name: impl Into<String>, unit: &'static str, value: f64, peer: Option<(&str, f64)>) {
        let name = name.into();
        match peer {
            Some((peer, peer_value)) => eprintln!("{name}: {value:.2} {unit} ({peer}: {peer_value:.2})"),
            None => eprintln!("{name}: {value:.2} {unit}"),
        }
        let (peer, peer_value) = peer.map(|(peer, value)| (peer.to_owned(), value)).unzip();
        self.figures.push(Figure { name, unit, value, peer, peer_value });
    }

    pub fn to_json(&self) -> serde_json::Result<String> {
        serde_json::to_string_pretty(self)
    }
}
