//! Servers and clients that say who answered whom: what the demo image runs.
//!
//! Linked statically: the image holds this file and a busybox. Names are resolved
//! by [`dns`], because glibc's resolver needs shared objects that a static program cannot load.

mod client;
mod dns;
mod server;
mod stop;

use std::process::ExitCode;

const USAGE: &str = "\
usage: demo COMMAND

servers (each answer names the server's host and the client's address)
  http [PORT]                 GET /            who answered whom; GET /env/NAME, GET /file/PATH, GET /sleep/MS, GET /healthz
  tcp-echo [PORT]             lines come back with the host name in front
  udp-echo [PORT]             datagrams come back with the host name in front

clients
  get URL [COUNT]             prints the body; with COUNT, how often each distinct body came
  tcp HOST:PORT TEXT          one line there and back
  udp HOST:PORT TEXT [connected]   one datagram there and back, from an unconnected socket unless told
  hold HOST:PORT SECONDS      one TCP connection, a line every 100 ms; ends 1 when it breaks
  load URL SECONDS            a new connection for every request; prints sent, failed and the first errors
  resolve NAME [TYPE]         A, AAAA, SRV, TXT, CNAME or PTR records, by /etc/resolv.conf
";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    if matches!(words.first(), Some(&("http" | "tcp-echo" | "udp-echo"))) {
        // Before any other thread is there: they inherit the mask.
        stop::on_sigterm();
    }
    let outcome = match words.as_slice() {
        ["http"] => server::http(8080),
        ["http", port] => with_port(port, server::http),
        ["tcp-echo"] => server::tcp_echo(7000),
        ["tcp-echo", port] => with_port(port, server::tcp_echo),
        ["udp-echo"] => server::udp_echo(7001),
        ["udp-echo", port] => with_port(port, server::udp_echo),
        ["get", url] => client::get(url, None),
        ["get", url, count] => match count.parse() {
            Ok(count) => client::get(url, Some(count)),
            Err(_) => Err(format!("COUNT must be a number, not {count}")),
        },
        ["tcp", peer, text] => client::tcp(peer, text),
        ["udp", peer, text] => client::udp(peer, text, false),
        ["udp", peer, text, "connected"] => client::udp(peer, text, true),
        ["hold", peer, seconds] => with_seconds(seconds, |s| client::hold(peer, s)),
        ["load", url, seconds] => with_seconds(seconds, |s| client::load(url, s)),
        ["resolve", name] => client::resolve(name, "A"),
        ["resolve", name, kind] => client::resolve(name, kind),
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("demo: {message}");
            ExitCode::FAILURE
        }
    }
}

/// What went wrong, for a person.
type Outcome = Result<(), String>;

fn with_port(word: &str, run: impl FnOnce(u16) -> Outcome) -> Outcome {
    word.parse().map_err(|_| format!("PORT must be 0 to 65535, not {word}")).and_then(run)
}

fn with_seconds(word: &str, run: impl FnOnce(u64) -> Outcome) -> Outcome {
    word.parse().map_err(|_| format!("SECONDS must be a number, not {word}")).and_then(run)
}
