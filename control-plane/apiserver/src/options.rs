//! Query parameters of the verbs, checked as upstream checks them.

mod continuation;

use std::time::Duration;

use serde_json::Value;
use xebec_machinery::field::{Error, Path};
use xebec_machinery::selector::{FieldSelector, LabelSelector};
use xebec_machinery::{GroupKind, Status};
use xebec_store::Revision;

pub use continuation::Continue;

/// The decoded pairs of a query string.
#[derive(Clone, Debug, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    pub fn parse(query: &str) -> Self {
        Self(form_urlencoded::parse(query.as_bytes()).into_owned().collect())
    }

    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    pub fn text(&self, key: &str) -> &str {
        self.get(key).unwrap_or("")
    }

    pub fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    /// As upstream's conversion: anything but 0 and false is true; present without a value too.
    pub fn boolean(&self, key: &str) -> Option<bool> {
        self.get(key).map(|v| !(v == "0" || v.eq_ignore_ascii_case("false")))
    }

    fn integer(&self, key: &str) -> Result<Option<i64>, Status> {
        match self.get(key) {
            None | Some("") => Ok(None),
            Some(text) => text
                .parse()
                .map(Some)
                .map_err(|_| Status::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax"))),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Match {
    Exact,
    NotOlderThan,
}

#[derive(Clone, Debug)]
pub struct ListOptions {
    pub labels: LabelSelector,
    pub fields: FieldSelector,
    /// None: not given.
    pub resource_version: Option<Revision>,
    pub version_match: Option<Match>,
    pub limit: usize,
    pub continuation: Option<Continue>,
    pub allow_watch_bookmarks: bool,
    pub send_initial_events: Option<bool>,
    pub timeout: Option<Duration>,
}

impl ListOptions {
    pub fn parse(query: &Query, watch: bool) -> Result<Self, Status> {
        let labels =
            LabelSelector::parse(query.text("labelSelector")).map_err(|e| Status::bad_request(e.to_string()))?;
        let fields =
            FieldSelector::parse(query.text("fieldSelector")).map_err(|e| Status::bad_request(e.to_string()))?;
        let send_initial_events = query.boolean("sendInitialEvents");
        check_version_match(query, watch, send_initial_events)?;
        let continuation = match query.text("continue") {
            "" => None,
            token if !watch => Some(Continue::decode(token)?),
            _ => None,
        };
        let resource_version = resource_version(query)?;
        if continuation.is_some() && resource_version.is_some_and(|v| v.0 != 0) {
            return Err(Status::bad_request("specifying resource version is not allowed when using continue"));
        }
        let limit = query.integer("limit")?.unwrap_or(0);
        Ok(Self {
            labels,
            fields,
            resource_version,
            version_match: match query.text("resourceVersionMatch") {
                "Exact" => Some(Match::Exact),
                "NotOlderThan" => Some(Match::NotOlderThan),
                _ => None,
            },
            limit: usize::try_from(limit).unwrap_or(0),
            continuation,
            allow_watch_bookmarks: query.boolean("allowWatchBookmarks").unwrap_or(false),
            send_initial_events,
            timeout: query
                .integer("timeoutSeconds")?
                .and_then(|s| u64::try_from(s).ok())
                .filter(|&s| s > 0)
                .map(Duration::from_secs),
        })
    }
}

/// `resourceVersion`, if given.
pub fn resource_version(query: &Query) -> Result<Option<Revision>, Status> {
    match query.text("resourceVersion") {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(|_| {
            let error = Error::invalid(&Path::new("resourceVersion"), text, "must be a non-negative integer");
            invalid("ListOptions", vec![error])
        }),
    }
}

/// As apimachinery's `ValidateListOptions`.
fn check_version_match(query: &Query, watch: bool, initial: Option<bool>) -> Result<(), Status> {
    let path = Path::new("resourceVersionMatch");
    let (given, version) = (query.text("resourceVersionMatch"), query.text("resourceVersion"));
    let forbidden = |detail: &str| Some(Error::forbidden(&path, detail));
    let error = if watch {
        match (initial, given) {
            (None, "") => None,
            (None, _) => forbidden("resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"),
            (Some(_), "NotOlderThan") => None,
            (Some(_), "") => forbidden("sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"),
            (Some(_), other) => Some(Error::not_supported(&path, other, &["NotOlderThan"])),
        }
    } else if initial.is_some() {
        Some(Error::forbidden(&Path::new("sendInitialEvents"), "sendInitialEvents is forbidden for list"))
    } else {
        match (given, version) {
            ("", _) => None,
            _ if !query.text("continue").is_empty() => {
                forbidden("resourceVersionMatch is forbidden when continue is provided")
            }
            (_, "") => forbidden("resourceVersionMatch is forbidden unless resourceVersion is provided"),
            ("Exact", "0") => forbidden("resourceVersionMatch \"Exact\" is forbidden for resourceVersion \"0\""),
            ("Exact" | "NotOlderThan", _) => None,
            (other, _) => Some(Error::not_supported(&path, other, &["Exact", "NotOlderThan", ""])),
        }
    };
    error.map_or(Ok(()), |error| Err(invalid("ListOptions", vec![error])))
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum FieldValidation {
    Ignore,
    #[default]
    Warn,
    Strict,
}

/// `CreateOptions`, `UpdateOptions` and `PatchOptions`.
#[derive(Clone, Debug, Default)]
pub struct WriteOptions {
    pub dry_run: bool,
    pub field_manager: String,
    pub field_validation: FieldValidation,
    pub force: bool,
}

impl WriteOptions {
    pub fn parse(query: &Query, kind: &str) -> Result<Self, Status> {
        let mut errors = Vec::new();
        let mut dry_run = false;
        for value in query.all("dryRun").filter(|v| !v.is_empty()) {
            dry_run = true;
            if value != "All" {
                errors.push(Error::not_supported(&Path::new("dryRun"), value, &["All"]));
            }
        }
        let field_manager = query.text("fieldManager").to_owned();
        if field_manager.len() > 128 {
            errors.push(Error::too_long(&Path::new("fieldManager"), 128));
        } else if field_manager.chars().any(char::is_control) {
            let detail = "should only contain printable characters";
            errors.push(Error::invalid(&Path::new("fieldManager"), field_manager.as_str(), detail));
        }
        let field_validation = match query.text("fieldValidation") {
            "" | "Warn" => FieldValidation::Warn,
            "Ignore" => FieldValidation::Ignore,
            "Strict" => FieldValidation::Strict,
            other => {
                errors.push(Error::not_supported(
                    &Path::new("fieldValidation"),
                    other,
                    &["", "Ignore", "Strict", "Warn"],
                ));
                FieldValidation::Warn
            }
        };
        if !errors.is_empty() {
            return Err(invalid(kind, errors));
        }
        Ok(Self { dry_run, field_manager, field_validation, force: query.boolean("force").unwrap_or(false) })
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Propagation {
    Orphan,
    Background,
    Foreground,
}

#[derive(Clone, Debug, Default)]
pub struct DeleteOptions {
    pub grace_period_seconds: Option<i64>,
    pub propagation: Option<Propagation>,
    pub uid: Option<String>,
    pub resource_version: Option<String>,
    pub dry_run: bool,
}

impl DeleteOptions {
    /// From the body if there is one, else from the query.
    pub fn parse(query: &Query, body: &Value) -> Result<Self, Status> {
        let of_body = body.as_object().is_some_and(|o| !o.is_empty());
        let text = |key: &str| match of_body {
            true => body.get(key).and_then(Value::as_str).map(str::to_owned),
            false => query.get(key).map(str::to_owned),
        };
        let mut errors = Vec::new();
        let orphan = match of_body {
            true => body.get("orphanDependents").and_then(Value::as_bool),
            false => query.boolean("orphanDependents"),
        };
        let path = Path::new("propagationPolicy");
        let propagation = match (text("propagationPolicy").as_deref(), orphan) {
            (Some(_), Some(_)) => {
                errors.push(Error::invalid(
                    &path,
                    text("propagationPolicy").unwrap_or_default(),
                    "orphanDependents and deletionPropagation cannot be both set",
                ));
                None
            }
            (None | Some(""), None) => None,
            (None, Some(true)) | (Some("Orphan"), _) => Some(Propagation::Orphan),
            (None, Some(false)) | (Some("Background"), _) => Some(Propagation::Background),
            (Some("Foreground"), _) => Some(Propagation::Foreground),
            (Some(other), _) => {
                errors.push(Error::not_supported(&path, other, &["Foreground", "Background", "Orphan", "nil"]));
                None
            }
        };
        let grace_period_seconds = match of_body {
            true => body.get("gracePeriodSeconds").and_then(Value::as_i64),
            false => query.integer("gracePeriodSeconds")?,
        };
        if let Some(seconds) = grace_period_seconds.filter(|&s| s < 0) {
            // A negative period means "at once" (`rest.BeforeDelete`).
            tracing::debug!(seconds, "negative grace period");
        }
        let dry_run: Vec<&str> = match body.get("dryRun").and_then(Value::as_array) {
            Some(values) if of_body => values.iter().filter_map(Value::as_str).collect(),
            _ => query.all("dryRun").filter(|v| !v.is_empty()).collect(),
        };
        if let Some(&other) = dry_run.iter().find(|&&v| v != "All") {
            errors.push(Error::not_supported(&Path::new("dryRun"), other, &["All"]));
        }
        if !errors.is_empty() {
            return Err(invalid("DeleteOptions", errors));
        }
        let precondition =
            |key| body.get("preconditions").and_then(|p| p.get(key)).and_then(Value::as_str).map(str::to_owned);
        Ok(Self {
            grace_period_seconds,
            propagation,
            uid: precondition("uid"),
            resource_version: precondition("resourceVersion"),
            dry_run: !dry_run.is_empty(),
        })
    }
}

fn invalid(kind: &str, errors: Vec<Error>) -> Status {
    Status::invalid(&GroupKind::new("meta.k8s.io", kind), "", errors)
}

#[cfg(test)]
mod tests;
