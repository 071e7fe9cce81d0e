//! Annotations that nodes read. Values that mean nothing are legal, as in all annotations, but probably not meant.

use serde_json::Value;

use crate::value::at;

const ALGORITHM: &str = "xebec.io/load-balancing-algorithm";
const ALGORITHMS: [&str; 2] = ["random", "maglev"];
const FORWARDING: &str = "xebec.io/forwarding-mode";
const FORWARDINGS: [&str; 2] = ["snat", "dsr"];
const WEIGHT: &str = "xebec.io/load-balancing-weight";

/// Of a Service.
pub fn service_warnings(service: &Value) -> Vec<String> {
    let algorithm = choice(service, ALGORITHM, "algorithm", ALGORITHMS);
    algorithm.into_iter().chain(choice(service, FORWARDING, "forwarding mode", FORWARDINGS)).collect()
}

/// A warning, if the annotation is none of `supported`, of which nodes use the first.
fn choice(service: &Value, name: &str, what: &str, supported: [&str; 2]) -> Option<String> {
    let value = annotation(service, name).filter(|value| !supported.contains(value))?;
    let [instead, _] = supported;
    let supported = supported.map(|value| format!("{value:?}")).join(", ");
    Some(format!(
        "metadata.annotations[{name}]: {value:?} is no {what}, nodes use {instead:?}; supported values: {supported}"
    ))
}

/// Of an EndpointSlice.
pub fn weight_warnings(slice: &Value) -> Vec<String> {
    let Some(value) = annotation(slice, WEIGHT) else { return Vec::new() };
    if value.parse::<u8>().is_ok_and(|weight| weight != 0) {
        return Vec::new();
    }
    vec![format!("metadata.annotations[{WEIGHT}]: {value:?} is no weight between 1 and 255, nodes use 1")]
}

fn annotation<'a>(object: &'a Value, name: &str) -> Option<&'a str> {
    at(object, "metadata.annotations").get(name)?.as_str()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(value: &str, algorithm: bool, weight: bool) {
        let object = json!({"metadata": {"annotations": {ALGORITHM: value, WEIGHT: value}}});
        assert_eq!(service_warnings(&object).is_empty(), algorithm, "{:?}", service_warnings(&object));
        assert_eq!(weight_warnings(&object).is_empty(), weight, "{:?}", weight_warnings(&object));
    }

    #[test]
    fn values_that_mean_nothing_are_warned_about() {
        check("maglev", true, false);
        check("random", true, false);
        check("Maglev", false, false);
        check("", false, false);
        check("1", false, true);
        check("255", false, true);
        check("0", false, false);
        check("256", false, false);
        let object = json!({"metadata": {}});
        assert_eq!((service_warnings(&object), weight_warnings(&object)), (vec![], vec![]));
    }

    #[test]
    fn a_warning_names_the_annotation_and_its_values() {
        let warnings = |mode: &str| service_warnings(&json!({"metadata": {"annotations": {FORWARDING: mode}}}));
        assert_eq!((warnings("snat"), warnings("dsr")), (vec![], vec![]));
        let expected = "metadata.annotations[xebec.io/forwarding-mode]: \"DSR\" is no forwarding mode, nodes use \"snat\"; \
                        supported values: \"snat\", \"dsr\"";
        assert_eq!(warnings("DSR"), [expected]);
    }
}
