//! Many watchers: how soon they hear, and what they cost when there is nothing to hear.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio::sync::oneshot;
use xebec_apiserver::Pki;

use crate::client::{Dial, call, request};
use crate::frames::Watches;
use crate::{Bench, Failure, figure, percentile, resident_mb};

const PATH: &str = "/api/v1/namespaces/kube-public/configmaps";
const WATCHERS: usize = 1_000;
const CONNECTIONS: usize = 8;
const WRITES: usize = 500;
/// Between two writes.
const PAUSE: Duration = Duration::from_millis(50);
/// The first argument of a process of clients.
pub const CHILD: &str = "watch";

/// From a write, and from its answer, to its event at each of 1,000 watchers, who share eight connections. What is heard
/// before the answer counts as nothing.
pub async fn fan_out(bench: &Bench<'_>) -> Result<(), Failure> {
    let path = format!("{PATH}?watch=true&labelSelector=bench=fan");
    let dial = Dial::new(&bench.pki, bench.server.addresses()[0])?;
    let (open, opened) = oneshot::channel();
    let listener = dial.clone();
    // In a thread of their own: the clients wait for no turn of the server's workers, and take none.
    let clients = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(hear(listener, path, open))
    });
    // Where they did not open, the clients say why in the end.
    _ = opened.await;
    let mut sender = dial.http1().await?;
    let (mut sent, mut acknowledged) = (Vec::new(), Vec::new());
    for i in 0..WRITES {
        let body = format!(r#"{{"metadata":{{"name":"w{i}","labels":{{"bench":"fan"}}}},"data":{{"a":"1"}}}}"#);
        sent.push(Instant::now());
        if call(&mut sender, "POST", PATH, body).await?.0 != 201 {
            return Err("create failed".into());
        }
        acknowledged.push(Instant::now());
        tokio::time::sleep(PAUSE).await;
    }
    let heard = tokio::task::spawn_blocking(|| clients.join()).await?.map_err(|_| "the clients panicked")??;
    for (what, since, target) in [("acknowledged", &acknowledged, "<= 5 ms"), ("sent", &sent, "-")] {
        let after = |(write, at): &(usize, Instant)| at.saturating_duration_since(since[*write]);
        let mut times: Vec<Duration> = heard.iter().map(after).collect();
        times.sort();
        let what = format!("event at {WATCHERS} watchers after its write was {what}, p50");
        figure(&what, format!("{:.2?}", percentile(&times, 50)), "-");
        figure("  p99", format!("{:.2?}", percentile(&times, 99)), target);
    }
    Ok(())
}

/// Which write each watcher heard of, and when; says `open` when all watch.
async fn hear(dial: Dial, path: String, open: oneshot::Sender<()>) -> Result<Vec<(usize, Instant)>, Failure> {
    const EACH: usize = WATCHERS / CONNECTIONS;
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(Watches::open(&dial, &path, EACH).await?);
    }
    open.send(()).map_err(|()| "nobody waits for the watches")?;
    let heard = connections.iter_mut().map(async |watches| {
        let (mut next, mut heard) = ([0; EACH], Vec::with_capacity(WRITES * EACH));
        while heard.len() < WRITES * EACH {
            watches
                .events(|watcher| {
                    heard.push((next[watcher], Instant::now()));
                    next[watcher] += 1;
                })
                .await?;
        }
        Ok::<_, Failure>(heard)
    });
    Ok(futures::future::try_join_all(heard).await?.concat())
}

/// What idle watchers cost the server; their clients are in a process of their own.
pub async fn idle(bench: &Bench<'_>, watchers: usize, per_connection: usize) -> Result<(), Failure> {
    let before = resident_mb();
    let mut child = Command::new(std::env::current_exe()?)
        .args([CHILD, &bench.server.addresses()[0].to_string()])
        .arg(bench.dir)
        .args([watchers.to_string(), per_connection.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let output = child.stdout.take().ok_or("no output")?;
    if BufReader::new(output).lines().next_line().await?.is_none() {
        return Err("the process of clients ended".into());
    }
    let each = (resident_mb() - before) * 1024.0 / watchers as f64;
    let target = if per_connection > 1 { "<= 10 KB" } else { "-" };
    figure(&format!("{watchers} idle watchers, {per_connection} a connection, each"), format!("{each:.1} KB"), target);
    child.kill().await?;
    // Until the server has let go of them, what comes next would be measured too low.
    tokio::time::sleep(Duration::from_secs(1)).await;
    Ok(())
}

/// A process of clients: `ADDRESS DIR WATCHERS PER-CONNECTION`. Says `open` when all watch.
pub async fn child(arguments: &[String]) -> Result<(), Failure> {
    let [address, dir, watchers, per_connection] = arguments else { return Err("four arguments".into()) };
    let (watchers, per_connection): (usize, usize) = (watchers.parse()?, per_connection.parse()?);
    let pki = Pki::load_or_create(Path::new(dir).join("pki"), &[])?;
    let dial = Dial::new(&pki, address.parse::<SocketAddr>()?)?;
    let mut open = Vec::new();
    for _ in 0..watchers / per_connection {
        let mut sender = dial.http2().await?;
        for _ in 0..per_connection {
            sender.ready().await?;
            let watch = request(
                "GET",
                &format!("{PATH}?watch=true&resourceVersion=0&labelSelector=bench=idle"),
                String::new(),
            )?;
            let response = sender.send_request(watch).await?;
            if !response.status().is_success() {
                return Err(format!("watch answered {}", response.status()).into());
            }
            open.push((sender.clone(), response));
        }
    }
    println!("open");
    std::future::pending::<()>().await;
    drop(open);
    Ok(())
}
