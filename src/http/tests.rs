//! Pages and API in memory; the listener on real sockets, since limits and TLS are what it is for.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, HttpBody, to_bytes};
use axum::extract::ConnectInfo;
use axum::http::{HeaderMap, Request};
use axum::routing::get;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tower::ServiceExt;

use super::{Config, Facts, RESERVED, TlsFiles};
use crate::core::auth::{AuthConfig, Authority};
use crate::core::control::controller::{ControlConfig, Door, vocabulary};
use crate::core::control::{Rooms, RoomsConfig};
use crate::core::time::Epoch;

/// Keys: `boss` may control every room, `t` opens the closed room `vault`.
fn authority() -> Authority {
    let boss = json!({"name": "boss", "key": "b", "actions": ["watch", "publish", "control"]});
    let config = json!({"keys": [boss], "rooms": {"vault": {"watch": "t"}}});
    let config: AuthConfig = serde_json::from_value(config).expect("a configuration");
    Authority::new(&config, None).expect("keys")
}

/// Rooms without workers.
fn rooms() -> Rooms {
    let epoch = Epoch { instant: Instant::now(), unix: Duration::ZERO };
    Rooms::new(RoomsConfig::default(), epoch, None)
}

/// All routes but those of calls.
fn routes(config: &Config) -> Router {
    let facts = Facts { rtmp_port: Some(1935), ..Facts::default() };
    let (authority, rooms) = (Arc::new(authority()), rooms());
    let door = Door::new(rooms.clone(), authority.clone(), ControlConfig::default(), RESERVED);
    let methods = super::io::methods::router(door, config);
    super::router(facts).merge(super::manage::router(authority, rooms)).merge(methods)
}

async fn ask(method: &str, path: &str, headers: &[(&str, &str)]) -> (u16, HeaderMap, String) {
    send(routes(&Config::default()), method, path, headers, "").await
}

async fn send(
    router: Router,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> (u16, HeaderMap, String) {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Body::from(body.to_owned())).unwrap();
    let (parts, body) = router.oneshot(request).await.unwrap().into_parts();
    let body = to_bytes(body, 1 << 20).await.unwrap();
    (parts.status.as_u16(), parts.headers, String::from_utf8(body.into()).unwrap())
}

#[tokio::test]
async fn pages_are_whole_and_ask_nothing_of_third_parties() {
    for path in ["/", "/demo", "/demo/publish", "/demo/join"] {
        let (status, headers, html) = ask("GET", path, &[]).await;
        assert_eq!(status, 200, "{path}");
        assert_eq!(headers["content-type"], "text/html; charset=utf-8");
        assert_eq!(headers["x-content-type-options"], "nosniff");
        assert_eq!(headers["referrer-policy"], "no-referrer");
        let policy = headers["content-security-policy"].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self'"), "{policy}");
        assert!(!html.contains("http://") && !html.contains("https://"), "{path} names a host");
        // Every file a page names is there.
        for part in html.split('"').filter(|part| part.starts_with("/assets/")) {
            assert_eq!(ask("GET", part, &[]).await.0, 200, "{part} of {path}");
        }
    }
}

#[tokio::test]
async fn scripts_import_what_is_there() {
    for script in ["home.js", "watch.js", "publish.js", "join.js"] {
        let (_, headers, text) = ask("GET", &format!("/assets/{script}"), &[]).await;
        assert_eq!(headers["content-type"], "text/javascript; charset=utf-8");
        let imports: Vec<_> = text.lines().filter_map(|line| line.split("from \"./").nth(1)).collect();
        assert!(!imports.is_empty(), "{script}");
        for import in imports {
            let file = import.trim_end_matches("\";");
            assert_eq!(ask("GET", &format!("/assets/{file}"), &[]).await.0, 200, "{file}");
        }
    }
}

#[tokio::test]
async fn a_page_that_the_browser_has_is_not_sent_again() {
    let (_, headers, _) = ask("GET", "/demo", &[]).await;
    let tag = headers["etag"].to_str().unwrap();
    let (status, _, body) = ask("GET", "/demo", &[("if-none-match", tag)]).await;
    assert_eq!((status, body.as_str()), (304, ""));
    assert_eq!(ask("GET", "/demo", &[("if-none-match", "\"old\"")]).await.0, 200);
}

#[tokio::test]
async fn what_is_no_room_is_said_in_words() {
    // Below /assets/ there are files, not rooms.
    for name in RESERVED.iter().filter(|name| **name != "assets") {
        for path in [format!("/{}/publish", name.to_uppercase()), format!("/{name}/publish")] {
            let (status, headers, html) = ask("GET", &path, &[]).await;
            assert_eq!(status, 404, "{path}");
            assert!(headers["content-type"].to_str().unwrap().starts_with("text/html"));
            assert!(html.contains("choose another room name"), "{path}: {html}");
        }
    }
    for path in ["/.git", "/a%20b", "/%3Cscript%3E", &format!("/{}", "x".repeat(65)), "/a/b/c"] {
        let (status, _, html) = ask("GET", path, &[]).await;
        assert_eq!(status, 404, "{path}");
        assert!(!html.contains("{{") && !html.contains("<script>"), "{path}: {html}");
    }
}

#[tokio::test]
async fn a_slash_too_many_is_forgiven() {
    let (status, headers, _) = ask("GET", "/demo/", &[]).await;
    assert_eq!((status, headers["location"].to_str().unwrap()), (308, "/demo"));
}

#[tokio::test]
async fn the_api_refuses_in_words_and_codes() {
    let (status, headers, body) = ask("GET", "/api/rooms", &[]).await;
    assert_eq!((status, headers["content-type"].to_str().unwrap()), (200, "application/json"));
    assert_eq!((headers["cache-control"].to_str().unwrap(), body.as_str()), ("no-store", "[]"));
    let boss = ("authorization", "Bearer b");
    for (method, path, bearer, status, code) in [
        ("GET", "/api/rooms/none", None, 404, "unknown_room"),
        ("GET", "/api/rooms/none/peers", None, 401, "unauthorized"),
        ("GET", "/api/rooms/none/peers", Some(("authorization", "Bearer wrong")), 401, "unauthorized"),
        ("GET", "/api/rooms/none/peers", Some(("authorization", "Bearer t")), 403, "denied"),
        ("GET", "/api/rooms/none/peers", Some(boss), 404, "unknown_room"),
        ("GET", "/api/rooms/api/peers", Some(boss), 400, "bad_request"),
        ("GET", "/api/rooms?limit=x", None, 400, "bad_request"),
        ("GET", "/api/rooms?limti=1", None, 400, "bad_request"),
        ("DELETE", "/api/rooms/none", Some(boss), 404, "unknown_room"),
        ("PATCH", "/api/rooms/none/peers/1", Some(boss), 415, "bad_request"),
        ("POST", "/api/rooms", Some(boss), 415, "bad_request"),
    ] {
        let (found, headers, body) = ask(method, path, &bearer.into_iter().collect::<Vec<_>>()).await;
        let body: Value = serde_json::from_str(&body).expect(path);
        assert_eq!((found, &body["code"]), (status, &json!(code)), "{method} {path}: {body}");
        assert!(body["reason"].as_str().is_some_and(|reason| reason.len() > 10), "{body}");
        assert_eq!(headers.contains_key("www-authenticate"), status == 401);
    }
    let (_, _, body) = ask("GET", "/api/server", &[]).await;
    assert_eq!(serde_json::from_str::<Value>(&body).unwrap()["rtmp_port"], 1935);
    assert_eq!(ask("GET", "/healthz", &[]).await.0, 200);
}

#[tokio::test]
async fn the_description_names_what_is_there() {
    let (status, _, body) = ask("GET", "/api/openapi.json", &[]).await;
    let document: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, document["openapi"].as_str().map(|text| &text[..3])), (200, Some("3.1")));
    let paths = document["paths"].as_object().unwrap();
    assert!(paths.len() >= 9, "{:?}", paths.keys());
    // A stream of events ends with its reader only.
    assert_eq!(ask("GET", "/api/events", &[]).await.0, 401);
    for (path, methods) in
        paths.iter().filter(|(path, _)| !path.starts_with("/api/calls") && !path.starts_with("/api/events"))
    {
        let example = path.replace("{room}", "r").replace("{conn}", "0").replace(['{', '}'], "");
        for (method, operation) in methods.as_object().unwrap() {
            let status = ask(&method.to_uppercase(), &example, &[]).await.0;
            assert!(![404, 405].contains(&status) || example == "/api/rooms/r", "{method} {path}: {status}");
            let answers = operation["responses"].as_object().unwrap();
            assert!(
                !answers.is_empty()
                    && operation["description"].is_string() | operation["summary"].is_string()
            );
        }
    }
    // Every reference leads somewhere.
    for reference in body.split("\"$ref\":\"#").skip(1).filter_map(|rest| rest.split('"').next()) {
        assert!(document.pointer(reference).is_some(), "{reference}");
    }
}

/// Asks for a method of the control protocol as `boss`.
async fn control(router: &Router, method: &str, body: &str) -> (u16, Value) {
    let key = [("authorization", "Bearer b")];
    let (status, _, body) = send(router.clone(), "POST", &format!("/api/control/{method}"), &key, body).await;
    (status, serde_json::from_str(&body).unwrap_or_default())
}

#[tokio::test]
async fn every_request_of_the_control_protocol_is_described_and_there() {
    let document: Value = serde_json::from_str(&super::manage::description()).unwrap();
    let router = routes(&Config::default());
    for name in vocabulary::names() {
        let operation = &document["paths"][format!("/api/control/{name}")]["post"];
        assert!(operation["summary"].is_string(), "{name}");
        let entry = vocabulary::Entry::find(name).unwrap();
        let fields = entry.internal.iter().chain(entry.data);
        let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
        for field in fields {
            assert!(schema["properties"][field.name].is_object(), "{name}: {}", field.name);
        }
        let (status, answer) = control(&router, name, "{}").await;
        assert_ne!(answer["code"], "unknown_method", "{name}");
        let listed = operation["responses"][status.to_string()].is_object();
        assert!(listed, "{name} answers {status}, which the description does not list: {answer}");
        let (status, _, _) = send(router.clone(), "POST", &format!("/api/control/{name}"), &[], "").await;
        assert_eq!(status, 401, "{name} without a key");
    }
    assert_eq!(control(&router, "room.dance", "").await.1["code"], "unknown_method");
}

#[tokio::test]
async fn a_key_is_one_controller_and_its_rights_are_those_of_the_protocol() {
    let router = routes(&Config::default());
    let (status, hello) = control(&router, "Hello", "").await;
    assert_eq!((status, &hello["authenticated"]), (200, &json!(true)));
    assert_eq!(control(&router, "Hello", "").await.1["session"], hello["session"]);
    assert_eq!(control(&router, "room.dump", "[]").await.1["code"], "bad_request");
    assert_eq!(
        control(&router, "room.dump", "{}").await,
        (400, json!({"code": "bad_data", "reason": "data.room is missing"}))
    );
    assert_eq!(control(&router, "room.dump", r#"{"room": "r"}"#).await.0, 404);
    let long = format!(r#"{{"room": "{}"}}"#, "r".repeat(70_000));
    assert_eq!(control(&router, "room.dump", &long).await.1["code"], "too_big");
    assert_eq!(control(&router, "room.watch", r#"{"watchId": 7}"#).await.0, 200);
    assert_eq!(control(&router, "room.watch", r#"{"watchId": 7}"#).await.1["code"], "duplicate_id");
    let token = [("authorization", "Bearer t")];
    let (status, _, body) = send(router, "POST", "/api/control/room.list", &token, "").await;
    assert_eq!((status, body.contains("denied")), (403, true));
}

#[tokio::test]
async fn events_are_kept_for_who_reads_late() {
    let router = routes(&Config { max_control_events: 2, ..Config::default() });
    assert_eq!(control(&router, "room.watch", r#"{"watchId": 7}"#).await.0, 200);
    for _ in 0..3 {
        assert_eq!(control(&router, "room.unwatch", r#"{"watchId": 7}"#).await.0, 200);
        assert_eq!(control(&router, "room.watch", r#"{"watchId": 7}"#).await.0, 200);
    }
    let request = Request::builder().uri("/api/events?after=0").header("authorization", "Bearer b");
    let response = router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut body = response.into_body();
    let mut next = async || {
        let frame = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await;
        String::from_utf8(frame.unwrap().unwrap().into_data().unwrap().to_vec()).unwrap()
    };
    assert_eq!(next().await, "event: lagged\ndata: {\"after\":0,\"next\":2}\n\n");
    let kept = next().await;
    assert!(kept.starts_with("id: 2\nevent: close\n") && kept.contains("\nid: 3\nevent: close\n"), "{kept}");
    assert_eq!(control(&router, "room.unwatch", r#"{"watchId": 7}"#).await.0, 200);
    let mut live = next().await;
    while live == ":\n\n" {
        live = next().await;
    }
    assert!(live.starts_with("id: 4\nevent: close\n"), "{live}");
}

#[tokio::test]
async fn a_controller_that_asks_nothing_any_more_is_gone() {
    let router = routes(&Config { control_idle_ms: 1, ..Config::default() });
    let request = Request::builder().uri("/api/events").header("authorization", "Bearer b");
    let reading = router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let session = control(&router, "Hello", "").await.1["session"].clone();
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert_eq!(control(&router, "Hello", "").await.1["session"], session, "somebody reads its events");
    }
    drop(reading);
    while control(&router, "Hello", "").await.1["session"] == session {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

// ---- the listener ----

/// A listener on a free port with `config`, stopped when dropped.
struct Listening {
    address: SocketAddr,
    _stop: oneshot::Sender<()>,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Listening {
    fn start(config: Config, tls: Option<TlsFiles>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let who = get(|ConnectInfo(remote): ConnectInfo<SocketAddr>| async move { remote.ip().to_string() });
        let slow = get(|| async { std::future::pending::<&str>().await });
        let router =
            Router::new().route("/who", who.post(|body: String| async { body })).route("/slow", slow);
        runtime.spawn(super::io::serve(vec![listener], router, tls, config, async {
            let _ = stopped.await;
        }));
        Listening { address, _stop: stop, runtime: Some(runtime) }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream
    }

    /// Sends `request`, reads to the end.
    fn ask(&self, request: &str) -> String {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).unwrap();
        rest(&mut stream)
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Everything until the end, a reset being an end, too.
fn rest(stream: &mut impl Read) -> String {
    let mut text = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => text.extend_from_slice(&buffer[..length]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                panic!("the connection was left open after {:?}", String::from_utf8_lossy(&text))
            }
            Err(_) => break,
        }
    }
    String::from_utf8(text).unwrap()
}

const CLOSE: &str = "Host: localhost\r\nConnection: close\r\n\r\n";

#[test]
fn an_answer_has_its_length_and_knows_who_asked() {
    let server = Listening::start(Config::default(), None);
    let answer = server.ask(&format!("GET /who HTTP/1.1\r\n{CLOSE}"));
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.to_lowercase().contains("content-length: 9\r\n"), "{answer}");
    assert!(answer.ends_with("127.0.0.1"), "{answer}");
}

#[test]
fn heads_and_bodies_are_bounded() {
    let server = Listening::start(Config::default(), None);
    let filler = "x".repeat(20_000);
    let answer = server.ask(&format!("GET /who HTTP/1.1\r\nX-Filler: {filler}\r\n{CLOSE}"));
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    let many: String = (0..100).map(|number| format!("X-{number}: y\r\n")).collect();
    let answer = server.ask(&format!("GET /who HTTP/1.1\r\n{many}{CLOSE}"));
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    let answer = server.ask(&format!("POST /who HTTP/1.1\r\nContent-Length: 65537\r\n{CLOSE}"));
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    let chunk = format!("{:x}\r\n{filler}\r\n", filler.len()).repeat(4);
    let answer =
        server.ask(&format!("POST /who HTTP/1.1\r\nTransfer-Encoding: chunked\r\n{CLOSE}{chunk}0\r\n\r\n"));
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    let answer = server.ask("\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
}

#[test]
fn who_dawdles_is_cut_off() {
    let config = Config { header_timeout_ms: 200, request_timeout_ms: 200, ..Config::default() };
    let server = Listening::start(config, None);
    let begun = Instant::now();
    let mut half = server.connect();
    half.write_all(b"GET /who HTTP/1.1\r\nHost: lo").unwrap();
    rest(&mut half);
    let mut silent = server.connect();
    rest(&mut silent);
    let mut idle = server.connect();
    idle.write_all(b"GET /who HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    assert!(rest(&mut idle).starts_with("HTTP/1.1 200 "));
    let answer = server.ask("GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    let mut half = server.connect();
    half.write_all(b"POST /who HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nabc").unwrap();
    assert!(rest(&mut half).starts_with("HTTP/1.1 408 "));
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
}

#[test]
fn there_is_a_bound_to_connections_and_room_again_after() {
    let server = Listening::start(Config { max_connections: 2, ..Config::default() }, None);
    let held: Vec<_> = (0..2)
        .map(|_| {
            let mut stream = server.connect();
            stream.write_all(b"GET /who HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            stream
        })
        .collect();
    let mut refused = server.connect();
    let answer = rest(&mut refused);
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("Retry-After"), "{answer}");
    drop(held);
    let deadline = Instant::now() + Duration::from_secs(5);
    while !server.ask(&format!("GET /who HTTP/1.1\r\n{CLOSE}")).starts_with("HTTP/1.1 200 ") {
        assert!(Instant::now() < deadline, "no room again");
    }
}

// ---- TLS ----

/// A directory of its own with a certificate in it.
struct Certificates(std::path::PathBuf);

impl Certificates {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("viaduct-http-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let made = Certificates(folder);
        made.renew();
        made
    }

    fn renew(&self) -> Vec<u8> {
        let made = super::tls::self_signed(&["localhost".to_owned()]).unwrap();
        std::fs::write(self.0.join("cert.pem"), &made.certificate).unwrap();
        std::fs::write(self.0.join("key.pem"), made.key).unwrap();
        made.certificate.into_bytes()
    }

    fn files(&self) -> TlsFiles {
        TlsFiles { certificate: self.0.join("cert.pem"), key: self.0.join("key.pem") }
    }
}

impl Drop for Certificates {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Asks `/who` over TLS, trusting only the certificate in `pem`.
fn ask_tls(server: &Listening, pem: &[u8]) -> std::io::Result<String> {
    use rustls::pki_types::pem::PemObject;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(rustls::pki_types::CertificateDer::from_pem_slice(pem).unwrap()).unwrap();
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let config = rustls::ClientConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = "localhost".try_into().unwrap();
    let mut tls = rustls::ClientConnection::new(config.into(), name).unwrap();
    let mut socket = server.connect();
    let mut stream = rustls::Stream::new(&mut tls, &mut socket);
    stream.write_all(format!("GET /who HTTP/1.1\r\n{CLOSE}").as_bytes())?;
    Ok(rest(&mut stream))
}

#[test]
fn https_works_and_plain_http_on_its_port_is_told_so() {
    let certificates = Certificates::new("plain");
    let server = Listening::start(Config::default(), Some(certificates.files()));
    let pem = std::fs::read(certificates.files().certificate).unwrap();
    assert!(ask_tls(&server, &pem).unwrap().starts_with("HTTP/1.1 200 "));
    let host = format!("Host: {}\r\nConnection: close\r\n\r\n", server.address);
    let answer = server.ask(&format!("GET /demo?x=1 HTTP/1.1\r\n{host}"));
    assert!(answer.starts_with("HTTP/1.1 307 "), "{answer}");
    let place = format!("location: https://{}/demo?x=1\r\n", server.address);
    assert!(answer.to_lowercase().contains(&place), "{answer}");
    let answer = server.ask(&format!("POST /demo/whip HTTP/1.1\r\nContent-Length: 0\r\n{host}"));
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.contains(&format!("Use https://{}/demo/whip", server.address)), "{answer}");
}

#[test]
fn a_renewed_certificate_is_used_and_a_broken_one_is_not() {
    let certificates = Certificates::new("renew");
    let config = Config { tls_reload_ms: 100, ..Config::default() };
    let server = Listening::start(config, Some(certificates.files()));
    let first = std::fs::read(certificates.files().certificate).unwrap();
    assert!(ask_tls(&server, &first).is_ok());
    std::fs::write(certificates.files().certificate, "half a file").unwrap();
    for _ in 0..10 {
        assert!(ask_tls(&server, &first).is_ok(), "the old one stays");
        std::thread::sleep(Duration::from_millis(30));
    }
    let second = certificates.renew();
    let deadline = Instant::now() + Duration::from_secs(10);
    while ask_tls(&server, &second).is_err() {
        assert!(Instant::now() < deadline, "the new certificate was not picked up");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(ask_tls(&server, &first).is_err());
}

#[tokio::test]
async fn a_key_of_another_certificate_is_refused_at_the_start() {
    let (one, two) = (Certificates::new("one"), Certificates::new("two"));
    let files = TlsFiles { certificate: one.files().certificate, key: two.files().key };
    let listening = super::io::serve(vec![], Router::new(), Some(files), Config::default(), async {});
    let error = listening.await.unwrap_err().to_string();
    assert!(error.contains("cert.pem"), "{error}");
    let files = TlsFiles { certificate: "/nowhere/c.pem".into(), key: two.files().key };
    let listening = super::io::serve(vec![], Router::new(), Some(files), Config::default(), async {});
    assert!(listening.await.unwrap_err().to_string().contains("/nowhere/c.pem"));
}
