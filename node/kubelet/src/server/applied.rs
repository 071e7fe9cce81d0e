//! `/xebec/v1/applied?slices=N`: answers once this node's datapath has the EndpointSlices up to version N.

use std::time::Duration;

use http::StatusCode;

use super::{Answer, Refused, text};
use crate::kubelet::Kubelet;

/// Longer than anyone waits.
const WAIT_MAX: Duration = Duration::from_secs(10);

pub(super) async fn serve(kubelet: &Kubelet, query: &[(String, String)]) -> Result<Answer, Refused> {
    let wanted = query.iter().find(|(key, _)| key == "slices").and_then(|(_, value)| value.parse::<u64>().ok());
    let wanted = wanted.ok_or_else(|| Refused::bad_request("slices must be a resourceVersion"))?;
    let Some(mut applied) = kubelet.config.applied_slices.clone() else {
        return Err(Refused::not_found("this node has no datapath"));
    };
    let version = tokio::time::timeout(WAIT_MAX, applied.wait_for(|applied| *applied >= wanted)).await;
    match version {
        Ok(Ok(version)) => Ok(text(StatusCode::OK, version.to_string())),
        // The agent is ending, or its datapath is behind.
        Ok(Err(_)) | Err(_) => {
            Err(Refused(StatusCode::SERVICE_UNAVAILABLE, format!("version {wanted} is not applied")))
        }
    }
}
