//! `xebec server` without nodes, as client developers run it: several of them, on an etcd or with stores of their own.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use crate::cluster::{required, text};
use crate::{Kubectl, eventually};

/// A process that ends with the value.
pub struct Process(Child);

impl Process {
    #[track_caller]
    fn start(command: &mut Command) -> Self {
        Self(command.stdin(Stdio::null()).spawn().unwrap_or_else(|e| panic!("start {command:?}: {e}")))
    }

    /// `kill -9`.
    pub fn kill(mut self) {
        self.end();
    }

    /// SIGTERM; returns when the process has ended by itself.
    pub fn stop(mut self) {
        let pid = self.0.id().to_string();
        let sent = Command::new("kill").arg(&pid).status().expect("start kill");
        assert!(sent.success(), "kill {pid}");
        eventually("end after SIGTERM", 20, || match self.0.try_wait() {
            Ok(Some(_)) => Ok(()),
            other => Err(format!("{other:?}")),
        });
    }

    fn end(&mut self) {
        let _gone = self.0.kill();
        let _gone = self.0.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

/// An etcd of its own.
pub struct Etcd {
    _process: Process,
    _dir: tempfile::TempDir,
    url: String,
}

impl Etcd {
    #[track_caller]
    pub fn start() -> Self {
        let dir = tempfile::tempdir().expect("make a directory");
        let (url, peer) = (format!("http://127.0.0.1:{}", free_port()), format!("http://127.0.0.1:{}", free_port()));
        let mut command = Command::new("etcd");
        command.arg("--data-dir").arg(dir.path().join("data"));
        command.args(["--listen-client-urls", &url, "--advertise-client-urls", &url]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.args(["--initial-cluster", &format!("default={peer}"), "--log-level", "error"]);
        let process = Process::start(command.stdout(Stdio::null()).stderr(Stdio::null()));
        Self { _process: process, _dir: dir, url }
    }
}

/// The data directory of a server; the server runs as long as [`Process`] does.
pub struct Place {
    dir: tempfile::TempDir,
    port: u16,
    store: Vec<String>,
}

impl Place {
    pub fn new(etcd: Option<&Etcd>) -> Self {
        let store = etcd.iter().flat_map(|etcd| ["--etcd-servers".to_owned(), etcd.url.clone()]).collect();
        Self { dir: tempfile::tempdir().expect("make a directory"), port: free_port(), store }
    }

    /// With the certificates and keys of `other`: servers of one cluster share them.
    #[track_caller]
    pub fn beside(other: &Self, etcd: &Etcd) -> Self {
        let place = Self::new(Some(etcd));
        let from = other.data().join("pki");
        std::fs::create_dir_all(place.data().join("pki")).expect("make a directory");
        for entry in std::fs::read_dir(&from).expect("certificates").flatten() {
            std::fs::copy(entry.path(), place.data().join("pki").join(entry.file_name())).expect("copy");
        }
        place
    }

    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Starts a server; it is ready when this returns.
    #[track_caller]
    pub fn serve(&self, flags: &[&str]) -> Process {
        let kubeconfig = self.dir.path().join("kubeconfig");
        let mut command = self.command("server");
        command.args(["--bind-address", "127.0.0.1", "--secure-port", &self.port.to_string()]);
        command.arg("--write-kubeconfig").arg(&kubeconfig).args(flags);
        let log = std::fs::File::create(self.dir.path().join("log")).expect("make a log");
        let process = Process::start(command.stdout(Stdio::null()).stderr(log));
        eventually("a ready server", 60, || match kubeconfig.exists() {
            true => self.kubectl().run("get --raw /readyz", None),
            false => Err(self.log()),
        });
        process
    }

    /// Runs `xebec COMMAND` on the data directory and the store.
    pub fn run(&self, command: &str, args: &[&Path]) -> Output {
        self.command(command).args(args).output().expect("start xebec")
    }

    #[track_caller]
    pub fn ok(&self, command: &str, args: &[&Path]) {
        let output = self.run(command, args);
        assert!(output.status.success(), "xebec {command}: {}", text(&output));
    }

    pub fn kubectl(&self) -> Kubectl {
        let paths = required("XEBEC_KUBECTL", "the kubectls to drive");
        let newest = std::env::split_paths(&paths).last().expect("XEBEC_KUBECTL names a kubectl");
        Kubectl::new(newest, self.dir.path().join("kubeconfig"))
    }

    /// Every kubectl at hand, the oldest first.
    pub fn kubectls(&self) -> Vec<Kubectl> {
        let paths = required("XEBEC_KUBECTL", "the kubectls to drive");
        std::env::split_paths(&paths).map(|path| Kubectl::new(path, self.dir.path().join("kubeconfig"))).collect()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    fn command(&self, command: &str) -> Command {
        let mut process = Command::new(required("XEBEC", "the release binary"));
        process.arg(command).arg("--data-dir").arg(self.data()).args(&self.store);
        process
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address").port()
}
