use std::collections::HashMap;
use std::path::Path;

use super::AuthnError;
use crate::user::UserInfo;

/// Reads lines of `token,user,uid,"group1,group2"`.
pub fn load(path: &Path) -> Result<HashMap<String, UserInfo>, AuthnError> {
    let text = std::fs::read_to_string(path).map_err(|source| AuthnError::Read { path: path.to_owned(), source })?;
    let mut tokens = HashMap::new();
    for (index, line) in text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty() && !l.starts_with('#')) {
        let invalid = |reason| AuthnError::TokenFile { path: path.to_owned(), line: index + 1, reason };
        let mut fields = line.splitn(4, ',').map(str::trim);
        let (Some(token), Some(name), Some(uid)) = (fields.next(), fields.next(), fields.next()) else {
            return Err(invalid("expected token,user,uid and perhaps groups"));
        };
        if token.is_empty() {
            return Err(invalid("the token is empty"));
        }
        let groups = fields.next().unwrap_or("").trim_matches('"');
        let groups = groups.split(',').map(str::trim).filter(|g| !g.is_empty()).map(str::to_owned).collect();
        let user = UserInfo { name: name.into(), uid: uid.into(), groups, ..UserInfo::default() };
        tokens.insert(token.to_owned(), user);
    }
    Ok(tokens)
}
