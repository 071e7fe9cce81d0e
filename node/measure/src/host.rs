//! Where and when figures were measured: without it they say nothing.

use serde::Serialize;

#[derive(Clone, Debug, Serialize)]
pub struct Host {
    pub version: &'static str,
    pub date: String,
    pub kernel: String,
    pub cpu: String,
    pub cpus: usize,
    /// Chooses which services are dialled.
    pub seed: u32,
}

impl Host {
    /// This host, now.
    pub fn new(seed: Option<u32>) -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let cpuinfo = read("/proc/cpuinfo");
        let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        Self {
            version: env!("CARGO_PKG_VERSION"),
            date: xebec_types::time::now().to_string(),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            cpu: model.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, model)| model.to_owned()),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            seed: seed.unwrap_or_else(rand::random),
        }
    }

    /// In one line.
    pub fn line(&self) -> String {
        let Self { version, date, kernel, cpu, cpus, seed } = self;
        format!("xebec {version}, {date}, kernel {kernel}, {cpus} CPUs ({cpu}), seed {seed}")
    }
}
