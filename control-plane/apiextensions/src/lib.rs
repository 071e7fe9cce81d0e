//! CustomResourceDefinitions: what they may say, and how the resources that they define behave.
//!
//! Pure: JSON in, JSON and errors out. The API server keeps the table of what is served and follows the definitions in the store.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod cel;
mod columns;
mod correlate;
mod decode;
mod default;
pub mod definition;
pub mod intern;
mod jsonpath;
mod prune;
mod resource;
mod schema;
mod validate;
mod view;

pub use definition::Definition;
pub use resource::{CustomResource, Scale, fingerprint, scale_of};

#[cfg(test)]
mod tests;
