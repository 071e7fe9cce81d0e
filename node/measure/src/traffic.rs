//! TCP between two namespaces: connections, transactions and bytes per second.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::socket::{Backlog, Shutdown, listen, shutdown};
use nix::time::{ClockId, clock_gettime};
use xebec_netlink::Netns;

use crate::netns::close;

const CHUNK: usize = 128 << 10;
/// The first byte of a connection says what it is for: this one is answered, and every byte after it.
const ASK: [u8; 1] = [1];
/// Bytes until the end, then the server says how many arrived.
const BULK: [u8; 1] = [2];
/// Transactions between two looks at the clock.
const BURST: u64 = 100;

/// Answers on some addresses until it is dropped, one connection at a time on each.
pub struct Server(Vec<(TcpListener, SocketAddrV4, Option<JoinHandle<()>>)>);

impl Server {
    /// # Errors
    /// When an address cannot be listened on; a port of 0 is any free one.
    pub fn start(netns: &Netns, addresses: &[(Ipv4Addr, u16)]) -> Result<Self> {
        let mut server = Self(Vec::new());
        for (ip, port) in addresses {
            let listener = netns.run(|| TcpListener::bind((*ip, *port)))?;
            let listener = listener.with_context(|| format!("listen on {ip}:{port}"))?;
            // A connection that waits for its turn must not be dropped: the client would measure a retransmission.
            listen(&listener, Backlog::MAXCONN)?;
            let address = SocketAddrV4::new(*ip, listener.local_addr()?.port());
            let own = listener.try_clone()?;
            let thread = std::thread::Builder::new().name("server".to_owned()).spawn(move || serve(&own))?;
            server.0.push((listener, address, Some(thread)));
        }
        Ok(server)
    }

    /// Where it listens, in the order of [`Server::start`].
    pub fn addresses(&self) -> Vec<SocketAddrV4> {
        self.0.iter().map(|(_, address, _)| *address).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        for (listener, address, thread) in &mut self.0 {
            // Wakes accept().
            if let Err(error) = shutdown(listener.as_raw_fd(), Shutdown::Both) {
                eprintln!("stop the server on {address}: {error}");
                continue;
            }
            if thread.take().is_some_and(|thread| thread.join().is_err()) {
                eprintln!("the server on {address} panicked");
            }
        }
    }
}

fn serve(listener: &TcpListener) {
    while let Ok((stream, _)) = listener.accept() {
        // A client ends a connection by resetting it.
        let _ = answer(stream);
    }
}

fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut byte = ASK;
    stream.read_exact(&mut byte)?;
    if byte == BULK {
        let (mut chunk, mut total) = (vec![0; CHUNK], 0u64);
        while let length @ 1.. = stream.read(&mut chunk)? {
            total += length as u64;
        }
        return stream.write_all(&total.to_be_bytes());
    }
    loop {
        stream.write_all(&byte)?;
        stream.read_exact(&mut byte)?;
    }
}

/// Where traffic comes from, and what it dials.
#[derive(Clone, Copy)]
pub struct Path<'a> {
    pub client: &'a Netns,
    pub dial: SocketAddrV4,
}

/// What one connection at a time carries.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rates {
    pub transactions_per_s: f64,
    pub connections_per_s: f64,
    pub gigabits_per_s: f64,
    /// Processor time of a connection with its transaction, both ends and what the kernel does for them.
    pub cpu_us_per_connection: f64,
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
        rates.transactions_per_s = path.measure(|address| request_response(address, seconds))?;
    }
    for (path, rates) in paths.iter().zip(&mut rates) {
        let both = path.measure(|address| connect_request_response(address, seconds))?;
        (rates.connections_per_s, rates.cpu_us_per_connection) = both;
    }
    for (path, rates) in paths.iter().zip(&mut rates) {
        rates.gigabits_per_s = path.measure(|address| stream(address, seconds))?;
    }
    Ok(rates)
}

impl Path<'_> {
    /// Everything, once.
    pub fn rates(&self, seconds: f64) -> Result<Rates> {
        Ok(round(&[*self], seconds)?.first().copied().unwrap_or_default())
    }

    fn measure<T: Send>(&self, client: impl FnOnce(SocketAddrV4) -> std::io::Result<T> + Send) -> Result<T> {
        self.client.run(|| client(self.dial))?.with_context(|| format!("measure {}", self.dial))
    }
}

fn request_response(address: SocketAddrV4, seconds: f64) -> std::io::Result<f64> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let (start, mut count, mut byte) = (Instant::now(), 0u64, ASK);
    while start.elapsed() < Duration::from_secs_f64(seconds) {
        for _ in 0..BURST {
            stream.write_all(&byte)?;
            stream.read_exact(&mut byte)?;
        }
        count += BURST;
    }
    Ok(count as f64 / start.elapsed().as_secs_f64())
}

/// Connections per second, and microseconds of processor time for each.
fn connect_request_response(address: SocketAddrV4, seconds: f64) -> std::io::Result<(f64, f64)> {
    let (start, cpu, mut count) = (Instant::now(), cpu_time()?, 0u64);
    while start.elapsed() < Duration::from_secs_f64(seconds) {
        let mut stream = TcpStream::connect(address)?;
        let mut byte = ASK;
        stream.write_all(&byte)?;
        stream.read_exact(&mut byte)?;
        close(stream)?;
        count += 1;
    }
    let (rate, cpu) = (count as f64 / start.elapsed().as_secs_f64(), cpu_time()? - cpu);
    Ok((rate, cpu.as_secs_f64() * 1e6 / count.max(1) as f64))
}

/// Of this process, which is client and server.
fn cpu_time() -> std::io::Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID)?.into())
}

/// Only what arrived counts: the server tells once the client has closed its side.
fn stream(address: SocketAddrV4, seconds: f64) -> std::io::Result<f64> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(&BULK)?;
    let (start, chunk) = (Instant::now(), vec![0; CHUNK]);
    while start.elapsed() < Duration::from_secs_f64(seconds) {
        stream.write_all(&chunk)?;
    }
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut total = [0; 8];
    stream.read_exact(&mut total)?;
    Ok(u64::from_be_bytes(total) as f64 * 8e-9 / start.elapsed().as_secs_f64())
}

/// How long each of `targets` takes to connect to, after a tenth of them unmeasured.
pub fn connects(client: &Netns, targets: &[SocketAddrV4]) -> Result<Vec<Duration>> {
    let times = client.run(|| -> std::io::Result<Vec<Duration>> {
        for target in targets.iter().take(targets.len() / 10) {
            close(TcpStream::connect(target)?)?;
        }
        let one = |target: &SocketAddrV4| {
            let start = Instant::now();
            let stream = TcpStream::connect(target)?;
            let time = start.elapsed();
            close(stream)?;
            Ok(time)
        };
        targets.iter().map(one).collect()
    })?;
    times.with_context(|| {
        format!("connect to {} and others", targets.first().map_or_else(String::new, ToString::to_string))
    })
}
