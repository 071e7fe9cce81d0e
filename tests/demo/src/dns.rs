//! A stub resolver (RFC 1035): one question over UDP, the search list and `ndots` of /etc/resolv.conf.

use std::net::UdpSocket;
use std::time::Duration;

/// The records' data in text form, in the order of the answer.
///
/// # Errors
/// A readable reason: no nameserver, a time-out, NXDOMAIN for every name tried.
pub fn query(name: &str, kind: &str) -> Result<Vec<String>, String> {
    let text = std::fs::read_to_string("/etc/resolv.conf").map_err(|e| format!("/etc/resolv.conf: {e}"))?;
    let config = Config::parse(&text);
    let server = config.server.ok_or("/etc/resolv.conf has no nameserver")?;
    let number = number(kind)?;
    let mut last = String::new();
    for candidate in candidates(name, &config.search, config.ndots) {
        match ask(&server, &candidate, number) {
            Ok(records) if !records.is_empty() => return Ok(records),
            Ok(_) => last = format!("{candidate} has no {kind} record"),
            Err(error) => last = error,
        }
    }
    Err(last)
}

#[derive(Default)]
struct Config {
    server: Option<String>,
    search: Vec<String>,
    ndots: usize,
}

impl Config {
    fn parse(text: &str) -> Self {
        let mut config = Self { ndots: 1, ..Self::default() };
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") if config.server.is_none() => config.server = words.next().map(str::to_owned),
                Some("search") => config.search = words.map(str::to_owned).collect(),
                Some("options") => {
                    let ndots = words.find_map(|word| word.strip_prefix("ndots:")?.parse().ok());
                    config.ndots = ndots.unwrap_or(config.ndots);
                }
                _ => {}
            }
        }
        config
    }
}

/// The absolute names to try, in resolv.conf(5)'s order.
fn candidates(name: &str, search: &[String], ndots: usize) -> Vec<String> {
    if let Some(absolute) = name.strip_suffix('.') {
        return vec![absolute.to_owned()];
    }
    let searched = search.iter().map(|domain| format!("{name}.{domain}"));
    if name.matches('.').count() >= ndots {
        std::iter::once(name.to_owned()).chain(searched).collect()
    } else {
        searched.chain(std::iter::once(name.to_owned())).collect()
    }
}

fn number(kind: &str) -> Result<u16, String> {
    match kind {
        "A" => Ok(1),
        "CNAME" => Ok(5),
        "PTR" => Ok(12),
        "TXT" => Ok(16),
        "AAAA" => Ok(28),
        "SRV" => Ok(33),
        _ => Err(format!("TYPE must be A, AAAA, SRV, TXT, CNAME or PTR, not {kind}")),
    }
}

fn ask(server: &str, name: &str, kind: u16) -> Result<Vec<String>, String> {
    let any = if server.contains(':') { "[::]:0" } else { "0.0.0.0:0" };
    let socket = UdpSocket::bind(any).map_err(|e| format!("bind: {e}"))?;
    socket.set_read_timeout(Some(Duration::from_secs(2))).map_err(|e| e.to_string())?;
    let id = std::process::id() as u16;
    let mut question = Vec::from(id.to_be_bytes());
    question.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]); // Recursion desired, one question.
    for label in name.split('.') {
        question.push(u8::try_from(label.len()).map_err(|_| format!("{label} is longer than 63 bytes"))?);
        question.extend(label.as_bytes());
    }
    question.push(0);
    question.extend(kind.to_be_bytes());
    question.extend([0, 1]);
    let mut answer = [0; 4096];
    for _ in 0..3 {
        socket.send_to(&question, (server, 53)).map_err(|e| format!("ask {server}: {e}"))?;
        if let Ok((length, _)) = socket.recv_from(&mut answer) {
            return records(&answer[..length], kind)
                .ok_or_else(|| format!("{server} sent a malformed answer for {name}"))?
                .map_err(|code| format!("{name}: {code}"));
        }
    }
    Err(format!("{server} did not answer for {name}"))
}

/// The answer's records of `kind`; the inner error is the response code.
fn records(message: &[u8], kind: u16) -> Option<Result<Vec<String>, String>> {
    match message.get(3)? & 15 {
        0 => {}
        3 => return Some(Err("NXDOMAIN".to_owned())),
        code => return Some(Err(format!("response code {code}"))),
    }
    let answers = u16::from_be_bytes([*message.get(6)?, *message.get(7)?]);
    let mut at = name_at(message, 12)?.1 + 4;
    let mut found = Vec::new();
    for _ in 0..answers {
        at = name_at(message, at)?.1;
        let head = message.get(at..at + 10)?;
        let (this, length) =
            (u16::from_be_bytes([head[0], head[1]]), usize::from(u16::from_be_bytes([head[8], head[9]])));
        let data = at + 10;
        let bytes = message.get(data..data + length)?;
        if this == kind {
            found.push(render(message, kind, data, bytes)?);
        }
        at = data + length;
    }
    Some(Ok(found))
}

fn render(message: &[u8], kind: u16, at: usize, data: &[u8]) -> Option<String> {
    Some(match kind {
        1 => std::net::Ipv4Addr::from(<[u8; 4]>::try_from(data).ok()?).to_string(),
        28 => std::net::Ipv6Addr::from(<[u8; 16]>::try_from(data).ok()?).to_string(),
        16 => String::from_utf8_lossy(data.get(1..)?).into_owned(),
        33 => {
            let port = u16::from_be_bytes([*data.get(4)?, *data.get(5)?]);
            format!("{}:{port}", name_at(message, at + 6)?.0)
        }
        _ => name_at(message, at)?.0,
    })
}

/// The name at an offset, and the offset behind it. Pointers only go backwards, so this ends.
fn name_at(message: &[u8], start: usize) -> Option<(String, usize)> {
    let (mut at, mut end, mut labels) = (start, None, Vec::new());
    loop {
        let length = *message.get(at)?;
        match length {
            0 => return Some((labels.join("."), end.unwrap_or(at + 1))),
            192.. => {
                let target = usize::from(u16::from_be_bytes([length & 63, *message.get(at + 1)?]));
                end.get_or_insert(at + 2);
                if target >= at {
                    return None;
                }
                at = target;
            }
            _ => {
                let label = message.get(at + 1..at + 1 + usize::from(length))?;
                labels.push(String::from_utf8_lossy(label).into_owned());
                at += 1 + usize::from(length);
            }
        }
    }
}
