use serde_json::json;

use super::*;

fn schema() -> serde_json::Value {
    json!({ "type": "object", "properties": {
        "min": { "type": "integer" }, "max": { "type": "integer" }, "ratio": { "type": "number" },
        "name": { "type": "string" }, "a-b": { "type": "string" }, "namespace": { "type": "string" },
        "since": { "type": "string", "format": "date-time" }, "wait": { "type": "string", "format": "duration" },
        "list": { "type": "array", "items": { "type": "integer" } },
        "size": { "x-kubernetes-int-or-string": true },
        "labels": { "type": "object", "additionalProperties": { "type": "string" } },
    } })
}

fn errors(rules: &serde_json::Value, new: &serde_json::Value, old: Option<&serde_json::Value>) -> Vec<String> {
    let mut raw = schema();
    raw["x-kubernetes-validations"] = rules.clone();
    let schema = Schema::compile(&raw);
    check(new, old, &schema, &Budget::new()).iter().map(ToString::to_string).collect()
}

/// The rule holds, or does not.
#[track_caller]
fn holds(rule: &str, object: serde_json::Value, expected: bool) {
    let found = errors(&json!([{ "rule": rule }]), &object, None);
    let failed = format!("<nil>: Invalid value: failed rule: {rule}");
    assert_eq!(found, if expected { vec![] } else { vec![failed] }, "{rule}");
}

#[test]
fn rules_use_the_libraries_of_kubernetes() {
    holds("self.min <= self.max", json!({ "min": 1, "max": 2 }), true);
    holds("self.min <= self.max", json!({ "min": 3, "max": 2 }), false);
    holds("!has(self.min) || self.min > 0", json!({}), true);
    holds("self.ratio > 0.5", json!({ "ratio": 1 }), true);
    holds("self.name.matches('^[a-z]+$')", json!({ "name": "abc" }), true);
    holds("self.name.startsWith('x')", json!({ "name": "abc" }), false);
    holds("self.a__dash__b == 'x' && self.__namespace__ == 'y'", json!({ "a-b": "x", "namespace": "y" }), true);
    holds("self.list.all(x, x > 0)", json!({ "list": [1, 2] }), true);
    holds("self.list.exists(x, x > 2)", json!({ "list": [1, 2] }), false);
    holds("self.list.isSorted() && self.list.sum() == 3", json!({ "list": [1, 2] }), true);
    holds("size(self.list) == 2", json!({ "list": [1, 2] }), true);
    holds("'x' in self.labels && self.labels['x'] == '1'", json!({ "labels": { "x": "1" } }), true);
    holds("self.labels.all(k, k.size() < 3)", json!({ "labels": { "abc": "1" } }), false);
    holds("self.since < timestamp('2030-01-01T00:00:00Z')", json!({ "since": "2024-01-01T00:00:00Z" }), true);
    holds("self.wait == duration('90s')", json!({ "wait": "1m30s" }), true);
    holds("quantity(self.name).isGreaterThan(quantity('1Mi'))", json!({ "name": "1Gi" }), true);
    holds("dyn(self.size) == 80", json!({ "size": 80 }), true);
    holds("isIP(self.name)", json!({ "name": "10.0.0.1" }), true);
    holds("url(self.name).getScheme() == 'https'", json!({ "name": "https://x/y" }), true);
}

#[test]
fn what_cannot_be_evaluated_is_an_error() {
    let check = |rule: &str, object: serde_json::Value, expected: &str| {
        assert_eq!(errors(&json!([{ "rule": rule }]), &object, None), [expected], "{rule}");
    };
    let key = "<nil>: Invalid value: \"object\": no such key: min evaluating rule: self.min > 0";
    check("self.min > 0", json!({}), key);
    check(
        "1 / self.min == 1",
        json!({ "min": 0 }),
        "<nil>: Invalid value: \"object\": division by zero evaluating rule: 1 / self.min == 1",
    );
}

#[test]
fn rules_ask_for_types() {
    for (rule, value) in [
        ("type(self.size) == string", json!({ "size": "50%" })),
        ("type(self.size) == int", json!({ "size": 5 })),
        ("type(self.size) != type('a')", json!({ "size": 5 })),
        (
            "bool('true') && type(self.list) == list && type(self.labels) == map",
            json!({ "list": [1], "labels": { "a": "b" } }),
        ),
        ("type(type(1)) == type && type(null) == null_type && type(1.5) == double && type(b'a') == bytes", json!({})),
        ("type(timestamp('2030-01-01T00:00:00Z')) == google.protobuf.Timestamp", json!({})),
    ] {
        assert_eq!(errors(&json!([{ "rule": rule }]), &value, None), Vec::<String>::new(), "{rule}");
    }
}

#[test]
fn what_is_missing_is_no_value() {
    for rule in [
        "self.?min.orValue(7) == 7 && !self.?min.hasValue()",
        "self.?max.orValue(7) == 3 && self.?max.value() == 3",
        "self.?obj.a.orValue('x') == 'x' && self.?obj.?a.orValue('x') == 'x'",
        "self.labels[?'k'].orValue('none') == 'v' && self.labels[?'l'].orValue('none') == 'none'",
        "self.list[?0].orValue(9) == 1 && self.list[?5].orValue(9) == 9",
        "self.?labels['k'].orValue('none') == 'v' && self.?labels.l.orValue('none') == 'none'",
    ] {
        let value = json!({ "max": 3, "labels": { "k": "v" }, "list": [1] });
        assert_eq!(errors(&json!([{ "rule": rule }]), &value, None), Vec::<String>::new(), "{rule}");
    }
}

/// Every rule holds for an object with some of the members.
#[track_caller]
fn all_hold(rules: &[&str]) {
    let value = json!({
        "max": 3, "name": "ip", "labels": { "a": "x", "b": "yy" }, "list": [1, 2], "a-b": "c",
    });
    for rule in rules {
        check_types(rule, "");
        assert_eq!(errors(&json!([{ "rule": rule }]), &value, None), Vec::<String>::new(), "{rule}");
    }
}

#[test]
fn optional_values_have_upstreams_library() {
    all_hold(&[
        "self.?max.optMap(m, m + 1).orValue(0) == 4 && self.?min.optMap(m, m + 1).orValue(0) == 0",
        "!self.?min.optMap(m, m / 0).hasValue()",
        "self.?max.optMap(m, [m].map(x, x + m)).value() == [6]",
        "self.?max.optFlatMap(m, self.?min).orValue(7) == 7 && self.?max.optFlatMap(m, optional.of(m)).value() == 3",
        "self.?name.optMap(ip, ip.startsWith('i')).value()",
        "self.labels[?'a'].optMap(l, l.size()).or(optional.of(9)).value() == 1",
        "self.list[?1].optMap(x, x * 10).optMap(x, x + 1).value() == 21",
        "optional.none().or(optional.of(1)).value() == 1 && optional.ofNonZeroValue(0).orValue(5) == 5",
        "optional.ofNonZeroValue('').hasValue() == false && optional.of('').hasValue()",
        "optional.unwrap([optional.of(1), optional.none()]) == [1] && [self.?min, self.?max].unwrapOpt() == [3]",
        "self.list.first().value() == 1 && self.list.last().optMap(x, x + 1).orValue(0) == 3",
        "[?self.?min, ?self.?max] == [3] && {?'a': self.?min, ?'b': self.?max} == {'b': 3}",
    ]);
    let none =
        |from: &str, on: &str| format!("compilation failed: found no matching overload for '{from}' applied to '{on}'");
    check_types("self.min.hasValue()", &none("hasValue", "int.()"));
    check_types("self.?min.orValue('a') == 1", &none("orValue", "optional_type(int).(string)"));
    check_types("self.?min.optMap(m, m + 'a').hasValue()", &none("_+_", "(int, string)"));
    check_types("self.?nothing.hasValue()", "compilation failed: undefined field 'nothing'");
    check_types(
        "self.?min.optMap(self.x, 1).hasValue()",
        "compilation failed: optMap() variable name must be a simple identifier",
    );
}

#[test]
fn sizes_are_of_characters() {
    all_hold(&[
        "'äö'.size() == 2 && size('äö') == 2 && b'ä'.size() == 2 && ''.size() == 0",
        "self.list.size() == 2 && size(self.labels) == 2 && {}.size() == 0 && size([1]) == 1",
    ]);
}

#[test]
fn lists_have_upstreams_library() {
    all_hold(&[
        "[3, 1, 2].sort() == [1, 2, 3] && ['b', 'a'].sort() == ['a', 'b'] && [].sort() == []",
        "self.list.sortBy(x, -x) == [2, 1] && self.labels.map(k, k).sortBy(k, self.labels[k].size()) == ['a', 'b']",
        "[{'n': 'b'}, {'n': 'a'}].sortBy(e, e.n).map(e, e.n) == ['a', 'b']",
        "self.list.map(x, self.list.sortBy(y, -x * y)) == [[2, 1], [2, 1]]",
        "lists.range(3) == [0, 1, 2] && lists.range(0) == []",
        "[1, 2, 3, 4].slice(1, 3) == [2, 3] && self.list.slice(0, 0) == []",
        "[[1], [2, 3]].flatten() == [1, 2, 3] && [[[1]], [[2], [3]]].flatten(2) == [1, 2, 3]",
        "[1, 2, 2].distinct() == self.list && self.list.reverse() == [2, 1]",
        "self.list.map(x, x > 1, x * 2) == [4] && self.list.filter(x, x > 1) == [2] && self.labels.filter(k, k > 'a') == ['b']",
        "'a-b-a'.replace('a', 'x') == 'x-b-x' && 'aa'.replace('a', 'x', 1) == 'xa' && 'aa'.replace('a', 'x', -1) == 'xx'",
        "'ab'.replace('', '-') == '-a-b-' && 'ab'.replace('', '-', 2) == '-a-b' && 'ab'.replace('b', 'c', 0) == 'ab'",
        "['a', 'b'].join('-') == 'a-b' && ['a', 'b'].join() == 'ab' && [].join('-') == ''",
    ]);
    let none =
        |from: &str, on: &str| format!("compilation failed: found no matching overload for '{from}' applied to '{on}'");
    check_types("self.name.sort() == self.name", &none("sort", "string.()"));
    check_types("[[1]].sort() == [[1]]", &none("sort", "list(list(int)).()"));
    check_types("self.list.flatten() == self.list", &none("flatten", "list(int).()"));
    check_types("self.list.sort() == ['a']", &none("_==_", "(list(int), list(string))"));
    check_types("lists.range('a') == []", &none("lists.range", "(string)"));
    check_types("self.list.sortBy(x.y, x) == []", "compilation failed: argument is not an identifier");
    check_types(
        "'a'.sortBy(x, x) == []",
        "compilation failed: sortBy can only be applied to a list, identifier, comprehension, call or select expression",
    );
    // Not in upstream's environment.
    check_types("math.abs(self.min) == 1", "compilation failed: undeclared reference to 'math' (in container '')");
    for (rule, why) in [
        ("self.list.slice(2, 1) == []", "cannot slice(2, 1), start index must be less than or equal to end index"),
        ("self.list.slice(0, 3) == []", "cannot slice(0, 3), list is length 2"),
        ("self.list.slice(-1, 1) == []", "cannot slice(-1, 1), negative indexes not supported"),
        ("lists.range(-1) == []", "lists.range: size must be non-negative, got -1"),
        ("[dyn(1), dyn('a')].sort() == []", "list elements must have the same type"),
        ("[dyn([1])].sort() == []", "list elements must be comparable"),
    ] {
        let found = errors(&json!([{ "rule": rule }]), &json!({ "list": [1, 2] }), None);
        assert!(found[0].contains(why), "{rule}: {found:?}");
    }
}

#[test]
fn loops_have_two_variables() {
    all_hold(&[
        "self.list.all(i, v, v == i + 1) && !self.list.all(i, v, v == i) && self.labels.all(k, v, k < v)",
        "self.list.exists(i, v, i == 1 && v == 2) && !self.labels.exists(k, v, k == v)",
        "self.list.existsOne(i, v, v > 1) && self.labels.exists_one(k, v, v.size() == 2)",
        "self.list.transformList(i, v, i * 10 + v) == [1, 12]",
        "self.list.transformList(i, v, i > 0, v) == [2]",
        "self.labels.transformList(k, v, k + v).sort() == ['ax', 'byy']",
        "self.labels.transformMap(k, v, v.size()) == {'a': 1, 'b': 2}",
        "self.labels.transformMap(k, v, k == 'b', v + '!') == {'b': 'yy!'}",
        "self.labels.transformMapEntry(k, v, {v: k}) == {'x': 'a', 'yy': 'b'}",
        "self.list.transformMap(i, v, v) == {0: 1, 1: 2}",
        "self.list.all(i, v, self.list.all(i, w, w == i + 1) && self.list.exists(v, v == 2) && v == i + 1)",
        "self.list.transformList(i, v, self.list.transformList(j, w, i + j + v + w)) == [[2, 4], [4, 6]]",
    ]);
    check_types("self.list.all(i, i, true)", "compilation failed: duplicate variable name: i");
    check_types("self.list.all(i, v.x, true)", "compilation failed: argument must be a simple name");
    let twice = "self.list.transformMapEntry(i, v, {'k': v}).size() == 1";
    let found = errors(&json!([{ "rule": twice }]), &json!({ "list": [1, 2] }), None);
    assert!(found[0].contains("insert failed: key k already exists"), "{found:?}");
}

#[test]
fn macros_do_not_grow_without_limit() {
    let rule = format!("self.?min{}.hasValue()", ".optMap(x, x)".repeat(40));
    check_types(&rule, "compilation failed: expression is too large once its macros are expanded");
}

#[test]
fn transition_rules_see_what_was() {
    let rules = json!([{ "rule": "self.min >= oldSelf.min", "message": "no way back", "fieldPath": ".min", "reason": "FieldValueForbidden" }]);
    assert_eq!(errors(&rules, &json!({ "min": 1 }), None), Vec::<String>::new());
    assert_eq!(errors(&rules, &json!({ "min": 1 }), Some(&json!({ "min": 1, "max": 1 }))), Vec::<String>::new());
    assert_eq!(errors(&rules, &json!({ "min": 1 }), Some(&json!({ "min": 2 }))), ["min: Forbidden: no way back"]);
    let optional = json!([{ "rule": "oldSelf.hasValue() ? self.min >= oldSelf.value().min : self.min == 0", "optionalOldSelf": true, "message": "m" }]);
    assert_eq!(errors(&optional, &json!({ "min": 0 }), None), Vec::<String>::new());
    assert_eq!(errors(&optional, &json!({ "min": 1 }), None), ["<nil>: Invalid value: m"]);
    assert_eq!(errors(&optional, &json!({ "min": 1 }), Some(&json!({ "min": 0 }))), Vec::<String>::new());
}

#[test]
fn messages_are_computed() {
    let rules =
        json!([{ "rule": "self.min < 3", "messageExpression": "'min is ' + string(self.min)", "message": "static" }]);
    assert_eq!(errors(&rules, &json!({ "min": 5 }), None), ["<nil>: Invalid value: min is 5"]);
    let broken = json!([{ "rule": "self.min < 3", "messageExpression": "self.name", "message": "static" }]);
    assert_eq!(errors(&broken, &json!({ "min": 5 }), None), ["<nil>: Invalid value: static"]);
}

#[test]
fn what_did_not_change_is_not_asked_again() {
    let rules = json!([{ "rule": "self.min < 3" }]);
    let bad = json!({ "min": 5 });
    assert_eq!(errors(&rules, &bad, Some(&bad)), Vec::<String>::new());
    assert_eq!(errors(&rules, &json!({ "min": 6 }), Some(&bad)).len(), 1);
}

#[test]
fn rules_name_what_there_is() {
    let schema = Schema::compile(&schema());
    let check = |rule: &str, expected: &str| {
        let found = check::rule(rule, scope(&schema)).err().unwrap_or_default();
        assert!(found.contains(expected) && found.is_empty() == expected.is_empty(), "{rule}: {found:?}");
    };
    check("self.min > 0", "");
    check("self.missing > 0", "undefined field 'missing'");
    check("object.min > 0", "undeclared reference to 'object'");
    check("self.list.all(x, x > min)", "undeclared reference to 'min'");
    check("self.labels['x'] == '1' && self.labels.y == ''", "");
    check("self.min >", "Syntax error");
    check("Foo{a: 1} == 1", "not supported");
}

fn scope(schema: &Schema) -> Scope<'_> {
    Scope { schema, is_root: true, optional_old_self: false }
}

#[track_caller]
fn check_types(rule: &str, expected: &str) {
    let mut raw = schema();
    raw["properties"]["obj"] = json!({ "type": "object", "properties": { "a": { "type": "string" } } });
    let found = check::rule(rule, scope(&Schema::compile(&raw))).err().unwrap_or_default();
    assert_eq!(placeless(&found), expected, "{rule}");
}

/// A message of one issue without its place.
fn placeless(message: &str) -> String {
    let message = message.lines().next().unwrap_or_default();
    let Some((before, issue)) = message.split_once("ERROR: <input>:") else { return message.to_owned() };
    format!("{before}{}", issue.splitn(3, ':').last().unwrap_or_default().trim_start())
}

/// `expected` follows `compilation failed: `.
#[track_caller]
fn check_issues(rule: &str, expected: &str) {
    let schema = Schema::compile(&schema());
    let found = check::rule(rule, scope(&schema)).err().unwrap_or_default();
    assert_eq!(found, format!("compilation failed: {expected}"));
}

#[test]
fn what_is_wrong_is_shown_where_it_is_as_cel_go_shows_it() {
    check_issues(
        "self.min > x",
        "ERROR: <input>:1:12: undeclared reference to 'x' (in container '')\n | self.min > x\n | ...........^",
    );
    check_issues(
        "has(self.min) &&\n\tself.missing > 0",
        "ERROR: <input>:2:6: undefined field 'missing'\n |  self.missing > 0\n | .....^",
    );
    check_issues(
        "self.min == true",
        "ERROR: <input>:1:10: found no matching overload for '_==_' applied to '(int, bool)'\n | self.min == true\n | .........^",
    );
    check_issues(
        "self.name == 'ä' && size(self.min) > 1",
        "ERROR: <input>:1:25: found no matching overload for 'size' applied to '(int)'\n | self.name == 'ä' && size(self.min) > 1\n \
         | ..............．.........^",
    );
    check_issues(
        "frob(self.min) && self.name.twist()",
        "ERROR: <input>:1:5: undeclared reference to 'frob' (in container '')\n | frob(self.min) && self.name.twist()\n | ....^\n\
         ERROR: <input>:1:34: undeclared reference to 'twist' (in container '')\n | frob(self.min) && self.name.twist()\n \
         | .................................^",
    );
    check_issues(
        "self.x == y",
        "ERROR: <input>:1:5: undefined field 'x'\n | self.x == y\n | ....^\n\
         ERROR: <input>:1:11: undeclared reference to 'y' (in container '')\n | self.x == y\n | ..........^",
    );
    check_issues(
        "'ä' == ) 1",
        "ERROR: <input>:1:8: Syntax error: extraneous input ')' expecting {'[', '{', '(', '.', '-', '!', 'true', 'false', \
         'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}\n | 'ä' == ) 1\n | .．.....^",
    );
    check_issues(
        "self.min >",
        "ERROR: <input>:1:11: Syntax error: mismatched input '<EOF>' expecting {'[', '{', '(', '.', '-', '!', 'true', 'false', \
         'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}\n | self.min >\n | ..........^",
    );
}

#[test]
fn rules_that_fit_their_schema_are_accepted() {
    for rule in [
        "self.min + 1 <= self.max && self.ratio > 1 && self.ratio * 2.0 < 7.5",
        "self.name == null || self.name.size() > 3 && size(self.list) < 5",
        "self.since < timestamp('2030-01-01T00:00:00Z') && self.since - self.since < self.wait",
        "self.list.all(x, x > self.min) && self.list.exists_one(x, x == 1) && self.list.map(x, x + 1).sum() > 3",
        "self.list.filter(x, x > 1).size() > 0 && 1 in self.list && 'a' in self.labels && self.list[0] == 1",
        "self.labels.all(k, self.labels[k].startsWith(k)) && self.labels == {'a': 'b'}",
        "(has(self.min) ? self.min : 0) > 0 && has(self.obj.a) && self.obj.a.matches('x')",
        "self.size == 1 || self.size == '50%' || (type(self.size) == string && self.size.endsWith('%'))",
        "oldSelf.min == self.min && !(self.name in ['a', 'b']) && self.name + 'x' != oldSelf.name",
        "sets.contains(self.list, [1]) && lists.range(3).size() == 3 && self.name.lowerAscii() == 'a'",
        "quantity('1Gi').isGreaterThan(quantity('1Mi')) && isURL(self.name) && url(self.name).getHost() == 'a'",
        "int(self.name) == self.min && string(self.min) == self.name && double(self.min) == self.ratio",
        "self.metadata.name.startsWith('a') && self.kind == 'K'",
    ] {
        check_types(rule, "");
    }
}

#[test]
fn rules_that_cannot_fit_are_refused_when_they_are_written() {
    let no = |function: &str, on: &str| {
        format!("compilation failed: found no matching overload for '{function}' applied to '{on}'")
    };
    check_types("self.min > 'a'", &no("_>_", "(int, string)"));
    check_types("self.name == 1", &no("_==_", "(string, int)"));
    check_types("self.ratio == 1", &no("_==_", "(double, int)"));
    check_types("self.min && true", &no("_&&_", "(int, bool)"));
    check_types("!self.name", &no("!_", "(string)"));
    check_types("self.name + 1 == 'a1'", &no("_+_", "(string, int)"));
    check_types("self.min.startsWith('a')", &no("startsWith", "int.(string)"));
    check_types("size(self.min) > 1", &no("size", "(int)"));
    check_types("self.list.all(x, x == 'a')", &no("_==_", "(int, string)"));
    check_types("self.labels.all(k, self.labels[k] > 1)", &no("_>_", "(string, int)"));
    check_types("'a' in self.list", &no("@in", "(string, list(int))"));
    check_types("self.list['a'] == 1", &no("_[_]", "(list(int), string)"));
    check_types("self.since > self.wait", &no("_>_", "(google.protobuf.Timestamp, google.protobuf.Duration)"));
    check_types("true ? self.min : self.name", &no("_?_:_", "(bool, int, string)"));
    check_types("self.min.a == 1", "compilation failed: type 'int' does not support field selection");
    check_types(
        "self.obj.all(k, true)",
        "compilation failed: expression of type 'object' cannot be range of a comprehension (must be list, map, or dynamic)",
    );
    check_types("self.min + 1", "cel expression must evaluate to a bool");
    let schema = Schema::compile(&schema());
    assert!(check::message("'a' + self.name", scope(&schema)).is_ok());
    let expected = Err("messageExpression must evaluate to a string".to_owned());
    assert_eq!(check::message("self.min", scope(&schema)), expected);
}

/// Upstream's interpreter shares what this one copies, and pays for no byte of it.
#[test]
fn rules_that_would_fill_the_memory_end() {
    // Each loop doubles what the one around it has.
    let doubled = |twice: &dyn Fn(&str) -> String| {
        let inner = (0..40).rev().fold("a40.size() > 0".to_owned(), |inner, n| {
            format!("[{}].all(a{}, {inner})", twice(&format!("a{n}")), n + 1)
        });
        format!("[self.list].all(a0, {inner})")
    };
    let optional = (0..7).rev().fold("o7.size() > 0".to_owned(), |inner, n| {
        format!(
            "optional.of([o{n}, o{n}, o{n}, o{n}, o{n}, o{n}, o{n}, o{n}]).optMap(o{}, {inner}).orValue(true)",
            n + 1
        )
    });
    for rule in [
        "lists.range(9000000000000).size() > 0".to_owned(),
        doubled(&|a| format!("[{a}, {a}]")),
        doubled(&|a| format!("{a} + {a}")),
        doubled(&|a| format!("{{'x': {a}, 'y': {a}}}")),
        format!("[self.list].all(o0, {optional})"),
        "self.name.replace('a', self.name).size() > 0".to_owned(),
        "self.list.map(x, 'a').join(self.name).size() > 0".to_owned(),
        "self.list.map(x, self.list.map(y, self.name)).size() > 0".to_owned(),
        "self.list.transformMap(i, x, self.list.map(y, self.name)).size() > 0".to_owned(),
    ] {
        let value = json!({ "list": (0..500).collect::<Vec<_>>(), "name": "a".repeat(1 << 20) });
        let found = errors(&json!([{ "rule": rule, "message": "m" }]), &value, None);
        assert!(found[0].contains("actual cost limit exceeded"), "{rule}: {found:?}");
    }
}

/// Neither what a loop gathers nor what it looks at is copied in each of its turns: time does not end it.
#[test]
fn loops_over_long_lists_end() {
    let list = json!({ "list": (0..5_000).collect::<Vec<_>>() });
    for rule in ["self.list.all(i, x, self.list[i] == x)", "self.list.all(x, self.list.size() > x)"] {
        holds(rule, list.clone(), true);
    }
    holds(
        "self.list.map(x, x + 1).filter(x, x > 5).size() == 9995",
        json!({ "list": (0..10_000).collect::<Vec<_>>() }),
        true,
    );
}

#[test]
fn rules_that_would_run_for_ever_end() {
    let list: Vec<i64> = (0..2_000).collect();
    let schema = {
        let mut raw = schema();
        let rule = "self.list.all(a, self.list.all(b, self.list.all(c, self.list.all(d, a + b + c + d >= 0))))";
        raw["x-kubernetes-validations"] = json!([{ "rule": rule, "message": "m" }, { "rule": "true" }]);
        Schema::compile(&raw)
    };
    let budget = Budget::new();
    let found = check(&json!({ "list": list }), None, &schema, &budget);
    let expected = "<nil>: Invalid value: \"object\": 'operation cancelled: actual cost limit exceeded': no further validation rules will be run due to call cost exceeds limit for rule: m";
    assert_eq!(found.iter().map(ToString::to_string).collect::<Vec<_>>(), [expected]);
    let budget = Budget::of(1_000, std::time::Duration::from_secs(60));
    let found = check(&json!({ "list": list }), None, &schema, &budget);
    let expected = "<nil>: Invalid value: \"object\": validation failed due to running out of cost budget, no further validation rules will be run";
    assert_eq!(found.iter().map(ToString::to_string).collect::<Vec<_>>(), [expected]);
    // Time ends what units do not measure.
    let budget = Budget::of(u64::MAX, std::time::Duration::ZERO);
    assert_eq!(check(&json!({ "list": list }), None, &schema, &budget).len(), 1);
}
