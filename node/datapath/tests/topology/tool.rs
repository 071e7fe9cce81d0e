//! Servers on threads and clients in processes. A client in a process can be put into a cgroup, so that socket hooks see
//! it; a client on a thread of the test is in none, so that only packets are translated.

use std::{
    env,
    io::{BufRead, BufReader, Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use xebec_netlink::Netns;

use crate::machine::join_cgroup;

const TIMEOUT: Duration = Duration::from_secs(2);

/// Answers every message with its name and the address the message came from, over TCP and UDP, until the test ends.
pub fn serve(netns: &Netns, ip: impl Into<IpAddr>, port: u16, name: &'static str) {
    let ip = ip.into();
    let tcp = netns.run(|| TcpListener::bind((ip, port)).unwrap()).unwrap();
    thread::spawn(move || {
        for stream in tcp.incoming().flatten() {
            thread::spawn(move || answer(stream, name));
        }
    });
    let udp = netns.run(|| UdpSocket::bind((ip, port)).unwrap()).unwrap();
    thread::spawn(move || {
        let mut buffer = vec![0; 65_536];
        while let Ok((len, from)) = udp.recv_from(&mut buffer) {
            let _ = udp.send_to(&reply(name, from, len), from);
        }
    });
}

fn answer(mut stream: TcpStream, name: &str) {
    let Ok(peer) = stream.peer_addr() else { return };
    let mut buffer = vec![0; 65_536];
    while let Ok(len @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&reply(name, peer, 0)).is_err() {
            return;
        }
        let _ = len;
    }
}

fn reply(name: &str, from: SocketAddr, len: usize) -> Vec<u8> {
    // A large datagram gets a large answer.
    let padding = if len > 1_500 { len - 100 } else { 0 };
    let mut reply = format!("{name} sees {}", from.ip()).into_bytes();
    reply.push(b'\n');
    reply.resize(reply.len() + padding, b'x');
    reply
}

/// One question over TCP: what the server answered, or the error.
pub fn tcp(to: SocketAddr) -> String {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&to, TIMEOUT)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.write_all(b"who")?;
        let mut line = String::new();
        BufReader::new(&stream).read_line(&mut line)?;
        Ok(format!("{} peer {}", line.trim(), stream.peer_addr()?))
    };
    ask().unwrap_or_else(|error| format!("error {:?}", error.kind()))
}

/// One question by a socket that is not connected: the answer and who it came from.
pub fn udp(to: SocketAddr, len: usize) -> String {
    let ask = || -> std::io::Result<String> {
        let local = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(local)?;
        socket.set_read_timeout(Some(TIMEOUT))?;
        socket.send_to(&vec![b'?'; len], to)?;
        let mut buffer = vec![0; 65_536];
        let (len, from) = socket.recv_from(&mut buffer)?;
        Ok(format!("{} from {from}", first_line(&buffer[..len])))
    };
    ask().unwrap_or_else(|error| format!("error {:?}", error.kind()))
}

pub fn udp_connected(to: SocketAddr) -> String {
    let ask = || -> std::io::Result<String> {
        let local = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(local)?;
        socket.set_read_timeout(Some(TIMEOUT))?;
        socket.connect(to)?;
        socket.send(b"?")?;
        let mut buffer = vec![0; 65_536];
        let (len, from) = socket.recv_from(&mut buffer)?;
        Ok(format!("{} from {from} peer {}", first_line(&buffer[..len]), socket.peer_addr()?))
    };
    ask().unwrap_or_else(|error| format!("error {:?}", error.kind()))
}

fn first_line(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.lines().next().unwrap_or_default().to_owned()
}

/// Runs one of the clients above in a process in `netns` and `cgroup`.
pub fn in_cgroup(netns: &Netns, cgroup: &Path, client: &str, to: impl Into<SocketAddr>) -> String {
    let child = spawn(netns, cgroup, client, to.into());
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find_map(|line| line.split_once("tool: ").map(|(_, said)| said));
    line.unwrap_or_else(|| panic!("the client said nothing: {text}")).to_owned()
}

pub fn spawn(netns: &Netns, cgroup: &Path, client: &str, to: SocketAddr) -> Child {
    let mut command = Command::new(env::current_exe().unwrap());
    command
        .args(["--exact", "tool::client_process", "--nocapture"])
        .env("XEBEC_TEST_CLIENT", client)
        .env("XEBEC_TEST_TO", to.to_string())
        .env("XEBEC_TEST_CGROUP", cgroup)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    netns.run(|| command.spawn().unwrap()).unwrap()
}

/// Not a test by itself: the process that [`spawn`] starts.
#[test]
fn client_process() {
    let Ok(client) = env::var("XEBEC_TEST_CLIENT") else { return };
    join_cgroup(Path::new(&env::var_os("XEBEC_TEST_CGROUP").unwrap())).unwrap();
    let to: SocketAddr = env::var("XEBEC_TEST_TO").unwrap().parse().unwrap();
    let said = match client.as_str() {
        "tcp" => tcp(to),
        "udp" => udp(to, 1),
        "udp-connected" => udp_connected(to),
        "stream" => stream(to),
        "bind" => {
            TcpListener::bind(to).map_or_else(|error| format!("error {:?}", error.kind()), |_| "bound".to_owned())
        }
        other => panic!("no client {other}"),
    };
    println!("tool: {said}");
}

/// Asks and waits for the answer, again and again on one connection, until standard input ends.
fn stream(to: SocketAddr) -> String {
    let ask = || -> std::io::Result<u64> {
        let mut stream = TcpStream::connect_timeout(&to, TIMEOUT)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        let mut answers = BufReader::new(stream.try_clone()?);
        let done = thread::spawn(|| std::io::stdin().read_to_end(&mut Vec::new()));
        let mut asked = 0;
        let mut line = String::new();
        while !done.is_finished() {
            stream.write_all(b"who")?;
            line.clear();
            if answers.read_line(&mut line)? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            asked += 1;
            if asked == 1 {
                println!("tool-started");
            }
        }
        Ok(asked)
    };
    match ask() {
        Ok(asked) => format!("asked {asked}"),
        Err(error) => format!("error {:?}", error.kind()),
    }
}

pub fn addr(ip: impl Into<IpAddr>, port: u16) -> SocketAddr {
    SocketAddr::new(ip.into(), port)
}

pub fn mapped(ip: Ipv4Addr, port: u16) -> SocketAddr {
    SocketAddr::new(ip.to_ipv6_mapped().into(), port)
}
