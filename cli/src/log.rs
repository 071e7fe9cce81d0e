//! Logs go to standard error; `RUST_LOG` chooses what.

use tracing_subscriber::EnvFilter;

/// Long-running commands say what changes, the others only what goes wrong.
pub fn init(long_running: bool) {
    // Waiting for a server that is not ready yet is what the others do: its refusals are not news.
    let default = if long_running { "info" } else { "warn,kube_client=off" };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
}
