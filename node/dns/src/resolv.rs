//! `/etc/resolv.conf`.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use crate::{Error, Result};

const PORT: u16 = 53;

/// The name servers of a resolver configuration, without those that are `own` addresses of this server: asking
/// oneself does not end. A file that is not there has none.
pub fn upstreams(path: &Path, own: &[IpAddr]) -> Result<Vec<SocketAddr>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(parse(&text, own)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(source) => Err(Error::Read { path: path.to_owned(), source }),
    }
}

pub fn parse(text: &str, own: &[IpAddr]) -> Vec<SocketAddr> {
    let mut servers = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let server = match (words.next(), words.next()) {
            (Some("nameserver"), Some(address)) => address.split('%').next().and_then(|a| a.parse::<IpAddr>().ok()),
            _ => None,
        };
        let Some(address) = server else { continue };
        let server = SocketAddr::new(address, PORT);
        if !own.contains(&address) && !servers.contains(&server) {
            servers.push(server);
        }
    }
    servers
}
