//! The routes of the server.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use hyper::body::Incoming;
use tokio::sync::watch;
use tower_service::Service;

use crate::access::AccessPolicy;
use crate::connection_table::{ConnectionActivity, ConnectionTable};
use crate::metrics::{Gauges, Metrics, PROMETHEUS, RequestLog};
use crate::problem_details::ProblemDetails;
use crate::queue::{JobQueue, QueueRefusal};
use crate::response::{ResponseFormat, SegmentResponse};
use crate::upload::{ByteBudget, UploadLimits, check_content_length, check_content_type, receive_upload};

const HEALTH: &str = "/healthz";
const METRICS: &str = "/metrics";
const MODEL: &str = "/v1/model";
const OPENAPI: &str = "/v1/openapi.json";
const SEGMENT: &str = "/v1/segment";

/// All paths, sorted.
pub(crate) const PATHS: [&str; 5] = [HEALTH, METRICS, MODEL, OPENAPI, SEGMENT];

/// What all requests share.
#[derive(Debug)]
pub(crate) struct ServerState {
    pub(crate) queue: Arc<JobQueue>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) body_budget: Arc<ByteBudget>,
    pub(crate) access: AccessPolicy,
    /// How often a shutdown was requested.
    pub(crate) shutdown_requests: watch::Receiver<usize>,
    pub(crate) connections: Arc<ConnectionTable>,
    pub(crate) memory_limit: Option<u64>,
    pub(crate) upload_limits: UploadLimits,
    pub(crate) timeout: Duration,
    pub(crate) idle_timeout: Duration,
    pub(crate) queue_capacity: usize,
    pub(crate) workers: usize,
    pub(crate) model_json: Bytes,
    pub(crate) openapi_json: Bytes,
}

/// The connection of a request.
#[derive(Debug, Clone)]
pub(crate) struct ClientConnection {
    pub(crate) address: IpAddr,
    /// Whether the client connected to a loopback address of this machine.
    pub(crate) over_loopback: bool,
    pub(crate) activity: Arc<ConnectionActivity>,
}

/// Waits until a shutdown was requested `times` times.
pub(crate) async fn shutdown_requested(requests: &mut watch::Receiver<usize>, times: usize) {
    // Without a sender no request can follow.
    if requests.wait_for(|n| *n >= times).await.is_err() {
        std::future::pending::<()>().await;
    }
}

pub(crate) fn router(state: Arc<ServerState>) -> Router {
    Router::new()
        .route(HEALTH, get(health))
        .route(METRICS, get(metrics))
        .route(MODEL, get(model))
        .route(OPENAPI, get(openapi))
        .route(SEGMENT, post(segment))
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(async || ProblemDetails::not_found())
        .with_state(state)
}

/// Handles one request: checks access, routes it, and logs it.
pub(crate) async fn respond(
    state: Arc<ServerState>,
    mut router: Router,
    client: ClientConnection,
    mut request: Request<Incoming>,
) -> Response {
    client.activity.begin_phase();
    let path = request.uri().path();
    let route = PATHS.into_iter().find(|known| *known == path).unwrap_or("other");
    let log = RequestLog::begin(&state.metrics, (client.address, state.access.name()), request.method(), route);
    let sends_body = sends_body(request.headers());
    let allowed = match route {
        HEALTH => Ok(()),
        _ => state.access.check(request.uri(), request.headers(), client.over_loopback),
    };
    request.extensions_mut().insert(Arc::clone(&client.activity));
    let mut response = match allowed {
        Ok(()) => router.call(request.map(Body::new)).await.unwrap_or_else(|never| match never {}),
        Err(problem) => problem.into_response(),
    };
    let refused_unread = matches!(response.status().as_u16(), 401 | 403..=406 | 413 | 415);
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if sends_body && refused_unread {
        // The rest of the body is not read, so no request can follow on this connection.
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    log.end(response.status());
    client.activity.begin_phase();
    response
}

fn sends_body(headers: &HeaderMap) -> bool {
    headers.contains_key(TRANSFER_ENCODING) || headers.get(CONTENT_LENGTH).is_some_and(|length| length != "0")
}

async fn method_not_allowed(uri: Uri) -> ProblemDetails {
    ProblemDetails::method_not_allowed(if uri.path() == SEGMENT { "POST" } else { "GET, HEAD" })
}

async fn health(State(state): State<Arc<ServerState>>) -> Result<Response, ProblemDetails> {
    if *state.shutdown_requests.borrow() > 0 {
        return Err(ProblemDetails::stopping());
    }
    Ok(json_response(Bytes::from_static(b"{\"status\":\"ok\"}")))
}

async fn metrics(State(state): State<Arc<ServerState>>) -> Response {
    let (waiting, running) = state.queue.lengths();
    let text = state.metrics.text(&Gauges {
        waiting,
        running,
        queue_capacity: state.queue_capacity,
        workers: state.workers,
        connections: state.connections.len(),
        held_body_bytes: state.body_budget.held(),
        memory_limit_bytes: state.memory_limit,
        peak_memory_bytes: sulcus_runtime::peak_memory_bytes(),
    });
    ([(CONTENT_TYPE, HeaderValue::from_static(PROMETHEUS))], text).into_response()
}

async fn model(State(state): State<Arc<ServerState>>) -> Response {
    json_response(state.model_json.clone())
}

async fn openapi(State(state): State<Arc<ServerState>>) -> Response {
    json_response(state.openapi_json.clone())
}

fn json_response(body: Bytes) -> Response {
    ([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response()
}

/// Segments the scan in the body. When the client disconnects, this future is dropped and the scan with it.
async fn segment(
    State(state): State<Arc<ServerState>>,
    request: Request,
) -> Result<SegmentResponse, ProblemDetails> {
    let (head, body) = request.into_parts();
    let format = ResponseFormat::negotiate(&head.headers)?;
    check_content_type(&head.headers)?;
    check_content_length(&head.headers, state.upload_limits.max_bytes)?;
    state.queue.check_capacity().map_err(|refusal| state.queue_problem(refusal).closing())?;
    let retry_secs = || state.queue.retry_after_secs();
    let mut shutdown_requests = state.shutdown_requests.clone();
    let upload = tokio::select! {
        received = receive_upload(body, state.upload_limits, &state.body_budget, retry_secs) => received?,
        () = shutdown_requested(&mut shutdown_requests, 1) => return Err(ProblemDetails::stopping()),
    };
    if upload.bytes.is_empty() {
        return Err(ProblemDetails::empty_body());
    }
    let mut ticket = state.queue.push(upload, format).map_err(|refusal| state.queue_problem(refusal))?;
    let activity = head.extensions.get::<Arc<ConnectionActivity>>();
    let _waiting = activity.map(|activity| activity.wait_for_server());
    let secs = state.timeout.as_secs_f64();
    match tokio::time::timeout(state.timeout, &mut ticket.reply).await {
        Ok(Ok(reply)) => reply,
        // The job was abandoned by a shutdown.
        Ok(Err(_)) => Err(ProblemDetails::stopping()),
        Err(_) if ticket.state.is_started() => Err(ProblemDetails::took_too_long(secs)),
        Err(_) => Err(ProblemDetails::waited_too_long(secs, state.queue.retry_after_secs())),
    }
}

impl ServerState {
    fn queue_problem(&self, refusal: QueueRefusal) -> ProblemDetails {
        match refusal {
            QueueRefusal::Full => ProblemDetails::queue_full(self.queue.retry_after_secs()),
            QueueRefusal::Closed => ProblemDetails::stopping(),
        }
    }
}
