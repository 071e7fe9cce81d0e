//! What flows talk to: everything that arrives goes back.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};

use anyhow::{Context, Result};
use clap::Args;

use crate::inside::{Place, Running, ready, until_told};
use crate::output::say;

#[derive(Args)]
pub struct Serve {
    #[arg(long)]
    port: u16,
    #[command(flatten)]
    place: Place,
}

impl Serve {
    /// In a process of its own.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(place: &Place, port: u16) -> Result<Running> {
        place.start(["upgrade", "serve", "--port", &port.to_string()])
    }

    /// Answers by TCP and UDP until standard input ends.
    ///
    /// # Errors
    /// When the port is taken.
    pub fn run(&self) -> Result<()> {
        let netns = self.place.enter()?;
        let any = (Ipv4Addr::UNSPECIFIED, self.port);
        let sockets = netns.run(|| Ok::<_, std::io::Error>((TcpListener::bind(any)?, UdpSocket::bind(any)?)))?;
        let (listener, socket) = sockets.with_context(|| format!("listen on port {}", self.port))?;
        // Both end with the process.
        std::thread::spawn(move || datagrams(&socket));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                std::thread::spawn(move || connection(stream));
            }
        });
        ready()?;
        until_told()?;
        say!("null")?;
        Ok(())
    }
}

fn datagrams(socket: &UdpSocket) {
    let mut buffer = [0; 64];
    loop {
        // An error is an ICMP error about an answer to a client that is gone.
        if let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&buffer[..length], from);
        }
    }
}

fn connection(mut stream: TcpStream) {
    let mut buffer = [0; 64];
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..length]).is_err() {
            return;
        }
    }
}
