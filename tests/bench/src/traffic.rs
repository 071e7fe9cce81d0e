//! TCP between two namespaces: transactions, connections and bytes per second.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use xebec_netlink::Netns;

use crate::netns::close;

const CHUNK: usize = 128 << 10;
/// What a client sends for an answer, and what ends the server.
const ASK: [u8; 1] = [1];
const STOP: [u8; 1] = [0];

/// Where traffic flows: from `client` to `server`, which listens on `ip`.
#[derive(Clone, Copy)]
pub struct Path<'a> {
    pub client: &'a Netns,
    pub server: &'a Netns,
    pub ip: Ipv4Addr,
}

/// What one connection at a time carries.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rates {
    transactions_per_s: f64,
    connections_per_s: f64,
    gigabits_per_s: f64,
}

type Pick = fn(&Rates) -> f64;

/// Name, unit and value, by netperf's names: request and response, the same with a connection each, bulk transfer.
pub const METRICS: [(&str, &str, Pick); 3] = [
    ("rr", "transactions/s", |rates| rates.transactions_per_s),
    ("crr", "connections/s", |rates| rates.connections_per_s),
    ("stream", "Gbit/s", |rates| rates.gigabits_per_s),
];

/// Measures the paths in turn, `rounds` times: what else the machine does falls on all of them alike.
pub fn interleaved(paths: &[Path<'_>], seconds: f64, rounds: u32) -> Result<Vec<Vec<Rates>>> {
    (0..rounds).map(|_| round(paths, seconds)).collect()
}

fn round(paths: &[Path<'_>], seconds: f64) -> Result<Vec<Rates>> {
    let mut rates = vec![Rates::default(); paths.len()];
    for (path, rates) in paths.iter().zip(&mut rates) {
        rates.transactions_per_s = path.measure(answer, |address| request_response(address, seconds))?;
    }
    for (path, rates) in paths.iter().zip(&mut rates) {
        rates.connections_per_s = path.measure(answer_each, |address| connect_request_response(address, seconds))?;
    }
    for (path, rates) in paths.iter().zip(&mut rates) {
        rates.gigabits_per_s = path.measure(count, |address| stream(address, seconds))?;
    }
    Ok(rates)
}

impl Path<'_> {
    /// Serves on a thread until the client, which gives the rate, lets go.
    fn measure(
        &self,
        serve: fn(&TcpListener) -> std::io::Result<()>,
        client: impl FnOnce(SocketAddrV4) -> std::io::Result<f64> + Send,
    ) -> Result<f64> {
        let ip = self.ip;
        let listener = self.server.run(|| TcpListener::bind((ip, 0)))?.with_context(|| format!("listen on {ip}"))?;
        let address = SocketAddrV4::new(ip, listener.local_addr()?.port());
        let server = std::thread::spawn(move || serve(&listener));
        let rate = self.client.run(|| client(address))?.with_context(|| format!("measure {address}"))?;
        server.join().map_err(|_| anyhow::anyhow!("the server on {address} panicked"))?.context("serve")?;
        Ok(rate)
    }
}

fn request_response(address: SocketAddrV4, seconds: f64) -> std::io::Result<f64> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let (start, mut count, mut byte) = (Instant::now(), 0u64, ASK);
    while start.elapsed() < Duration::from_secs_f64(seconds) {
        for _ in 0..100 {
            stream.write_all(&byte)?;
            stream.read_exact(&mut byte)?;
        }
        count += 100;
    }
    Ok(count as f64 / start.elapsed().as_secs_f64())
}

fn answer(listener: &TcpListener) -> std::io::Result<()> {
    let mut stream = listener.accept()?.0;
    stream.set_nodelay(true)?;
    let mut byte = ASK;
    while stream.read_exact(&mut byte).is_ok() && stream.write_all(&byte).is_ok() {}
    Ok(())
}

fn connect_request_response(address: SocketAddrV4, seconds: f64) -> std::io::Result<f64> {
    let (start, mut count) = (Instant::now(), 0u64);
    while start.elapsed() < Duration::from_secs_f64(seconds) {
        let mut stream = TcpStream::connect(address)?;
        let mut byte = ASK;
        stream.write_all(&byte)?;
        stream.read_exact(&mut byte)?;
        close(stream)?;
        count += 1;
    }
    let rate = count as f64 / start.elapsed().as_secs_f64();
    TcpStream::connect(address)?.write_all(&STOP)?;
    Ok(rate)
}

fn answer_each(listener: &TcpListener) -> std::io::Result<()> {
    loop {
        let (mut stream, mut byte) = (listener.accept()?.0, ASK);
        stream.read_exact(&mut byte)?;
        if byte == STOP {
            return Ok(());
        }
        stream.write_all(&byte)?;
    }
}

/// Only what arrived counts: the server tells once the client has closed its side.
fn stream(address: SocketAddrV4, seconds: f64) -> std::io::Result<f64> {
    let mut stream = TcpStream::connect(address)?;
    let (start, chunk) = (Instant::now(), vec![0; CHUNK]);
    while start.elapsed() < Duration::from_secs_f64(seconds) {
        stream.write_all(&chunk)?;
    }
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut total = [0; 8];
    stream.read_exact(&mut total)?;
    Ok(u64::from_be_bytes(total) as f64 * 8e-9 / start.elapsed().as_secs_f64())
}

fn count(listener: &TcpListener) -> std::io::Result<()> {
    let (mut stream, mut chunk, mut total) = (listener.accept()?.0, vec![0; CHUNK], 0u64);
    while let length @ 1.. = stream.read(&mut chunk)? {
        total += length as u64;
    }
    stream.write_all(&total.to_be_bytes())
}
