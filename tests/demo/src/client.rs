//! The clients. Every wait has an end: a demo that hangs says nothing.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use crate::{Outcome, dns};

const PATIENCE: Duration = Duration::from_secs(5);

pub fn get(url: &str, count: Option<u32>) -> Outcome {
    let Some(count) = count else {
        print!("{}", fetch(url)?);
        return Ok(());
    };
    let mut bodies = BTreeMap::<String, u32>::new();
    for _ in 0..count {
        let body = fetch(url).unwrap_or_else(|error| format!("error: {error}\n"));
        *bodies.entry(body).or_default() += 1;
    }
    for (body, times) in bodies {
        print!("{times:6} {body}");
    }
    Ok(())
}

pub fn tcp(peer: &str, text: &str) -> Outcome {
    let stream = connect(peer)?;
    println!("{}", exchange(&stream, text)?);
    Ok(())
}

pub fn udp(peer: &str, text: &str, connected: bool) -> Outcome {
    let address = address(peer)?;
    let fail = |what: &str, error: std::io::Error| format!("{what} {peer}: {error}");
    let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).map_err(|e| format!("bind: {e}"))?;
    socket.set_read_timeout(Some(PATIENCE)).map_err(|e| e.to_string())?;
    let mut buffer = [0; 65536];
    let (length, from) = if connected {
        socket.connect(address).map_err(|e| fail("connect to", e))?;
        socket.send(text.as_bytes()).map_err(|e| fail("send to", e))?;
        (socket.recv(&mut buffer).map_err(|e| fail("answer from", e))?, address)
    } else {
        socket.send_to(text.as_bytes(), address).map_err(|e| fail("send to", e))?;
        socket.recv_from(&mut buffer).map_err(|e| fail("answer from", e))?
    };
    if from != address {
        return Err(format!("asked {address}, but {from} answered"));
    }
    println!("{}", String::from_utf8_lossy(&buffer[..length]));
    Ok(())
}

pub fn hold(peer: &str, seconds: u64) -> Outcome {
    let stream = connect(peer)?;
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut lines = 0u64;
    while Instant::now() < end {
        exchange(&stream, &lines.to_string()).map_err(|e| format!("broke after {lines} lines: {e}"))?;
        lines += 1;
        std::thread::sleep(Duration::from_millis(100));
    }
    println!("{lines} lines on one connection");
    Ok(())
}

pub fn load(url: &str, seconds: u64) -> Outcome {
    let end = Instant::now() + Duration::from_secs(seconds);
    let (mut sent, mut failures) = (0u64, Vec::new());
    while Instant::now() < end {
        sent += 1;
        if let Err(error) = fetch(url) {
            failures.push(error);
        }
    }
    println!("sent {sent} failed {}", failures.len());
    for error in failures.iter().take(5) {
        println!("  {error}");
    }
    Ok(())
}

pub fn resolve(name: &str, kind: &str) -> Outcome {
    for record in dns::query(name, kind)? {
        println!("{record}");
    }
    Ok(())
}

fn fetch(url: &str) -> Result<String, String> {
    let rest = url.strip_prefix("http://").ok_or_else(|| format!("URL must start with http://, not {url}"))?;
    let (host, path) = rest.split_once('/').map_or((rest, String::new()), |(host, path)| (host, path.to_owned()));
    let peer = if host.contains(':') { host.to_owned() } else { format!("{host}:80") };
    let mut stream = connect(&peer)?;
    let request = format!("GET /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(|e| format!("send to {peer}: {e}"))?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(|e| format!("answer from {peer}: {e}"))?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| format!("{peer} closed without an answer"))?;
    match head.split(' ').nth(1) {
        Some("200") => Ok(body.to_owned()),
        _ => Err(format!("{peer}: {}", head.lines().next().unwrap_or_default())),
    }
}

fn exchange(stream: &TcpStream, text: &str) -> Result<String, String> {
    writeln!(&*stream, "{text}").map_err(|e| format!("send: {e}"))?;
    let mut line = String::new();
    match BufReader::new(stream).read_line(&mut line).map_err(|e| format!("answer: {e}"))? {
        0 => Err("the server closed".to_owned()),
        _ => Ok(line.trim_end().to_owned()),
    }
}

fn connect(peer: &str) -> Result<TcpStream, String> {
    let address = address(peer)?;
    let stream = TcpStream::connect_timeout(&address, PATIENCE).map_err(|e| format!("connect to {peer}: {e}"))?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(|e| e.to_string())?;
    Ok(stream)
}

fn address(peer: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = peer.parse() {
        return Ok(address);
    }
    let (host, port) = peer.rsplit_once(':').ok_or_else(|| format!("{peer} has no :PORT"))?;
    let port: u16 = port.parse().map_err(|_| format!("{peer} has no valid :PORT"))?;
    let records = dns::query(host, "A").or_else(|_| dns::query(host, "AAAA"))?;
    let first = records.first().ok_or_else(|| format!("{host} has no address"))?;
    Ok(SocketAddr::new(first.parse().map_err(|_| format!("{host} is {first}, not an address"))?, port))
}
