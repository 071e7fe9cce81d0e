//! `pods/eviction`: a deletion that may be refused. Without disruption budgets it is a deletion.

use bytes::Bytes;
use http::StatusCode;
use serde_json::Value;
use xebec_machinery::{GroupVersionKind, Status, object};

use super::super::delete::delete_object;
use super::super::{Answer, Call, decode};
use super::success;
use crate::options::{DeleteOptions, WriteOptions};

pub async fn evict(call: &Call, body: &Bytes) -> Answer {
    let options = WriteOptions::parse(&call.query, "CreateOptions")?;
    let gvk = GroupVersionKind::new("policy", "v1", "Eviction");
    let definition = xebec_schema::schema().by_kind(&gvk);
    let eviction = decode::object(call, body, &gvk, definition, options.field_validation)?;
    let named = object::name(&eviction);
    if !named.is_empty() && named != call.name() {
        return Err(Status::bad_request("name in URL does not match name in Eviction object"));
    }
    let asked = eviction.get("deleteOptions").cloned().unwrap_or(Value::Null);
    let mut deletion = DeleteOptions::parse(&crate::options::Query::default(), &asked)?;
    deletion.dry_run |= options.dry_run;
    delete_object(call, &deletion).await?;
    success(call, StatusCode::CREATED)
}
