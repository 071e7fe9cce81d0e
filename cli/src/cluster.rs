//! A whole cluster on this machine: what `xebec up`, `xebec down` and `xebec supervise` share.
//!
//! Every name (namespaces, cgroups, pid files) derives from the cluster's directory, so that clusters
//! with different directories never meet and `down` finds everything without asking a process.

pub mod cgroup;
pub mod containerd;
pub mod disk;
pub mod down;
pub mod layout;
pub mod mount;
pub mod preflight;
pub mod process;
pub mod spec;
pub mod supervise;
pub mod underlay;
pub mod unit;
pub mod units;
pub mod up;
