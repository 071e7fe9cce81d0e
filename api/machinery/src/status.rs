//! `metav1.Status`: how every request that does not return an object ends. Messages are worded as apimachinery's `api/errors`.

use std::borrow::Cow;
use std::fmt;

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use crate::field;
use crate::gvk::{GroupKind, GroupResource};

/// The machine-readable reason of a failure (`metav1.StatusReason`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Reason {
    #[default]
    Unknown,
    Unauthorized,
    Forbidden,
    NotFound,
    AlreadyExists,
    Conflict,
    Gone,
    Invalid,
    ServerTimeout,
    Timeout,
    TooManyRequests,
    BadRequest,
    MethodNotAllowed,
    NotAcceptable,
    RequestEntityTooLarge,
    UnsupportedMediaType,
    InternalError,
    Expired,
    ServiceUnavailable,
}

impl Reason {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "",
            Self::Unauthorized => "Unauthorized",
            Self::Forbidden => "Forbidden",
            Self::NotFound => "NotFound",
            Self::AlreadyExists => "AlreadyExists",
            Self::Conflict => "Conflict",
            Self::Gone => "Gone",
            Self::Invalid => "Invalid",
            Self::ServerTimeout => "ServerTimeout",
            Self::Timeout => "Timeout",
            Self::TooManyRequests => "TooManyRequests",
            Self::BadRequest => "BadRequest",
            Self::MethodNotAllowed => "MethodNotAllowed",
            Self::NotAcceptable => "NotAcceptable",
            Self::RequestEntityTooLarge => "RequestEntityTooLarge",
            Self::UnsupportedMediaType => "UnsupportedMediaType",
            Self::InternalError => "InternalError",
            Self::Expired => "Expired",
            Self::ServiceUnavailable => "ServiceUnavailable",
        }
    }
}

/// One cause of a failure (`metav1.StatusCause`).
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Cause {
    #[serde(skip_serializing_if = "str::is_empty")]
    pub reason: Cow<'static, str>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub field: String,
}

/// What the failure is about (`metav1.StatusDetails`). `kind` is the resource for most reasons, the kind for `Invalid`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Details {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub group: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<Cause>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_seconds: Option<u32>,
}

impl Details {
    /// Details that name an object of a resource.
    pub fn of(resource: &GroupResource, name: impl Into<String>) -> Self {
        Self { name: name.into(), group: resource.group.clone(), kind: resource.resource.clone(), ..Self::default() }
    }
}

/// An answer that is not an object: mostly a failure, hence an [`std::error::Error`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Status {
    pub code: u16,
    pub reason: Reason,
    pub message: String,
    pub details: Option<Box<Details>>,
    /// `metadata.continue`: where a list whose token has expired may go on all the same.
    pub continuation: Option<Box<str>>,
}

impl Status {
    pub fn new(code: u16, reason: Reason, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), details: None, continuation: None }
    }

    #[must_use]
    pub fn with_continuation(self, token: impl Into<Box<str>>) -> Self {
        Self { continuation: Some(token.into()), ..self }
    }

    #[must_use]
    pub fn with_details(self, details: Details) -> Self {
        Self { details: Some(Box::new(details)), ..self }
    }

    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.details.get_or_insert_default().retry_after_seconds = Some(seconds);
        self
    }

    pub fn success(details: Option<Details>) -> Self {
        Self { details: details.map(Box::new), ..Self::new(200, Reason::Unknown, "") }
    }

    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.code)
    }

    pub fn not_found(resource: &GroupResource, name: &str) -> Self {
        Self::new(404, Reason::NotFound, format!("{resource} {name:?} not found"))
            .with_details(Details::of(resource, name))
    }

    /// No such path: what a client sees when it asks for a resource that is not served.
    pub fn not_found_path() -> Self {
        Self::new(404, Reason::NotFound, "the server could not find the requested resource")
            .with_details(Details::default())
    }

    pub fn already_exists(resource: &GroupResource, name: &str) -> Self {
        Self::new(409, Reason::AlreadyExists, format!("{resource} {name:?} already exists"))
            .with_details(Details::of(resource, name))
    }

    pub fn generate_name_conflict(resource: &GroupResource, name: &str, retry_after_seconds: u32) -> Self {
        let message = format!(
            "{resource} {name:?} already exists, the server was not able to generate a unique name for the object"
        );
        Self::new(409, Reason::AlreadyExists, message)
            .with_details(Details::of(resource, name))
            .retry_after(retry_after_seconds)
    }

    pub fn conflict(resource: &GroupResource, name: &str, message: impl fmt::Display) -> Self {
        Self::new(409, Reason::Conflict, format!("Operation cannot be fulfilled on {resource} {name:?}: {message}"))
            .with_details(Details::of(resource, name))
    }

    /// A conflict of an update with a newer version of the object.
    pub fn modified(resource: &GroupResource, name: &str) -> Self {
        Self::conflict(
            resource,
            name,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    /// A server-side apply that met fields owned by others.
    pub fn apply_conflict(causes: Vec<Cause>, message: impl Into<String>) -> Self {
        Self::new(409, Reason::Conflict, message).with_details(Details { causes, ..Details::default() })
    }

    pub fn invalid(kind: &GroupKind, name: &str, errors: Vec<field::Error>) -> Self {
        let mut message = format!("{kind} {name:?} is invalid");
        let mut shown: Vec<String> = Vec::with_capacity(errors.len());
        for error in errors.iter().map(ToString::to_string) {
            if !shown.contains(&error) {
                shown.push(error);
            }
        }
        match shown.as_slice() {
            [] => {}
            [one] => message.extend([": ", one]),
            many => message.extend([": [", &many.join(", "), "]"]),
        }
        let causes = errors.into_iter().map(Cause::from).collect();
        Self::new(422, Reason::Invalid, message).with_details(Details {
            name: name.to_owned(),
            group: kind.group.clone(),
            kind: kind.kind.clone(),
            causes,
            ..Details::default()
        })
    }

    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, Reason::BadRequest, message)
    }

    pub fn forbidden(resource: &GroupResource, name: &str, message: impl fmt::Display) -> Self {
        let message = match (resource.resource.as_str(), name) {
            ("", _) => format!("forbidden: {message}"),
            (_, "") => format!("{resource} is forbidden: {message}"),
            (_, _) => format!("{resource} {name:?} is forbidden: {message}"),
        };
        Self::new(403, Reason::Forbidden, message).with_details(Details::of(resource, name))
    }

    pub fn unauthorized(message: impl Into<String>) -> Self {
        let message = Some(message.into()).filter(|m| !m.is_empty()).unwrap_or_else(|| "not authorized".into());
        Self::new(401, Reason::Unauthorized, message)
    }

    /// A list or watch asked for a version that is no longer kept.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(410, Reason::Expired, message)
    }

    pub fn gone(message: impl Into<String>) -> Self {
        Self::new(410, Reason::Gone, message)
    }

    pub fn request_entity_too_large(message: impl fmt::Display) -> Self {
        Self::new(413, Reason::RequestEntityTooLarge, format!("Request entity is too large: {message}"))
    }

    pub fn unsupported_media_type(accepted: &[&str]) -> Self {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {}",
            accepted.join(", ")
        );
        Self::new(415, Reason::UnsupportedMediaType, message)
    }

    pub fn not_acceptable(accepted: &[&str]) -> Self {
        let message = format!("only the following media types are accepted: {}", accepted.join(", "));
        Self::new(406, Reason::NotAcceptable, message)
    }

    pub fn method_not_allowed(resource: &GroupResource, action: &str) -> Self {
        Self::new(
            405,
            Reason::MethodNotAllowed,
            format!("{action} is not supported on resources of kind \"{resource}\""),
        )
        .with_details(Details::of(resource, ""))
    }

    pub fn internal(message: impl fmt::Display) -> Self {
        let cause = Cause { message: message.to_string(), ..Cause::default() };
        Self::new(500, Reason::InternalError, format!("Internal error occurred: {message}"))
            .with_details(Details { causes: vec![cause], ..Details::default() })
    }

    pub fn server_timeout(resource: &GroupResource, operation: &str, retry_after_seconds: u32) -> Self {
        let message = format!(
            "The {operation} operation against {resource} could not be completed at this time, please try again."
        );
        Self::new(500, Reason::ServerTimeout, message)
            .with_details(Details::of(resource, operation))
            .retry_after(retry_after_seconds)
    }

    pub fn timeout(message: impl fmt::Display, retry_after_seconds: u32) -> Self {
        Self::new(504, Reason::Timeout, format!("Timeout: {message}")).retry_after(retry_after_seconds)
    }

    pub fn too_many_requests(message: impl Into<String>, retry_after_seconds: u32) -> Self {
        Self::new(429, Reason::TooManyRequests, message).retry_after(retry_after_seconds)
    }

    pub fn service_unavailable(message: impl Into<String>) -> Self {
        Self::new(503, Reason::ServiceUnavailable, message)
    }
}

impl From<field::Error> for Cause {
    fn from(error: field::Error) -> Self {
        Self { reason: error.kind.reason().into(), message: error.body(), field: error.field }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Status {}

impl Serialize for Status {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("kind", "Status")?;
        map.serialize_entry("apiVersion", "v1")?;
        let metadata = self.continuation.iter().map(|token| ("continue", token));
        map.serialize_entry("metadata", &metadata.collect::<std::collections::BTreeMap<_, _>>())?;
        map.serialize_entry("status", if self.is_success() { "Success" } else { "Failure" })?;
        if !self.message.is_empty() {
            map.serialize_entry("message", &self.message)?;
        }
        if self.reason != Reason::Unknown {
            map.serialize_entry("reason", self.reason.as_str())?;
        }
        if let Some(details) = &self.details {
            map.serialize_entry("details", details)?;
        }
        // Upstream's success has no code: 200 is the default.
        if !self.is_success() {
            map.serialize_entry("code", &self.code)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests;
