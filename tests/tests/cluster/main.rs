//! Whole clusters on this machine: real etcd, containerd, kubectl and kernel.

mod bad_input;
mod bandwidth;
mod bench;
mod clients;
mod commands;
mod custom_resources;
mod dual_stack;
mod exposed;
mod faults;
mod kernel;
mod kubectl;
mod lifecycle;
mod network;
mod node;
mod reset;
mod rollout;
mod servers;
mod streams;
mod top;
mod upgrade;
mod workloads;
mod xdp;
