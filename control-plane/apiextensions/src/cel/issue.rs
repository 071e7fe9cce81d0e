//! What is wrong with an expression and where, as cel-go shows it (`common/error.go`).

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use kube_cel::cel::common::ast::{IdedExpr, SourceInfo};
use kube_cel::cel::parser::{ParseErrors, Parser};

use super::depth;

/// Something wrong at a place; lines and columns count from 1, columns in characters.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Issue {
    pub line: usize,
    pub column: usize,
    pub message: String,
}

/// Every issue with the line that it is in and a mark below its place, first things first.
pub fn display(text: &str, mut issues: Vec<Issue>) -> String {
    issues.sort_by_key(|issue| (issue.line, issue.column));
    let lines: Vec<&str> = text.split('\n').collect();
    let shown = |issue: &Issue| {
        let Issue { line, column, message } = issue;
        let error = format!("ERROR: <input>:{line}:{column}: {message}");
        let Some(source) = lines.get(line.saturating_sub(1)) else { return error };
        let source = source.replace('\t', " ");
        // Characters of more than one byte are taken for wide ones.
        let mark = |c: Option<char>, narrow, wide| if c.is_some_and(|c| c.len_utf8() > 1) { wide } else { narrow };
        let before = column.saturating_sub(1);
        let dots: String = source.chars().take(before).map(|c| mark(Some(c), '.', '．')).collect();
        format!("{error}\n | {source}\n | {dots}{}", mark(source.chars().nth(before), '^', '＾'))
    };
    issues.iter().map(shown).collect::<Vec<_>>().join("\n")
}

/// What the parser makes of a text; no errors if it gave up.
pub fn parsed(text: &str) -> Result<IdedExpr, ParseErrors> {
    let parse = AssertUnwindSafe(|| Parser::new().enable_optional_syntax(true).parse(text));
    std::panic::catch_unwind(parse).unwrap_or_else(|_| Err(ParseErrors { errors: Vec::new() }))
}

pub fn of_parser(errors: ParseErrors) -> Vec<Issue> {
    let number = |number: isize| usize::try_from(number).unwrap_or(1);
    let errors = errors.errors.into_iter();
    errors.map(|e| Issue { line: number(e.pos.0), column: number(e.pos.1), message: e.msg }).collect()
}

/// Where the parts of an expression are.
pub struct Places<'t> {
    text: &'t str,
    source: Option<Arc<SourceInfo>>,
}

impl<'t> Places<'t> {
    /// The parser tells places only along with an error. So it is given one behind the end of the text, which can be
    /// parsed: parts before it have the ids that they have without it.
    pub fn of(text: &'t str) -> Self {
        let broken = format!("{text}\n)");
        let errors = depth::with_room(|| parsed(&broken)).err();
        let source = errors.and_then(|errors| errors.errors.into_iter().find_map(|error| error.source_info));
        Self { text, source }
    }

    /// The place of a part; a part that nobody wrote is at the beginning.
    pub fn issue(&self, id: u64, message: String) -> Issue {
        let start =
            self.source.as_ref().and_then(|source| source.offset_for(id)).map_or(0, |(start, _)| start as usize);
        // The parser counts bytes here.
        let before = self.text.get(..start).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        Issue { line, column, message }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, at: (usize, usize), expected: &str) {
        let issue = Issue { line: at.0, column: at.1, message: "m".into() };
        assert_eq!(display(text, vec![issue]), expected);
    }

    #[test]
    fn an_issue_is_shown_below_its_line() {
        check("a == b", (1, 6), "ERROR: <input>:1:6: m\n | a == b\n | .....^");
        check("a\n\t== b", (2, 2), "ERROR: <input>:2:2: m\n |  == b\n | .^");
        check("'ä' == ö", (1, 8), "ERROR: <input>:1:8: m\n | 'ä' == ö\n | .．.....＾");
        check("a", (1, 2), "ERROR: <input>:1:2: m\n | a\n | .^");
    }

    #[test]
    fn parts_are_where_they_were_written() {
        let text = "'ä' == x\n// why )\n && f(y.z)[0]";
        let places = Places::of(text);
        let mut found = Vec::new();
        let mut expression = parsed(text).unwrap();
        let mut left = vec![&mut expression];
        while let Some(part) = left.pop() {
            let Issue { line, column, .. } = places.issue(part.id, String::new());
            found.push((line, column));
            left.extend(super::super::children(part));
        }
        found.sort_unstable();
        // 'ä', ==, x, &&, f( , y, . , [ and 0.
        assert_eq!(found, [(1, 1), (1, 5), (1, 8), (3, 2), (3, 6), (3, 7), (3, 8), (3, 11), (3, 12)]);
    }
}
