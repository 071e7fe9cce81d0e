//! The verbs, over any resource of the registry.

mod convert;
mod create;
mod decode;
mod delete;
mod encode;
mod escalation;
mod get;
mod list;
mod managed;
mod meta;
mod metrics;
mod patch;
mod review;
mod scale;
pub(crate) mod store;
mod subresource;
mod table;
mod token;
mod update;
mod watch;
mod write;

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Response};
use parking_lot::Mutex;
use xebec_machinery::{GroupResource, Status};
use xebec_registry::Context;

use crate::app::App;
use crate::body::{self, Body, Incoming};
use crate::kinds::Resource;
use crate::negotiate::Accept;
use crate::options::Query;
use crate::request_info::{RequestInfo, Verb};
use crate::user::UserInfo;

pub use create::create_object;
pub use encode::{respond, standard_headers, status, warnings};
pub use metrics::is_computed;

/// A request for a resource, authorized.
pub struct Call {
    pub app: Arc<App>,
    pub user: UserInfo,
    pub info: RequestInfo,
    pub query: Query,
    pub headers: HeaderMap,
    pub accept: Accept,
    pub resource: Arc<Resource>,
    /// Texts for the Warning header.
    pub warnings: Mutex<Vec<String>>,
    pub local: bool,
}

pub type Answer = Result<Response<Body>, Status>;

impl Call {
    pub fn namespace(&self) -> &str {
        if self.resource.namespaced() { &self.info.namespace } else { "" }
    }

    pub fn name(&self) -> &str {
        &self.info.name
    }

    pub fn context(&self) -> Context {
        let user = self.user.clone();
        Context {
            user: xebec_registry::UserInfo { name: user.name, uid: user.uid, groups: user.groups, extra: user.extra },
            now: self.app.now(),
        }
    }

    pub fn warn(&self, text: impl Into<String>) {
        self.warnings.lock().push(text.into());
    }

    /// The same request about one object.
    fn for_object(&self, namespace: &str, name: &str) -> Self {
        let info = RequestInfo { namespace: namespace.to_owned(), name: name.to_owned(), ..self.info.clone() };
        Self {
            app: self.app.clone(),
            user: self.user.clone(),
            info,
            query: self.query.clone(),
            headers: self.headers.clone(),
            accept: self.accept,
            resource: self.resource.clone(),
            warnings: Mutex::default(),
            local: self.local,
        }
    }

    /// Whether this is a server-side apply.
    fn is_apply(&self) -> bool {
        let value = self.headers.get(http::header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
        self.info.verb == Verb::Patch && value.starts_with("application/apply-patch")
    }

    /// Whether the client is in this process: compression would be for nothing.
    fn is_local(&self) -> bool {
        self.local
    }

    fn method_not_allowed(&self) -> Status {
        let resource = GroupResource::new(self.resource.row.group, self.info.resource_and_subresource());
        Status::method_not_allowed(&resource, self.info.verb.as_str())
    }
}

/// Answers a request for an object or a collection. `body` is read only by verbs that have one.
pub async fn serve(call: &Call, body: Incoming) -> Answer {
    if call.resource.namespaced()
        && call.info.namespace.is_empty()
        && !matches!(call.info.verb, Verb::List | Verb::Watch)
    {
        return Err(match call.info.verb {
            Verb::Create => Status::bad_request("an empty namespace may not be set during creation"),
            _ => Status::not_found_path(),
        });
    }
    if !call.resource.namespaced() && !is_cluster_path(call) {
        return Err(Status::not_found_path());
    }
    check_table(call)?;
    if !call.info.subresource.is_empty() {
        return subresource::serve(call, body).await;
    }
    if !call.resource.row.verbs.contains(&call.info.verb.as_str()) {
        return Err(call.method_not_allowed());
    }
    match call.info.verb {
        _ if metrics::is_computed(&call.resource) => metrics::serve(call).await,
        Verb::Get => get::get(call).await,
        Verb::List => list::list(call).await,
        Verb::Watch => watch::watch(call).await,
        Verb::Create if call.info.name.is_empty() => create::create(call, read(body).await?).await,
        Verb::Update | Verb::Patch if call.info.name.is_empty() => Err(call.method_not_allowed()),
        Verb::Update => update::update(call, read(body).await?).await,
        Verb::Patch => patch::patch(call, read(body).await?).await,
        Verb::Delete => delete::delete(call, read(body).await?).await,
        Verb::DeleteCollection => delete::delete_collection(call, read(body).await?).await,
        _ => Err(call.method_not_allowed()),
    }
}

/// Whether the path of a cluster-scoped resource names no namespace: a right in a namespace must not reach beyond it.
fn is_cluster_path(call: &Call) -> bool {
    let info = &call.info;
    info.namespace.is_empty() || (call.resource.is("", "namespaces") && info.namespace == info.name)
}

/// `includeObject` of a table (`ValidateTableOptions`).
fn check_table(call: &Call) -> Result<(), Status> {
    use xebec_machinery::field::{Error, Path};
    let include = call.query.text("includeObject");
    let known = ["", "None", "Metadata", "Object"].contains(&include);
    if known || !matches!(call.accept.shape, crate::negotiate::Shape::Table(_)) {
        return Ok(());
    }
    let detail = "must be 'Metadata', 'Object', 'None', or empty";
    let error = Error::invalid(&Path::new("includeObject"), include, detail);
    Err(Status::invalid(&xebec_machinery::GroupKind::new("meta.k8s.io", "TableOptions"), "", vec![error]))
}

async fn read(body: Incoming) -> Result<Bytes, Status> {
    body::read(body).await
}
