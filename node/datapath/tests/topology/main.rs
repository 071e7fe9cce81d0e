//! Nodes, pods and a host outside as network namespaces, with the real object and real TCP and UDP, and packets of SCTP. Needs root.
#![allow(clippy::unwrap_used)]

mod bandwidth;
mod drift;
mod dsr;
mod external;
mod flood;
mod growth;
mod ipv6;
mod ipv6_tunnel;
mod latency;
mod machine;
mod maglev;
mod masquerade;
mod migrate;
mod mtu;
mod node_port;
mod pods;
mod remove;
mod restart;
mod sctp;
mod service;
mod tool;
mod xdp;
