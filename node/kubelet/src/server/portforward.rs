//! `kubectl port-forward`.

use std::sync::Arc;

use http::{Request, StatusCode};
use hyper::body::Incoming;

use super::{Answer, Refused};
use crate::kubelet::Kubelet;

pub(super) async fn serve(
    _kubelet: &Arc<Kubelet>,
    _request: Request<Incoming>,
    _namespace: &str,
    _pod: &str,
) -> Result<Answer, Refused> {
    Err(Refused(StatusCode::NOT_IMPLEMENTED, "port-forward is not served yet".to_owned()))
}
