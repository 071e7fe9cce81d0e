//! The three servers. A thread per connection: they serve tests and demos.

use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use crate::{Outcome, stop};

pub fn http(port: u16) -> Outcome {
    accept(port, |stream| {
        let mut reader = BufReader::new(stream.try_clone()?);
        loop {
            let mut request = String::new();
            if reader.read_line(&mut request)? == 0 {
                return Ok(());
            }
            let mut close = request.ends_with("HTTP/1.0\r\n");
            loop {
                let mut header = String::new();
                if reader.read_line(&mut header)? <= 2 {
                    break;
                }
                close |= header.eq_ignore_ascii_case("connection: close\r\n");
            }
            let _busy = stop::Busy::new();
            let path = request.split(' ').nth(1).unwrap_or("/");
            let (status, body) = answer(path, stream);
            let connection = if close { "close" } else { "keep-alive" };
            write!(
                &*stream,
                "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: {connection}\r\n\r\n{body}",
                body.len()
            )?;
            println!("{} {path} {status}", peer(stream));
            if close {
                return Ok(());
            }
        }
    })
}

fn answer(path: &str, stream: &TcpStream) -> (&'static str, String) {
    if let Some(name) = path.strip_prefix("/env/") {
        return match std::env::var(name) {
            Ok(value) => ("200 OK", format!("{value}\n")),
            Err(_) => ("404 Not Found", format!("{name} is not set\n")),
        };
    }
    if let Some(file) = path.strip_prefix("/file") {
        return match std::fs::read_to_string(file) {
            Ok(text) => ("200 OK", text),
            Err(error) => ("404 Not Found", format!("{file}: {error}\n")),
        };
    }
    if let Some(ms) = path.strip_prefix("/sleep/").and_then(|ms| ms.parse().ok()) {
        std::thread::sleep(Duration::from_millis(ms));
    }
    if path == "/healthz" {
        return ("200 OK", "ok\n".to_owned());
    }
    let greeting = std::env::var("GREETING").map_or_else(|_| String::new(), |text| format!("{text} "));
    ("200 OK", format!("{greeting}from {} to {}\n", host(), peer(stream)))
}

pub fn tcp_echo(port: u16) -> Outcome {
    accept(port, |stream| {
        for line in BufReader::new(stream.try_clone()?).lines() {
            let line = line?;
            writeln!(&*stream, "{} {} {line}", host(), peer(stream))?;
        }
        Ok(())
    })
}

pub fn udp_echo(port: u16) -> Outcome {
    let socket = UdpSocket::bind(SocketAddr::new(any(), port)).map_err(|e| format!("bind UDP port {port}: {e}"))?;
    println!("udp-echo on {port}");
    let mut buffer = [0; 65536];
    loop {
        let (length, peer) = socket.recv_from(&mut buffer).map_err(|e| format!("receive: {e}"))?;
        let text = String::from_utf8_lossy(&buffer[..length]);
        // A reply that cannot be sent is the client's loss alone; it will see a time-out.
        if let Err(error) = socket.send_to(format!("{} {} {text}", host(), peer.ip()).as_bytes(), peer) {
            eprintln!("send to {peer}: {error}");
        }
    }
}

fn accept(port: u16, serve: fn(&TcpStream) -> std::io::Result<()>) -> Outcome {
    let listener =
        TcpListener::bind(SocketAddr::new(any(), port)).map_err(|e| format!("listen on port {port}: {e}"))?;
    println!("listening on {port}");
    for stream in listener.incoming() {
        match stream {
            Ok(stream) => drop(std::thread::spawn(move || {
                if let Err(error) = serve(&stream) {
                    eprintln!("{}: {error}", peer(&stream));
                }
            })),
            Err(error) => eprintln!("accept: {error}"),
        }
    }
    Ok(())
}

fn host() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").map_or_else(|_| "?".to_owned(), |name| name.trim().to_owned())
}

fn peer(stream: &TcpStream) -> String {
    stream.peer_addr().map_or_else(|_| "?".to_owned(), |peer| peer.ip().to_canonical().to_string())
}

/// Both families on one socket, where the kernel has both.
fn any() -> IpAddr {
    match UdpSocket::bind("[::]:0") {
        Ok(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        Err(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    }
}
