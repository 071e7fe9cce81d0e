use std::{
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;

/// An etcd of its own, killed and removed when dropped.
pub struct EtcdProcess {
    child: Child,
    client_port: u16,
    peer_port: u16,
    dir: TempDir,
    flags: Vec<String>,
}

impl EtcdProcess {
    pub fn start(flags: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let flags: Vec<String> = flags.iter().map(ToString::to_string).collect();
        let (client_port, peer_port) = (free_port(), free_port());
        let child = spawn(&dir, client_port, peer_port, &flags);
        Self { child, client_port, peer_port, dir, flags }
    }

    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.client_port)
    }

    /// `kill -9`, then the same member again after a pause.
    pub async fn restart(&mut self, pause: Duration) {
        self.kill();
        tokio::time::sleep(pause).await;
        self.child = spawn(&self.dir, self.client_port, self.peer_port, &self.flags);
    }

    fn kill(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

impl Drop for EtcdProcess {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(dir: &TempDir, client: u16, peer: u16, flags: &[String]) -> Child {
    let data: PathBuf = dir.path().join("data");
    let (client, peer) = (format!("http://127.0.0.1:{client}"), format!("http://127.0.0.1:{peer}"));
    Command::new("etcd")
        .arg(format!("--data-dir={}", data.display()))
        .arg(format!("--listen-client-urls={client}"))
        .arg(format!("--advertise-client-urls={client}"))
        .arg(format!("--listen-peer-urls={peer}"))
        .arg(format!("--initial-advertise-peer-urls={peer}"))
        .arg(format!("--initial-cluster=default={peer}"))
        .args(["--logger=zap", "--log-level=error"])
        .args(flags)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("etcd is installed (apt-get install etcd-server)")
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
