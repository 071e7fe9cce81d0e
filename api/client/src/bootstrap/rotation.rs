//! A node's certificates are renewed while it runs, as upstream's certificate manager does.

use super::{CLIENT_FILE, JoinError, Joined, SERVING_FILE, csr};
use crate::chain;
use crate::identity::Identity;
use crate::retry::Backoff;
use std::net::IpAddr;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};
use tokio_util::sync::CancellationToken;
use xebec_types::time;

impl Joined {
    /// Renews both certificates at two thirds of their lives until `stop`; no restart needed.
    pub async fn rotate(&self, serving: &Identity, addresses: &[IpAddr], stop: &CancellationToken) {
        let client = csr::Request::client(&self.node_name);
        let server = csr::Request::serving(&self.node_name, addresses);
        let both = async {
            tokio::join!(self.renew(&self.identity, &client, CLIENT_FILE), self.renew(serving, &server, SERVING_FILE),)
        };
        tokio::select! { () = stop.cancelled() => {} _ = both => {} }
    }

    /// For `/metrics`, under upstream's names (`pkg/kubelet/certificate`).
    #[must_use]
    pub fn metrics(&self, serving: &Identity) -> String {
        let now = self.clock.now();
        let left = |identity: &Identity| seconds_until(identity.not_after(), now);
        let errors = self.renewal_errors.load(Ordering::Relaxed);
        let family = |name: &str, help: &str, kind: &str, value: f64| {
            format!("# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n")
        };
        [
            family(
                "kubelet_certificate_manager_client_ttl_seconds",
                "Seconds until the node's client certificate expires; negative after that.",
                "gauge",
                left(&self.identity),
            ),
            family(
                "kubelet_certificate_manager_server_ttl_seconds",
                "Seconds until the certificate of the node's server expires; negative after that.",
                "gauge",
                left(serving),
            ),
            family(
                "kubelet_certificate_manager_client_expiration_renew_errors",
                "Renewals of the node's certificates that failed.",
                "counter",
                errors as f64,
            ),
        ]
        .concat()
    }

    async fn renew(&self, identity: &Identity, request: &csr::Request, file: &str) {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(300));
        let path = self.dir.join(file);
        loop {
            self.clock.sleep_until(identity.renew_at()).await;
            match self.renew_once(identity, request, &path).await {
                Ok(()) => {
                    let not_after = time::at(identity.not_after());
                    tracing::info!(signer = request.signer, %not_after, "certificate renewed");
                    backoff.reset();
                    if identity.renew_at() <= self.clock.now() {
                        // A certificate too short to renew in time must not become a busy loop.
                        self.pause(Duration::from_secs(1)).await;
                    }
                }
                Err(error) => {
                    self.renewal_errors.fetch_add(1, Ordering::Relaxed);
                    let signer = request.signer;
                    tracing::warn!(signer, error = chain(&error), "certificate not renewed");
                    self.pause(backoff.next_delay()).await;
                }
            }
        }
    }

    /// By the same clock: who has slept meanwhile does not go on waiting.
    async fn pause(&self, time: Duration) {
        self.clock.sleep_until(self.clock.now() + time).await;
    }

    async fn renew_once(&self, identity: &Identity, request: &csr::Request, path: &Path) -> Result<(), JoinError> {
        identity.replace(&csr::obtain(&self.client, request).await?)?;
        Ok(identity.save(path)?)
    }
}

fn seconds_until(at: SystemTime, now: SystemTime) -> f64 {
    match at.duration_since(now) {
        Ok(left) => left.as_secs_f64(),
        Err(ago) => -ago.duration().as_secs_f64(),
    }
}
