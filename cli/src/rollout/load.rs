//! Requests from one node, each on a connection of its own, until told to stop.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use serde::{Deserialize, Serialize};

use crate::inside::{Place, Running, until_told};
use crate::output::say;

/// Connections at the same time from each node.
const WORKERS: usize = 2;
/// A request that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two requests of a worker: load enough to meet every moment, not so much that ports run out.
const PAUSE: Duration = Duration::from_millis(2);

#[derive(Args)]
pub struct Load {
    #[arg(long)]
    target: SocketAddr,
    #[arg(long)]
    path: String,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Report {
    pub requests: u64,
    /// How often, by what was wrong.
    pub failures: BTreeMap<String, u64>,
}

impl Report {
    pub fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    pub fn join(mut self, other: Self) -> Self {
        self.requests += other.requests;
        for (what, times) in other.failures {
            *self.failures.entry(what).or_default() += times;
        }
        self
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} requests, {} failed", self.requests, self.failed())?;
        self.failures.iter().try_for_each(|(what, times)| write!(f, "\n  {times} {what}"))
    }
}

impl Load {
    /// The same in a process of its own.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(place: &Place, target: SocketAddr, path: &str) -> Result<Running> {
        place.start(["rollout", "load", "--target", &target.to_string(), "--path", path])
    }

    /// Works until standard input ends, then prints the report.
    ///
    /// # Errors
    /// When the cgroup or the namespace cannot be entered.
    pub fn run(&self) -> Result<()> {
        let netns = self.place.enter()?;
        let stop = AtomicBool::new(false);
        let report = std::thread::scope(|scope| -> Result<Report> {
            let worker = || netns.run(|| self.work(&stop));
            let workers: Vec<_> = (0..WORKERS).map(|_| scope.spawn(worker)).collect();
            let told = until_told();
            stop.store(true, Ordering::Relaxed);
            let mut report = Report::default();
            for worker in workers {
                let own = worker.join().map_err(|_| anyhow::anyhow!("a worker panicked"))?;
                report = report.join(own?);
            }
            told.map(|()| report)
        })?;
        say!("{}", serde_json::to_string(&report)?)?;
        Ok(())
    }

    fn work(&self, stop: &AtomicBool) -> Report {
        let mut report = Report::default();
        while !stop.load(Ordering::Relaxed) {
            report.requests += 1;
            if let Err(what) = self.request() {
                *report.failures.entry(what).or_default() += 1;
            }
            std::thread::sleep(PAUSE);
        }
        report
    }

    fn request(&self) -> Result<(), String> {
        let mut stream = TcpStream::connect_timeout(&self.target, PATIENCE).map_err(|e| format!("connect: {e}"))?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(|e| format!("set a time-out: {e}"))?;
        let request = format!("GET {} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.path, self.target);
        stream.write_all(request.as_bytes()).map_err(|e| format!("send: {e}"))?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).map_err(|e| format!("answer: {e}"))?;
        let answer = String::from_utf8_lossy(&answer);
        let line = answer.lines().next().unwrap_or_default();
        match line.split(' ').nth(1).and_then(|status| status.parse::<u16>().ok()) {
            Some(status) if status < 500 => Ok(()),
            Some(_) => Err(line.to_owned()),
            None => Err("closed without an answer".to_owned()),
        }
    }
}
