//! ResourceQuotas: what is created is charged to the quotas of its namespace, or refused.
//!
//! The charge is a compare-and-swap of the quota's status, as upstream's, so that several servers never grant the same amount twice.
//! Requests of one namespace that wait for the disk together are charged with one write.

mod charge;

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::oneshot;
use xebec_machinery::quota::{self, Amounts};
use xebec_machinery::{Status, object};

use super::{Attributes, Operation, Plugin, Reader, Replaced};
use charge::{Charge, charge};

/// How often another writer may be faster before the request is refused.
const ATTEMPTS: usize = 16;
/// Kinds that are never counted (`quota/install.DefaultIgnoredResources`), besides the reviews.
const IGNORED: [(&str, &str); 3] = [("", "bindings"), ("", "events"), ("events.k8s.io", "events")];

#[derive(Default)]
pub struct ResourceQuota {
    lanes: Mutex<HashMap<String, Arc<Lane>>>,
}

/// The requests of one namespace.
#[derive(Default)]
struct Lane {
    waiting: Mutex<Vec<Waiter>>,
    turn: tokio::sync::Mutex<()>,
}

struct Waiter {
    charge: Charge,
    answer: oneshot::Sender<Result<(), String>>,
}

#[async_trait]
impl Plugin for ResourceQuota {
    fn name(&self) -> &'static str {
        "ResourceQuota"
    }

    fn handles(&self, operation: Operation) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
    }

    async fn validate(&self, attributes: &Attributes<'_>, reader: &dyn Reader) -> Result<(), Status> {
        if !is_counted(attributes) || reader.list("", "resourcequotas", attributes.namespace).await?.is_empty() {
            return Ok(());
        }
        let wanted = Charge::of(attributes);
        let forbidden = |why: String| Status::forbidden(&attributes.resource.group_resource(), attributes.name, why);
        if wanted.dry_run {
            let quotas = reader.list("", "resourcequotas", attributes.namespace).await?;
            return quotas.iter().try_for_each(|quota| charge(quota, &wanted).map(|_| ())).map_err(forbidden);
        }
        self.charge(attributes.namespace, wanted, reader).await?.map_err(forbidden)
    }
}

/// Whether this can add to what a namespace uses.
fn is_counted(attributes: &Attributes<'_>) -> bool {
    let (group, resource) = (attributes.resource.group.as_str(), attributes.resource.resource.as_str());
    let grows = group.is_empty() && ["services", "persistentvolumeclaims"].contains(&resource);
    let reviews = ["authentication.k8s.io", "authorization.k8s.io"];
    !attributes.namespace.is_empty()
        && (is_resize(attributes) || attributes.subresource.is_empty())
        && (attributes.operation == Operation::Create || grows || is_resize(attributes))
        && !IGNORED.contains(&(group, resource))
        && !reviews.contains(&group)
}

/// A pod that asks for more while it runs.
fn is_resize(attributes: &Attributes<'_>) -> bool {
    attributes.resource.group.is_empty()
        && attributes.resource.resource == "pods"
        && attributes.subresource == "resize"
        && attributes.operation == Operation::Update
}

impl ResourceQuota {
    async fn charge(&self, namespace: &str, wanted: Charge, reader: &dyn Reader) -> Result<Result<(), String>, Status> {
        let lane = self.lanes.lock().entry(namespace.to_owned()).or_default().clone();
        let answer = take_turn(&lane, namespace, wanted, reader).await;
        let mut lanes = self.lanes.lock();
        // Nobody else holds it: the map does, and this call.
        if Arc::strong_count(&lane) == 2 {
            lanes.remove(namespace);
        }
        answer
    }
}

async fn take_turn(
    lane: &Lane,
    namespace: &str,
    wanted: Charge,
    reader: &dyn Reader,
) -> Result<Result<(), String>, Status> {
    loop {
        let (answer, mut answered) = oneshot::channel();
        lane.waiting.lock().push(Waiter { charge: wanted.clone(), answer });
        let _turn = lane.turn.lock().await;
        match answered.try_recv() {
            Ok(answer) => return Ok(answer),
            // Whoever took it was cut off before the answer.
            Err(oneshot::error::TryRecvError::Closed) => continue,
            Err(oneshot::error::TryRecvError::Empty) => {}
        }
        let batch = std::mem::take(&mut *lane.waiting.lock());
        let charges: Vec<Charge> = batch.iter().map(|waiter| waiter.charge.clone()).collect();
        let answers = settle(namespace, &charges, reader).await?;
        for (waiter, answer) in batch.into_iter().zip(answers) {
            // Whoever gave up waiting needs no answer.
            let _ = waiter.answer.send(answer);
        }
        if let Ok(answer) = answered.try_recv() {
            return Ok(answer);
        }
    }
}

/// Charges every quota of the namespace for as many of `charges` as fit, in their order.
async fn settle(namespace: &str, charges: &[Charge], reader: &dyn Reader) -> Result<Vec<Result<(), String>>, Status> {
    let mut answers: Vec<Result<(), String>> = vec![Ok(()); charges.len()];
    let mut quotas = reader.list("", "resourcequotas", namespace).await?;
    for _ in 0..ATTEMPTS {
        let mut planned = quotas.clone();
        for (wanted, answer) in charges.iter().zip(&mut answers).filter(|(_, answer)| answer.is_ok()) {
            match together(&planned, wanted) {
                Ok(next) => planned = next,
                Err(why) => *answer = Err(why),
            }
        }
        let mut raced = Vec::new();
        for (before, after) in quotas.iter().zip(&planned).filter(|(before, after)| before != after) {
            match reader.put_status("", "resourcequotas", after).await? {
                Replaced::Done => {}
                Replaced::Changed(Some(newer)) => raced.push(newer),
                Replaced::Changed(None) => {
                    let quota = object::name(before);
                    tracing::debug!(namespace, quota, "the quota was deleted while it was charged");
                }
            }
        }
        if raced.is_empty() {
            return Ok(answers);
        }
        quotas = raced;
    }
    Err(Status::conflict(
        &xebec_machinery::GroupResource::new("", "resourcequotas"),
        "",
        "the quotas of the namespace change too fast",
    ))
}

/// All quotas charged for one request, or none.
fn together(quotas: &[Value], wanted: &Charge) -> Result<Vec<Value>, String> {
    let charged = |quota: &Value| {
        let mut quota = quota.clone();
        if let Some(used) = charge(&quota, wanted)? {
            xebec_registry::value::set(&mut quota, "status.used", quota::to_value(&used));
        }
        Ok(quota)
    };
    quotas.iter().map(charged).collect()
}

/// `a=1,b=2`
fn shown(amounts: &Amounts) -> String {
    amounts.iter().map(|(name, amount)| format!("{name}={amount}")).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests;
