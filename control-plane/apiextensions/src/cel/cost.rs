//! What operations cost, in units of cel-go (`checker/cost.go`, `interpreter/runtimecost.go`) with the prices of Kubernetes (`apiserver/pkg/cel/library/cost.go`).
//!
//! One table serves the estimate that a definition is judged by ([`estimate`]) and the counter that ends a rule that runs
//! ([`super::meter`]): the first asks it with the largest sizes that a schema allows, the second with the sizes that there are.

pub mod estimate;
pub mod size;

use super::lists::SORT_BY_KEYS;

/// `common/cost.go` of cel-go.
pub const IDENT: u64 = 1;
pub const LIST: u64 = 10;
pub const MAP: u64 = 30;
const TRAVERSAL: f64 = 0.1;
const REGEX: f64 = 0.25;
/// `ext/lists.go`.
const COMPARED: f64 = 2.0;
/// `MaxNameFormatRegexSize`: nobody looks into the expression of a named format.
const FORMAT_REGEX: u64 = 128;

/// What is known of the type of an operand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Unknown,
    /// A string or bytes.
    Text,
    List,
    Map,
    Other,
}

/// How the cost of a call follows from the sizes of its operands, a method's target being the first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Charge {
    Free,
    One,
    /// Reads an operand so many times.
    Read(usize, u8),
    /// Reads the result.
    ReadResult,
    /// Parses a string. Upstream's estimate overlooks these functions, as it asks for a target that they do not have: it says one.
    Parse,
    /// One for each element.
    Elements(usize),
    /// One for each element, and what it takes to read it.
    ReadElements,
    Shorter,
    Both,
    Substring,
    Regex,
    Format,
    /// All of one with all of the other, so many times.
    Pairs(u8),
    /// Makes a list, and pays for the call and for each item: a part of a list.
    Slice,
    /// As many items as the operand says.
    Range,
    /// All of the first.
    Copy,
    /// All of the first, as often as the second says.
    Flatten,
    /// All of an operand, each compared with each.
    Compared(usize),
}

impl Charge {
    /// Whether the second operand counts.
    pub fn is_of_two(self) -> bool {
        matches!(
            self,
            Self::Read(1, _)
                | Self::Elements(1)
                | Self::Shorter
                | Self::Both
                | Self::Substring
                | Self::Regex
                | Self::Format
                | Self::Pairs(_)
                | Self::Flatten
                | Self::Compared(1)
        )
    }
}

/// The charges that a call may turn out to have: several where the types of operands are not known.
pub fn charges(name: &str, is_method: bool, kinds: &[Kind]) -> Vec<Charge> {
    use Charge::{Both, Elements, Format, Free, One, Pairs, Parse, Read, ReadElements, ReadResult, Regex, Shorter};
    let possibly = |index: usize, kind: Kind| kinds.get(index).is_some_and(|k| *k == kind || *k == Kind::Unknown);
    let certainly = |index: usize, kind: Kind| kinds.get(index) == Some(&kind);
    let either = |holds: bool, is_sure: bool, charge: Charge| match (holds, is_sure) {
        (true, true) => vec![charge],
        (true, false) => vec![One, charge],
        (false, _) => vec![One],
    };
    let texts = possibly(0, Kind::Text) && possibly(1, Kind::Text);
    let sure = certainly(0, Kind::Text) || certainly(1, Kind::Text);
    match (name, is_method, kinds.len()) {
        ("_&&_" | "_||_" | "_?_:_", ..) => vec![Free],
        ("_==_" | "_!=_", _, 2) => vec![Shorter],
        ("_<_" | "_<=_" | "_>_" | "_>=_", _, 2) => either(texts, sure, Shorter),
        ("_+_", _, 2) => either(texts, sure, Both),
        ("@in", _, 2) => either(possibly(1, Kind::List), certainly(1, Kind::List), Elements(1)),
        ("string" | "bytes", false, 1) => either(possibly(0, Kind::Text), false, Read(0, 1)),
        ("startsWith" | "endsWith", true, 2) => vec![Read(1, 1)],
        ("contains", true, 2) => vec![Charge::Substring],
        ("matches", true, 2) | ("find" | "findAll", true, _) => vec![Regex],
        ("isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf", true, _) => match kinds.first() {
            Some(Kind::List) => vec![ReadElements],
            Some(Kind::Unknown) => vec![Read(0, 1), ReadElements],
            _ => vec![Read(0, 1)],
        },
        ("url" | "strings.quote", false, 1) => vec![Read(0, 1)],
        ("lowerAscii" | "upperAscii" | "substring" | "trim" | "format", true, _) => vec![Read(0, 1)],
        ("replace" | "split", true, _) => vec![Read(0, 2)],
        ("join", true, _) => vec![ReadResult],
        ("quantity" | "isQuantity" | "semver" | "isSemver" | "cidr" | "isCIDR" | "ip" | "isIP", false, 1..)
        | ("ip.isCanonical", ..) => vec![Parse],
        ("containsIP" | "containsCIDR", true, 2) => vec![Read(1, 1), Charge::One],
        ("validate", true, 2) => vec![Format],
        ("sets.contains" | "sets.intersects", _, 2) => vec![Pairs(1)],
        ("sets.equivalent", _, 2) => vec![Pairs(2)],
        ("slice", true, _) => vec![Charge::Slice],
        ("lists.range", false, 1) => vec![Charge::Range],
        ("reverse", true, _) => vec![Charge::Copy],
        ("flatten", true, _) => vec![Charge::Flatten],
        ("distinct" | "sort", true, _) => vec![Charge::Compared(0)],
        (SORT_BY_KEYS, true, _) => vec![Charge::Compared(1)],
        _ => vec![One],
    }
}

/// The cost of reading something of this size.
pub fn read(size: u64, times: u8) -> u64 {
    factor(size, TRAVERSAL * f64::from(times))
}

/// The price of a call with operands of these sizes; those with elements or results have their own functions.
pub fn price(charge: Charge, sizes: &[u64]) -> u64 {
    let size = |index: usize| sizes.get(index).copied().unwrap_or(0);
    match charge {
        Charge::Free => 0,
        Charge::One => 1,
        Charge::Read(index, times) => read(size(index), times),
        Charge::ReadResult | Charge::Parse => read(size(0), 1),
        Charge::Elements(index) => size(index),
        Charge::ReadElements => size(0),
        Charge::Shorter => read(size(0).min(size(1)), 1),
        Charge::Both => read(size(0).saturating_add(size(1)), 1),
        Charge::Substring => read(size(0), 1).saturating_mul(read(size(1), 1)),
        // One more, so that an expression costs something on an empty string too.
        Charge::Regex => read(size(0).saturating_add(1), 1).saturating_mul(factor(size(1), REGEX)),
        Charge::Format => read(size(1), 1).saturating_mul(factor(FORMAT_REGEX, REGEX)),
        Charge::Pairs(times) => size(0).saturating_mul(size(1)).saturating_mul(times.into()).saturating_add(1),
        Charge::Slice | Charge::Range | Charge::Copy | Charge::Flatten => makes(size(0)),
        Charge::Compared(index) => makes(compared(size(index), false, f64::ceil)),
    }
}

/// The call that makes a list of so much.
pub fn makes(cost: u64) -> u64 {
    cost.saturating_add(1 + LIST)
}

/// Comparing each item with each. Upstream's estimate rounds up and its counter down.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
pub fn compared(items: u64, are_texts: bool, round: fn(f64) -> f64) -> u64 {
    let each = if are_texts { COMPARED + TRAVERSAL } else { COMPARED };
    round(items.saturating_mul(items) as f64 * each) as u64
}

/// The product, rounded up.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn factor(size: u64, by: f64) -> u64 {
    // A float beyond the range becomes the largest integer.
    (size as f64 * by).ceil() as u64
}

#[cfg(test)]
mod tests;
