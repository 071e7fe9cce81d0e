//! Annotations that nodes read. Values that mean nothing are legal, as in all annotations, but probably not meant.

use serde_json::Value;

use crate::value::at;

const ALGORITHM: &str = "xebec.io/load-balancing-algorithm";
const ALGORITHMS: [&str; 2] = ["random", "maglev"];
const WEIGHT: &str = "xebec.io/load-balancing-weight";

/// Of a Service.
pub fn algorithm_warnings(service: &Value) -> Vec<String> {
    let Some(value) = annotation(service, ALGORITHM) else { return Vec::new() };
    if ALGORITHMS.contains(&value) {
        return Vec::new();
    }
    vec![format!(
        "metadata.annotations[{ALGORITHM}]: {value:?} is no algorithm, nodes use \"random\"; supported values: {}",
        ALGORITHMS.map(|algorithm| format!("{algorithm:?}")).join(", ")
    )]
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
        assert_eq!(algorithm_warnings(&object).is_empty(), algorithm, "{:?}", algorithm_warnings(&object));
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
        assert_eq!((algorithm_warnings(&object), weight_warnings(&object)), (vec![], vec![]));
    }
}
