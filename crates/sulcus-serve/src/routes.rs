//! Paths, and what they answer.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use hyper::body::Incoming;
use tokio::sync::{Semaphore, watch};
use tower_service::Service;

use crate::answer::Answer;
use crate::budget::Budget;
use crate::guard::Guard;
use crate::metrics::{Gauges, Metrics, PROMETHEUS};
use crate::negotiate::{Form, check_sent};
use crate::problem::Problem;
use crate::queue::{Queue, Refusal};
use crate::receive::{Limits, check_announced, receive};
use crate::visit::Visit;

const HEALTH: &str = "/healthz";
const METRICS: &str = "/metrics";
const MODEL: &str = "/v1/model";
const OPENAPI: &str = "/v1/openapi.json";
const SEGMENT: &str = "/v1/segment";

/// Every path that there is.
pub(crate) const PATHS: [&str; 5] = [HEALTH, METRICS, MODEL, OPENAPI, SEGMENT];

/// What requests share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) queue: Arc<Queue>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) budget: Arc<Budget>,
    pub(crate) guard: Guard,
    /// How often the server was asked to stop.
    pub(crate) asked: watch::Receiver<usize>,
    /// A permit for each connection that may be open.
    pub(crate) connections: Arc<Semaphore>,
    pub(crate) most_connections: usize,
    pub(crate) max_body: u64,
    pub(crate) timeout: Duration,
    pub(crate) patience: Duration,
    pub(crate) places: usize,
    pub(crate) workers: usize,
    pub(crate) model: Bytes,
    pub(crate) openapi: Bytes,
}

/// Resolves when the server was asked to stop so often.
pub(crate) async fn stopping(asked: &mut watch::Receiver<usize>, times: usize) {
    // A sender that is gone asks for nothing.
    if asked.wait_for(|n| *n >= times).await.is_err() {
        std::future::pending::<()>().await;
    }
}

pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route(HEALTH, get(health))
        .route(METRICS, get(metrics))
        .route(MODEL, get(model))
        .route(OPENAPI, get(openapi))
        .route(SEGMENT, post(segment))
        .method_not_allowed_fallback(other_method)
        .fallback(async || Problem::not_found())
        .with_state(shared)
}

/// Answers a request, whatever it is.
pub(crate) async fn respond(shared: Arc<Shared>, mut router: Router, request: Request<Incoming>) -> Response {
    let visit = Visit::begin(&shared.metrics, request.method(), request.uri().path());
    let sends_body = sends_body(request.headers());
    let admitted = match request.uri().path() {
        HEALTH => Ok(()),
        _ => shared.guard.check(request.uri(), request.headers()),
    };
    let mut response = match admitted {
        Ok(()) => router.call(request.map(Body::new)).await.unwrap_or_else(|never| match never {}),
        Err(problem) => problem.into_response(),
    };
    let refused_unread = matches!(response.status().as_u16(), 401 | 403..=406 | 413 | 415);
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if sends_body && refused_unread {
        // What is left of the body is not read, so that no request can follow it.
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    visit.end(response.status());
    response
}

fn sends_body(headers: &HeaderMap) -> bool {
    headers.contains_key(TRANSFER_ENCODING) || headers.get(CONTENT_LENGTH).is_some_and(|length| length != "0")
}

async fn other_method(uri: Uri) -> Problem {
    Problem::method(if uri.path() == SEGMENT { "POST" } else { "GET, HEAD" })
}

async fn health(State(shared): State<Arc<Shared>>) -> Result<Response, Problem> {
    if *shared.asked.borrow() > 0 {
        return Err(Problem::stopping());
    }
    Ok(json(Bytes::from_static(b"{\"status\":\"ok\"}")))
}

async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    let (waiting, working) = shared.queue.lengths();
    let text = shared.metrics.text(&Gauges {
        waiting,
        working,
        queue: shared.places,
        workers: shared.workers,
        connections: shared.most_connections - shared.connections.available_permits(),
        held_bytes: shared.budget.held(),
        peak_memory_bytes: sulcus_runtime::peak_memory_bytes(),
    });
    ([(CONTENT_TYPE, HeaderValue::from_static(PROMETHEUS))], text).into_response()
}

async fn model(State(shared): State<Arc<Shared>>) -> Response {
    json(shared.model.clone())
}

async fn openapi(State(shared): State<Arc<Shared>>) -> Response {
    json(shared.openapi.clone())
}

fn json(body: Bytes) -> Response {
    ([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response()
}

/// From a scan to its mask. Whenever this is dropped, because the client hung up, the scan is dropped too.
async fn segment(State(shared): State<Arc<Shared>>, request: Request) -> Result<Answer, Problem> {
    let (head, body) = request.into_parts();
    let form = Form::accepted(&head.headers)?;
    check_sent(&head.headers)?;
    check_announced(&head.headers, shared.max_body)?;
    shared.queue.admits().map_err(|refusal| shared.refuse(refusal).closing())?;
    let limits = Limits { most: shared.max_body, whole: shared.timeout, pause: shared.patience };
    let mut asked = shared.asked.clone();
    let body = tokio::select! {
        received = receive(body, limits, &shared.budget, || shared.queue.free_in_secs()) => received?,
        () = stopping(&mut asked, 1) => return Err(Problem::stopping()),
    };
    if body.bytes.is_empty() {
        let detail =
            "the body is empty: send a NIfTI file (.nii or .nii.gz); with curl: --data-binary @scan.nii.gz";
        return Err(Problem::new(StatusCode::BAD_REQUEST, "empty-body", detail));
    }
    let mut ticket = shared.queue.push(body, form).map_err(|refusal| shared.refuse(refusal))?;
    match tokio::time::timeout(shared.timeout, &mut ticket.answer).await {
        Ok(Ok(reply)) => reply,
        // Given up by the server.
        Ok(Err(_)) => Err(Problem::stopping()),
        Err(_) if ticket.flags.begun() => Err(Problem::took_too_long(shared.timeout.as_secs_f64())),
        Err(_) => Err(Problem::waited_too_long(shared.timeout.as_secs_f64(), shared.queue.free_in_secs())),
    }
}

impl Shared {
    fn refuse(&self, refusal: Refusal) -> Problem {
        match refusal {
            Refusal::Full => Problem::full(self.queue.free_in_secs()),
            Refusal::Closed => Problem::stopping(),
        }
    }
}
