//! Requests from one node, each on a connection of its own, until told to stop.
//!
//! A process of its own: socket hooks belong to a cgroup, and a process is in one.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde::{Deserialize, Serialize};
use xebec_netlink::Netns;

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
    /// Enter this network namespace
    #[arg(long)]
    netns: Option<PathBuf>,
    /// Join this cgroup
    #[arg(long)]
    cgroup: Option<PathBuf>,
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
    /// Works until standard input ends, then prints the report.
    ///
    /// # Errors
    /// When the cgroup or the namespace cannot be entered.
    pub fn run(&self) -> Result<()> {
        if let Some(cgroup) = &self.cgroup {
            let path = cgroup.join("cgroup.procs");
            std::fs::write(&path, "0").with_context(|| format!("join {}", path.display()))?;
        }
        let netns = self.netns.as_ref().map_or_else(Netns::current, Netns::open)?;
        let stop = AtomicBool::new(false);
        let report = std::thread::scope(|scope| -> Result<Report> {
            let worker = || netns.run(|| self.work(&stop));
            let workers: Vec<_> = (0..WORKERS).map(|_| scope.spawn(worker)).collect();
            let read = std::io::stdin().read_to_end(&mut Vec::new());
            stop.store(true, Ordering::Relaxed);
            let mut report = Report::default();
            for worker in workers {
                let own = worker.join().map_err(|_| anyhow::anyhow!("a worker panicked"))?;
                report = report.join(own?);
            }
            read.context("read standard input")?;
            Ok(report)
        })?;
        println!("{}", serde_json::to_string(&report)?);
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

/// A load in a process of its own.
pub struct Running(Child);

impl Running {
    /// # Errors
    /// When the process cannot be started.
    pub fn start(target: SocketAddr, path: &str, netns: Option<&Path>, cgroup: Option<&Path>) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["rollout", "load", "--target", &target.to_string(), "--path", path]);
        for (flag, value) in [("--netns", netns), ("--cgroup", cgroup)] {
            if let Some(value) = value {
                command.arg(flag).arg(value);
            }
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        Ok(Self(command.spawn().context("start the load")?))
    }

    /// # Errors
    /// When the load failed as a whole.
    pub fn stop(mut self) -> Result<Report> {
        drop(self.0.stdin.take());
        let mut text = String::new();
        self.0.stdout.take().context("no pipe")?.read_to_string(&mut text)?;
        let status = self.0.wait()?;
        if !status.success() {
            bail!("the load ended with {status}");
        }
        serde_json::from_str(&text).context("read the load's report")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Fails only when it has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
