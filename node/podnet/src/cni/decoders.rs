//! What the container runtime hands to the plugin, and the plugin to the agent: for `tests/fuzz`, which has neither.

use std::env::VarError;

use super::args::PodArgs;
use super::plugin;
use super::protocol::{Answer, Request};

/// A network configuration and `CNI_ARGS`; and both messages of the socket.
///
/// # Panics
/// When the agent would not read what the plugin makes of them.
pub fn plugin(args: &str, input: &[u8]) {
    _ = PodArgs::parse(args);
    _ = (serde_json::from_slice::<Request>(input).is_ok(), serde_json::from_slice::<Answer>(input).is_ok());
    let Ok(config) = serde_json::from_slice(input) else { return };
    let var = |name: &str| match name {
        "CNI_ARGS" => Ok(args.to_owned()),
        "CNI_CONTAINERID" | "CNI_IFNAME" | "CNI_NETNS" => Ok("a".to_owned()),
        _ => Err(VarError::NotPresent),
    };
    let Ok(request) = plugin::request("ADD", var, config) else { return };
    let again = serde_json::to_vec(&request).and_then(|bytes| serde_json::from_slice::<Request>(&bytes));
    assert!(again.as_ref().is_ok_and(|again| *again == request), "{again:?}");
}
