//! The process that the container runtime starts.

use std::env::{self, VarError};
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};
use xebec_netlink::Netns;

use super::protocol::{Answer, Command, Config, Failure, Request, code};
use super::result::{self, VERSIONS};

/// Runtimes give up on a plugin after minutes; an agent that does not answer for this long is stuck.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// This process is a CNI plugin: its caller set the specification's environment.
pub fn invoked() -> bool {
    env::var_os("CNI_COMMAND").is_some()
}

/// Under the name `loopback` the plugin of that name, which containerd runs first; else the pod network's.
pub fn main() -> ExitCode {
    let name = env::args_os().next().map(PathBuf::from);
    let loopback = name.as_deref().and_then(Path::file_name).is_some_and(|name| name == "loopback");
    let mut input = Vec::new();
    let outcome = match io::stdin().lock().read_to_end(&mut input) {
        Ok(_) => run(loopback, |name| env::var(name), &input),
        Err(error) => Err((String::new(), Failure::new(code::DECODING_FAILURE, "read the configuration", error))),
    };
    let (output, exit) = match outcome {
        Ok(Value::Null) => return ExitCode::SUCCESS,
        Ok(output) => (output, ExitCode::SUCCESS),
        Err((version, Failure { code, msg, details })) => {
            (json!({ "cniVersion": version, "code": code, "msg": msg, "details": details }), ExitCode::FAILURE)
        }
    };
    // A runtime that does not read its plugin's answer has gone away.
    let _ = writeln!(io::stdout().lock(), "{output}");
    exit
}

type Outcome = Result<Value, (String, Failure)>;

pub(super) fn run(loopback: bool, var: impl Fn(&str) -> Result<String, VarError>, input: &[u8]) -> Outcome {
    let command = var("CNI_COMMAND").unwrap_or_default();
    if command == "VERSION" {
        return Ok(json!({ "cniVersion": "1.0.0", "supportedVersions": VERSIONS }));
    }
    let config: Config = serde_json::from_slice(input).map_err(|error| {
        (String::new(), Failure::new(code::DECODING_FAILURE, "decode the network configuration", error))
    })?;
    let version = config.version.clone();
    let outcome = request(&command, var, config)
        .and_then(|request| if loopback { answer_loopback(&request) } else { ask_agent(&request) });
    outcome.map_err(|failure| (version, failure))
}

pub(super) fn request(
    command: &str,
    var: impl Fn(&str) -> Result<String, VarError>,
    config: Config,
) -> Result<Request, Failure> {
    if !VERSIONS.contains(&config.version.as_str()) {
        let details = format!("the configuration has {:?}, the plugin {VERSIONS:?}", config.version);
        return Err(Failure::new(code::INCOMPATIBLE_VERSION, "incompatible CNI version", details));
    }
    let command = match command {
        "ADD" => Command::Add,
        "DEL" => Command::Del,
        "CHECK" => Command::Check,
        "STATUS" => Command::Status,
        "GC" => Command::Gc,
        other => {
            let details = format!("CNI_COMMAND is {other:?}");
            return Err(Failure::new(code::INVALID_ENVIRONMENT, "unknown CNI_COMMAND", details));
        }
    };
    let needs = |name: &str, needed: bool| match var(name) {
        Ok(value) if !value.is_empty() => Ok(value),
        _ if !needed => Ok(String::new()),
        _ => Err(Failure::new(code::INVALID_ENVIRONMENT, format!("{name} is required"), "")),
    };
    let about_container = matches!(command, Command::Add | Command::Del | Command::Check);
    Ok(Request {
        command,
        container: needs("CNI_CONTAINERID", about_container)?,
        ifname: needs("CNI_IFNAME", about_container)?,
        // DEL without a namespace happens after a reboot.
        netns: needs("CNI_NETNS", matches!(command, Command::Add | Command::Check))?.into(),
        args: needs("CNI_ARGS", false)?,
        config,
    })
}

fn answer_loopback(request: &Request) -> Result<Value, Failure> {
    let up = || Netns::open(&request.netns).and_then(|netns| netns.loopback_up());
    let failed = |error: xebec_netlink::Error| {
        Failure::new(code::FAILED, "set up the loopback device", crate::error::chain(&error))
    };
    match request.command {
        Command::Add => {
            up().map_err(failed)?;
            Ok(result::loopback(&request.config.version, &request.netns))
        }
        Command::Check => up().map(|()| Value::Null).map_err(failed),
        Command::Del | Command::Status | Command::Gc => Ok(Value::Null),
    }
}

fn ask_agent(request: &Request) -> Result<Value, Failure> {
    let socket = &request.config.socket;
    if socket.as_os_str().is_empty() {
        return Err(Failure::new(code::INVALID_CONFIG, "the configuration names no agent socket", "set \"socket\""));
    }
    let answer = exchange(socket, request).map_err(|error| {
        let code = if request.command == Command::Status { code::NOT_AVAILABLE } else { code::TRY_AGAIN_LATER };
        Failure::new(code, format!("ask the node agent at {}", socket.display()), error)
    })?;
    match answer {
        Answer::Result(value) => Ok(value),
        Answer::Error(failure) => Err(failure),
    }
}

fn exchange(socket: &Path, request: &Request) -> io::Result<Answer> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    stream.write_all(&serde_json::to_vec(request)?)?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    if answer.is_empty() {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the agent ended before it answered"));
    }
    Ok(serde_json::from_slice(&answer)?)
}
