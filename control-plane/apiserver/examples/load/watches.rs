//! Many watchers: how soon they hear, and what they cost when there is nothing to hear.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use futures::stream::{SelectAll, StreamExt};
use http_body_util::BodyStream;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio::task::JoinSet;
use xebec_apiserver::Pki;

use crate::client::{Dial, call, request};
use crate::{Bench, Failure, figure, percentile, resident_mb};

const PATH: &str = "/api/v1/namespaces/kube-public/configmaps";
const WATCHERS: usize = 1_000;
const CONNECTIONS: usize = 8;
const WRITES: usize = 100;
/// Between two writes.
const PAUSE: Duration = Duration::from_millis(50);
/// The first argument of a process of clients.
pub const CHILD: &str = "watch";

/// From the answer to a write to its event at each of 1,000 watchers, who share eight connections.
pub async fn fan_out(bench: &Bench<'_>) -> Result<(), Failure> {
    let dial = Dial::new(&bench.pki, bench.server.addresses()[0])?;
    let mut tasks = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let (mut sender, mut watches) = (dial.http2().await?, SelectAll::new());
        for watcher in 0..WATCHERS / CONNECTIONS {
            sender.ready().await?;
            let watch = request("GET", &format!("{PATH}?watch=true&labelSelector=bench=fan"), String::new())?;
            let body = BodyStream::new(sender.send_request(watch).await?.into_body());
            watches.push(body.map(move |frame| (watcher, frame)));
        }
        // One task for all, that clients take little of the processors that the server is measured on.
        tasks.spawn(async move {
            let (_open, mut heard) = (sender, vec![0; WATCHERS / CONNECTIONS]);
            let mut times = Vec::with_capacity(WRITES * WATCHERS / CONNECTIONS);
            while times.len() < WRITES * WATCHERS / CONNECTIONS {
                let Some((watcher, frame)) = watches.next().await else { break };
                let now = Instant::now();
                for _ in frame?.into_data().iter().flatten().filter(|byte| **byte == b'\n') {
                    times.push((heard[watcher], now));
                    heard[watcher] += 1;
                }
            }
            Ok::<_, Failure>((times, watches))
        });
    }
    let mut sender = dial.http1().await?;
    let mut acknowledged = Vec::new();
    for i in 0..WRITES {
        let body = format!(r#"{{"metadata":{{"name":"w{i}","labels":{{"bench":"fan"}}}},"data":{{"a":"1"}}}}"#);
        if call(&mut sender, "POST", PATH, body).await?.0 != 201 {
            return Err("create failed".into());
        }
        acknowledged.push(Instant::now());
        tokio::time::sleep(PAUSE).await;
    }
    let (mut times, mut ended) = (Vec::new(), Vec::new());
    while let Some(heard) = tasks.join_next().await {
        // What is open ends when all have heard.
        let (heard, open) = heard??;
        times.extend(heard.iter().map(|(write, at)| at.saturating_duration_since(acknowledged[*write])));
        ended.push(open);
    }
    times.sort();
    let what = format!("event at {WATCHERS} watchers after its write, p50");
    figure(&what, format!("{:.2?}", percentile(&times, 50)), "-");
    figure("  p99", format!("{:.2?}", percentile(&times, 99)), "<= 5 ms");
    Ok(())
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
