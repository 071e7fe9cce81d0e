//! Creates, lists, and the memory that objects take.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::client::{Dial, call};
use crate::{Bench, Failure, cpu_seconds, figure, percentile, resident_mb};

const PATH: &str = "/api/v1/namespaces/default/configmaps";

pub async fn run(bench: &Bench<'_>, objects: usize, connections: usize) -> Result<(), Failure> {
    // What the same road costs without the store.
    let dry = format!("{PATH}?dryRun=All");
    let bound = post(bench, &dry, objects / 4, connections).await?;
    figure("creates without storing (dryRun) /s", format!("{:.0}", bound.rate), "-");
    let before = resident_mb();
    let made = post(bench, PATH, objects, connections).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let each = (resident_mb() - before) * 1024.0 / objects as f64;
    figure(&format!("creates/s over {connections} connections"), format!("{:.0}", made.rate), ">= 4000");
    figure("create, p50", format!("{:.2?}", percentile(&made.times, 50)), "-");
    figure("create, p99", format!("{:.2?}", percentile(&made.times, 99)), "<= 10 ms");
    figure("processor time per create, with its client", format!("{:.0} us", made.cpu * 1e6), "-");
    figure("resident memory per 1 KB object", format!("{each:.2} KB"), "<= 2 KB");
    Ok(())
}

pub async fn lists(bench: &Bench<'_>, objects: usize) -> Result<(), Failure> {
    let dial = Dial::new(&bench.pki, bench.server.addresses()[0])?;
    let mut sender = dial.http1().await?;
    for version in ["", "?resourceVersion=0"] {
        let (mut best, mut length) = (Duration::MAX, 0);
        for _ in 0..5 {
            let sent = Instant::now();
            length = call(&mut sender, "GET", &format!("{PATH}{version}"), String::new()).await?.1;
            best = best.min(sent.elapsed());
        }
        let what = format!("list{version} of {objects}, {} MB, best of 5", length >> 20);
        figure(&what, format!("{best:.2?}"), "<= 30 ms for 10k");
    }
    let before = resident_mb();
    let mut tasks = JoinSet::new();
    for _ in 0..10 {
        let mut sender = dial.http1().await?;
        tasks.spawn(async move { call(&mut sender, "GET", PATH, String::new()).await });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    figure("ten parallel lists add", format!("{:.1} MB", resident_mb() - before), "<= 30 MB");
    Ok(())
}

struct Made {
    rate: f64,
    /// Sorted.
    times: Vec<Duration>,
    cpu: f64,
}

async fn post(bench: &Bench<'_>, path: &str, objects: usize, connections: usize) -> Result<Made, Failure> {
    let dial = Dial::new(&bench.pki, bench.server.addresses()[0])?;
    let blob = "x".repeat(900);
    let (start, cpu) = (Instant::now(), cpu_seconds());
    let mut tasks = JoinSet::new();
    for worker in 0..connections {
        let (mut sender, blob, path) = (dial.http1().await?, blob.clone(), path.to_owned());
        tasks.spawn(async move {
            let mut times = Vec::new();
            for i in (worker..objects).step_by(connections) {
                let body = format!(r#"{{"metadata":{{"name":"c{i}"}},"data":{{"blob":"{blob}"}}}}"#);
                let sent = Instant::now();
                let (code, _) = call(&mut sender, "POST", &path, body).await?;
                times.push(sent.elapsed());
                if code != 201 {
                    return Err(Failure::from(format!("create answered {code}")));
                }
            }
            Ok(times)
        });
    }
    let mut times = Vec::new();
    while let Some(done) = tasks.join_next().await {
        times.extend(done??);
    }
    times.sort();
    let rate = objects as f64 / start.elapsed().as_secs_f64();
    Ok(Made { rate, times, cpu: (cpu_seconds() - cpu) / objects as f64 })
}
