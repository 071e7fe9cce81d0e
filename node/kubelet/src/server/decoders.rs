//! What clients of streams may send, from the first byte after the upgrade, and what pods, their logs and their secrets hold: for `tests/fuzz`, which has
//! no process to run.

use std::io::Cursor;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use xebec_types::Quantity;
use xebec_types::core::Pod;

use super::session::{self, Input, Wanted};
use super::spdy;
use super::websocket::{self, Protocol};
use crate::keyring::Keyring;
use crate::logs::{self, LogOptions};
use crate::{env, field};

/// Every input comes to an end long before.
const STUCK: Duration = Duration::from_secs(4);

/// A SPDY session of `exec` with every stream, as its client sent it.
///
/// # Panics
/// When it does not end.
pub fn spdy(bytes: &[u8]) {
    run(async {
        let wanted = Wanted { stdin: true, stdout: true, stderr: true, tty: true };
        let (accept, accepted) = mpsc::channel(8);
        let commands = async {
            if let Some((_sender, mut reader)) = session::streams(accepted, wanted).await {
                while judge(&reader.next().await) {}
            }
        };
        _ = tokio::join!(spdy::run(connection(bytes), accept), commands);
    });
}

/// The plain text of a SPDY header block.
pub fn spdy_headers(bytes: &[u8]) {
    _ = spdy::parse_headers(bytes).is_ok();
}

/// The messages of a WebSocket.
///
/// # Panics
/// When they do not end.
pub fn websocket(bytes: &[u8]) {
    run(async {
        let (_channels, mut messages) = websocket::split(websocket::over(connection(bytes)).await, Protocol::V5);
        while judge(&messages.next().await) {}
    });
}

/// What a client sends that runs something: its streams, a size, some input, and the end of it.
#[must_use]
pub fn spdy_session() -> Vec<u8> {
    spdy::session(&["error", "stdin", "stdout", "resize"], &[(3, b"ls\n"), (7, br#"{"Width":80,"Height":24}"#)])
}

/// The options of `exec` and `attach`, and a container's log as the options of `kubectl logs` want it.
///
/// # Panics
/// When it does not end.
pub fn logs(query: &str, file: &Path) {
    let query: Vec<(String, String)> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    _ = Wanted::parse(&query).is_ok();
    let Ok(options) = LogOptions::parse(&query) else { return };
    let options = LogOptions { follow: false, ..options };
    run(async {
        let (sender, mut lines) = mpsc::channel(8);
        let sent = logs::stream(file.to_owned(), options, Box::new(|| Box::pin(async { false })), sender);
        let received = async { while lines.recv().await.is_some() {} };
        _ = tokio::join!(sent, received);
    });
}

/// The value of a variable that names others, and a field of the downward API.
pub fn variable(text: &str, pod: &Pod) {
    let facts = env::Facts { allocatable_milli_cpu: 1000, ..env::Facts::default() };
    _ = env::expand(text, |name| field::pod_field(pod, name, &facts).ok());
    for container in pod.spec.iter().flat_map(|spec| &spec.containers) {
        for divisor in ["1m", "1", "1Mi", "1Ei"].map(|divisor| Quantity(divisor.to_owned())) {
            let number = field::resource_field(container, text, Some(&divisor), &facts);
            assert!(number.as_ref().is_ok_and(|number| !number.starts_with('-')) || number.is_err(), "{number:?}");
        }
    }
}

/// What a pull secret has for an image.
pub fn pull_secret(secret: &[u8], image: &str) {
    for key in [".dockerconfigjson", ".dockercfg"] {
        let mut keyring = Keyring::default();
        keyring.add(&[(key.to_owned(), secret.to_vec())].into());
        _ = keyring.find(image).len();
    }
}

/// Whether there is more to come.
fn judge(input: &Input) -> bool {
    match input {
        Input::Data(session::RESIZE, data) => _ = session::terminal_size(data),
        Input::Data(..) | Input::Closed(_) => {}
        Input::Gone => return false,
    }
    true
}

fn connection(bytes: &[u8]) -> impl AsyncRead + AsyncWrite + Send + Unpin + 'static {
    tokio::io::join(Cursor::new(bytes.to_vec()), tokio::io::sink())
}

fn run(session: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    // Without one nothing can be said of the input.
    if let Ok(runtime) = runtime {
        let ended = runtime.block_on(async { tokio::time::timeout(STUCK, session).await });
        assert!(ended.is_ok(), "the session does not end");
    }
}
