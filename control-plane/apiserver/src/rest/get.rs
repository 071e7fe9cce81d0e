use http::StatusCode;

use super::{Answer, Call, encode};
use crate::app::store_error;
use crate::options;

pub async fn get(call: &Call) -> Answer {
    let version = options::resource_version(&call.query)?;
    let (resource, namespace, name) = (&call.resource, call.namespace(), call.name());
    let object = match version {
        None => call.app.find_consistent(resource, namespace, name).await?,
        Some(revision) => {
            if revision.0 != 0 {
                call.app.cache.wait_for(revision).await.map_err(store_error)?;
            }
            call.app.cache.get(&resource.storage, resource.scope(namespace), name)
        }
    };
    let object = object.ok_or_else(|| resource.not_found(name))?;
    encode::cached(call, StatusCode::OK, &object)
}
