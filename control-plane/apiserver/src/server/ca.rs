//! A word in time about the end of the cluster's CA, which cannot be renewed like what it signs: those who trust it were
//! told so out of band, as nodes by their join token, and the server cannot make them trust another.

use std::sync::Arc;

use serde_json::json;
use time::{Duration, OffsetDateTime};

use super::event;
use crate::app::App;

/// How long before, and how often: as k3s warns of certificates.
const WARNING: Duration = Duration::days(120);
const CHECK: Duration = Duration::hours(12);

/// Warns until the server stops.
pub async fn watch(app: Arc<App>) {
    let end = app.config.pki.ca_validity().not_after;
    let watching = async {
        app.clock().sleep_until((end - WARNING).into()).await;
        loop {
            warn(&app, end).await;
            app.clock().sleep_until((app.now() + CHECK).into()).await;
        }
    };
    tokio::select! { () = app.stop.cancelled() => {} () = watching => {} }
}

async fn warn(app: &Arc<App>, end: OffsetDateTime) {
    let date = end.date();
    let message = format!(
        "The cluster's CA certificate expires on {date}, and every certificate that it signed with it: \
         replace it before, as docs/control-plane.md says"
    );
    tracing::warn!("{message}");
    // Where everybody can read the CA.
    let about = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"namespace": "kube-system", "name": "kube-root-ca.crt"},
    });
    event::warn(app, "xebec-apiserver", &about, "CertificateExpirationWarning", &message).await;
}
