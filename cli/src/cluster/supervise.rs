//! `xebec supervise`: keeps the programs of a cluster running, and finds them again after its own death.
//!
//! What systemd does on a real host. Programs are not its children for life: they run in sessions of
//! their own, and a new supervisor adopts those whose pid files still tell the truth.

use std::fs;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use nix::fcntl::Flock;
use tokio::signal::unix::{SignalKind, signal};

use super::layout::Layout;
use super::spec::Spec;
use super::unit::{LISTEN_FD, Unit};
use super::{containerd, mount, underlay, units};
use xebec_agent::process::{self, Process};

const BACK_OFF_MIN: Duration = Duration::from_millis(200);
const BACK_OFF_MAX: Duration = Duration::from_secs(10);
/// A program that ran this long starts again at once.
const HEALTHY: Duration = Duration::from_secs(10);

/// Runs until SIGTERM.
///
/// # Errors
/// When another supervisor has the directory, or the cluster's namespaces cannot be made.
pub async fn run(layout: Layout) -> Result<()> {
    let spec =
        Spec::load(&layout)?.with_context(|| format!("no cluster in {}: run `xebec up`", layout.dir().display()))?;
    let _lock = lock(&layout)?;
    prepare(&layout, &spec).await?;
    let xebec = std::env::current_exe().context("find this program's own file")?;
    let listener = Arc::new(listener(&layout, &spec)?);
    let mut tasks = tokio::task::JoinSet::new();
    for unit in units::units(&layout, &spec, &xebec, &listener) {
        tasks.spawn(keep(layout.clone(), unit));
    }
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    tokio::select! {
        _ = terminate.recv() => tracing::info!("stopping; the programs go on until `xebec down`"),
        Some(ended) = tasks.join_next() => return Err(anyhow!("a supervision task ended: {ended:?}")),
    }
    Ok(())
}

/// Whether a supervisor has this directory.
pub fn is_running(layout: &Layout) -> bool {
    Process::load(&layout.supervisor_lock()).is_some()
}

fn lock(layout: &Layout) -> Result<Flock<fs::File>> {
    fs::create_dir_all(layout.run()).with_context(|| format!("create {}", layout.run().display()))?;
    let path = layout.supervisor_lock();
    let lock = process::lock(&path).with_context(|| format!("lock {}", path.display()))?;
    lock.with_context(|| format!("a supervisor already runs for {}", layout.dir().display()))
}

async fn prepare(layout: &Layout, spec: &Spec) -> Result<()> {
    fs::create_dir_all(layout.logs())?;
    mount::ensure_private(&layout.run())?;
    underlay::ensure(layout, spec).await?;
    let can_raise = containerd::can_raise_oom_score();
    for node in spec.nodes() {
        for directory in [layout.node_dir(node), layout.node_run(node)] {
            fs::create_dir_all(&directory).with_context(|| format!("create {}", directory.display()))?;
        }
        mount::ensure_namespace(&layout.mount_namespace(node))?;
        let path = units::containerd_config(layout, node);
        fs::write(&path, containerd::config(layout, node, can_raise))
            .with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

/// The API server's socket on the host: the running server's own, or a new one.
fn listener(layout: &Layout, spec: &Spec) -> Result<OwnedFd> {
    let pid_file = layout.run().join(format!("{}.pid", units::SERVER));
    if let Some(fd) = Process::load(&pid_file).and_then(|server| server.take_fd(LISTEN_FD).ok()) {
        return Ok(fd);
    }
    let address = ("127.0.0.1", spec.port);
    let listener = TcpListener::bind(address).with_context(|| {
        format!(
            "listen on 127.0.0.1:{}; another program has the port: `xebec down`, then `xebec up --port N`",
            spec.port
        )
    })?;
    listener.set_nonblocking(true)?;
    Ok(listener.into())
}

/// Keeps one program running.
async fn keep(layout: Layout, unit: Unit) {
    for path in &unit.needs {
        appear(path).await;
    }
    let pid_file = unit.pid_file(&layout);
    let mut back_off = BACK_OFF_MIN;
    loop {
        let started = Instant::now();
        match run_once(&layout, &unit, &pid_file).await {
            Ok(how) => tracing::warn!(unit = unit.name, how, "ended"),
            Err(error) => tracing::warn!(unit = unit.name, error = format!("{error:#}"), "not running"),
        }
        back_off = if started.elapsed() >= HEALTHY { BACK_OFF_MIN } else { (back_off * 2).min(BACK_OFF_MAX) };
        tokio::time::sleep(back_off).await;
    }
}

/// Adopts or starts the program and waits until it ends.
async fn run_once(layout: &Layout, unit: &Unit, pid_file: &Path) -> Result<String> {
    if let Some(process) = Process::load(pid_file) {
        tracing::info!(unit = unit.name, pid = process.pid, "adopted");
        process.ended().await.context("wait for an adopted process")?;
        return Ok("adopted process".to_owned());
    }
    let mut child = unit.start(layout)?;
    if let Some(process) = child.id().and_then(|pid| Process::find(pid.cast_signed())) {
        process.save(pid_file).with_context(|| format!("write {}", pid_file.display()))?;
    }
    tracing::info!(unit = unit.name, pid = child.id(), "started");
    Ok(child.wait().await.context("wait for a child")?.to_string())
}

async fn appear(path: &Path) {
    while !path.exists() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
