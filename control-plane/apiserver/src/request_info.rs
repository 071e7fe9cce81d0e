//! What a request is about, read from its method, path and query alone (as apiserver's `RequestInfoFactory`).

use http::Method;

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verb {
    Get,
    List,
    Watch,
    Create,
    Update,
    Patch,
    Delete,
    DeleteCollection,
    /// The lower-case method of a request for a non-resource path.
    Method(String),
}

impl Verb {
    pub fn as_str(&self) -> &str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
            Self::Method(method) => method,
        }
    }

    pub fn is_read_only(&self) -> bool {
        match self {
            Self::Get | Self::List | Self::Watch => true,
            Self::Method(method) => method == "get" || method == "head",
            _ => false,
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RequestInfo {
    pub is_resource: bool,
    pub path: String,
    pub verb: Verb,
    pub group: String,
    pub version: String,
    /// Empty for cluster-scoped resources and requests over all namespaces.
    pub namespace: String,
    pub resource: String,
    pub subresource: String,
    /// Empty for collections.
    pub name: String,
    /// The name that a field selector of a collection demands: authorization looks at it as at a name in the path.
    pub selected_name: String,
    /// What follows the subresource (`proxy` paths).
    pub trailing: String,
}

/// Subresources of `namespaces`; any other segment there is a resource inside the namespace.
const NAMESPACE_SUBRESOURCES: [&str; 2] = ["status", "finalize"];

impl RequestInfo {
    pub fn new(method: &Method, path: &str, query: &str) -> Self {
        let mut info = Self {
            is_resource: false,
            path: path.to_owned(),
            verb: Verb::Method(method.as_str().to_ascii_lowercase()),
            group: String::new(),
            version: String::new(),
            namespace: String::new(),
            resource: String::new(),
            subresource: String::new(),
            name: String::new(),
            selected_name: String::new(),
            trailing: String::new(),
        };
        let parts: Vec<String> = path.split('/').filter(|p| !p.is_empty()).map(unescape).collect();
        let rest = match parts.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            ["api", version, _, ..] => {
                info.version = (*version).to_owned();
                &parts[2..]
            }
            ["apis", group, version, _, ..] => {
                info.group = (*group).to_owned();
                info.version = (*version).to_owned();
                &parts[3..]
            }
            _ => return info,
        };
        info.is_resource = true;
        info.verb = match *method {
            Method::POST => Verb::Create,
            Method::GET | Method::HEAD => Verb::Get,
            Method::PUT => Verb::Update,
            Method::PATCH => Verb::Patch,
            Method::DELETE => Verb::Delete,
            _ => info.verb,
        };
        info.resource_path(rest, query);
        info
    }

    fn resource_path(&mut self, mut rest: &[String], query: &str) {
        if rest.len() > 1 && rest[0] == "watch" {
            self.verb = Verb::Watch; // The deprecated /watch/ paths.
            rest = &rest[1..];
        }
        if rest[0] == "namespaces" && rest.len() > 1 {
            self.namespace = rest[1].clone();
            if rest.len() > 2 && !NAMESPACE_SUBRESOURCES.contains(&rest[2].as_str()) {
                rest = &rest[2..];
            }
        }
        let mut segments = rest.iter();
        let mut next = || segments.next().cloned().unwrap_or_default();
        (self.resource, self.name, self.subresource) = (next(), next(), next());
        self.trailing = segments.cloned().collect::<Vec<_>>().join("/");
        if !self.name.is_empty() {
            return;
        }
        self.verb = match self.verb {
            Verb::Get if wants_watch(query) => Verb::Watch,
            Verb::Get => Verb::List,
            Verb::Delete => Verb::DeleteCollection,
            _ => return,
        };
        self.selected_name = selected_name(query);
    }

    /// `v1`, `apps/v1`
    pub fn group_version(&self) -> String {
        match self.group.as_str() {
            "" => self.version.clone(),
            group => format!("{group}/{}", self.version),
        }
    }

    /// `pods/status` or `pods`.
    pub fn resource_and_subresource(&self) -> String {
        match self.subresource.as_str() {
            "" => self.resource.clone(),
            subresource => format!("{}/{subresource}", self.resource),
        }
    }
}

fn wants_watch(query: &str) -> bool {
    form_urlencoded::parse(query.as_bytes())
        .any(|(key, value)| key == "watch" && !matches!(&*value, "0" | "false" | "False" | "FALSE"))
}

fn selected_name(query: &str) -> String {
    let selector = form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == "fieldSelector");
    let selector = selector.and_then(|(_, text)| xebec_machinery::selector::FieldSelector::parse(&text).ok());
    selector.and_then(|s| s.required("metadata.name").map(str::to_owned)).unwrap_or_default()
}

fn unescape(segment: &str) -> String {
    percent_encoding::percent_decode_str(segment).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests;
