//! What each kind does beyond its schema: defaults, validation, updates, deletion, printing. Pure functions over JSON.
//!
//! The API server decodes and type-checks an object, then asks the [`Strategy`] of its resource. Facts (messages, field paths, defaults, columns)
//! are those of Kubernetes 1.36: `pkg/apis/*/v1/defaults.go`, `pkg/apis/*/validation`, `pkg/registry/*/strategy.go`, `pkg/printers/internalversion`.

pub mod duration;
pub mod errors;
pub mod meta;
pub mod names;
pub mod pod;
pub mod strategy;
pub mod value;

pub use strategy::{Column, Context, DeleteOptions, Grace, Strategy, UserInfo};
use xebec_machinery::GroupResource;

/// The strategy of a resource; one without behaviour of its own gets the generic one.
pub fn strategy(resource: &GroupResource) -> &'static dyn Strategy {
    match (&*resource.group, &*resource.resource) {
        ("", "pods") => &pod::Pod,
        _ => &strategy::Generic,
    }
}
