//! Chooses a node for each pod: kube-scheduler's behaviour in one task.
//!
//! Informers' changes, timers and finished bindings come to one loop ([`Scheduler`]) that owns the [`cluster`] and the
//! [`queue`]. A decision ([`decide`]) is a pure function of both; only [`bind`] writes, many at a time.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod bind;
mod claim_binder;
pub mod cluster;
pub mod decide;
pub mod diagnosis;
pub mod framework;
pub mod plugins;
pub mod preempt;
mod queue;
mod scheduler;
mod volume_binder;
mod workload;

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use xebec_client::{Client, Informers};
use xebec_clock::Clock;

use scheduler::Scheduler;

#[derive(Clone, Debug)]
pub struct Config {
    /// Pods whose `schedulerName` is another are left alone.
    pub scheduler_name: String,
    /// Bindings under way at once.
    pub binds_max: usize,
    /// An assumed pod whose binding no watch has confirmed after this long is given up.
    pub assumed_max: Duration,
    /// The API server's: what is written is dated by it.
    pub clock: Clock,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            scheduler_name: "default-scheduler".to_owned(),
            binds_max: 128,
            assumed_max: Duration::from_secs(30),
            clock: Clock::default(),
        }
    }
}

/// Schedules until `stop`. Only one may run at a time in a cluster.
pub async fn run(client: Client, informers: Informers, config: Config, stop: CancellationToken) {
    let mut scheduler = Scheduler::new(client, &informers, config);
    tokio::select! {
        () = scheduler.run() => {}
        () = stop.cancelled() => {}
    }
}
