//! `/openapi/v2` and `/openapi/v3`.

use http::{HeaderMap, Response};
use xebec_machinery::Status;

use crate::body::Body;

pub fn serve(_path: &[&str], _query: &str, _headers: &HeaderMap) -> Result<Response<Body>, Status> {
    Err(Status::not_found_path())
}
