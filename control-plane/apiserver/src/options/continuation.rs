use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use xebec_machinery::{Status, json};
use xebec_store::Revision;

/// Where the next page of a list starts, and the revision it must be read at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Continue {
    /// `None` goes on in the present state: a list that is not consistent, which clients may choose over none.
    pub revision: Option<Revision>,
    pub start_after: String,
}

#[derive(Serialize, Deserialize)]
struct Token {
    v: String,
    rv: i64,
    start: String,
}

const VERSION: &str = "meta.k8s.io/v1";
/// The `rv` of a token that goes on in the present state (`handleCompactedErrorForPaging`).
const PRESENT: i64 = -1;

impl Continue {
    pub fn encode(&self) -> String {
        let rv = self.revision.map_or(PRESENT, |revision| i64::try_from(revision.0).unwrap_or(i64::MAX));
        let token = Token { v: VERSION.into(), rv, start: self.start_after.clone() };
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(&token).unwrap_or_default())
    }

    pub fn decode(token: &str) -> Result<Self, Status> {
        let bytes = URL_SAFE_NO_PAD.decode(token.trim_end_matches('='));
        let invalid = |why: &dyn std::fmt::Display| Status::bad_request(format!("continue key is not valid: {why}"));
        let (token, _) = json::parse_strict(&bytes.map_err(|e| invalid(&e))?).map_err(|e| invalid(&e))?;
        let token: Token = serde_json::from_value(token).map_err(|e| invalid(&e))?;
        if token.v != VERSION {
            return Err(invalid(&format!("server does not recognize this encoded version {:?}", token.v)));
        }
        let revision = match token.rv {
            PRESENT => None,
            rv => match u64::try_from(rv) {
                Ok(rv) if rv > 0 => Some(Revision(rv)),
                _ => return Err(invalid(&"incorrect encoded start resourceVersion (version meta.k8s.io/v1)")),
            },
        };
        Ok(Self { revision, start_after: token.start })
    }
}
