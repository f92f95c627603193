//! `Idempotency-Key`: a POST that is sent again, because its answer was lost, is answered again and not done again.
//! Keys count for the bearer, the path and the query they were sent with; those of nobody, and those of requests that
//! were turned away at the door, do not count: strangers cannot push out what is kept for others.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{Context, SHA256, digest};
use axum::body::{Body, Bytes, HttpBody, to_bytes};
use axum::extract::{Request, State};
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::super::Config;
use super::super::manage::Problem;

const KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Stands on an answer that is given again.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// The longest key.
const MAX_KEY: usize = 128;
/// Answers of the API are small; a larger one, which only reading makes, is given and not kept.
const MAX_ANSWER: usize = 64 * 1024;

type Hash = [u8; 32];

/// What became of a request.
enum Fate {
    Running,
    Done(Answer),
}

#[derive(Clone)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

struct Entry {
    body: Hash,
    fate: Fate,
}

#[derive(Default)]
struct Table {
    entries: HashMap<Hash, Entry>,
    /// In the order of their coming.
    order: VecDeque<(Instant, Hash)>,
}

/// The answers that are kept.
pub struct Idempotency {
    table: Mutex<Table>,
    ttl: Duration,
    max_keys: usize,
    max_body: usize,
}

/// Gives a key free again whose request came to nothing.
struct Claim<'a> {
    of: &'a Idempotency,
    key: Option<Hash>,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            let mut table = self.of.lock();
            table.entries.remove(&key);
            // It is among the newest.
            if let Some(at) = table.order.iter().rposition(|(_, other)| *other == key) {
                table.order.remove(at);
            }
        }
    }
}

impl Idempotency {
    /// Nothing is kept yet.
    pub fn new(config: &Config) -> Arc<Self> {
        Arc::new(Idempotency {
            table: Mutex::default(),
            ttl: Duration::from_millis(config.idempotency_ttl_ms),
            max_keys: config.max_idempotency_keys,
            max_body: config.max_body_bytes,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Claims `key` for a request with a body of that hash; or answers what came of an earlier one.
    fn claim(&self, now: Instant, key: Hash, body: Hash) -> Result<Claim<'_>, Box<Response>> {
        let mut table = self.lock();
        while let Some((since, old)) = table.order.front().copied() {
            let over = now.duration_since(since) > self.ttl || table.order.len() > self.max_keys;
            if !over {
                break;
            }
            table.order.pop_front();
            table.entries.remove(&old);
        }
        match table.entries.get(&key) {
            Some(entry) if entry.body != body => {
                let reason = "this idempotency key was used with another body";
                let status = StatusCode::UNPROCESSABLE_ENTITY;
                Err(Box::new(Problem::new(status, "idempotency_mismatch", reason).into_response()))
            }
            Some(Entry { fate: Fate::Running, .. }) => {
                let reason = "the first request with this idempotency key is under way";
                Err(Box::new(
                    Problem::new(StatusCode::CONFLICT, "idempotency_running", reason).into_response(),
                ))
            }
            Some(Entry { fate: Fate::Done(answer), .. }) => Err(Box::new(answer.clone().again())),
            None => {
                table.entries.insert(key, Entry { body, fate: Fate::Running });
                table.order.push_back((now, key));
                Ok(Claim { of: self, key: Some(key) })
            }
        }
    }

    /// Keeps an answer, unless it says that trying again, or another key, may help.
    async fn keep(&self, mut claim: Claim<'_>, response: Response) -> Response {
        let long = response.body().size_hint().lower() > MAX_ANSWER as u64;
        let turned_away = matches!(response.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
        if turned_away || long || response.status().is_server_error() {
            return response;
        }
        let (parts, body) = response.into_parts();
        let Ok(body) = to_bytes(body, MAX_ANSWER).await else {
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        };
        let answer = Answer { status: parts.status, headers: parts.headers.clone(), body: body.clone() };
        if let Some(key) = claim.key.take()
            && let Some(entry) = self.lock().entries.get_mut(&key)
        {
            entry.fate = Fate::Done(answer);
        }
        Response::from_parts(parts, Body::from(body))
    }
}

impl Answer {
    fn again(self) -> Response {
        let mut response = (self.status, self.headers, self.body).into_response();
        response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
        response
    }
}

/// The layer.
pub async fn layer(State(known): State<Arc<Idempotency>>, request: Request, next: Next) -> Response {
    let counts = request.method() == Method::POST && request.headers().contains_key(header::AUTHORIZATION);
    let key = request.headers().get(KEY).filter(|_| counts).cloned();
    let Some(key) = key else { return next.run(request).await };
    if key.is_empty() || key.len() > MAX_KEY {
        let reason = format!("an idempotency key has 1 to {MAX_KEY} characters");
        return Problem::bad(reason).into_response();
    }
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, known.max_body).await else {
        return Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "the body is too large")
            .into_response();
    };
    let mut whose = Context::new(&SHA256);
    let bearer = parts.headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes).unwrap_or_default();
    let place = parts.uri.path_and_query().map_or("", PathAndQuery::as_str);
    for part in [bearer, place.as_bytes(), key.as_bytes()] {
        whose.update(&(part.len() as u64).to_be_bytes());
        whose.update(part);
    }
    let (whose, hash) = (hash(whose.finish().as_ref()), hash(digest(&SHA256, &body).as_ref()));
    let claim = match known.claim(Instant::now(), whose, hash) {
        Ok(claim) => claim,
        Err(answer) => return *answer,
    };
    let response = next.run(Request::from_parts(parts, Body::from(body))).await;
    known.keep(claim, response).await
}

fn hash(bytes: &[u8]) -> Hash {
    let mut hash = [0; 32];
    hash.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    hash
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use axum::Router;
    use axum::routing::post;
    use tower::ServiceExt;

    use super::*;

    /// Counts its requests; `fail` in the body: refuses for now.
    fn counting(config: &Config) -> Router {
        let count = Arc::new(AtomicU32::new(0));
        let handler = move |body: String| async move {
            let n = count.fetch_add(1, Ordering::SeqCst);
            let status = match body.as_str() {
                "fail" => StatusCode::SERVICE_UNAVAILABLE,
                "stranger" => StatusCode::UNAUTHORIZED,
                _ => StatusCode::CREATED,
            };
            (status, if body == "long" { "x".repeat(MAX_ANSWER + 1) } else { n.to_string() })
        };
        let layer = axum::middleware::from_fn_with_state(Idempotency::new(config), layer);
        Router::new().route("/a", post(handler.clone())).route("/b", post(handler)).layer(layer)
    }

    async fn ask(router: &Router, path: &str, key: &str, body: &'static str) -> (u16, String, bool) {
        let request = Request::builder().method("POST").uri(path).header("Idempotency-Key", key);
        let request = request.header("Authorization", "Bearer of the test");
        let response = router.clone().oneshot(request.body(Body::from(body)).unwrap()).await.unwrap();
        let (status, replayed) = (response.status().as_u16(), response.headers().contains_key(REPLAYED));
        let body = to_bytes(response.into_body(), 2 * MAX_ANSWER).await.unwrap();
        (status, String::from_utf8(body.into()).unwrap(), replayed)
    }

    #[tokio::test]
    async fn what_is_asked_again_is_done_once() {
        let router = counting(&Config::default());
        assert_eq!(ask(&router, "/a", "k", "x").await, (201, "0".into(), false));
        assert_eq!(ask(&router, "/a", "k", "x").await, (201, "0".into(), true));
        assert_eq!(ask(&router, "/a", "l", "x").await, (201, "1".into(), false), "another key");
        assert_eq!(ask(&router, "/b", "k", "x").await, (201, "2".into(), false), "another path");
        assert_eq!(ask(&router, "/a", "k", "y").await.0, 422, "another body");
        assert_eq!(ask(&router, "/a", "", "y").await.0, 400);
        assert_eq!(ask(&router, "/a", &"k".repeat(129), "y").await.0, 400);
    }

    #[tokio::test]
    async fn a_long_answer_is_given_whole_and_not_kept() {
        let router = counting(&Config::default());
        for _ in 0..2 {
            let (status, body, replayed) = ask(&router, "/a", "k", "long").await;
            assert_eq!((status, body.len(), replayed), (201, MAX_ANSWER + 1, false));
        }
    }

    #[tokio::test]
    async fn what_failed_for_now_may_be_tried_again() {
        let router = counting(&Config::default());
        assert_eq!(ask(&router, "/a", "k", "fail").await, (503, "0".into(), false));
        assert_eq!(ask(&router, "/a", "k", "fail").await, (503, "1".into(), false));
        assert_eq!(ask(&router, "/a", "k", "x").await, (201, "2".into(), false));
    }

    #[tokio::test]
    async fn who_is_turned_away_pushes_nobody_out() {
        let router = counting(&Config { max_idempotency_keys: 2, ..Config::default() });
        assert_eq!(ask(&router, "/a", "mine", "x").await, (201, "0".into(), false));
        for n in 1..10 {
            let answer = ask(&router, "/a", &format!("{n}"), "stranger").await;
            assert_eq!(answer, (401, n.to_string(), false));
        }
        assert_eq!(ask(&router, "/a", "mine", "x").await, (201, "0".into(), true));
    }

    #[test]
    fn keys_are_forgotten_by_age_and_number() {
        let config = Config { max_idempotency_keys: 2, idempotency_ttl_ms: 1000, ..Config::default() };
        let known = Idempotency::new(&config);
        let now = Instant::now();
        let take = |at: u64, key: u8| {
            let claim = known.claim(now + Duration::from_millis(at), [key; 32], [0; 32]);
            claim.map(|mut claim| claim.key = None).is_ok()
        };
        assert!(take(0, 1));
        assert!(!take(0, 1), "it is under way");
        assert!(take(0, 2) && take(0, 3) && take(0, 4));
        assert!(take(0, 1), "pushed out by newer ones");
        assert!(take(2000, 4), "too old");
    }

    #[test]
    fn a_request_that_is_given_up_frees_its_key() {
        let known = Idempotency::new(&Config::default());
        let now = Instant::now();
        drop(known.claim(now, [1; 32], [0; 32]));
        assert!(known.claim(now, [1; 32], [0; 32]).is_ok());
    }
}
