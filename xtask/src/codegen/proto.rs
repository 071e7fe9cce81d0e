//! Field numbers of protobuf messages, read from generated prost structs.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// A field of a message.
#[derive(Debug, Clone)]
pub struct Field {
    pub tag: u16,
    /// The message type of the field, as `package/name`; none for scalars.
    pub message: Option<String>,
}

/// Fields by normalised name.
pub type Message = BTreeMap<String, Field>;
/// Messages by `package/name`: `api/core/v1/podspec`.
pub type Messages = BTreeMap<String, Message>;

/// What is left of a name when spelling conventions are taken away: `podIPs` and `pod_i_ps` are one.
pub fn normal(name: &str) -> String {
    name.strip_prefix("r#")
        .unwrap_or(name)
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|c| c.to_ascii_lowercase())
        .collect()
}

pub fn parse(src: &Path) -> Result<Messages> {
    let mut messages = Messages::new();
    visit(src, &mut Vec::new(), &mut messages)?;
    Ok(messages)
}

fn visit(folder: &Path, package: &mut Vec<String>, messages: &mut Messages) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|n| n.to_str()).context("file names are UTF-8")?;
        if path.is_dir() {
            package.push(name.to_owned());
            visit(&path, package, messages)?;
            package.pop();
        } else if name == "mod.rs" {
            parse_file(&fs::read_to_string(&path)?, package, messages)?;
        }
    }
    Ok(())
}

fn parse_file(text: &str, package: &[String], messages: &mut Messages) -> Result<()> {
    let (mut current, mut attribute) = (None, None);
    // A long type is broken into lines; its path is the one line that matters.
    let text = text.replace(":\n", ": ").replace("<\n", "<").replace(",\n    >", ">");
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("pub struct ") {
            let name = normal(name.split([' ', '{']).next().unwrap_or_default());
            let key = format!("{}/{name}", package.join("/"));
            current = Some(messages.entry(key).or_default());
        } else if line.starts_with("#[prost(") {
            attribute = Some(line);
        } else if let (Some(field), Some(message), Some(attr)) =
            (line.strip_prefix("pub "), current.as_mut(), attribute.take())
        {
            let (name, ty) = field.split_once(": ").context("a field has a type")?;
            let tag = attr.split("tag = \"").nth(1).and_then(|t| t.split('"').next()).context("a field has a tag")?;
            let field = Field { tag: tag.parse()?, message: attr.contains("message").then(|| resolve(ty, package)) };
            message.insert(normal(name), field);
        }
    }
    Ok(())
}

/// The absolute name of the innermost type: `Option<super::v1::Foo>`.
fn resolve(ty: &str, package: &[String]) -> String {
    let ty = ty.trim_end_matches(',').trim_end_matches('>');
    let path = ty.rsplit(['<', ' ']).next().unwrap_or(ty);
    let mut base = package.to_vec();
    let mut name = "";
    for part in path.split("::") {
        match part {
            "super" => _ = base.pop(),
            part => {
                if !name.is_empty() {
                    base.push(name.to_owned());
                }
                name = part;
            }
        }
    }
    format!("{}/{}", base.join("/"), normal(name))
}
