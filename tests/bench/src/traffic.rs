//! TCP between two namespaces: transactions per second, and bytes per second.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use xebec_netlink::Netns;

const CHUNK: usize = 128 << 10;

/// What one direction of one pair of namespaces carries.
#[derive(Clone, Copy, Debug)]
pub struct Rates {
    pub transactions_per_s: f64,
    pub bits_per_s: f64,
}

/// Measures from `client` to `server`, which listens on `ip`: the best of `rounds`, because noise only slows.
pub fn measure(client: &Netns, server: &Netns, ip: Ipv4Addr, seconds: f64, rounds: u32) -> Result<Rates> {
    let mut best = Rates { transactions_per_s: 0.0, bits_per_s: 0.0 };
    for _ in 0..rounds {
        best.transactions_per_s = best.transactions_per_s.max(request_response(client, server, ip, seconds)?);
        best.bits_per_s = best.bits_per_s.max(stream(client, server, ip, seconds)?);
    }
    Ok(best)
}

fn request_response(client: &Netns, server: &Netns, ip: Ipv4Addr, seconds: f64) -> Result<f64> {
    let address = serve(server, ip, |mut stream| {
        let mut byte = [0];
        while stream.read_exact(&mut byte).is_ok() && stream.write_all(&byte).is_ok() {}
    })?;
    let rate = client.run(|| -> std::io::Result<f64> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        let (start, mut count, mut byte) = (Instant::now(), 0u64, [0]);
        while start.elapsed() < Duration::from_secs_f64(seconds) {
            for _ in 0..100 {
                stream.write_all(&byte)?;
                stream.read_exact(&mut byte)?;
            }
            count += 100;
        }
        Ok(count as f64 / start.elapsed().as_secs_f64())
    })?;
    rate.with_context(|| format!("request and response with {address}"))
}

fn stream(client: &Netns, server: &Netns, ip: Ipv4Addr, seconds: f64) -> Result<f64> {
    let address = serve(server, ip, |mut stream| {
        let mut chunk = vec![0; CHUNK];
        let mut total = 0u64;
        while let Ok(length @ 1..) = stream.read(&mut chunk) {
            total += length as u64;
        }
        // The client reads the count after it has closed its side: only what arrived counts.
        let _ = stream.write_all(&total.to_be_bytes());
    })?;
    let rate = client.run(|| -> std::io::Result<f64> {
        let mut stream = TcpStream::connect(address)?;
        let (start, chunk) = (Instant::now(), vec![0; CHUNK]);
        while start.elapsed() < Duration::from_secs_f64(seconds) {
            stream.write_all(&chunk)?;
        }
        stream.shutdown(std::net::Shutdown::Write)?;
        let mut total = [0; 8];
        stream.read_exact(&mut total)?;
        Ok(u64::from_be_bytes(total) as f64 * 8.0 / start.elapsed().as_secs_f64())
    })?;
    rate.with_context(|| format!("stream to {address}"))
}

/// Serves one connection on a thread.
fn serve(server: &Netns, ip: Ipv4Addr, handle: fn(TcpStream)) -> Result<SocketAddrV4> {
    let listener = server.run(|| TcpListener::bind((ip, 0)))?.with_context(|| format!("listen on {ip}"))?;
    let port = listener.local_addr()?.port();
    std::thread::spawn(move || {
        if let Ok((stream, _)) = listener.accept() {
            let _ = stream.set_nodelay(true);
            handle(stream);
        }
    });
    Ok(SocketAddrV4::new(ip, port))
}
