//! How deep an expression may be: it is parsed, walked and run by functions that call themselves.

use kube_cel::cel::common::ast::{EntryExpr, Expr, IdedExpr};

/// `maxRecursionDepth` of cel-go's parser.
pub const MAX: usize = 250;
/// Up to here any thread's stack will do.
pub const SHALLOW: usize = 24;
/// Reserved, not used: pages that are not touched cost nothing.
const STACK_BYTES: usize = 512 << 20;

/// Does something on a stack that is large enough for the longest expression.
pub fn with_room<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, work);
        match thread.map(std::thread::ScopedJoinHandle::join) {
            Ok(Ok(done)) => done,
            Ok(Err(panic)) => std::panic::resume_unwind(panic),
            Err(error) => std::panic::panic_any(format!("start a thread: {error}")),
        }
    })
}

/// How many parts of an expression are inside of each other.
pub fn of(expression: &IdedExpr) -> usize {
    let mut deepest = 0;
    let mut left = vec![(expression, 1)];
    while let Some((expression, depth)) = left.pop() {
        deepest = deepest.max(depth);
        let mut go = |below| left.push((below, depth + 1));
        match &expression.expr {
            Expr::Call(call) => call.target.as_deref().into_iter().chain(&call.args).for_each(&mut go),
            Expr::Comprehension(c) => {
                [&c.iter_range, &c.accu_init, &c.loop_cond, &c.loop_step, &c.result].into_iter().for_each(&mut go);
            }
            Expr::List(list) => list.elements.iter().for_each(&mut go),
            Expr::Map(map) => map.entries.iter().map(|entry| &entry.expr).for_each(|entry| entry_parts(entry, &mut go)),
            Expr::Struct(s) => s.entries.iter().map(|entry| &entry.expr).for_each(|entry| entry_parts(entry, &mut go)),
            Expr::Select(select) => go(&select.operand),
            Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) => {}
        }
    }
    deepest
}

fn entry_parts<'e>(entry: &'e EntryExpr, go: &mut impl FnMut(&'e IdedExpr)) {
    match entry {
        EntryExpr::MapEntry(entry) => {
            go(&entry.key);
            go(&entry.value);
        }
        EntryExpr::StructField(field) => go(&field.value),
    }
}

/// How many brackets are open at once, outside of strings and comments, and how many signs follow each other.
pub fn of_text(text: &str) -> usize {
    let bytes = text.as_bytes();
    let (mut at, mut open, mut signs, mut deepest) = (0, 0_usize, 0_usize, 0);
    while let Some(&byte) = bytes.get(at) {
        signs = match byte {
            b'!' | b'-' => signs + 1,
            b' ' | b'\t' | b'\r' | b'\n' => signs,
            _ => 0,
        };
        match byte {
            b'(' | b'[' | b'{' => open += 1,
            b')' | b']' | b'}' => open = open.saturating_sub(1),
            b'\'' | b'"' => at = end_of_string(bytes, at),
            b'/' if bytes.get(at + 1) == Some(&b'/') => {
                at += bytes[at..].iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len() - at);
            }
            _ => {}
        }
        deepest = deepest.max(open).max(signs);
        at += 1;
    }
    deepest
}

/// The last byte of the string that starts at `start`.
fn end_of_string(bytes: &[u8], start: usize) -> usize {
    let quote = bytes[start];
    let is_raw = bytes[..start].iter().rev().take(2).take_while(|b| b"rRbB".contains(b)).any(|b| b"rR".contains(b));
    let marks = if bytes[start..].starts_with(&[quote; 3]) { 3 } else { 1 };
    let mut at = start + marks;
    while at < bytes.len() {
        if bytes[at] == b'\\' && !is_raw {
            at += 2;
        } else if bytes[at..].starts_with(&[quote; 3][..marks]) {
            return at + marks - 1;
        } else {
            at += 1;
        }
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::super::program::{Program, parse};
    use super::*;

    #[test]
    fn brackets_in_strings_do_not_count() {
        let check = |text: &str, expected: usize| assert_eq!(of_text(text), expected, "{text}");
        check("((a) + [b])", 2);
        check("'((((' + \"[[[\" + \"\"\"{{{'\"\"\" + r'\\' + ('\\'((')", 1);
        check("(\")\" + (\")\" + (')')))", 3);
        check("a // ((((\n + (b)", 1);
        check("!! - -a", 4);
        check("'never closed ((((", 0);
    }

    #[test]
    fn no_expression_is_too_deep_for_the_stack() {
        let refused = |text: String| {
            let start: String = text.chars().take(20).collect();
            assert!(parse(&text).is_err(), "{start}");
        };
        for (open, close) in [("(", ")"), ("[", "]"), ("{1:", "}"), ("f(", ")"), ("-", ""), ("!", ""), ("- ", "")] {
            refused(format!("{}1{}", open.repeat(12_000), close.repeat(12_000)));
        }
        refused(format!("1{}", "+1".repeat(30_000)));
        refused(format!("a{}", ".a".repeat(30_000)));
        refused(format!("a{}", "[0]".repeat(20_000)));
        refused(format!("{}1", "true ? 1 : ".repeat(5_000)));
        let problem = parse(&format!("{}1{}", "(".repeat(251), ")".repeat(251))).err().unwrap_or_default();
        assert_eq!(problem, "expression recursion limit exceeded: 250");
        // What may be is walked and run.
        let program = Program::compile(&format!("1{} == 201", "+1".repeat(200))).unwrap();
        let budget = crate::cel::Budget::new();
        let found = program.run(&budget.context(), &budget);
        assert!(matches!(found, Ok(kube_cel::cel::Value::Bool(true))), "{found:?}");
    }
}
