//! What the server serves, for the controllers that act on every kind.

use std::fmt::Debug;
use xebec_client::kube::core::{ApiResource, DynamicObject};
use xebec_client::kube::discovery::{Discovery, Scope};
use xebec_client::{Api, Client, Error};

/// A kind in its preferred version.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Served {
    pub api: ApiResource,
    pub namespaced: bool,
    verbs: Vec<String>,
}

impl Served {
    pub(crate) fn allows(&self, verb: &str) -> bool {
        self.verbs.iter().any(|v| v == verb)
    }

    /// As `deployments.apps`, or `pods` in the core group.
    pub(crate) fn group_resource(&self) -> String {
        if self.api.group.is_empty() {
            return self.api.plural.clone();
        }
        format!("{}.{}", self.api.plural, self.api.group)
    }

    pub(crate) fn all(&self, client: &Client) -> Api<DynamicObject> {
        Api::all_with(client.clone(), &self.api)
    }

    pub(crate) fn within(&self, client: &Client, namespace: &str) -> Api<DynamicObject> {
        if self.namespaced && !namespace.is_empty() {
            Api::namespaced_with(client.clone(), namespace, &self.api)
        } else {
            self.all(client)
        }
    }
}

pub(crate) async fn served(client: &Client) -> Result<Vec<Served>, Error> {
    let discovery = Discovery::new(client.clone()).run_aggregated().await?;
    let kinds = discovery.groups().flat_map(|group| group.recommended_resources());
    let served = kinds.map(|(api, capabilities)| Served {
        api,
        namespaced: capabilities.scope == Scope::Namespaced,
        verbs: capabilities.operations,
    });
    let mut all: Vec<Served> = served.collect();
    all.sort_by(|a, b| (&a.api.group, &a.api.plural).cmp(&(&b.api.group, &b.api.plural)));
    Ok(all)
}
