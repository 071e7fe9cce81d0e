//! Approves and signs the certificate requests of nodes, and removes requests that are settled:
//! upstream's `csrapproving`, `csrsigning` and `csrcleaner`.

mod request;
mod step;

use crate::Context;
use crate::control::{self, Reconcile};
use serde_json::json;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
pub use step::{Action, Nodes, step};
use tokio_util::sync::CancellationToken;
use xebec_client::{
    Api, DeleteParams, Error, Informer, Key, Outcome, Patch, PatchParams, PostParams, Workqueue, is_not_found,
};
use xebec_types::certificates::{CertificateSigningRequest, CertificateSigningRequestCondition};
use xebec_types::core::Node;
use xebec_types::{ByteString, condition, object, time};

/// Whether a PEM request says what it is for; what is not readable is not approved.
#[must_use]
pub fn is_readable(request_pem: &[u8]) -> bool {
    request::Request::parse(request_pem).is_some()
}

pub(crate) async fn run(context: Context, stop: CancellationToken) {
    let controller = Controller {
        requests: context.informers.informer(),
        nodes: context.informers.informer(),
        queue: Workqueue::new(),
        context,
    };
    let queue = controller.queue.clone();
    controller.requests.on_change(move |change| {
        if !change.is_deletion() {
            queue.add(change.key());
        }
    });
    tokio::join!(controller.requests.synced(), controller.nodes.synced());
    control::run(&controller, &stop).await;
}

struct Controller {
    context: Context,
    requests: Arc<Informer<CertificateSigningRequest>>,
    nodes: Arc<Informer<Node>>,
    queue: Workqueue<Key>,
}

impl Reconcile for Controller {
    const KIND: &'static str = "certificatesigningrequest";
    const WORKERS: usize = 4;

    fn queue(&self) -> &Workqueue<Key> {
        &self.queue
    }

    async fn sync(&self, key: &Key) -> Result<Outcome, Error> {
        let Some(csr) = self.requests.get_key(key) else { return Ok(Outcome::Done) };
        let nodes =
            Nodes { addresses: addresses(&self.nodes), service_cidrs: self.context.config.service_cidrs.clone() };
        match step(&csr, self.context.config.signer.is_some(), &nodes, self.context.now()) {
            Action::None => Ok(Outcome::Done),
            Action::Wait(wait) => Ok(Outcome::After(wait)),
            Action::Approve { message } => {
                self.approve(&csr, message).await?;
                Ok(Outcome::Done)
            }
            Action::Sign => {
                self.sign(&csr).await?;
                Ok(Outcome::Done)
            }
            Action::Delete => {
                let api: Api<CertificateSigningRequest> = Api::all(self.context.client.clone());
                match api.delete(&key.name, &DeleteParams::default()).await {
                    Err(error) if !is_not_found(&error) => Err(error),
                    _ => Ok(Outcome::Done),
                }
            }
        }
    }
}

impl Controller {
    async fn approve(&self, csr: &CertificateSigningRequest, message: &str) -> Result<(), Error> {
        let now = Some(time::time(self.context.now()));
        let mut approved = csr.clone();
        let status = approved.status.get_or_insert_default();
        status.conditions.get_or_insert_default().push(CertificateSigningRequestCondition {
            type_: "Approved".into(),
            status: condition::TRUE.into(),
            reason: Some("AutoApproved".into()),
            message: Some(message.into()),
            last_update_time: now.clone(),
            last_transition_time: now,
        });
        let api: Api<CertificateSigningRequest> = Api::all(self.context.client.clone());
        let name = object::name(&csr.metadata);
        api.replace_subresource("approval", name, &PostParams::default(), &approved).await?;
        tracing::info!(csr = name, user = csr.spec.username, "certificate request approved");
        Ok(())
    }

    async fn sign(&self, csr: &CertificateSigningRequest) -> Result<(), Error> {
        let Some(signer) = &self.context.config.signer else { return Ok(()) };
        let name = object::name(&csr.metadata);
        let pem = String::from_utf8_lossy(&csr.spec.request.0).into_owned();
        let status = match signer.sign_for(&pem, &csr.spec.signer_name, csr.spec.expiration_seconds).await {
            Ok(certificate) => json!({"certificate": ByteString(certificate.into_bytes())}),
            Err(message) => {
                tracing::warn!(csr = name, message, "certificate request not signed");
                let known = csr.status.iter().flat_map(|s| s.conditions.iter().flatten());
                let mut conditions: Vec<_> = known.cloned().collect();
                conditions.push(CertificateSigningRequestCondition {
                    type_: "Failed".into(),
                    status: condition::TRUE.into(),
                    reason: Some("SignerValidationFailure".into()),
                    message: Some(message),
                    last_update_time: Some(time::time(self.context.now())),
                    last_transition_time: Some(time::time(self.context.now())),
                });
                json!({"conditions": conditions})
            }
        };
        let patch = json!({
            "metadata": {"resourceVersion": csr.metadata.resource_version},
            "status": status,
        });
        let api: Api<CertificateSigningRequest> = Api::all(self.context.client.clone());
        api.patch_status(name, &PatchParams::default(), &Patch::Merge(patch)).await?;
        Ok(())
    }
}

/// Which node has which address.
fn addresses(nodes: &Informer<Node>) -> HashMap<IpAddr, String> {
    let mut addresses = HashMap::new();
    for node in nodes.read().iter() {
        let listed = node.status.iter().flat_map(|s| s.addresses.iter().flatten());
        for address in listed.filter_map(|a| a.address.parse().ok()) {
            addresses.insert(address, object::name(&node.metadata).to_string());
        }
    }
    addresses
}
