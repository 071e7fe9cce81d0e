//! Compacts old revisions, and recovers from a full database.

use std::{sync::Arc, time::Duration};

use etcd_client::{AlarmAction, AlarmOptions, AlarmType, Client, ConnectOptions, GetOptions};
use tokio::{sync::Notify, time};

use super::{NUDGE, Options, revision};
use crate::Revision;

/// Between two attempts to make space.
const PAUSE: Duration = Duration::from_secs(10);

pub async fn run(
    client: Client,
    endpoints: Vec<String>,
    connect_options: ConnectOptions,
    options: Options,
    out_of_space: Arc<Notify>,
) {
    let mut then = newest(&client).await;
    let mut tick = time::interval_at(time::Instant::now() + options.history_age, options.history_age);
    loop {
        tokio::select! {
            _ = tick.tick() => {
                // What was the newest one interval ago: every version stays readable for at least that long.
                if let Some(old) = then {
                    compact(&client, old).await;
                }
                then = newest(&client).await;
            }
            () = out_of_space.notified() => {
                make_space(&client, &endpoints, &connect_options).await;
                time::sleep(PAUSE).await;
            }
        }
    }
}

async fn newest(client: &Client) -> Option<Revision> {
    let response = client.kv_client().get(NUDGE, Some(GetOptions::new().with_count_only())).await;
    response
        .inspect_err(|error| tracing::debug!(%error, "etcd does not tell its revision"))
        .ok()
        .map(|r| revision(r.header()))
}

async fn compact(client: &Client, revision: Revision) {
    match client.kv_client().compact(revision.0 as i64, None).await {
        Ok(_) => tracing::debug!(%revision, "etcd compacted"),
        // Another server was faster.
        Err(error) if error.to_string().contains("has been compacted") => {}
        Err(error) => tracing::warn!(%error, %revision, "etcd cannot compact"),
    }
}

/// Gives up history, returns the space to the quota and lifts the alarm that refuses writes.
async fn make_space(client: &Client, endpoints: &[String], options: &ConnectOptions) {
    tracing::warn!("etcd is out of space: compacting, defragmenting and lifting the alarm");
    if let Some(revision) = newest(client).await {
        compact(client, revision).await;
    }
    for endpoint in endpoints {
        let member = Client::connect([endpoint], Some(options.clone())).await;
        let done = match member {
            Ok(mut member) => member.defragment().await.map(|_| ()),
            Err(error) => Err(error),
        };
        if let Err(error) = done {
            tracing::warn!(%error, %endpoint, "etcd member cannot be defragmented");
        }
    }
    if let Err(error) = lift_alarms(client).await {
        tracing::warn!(%error, "etcd alarm cannot be lifted");
    }
}

async fn lift_alarms(client: &Client) -> Result<(), etcd_client::Error> {
    let members = client.cluster_client().member_list().await?;
    let mut maintenance = client.maintenance_client();
    for member in members.members() {
        let mut options = AlarmOptions::new();
        options.with_member(member.id());
        maintenance.alarm(AlarmAction::Deactivate, AlarmType::Nospace, Some(options)).await?;
    }
    Ok(())
}
