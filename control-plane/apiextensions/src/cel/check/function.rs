//! What operators and functions make of types.

use kube_cel::cel::common::ast::operators;

use super::Ty;
use crate::cel::lists::SORT_BY_KEYS;
use crate::cel::macros::MAP_INSERT;

/// Functions and methods by their names: those of CEL, and those of the libraries that upstream's environment has
/// (`apiserver/pkg/cel/environment/base.go` of Kubernetes 1.36).
const DECLARED: [&str; 126] = [
    "add",
    "all",
    "asApproximateFloat",
    "asInteger",
    "bool",
    "bytes",
    "charAt",
    "cidr",
    "compareTo",
    "contains",
    "containsCIDR",
    "containsIP",
    "distinct",
    "double",
    "duration",
    "dyn",
    "endsWith",
    "exists",
    "existsOne",
    "family",
    "find",
    "findAll",
    "first",
    "flatten",
    "format",
    "format.byte",
    "format.date",
    "format.datetime",
    "format.dns1035Label",
    "format.dns1035LabelPrefix",
    "format.dns1123Label",
    "format.dns1123LabelPrefix",
    "format.dns1123Subdomain",
    "format.dns1123SubdomainPrefix",
    "format.labelValue",
    "format.named",
    "format.qualifiedName",
    "format.uri",
    "format.uuid",
    "getDate",
    "getDayOfMonth",
    "getDayOfWeek",
    "getDayOfYear",
    "getEscapedPath",
    "getFullYear",
    "getHost",
    "getHostname",
    "getHours",
    "getMilliseconds",
    "getMinutes",
    "getMonth",
    "getPort",
    "getQuery",
    "getScheme",
    "getSeconds",
    "hasValue",
    "indexOf",
    "int",
    "ip",
    "ip.isCanonical",
    "isCIDR",
    "isGlobalUnicast",
    "isGreaterThan",
    "isIP",
    "isInteger",
    "isLessThan",
    "isLinkLocalMulticast",
    "isLinkLocalUnicast",
    "isLoopback",
    "isQuantity",
    "isSemver",
    "isSorted",
    "isURL",
    "isUnspecified",
    "join",
    "last",
    "lastIndexOf",
    "lists.range",
    "lowerAscii",
    "major",
    "masked",
    "matches",
    "max",
    "min",
    "minor",
    "optFlatMap",
    "optMap",
    "optional.none",
    "optional.of",
    "optional.ofNonZeroValue",
    "optional.unwrap",
    "or",
    "orValue",
    "patch",
    "prefixLength",
    "quantity",
    "replace",
    "reverse",
    "semver",
    "sets.contains",
    "sets.equivalent",
    "sets.intersects",
    "sign",
    "size",
    "slice",
    "sort",
    "sortBy",
    "split",
    "startsWith",
    "string",
    "strings.quote",
    "sub",
    "substring",
    "sum",
    "timestamp",
    "transformList",
    "transformMap",
    "transformMapEntry",
    "trim",
    "type",
    "uint",
    "unwrapOpt",
    "upperAscii",
    "url",
    "validate",
    "value",
];

/// `comparableTypes` of cel-go's `ext/lists.go`.
const ORDERED: [Ty<'static>; 8] =
    [Ty::Int, Ty::Uint, Ty::Double, Ty::Bool, Ty::Duration, Ty::Timestamp, Ty::String, Ty::Bytes];

/// Whether there is a function of this name; operators have names that nobody can write.
pub fn is_declared(name: &str) -> bool {
    !name.starts_with(|first: char| first.is_ascii_alphabetic()) || DECLARED.contains(&name)
}

/// What a function makes of these types; None if it has no such overload. A method's target comes first.
pub fn result<'a>(name: &str, types: &[Ty<'a>], is_method: bool) -> Option<Ty<'a>> {
    let all = |allowed: &[Ty<'a>]| types.iter().all(|ty| ty.is_any_of(allowed));
    match (name, types) {
        (
            operators::LOGICAL_AND | operators::LOGICAL_OR | operators::LOGICAL_NOT | operators::NOT_STRICTLY_FALSE,
            _,
        ) => all(&[Ty::Bool]).then_some(Ty::Bool),
        (operators::EQUALS | operators::NOT_EQUALS, [a, b]) => a.agrees(b).then_some(Ty::Bool),
        (operators::LESS | operators::LESS_EQUALS | operators::GREATER | operators::GREATER_EQUALS, [a, b]) => {
            let ordered = [Ty::Bool, Ty::String, Ty::Bytes, Ty::Duration, Ty::Timestamp];
            let numbers = all(&[Ty::Int, Ty::Uint, Ty::Double]);
            (numbers || (all(&ordered) && a.agrees(b))).then_some(Ty::Bool)
        }
        (operators::ADD, [a, b]) => add(a, b),
        (operators::SUBSTRACT, [a, b]) => subtract(a, b),
        (operators::MULTIPLY | operators::DIVIDE, [a, b]) => arithmetic(a, b),
        (operators::MODULO, [a, b]) => arithmetic(a, b).filter(|ty| !matches!(ty, Ty::Double)),
        (operators::NEGATE, [a]) => a.is_any_of(&[Ty::Int, Ty::Double]).then(|| a.clone()),
        (operators::CONDITIONAL, [condition, a, b]) => {
            let fits = condition.is_any_of(&[Ty::Bool]) && a.agrees(b);
            fits.then(|| Ty::common(vec![a.clone(), b.clone()]))
        }
        (operators::INDEX, [Ty::List(item), index]) => {
            index.is_any_of(&[Ty::Int, Ty::Uint, Ty::Double]).then(|| (**item).clone())
        }
        (operators::INDEX, [Ty::Map(value), _]) => Some((**value).clone()),
        (operators::INDEX, [Ty::Dyn | Ty::Free | Ty::Object(_), _]) => Some(Ty::Dyn),
        (operators::INDEX | operators::OPT_INDEX, [Ty::Optional(of), index]) => {
            let found = result(operators::INDEX, &[(**of).clone(), index.clone()], false)?;
            Some(found.optional())
        }
        (operators::OPT_INDEX, _) => Some(result(operators::INDEX, types, false)?.optional()),
        (operators::INDEX, _) => None,
        (operators::IN, [item, Ty::List(items)]) => item.agrees(items).then_some(Ty::Bool),
        (operators::IN, [_, Ty::Map(_) | Ty::Dyn | Ty::Free]) => Some(Ty::Bool),
        (operators::IN, _) => None,
        ("size", [a]) => {
            let sized = matches!(a, Ty::String | Ty::Bytes | Ty::List(_) | Ty::Map(_) | Ty::Dyn | Ty::Free);
            sized.then_some(Ty::Int)
        }
        ("startsWith" | "endsWith" | "contains" | "matches", [_, _]) if is_method => {
            all(&[Ty::String]).then_some(Ty::Bool)
        }
        ("orValue", [Ty::Optional(value), other]) => {
            value.agrees(other).then(|| Ty::common(vec![(**value).clone(), other.clone()]))
        }
        ("or", [a @ Ty::Optional(_), b @ Ty::Optional(_)]) => {
            a.agrees(b).then(|| Ty::common(vec![a.clone(), b.clone()]))
        }
        ("slice" | "reverse" | "distinct" | "sort" | "flatten" | SORT_BY_KEYS, [list, ..]) if is_method => {
            lists(name, list, types)
        }
        ("lists.range", [count]) => count.is_any_of(&[Ty::Int]).then(|| Ty::List(Box::new(Ty::Int))),
        ("value", [Ty::Optional(value)]) => Some((**value).clone()),
        ("hasValue", [Ty::Optional(_)]) => Some(Ty::Bool),
        ("orValue" | "or" | "value" | "hasValue", [target, ..]) if is_method && !target.is_dyn() => None,
        _ => Some(library(name, types, is_method)),
    }
}

/// Lists that are made of one.
fn lists<'a>(name: &str, list: &Ty<'a>, types: &[Ty<'a>]) -> Option<Ty<'a>> {
    let Ty::List(item) = list else { return list.is_dyn().then_some(Ty::Dyn) };
    let is_ordered = |ty: &Ty<'a>| match ty {
        Ty::List(item) => item.is_any_of(&ORDERED),
        ty => ty.is_dyn(),
    };
    match (name, types) {
        ("flatten", [_]) => match &**item {
            Ty::List(_) => Some((**item).clone()),
            item if item.is_dyn() => Some(Ty::List(Box::new(Ty::Dyn))),
            _ => None,
        },
        ("flatten", [_, levels]) => levels.is_any_of(&[Ty::Int]).then(|| Ty::List(Box::new(Ty::Dyn))),
        ("slice", [_, start, end]) => {
            [start, end].iter().all(|index| index.is_any_of(&[Ty::Int])).then(|| list.clone())
        }
        ("sort", [_]) => is_ordered(list).then(|| list.clone()),
        (SORT_BY_KEYS, [_, keys]) => is_ordered(keys).then(|| list.clone()),
        ("reverse" | "distinct", [_]) => Some(list.clone()),
        _ => None,
    }
}

/// The types that functions of libraries make, as far as something depends on them.
fn library<'a>(name: &str, types: &[Ty<'a>], is_method: bool) -> Ty<'a> {
    match (name, is_method, types) {
        ("duration", false, _) => Ty::Duration,
        ("timestamp", false, _) => Ty::Timestamp,
        ("string", false, _) => Ty::String,
        ("bytes", false, _) => Ty::Bytes,
        ("int", false, _) => Ty::Int,
        ("uint", false, _) => Ty::Uint,
        ("double", false, _) => Ty::Double,
        ("bool", false, _) => Ty::Bool,
        ("dyn", false, _) => Ty::Dyn,
        ("optional.of" | "optional.ofNonZeroValue", _, [value]) => Ty::Optional(Box::new(value.clone())),
        ("optional.none", _, []) => Ty::Optional(Box::new(Ty::Free)),
        ("first" | "last", true, [Ty::List(item)]) => Ty::Optional(item.clone()),
        ("optional.unwrap" | "unwrapOpt", _, [Ty::List(item)]) => match &**item {
            Ty::Optional(item) => Ty::List(item.clone()),
            _ => Ty::List(Box::new(Ty::Dyn)),
        },
        (MAP_INSERT, _, [Ty::Map(values), _, value]) => {
            Ty::Map(Box::new(Ty::common(vec![(**values).clone(), value.clone()])))
        }
        (MAP_INSERT, _, [Ty::Map(values), Ty::Map(more)]) => {
            Ty::Map(Box::new(Ty::common(vec![(**values).clone(), (**more).clone()])))
        }
        ("quantity", false, _) => Ty::Opaque("kubernetes.Quantity"),
        ("semver", false, _) => Ty::Opaque("kubernetes.Semver"),
        ("url", false, _) => Ty::Opaque("net.url"),
        ("ip", ..) => Ty::Opaque("net.IP"),
        ("cidr", false, _) | ("masked", true, _) => Ty::Opaque("net.CIDR"),
        ("add" | "sub", true, [Ty::Opaque(name), ..]) => Ty::Opaque(name),
        ("sum" | "min" | "max", true, [Ty::List(item)]) => (**item).clone(),
        (
            "isSorted"
            | "isQuantity"
            | "isInteger"
            | "isGreaterThan"
            | "isLessThan"
            | "isIP"
            | "isCIDR"
            | "isURL"
            | "isSemver"
            | "isUnspecified"
            | "isLoopback"
            | "isLinkLocalMulticast"
            | "isLinkLocalUnicast"
            | "isGlobalUnicast"
            | "containsIP"
            | "containsCIDR"
            | "ip.isCanonical"
            | "sets.contains"
            | "sets.intersects"
            | "sets.equivalent",
            ..,
        ) => Ty::Bool,
        (
            "indexOf" | "lastIndexOf" | "compareTo" | "sign" | "asInteger" | "family" | "prefixLength" | "major"
            | "minor" | "patch" | "getFullYear" | "getMonth" | "getDate" | "getDayOfMonth" | "getDayOfWeek"
            | "getDayOfYear" | "getHours" | "getMinutes" | "getSeconds" | "getMilliseconds",
            true,
            _,
        ) => Ty::Int,
        ("asApproximateFloat", true, _) => Ty::Double,
        (
            "charAt" | "find" | "format" | "getEscapedPath" | "getHost" | "getHostname" | "getPort" | "getScheme"
            | "join" | "lowerAscii" | "replace" | "substring" | "trim" | "upperAscii",
            true,
            _,
        )
        | ("strings.quote", ..) => Ty::String,
        ("findAll" | "split", true, _) => Ty::List(Box::new(Ty::String)),
        ("getQuery", true, _) => Ty::Map(Box::new(Ty::List(Box::new(Ty::String)))),
        _ => Ty::Dyn,
    }
}

fn arithmetic<'a>(a: &Ty<'a>, b: &Ty<'a>) -> Option<Ty<'a>> {
    let numbers = [a, b].iter().all(|ty| ty.is_dyn() || ty.is_number());
    (numbers && a.agrees(b)).then(|| Ty::common(vec![a.clone(), b.clone()]))
}

fn add<'a>(a: &Ty<'a>, b: &Ty<'a>) -> Option<Ty<'a>> {
    match (a, b) {
        (Ty::Dyn | Ty::Free, _) | (_, Ty::Dyn | Ty::Free) => Some(Ty::Dyn),
        (Ty::String, Ty::String) => Some(Ty::String),
        (Ty::Bytes, Ty::Bytes) => Some(Ty::Bytes),
        (Ty::Duration, Ty::Duration) => Some(Ty::Duration),
        (Ty::Timestamp, Ty::Duration) | (Ty::Duration, Ty::Timestamp) => Some(Ty::Timestamp),
        (Ty::List(x), Ty::List(y)) => x.agrees(y).then(|| Ty::common(vec![a.clone(), b.clone()])),
        _ => arithmetic(a, b),
    }
}

fn subtract<'a>(a: &Ty<'a>, b: &Ty<'a>) -> Option<Ty<'a>> {
    match (a, b) {
        (Ty::Timestamp, Ty::Timestamp) | (Ty::Duration, Ty::Duration) => Some(Ty::Duration),
        (Ty::Timestamp, Ty::Duration) => Some(Ty::Timestamp),
        (Ty::Dyn | Ty::Free, _) | (_, Ty::Dyn | Ty::Free) => Some(Ty::Dyn),
        _ => arithmetic(a, b),
    }
}
