//! The served resources, each with what the pipeline needs of it at every request.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;
use xebec_machinery::{GroupKind, GroupResource, GroupVersionKind, GroupVersionResource, Status};
use xebec_registry::Strategy;
use xebec_registry::strategy::Scope;
use xebec_store::cache::{Index, Indexer, Pairs};

/// One row of the registry.
pub struct Resource {
    pub row: xebec_schema::Resource,
    /// The row of the form that objects are stored in: that of another version or group, or this one.
    pub stored: xebec_schema::Resource,
    /// `apiVersion` in that form.
    pub stored_version: String,
    pub gvr: GroupVersionResource,
    pub gvk: GroupVersionKind,
    pub gr: GroupResource,
    pub gk: GroupKind,
    /// `apps/v1`
    pub api_version: String,
    /// `<group>/<resource>` of the keys that its objects have in the store.
    pub storage: String,
    pub strategy: &'static dyn Strategy,
}

impl Resource {
    fn new(row: &xebec_schema::Resource) -> Self {
        let gr = row.group_resource();
        // `events.k8s.io` is another view of the core group's events.
        let group = match row.group {
            "" | "events.k8s.io" => "core",
            group => group,
        };
        let stored = stored_row(row);
        Self {
            gvr: row.gvr(),
            gvk: row.gvk(),
            gk: row.group_kind(),
            api_version: row.api_version(),
            storage: format!("{group}/{}", row.plural),
            strategy: xebec_registry::strategy(&gr),
            gr,
            stored_version: stored.api_version(),
            stored,
            row: *row,
        }
    }

    pub fn namespaced(&self) -> bool {
        self.row.namespaced
    }

    pub fn is(&self, group: &str, plural: &str) -> bool {
        self.row.group == group && self.row.plural == plural
    }

    /// Whether objects are stored in another form.
    pub fn converted(&self) -> bool {
        self.stored.def != self.row.def
    }

    /// `Some` for namespaced resources.
    pub fn scope<'a>(&self, namespace: &'a str) -> Option<&'a str> {
        self.row.namespaced.then_some(namespace)
    }

    pub fn key(&self, namespace: &str, name: &str) -> String {
        xebec_store::cache::key(&self.storage, self.scope(namespace), name)
    }

    pub fn not_found(&self, name: &str) -> Status {
        Status::not_found(&self.gr, name)
    }
}

/// The first row of a group's resource is the one that is stored; events are stored in the core group.
fn stored_row(row: &xebec_schema::Resource) -> xebec_schema::Resource {
    let group = if row.group == "events.k8s.io" { "" } else { row.group };
    let mut rows = xebec_schema::schema().resources().iter();
    rows.find(|other| other.group == group && other.plural == row.plural).copied().unwrap_or(*row)
}

/// Every served resource by its path.
pub struct Kinds {
    resources: Vec<Arc<Resource>>,
    by_path: HashMap<(String, String, String), Arc<Resource>>,
}

impl Kinds {
    pub fn new() -> Self {
        let resources: Vec<_> =
            xebec_schema::schema().resources().iter().map(|row| Arc::new(Resource::new(row))).collect();
        let path = |r: &Arc<Resource>| (r.row.group.to_owned(), r.row.version.to_owned(), r.row.plural.to_owned());
        let by_path = resources.iter().map(|r| (path(r), r.clone())).collect();
        Self { resources, by_path }
    }

    pub fn get(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Resource>> {
        self.by_path.get(&(group.to_owned(), version.to_owned(), plural.to_owned()))
    }

    /// The resource of a group, in whichever version is served.
    pub fn find(&self, group: &str, plural: &str) -> Option<&Arc<Resource>> {
        self.resources.iter().find(|r| r.is(group, plural))
    }

    pub fn all(&self) -> &[Arc<Resource>] {
        &self.resources
    }
}

/// Extracts labels and selectable fields by the strategy of each resource.
pub struct StrategyIndexer(HashMap<String, &'static dyn Strategy>);

impl StrategyIndexer {
    pub fn new(kinds: &Kinds) -> Self {
        Self(kinds.all().iter().filter(|r| !r.converted()).map(|r| (r.storage.clone(), r.strategy)).collect())
    }
}

impl Indexer for StrategyIndexer {
    fn index(&self, resource: &str, json: &[u8]) -> Index {
        let Ok(object) = serde_json::from_slice::<Value>(json) else { return Index::default() };
        let labels = Pairs::new(xebec_machinery::object::labels(&object));
        let fields = self.0.get(resource).map(|strategy| strategy.fields(&object)).unwrap_or_default();
        Index { labels, fields: Pairs::new(fields) }
    }
}

/// The selectable fields of a resource.
pub fn field_names(strategy: &dyn Strategy) -> Vec<String> {
    let mut names: Vec<_> = strategy.selectable_fields(&Value::Null).into_iter().map(|(name, _)| name).collect();
    if strategy.scope() == Scope::Namespaced && !names.iter().any(|n| n == "metadata.namespace") {
        names.push("metadata.namespace".into());
    }
    names
}
