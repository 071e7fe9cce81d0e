//! A cluster that lives as long as the value.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::{Kubectl, patient};

/// What the cluster is made of.
#[derive(Clone, Debug)]
pub struct Options {
    pub nodes: u32,
    pub store: &'static str,
    pub routing: &'static str,
    pub ip_families: &'static str,
    pub xdp: Option<&'static str>,
}

impl Default for Options {
    fn default() -> Self {
        Self { nodes: 2, store: "embedded", routing: "vxlan", ip_families: "ipv4", xdp: None }
    }
}

pub struct Cluster {
    dir: tempfile::TempDir,
    xebec: PathBuf,
}

impl Cluster {
    /// Starts a cluster with the demo image on every node.
    ///
    /// # Panics
    /// With the output of `xebec up` when it does not come up.
    #[track_caller]
    pub fn up(options: &Options) -> Self {
        let dir = tempfile::Builder::new().prefix("xb").tempdir_in("/var/tmp").expect("make a directory");
        let cluster = Self { dir, xebec: required("XEBEC", "the release binary") };
        cluster.up_again(options);
        cluster
    }

    /// Runs `xebec up` on the same directory.
    #[track_caller]
    pub fn up_again(&self, options: &Options) {
        let nodes = options.nodes.to_string();
        let image = required("XEBEC_DEMO_IMAGE", "the demo image's archive");
        let image = image.to_string_lossy();
        let mut args = vec!["--nodes", &nodes, "--store", options.store, "--routing", options.routing];
        let timeout = patient(120).to_string();
        args.extend(["--ip-families", options.ip_families, "--image", &image, "--timeout", &timeout]);
        if let Some(mode) = options.xdp {
            args.extend(["--xdp", mode]);
        }
        let output = self.xebec("up", &args);
        if !output.status.success() {
            panic!("xebec up: {}\n{}", text(&output), self.logs());
        }
    }

    /// Runs `xebec COMMAND --dir DIR ARGS`.
    pub fn xebec(&self, command: &str, args: &[&str]) -> Output {
        let mut process = Command::new(&self.xebec);
        process.args(command.split(' ')).arg("--dir").arg(self.dir.path()).args(args);
        process.output().expect("start xebec")
    }

    /// Runs `xebec agent ARGS`, which must end by itself.
    pub fn agent(&self, args: &[&str]) -> Output {
        let data = self.dir.path().join("stray-agent");
        Command::new(&self.xebec).arg("agent").args(args).arg("--data-dir").arg(data).output().expect("start xebec")
    }

    /// The network namespace of `switch`, `server`, `outside` or a node.
    ///
    /// # Panics
    /// When `xebec status` does not name the cluster.
    #[track_caller]
    pub fn netns(&self, role: &str) -> String {
        let status = self.xebec("status", &[]);
        let status = String::from_utf8_lossy(&status.stdout).into_owned();
        let id = status.split(' ').nth(1).expect("status names the cluster");
        format!("xb-{id}-{role}")
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Every kubectl at hand, the oldest first, with this cluster's kubeconfig.
    pub fn kubectls(&self) -> Vec<Kubectl> {
        let paths = required("XEBEC_KUBECTL", "the kubectls to drive");
        let kubeconfig = self.dir.path().join("kubeconfig");
        std::env::split_paths(&paths).map(|program| Kubectl::new(program, kubeconfig.clone())).collect()
    }

    /// The newest kubectl.
    pub fn kubectl(&self) -> Kubectl {
        self.kubectls().pop().expect("XEBEC_KUBECTL names a kubectl")
    }

    /// Ends one program of the cluster with SIGKILL, as its pid file names it.
    ///
    /// # Panics
    /// When it is not running.
    #[track_caller]
    pub fn kill(&self, unit: &str) {
        let path = self.dir.path().join(format!("run/{unit}.pid"));
        let file = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let pid = file.split(' ').next().unwrap_or_default();
        let status = Command::new("kill").args(["-9", pid]).status().expect("start kill");
        assert!(status.success(), "kill -9 {pid} ({unit})");
    }

    /// The end of every log.
    pub fn logs(&self) -> String {
        let logs = std::fs::read_dir(self.dir.path().join("logs")).into_iter().flatten().flatten();
        logs.map(|entry| {
            let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
            let lines: Vec<_> = text.lines().collect();
            let tail = lines[lines.len().saturating_sub(15)..].join("\n");
            format!("--- {}\n{tail}\n", entry.path().display())
        })
        .collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.logs());
        }
        let output = self.xebec("down", &[]);
        if !output.status.success() && !std::thread::panicking() {
            panic!("xebec down: {}", text(&output));
        }
    }
}

/// The path that an environment variable of the test run names.
///
/// # Panics
/// When it is not set.
#[track_caller]
pub fn required(variable: &str, what: &str) -> PathBuf {
    let hint = "run the tests with `cargo xtask test`, which sets it";
    std::env::var_os(variable).unwrap_or_else(|| panic!("{variable} must name {what}: {hint}")).into()
}

/// What a program printed, both streams.
pub fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
