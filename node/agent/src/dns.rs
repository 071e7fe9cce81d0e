//! Node-local DNS: a process of its own, so that names resolve while the agent restarts.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use xebec_client::chain;

use crate::Config;
use crate::process::Process;

const BACK_OFF: Duration = Duration::from_secs(1);

/// Keeps `xebec dns` running for ever; one that an earlier agent started is adopted.
pub async fn supervise(config: Config, gateways: Vec<IpAddr>) {
    loop {
        if let Err(error) = run_once(&config, &gateways).await {
            tracing::warn!(error = chain(&error), "DNS not running");
        }
        tokio::time::sleep(BACK_OFF).await;
    }
}

async fn run_once(config: &Config, gateways: &[IpAddr]) -> std::io::Result<()> {
    let program = std::env::current_exe()?;
    let pid_file = pid_file(&config.run_dir);
    if let Some(process) = Process::load(&pid_file) {
        if runs(process, &program) {
            tracing::info!(pid = process.pid, "DNS adopted");
            return process.ended().await;
        }
        // Another version of this binary: the address can be bound again once it has ended.
        process.end()?;
        process.ended().await?;
    }
    let log = fs::OpenOptions::new().create(true).append(true).open(log_file(config))?;
    let mut command = tokio::process::Command::new(program);
    command.arg("dns").args(["--node-name", &config.node_name]);
    for gateway in gateways {
        command.args(["--listen", &SocketAddr::new(*gateway, 53).to_string()]);
    }
    command.args(["--server", &config.servers.join(",")]).arg("--identity-dir").arg(config.identity_dir());
    command.args(["--cluster-domain", &config.cluster_domain]).arg("--snapshot").arg(config.data_dir.join("dns.json"));
    for upstream in &config.dns_upstreams {
        command.args(["--upstream", upstream]);
    }
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
    let mut child = command.spawn()?;
    if let Some(process) = child.id().and_then(|pid| Process::find(pid.cast_signed())) {
        process.save(&pid_file)?;
    }
    tracing::info!(pid = child.id(), ?gateways, "DNS started");
    let status = child.wait().await?;
    tracing::warn!(%status, "DNS ended");
    Ok(())
}

/// Ends the DNS process of an agent that has this run directory; returns its pid if there was one.
///
/// # Errors
/// When it does not end.
pub async fn end(run_dir: &Path) -> std::io::Result<Option<i32>> {
    let Some(process) = Process::load(&pid_file(run_dir)) else { return Ok(None) };
    process.stop(Duration::from_secs(2)).await?;
    Ok(Some(process.pid))
}

fn pid_file(run_dir: &Path) -> PathBuf {
    run_dir.join("dns.pid")
}

fn log_file(config: &Config) -> PathBuf {
    config.data_dir.join("dns.log")
}

/// The kernel appends ` (deleted)` when the file was replaced.
fn runs(process: Process, program: &Path) -> bool {
    fs::read_link(format!("/proc/{}/exe", process.pid)).is_ok_and(|exe| exe == program)
}
