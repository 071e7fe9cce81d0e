//! Names that live for ever. The table of built-in resources is static, and its users hold `&'static str`; names that come at run time are kept once each.

use std::collections::HashSet;
use std::sync::LazyLock;

use parking_lot::Mutex;

type Strs = &'static [&'static str];

/// The one copy of a name. What is never freed is bounded by the distinct names that definitions ever had.
pub fn text(name: &str) -> &'static str {
    static NAMES: LazyLock<Mutex<HashSet<&'static str>>> = LazyLock::new(Mutex::default);
    let mut names = NAMES.lock();
    if let Some(known) = names.get(name) {
        return known;
    }
    let kept: &'static str = Box::leak(name.into());
    names.insert(kept);
    kept
}

/// The one copy of a list of names.
pub fn list<'a>(names: impl IntoIterator<Item = &'a str>) -> Strs {
    static LISTS: LazyLock<Mutex<HashSet<Strs>>> = LazyLock::new(Mutex::default);
    let names: Vec<&'static str> = names.into_iter().map(text).collect();
    let mut lists = LISTS.lock();
    if let Some(known) = lists.get(names.as_slice()) {
        return known;
    }
    let kept: Strs = names.leak();
    lists.insert(kept);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_names_are_one() {
        assert!(std::ptr::eq(text("widgets"), text(&String::from("widgets"))));
        assert!(std::ptr::eq(list(["a", "b"]), list(vec!["a", "b"])));
        assert_eq!(list(["a"]), ["a"]);
    }
}
