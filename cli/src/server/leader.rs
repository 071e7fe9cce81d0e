//! Of several servers on one store, one runs the controllers and one the scheduler: whoever holds the Lease.

use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::{ArgAction, Args};
use futures::future;
use tokio_util::sync::CancellationToken;
use xebec_client::leader::{Elector, Timing};
use xebec_client::{Client, Informers};

use super::identity;

/// Named as kube-controller-manager's.
#[derive(Args)]
pub struct ElectionFlags {
    /// Run the controllers and the scheduler only while holding their Leases in kube-system
    #[arg(long, default_value_t = true, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    leader_elect: bool,
    /// How long the others wait for a leader that says nothing
    #[arg(long, default_value = "15s", value_parser = duration, value_name = "DURATION")]
    leader_elect_lease_duration: Duration,
    /// How long a leader that cannot renew its Lease goes on
    #[arg(long, default_value = "10s", value_parser = duration, value_name = "DURATION")]
    leader_elect_renew_deadline: Duration,
    /// How often the Lease is renewed, or looked at
    #[arg(long, default_value = "2s", value_parser = duration, value_name = "DURATION")]
    leader_elect_retry_period: Duration,
}

/// What only one server may run.
pub struct Part {
    /// The Lease's name, as upstream's component.
    pub lease: &'static str,
    /// Writes the Lease.
    pub client: Client,
    pub run: Box<dyn Fn(Informers, CancellationToken) -> Running + Send + Sync>,
}

pub type Running = Pin<Box<dyn Future<Output = ()> + Send>>;

const NAMESPACE: &str = "kube-system";

/// How this server takes part in elections.
pub struct Candidate {
    /// `None` without `--leader-elect`: this server leads.
    identity: Option<String>,
    timing: Timing,
    /// Kept open: its lock says that the identity is in use.
    _file: Option<std::fs::File>,
}

impl Candidate {
    /// # Errors
    /// When the flags contradict each other or another process uses the data directory.
    pub fn new(flags: &ElectionFlags, data_dir: &Path) -> Result<Self> {
        let timing = Timing {
            lease_duration: flags.leader_elect_lease_duration,
            renew_deadline: flags.leader_elect_renew_deadline,
            retry_period: flags.leader_elect_retry_period,
        };
        if timing.lease_duration < Duration::from_secs(1) || timing.retry_period.is_zero() {
            bail!("--leader-elect-lease-duration must be at least 1s and --leader-elect-retry-period greater than 0");
        }
        if timing.lease_duration <= timing.renew_deadline || timing.renew_deadline <= timing.retry_period {
            bail!(
                "--leader-elect-lease-duration must exceed --leader-elect-renew-deadline, and that --leader-elect-retry-period"
            );
        }
        if !flags.leader_elect {
            return Ok(Self { identity: None, timing, _file: None });
        }
        let (identity, file) = identity::claim(data_dir)?;
        Ok(Self { identity: Some(identity), timing, _file: Some(file) })
    }

    /// Runs each part while leading, until `stop`. Each term has informers of its own, so that what a lost term
    /// registered with them ends with it.
    ///
    /// # Errors
    /// When a part ended by itself.
    pub async fn run(&self, parts: &[Part], informers: impl Fn() -> Informers, stop: &CancellationToken) -> Result<()> {
        while !stop.is_cancelled() {
            let (informers, term) = (informers(), stop.child_token());
            let terms = parts.iter().map(|part| self.term(part, informers.clone(), &term));
            if let Some(part) = future::join_all(terms).await.into_iter().flatten().next() {
                bail!("{part} ended");
            }
        }
        Ok(())
    }

    /// Waits to lead, leads, and ends the term of all parts when that is over. Names the part if it ended by itself.
    async fn term(&self, part: &Part, informers: Informers, term: &CancellationToken) -> Option<&'static str> {
        let lead = |leading: CancellationToken| async move {
            (part.run)(informers, leading.clone()).await;
            leading.is_cancelled()
        };
        let mut told = true;
        match &self.identity {
            None => told = lead(term.clone()).await,
            Some(identity) => {
                let elector = Elector::new(part.client.clone(), NAMESPACE, part.lease, identity).timing(self.timing);
                elector.run(term, |leading| async { told = lead(leading).await }).await;
            }
        }
        term.cancel();
        (!told).then_some(part.lease)
    }
}

/// What Go's `time.ParseDuration` reads, as upstream's flags.
pub fn duration(text: &str) -> Result<Duration, String> {
    let nanos = xebec_machinery::duration::parse(text).map_err(|error| error.to_string())?;
    u64::try_from(nanos).map(Duration::from_nanos).map_err(|_| format!("{text:?} is negative"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, milliseconds: Option<u64>) {
        assert_eq!(duration(text).ok(), milliseconds.map(Duration::from_millis), "{text}");
    }

    #[test]
    fn durations_are_as_upstream_writes_them() {
        check("15s", Some(15_000));
        check("250ms", Some(250));
        check("1m30s", Some(90_000));
        check("1.5s", Some(1_500));
        for text in ["", "15", "s", "-1s", "99999999999s"] {
            check(text, None);
        }
    }
}
