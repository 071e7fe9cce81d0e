//! Descriptions of definitions and fields, for `kubectl explain`.

/// What upstream says of a definition.
pub fn definition(_name: &str) -> Option<String> {
    None
}

/// What upstream says of a field of a definition.
pub fn field(_definition: &str, _field: &str) -> Option<String> {
    None
}
