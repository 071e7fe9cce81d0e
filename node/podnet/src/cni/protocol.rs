//! Between the plugin and the agent.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Requests and answers are smaller than this by orders of magnitude.
pub const MESSAGE_BYTES_MAX: u64 = 1 << 20;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    pub command: Command,
    #[serde(default)]
    pub container: String,
    #[serde(default)]
    pub ifname: String,
    #[serde(default)]
    pub netns: PathBuf,
    /// `CNI_ARGS` as the runtime set it.
    #[serde(default)]
    pub args: String,
    /// The plugin's network configuration.
    pub config: Config,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Command {
    Add,
    Del,
    Check,
    Status,
    Gc,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Config {
    #[serde(rename = "cniVersion", default = "oldest_version")]
    pub version: String,
    #[serde(default)]
    pub socket: PathBuf,
    #[serde(rename = "cni.dev/valid-attachments", default, skip_serializing_if = "Option::is_none")]
    pub valid_attachments: Option<Vec<ValidAttachment>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ValidAttachment {
    #[serde(rename = "containerID")]
    pub container: String,
    pub ifname: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Answer {
    /// What the plugin prints; `null` for commands without a result.
    Result(Value),
    Error(Failure),
}

/// Without the version, which the plugin adds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub code: u32,
    pub msg: String,
    #[serde(default)]
    pub details: String,
}

/// Error codes of the specification; from 100 on they are the plugin's own.
pub mod code {
    pub const INCOMPATIBLE_VERSION: u32 = 1;
    pub const INVALID_ENVIRONMENT: u32 = 4;
    pub const DECODING_FAILURE: u32 = 6;
    pub const INVALID_CONFIG: u32 = 7;
    pub const TRY_AGAIN_LATER: u32 = 11;
    pub const NOT_AVAILABLE: u32 = 50;
    pub const FAILED: u32 = 100;
}

impl Failure {
    pub fn new(code: u32, msg: impl Into<String>, details: impl ToString) -> Self {
        Self { code, msg: msg.into(), details: details.to_string() }
    }
}

/// What a configuration without `cniVersion` means.
fn oldest_version() -> String {
    "0.1.0".to_owned()
}
