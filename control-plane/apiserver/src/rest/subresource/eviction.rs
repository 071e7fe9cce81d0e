//! `pods/eviction`: a deletion that a disruption budget may refuse (`pkg/registry/core/pod/storage/eviction.go`).

mod budget;

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};
use xebec_machinery::{GroupVersionKind, Status, object};

use super::super::delete::delete_object;
use super::super::update::{Part, change};
use super::super::{Answer, Call, decode};
use super::success;
use crate::admission::{Reader, Replaced};
use crate::options::{DeleteOptions, WriteOptions};
use budget::{Pod, Verdict, decrement};

const POLICY: &str = "policy";
const BUDGETS: &str = "poddisruptionbudgets";
/// How often another eviction may be faster (`EvictionsRetry`).
const ATTEMPTS: usize = 20;

pub async fn evict(call: &Call, body: &Bytes) -> Answer {
    let options = WriteOptions::parse(&call.query, "CreateOptions")?;
    let gvk = GroupVersionKind::new(POLICY, "v1", "Eviction");
    let definition = xebec_schema::schema().by_kind(&gvk);
    let eviction = decode::object(call, body, &gvk, definition, options.field_validation)?;
    let named = object::name(&eviction);
    if !named.is_empty() && named != call.name() {
        return Err(Status::bad_request("name in URL does not match name in Eviction object"));
    }
    let asked = eviction.get("deleteOptions").cloned().unwrap_or(Value::Null);
    let mut deletion = DeleteOptions::parse(&crate::options::Query::default(), &asked)?;
    deletion.dry_run |= options.dry_run;
    let found = call.app.find_consistent(&call.resource, call.namespace(), call.name()).await?;
    let pod = crate::app::parse(&*found.ok_or_else(|| call.resource.not_found(call.name()))?)?;
    if !budget::is_ignored(&pod) {
        let uid = object::uid(&pod);
        if deletion.uid.as_deref().is_some_and(|wanted| wanted != uid) {
            let why = format!(
                "Precondition failed: UID in precondition: {}, UID in object meta: {uid}",
                deletion.uid.as_deref().unwrap_or_default()
            );
            return Err(Status::conflict(&call.resource.gr, call.name(), why));
        }
        charge(call, &pod, deletion.dry_run).await?;
        if !deletion.dry_run {
            announce(call, &options, uid).await?;
        }
        // The charge was for this pod, not for another of its name.
        deletion.uid.get_or_insert_with(|| uid.to_owned());
    }
    delete_object(call, &deletion).await?;
    success(call, StatusCode::CREATED)
}

/// Takes one disruption from the pod's budget, unless the pod needs none.
async fn charge(call: &Call, pod: &Value, dry_run: bool) -> Result<(), Status> {
    let mut budgets = call.app.list(POLICY, BUDGETS, call.namespace()).await?;
    budgets.retain(|budget| budget::covers(budget, pod));
    let mut budget = match budgets.len() {
        0 => return Ok(()),
        1 => budgets.remove(0),
        _ => {
            let why =
                "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
            return Err(Status::internal(why));
        }
    };
    let pod = Pod { name: call.name(), is_ready: budget::is_ready(pod) };
    for _ in 0..ATTEMPTS {
        match decrement(&budget, &pod, &call.app.now_rfc3339())? {
            Verdict::Free => return Ok(()),
            Verdict::Charged(_) if dry_run => return Ok(()),
            Verdict::Charged(charged) => match call.app.put_status(POLICY, BUDGETS, &charged).await? {
                Replaced::Done | Replaced::Changed(None) => return Ok(()),
                Replaced::Changed(Some(newer)) => budget = newer,
            },
        }
    }
    let why = format!("couldn't update PodDisruptionBudget {:?} due to conflicts", object::name(&budget));
    Err(Status::too_many_requests(why, 10))
}

/// Says on the pod why it goes.
async fn announce(call: &Call, options: &WriteOptions, uid: &str) -> Result<(), Status> {
    let condition = json!({
        "type": "DisruptionTarget",
        "status": "True",
        "reason": "EvictionByEvictionAPI",
        "message": "Eviction API: evicting",
        "lastTransitionTime": call.app.now_rfc3339(),
    });
    let changed = change(call, options, Part::Server, |old| {
        if object::uid(old) != uid {
            return Err(call.resource.not_found(call.name()));
        }
        let mut pod = old.clone();
        let conditions = object::ensure_map(&mut pod, "status").entry("conditions").or_insert_with(|| json!([]));
        if let Some(conditions) = conditions.as_array_mut() {
            conditions.retain(|c| c["type"] != condition["type"]);
            conditions.push(condition.clone());
        }
        Ok(pod)
    });
    changed.await?.map(|_| ()).ok_or_else(|| call.resource.not_found(call.name()))
}
