//! Hosts and ports in URLs.

use std::net::Ipv6Addr;

/// `host:port`; an IPv6 address is in brackets (RFC 3986, 3.2.2).
pub fn authority(host: &str, port: u16) -> String {
    if host.parse::<Ipv6Addr>().is_ok() { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}
