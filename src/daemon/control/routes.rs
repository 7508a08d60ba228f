//! The routes: who may ask what, and what is answered.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use serde_json::json;
use tokio::sync::oneshot;

use super::caller::Caller;
use super::lines::{GAVE_UP, Lines};
use super::peer::Rights;
use super::{Alarm, CommandSink, Refresh, Reply};
use crate::daemon::api::{self, Command};
use crate::daemon::health::Health;

/// The largest body of a request, in bytes.
const BODY_MAX: usize = 1024 * 1024;
/// How long a client may take to send it.
const BODY_TIME: Duration = Duration::from_secs(5);
/// However often the metrics are read, the guard is asked no more often than this.
const METRICS_AGE: Duration = Duration::from_secs(1);

/// What every route needs.
#[derive(Clone)]
pub(super) struct App {
    pub health: Arc<Health>,
    pub refresh: Refresh,
    pub alarm: Alarm,
    pub commands: CommandSink,
    /// The group that may read.
    pub readers: Option<u32>,
}

/// A refusal: a status and a sentence, as `{"error": "…"}`.
struct Refusal(StatusCode, String);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, Json(json!({ "error": self.1 }))).into_response()
    }
}

pub(super) fn router(app: App) -> Router {
    Router::new()
        .route("/status", get(status))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/protect", post(protect))
        .route("/release", post(release))
        .route("/restore", post(restore))
        .route("/accept", post(accept))
        .route("/selftest", post(selftest))
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .with_state(app)
}

async fn no_route(uri: Uri) -> Refusal {
    let path = crate::text::escape(uri.path().as_bytes());
    Refusal(StatusCode::NOT_FOUND, format!("there is nothing at {path}"))
}

async fn no_method(method: Method) -> Refusal {
    Refusal(StatusCode::METHOD_NOT_ALLOWED, format!("{method} is not how to ask for this"))
}

/// Refuses whoever has less than the rights that are `needed`.
fn allow(rights: Rights, needed: Rights) -> Result<(), Refusal> {
    if rights >= needed {
        return Ok(());
    }
    let who = if needed == Rights::Change { "root" } else { "root and the group steadfast" };
    Err(Refusal(StatusCode::FORBIDDEN, format!("only {who} may do this: use sudo")))
}

async fn livez(
    State(app): State<App>,
    Extension(rights): Extension<Rights>,
) -> Result<Response, Refusal> {
    allow(rights, Rights::Health)?;
    Ok(match app.health.stalled() {
        None => "alive\n".into_response(),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    })
}

async fn readyz(
    State(app): State<App>,
    Extension(rights): Extension<Rights>,
) -> Result<Response, Refusal> {
    allow(rights, Rights::Health)?;
    let (ready, told) = app.health.readiness();
    let code = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Ok((code, format!("{told}\n")).into_response())
}

async fn metrics(
    State(app): State<App>,
    Extension(rights): Extension<Rights>,
) -> Result<Response, Refusal> {
    allow(rights, Rights::Health)?;
    (app.refresh)(METRICS_AGE);
    Ok(([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], app.health.page()).into_response())
}

async fn status(
    State(app): State<App>,
    Extension(rights): Extension<Rights>,
) -> Result<Json<api::Status>, Refusal> {
    allow(rights, Rights::Read)?;
    (app.refresh)(Duration::ZERO);
    Ok(Json(app.health.with_status(|status| status.clone())))
}

/// One handler for each command, since a route cannot carry its command along.
macro_rules! commands {
    ($($name:ident => $command:expr;)*) => {$(
        async fn $name(
            State(app): State<App>,
            Extension(rights): Extension<Rights>,
            Extension(caller): Extension<Caller>,
            headers: HeaderMap,
            body: Body,
        ) -> Result<Response, Refusal> {
            command(&app, (rights, caller), $command, &headers, body).await
        }
    )*};
}

commands! {
    protect => Command::Protect;
    release => Command::Release;
    restore => Command::Restore;
    accept => Command::Accept;
    selftest => Command::Selftest;
}

async fn command(
    app: &App,
    (rights, caller): (Rights, Caller),
    command: Command,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    allow(rights, Rights::Change)?;
    let request = read(body).await?;
    check(command, &request).map_err(|why| Refusal(StatusCode::BAD_REQUEST, why))?;
    let (report, answer) = oneshot::channel();
    let gauge = Arc::new(api::Gauge::default());
    let reply = Reply { report, gauge: Arc::clone(&gauge), by: Box::new(caller.look()) };
    (app.commands)(command, request, reply);
    if headers.get(header::ACCEPT).is_some_and(|wanted| wanted == api::LINES) {
        let lines = Body::new(Lines::new(answer, gauge));
        return Ok(([(header::CONTENT_TYPE, api::LINES)], lines).into_response());
    }
    let gave_up = |_| Refusal(StatusCode::INTERNAL_SERVER_ERROR, GAVE_UP.to_owned());
    Ok(Json(answer.await.map_err(gave_up)?).into_response())
}

async fn read(body: Body) -> Result<api::Request, Refusal> {
    let refuse = |status, why: &str| Refusal(status, why.to_owned());
    let bytes = match tokio::time::timeout(BODY_TIME, axum::body::to_bytes(body, BODY_MAX)).await {
        Err(_) => return Err(refuse(StatusCode::REQUEST_TIMEOUT, "the request took too long")),
        Ok(Err(_)) => {
            let why = "the request is cut off or larger than 1 MiB: name fewer paths at once";
            return Err(refuse(StatusCode::PAYLOAD_TOO_LARGE, why));
        }
        Ok(Ok(bytes)) => bytes,
    };
    serde_json::from_slice(&bytes)
        .map_err(|_| refuse(StatusCode::BAD_REQUEST, "the request is not of the expected form"))
}

/// Every path absolute, without a NUL, and no longer than the kernel takes.
fn check(command: Command, request: &api::Request) -> Result<(), String> {
    use std::os::unix::ffi::OsStrExt;
    if request.paths.is_empty() && command != Command::Selftest {
        return Err("the request names no path".to_owned());
    }
    for text in &request.paths {
        let path = text.to_path();
        let bytes = path.as_os_str().as_bytes();
        let why = if !path.is_absolute() {
            "is not absolute: write it from / on"
        } else if bytes.contains(&0) {
            "holds a NUL byte, which no path can"
        } else if bytes.len() >= 4096 {
            "is longer than any path can be"
        } else {
            continue;
        };
        let shown: String = crate::text::escape(bytes).chars().take(200).collect();
        return Err(format!("{shown} {why}"));
    }
    Ok(())
}
