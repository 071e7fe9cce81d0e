//! `<id>.<secret>` or `<id>.<secret>@sha256:<hex of the CA certificate's DER>`.

use std::fmt;
use std::str::FromStr;

#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    id: String,
    secret: String,
    ca_hash: Option<[u8; 32]>,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a token looks like <id>.<secret>@sha256:<hex>: 6 and 16 characters of a-z0-9, 64 hex digits")]
pub struct InvalidToken;

impl Token {
    /// What a server hands out: the token with the hash of its CA certificate.
    #[must_use]
    pub fn with_ca(id: &str, secret: &str, ca_der: &[u8]) -> Self {
        let ca_hash = Some(super::server_ca::sha256(ca_der));
        Self { id: id.into(), secret: secret.into(), ca_hash }
    }

    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The part that the server checks.
    #[must_use]
    pub fn bearer(&self) -> String {
        format!("{}.{}", self.id, self.secret)
    }

    #[must_use]
    pub fn ca_hash(&self) -> Option<&[u8; 32]> {
        self.ca_hash.as_ref()
    }

    /// The whole token, secret included.
    #[must_use]
    pub fn reveal(&self) -> String {
        match &self.ca_hash {
            Some(hash) => format!("{}@sha256:{}", self.bearer(), hex(hash)),
            None => self.bearer(),
        }
    }
}

impl FromStr for Token {
    type Err = InvalidToken;

    fn from_str(text: &str) -> Result<Self, InvalidToken> {
        let (bearer, hash) = match text.trim().split_once('@') {
            Some((bearer, hash)) => (bearer, Some(hash)),
            None => (text.trim(), None),
        };
        let (id, secret) = bearer.split_once('.').ok_or(InvalidToken)?;
        if !is_word(id, 6) || !is_word(secret, 16) {
            return Err(InvalidToken);
        }
        let ca_hash = match hash {
            Some(hash) => Some(unhex(hash.strip_prefix("sha256:").ok_or(InvalidToken)?)?),
            None => None,
        };
        Ok(Self { id: id.into(), secret: secret.into(), ca_hash })
    }
}

/// The secret stays out of logs.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({}.…)", self.id)
    }
}

fn is_word(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn unhex(text: &str) -> Result<[u8; 32], InvalidToken> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return Err(InvalidToken);
    }
    for (i, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * i..2 * i + 2], 16).map_err(|_| InvalidToken)?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_survives_its_text() {
        let token = Token::with_ca("abcdef", "0123456789abcdef", b"der");
        assert_eq!(token.reveal().parse(), Ok(token.clone()));
        assert_eq!(token.bearer(), "abcdef.0123456789abcdef");
        assert!(!format!("{token:?}").contains("0123"));
        let bare: Token = "abcdef.0123456789abcdef".parse().expect("valid");
        assert_eq!(bare.ca_hash(), None);
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            "abcdef",
            "abcde.0123456789abcdef",
            "ABCDEF.0123456789abcdef",
            "abcdef.0123456789abcdef@sha256:00",
            "abcdef.0123456789abcdef@md5:00",
        ] {
            assert_eq!(text.parse::<Token>(), Err(InvalidToken), "{text}");
        }
    }
}
