//! The vocabulary of the Kubernetes API: names of things, errors, selectors, quantities, field validation and the four kinds of patch.
//!
//! Objects are [`serde_json::Value`]s; this crate gives typed helpers over them. It does no I/O and knows no kind: what a patch must know about a type
//! comes in through [`patch::PatchSchema`].

pub mod cron;
pub mod duration;
pub mod field;
pub mod gvk;
pub mod json;
pub mod net;
pub mod object;
pub mod patch;
pub mod quantity;
pub mod quota;
pub mod selector;
pub mod status;
pub mod time;
pub mod validation;
pub mod yaml;

pub use gvk::{GroupKind, GroupResource, GroupVersion, GroupVersionKind, GroupVersionResource, ResourceVersion};
pub use quantity::Quantity;
pub use status::Status;
