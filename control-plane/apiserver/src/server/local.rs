use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body_util::BodyExt;

use crate::app::App;
use crate::body::{Body, BoxError};
use crate::pipeline::{self, Origin};
use crate::user::UserInfo;

/// The request pipeline after authentication, without a network in between.
#[derive(Clone)]
pub struct LocalService {
    app: Arc<App>,
    user: Arc<UserInfo>,
}

impl LocalService {
    pub(crate) fn new(app: Arc<App>, user: UserInfo) -> Self {
        Self { app, user: Arc::new(user) }
    }

    /// The same pipeline for somebody else.
    #[must_use]
    pub fn as_user(&self, user: UserInfo) -> Self {
        Self { app: self.app.clone(), user: Arc::new(user) }
    }
}

impl<B> tower::Service<Request<B>> for LocalService
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = std::convert::Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (app, user) = (self.app.clone(), self.user.clone());
        let mut request = request.map(|body| body.map_err(Into::into).boxed_unsync());
        if let Some(agent) = agent(&user.name) {
            request.headers_mut().entry(header::USER_AGENT).or_insert(HeaderValue::from_static(agent));
        }
        Box::pin(async move { Ok(pipeline::handle(app, Origin::Local(user), request).await) })
    }
}

/// What upstream's component of this user calls itself: `managedFields` name it.
fn agent(user: &str) -> Option<&'static str> {
    match user {
        "system:apiserver" => Some("kube-apiserver"),
        "system:kube-scheduler" => Some("kube-scheduler"),
        "system:kube-controller-manager" => Some("kube-controller-manager"),
        user if user.starts_with("system:serviceaccount:kube-system:") => Some("kube-controller-manager"),
        _ => None,
    }
}
