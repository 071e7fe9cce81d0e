//! Typed views of the kinds the API serves, and the well-known names that ride on them.
//!
//! Everything here is vocabulary: `k8s-openapi` behind one re-export, constants for labels,
//! taints, annotations and conditions spelled as upstream spells them, and small pure
//! readers over the types.

pub mod device;
mod names;
pub mod node;
pub mod object;
pub mod pod;
pub mod resource;
pub mod time;
pub mod volume;

pub use k8s_openapi;
pub use k8s_openapi::{ClusterResourceScope, Metadata, NamespaceResourceScope};
pub use names::{annotation, condition, finalizer, label, namespace, signer, taint};

pub use k8s_openapi::ByteString;
pub use k8s_openapi::api::apps::v1 as apps;
pub use k8s_openapi::api::authentication::v1 as authentication;
pub use k8s_openapi::api::authorization::v1 as authorization;
pub use k8s_openapi::api::autoscaling::v2 as autoscaling;
pub use k8s_openapi::api::batch::v1 as batch;
pub use k8s_openapi::api::certificates::v1 as certificates;
pub use k8s_openapi::api::coordination::v1 as coordination;
pub use k8s_openapi::api::core::v1 as core;
pub use k8s_openapi::api::discovery::v1 as discovery;
pub use k8s_openapi::api::networking::v1 as networking;
pub use k8s_openapi::api::policy::v1 as policy;
pub use k8s_openapi::api::rbac::v1 as rbac;
pub use k8s_openapi::api::scheduling::v1 as scheduling;
pub use k8s_openapi::api::storage::v1 as storage;
pub use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
pub use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
pub use k8s_openapi::apimachinery::pkg::apis::meta::v1::{
    Condition, LabelSelector, LabelSelectorRequirement, MicroTime, ObjectMeta, OwnerReference, Time,
};
pub use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
pub use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
