//! Logs go to standard error; `RUST_LOG` chooses what.

use tracing_subscriber::EnvFilter;

/// Long-running commands say what changes, the others only what goes wrong.
pub fn init(long_running: bool) {
    let default = if long_running { "info" } else { "warn" };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
}
