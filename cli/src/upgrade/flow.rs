//! Flows that count what they lose: numbered datagrams, one long connection, and one connection after the other.

use std::collections::HashMap;
use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

/// Between two datagrams, and between two messages.
const PAUSE: Duration = Duration::from_millis(2);
/// Between two connections of a flow: one to outside keeps its port of the node for a minute after it closed, and there
/// are 4,535 towards one address. What a node out of ports refuses says nothing about upgrades.
const PAUSE_CONNECT: Duration = Duration::from_millis(30);
/// An answer that takes longer is lost. It may be late by a TCP retransmission after one lost segment.
const PATIENCE: Duration = Duration::from_secs(5);
/// For the last answers, once nothing is sent any more.
const LAST: Duration = Duration::from_millis(500);
/// For a target that is still being programmed.
const FIRST: Duration = Duration::from_secs(20);

/// What became of what a flow sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    pub sent: u64,
    /// Never answered.
    pub lost: u64,
    /// Answered more than once.
    pub duplicated: u64,
    /// Connections that broke or were refused.
    pub reset: u64,
}

impl Counts {
    pub fn faults(&self) -> u64 {
        self.lost + self.duplicated + self.reset
    }

    pub fn join(self, other: Self) -> Self {
        Self {
            sent: self.sent + other.sent,
            lost: self.lost + other.lost,
            duplicated: self.duplicated + other.duplicated,
            reset: self.reset + other.reset,
        }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sent, lost, duplicated, reset } = self;
        write!(f, "{sent} sent, {lost} lost, {duplicated} duplicated, {reset} reset")
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Datagrams on one connected socket.
    Datagrams,
    /// Messages on one connection.
    Messages,
    /// A connection with a message each.
    Connections,
}

impl Kind {
    pub const ALL: [Self; 3] = [Self::Datagrams, Self::Messages, Self::Connections];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Datagrams => "UDP",
            Self::Messages => "long TCP",
            Self::Connections => "connect/close",
        }
    }

    /// Works until `stop`, in the calling thread's network namespace.
    ///
    /// # Errors
    /// When a socket cannot be made at all.
    pub fn run(self, target: SocketAddr, stop: &AtomicBool) -> Result<Counts> {
        match self {
            Self::Datagrams => datagrams(target, stop),
            Self::Messages => Ok(messages(target, stop)),
            Self::Connections => Ok(connections(target, stop)),
        }
    }
}

/// Blocks until the target answers by UDP and by TCP.
///
/// # Errors
/// When it does not within 20 s.
pub fn wait_answers(target: SocketAddr) -> Result<()> {
    let deadline = Instant::now() + FIRST;
    let mut last = anyhow::anyhow!("no answer");
    while Instant::now() < deadline {
        match by_tcp(target).and_then(|()| by_udp(target)) {
            Ok(()) => return Ok(()),
            Err(error) => last = error.into(),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Err(last).with_context(|| format!("{target} does not answer"))
}

fn by_tcp(target: SocketAddr) -> std::io::Result<()> {
    exchange(&mut connect(target)?, 0)
}

fn by_udp(target: SocketAddr) -> std::io::Result<()> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect(target)?;
    socket.set_read_timeout(Some(Duration::from_millis(500)))?;
    socket.send(&0u64.to_be_bytes())?;
    socket.recv(&mut [0; 8]).map(drop)
}

fn datagrams(target: SocketAddr, stop: &AtomicBool) -> Result<Counts> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect(target).with_context(|| format!("connect to {target}"))?;
    socket.set_read_timeout(Some(Duration::from_millis(50)))?;
    let quiet = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let receiver = scope.spawn(|| receive(&socket, &quiet));
        let mut counts = Counts::default();
        while !stop.load(Ordering::Relaxed) {
            // An ICMP error for an earlier datagram is told here; that one is not answered, and so counted.
            if socket.send(&counts.sent.to_be_bytes()).is_err() {
                counts.reset += 1;
            }
            counts.sent += 1;
            std::thread::sleep(PAUSE);
        }
        std::thread::sleep(LAST);
        quiet.store(true, Ordering::Relaxed);
        let Ok(answers) = receiver.join() else { bail!("the receiver panicked") };
        counts.lost = (0..counts.sent).filter(|number| !answers.contains_key(number)).count() as u64;
        counts.duplicated = answers.values().map(|times| times - 1).sum();
        Ok(counts)
    })
}

/// How often each number was answered.
fn receive(socket: &UdpSocket, quiet: &AtomicBool) -> HashMap<u64, u64> {
    let (mut answers, mut number) = (HashMap::new(), [0; 8]);
    while !quiet.load(Ordering::Relaxed) {
        // An error is the time-out, or an ICMP error that the sender counts.
        if let Ok(8) = socket.recv(&mut number) {
            *answers.entry(u64::from_be_bytes(number)).or_default() += 1;
        }
    }
    answers
}

fn messages(target: SocketAddr, stop: &AtomicBool) -> Counts {
    let (mut counts, mut stream) = (Counts::default(), None);
    while !stop.load(Ordering::Relaxed) {
        let number = counts.sent;
        counts.sent += 1;
        let outcome = match &mut stream {
            Some(stream) => exchange(stream, number),
            None => connect(target).and_then(|mut fresh| {
                exchange(&mut fresh, number)?;
                stream = Some(fresh);
                Ok(())
            }),
        };
        if let Err(error) = outcome {
            count(&mut counts, &error);
            stream = None;
        }
        std::thread::sleep(PAUSE);
    }
    counts
}

fn connections(target: SocketAddr, stop: &AtomicBool) -> Counts {
    let mut counts = Counts::default();
    while !stop.load(Ordering::Relaxed) {
        if let Err(error) = connect(target).and_then(|mut stream| exchange(&mut stream, counts.sent)) {
            count(&mut counts, &error);
        }
        counts.sent += 1;
        std::thread::sleep(PAUSE_CONNECT);
    }
    counts
}

fn connect(target: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&target, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Sends a number and reads it back.
fn exchange(stream: &mut TcpStream, number: u64) -> std::io::Result<()> {
    stream.write_all(&number.to_be_bytes())?;
    let mut answer = [0; 8];
    stream.read_exact(&mut answer)?;
    if u64::from_be_bytes(answer) == number { Ok(()) } else { Err(ErrorKind::AlreadyExists.into()) }
}

fn count(counts: &mut Counts, error: &std::io::Error) {
    match error.kind() {
        ErrorKind::TimedOut | ErrorKind::WouldBlock => counts.lost += 1,
        // The answer to an earlier message came again.
        ErrorKind::AlreadyExists => counts.duplicated += 1,
        _ => counts.reset += 1,
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// Runs a flow against `serve`, which gets each datagram's number and says how often it is answered.
    fn udp(answers: fn(u64) -> u32) -> Counts {
        let server = UdpSocket::bind("127.0.0.1:0").expect("bind");
        server.set_read_timeout(Some(Duration::from_millis(50))).expect("a time-out");
        let (target, stop, over) =
            (server.local_addr().expect("bound"), AtomicBool::new(false), AtomicBool::new(false));
        std::thread::scope(|scope| {
            let flow = scope.spawn(|| Kind::Datagrams.run(target, &stop));
            let serve = scope.spawn(|| {
                let mut number = [0; 8];
                while !over.load(Ordering::Relaxed) {
                    let Ok((_, from)) = server.recv_from(&mut number) else { continue };
                    let number = u64::from_be_bytes(number);
                    for _ in 0..answers(number) {
                        server.send_to(&number.to_be_bytes(), from).expect("answer");
                    }
                    if number == 20 {
                        stop.store(true, Ordering::Relaxed);
                    }
                }
            });
            let counts = flow.join().expect("no panic").expect("counts");
            over.store(true, Ordering::Relaxed);
            serve.join().expect("no panic");
            counts
        })
    }

    #[test]
    fn datagrams_that_are_not_answered_are_lost_and_those_answered_twice_are_duplicated() {
        let counts = udp(|_| 1);
        assert!(counts.sent > 20 && counts.faults() == 0, "{counts}");
        let counts = udp(|number| match number {
            3 | 5 => 0,
            7 => 3,
            _ => 1,
        });
        assert_eq!((counts.lost, counts.duplicated, counts.reset), (2, 2, 0), "{counts}");
    }

    #[test]
    fn a_connection_that_ends_is_a_reset_and_another_is_made() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
        let (target, stop) = (listener.local_addr().expect("bound"), AtomicBool::new(false));
        let counts = std::thread::scope(|scope| {
            let flow = scope.spawn(|| Kind::Messages.run(target, &stop));
            for last in [false, true] {
                let (mut stream, mut number) = (listener.accept().expect("a client").0, [0; 8]);
                for _ in 0..5 {
                    stream.read_exact(&mut number).expect("a message");
                    stream.write_all(&number).expect("answer");
                }
                stop.store(last, Ordering::Relaxed);
                while last && stream.read_exact(&mut number).is_ok() {
                    stream.write_all(&number).expect("answer");
                }
            }
            flow.join().expect("no panic").expect("counts")
        });
        assert_eq!((counts.lost, counts.duplicated, counts.reset), (0, 0, 1), "{counts}");
    }
}
