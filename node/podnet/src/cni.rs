//! The CNI plugin: a process that lives a millisecond ([`main`]) and asks the agent ([`Server`]) over a unix socket.
//!
//! One request and one answer per connection, each a JSON object; the plugin shuts its side down after the request.
//! CNI specification 1.0.0 (and 0.3.1, 0.4.0, 1.1.0): <https://www.cni.dev/docs/spec/>.

mod args;
pub mod decoders;
mod plugin;
mod protocol;
mod result;
mod server;

use std::path::Path;

pub use plugin::{invoked, main};
pub use server::Server;

/// The network configuration that the container runtime reads from its `conf_dir`.
pub fn conflist(socket: &Path) -> String {
    let config = serde_json::json!({
        "cniVersion": "1.0.0",
        "name": "xebec",
        "plugins": [{ "type": "xebec", "socket": socket }],
    });
    format!("{config:#}\n")
}

#[cfg(test)]
mod tests;
