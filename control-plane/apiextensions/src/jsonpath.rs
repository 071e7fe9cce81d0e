//! The JSON paths of printer columns, scale and selectable fields: client-go's dialect, as far as values are selected.

use std::cell::Cell;

use serde_json::Value;

/// How deep filters may lie in filters; each is read by a call in the other's.
const FILTERS_DEPTH_MAX: usize = 16;
/// How many values one path may look at: more than the largest object has (1.5 MiB), and an end to what `..` and filters make of each other's.
const VALUES_MAX: usize = 1 << 20;

#[derive(Clone, PartialEq, Debug)]
enum Step {
    Field(String),
    Index(i64),
    /// Every item or member.
    All,
    /// This value and everything below it.
    Below,
    Filter(Vec<Step>, Compare, Value),
    Exists(Vec<Step>),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Compare {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// A parsed path.
#[derive(Clone, PartialEq, Debug)]
pub struct JsonPath(Vec<Step>);

impl JsonPath {
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let inner = text.strip_prefix('{').and_then(|t| t.strip_suffix('}')).unwrap_or(text);
        steps(inner.trim_start_matches('$'), 0).map(Self)
    }

    /// The first value that the path selects; none if it has to look at more than [`VALUES_MAX`] for it.
    pub fn first<'a>(&self, value: &'a Value) -> Option<&'a Value> {
        select(value, &self.0, &Budget(Cell::new(VALUES_MAX))).into_iter().next()
    }

    /// The names of a path that only goes down by name.
    pub fn names(&self) -> Option<Vec<&str>> {
        let name = |step: &'_ Step| matches!(step, Step::Field(_));
        self.0.iter().all(name).then(|| {
            self.0
                .iter()
                .filter_map(|step| if let Step::Field(name) = step { Some(name.as_str()) } else { None })
                .collect()
        })
    }

    /// Writes a value where a path of names leads to.
    pub fn set(&self, target: &mut Value, value: Value) {
        let Some(names) = self.names() else { return };
        let Some((last, parents)) = names.split_last() else { return };
        let parents = parents.join(".");
        xebec_registry::value::object_mut(target, &parents).insert((*last).to_owned(), value);
    }
}

/// `depth`: how many filters the text lies in.
fn steps(text: &str, depth: usize) -> Result<Vec<Step>, String> {
    let mut found = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        rest = if let Some(after) = rest.strip_prefix("..") {
            found.push(Step::Below);
            if after.starts_with('[') { after } else { name(after, &mut found)? }
        } else if let Some(after) = rest.strip_prefix('[') {
            let end = closing(after).ok_or_else(|| "unterminated array".to_owned())?;
            found.push(bracket(&after[..end], depth)?);
            &after[end + 1..]
        } else if let Some(after) = rest.strip_prefix('.') {
            if after.starts_with('[') || (after.is_empty() && found.is_empty()) {
                after
            } else {
                name(after, &mut found)?
            }
        } else {
            name(rest, &mut found)?
        };
    }
    Ok(found)
}

/// A name up to the next delimiter; a backslash takes the next character as it is.
fn name<'a>(text: &'a str, found: &mut Vec<Step>) -> Result<&'a str, String> {
    let mut taken = String::new();
    let mut chars = text.char_indices();
    let mut end = text.len();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => taken.extend(chars.next().map(|(_, c)| c)),
            '.' | '[' => {
                end = at;
                break;
            }
            c if c.is_whitespace() || "{}()'\"".contains(c) => {
                return Err(format!("unrecognized character in action: U+{:04X} '{c}'", u32::from(c)));
            }
            c => taken.push(c),
        }
    }
    match taken.as_str() {
        "" => return Err("unrecognized character in action: empty name".into()),
        "*" => found.push(Step::All),
        _ => found.push(Step::Field(taken)),
    }
    Ok(&text[end..])
}

/// Where the bracket closes, quotes and inner brackets apart.
fn closing(text: &str) -> Option<usize> {
    let (mut depth, mut quote) = (0, None);
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, '[') => depth += 1,
            (None, ']') if depth == 0 => return Some(at),
            (None, ']') => depth -= 1,
            _ => {}
        }
    }
    None
}

fn bracket(text: &str, depth: usize) -> Result<Step, String> {
    let text = text.trim();
    if let Some(filter) = text.strip_prefix("?(").and_then(|t| t.strip_suffix(')')) {
        return filter_of(filter, depth + 1);
    }
    if text == "*" {
        return Ok(Step::All);
    }
    if let Some(quoted) = unquote(text) {
        return Ok(Step::Field(quoted));
    }
    text.parse().map(Step::Index).map_err(|_| format!("invalid array index {text}"))
}

fn unquote(text: &str) -> Option<String> {
    let quote = text.chars().next().filter(|c| *c == '\'' || *c == '"')?;
    let inner = text.strip_prefix(quote)?.strip_suffix(quote)?;
    Some(inner.replace("\\'", "'").replace("\\\"", "\"").replace("\\\\", "\\"))
}

fn filter_of(text: &str, depth: usize) -> Result<Step, String> {
    if depth > FILTERS_DEPTH_MAX {
        return Err(format!("filters may lie in each other {FILTERS_DEPTH_MAX} deep"));
    }
    const OPERATORS: [(&str, Compare); 6] = [
        ("==", Compare::Equal),
        ("!=", Compare::NotEqual),
        ("<=", Compare::LessOrEqual),
        (">=", Compare::GreaterOrEqual),
        ("<", Compare::Less),
        (">", Compare::Greater),
    ];
    let path = |text: &str| steps(text.trim().strip_prefix('@').ok_or("a filter must start with @")?, depth);
    let found = OPERATORS.iter().filter_map(|(sign, compare)| text.find(sign).map(|at| (at, sign, *compare)));
    let Some((at, sign, compare)) = found.min_by_key(|(at, sign, _)| (*at, std::cmp::Reverse(sign.len()))) else {
        return path(text).map(Step::Exists);
    };
    let literal = text[at + sign.len()..].trim();
    let value = match unquote(literal) {
        Some(text) => text.into(),
        None => serde_json::from_str(literal).map_err(|_| format!("unrecognized literal {literal} in filter"))?,
    };
    Ok(Step::Filter(path(&text[..at])?, compare, value))
}

/// How many more values may be looked at.
struct Budget(Cell<usize>);

impl Budget {
    /// Whether there was one left.
    fn spend(&self) -> bool {
        let left = self.0.get();
        self.0.set(left.saturating_sub(1));
        left > 0
    }
}

fn select<'a>(value: &'a Value, steps: &[Step], budget: &Budget) -> Vec<&'a Value> {
    let mut at = vec![value];
    for step in steps {
        at = at.into_iter().flat_map(|value| apply(value, step, budget)).take_while(|_| budget.spend()).collect();
    }
    at
}

fn below(value: &Value) -> Vec<&Value> {
    let mut all = vec![value];
    all.extend(everything(value).into_iter().flat_map(below));
    all
}

fn everything(value: &Value) -> Vec<&Value> {
    match value {
        Value::Object(map) => map.values().collect(),
        Value::Array(items) => items.iter().collect(),
        _ => Vec::new(),
    }
}

fn apply<'a>(value: &'a Value, step: &Step, budget: &Budget) -> Vec<&'a Value> {
    match step {
        Step::Field(name) => value.get(name.as_str()).into_iter().collect(),
        Step::Index(index) => {
            let Some(items) = value.as_array() else { return Vec::new() };
            let length = i64::try_from(items.len()).unwrap_or(i64::MAX);
            let index = if *index < 0 { index + length } else { *index };
            usize::try_from(index).ok().and_then(|index| items.get(index)).into_iter().collect()
        }
        Step::All => everything(value),
        Step::Below => below(value),
        Step::Filter(path, compare, wanted) => {
            let found =
                |item: &Value| select(item, path, budget).first().is_some_and(|found| holds(found, *compare, wanted));
            everything(value).into_iter().filter(|item| budget.spend() && found(item)).collect()
        }
        Step::Exists(path) => {
            let exists = |item: &Value| !select(item, path, budget).is_empty();
            everything(value).into_iter().filter(|item| budget.spend() && exists(item)).collect()
        }
    }
}

fn holds(found: &Value, compare: Compare, wanted: &Value) -> bool {
    use std::cmp::Ordering;
    let order = match (found, wanted) {
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        (Value::Number(a), Value::Number(b)) => a.as_f64().partial_cmp(&b.as_f64()),
        (a, b) => (a == b).then_some(Ordering::Equal),
    };
    match compare {
        Compare::Equal => order == Some(Ordering::Equal),
        Compare::NotEqual => order != Some(Ordering::Equal),
        Compare::Less => order == Some(Ordering::Less),
        Compare::LessOrEqual => order.is_some_and(Ordering::is_le),
        Compare::Greater => order == Some(Ordering::Greater),
        Compare::GreaterOrEqual => order.is_some_and(Ordering::is_ge),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(path: &str, expected: Value) {
        let object = json!({
            "spec": { "a": 1, "b.c": "dotted", "list": [10, 20, 30] },
            "status": { "conditions": [
                { "type": "Ready", "status": "True", "n": 1 }, { "type": "Synced", "status": "False", "n": 2 },
            ]},
        });
        let found = JsonPath::parse(path).unwrap().first(&object).cloned().unwrap_or(Value::Null);
        assert_eq!(found, expected, "{path}");
    }

    #[test]
    fn paths_select() {
        check(".spec.a", json!(1));
        check("{.spec.a}", json!(1));
        check("$.spec.a", json!(1));
        check(".spec['b.c']", json!("dotted"));
        check(".spec.b\\.c", json!("dotted"));
        check(".spec.list[1]", json!(20));
        check(".spec.list[-1]", json!(30));
        check(".spec.list[*]", json!(10));
        check(".spec.missing.x", Value::Null);
        check(".status.conditions[?(@.type==\"Synced\")].status", json!("False"));
        check(".status.conditions[?(@.type=='Ready')].status", json!("True"));
        check(".status.conditions[?(@.n>=2)].type", json!("Synced"));
        check(".status.conditions[?(@.none)].type", Value::Null);
        check("..type", json!("Ready"));
    }

    #[test]
    fn broken_paths_are_refused() {
        for path in [".a[", ".a[x]", ".a b", ".a[?(b==1)]", ".a..", "."] {
            assert!(JsonPath::parse(path).is_err() || path == ".", "{path}");
        }
    }

    #[test]
    fn filters_lie_in_each_other_so_deep_only() {
        let path = |depth: usize| JsonPath::parse(&[".a", &"[?(@".repeat(depth), ".x", &")]".repeat(depth)].concat());
        assert!(path(FILTERS_DEPTH_MAX).is_ok());
        for depth in [FILTERS_DEPTH_MAX + 1, 100_000] {
            assert_eq!(path(depth), Err("filters may lie in each other 16 deep".to_owned()), "{depth}");
        }
    }

    #[test]
    fn a_path_that_looks_at_too_much_finds_nothing() {
        let deep = (0..60).fold(json!(1), |value, _| json!({ "a": value }));
        let first = |path: &str| JsonPath::parse(path).unwrap().first(&deep).cloned();
        assert!(first("..a").is_some());
        // Some 60 to the power of each number, less what lies above.
        let below = |steps: usize| first(&"..*".repeat(steps));
        assert_eq!((below(2).is_some(), below(5)), (true, None));
        let filters = |depth: usize| {
            let path = (0..depth).fold("@.a".to_owned(), |path, _| format!("@..[?({path})]"));
            first(path.trim_start_matches('@'))
        };
        assert_eq!((filters(2).is_some(), filters(5)), (true, None));
    }

    #[test]
    fn a_path_of_names_is_written() {
        let mut object = json!({"spec": {"x": 1}});
        JsonPath::parse(".spec.scale.replicas").unwrap().set(&mut object, json!(3));
        assert_eq!(object, json!({"spec": {"x": 1, "scale": {"replicas": 3}}}));
    }
}
