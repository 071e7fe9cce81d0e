//! What the authorizer refused to the controllers: every test of this suite ends with none.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use tower::Service;

/// The requests that were answered 403 because of a missing right.
#[derive(Clone, Default)]
pub struct Denials(Arc<Mutex<Vec<String>>>);

impl Denials {
    pub fn assert_none(&self) {
        let denials = self.0.lock().expect("no panic while it is held");
        assert!(denials.is_empty(), "controllers lack rights:\n{}", denials.join("\n"));
    }

    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().expect("no panic while it is held"))
    }

    fn add(&self, body: &[u8]) {
        let status: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
        let message = status["message"].as_str().unwrap_or_default();
        // Admission forbids too, but only the authorizer says what a user cannot do.
        if message.contains("User \"system:") && message.contains(" cannot ") {
            self.0.lock().expect("no panic while it is held").push(message.to_owned());
        }
    }
}

/// A service whose refusals are remembered.
#[derive(Clone)]
pub struct Watched<S> {
    inner: S,
    denials: Denials,
}

impl<S> Watched<S> {
    pub fn new(inner: S, denials: Denials) -> Self {
        Self { inner, denials }
    }
}

type Request = http::Request<xebec_client::kube::client::Body>;
type Answer = http::Response<xebec_apiserver::Body>;

impl<S> Service<Request> for Watched<S>
where
    S: Service<Request, Response = Answer>,
    S::Future: Send + 'static,
    S::Error: 'static,
{
    type Response = Answer;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let (answer, denials) = (self.inner.call(request), self.denials.clone());
        Box::pin(async move {
            let answer = answer.await?;
            if let xebec_apiserver::Body::Full(Some(bytes)) = answer.body()
                && answer.status() == 403
            {
                denials.add(bytes);
            }
            Ok(answer)
        })
    }
}
