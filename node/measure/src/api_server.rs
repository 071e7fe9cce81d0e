//! `xebec server` alone, on a free port of 127.0.0.1.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use xebec_client::Client;

use crate::run::Directory;

/// Ends with the value.
pub struct ApiServer {
    child: Child,
    directory: Directory,
}

impl ApiServer {
    /// Starts `xebec`, on the embedded store or on an etcd.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(xebec: &Path, etcd: Option<&str>) -> Result<Self> {
        let directory = Directory::new()?;
        let port = free_port()?.to_string();
        let mut command = Command::new(xebec);
        command.arg("server").arg("--data-dir").arg(directory.path());
        command.args(["--bind-address", "127.0.0.1", "--secure-port", &port]);
        command.arg("--write-kubeconfig").arg(kubeconfig(&directory));
        if let Some(etcd) = etcd {
            command.args(["--etcd-servers", etcd]);
        }
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let child = child.with_context(|| format!("start {} server", xebec.display()))?;
        Ok(Self { child, directory })
    }

    /// A client with a connection of its own, once the server is ready.
    ///
    /// # Errors
    /// When it is not ready after 20 s.
    pub async fn client(&self) -> Result<Client> {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            if let Ok(client) = xebec_client::connection::from_kubeconfig(&kubeconfig(&self.directory)).await
                && client.request_text(http::Request::get("/readyz").body(Vec::new())?).await.is_ok()
            {
                return Ok(client);
            }
            if Instant::now() > deadline {
                bail!("xebec server is not ready after 20 s");
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        // Both only fail when the process has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn kubeconfig(directory: &Directory) -> PathBuf {
    directory.path().join("kubeconfig")
}

/// # Errors
/// When there is none.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
