//! The API as a client sees it, over a real TLS connection to a server in this process.
#![allow(clippy::unwrap_used)]

#[path = "api/access.rs"]
mod access;
#[path = "api/admission.rs"]
mod admission;
#[path = "api/capacity.rs"]
mod capacity;
#[path = "api/certificates.rs"]
mod certificates;
#[path = "api/compat.rs"]
mod compat;
#[path = "api/crd.rs"]
mod crd;
#[path = "api/crowds.rs"]
mod crowds;
#[path = "api/deletion.rs"]
mod deletion;
#[path = "api/devices.rs"]
mod devices;
#[path = "api/discovery.rs"]
mod discovery;
#[path = "api/harness.rs"]
mod harness;
#[path = "api/hostile.rs"]
mod hostile;
#[path = "api/kinds.rs"]
mod kinds;
#[path = "api/kube_rs.rs"]
mod kube_rs;
#[path = "api/lists.rs"]
mod lists;
#[path = "api/pods.rs"]
mod pods;
#[path = "api/publishing.rs"]
mod publishing;
#[path = "api/relist.rs"]
mod relist;
#[path = "api/rotation.rs"]
mod rotation;
#[path = "api/services.rs"]
mod services;
#[path = "api/strictness.rs"]
mod strictness;
#[path = "api/subresources.rs"]
mod subresources;
#[path = "api/watches.rs"]
mod watches;
#[path = "api/writes.rs"]
mod writes;
