//! Generated protobuf and gRPC code, committed so that a build needs no `protoc`: `examples/generate.rs` writes it.

/// CRI v1 (`runtime.v1`): what a container runtime serves to a kubelet.
#[rustfmt::skip]
#[allow(clippy::all, clippy::pedantic, missing_docs)]
#[path = "generated/runtime.v1.rs"]
pub mod cri;
