//! The pages, embedded in the binary from `web/`: plain HTML, CSS and JavaScript, nothing from a third
//! party. They hold no data; what they show they ask of the API.

use axum::Router;
use axum::extract::Path;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;

use super::RESERVED;
use crate::core::room::RoomName;

const INDEX: &str = include_str!("../../web/index.html");
const WATCH: &str = include_str!("../../web/watch.html");
const PUBLISH: &str = include_str!("../../web/publish.html");
const JOIN: &str = include_str!("../../web/join.html");
const PROBLEM: &str = include_str!("../../web/problem.html");
const ICON: &str = include_str!("../../web/icon.svg");

const HTML: &str = "text/html; charset=utf-8";
const SVG: &str = "image/svg+xml";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";

/// Everything below `/assets/`.
const ASSETS: &[(&str, &str, &str)] = &[
    ("common.js", SCRIPT, include_str!("../../web/common.js")),
    ("devices.js", SCRIPT, include_str!("../../web/devices.js")),
    ("home.js", SCRIPT, include_str!("../../web/home.js")),
    ("icon.svg", SVG, ICON),
    ("join.js", SCRIPT, include_str!("../../web/join.js")),
    ("publish.js", SCRIPT, include_str!("../../web/publish.js")),
    ("room.js", SCRIPT, include_str!("../../web/room.js")),
    ("rtc.js", SCRIPT, include_str!("../../web/rtc.js")),
    ("style.css", STYLE, include_str!("../../web/style.css")),
    ("watch.js", SCRIPT, include_str!("../../web/watch.js")),
];

/// Scripts, styles and connections only of our own; `frame-ancestors` differs: a player may be embedded.
macro_rules! policy {
    ($ancestors:literal) => {
        concat!(
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; ",
            "connect-src 'self'; media-src 'self' blob: mediastream:; base-uri 'none'; ",
            "form-action 'none'; frame-ancestors ",
            $ancestors
        )
    };
}
const FRAMED: &str = policy!("*");
const UNFRAMED: &str = policy!("'self'");

pub(super) fn router() -> Router {
    Router::new()
        .route("/", get(|headers: HeaderMap| async move { page(&headers, INDEX, UNFRAMED) }))
        .route("/assets/{file}", get(asset))
        .route("/favicon.ico", get(icon))
        .route("/favicon.svg", get(icon))
        .route("/robots.txt", get(|| async { "User-agent: *\nDisallow: /api/\n" }))
        .route("/{room}", get(watch))
        .route("/{room}/", get(slash))
        .route("/{room}/publish", get(publish))
        .route("/{room}/join", get(join))
        .fallback(|| async { problem("Nothing here", "There is no page at this address.") })
}

async fn watch(Path(room): Path<String>, headers: HeaderMap) -> Response {
    refusal(&room).unwrap_or_else(|| page(&headers, WATCH, FRAMED))
}

async fn publish(Path(room): Path<String>, headers: HeaderMap) -> Response {
    refusal(&room).unwrap_or_else(|| page(&headers, PUBLISH, UNFRAMED))
}

async fn join(Path(room): Path<String>, headers: HeaderMap) -> Response {
    refusal(&room).unwrap_or_else(|| page(&headers, JOIN, UNFRAMED))
}

async fn slash(Path(room): Path<String>) -> Response {
    refusal(&room).unwrap_or_else(|| Redirect::permanent(&format!("/{room}")).into_response())
}

async fn icon(headers: HeaderMap) -> Response {
    file(&headers, SVG, ICON)
}

async fn asset(Path(name): Path<String>, headers: HeaderMap) -> Response {
    match ASSETS.iter().find(|(file, ..)| *file == name) {
        Some((_, kind, text)) => file(&headers, kind, text),
        None => (StatusCode::NOT_FOUND, "There is no such file.\n").into_response(),
    }
}

/// Why no room can be called so, as a page.
fn refusal(room: &str) -> Option<Response> {
    let error = RoomName::new(room, RESERVED).err()?;
    Some(problem("Not a room", &format!("The address is no room: {error}.")))
}

/// A page that says in words what is wrong.
fn problem(title: &str, text: &str) -> Response {
    let html = PROBLEM.replace("{{title}}", &escape(title)).replace("{{text}}", &escape(text));
    let mut response = (StatusCode::NOT_FOUND, html).into_response();
    dress(response.headers_mut(), HTML, UNFRAMED);
    response
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn page(headers: &HeaderMap, html: &'static str, policy: &'static str) -> Response {
    let mut response = file(headers, HTML, html);
    dress(response.headers_mut(), HTML, policy);
    response
}

/// A file that browsers keep and ask about each time, so that an update shows at once.
fn file(headers: &HeaderMap, kind: &'static str, text: &'static str) -> Response {
    let tag = tag(text);
    let known = headers
        .get(header::IF_NONE_MATCH)
        .and_then(|tags| tags.to_str().ok())
        .is_some_and(|tags| tags.split(',').any(|known| known.trim() == tag));
    let mut response = if known { StatusCode::NOT_MODIFIED.into_response() } else { text.into_response() };
    dress(response.headers_mut(), kind, UNFRAMED);
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}

/// A strong entity tag: FNV-1a over the text, which only has to tell one build's file from another's.
fn tag(text: &str) -> String {
    let hash = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    format!("\"{hash:016x}\"")
}

fn dress(headers: &mut HeaderMap, kind: &'static str, policy: &'static str) {
    let lines = [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "no-cache"),
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (
            HeaderName::from_static("permissions-policy"),
            "camera=(self), microphone=(self), display-capture=(self), speaker-selection=(self), geolocation=()",
        ),
    ];
    for (name, value) in lines {
        headers.insert(name, HeaderValue::from_static(value));
    }
}
