//! Leader election on a Lease, as client-go's `leaderelection`: one holder writes within
//! `lease_duration` or loses; clocks are never compared between machines.

use crate::{Api, Client, Error, PostParams, chain, is_not_found};
use std::future::Future;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use xebec_types::ObjectMeta;
use xebec_types::coordination::{Lease, LeaseSpec};
use xebec_types::time;

pub struct Elector {
    client: Client,
    namespace: String,
    name: String,
    identity: String,
    timing: Timing,
}

#[derive(Clone, Copy, Debug)]
pub struct Timing {
    pub lease_duration: Duration,
    pub renew_deadline: Duration,
    pub retry_period: Duration,
}

/// kube-controller-manager's defaults.
impl Default for Timing {
    fn default() -> Self {
        Self {
            lease_duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_secs(2),
        }
    }
}

/// What was last seen of the lease, and when by this machine's clock.
#[derive(Clone)]
struct Observed {
    spec: LeaseSpec,
    at: Instant,
}

/// What to write, if anything.
#[derive(PartialEq, Debug)]
enum Bid {
    Wait,
    Write { transitions: i32, acquired: bool },
}

impl Elector {
    /// `identity` must be unique among the candidates.
    #[must_use]
    pub fn new(client: Client, namespace: &str, name: &str, identity: &str) -> Self {
        Self {
            client,
            namespace: namespace.into(),
            name: name.into(),
            identity: identity.into(),
            timing: Timing::default(),
        }
    }

    #[must_use]
    pub fn timing(mut self, timing: Timing) -> Self {
        self.timing = timing;
        self
    }

    /// Waits to lead, then runs `lead` with a token that is cancelled when leadership is lost.
    /// Returns when `lead` returned: after a loss, after `stop`, or by itself. The lease is released
    /// on the way out so that another candidate need not wait.
    pub async fn run<F>(&self, stop: &CancellationToken, lead: impl FnOnce(CancellationToken) -> F)
    where
        F: Future<Output = ()>,
    {
        let mut observed = None;
        while !self.try_hold(&mut observed).await {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(self.timing.retry_period) => {}
            }
        }
        tracing::info!(lease = self.name, identity = self.identity, "leading");
        let leading = stop.child_token();
        let renew = async {
            self.keep(&mut observed, &leading).await;
            leading.cancel();
        };
        tokio::join!(renew, async {
            lead(leading.clone()).await;
            leading.cancel();
        });
        self.release().await;
    }

    /// Renews until `leading` ends or the deadline passed without success.
    async fn keep(&self, observed: &mut Option<Observed>, leading: &CancellationToken) {
        let mut renewed = Instant::now();
        loop {
            tokio::select! {
                () = leading.cancelled() => return,
                () = tokio::time::sleep(self.timing.retry_period) => {}
            }
            let held = tokio::time::timeout(self.timing.renew_deadline, self.try_hold(observed)).await;
            if held == Ok(true) {
                renewed = Instant::now();
            } else if renewed.elapsed() >= self.timing.renew_deadline {
                tracing::warn!(lease = self.name, identity = self.identity, "no longer leading");
                return;
            }
        }
    }

    async fn try_hold(&self, observed: &mut Option<Observed>) -> bool {
        match self.bid(observed).await {
            Ok(held) => held,
            Err(error) => {
                tracing::debug!(lease = self.name, error = chain(&error), "lease not written");
                false
            }
        }
    }

    async fn bid(&self, observed: &mut Option<Observed>) -> Result<bool, Error> {
        let api: Api<Lease> = Api::namespaced(self.client.clone(), &self.namespace);
        let mut lease = match api.get(&self.name).await {
            Ok(lease) => lease,
            Err(error) if is_not_found(&error) => {
                let lease = Lease {
                    metadata: ObjectMeta {
                        name: Some(self.name.clone()),
                        namespace: Some(self.namespace.clone()),
                        ..ObjectMeta::default()
                    },
                    spec: Some(self.spec(None, 0, true)),
                };
                api.create(&PostParams::default(), &lease).await?;
                return Ok(true);
            }
            Err(error) => return Err(error),
        };
        let spec = lease.spec.clone().unwrap_or_default();
        if observed.as_ref().is_none_or(|o| o.spec != spec) {
            *observed = Some(Observed { spec: spec.clone(), at: Instant::now() });
        }
        let age = observed.as_ref().map_or(Duration::ZERO, |o| o.at.elapsed());
        let Bid::Write { transitions, acquired } = decide(&spec, age, &self.identity) else {
            return Ok(false);
        };
        lease.spec = Some(self.spec(Some(&spec), transitions, acquired));
        let written = api.replace(&self.name, &PostParams::default(), &lease).await?;
        *observed = written.spec.map(|spec| Observed { spec, at: Instant::now() });
        Ok(true)
    }

    fn spec(&self, old: Option<&LeaseSpec>, transitions: i32, acquired: bool) -> LeaseSpec {
        let now = time::micro_time(time::now());
        let since = old.and_then(|o| o.acquire_time.clone()).filter(|_| !acquired);
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(self.timing.lease_duration.as_secs()).ok(),
            acquire_time: Some(since.unwrap_or_else(|| now.clone())),
            renew_time: Some(now),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        }
    }

    async fn release(&self) {
        let api: Api<Lease> = Api::namespaced(self.client.clone(), &self.namespace);
        let Ok(mut lease) = api.get(&self.name).await else {
            return;
        };
        let Some(spec) = lease.spec.as_mut() else {
            return;
        };
        if spec.holder_identity.as_deref() != Some(&self.identity) {
            return;
        }
        spec.holder_identity = Some(String::new());
        spec.lease_duration_seconds = Some(1);
        if let Err(error) = api.replace(&self.name, &PostParams::default(), &lease).await {
            tracing::debug!(lease = self.name, error = chain(&error), "lease not released");
        }
    }
}

/// `age` is how long the lease has looked like this to us.
fn decide(spec: &LeaseSpec, age: Duration, identity: &str) -> Bid {
    let holder = spec.holder_identity.as_deref().unwrap_or_default();
    let transitions = spec.lease_transitions.unwrap_or_default();
    if holder == identity {
        return Bid::Write { transitions, acquired: false };
    }
    let seconds = spec.lease_duration_seconds.unwrap_or_default().max(0).unsigned_abs();
    if !holder.is_empty() && age < Duration::from_secs(seconds.into()) {
        return Bid::Wait;
    }
    Bid::Write { transitions: transitions + 1, acquired: true }
}

#[cfg(test)]
mod tests;
