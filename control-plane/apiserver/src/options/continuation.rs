use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use xebec_machinery::Status;
use xebec_store::Revision;

/// Where the next page of a list starts, and the revision it must be read at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Continue {
    pub revision: Revision,
    pub start_after: String,
}

#[derive(Serialize, Deserialize)]
struct Token {
    v: String,
    rv: u64,
    start: String,
}

const VERSION: &str = "meta.k8s.io/v1";

impl Continue {
    pub fn encode(&self) -> String {
        let token = Token { v: VERSION.into(), rv: self.revision.0, start: self.start_after.clone() };
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(&token).unwrap_or_default())
    }

    pub fn decode(token: &str) -> Result<Self, Status> {
        let bytes = URL_SAFE_NO_PAD.decode(token.trim_end_matches('='));
        let invalid = |why: &dyn std::fmt::Display| Status::bad_request(format!("continue key is not valid: {why}"));
        let token: Token = serde_json::from_slice(&bytes.map_err(|e| invalid(&e))?).map_err(|e| invalid(&e))?;
        if token.v != VERSION || token.rv == 0 {
            return Err(invalid(&format!("server does not recognize this encoded version {:?}", token.v)));
        }
        Ok(Self { revision: Revision(token.rv), start_after: token.start })
    }
}
