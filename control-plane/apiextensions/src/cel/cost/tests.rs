use serde_json::{Value, json};

use crate::cel::check::{self, Scope};
use crate::cel::{Budget, check as validate};
use crate::schema::Schema;

/// What a rule over values of a schema costs at most.
#[track_caller]
fn costs(raw: &Value, rule: &str, expected: u64) {
    let schema = Schema::compile(raw);
    let scope = Scope { schema: &schema, is_root: false, optional_old_self: false };
    assert_eq!(check::rule(rule, scope), Ok(expected), "{rule} over {raw}");
}

fn list(item: &str) -> Value {
    json!({ "type": "array", "items": ty(item) })
}

fn map(value: &str) -> Value {
    json!({ "type": "object", "additionalProperties": ty(value) })
}

fn ty(name: &str) -> Value {
    match name {
        "date" | "date-time" | "duration" | "byte" => json!({ "type": "string", "format": name }),
        "int-or-string" => json!({ "x-kubernetes-int-or-string": true }),
        name => json!({ "type": name }),
    }
}

/// With a limit of its length, its items or its properties.
fn limited(mut raw: Value, limit: u64) -> Value {
    let field = match (raw["type"].as_str(), raw.get("additionalProperties")) {
        (Some("array"), _) => "maxItems",
        (Some("object"), Some(_)) => "maxProperties",
        _ => "maxLength",
    };
    raw[field] = json!(limit);
    raw
}

/// Figures of `TestCostEstimation` (`apiextensions-apiserver/pkg/apiserver/schema/cel/compilation_test.go`).
#[test]
fn loops_cost_what_a_request_has_room_for() {
    for (item, unlimited) in [
        ("number", 4_718_591),
        ("string", 3_145_727),
        ("boolean", 1_887_437),
        ("int-or-string", 4_718_591),
        ("duration", 2_359_295),
        ("date", 725_936),
        ("date-time", 428_963),
    ] {
        costs(&list(item), "self.all(n, true)", unlimited);
        costs(&limited(list(item), 10), "self.all(n, true)", 32);
    }
    for (value, unlimited) in [
        ("number", 1_348_169),
        ("string", 1_179_647),
        ("boolean", 943_718),
        ("int-or-string", 1_348_169),
        ("duration", 1_048_577),
        ("date", 524_288),
        ("date-time", 349_526),
    ] {
        costs(&map(value), "self.all(n, true)", unlimited);
        costs(&limited(map(value), 10), "self.all(n, true)", 32);
    }
    costs(&limited(list("number"), 10), "self.all(a, self.all(b, true))", 352);
    costs(&limited(list("number"), 10), "self.all(a, self.all(b, self.all(c, true)))", 3_552);
    costs(&limited(list("number"), 3 * 1024 * 2048), "self.all(n, n == 0.0)", 25_165_826);
    costs(&list("number"), "self.all(n, n == 0.0)", 6_291_454);
    let nested = json!({ "type": "array", "items": list("number") });
    costs(&nested, "self.all(n, true)", 3_145_727);
    costs(&nested, "self[0][0] == -1.0", 3);
    let maps = json!({ "type": "array", "items": map("number") });
    costs(&maps, "self.all(n, n.y == 25.2)", 6_291_452);
    costs(&maps, "self[0].x > 2.0", 4);
    let objects = json!({ "type": "object", "additionalProperties": {
        "type": "object", "required": ["required"], "properties": { "required": ty("string"), "optional": ty("string") },
    } });
    // 2 for the braces, 8 for the name, 2 for the string, 4 for quotes, colon and comma; 6 for the key.
    costs(&objects, "self.all(n, true)", 2 + 3 * (3_145_726 / 22));
}

/// Figures of `TestCostEstimation`.
#[test]
fn strings_cost_by_their_length() {
    let text = ty("string");
    costs(&text, "self.contains('home')", 314_574);
    costs(&limited(text.clone(), 10), "self.contains('home')", 5);
    costs(&text, "self.startsWith('home')", 2);
    costs(&text, "size(self + \"house\") > size(\"house\")", 314_578);
    costs(&limited(text.clone(), 4), "size(self + \"house\") > size(\"house\")", 7);
    costs(&list("string"), "self[1] == self[2]", 314_577);
    costs(&text, "self.matches(\"a\")", 314_574);
    costs(&limited(text.clone(), 50), "self.matches(\"a\")", 22);
    costs(&text, "\"\".matches(\"(((((((((())))))))))[0-9]\")", 7);
    costs(&text, "self.matches(\"\")", 1);
    costs(&limited(text.clone(), 0), "self == \"a\"", 1);
    costs(&limited(ty("byte"), 0), "self == b\"a\"", 1);
    costs(&text, "self.find('[0-9]+') == ''", 629_147);
    costs(&limited(text.clone(), 10), "self.find('[0-9]+') == ''", 11);
    costs(&text, "self.lowerAscii() == 'upper!'", 314_575);
    costs(&limited(text.clone(), 10), "self.lowerAscii() == 'upper!'", 6);
    let kinds = json!({ "type": "string", "enum": ["X", "Y", "LongValue"] });
    costs(&kinds, "self.contains('X')", 2);
    costs(&limited(kinds, 1000), "self.contains('X')", 401);
    costs(&list("string"), "self.join(' ') == 'aa bb'", 329_853_068_905);
    costs(&list("string"), "self.isSorted() == true", 329_854_432_052);
    let short = |count| limited(json!({ "type": "array", "items": limited(ty("string"), count) }), count);
    costs(&short(10), "self.join(' ') == 'aa bb'", 43);
    costs(&short(10), "self.isSorted() == true", 52);
    let replaced = |text: Value| {
        json!({ "type": "object", "properties": {
            "text": text, "old": limited(ty("string"), 2), "new": limited(ty("string"), 4),
        } })
    };
    costs(&replaced(ty("string")), "self.text.replace(self.old, self.new) == 'does not matter'", 629_154);
    costs(&replaced(limited(ty("string"), 4)), "self.text.replace(self.old, self.new) == 'does not matter'", 12);
    let split = json!({ "type": "object", "properties": { "text": ty("string"), "at": ty("string") } });
    costs(&split, "self.text.split(self.at) == []", 629_160);
}

/// Figures of `TestCelEstimatedCostStability` (`apiextensions-apiserver/pkg/apiserver/schema/cel/celcoststability_test.go`).
#[test]
fn operators_cost_as_upstream_says() {
    let raw = json!({ "type": "object", "properties": {
        "i": ty("integer"), "n": ty("number"), "t": ty("string"), "u": ty("string"), "b": ty("byte"), "o": ty("boolean"),
        "d": ty("duration"), "w": ty("date-time"), "x": ty("int-or-string"), "is": list("integer"), "ts": list("string"),
        "m": map("string"), "im": map("integer"), "deep": { "type": "object", "properties": { "a": ty("integer") } },
        "rows": { "type": "array", "items": { "type": "object", "properties": {
            "k": ty("string"), "v": ty("string"), "v2": ty("string") } } },
    } });
    let table = [
        ("self.i == self.i", 4),
        ("type(self.i) == int", 4),
        ("self.i + 1 == 5 + 1", 5),
        ("self.n == 1.0", 2),
        ("double(self.i) < self.n", 6),
        ("double(5) < 10.0", 2),
        ("self.t.startsWith('Rook')", 3),
        ("!self.t.startsWith('bishop')", 4),
        ("self.t.matches('^[^0-9]*$')", 943_721),
        ("size(self.t) == 12", 4),
        ("self.t.charAt(3) == 'k'", 4),
        ("self.t.indexOf('o') == 1", 314_576),
        ("self.t.replace(' ', 'x') == 'Rookxtakesx👑'", 629_150),
        ("self.t.split(' ') == ['Rook', 'takes', '👑']", 629_159),
        ("self.t.substring(5) == 'takes 👑'", 314_576),
        ("self.t.substring(4, 10).trim() == 'takes'", 629_149),
        ("self.t.lowerAscii() == self.t.lowerAscii()", 943_723),
        ("self.b == self.b", 314_577),
        ("self.b == b'AB'", 3),
        ("self.d == duration('1h2m') + duration('3s4ms')", 6),
        ("self.d.getHours() == 1", 4),
        ("type(self.d) == google.protobuf.Duration", 4),
        ("self.t in ['Pending', 'Available']", 14),
        ("int(self.n) == self.i", 5),
        ("bytes(self.t) == self.b", 629_150),
        ("string(self.i) == self.t", 314_578),
        ("string(self.b) == self.t", 629_150),
        ("timestamp(self.t) == self.w", 6),
        ("1 in self.is", 1_572_865),
        ("self.is + self.is == [1, 2, 3, 1, 2, 3]", 16),
        ("self.is + [4, 5] == [1, 2, 3, 4, 5]", 24),
        ("has(self.is) && has(self.ts)", 2),
        ("self.is.all(e, size(self.is) > 0)", 11_010_044),
        ("self.is.exists_one(e, self.is == [2])", 23_592_949),
        ("size(self.is.filter(e, size(self.is) > 1)) == 1", 26_738_686),
        ("self.ts == self.ts", 104_862),
        ("'a' in self.ts", 1_048_577),
        ("self.m == self.m", 39_326),
        ("'k1' in self.m", 3),
        ("self.m == {'k1': 'a', 'k2': 'b'}", 33),
        ("self.im.all(e, self.im[e] > 0)", 3_595_115),
        ("size(self.im.filter(e, self.im[e] > 1)) == 1", 8_089_017),
        ("has(self.deep.a)", 2),
        ("self.rows.all(r, r.k.startsWith('a'))", 6_291_453),
        ("self.rows.all(r, !has(r.v2) || r.v2 == 'z')", 8_388_603),
        ("self.rows.exists(r, r.k.endsWith('1'))", 7_340_028),
        ("self.rows.exists_one(r, r.k == 'a3')", 5_242_879),
        ("size(self.rows.filter(r, r.k == 'a1')) == 1", 16_777_215),
        ("self.rows.map(r, r.v).exists(e, e == 'b1')", 19_922_939),
        ("self.rows.filter(r, has(r.v2) && r.v2 == 'z').map(r, r.v2).size() == 1", 32_505_851),
        ("size(self.is.filter(e, e%2 == 0)) == 3", 25_165_823),
        ("self.is.map(e, e * 20).filter(e, e > 50).exists(e, e == 60)", 53_477_367),
        ("self.x == '25%'", 3),
        ("self.x != 'some string'", 4),
        ("self.x != ['anything']", 13),
        ("type(self.x) == int ? self.x == 1 : self.x == '25%'", 7),
        ("type(self.x) == string && self.x.matches(r'(\\d+(\\.\\d+)?%)')", 1_258_298),
        ("type(self) == type(self)", 1_844_674_407_370_955_268),
        // Global functions of libraries are not asked for the length of what they parse.
        ("quantity(self.t).isGreaterThan(quantity('1Mi'))", 5),
        ("quantity(self.t) == quantity(self.u)", 7),
        ("ip(self.t).family() == ip(self.u).family()", 9),
        // 20 for the lists, and one for each pair and the call.
        ("sets.contains([1], [1])", 22),
        ("sets.equivalent([1], [1])", 23),
    ];
    for (rule, expected) in table {
        costs(&raw, rule, expected);
    }
}

#[test]
fn every_resource_has_metadata() {
    let raw = json!({ "type": "object", "properties": { "metadata": { "type": "object" } } });
    let schema = Schema::compile(&raw);
    let check =
        |rule: &str, is_root: bool| check::rule(rule, Scope { schema: &schema, is_root, optional_old_self: false });
    assert_eq!(check("self.metadata.name == 'foo'", true), Ok(4));
    assert_eq!(check("self.kind == 'Pod'", true), Ok(3));
    assert!(check("self.metadata.labels == null", true).is_err());
    assert!(check("self.metadata.name == 'foo'", false).is_err());
}

/// What a rule costs when it runs: not more than was estimated.
#[track_caller]
fn runs(raw: &Value, rule: &str, object: &Value, expected: u64) {
    let mut raw = raw.clone();
    raw["x-kubernetes-validations"] = json!([{ "rule": rule }]);
    let schema = Schema::compile(&raw);
    let budget = Budget::new();
    let errors = validate(object, None, &schema, &budget);
    assert!(errors.is_empty(), "{rule}: {errors:?}");
    let spent = 10_000_000 - budget.left();
    assert_eq!(spent, expected, "{rule}");
    let scope = Scope { schema: &schema, is_root: true, optional_old_self: false };
    let estimate = check::rule(rule, scope).unwrap();
    // Upstream's estimate takes a scalar that the schema names to be nothing to compare, its counter to be one.
    let comparisons = rule.matches("==").count() as u64;
    assert!(spent <= estimate + comparisons, "{rule} costs {spent}, estimated as {estimate}");
}

/// Figures of `TestCelCostStability` where the values are those of upstream.
#[test]
fn rules_that_run_cost_what_the_table_says() {
    let raw = json!({ "type": "object", "properties": {
        "i": ty("integer"), "t": limited(ty("string"), 500), "u": limited(ty("string"), 500),
        "is": limited(list("integer"), 100), "m": limited(map("string"), 100), "x": ty("int-or-string"),
    } });
    let long = "a".repeat(100);
    let object = json!({ "i": 1, "t": long, "u": long, "is": [1, 2, 3], "m": { "a": "b" }, "x": 80 });
    let table = [
        ("self.i == 1", 3),
        ("self.t == self.u", 4 + 10),
        ("self.t.contains(self.u)", 4 + 100),
        ("self.t.startsWith('aaa')", 3),
        ("self.t.matches('^a+$')", 2 + 11),
        ("self.t + self.u != self.t", 6 + 20 + 10),
        ("2 in self.is", 2 + 3),
        ("'a' in self.m", 3),
        ("self.is.isSorted()", 2 + 3),
        ("self.t.lowerAscii() == self.t", 4 + 10 + 10),
        ("self.t.split('b').size() == 1", 2 + 20 + 1 + 1),
        ("has(self.i) && has(self.t)", 2),
        // Three turns of a condition of 2 and a step of 3; one look at the list and one at what was found.
        ("self.is.all(e, e > 0)", 3 + 3 * 5),
        // What is not reached costs nothing.
        ("self.i == 1 || self.t.contains(self.u)", 3),
        ("self.i == 1 ? true : self.t.contains(self.u)", 3),
        ("self.x == 80", 3),
        ("self.i + 1 == 2", 4),
    ];
    for (rule, expected) in table {
        runs(&raw, rule, &object, expected);
    }
}

/// As the expansions of cel-go cost: what is asked twice is paid twice.
#[test]
fn macros_cost_what_they_expand_to() {
    // has a value: 3; of the empty list 10, of the value 3, of the comparison 2, of `optional.of` 1; `orValue` 1.
    let rule = "optional.of(self).optMap(o, o > 1).orValue(true)";
    costs(&ty("integer"), rule, 20);
    costs(&ty("integer"), "optional.of(self).optFlatMap(o, optional.of(o > 1)).orValue(true)", 20);
    runs(&ty("integer"), rule, &json!(5), 20);
    // As with one variable, and one more is read.
    costs(&limited(list("integer"), 10), "self.all(v, v > 1)", 52);
    costs(&limited(list("integer"), 10), "self.all(i, v, v > 1)", 52);
    costs(&limited(list("integer"), 10), "self.all(i, v, v > i)", 62);
    runs(&limited(list("integer"), 10), "self.all(v, v > 0)", &json!([1, 2, 3]), 2 + 3 * 5);
    runs(&limited(list("integer"), 10), "self.all(i, v, v > i)", &json!([1, 2, 3]), 2 + 3 * 6);
}

/// `ext/lists.go`: a call and a list of 11, and each item so many times.
#[test]
fn lists_that_are_made_cost_their_items() {
    let numbers = limited(list("integer"), 10);
    let is_empty = "size() == 0";
    costs(&numbers, &format!("self.reverse().{is_empty}"), 3 + 11 + 10);
    costs(&numbers, &format!("self.sort().{is_empty}"), 3 + 11 + 200);
    costs(&limited(list("string"), 10), &format!("self.sort().{is_empty}"), 3 + 11 + 210);
    costs(&numbers, &format!("self.distinct().{is_empty}"), 3 + 11 + 200);
    costs(&numbers, &format!("self.slice(2, 5).{is_empty}"), 3 + 11 + 3);
    costs(&numbers, &format!("self.slice(2, self[0]).{is_empty}"), 3 + 2 + 11 + 8);
    costs(&numbers, &format!("lists.range(5).{is_empty}"), 2 + 11 + 5);
    let nested = limited(json!({ "type": "array", "items": list("integer") }), 10);
    costs(&nested, &format!("self.flatten().{is_empty}"), 3 + 11 + 10);
    costs(&nested, &format!("self.flatten(3).{is_empty}"), 3 + 11 + 30);
    // The list 1, two empty lists 20, a read of it for the loop and one for the call 2, what came of it 1; a turn costs 13.
    let sorted = 1 + 20 + 2 + 1 + 10 * 13 + 11;
    costs(&numbers, &format!("self.sortBy(x, x).{is_empty}"), sorted + 200 + 2);
    // What was sorted is taken to be as many as were compared.
    costs(&numbers, "self.sortBy(x, x).all(x, true)", sorted + 200 + 100 * 3 + 1);
    let three = json!([3, 1, 2]);
    for (rule, expected) in [
        ("self.reverse().size() == 3", 3 + 11 + 3),
        ("self.sort().size() == 3", 3 + 11 + 18),
        ("self.distinct().size() == 3", 3 + 11 + 18),
        ("self.slice(0, 2).size() == 2", 3 + 11 + 2),
        ("lists.range(3).size() == 3", 2 + 11 + 3),
        ("[self].flatten().size() == 3", 10 + 3 + 11 + 1),
        ("[[self]].flatten(2).size() == 3", 20 + 3 + 11 + 2),
        // The list 1, two empty lists 20, two more reads of it 2, its result 1; a turn costs 14; keys are compared 18.
        ("self.sortBy(x, x).size() == 3", 1 + 20 + 2 + 1 + 3 * 14 + 11 + 18 + 2),
    ] {
        runs(&numbers, rule, &three, expected);
    }
    runs(&limited(list("string"), 10), "self.sort().size() == 3", &json!(["c", "a", "b"]), 3 + 11 + 18);
}
