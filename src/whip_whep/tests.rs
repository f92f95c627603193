//! The doors as a client sees them, in memory: real SDP, a room of the tests' own behind them.

use std::sync::Mutex;

use axum::http::Response as HttpResponse;
use futures_channel::oneshot;
use tower::ServiceExt;

use super::*;
use crate::core::auth::{AuthConfig, RoomAuthConfig, Secret};
use crate::core::capabilities::{Kind, RtpParameters};
use crate::core::control::{
    ControlError, DtlsParameters, IceCandidate, IceParameters, Join, JoinError, WebRtcTransport,
};
use crate::core::id::{ConnId, ConsumerId, ProducerId, TransportId, WorkerId};
use crate::core::session::{DtlsRole, Fingerprint};

const KEY: &str = "Bearer publish-key-1";

/// What the rooms were asked, in order.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn add(&self, line: impl Into<String>) {
        self.0.lock().unwrap().push(line.into());
    }

    fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    fn has(&self, line: &str) -> bool {
        self.lines().iter().any(|one| one == line)
    }
}

#[derive(Clone, Default)]
struct House {
    log: Log,
    /// The next join fails so.
    full: Arc<Mutex<Option<JoinError>>>,
    /// The next transport fails so.
    broken: Arc<Mutex<Option<ControlError>>>,
    /// Ends the member that joined last.
    end: Arc<Mutex<Option<oneshot::Sender<()>>>>,
}

#[derive(Clone)]
struct Guest {
    house: House,
    over: Arc<Mutex<Option<oneshot::Receiver<()>>>>,
}

impl Doors for House {
    type Member = Guest;

    async fn join(&self, join: Join) -> Result<Guest, JoinError> {
        if let Some(error) = self.full.lock().unwrap().take() {
            return Err(error);
        }
        let extra = join.name.or(join.watch).unwrap_or_default();
        self.log.add(format!("join {} {} {} {extra}", join.kind, join.room, join.principal));
        let (end, over) = oneshot::channel();
        *self.end.lock().unwrap() = Some(end);
        Ok(Guest { house: self.clone(), over: Arc::new(Mutex::new(Some(over))) })
    }
}

impl Member for Guest {
    fn conn(&self) -> ConnId {
        ConnId::new(1, WorkerId(2), 3)
    }

    async fn transport(&self) -> Result<WebRtcTransport, ControlError> {
        if let Some(error) = self.house.broken.lock().unwrap().take() {
            return Err(error);
        }
        let candidate = |protocol: &str, tcp: Option<&str>| IceCandidate {
            foundation: format!("{protocol}candidate"),
            family: "ipv4".into(),
            ip: [192, 0, 2, 7].into(),
            port: 8189,
            priority: 1,
            kind: "host".into(),
            protocol: protocol.into(),
            tcp_type: tcp.map(Into::into),
        };
        Ok(WebRtcTransport {
            id: TransportId(9),
            ice: IceParameters {
                username_fragment: "ourufrag".into(),
                password: "ourpasswordourpasswordour".into(),
                ice_lite: true,
            },
            candidates: vec![candidate("udp", None), candidate("tcp", Some("passive"))],
            dtls: DtlsParameters {
                role: DtlsRole::Auto,
                fingerprints: vec![Fingerprint { algorithm: "sha-256".into(), value: hex() }],
            },
            sctp: None,
        })
    }

    async fn connect(
        &self,
        transport: TransportId,
        (role, fingerprints): (DtlsRole, Vec<Fingerprint>),
        ice: (String, String),
    ) -> Result<DtlsRole, ControlError> {
        self.house.log.add(format!("connect {transport} {role:?} {} {}", fingerprints.len(), ice.0));
        Ok(if role == DtlsRole::Server { DtlsRole::Client } else { DtlsRole::Server })
    }

    async fn restart_ice(
        &self,
        transport: TransportId,
        remote: (String, String),
    ) -> Result<IceParameters, ControlError> {
        self.house.log.add(format!("restart {transport} {} {}", remote.0, remote.1));
        Ok(IceParameters {
            username_fragment: "newufrag".into(),
            password: "newpasswordnewpasswordnew".into(),
            ice_lite: true,
        })
    }

    async fn produce(
        &self,
        _: TransportId,
        kind: Kind,
        rtp: RtpParameters,
    ) -> Result<ProducerId, ControlError> {
        self.house.log.add(format!("produce {kind:?} {}", rtp.codecs[0].mime_type));
        Ok(ProducerId(1))
    }

    async fn consume(
        &self,
        _: TransportId,
        kind: Kind,
        rtp: RtpParameters,
    ) -> Result<ConsumerId, ControlError> {
        let media = rtp.codecs.iter().filter(|codec| !codec.is_feature()).count();
        self.house.log.add(format!("consume {kind:?} {media} codecs"));
        Ok(ConsumerId(1))
    }

    async fn close(&self, reason: CloseReason) {
        self.house.log.add(format!("close {}", reason.code));
        drop(self.house.end.lock().unwrap().take());
    }

    async fn closed(&self) -> CloseReason {
        let over = self.over.lock().unwrap().take();
        if let Some(over) = over {
            let _ = over.await;
        }
        CloseReason::left()
    }
}

fn hex() -> String {
    vec!["AB"; 32].join(":")
}

/// An offer as a browser writes it.
fn offer(direction: &str, setup: &str) -> String {
    let common = format!(
        "c=IN IP4 0.0.0.0\r\na=rtcp:9 IN IP4 0.0.0.0\r\na=ice-ufrag:Them\r\n\
         a=ice-pwd:theirpasswordtheirpassword\r\na=ice-options:trickle\r\n\
         a=fingerprint:sha-256 {}\r\na=setup:{setup}\r\na={direction}\r\na=rtcp-mux\r\n",
        hex()
    );
    format!(
        "v=0\r\no=- 42 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\n\
         m=audio 9 UDP/TLS/RTP/SAVPF 111 0\r\n{common}a=mid:0\r\n\
         a=rtpmap:111 opus/48000/2\r\na=fmtp:111 minptime=10;useinbandfec=1\r\na=rtpmap:0 PCMU/8000\r\n\
         m=video 9 UDP/TLS/RTP/SAVPF 96 97 102\r\n{common}a=mid:1\r\n\
         a=rtpmap:96 VP8/90000\r\na=rtcp-fb:96 nack\r\na=rtcp-fb:96 nack pli\r\n\
         a=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\na=rtpmap:102 H264/90000\r\n\
         a=fmtp:102 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f\r\n"
    )
}

struct Bench {
    house: House,
    router: Router,
}

impl Bench {
    fn new() -> Self {
        Bench::with(Config::default())
    }

    fn with(config: Config) -> Self {
        let rooms = [("vault".into(), RoomAuthConfig { watch: Some(Secret::new("vault-token")) })];
        let auth = AuthConfig { rooms: rooms.into(), ..AuthConfig::default() };
        let authority = Authority::new(&auth, Some(&Secret::new("publish-key-1"))).unwrap();
        let house = House::default();
        let limits = SdpLimits::default();
        let router = router(house.clone(), Arc::new(authority), config, limits, &["api", "whip"]).unwrap();
        Bench { house, router }
    }

    async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut request = axum::http::Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::from(body.to_owned())).unwrap();
        let answer = self.router.clone().oneshot(request).await.unwrap();
        Answer::read(answer).await
    }

    async fn publish(&self) -> Answer {
        let headers = [("content-type", wire::SDP), ("authorization", KEY)];
        self.send("POST", "/demo/whip", &headers, &offer("sendonly", "actpass")).await
    }

    async fn watch(&self, path: &str) -> Answer {
        let offer = offer("recvonly", "actpass");
        self.send("POST", path, &[("content-type", wire::SDP)], &offer).await
    }

    async fn patch(&self, location: &str, if_match: Option<&str>, body: &str) -> Answer {
        let mut headers = vec![("content-type", wire::FRAGMENT)];
        headers.extend(if_match.map(|tag| ("if-match", tag)));
        self.send("PATCH", location, &headers, body).await
    }
}

#[derive(Debug)]
struct Answer {
    status: u16,
    headers: HeaderMap,
    body: String,
}

impl Answer {
    async fn read(answer: HttpResponse<Body>) -> Self {
        let (parts, body) = answer.into_parts();
        let exact = axum::body::HttpBody::size_hint(&body).exact();
        assert!(exact.is_some(), "a body of unknown length would be sent chunked");
        let body = String::from_utf8(to_bytes(body, 1 << 20).await.unwrap().into()).unwrap();
        Answer { status: parts.status.as_u16(), headers: parts.headers, body }
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// A refusal in words.
    fn refuses(&self, status: u16, word: &str) {
        assert_eq!(self.status, status, "{self:?}");
        assert!(self.header("content-type").starts_with("text/plain"), "{self:?}");
        assert!(self.body.contains(word) && self.body.ends_with(".\n"), "{:?}", self.body);
        assert_eq!(self.header("access-control-allow-origin"), "*");
    }
}

const TRICKLE: &str = "a=ice-ufrag:Them\r\na=ice-pwd:theirpasswordtheirpassword\r\n\
    m=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\n\
    a=candidate:1 1 udp 2122260223 192.0.2.99 50000 typ host\r\na=end-of-candidates\r\n";
const RESTART: &str = "a=ice-ufrag:Anew\r\na=ice-pwd:anewpasswordanewpassword\r\n\
    m=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\n";

#[tokio::test]
async fn a_publisher_is_answered_as_encoders_need_it() {
    let bench = Bench::new();
    let answer = bench.publish().await;
    assert_eq!(answer.status, 201, "{answer:?}");
    assert_eq!(answer.header("content-type"), "application/sdp");
    let location = answer.header("location");
    let secret = location.strip_prefix("/demo/whip/").expect("an absolute path");
    assert!(secret.len() >= 32 && secret.bytes().all(|byte| byte.is_ascii_hexdigit()), "{secret}");
    let tag = answer.header("etag");
    assert!(tag.len() > 2 && tag.starts_with('"') && tag.ends_with('"') && tag != "\"*\"", "{tag}");
    assert_eq!(answer.header("accept-patch"), wire::FRAGMENT);
    for exposed in ["Location", "ETag", "Link", "Retry-After"] {
        assert!(answer.header("access-control-expose-headers").contains(exposed));
    }
    for line in
        ["a=candidate:", "192.0.2.7 8189", "tcptype passive", "a=ice-lite", "ourufrag", "a=setup:passive"]
    {
        assert!(answer.body.contains(line), "{line} is missing in {}", answer.body);
    }
    let lines = bench.house.log.lines();
    assert_eq!(lines[0], "join whip demo publish-key ");
    assert_eq!(lines[1], "connect 9 Auto 1 Them");
    assert_eq!(lines[2], "produce Audio audio/opus");
    assert!(lines[3].starts_with("produce Video video/"), "{lines:?}");
}

#[tokio::test]
async fn two_sessions_have_two_secrets_and_tags() {
    let bench = Bench::new();
    let (one, two) = (bench.publish().await, bench.publish().await);
    assert_ne!(one.header("location"), two.header("location"));
    assert_ne!(one.header("etag"), two.header("etag"));
}

#[tokio::test]
async fn a_client_that_insists_on_waiting_is_met_by_a_dtls_client() {
    let bench = Bench::new();
    let headers = [("content-type", wire::SDP), ("authorization", KEY)];
    let answer = bench.send("POST", "/demo/whip", &headers, &offer("sendonly", "passive")).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    assert!(answer.body.contains("a=setup:active"), "{}", answer.body);
}

#[tokio::test]
async fn a_viewer_gets_every_codec_it_can_take() {
    let bench = Bench::new();
    let answer = bench.watch("/demo/whep?peer=guest").await;
    assert_eq!(answer.status, 201, "{answer:?}");
    assert!(answer.header("location").starts_with("/demo/whep/"));
    assert!(answer.body.contains("a=sendonly"), "{}", answer.body);
    let lines = bench.house.log.lines();
    assert_eq!(lines[0], "join whep demo anonymous guest");
    assert_eq!(lines[2..], ["consume Audio 2 codecs", "consume Video 2 codecs"]);
}

#[tokio::test]
async fn a_publisher_can_have_a_name() {
    let bench = Bench::new();
    let headers = [("content-type", "application/sdp; charset=utf-8"), ("authorization", KEY)];
    let offer = offer("sendonly", "actpass");
    let answer = bench.send("POST", "/demo/whip?name=left%20camera", &headers, &offer).await;
    assert_eq!(answer.status, 201);
    assert_eq!(bench.house.log.lines()[0], "join whip demo publish-key left camera");
}

#[tokio::test]
async fn without_a_token_there_is_a_challenge_and_with_the_wrong_one_a_refusal() {
    let bench = Bench::new();
    let offer = offer("sendonly", "actpass");
    let post = async |token: Option<&str>| {
        let mut headers = vec![("content-type", wire::SDP)];
        headers.extend(token.map(|token| ("authorization", token)));
        bench.send("POST", "/demo/whip", &headers, &offer).await
    };
    for token in [None, Some("Bearer "), Some("Basic cHVibGlzaDprZXk=")] {
        let answer = post(token).await;
        answer.refuses(401, "needed");
        assert_eq!(answer.header("www-authenticate"), "Bearer realm=\"viaduct\"");
    }
    let answer = post(Some("Bearer publish-key-2")).await;
    answer.refuses(401, "not known");
    assert!(answer.header("www-authenticate").contains("invalid_token"));
    post(Some("Bearer vault-token")).await.refuses(403, "not allow");
    assert_eq!(bench.house.log.lines(), Vec::<String>::new(), "nobody got in");
    assert_eq!(post(Some("bearer   publish-key-1")).await.status, 201);
}

#[tokio::test]
async fn a_closed_room_wants_its_token_to_watch() {
    let bench = Bench::new();
    bench.watch("/vault/whep").await.refuses(401, "needed");
    let headers = [("content-type", wire::SDP), ("authorization", "Bearer vault-token")];
    let answer = bench.send("POST", "/vault/whep", &headers, &offer("recvonly", "actpass")).await;
    assert_eq!(answer.status, 201);
}

#[tokio::test]
async fn refusals_of_the_room_have_their_status_their_words_and_a_time_to_ask_again() {
    let bench = Bench::new();
    for (error, status, retry) in [
        (JoinError::NothingLive, 409, "2"),
        (JoinError::NameTaken, 409, ""),
        (JoinError::RoomFull, 503, "10"),
        (JoinError::ServerFull, 503, "10"),
        (JoinError::NoWorker, 503, "10"),
        (JoinError::Worker(ControlError::WorkerLost), 503, "10"),
        (JoinError::BadName("a name has at most 64 characters".into()), 400, ""),
    ] {
        *bench.house.full.lock().unwrap() = Some(error.clone());
        let answer = bench.watch("/demo/whep").await;
        answer.refuses(status, "");
        assert_eq!(answer.header("retry-after"), retry, "{error:?}");
    }
}

#[tokio::test]
async fn a_session_that_cannot_be_made_leaves_nobody_behind() {
    let bench = Bench::new();
    *bench.house.broken.lock().unwrap() = Some(ControlError::Overloaded);
    let answer = bench.publish().await;
    answer.refuses(503, "overloaded");
    assert_eq!(answer.header("retry-after"), "10");
    tokio::task::yield_now().await;
    assert!(bench.house.log.has("close error"), "{:?}", bench.house.log.lines());
}

#[tokio::test]
async fn there_is_a_bound_to_sessions() {
    let bench = Bench::with(Config { max_sessions: 1, ..Config::default() });
    assert_eq!(bench.publish().await.status, 201);
    let second = bench.publish().await;
    second.refuses(503, "as many");
    assert_eq!(second.header("retry-after"), "10");
}

#[tokio::test]
async fn what_is_no_offer_is_refused_in_words() {
    let bench = Bench::new();
    let post = async |kind: &str, body: &str| {
        let headers = [("content-type", kind), ("authorization", KEY)];
        bench.send("POST", "/demo/whip", &headers, body).await
    };
    let answer = post("application/json", "{}").await;
    answer.refuses(415, "application/sdp");
    assert_eq!(answer.header("accept-post"), wire::SDP);
    post(wire::SDP, "hello").await.refuses(400, "offer");
    post(wire::SDP, "").await.refuses(400, "offer");
    post(wire::SDP, &"x".repeat(70_000)).await.refuses(413, "65536");
    let odd = offer("sendonly", "actpass").replace("opus", "nellymoser").replace("PCMU", "GSM");
    let odd = odd.replace("VP8", "H261").replace("H264", "theora");
    post(wire::SDP, &odd).await.refuses(406, "H264");
    assert_eq!(bench.house.log.lines(), Vec::<String>::new(), "nobody got in");
}

#[tokio::test]
async fn words_that_the_server_needs_are_no_rooms() {
    let bench = Bench::new();
    for room in ["api", "WHIP", ".hidden", "a%20b"] {
        assert_eq!(bench.watch(&format!("/{room}/whep")).await.status, 404, "{room}");
        assert_eq!(bench.send("HEAD", &format!("/{room}/whep"), &[], "").await.status, 404, "{room}");
    }
}

#[tokio::test]
async fn late_candidates_are_no_restart() {
    let bench = Bench::new();
    let opened = bench.publish().await;
    let (location, tag) = (opened.header("location"), opened.header("etag"));
    let answer = bench.patch(location, Some(tag), TRICKLE).await;
    assert_eq!((answer.status, answer.body.as_str()), (204, ""), "{answer:?}");
    let bare = "m=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\na=end-of-candidates\r\n";
    assert_eq!(bench.patch(location, Some(tag), bare).await.status, 204, "no ufrag at all");
    assert_eq!(bench.patch(location, Some("*"), TRICKLE).await.status, 204, "star, same ufrag");
    assert!(!bench.house.log.lines().iter().any(|line| line.starts_with("restart")));
}

#[tokio::test]
async fn if_match_is_needed_and_compared() {
    let bench = Bench::new();
    let opened = bench.publish().await;
    let location = opened.header("location");
    bench.patch(location, None, TRICKLE).await.refuses(428, "If-Match");
    bench.patch(location, Some("\"stale\""), TRICKLE).await.refuses(412, "If-Match");
    bench.patch(location, Some("\"stale\""), RESTART).await.refuses(412, "If-Match");
    let easy = Bench::with(Config { require_if_match: false, ..Config::default() });
    let opened = easy.publish().await;
    assert_eq!(easy.patch(opened.header("location"), None, TRICKLE).await.status, 204);
}

#[tokio::test]
async fn ice_restarts_with_either_star_and_the_tag_changes() {
    for star in ["*", "\"*\""] {
        let bench = Bench::new();
        let opened = bench.publish().await;
        let (location, old) = (opened.header("location"), opened.header("etag"));
        let answer = bench.patch(location, Some(star), RESTART).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.header("content-type"), wire::FRAGMENT);
        assert!(answer.body.contains("a=ice-ufrag:newufrag"), "{}", answer.body);
        assert!(answer.body.contains("a=ice-pwd:newpasswordnewpasswordnew"), "{}", answer.body);
        assert!(answer.body.contains("a=candidate:"), "{}", answer.body);
        let new = answer.header("etag");
        assert!(new != old && new.starts_with('"'), "{new}");
        assert!(bench.house.log.has("restart 9 Anew anewpasswordanewpassword"));
        // The new credentials are the current ones from now on.
        bench.patch(location, Some(old), RESTART).await.refuses(412, "current");
        assert_eq!(bench.patch(location, Some(new), RESTART).await.status, 204);
        bench
            .patch(location, Some(new), "a=ice-ufrag:Them\r\nm=audio 9 RTP/AVP 0\r\na=mid:0\r\n")
            .await
            .refuses(422, "ice-pwd");
    }
}

#[tokio::test]
async fn a_patch_of_another_kind_is_refused() {
    let bench = Bench::new();
    let opened = bench.publish().await;
    let location = opened.header("location");
    let headers = [("content-type", wire::SDP), ("if-match", "*")];
    let answer = bench.send("PATCH", location, &headers, "v=0\r\n").await;
    answer.refuses(415, "trickle");
    assert_eq!(answer.header("accept-patch"), wire::FRAGMENT);
    bench.patch(location, Some("*"), &"a=x\r\n".repeat(20_000)).await.refuses(413, "");
}

#[tokio::test]
async fn delete_is_200_once_and_ends_the_member() {
    let bench = Bench::new();
    let opened = bench.publish().await;
    let location = opened.header("location");
    let headers = [("authorization", KEY)];
    let answer = bench.send("DELETE", location, &headers, "").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, ""));
    assert!(bench.house.log.has("close left"));
    bench.send("DELETE", location, &headers, "").await.refuses(404, "session");
    bench.patch(location, Some("*"), TRICKLE).await.refuses(404, "session");
}

#[tokio::test]
async fn a_session_url_holds_for_its_room_its_door_and_its_token() {
    let bench = Bench::new();
    let opened = bench.publish().await;
    let location = opened.header("location").to_owned();
    for other in [location.replace("/demo/", "/other/"), location.replace("/whip/", "/whep/")] {
        bench.send("DELETE", &other, &[], "").await.refuses(404, "session");
    }
    let stranger = [("authorization", "Bearer vault-token")];
    bench.send("DELETE", &location, &stranger, "").await.refuses(403, "nother token");
    assert_eq!(bench.send("DELETE", &location, &[], "").await.status, 200, "the URL is enough");
}

#[tokio::test]
async fn a_session_that_ends_by_itself_is_forgotten() {
    let bench = Bench::new();
    let opened = bench.publish().await;
    drop(bench.house.end.lock().unwrap().take());
    for _ in 0..3 {
        tokio::task::yield_now().await;
    }
    bench.send("DELETE", opened.header("location"), &[], "").await.refuses(404, "session");
    assert!(!bench.house.log.has("close left"));
}

#[tokio::test]
async fn a_browser_elsewhere_may_ask_and_learns_what_may_be_sent() {
    let bench = Bench::new();
    for path in ["/demo/whip", "/demo/whep", "/demo/whip/0123", "/demo/whep/0123"] {
        let answer = bench.send("OPTIONS", path, &[("origin", "https://example.org")], "").await;
        assert_eq!(answer.status, 204, "{path}");
        assert_eq!(answer.header("access-control-allow-origin"), "*");
        for method in ["POST", "PATCH", "DELETE"] {
            assert!(answer.header("access-control-allow-methods").contains(method));
        }
        for name in ["Authorization", "Content-Type", "If-Match"] {
            assert!(answer.header("access-control-allow-headers").contains(name));
        }
        // What Allow promises is not refused with 405.
        for method in answer.header("allow").split(", ") {
            assert_ne!(bench.send(method, path, &[], "").await.status, 405, "{method} {path}");
        }
    }
    assert_eq!(bench.send("OPTIONS", "/demo/whip", &[], "").await.header("accept-post"), wire::SDP);
}

#[tokio::test]
async fn one_origin_can_be_named() {
    let origin = "https://studio.example";
    let bench = Bench::with(Config { allow_origin: origin.into(), ..Config::default() });
    let answer = bench.publish().await;
    assert_eq!(answer.header("access-control-allow-origin"), origin);
    assert_eq!(answer.header("vary"), "Origin");
}

#[tokio::test]
async fn looking_is_answered_as_the_drafts_say() {
    let bench = Bench::new();
    let head = bench.send("HEAD", "/demo/whep", &[], "").await;
    assert_eq!((head.status, head.header("content-type")), (200, wire::SDP));
    for (method, path) in [
        ("GET", "/demo/whip"),
        ("HEAD", "/demo/whip"),
        ("PUT", "/demo/whip"),
        ("GET", "/demo/whep"),
        ("PUT", "/demo/whep"),
        ("GET", "/demo/whip/0123"),
        ("POST", "/demo/whip/0123"),
    ] {
        let answer = bench.send(method, path, &[], "").await;
        assert_eq!(answer.status, 405, "{method} {path}");
        assert!(!answer.header("allow").is_empty(), "{method} {path}");
    }
}

#[tokio::test]
async fn each_ice_server_has_a_link_header_of_its_own() {
    let turn = IceServer {
        url: "turn:turn.example.net:3478?transport=udp".into(),
        username: Some("user".into()),
        credential: Some("pass".into()),
    };
    let stun = IceServer { url: "stun:stun.example.net:3478".into(), ..IceServer::default() };
    let bench = Bench::with(Config { ice_servers: vec![stun, turn], ..Config::default() });
    let answer = bench.publish().await;
    let links: Vec<_> = answer.headers.get_all("link").iter().map(|link| link.to_str().unwrap()).collect();
    assert_eq!(links.len(), 2);
    assert_eq!(links[0], "<stun:stun.example.net:3478>; rel=\"ice-server\"");
    assert!(links[1].contains("username=\"user\"; credential=\"pass\"; credential-type=\"password\""));
}

#[test]
fn settings_that_cannot_be_said_are_refused_at_the_start() {
    let make = |config| {
        let authority = Arc::new(Authority::default());
        router(House::default(), authority, config, SdpLimits::default(), &[]).map(drop)
    };
    let bad = Config { allow_origin: "a\nb".into(), ..Config::default() };
    assert!(matches!(make(bad), Err(ConfigError::Origin(_))));
    let server = IceServer { url: "http://x".into(), ..IceServer::default() };
    let bad = Config { ice_servers: vec![server], ..Config::default() };
    assert!(matches!(make(bad), Err(ConfigError::IceServer(_))));
}
