//! The server's own certificates, renewed while it runs.

use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;

use super::StartError;
use crate::app::App;
use crate::pki::{KUBELET_CLIENT, Pki, Validity};
use crate::proxy::KubeletProxy;
use crate::user::SYSTEM_MASTERS;

/// Between attempts; and so often at most when the CA's end leaves nothing to be won.
const PAUSE: Duration = Duration::from_secs(60);

/// When what the server made for itself ends. Its serving certificate is in `Pki`.
pub struct Renewal {
    app: Arc<App>,
    kubelet_client: Validity,
    admin_kubeconfig: Option<Validity>,
}

impl Renewal {
    /// Makes what the server needs for the first time.
    ///
    /// # Errors
    /// A certificate that cannot be made, or a kubeconfig that cannot be written.
    pub fn start(app: Arc<App>) -> Result<Self, StartError> {
        let renewal = Self { kubelet_client: kubelet_client(&app)?, admin_kubeconfig: admin_kubeconfig(&app)?, app };
        renewal.tell();
        Ok(renewal)
    }

    /// Renews each at two thirds of its life, until the server stops.
    pub async fn run(mut self) {
        let stop = self.app.stop.clone();
        let renewing = async {
            loop {
                self.app.clock().sleep_until(self.next().into()).await;
                if let Err(error) = self.renew() {
                    tracing::error!(error = xebec_store::chain(&error), "certificates were not renewed");
                    self.pause().await;
                } else if self.next() <= self.app.now() {
                    self.pause().await;
                }
            }
        };
        tokio::select! { () = stop.cancelled() => {} () = renewing => {} }
    }

    async fn pause(&self) {
        self.app.clock().sleep_until((self.app.now() + PAUSE).into()).await;
    }

    fn next(&self) -> OffsetDateTime {
        let serving = self.pki().serving().validity().renew_at();
        self.validities().map(|(_, validity)| validity.renew_at()).fold(serving, OffsetDateTime::min)
    }

    fn validities(&self) -> impl Iterator<Item = (&'static str, Validity)> {
        let serving = ("kube-apiserver", self.pki().serving().validity());
        let kubeconfig = self.admin_kubeconfig.map(|validity| ("kubernetes-admin", validity));
        [serving, (KUBELET_CLIENT, self.kubelet_client)].into_iter().chain(kubeconfig)
    }

    fn renew(&mut self) -> Result<(), StartError> {
        let now = self.app.now();
        let is_due = |validity: Validity| validity.renew_at() <= now;
        if is_due(self.pki().serving().validity()) {
            self.pki().renew_serving()?;
            tracing::info!(not_after = %self.pki().serving().validity().not_after, "the serving certificate is renewed");
        }
        if is_due(self.kubelet_client) {
            self.kubelet_client = kubelet_client(&self.app)?;
        }
        if self.admin_kubeconfig.is_some_and(is_due) {
            self.admin_kubeconfig = admin_kubeconfig(&self.app)?;
            tracing::info!("the administrator's kubeconfig is renewed");
        }
        self.tell();
        Ok(())
    }

    fn tell(&self) {
        let ca = ("ca", self.pki().ca_validity());
        for (name, validity) in self.validities().chain([ca]) {
            self.app.metrics.certificates.set_own(name, validity.not_after);
        }
    }

    fn pki(&self) -> &Pki {
        &self.app.config.pki
    }
}

/// Gives the server the certificate that kubelets know it by.
fn kubelet_client(app: &App) -> Result<Validity, StartError> {
    let pki = &app.config.pki;
    let issued = pki.issue_client(KUBELET_CLIENT, &[SYSTEM_MASTERS])?;
    let key = Arc::new(issued.certified_key(KUBELET_CLIENT)?);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_details(provider, Arc::new(app.clock().clone()))
        .with_safe_default_protocol_versions()
        .map_err(StartError::Tls)?
        .with_root_certificates(Arc::clone(pki.roots()))
        .with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(key)));
    *app.kubelets.write() = Some(KubeletProxy::new(config));
    Ok(issued.validity)
}

/// Writes the administrator's kubeconfig, if one is wanted.
fn admin_kubeconfig(app: &App) -> Result<Option<Validity>, StartError> {
    let Some(wanted) = &app.config.admin_kubeconfig else { return Ok(None) };
    Ok(Some(app.config.pki.write_admin_kubeconfig(&wanted.path, &wanted.server)?))
}
