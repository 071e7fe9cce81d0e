use serde_json::json;

use super::{Evaluator, Selector, is_version};

/// The cases of upstream's `compile_test.go`, by what they show.
#[track_caller]
fn check(expression: &str, expected: Result<bool, &str>) {
    let evaluator = Evaluator::new().unwrap();
    let attributes = json!({
        "model": {"string": "a100"}, "index": {"int": 3}, "healthy": {"bool": true}, "firmware": {"version": "1.10.0"},
        "other.example.com/numa": {"int": 1},
    });
    let capacity = json!({"memory": {"value": "80Gi"}});
    let device = evaluator.device("gpu.example.com", &attributes, &capacity);
    let outcome = Selector::compile(expression).and_then(|selector| selector.matches(&device, &evaluator));
    assert_eq!(outcome, expected.map_err(str::to_owned), "{expression}");
}

#[test]
fn attributes_and_capacities_are_compared_by_their_types() {
    check("true", Ok(true));
    check("device.driver == 'gpu.example.com'", Ok(true));
    check("device.attributes['gpu.example.com'].model == 'a100'", Ok(true));
    check("device.attributes['gpu.example.com'].healthy", Ok(true));
    check("device.attributes['gpu.example.com'].index > 3", Ok(false));
    check("device.attributes['gpu.example.com'].firmware.isGreaterThan(semver('1.9.0'))", Ok(true));
    check("device.capacity['gpu.example.com'].memory.compareTo(quantity('80Gi')) >= 0", Ok(true));
    check("device.capacity['gpu.example.com'].memory.isGreaterThan(quantity('81Gi'))", Ok(false));
    check("device.attributes['other.example.com'].numa == 1", Ok(true));
}

#[test]
fn a_domain_can_be_named_once() {
    let bound = |expression: &str| format!("cel.bind(gpu, device.attributes['gpu.example.com'], {expression})");
    check(&bound("gpu.model == 'a100' && gpu.index < 5"), Ok(true));
    check(&bound("gpu.healthy && gpu.index > 5"), Ok(false));
    check(&bound("cel.bind(index, gpu.index, index == 3 && index < 4)"), Ok(true));
    check(&bound("has(gpu.none)"), Ok(false));
    check("cel.bind(none, device.attributes['none.example.com'], has(none.model))", Ok(false));
    check("cel.bind(twice, device.driver + device.driver, [1, 2].all(n, n < twice.size()))", Ok(true));
    check(
        "cel.bind('a', 1, true)",
        Err(
            "compilation failed: ERROR: <input>:1:10: cel.bind() variable names must be simple identifiers\n | cel.bind('a', 1, true)\n | .........^",
        ),
    );
    check("cel.bind(a, 1, a)", Err("must evaluate to bool or the unknown type, not int"));
    check(
        "cel.bind(a, 1, true) && a == 1",
        Err(
            "compilation failed: ERROR: <input>:1:25: undeclared reference to 'a' (in container '')\n | cel.bind(a, 1, true) && a == 1\n | ........................^",
        ),
    );
}

#[test]
fn a_domain_that_a_device_does_not_know_is_empty() {
    check("has(device.attributes['none.example.com'].model)", Ok(false));
    check("'model' in device.attributes['none.example.com']", Ok(false));
    check("'none.example.com' in device.attributes", Ok(false));
    check("'gpu.example.com' in device.attributes", Ok(true));
    check("device.attributes['none.example.com'].model == 'x'", Err("no such key: model"));
    check("device.attributes['gpu.example.com'].none == 'x'", Err("no such key: none"));
}

#[test]
fn what_is_no_condition_does_not_compile() {
    check("1", Err("must evaluate to bool or the unknown type, not int"));
    check("device.driver", Err("must evaluate to bool or the unknown type, not string"));
    check(
        "pod.name == 'x'",
        Err(
            "compilation failed: ERROR: <input>:1:1: undeclared reference to 'pod' (in container '')\n | pod.name == 'x'\n | ^",
        ),
    );
    check(
        "device.vendor == 'x'",
        Err("compilation failed: ERROR: <input>:1:7: undefined field 'vendor'\n | device.vendor == 'x'\n | ......^"),
    );
    assert!(Selector::compile("?!").unwrap_err().starts_with("compilation failed: "));
}

/// So many loops inside of each other.
fn loops(count: usize, innermost: &str) -> String {
    let loops: String = (0..count).map(|level| format!("[1,2,3,4,5,6,7,8,9,10].all(i{level}, ")).collect();
    format!("{loops}{innermost}{}", ")".repeat(count))
}

#[test]
fn a_selector_does_not_run_for_long() {
    check(&loops(9, "true"), Err("operation cancelled: actual cost limit exceeded"));
}

#[track_caller]
fn costs(expression: &str, expected: u64) {
    assert_eq!(Selector::compile(expression).map(|selector| selector.cost), Ok(expected), "{expression}");
}

/// The figures of upstream's `compile_test.go`.
#[test]
fn a_selector_costs_what_the_largest_device_may_make_it_cost() {
    let attribute = |rest: &str| format!("device.attributes['dra.example.com']{rest}");
    let capacity = |rest: &str| format!("device.capacity['dra.example.com']{rest}");
    costs("true", 0);
    costs("'no-such-domain' in device.attributes", 3);
    costs("device.driver == ''", 2);
    costs("device.driver == 'dra.example.com'", 4);
    costs(&attribute(".name"), 4);
    costs(&attribute("['name']"), 4);
    costs(&format!("cel.bind(dra, {}, dra.name)", attribute("")), 15);
    costs(&attribute(".name > 0"), 5);
    costs(&attribute(".name == 'fish'"), 5);
    costs(&attribute(".name.exists(x, x > 0)"), 5 + 6 * 64);
    costs(&attribute(".names.all(x, x != '')"), 5 + 4 * 64);
    costs(&attribute(".names.size() == 2"), 6);
    costs(&format!("1 in {}", attribute(".names")), 4 + 64);
    costs(&attribute(".name.isGreaterThan(semver('0.0.1'))"), 6);
    costs(&attribute("['name'].isGreaterThan(quantity('0'))"), 6);
    costs(&capacity(".name.isGreaterThan(quantity('1Ki'))"), 6);
    let asked = capacity(".name.isGreaterThan(quantity('1Ki'))");
    costs(&format!("'name' in {} && {asked}", capacity("")), 10);
    costs(&format!("!('name' in {}) || {asked}", capacity("")), 11);
    costs("device.attributes.exists_one(x, x == 'dra.example.com')", 164);
    costs("device.capacity.exists_one(x, x == 'dra.example.com')", 164);
    costs(&attribute(".exists_one(x, x == 'services')"), 133);
    costs(&capacity(".exists_one(x, x == 'memory')"), 133);
    costs(&attribute(".services.split('example').size() >= 2"), 19);
    costs(&attribute(".services.matches('[^a]?sym')"), 18);
    costs("device.allowMultipleAllocations == true", 3);
    costs(&loops(7, "int('1'.find('[0-9]*')) < 100"), 85_555_551);
}

#[test]
fn versions_are_of_semver_org() {
    for version in ["0.0.0", "1.2.3", "1.2.3-alpha.1+build.01", "10.20.30-0a", "1.0.0+20130313144700"] {
        assert!(is_version(version), "{version}");
    }
    for version in ["", "1", "1.2", "1.2.3.4", "01.2.3", "1.2.3-01", "1.2.3-", "1.2.3+", "v1.2.3", "1.2.x"] {
        assert!(!is_version(version), "{version}");
    }
}
