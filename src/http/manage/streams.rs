//! `/api/rooms/<room>/pushes`, `pulls`, `players`: streams that the server sends away, fetches or plays, for those who
//! may control the room; each of them at `/api/rooms/<room>/streams/<id>`.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use utoipa::ToSchema;

use super::problem::{Answer, Problem};
use super::shape::Page;
use super::{Asked, Manage, Sent, fresh, listed};
use crate::core::control::streams::{Play, Pull, Push, StreamInfo, StreamKind, Wanted};
use crate::core::control::{StreamError, Streams};
use crate::core::id::SessionId;
use crate::core::room::RoomName;

type Context = State<Arc<Manage>>;

/// A stream that the server sends away, fetches or plays.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[allow(dead_code)] // describes `StreamInfo`
pub(super) struct Stream {
    /// Its id.
    #[schema(example = "00000000000000000000000000000001")]
    id: String,
    /// `push`, `pull` or `play`.
    kind: String,
    /// Its room.
    room: String,
    /// The peer it is in the room, while it is one.
    conn: Option<String>,
    /// Whereto or wherefrom, without the stream's name; or which file.
    #[schema(example = "rtmp://live.example/app/...")]
    what: String,
    /// `connecting`, `live`, `paused`, `waiting` (it broke and is tried again), `ended`, `failed`.
    state: String,
    /// Why it is there; of a push that is live, what of the room it cannot send.
    reason: Option<String>,
    /// Tries since it last was live.
    attempts: u32,
}

/// Where the room is to be sent.
#[derive(ToSchema)]
#[allow(dead_code)] // describes `Push`
pub(super) struct NewPush {
    /// `rtmp://` or `rtmps://`, with the stream's name (key) as its last part.
    #[schema(example = "rtmps://live.example/app/key")]
    url: String,
    /// The publisher by name whose tracks go out; otherwise the room's program.
    peer: Option<String>,
}

/// What is to be fetched.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[allow(dead_code)] // describes `Pull`
pub(super) struct NewPull {
    /// `rtmp://` or `rtmps://`, with the stream's name as its last part.
    url: String,
    /// The publisher's name in the room.
    name: Option<String>,
    /// Its name for people.
    display_name: Option<String>,
}

/// What is to be played.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[allow(dead_code)] // describes `Play`
pub(super) struct NewPlayer {
    /// A file below `media_dir`.
    #[schema(example = "trailer.mp4")]
    file: String,
    /// Begin anew at its end. Default false.
    #[schema(rename = "loop")]
    repeats: Option<bool>,
    /// The publisher's name in the room.
    name: Option<String>,
    /// Its name for people.
    display_name: Option<String>,
}

/// What is to be changed about a stream.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct StreamChange {
    /// Whether a player is held.
    paused: bool,
}

impl Manage {
    /// Whoever carries streams.
    fn streams(&self) -> Answer<Arc<dyn Streams>> {
        let nobody =
            || Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "nothing here carries streams");
        self.rooms.streams().ok_or_else(nobody)
    }

    fn stream(&self, room: &RoomName, id: &str) -> Answer<StreamInfo> {
        let id = id_of(id)?;
        let found = self.streams()?.list(room).into_iter().find(|stream| stream.id == id);
        Ok(found.ok_or(StreamError::Unknown)?)
    }

    fn of_kind(
        &self,
        headers: &HeaderMap,
        name: &str,
        page: Asked<Page>,
        kind: StreamKind,
        part: &str,
    ) -> Answer<Response> {
        let Query(page) = page?;
        let room = self.controlled(headers, name)?;
        let mut all = self.streams()?.list(&room);
        all.retain(|stream| stream.kind == kind);
        all.sort_unstable_by_key(|stream| stream.id);
        let (shown, last) = page.cut(all, |stream| stream.id.to_string());
        Ok(listed(shown, &format!("/api/rooms/{name}/{part}"), &page, last))
    }

    async fn begin(
        &self,
        headers: &HeaderMap,
        name: &str,
        wanted: Result<Wanted, JsonRejection>,
    ) -> Answer<Response> {
        let who = self.authority.identify(super::bearer(headers))?;
        let room = self.controlled(headers, name)?;
        let info = self.streams()?.begin(&who, &room, wanted?).await?;
        let place = format!("/api/rooms/{room}/streams/{}", info.id);
        let mut response = (StatusCode::CREATED, fresh(info)).into_response();
        if let Ok(place) = HeaderValue::from_str(&place) {
            response.headers_mut().insert(header::LOCATION, place);
        }
        Ok(response)
    }
}

fn id_of(id: &str) -> Answer<SessionId> {
    Ok(SessionId::parse(id).ok_or(StreamError::Unknown)?)
}

/// Where the room is sent.
#[utoipa::path(get, path = "/api/rooms/{room}/pushes", tag = "streams", params(("room" = String, Path, description = "The room"), Page),
    responses((status = 200, description = "Pushes, and those that ended lately", body = [Stream])))]
pub(super) async fn pushes(
    State(api): Context,
    Path(room): Path<String>,
    headers: HeaderMap,
    page: Asked<Page>,
) -> Answer<Response> {
    api.of_kind(&headers, &room, page, StreamKind::Push, "pushes")
}

/// Sends the room's program, or a publisher's tracks, to an RTMP server; again and again if it breaks.
#[utoipa::path(post, path = "/api/rooms/{room}/pushes", tag = "streams", request_body = NewPush,
    params(("room" = String, Path, description = "The room"), super::IdempotencyKey),
    responses((status = 201, description = "It is under way; `Location` leads to it", body = Stream),
        (status = 400, description = "`bad_request`", body = Problem), (status = 403, description = "`denied`, `forbidden_target`", body = Problem),
        (status = 503, description = "`full`", body = Problem)))]
pub(super) async fn push(
    State(api): Context,
    Path(room): Path<String>,
    headers: HeaderMap,
    body: Sent<Push>,
) -> Answer<Response> {
    api.begin(&headers, &room, body.map(|Json(push)| Wanted::Push(push))).await
}

/// What is fetched into the room.
#[utoipa::path(get, path = "/api/rooms/{room}/pulls", tag = "streams", params(("room" = String, Path, description = "The room"), Page),
    responses((status = 200, description = "Pulls, and those that ended lately", body = [Stream])))]
pub(super) async fn pulls(
    State(api): Context,
    Path(room): Path<String>,
    headers: HeaderMap,
    page: Asked<Page>,
) -> Answer<Response> {
    api.of_kind(&headers, &room, page, StreamKind::Pull, "pulls")
}

/// Fetches a stream from an RTMP server into the room, as a publisher; again and again if it breaks.
#[utoipa::path(post, path = "/api/rooms/{room}/pulls", tag = "streams", request_body = NewPull,
    params(("room" = String, Path, description = "The room"), super::IdempotencyKey),
    responses((status = 201, description = "It is under way; `Location` leads to it", body = Stream),
        (status = 400, description = "`bad_request`", body = Problem), (status = 403, description = "`denied`, `forbidden_target`", body = Problem),
        (status = 503, description = "`full`", body = Problem)))]
pub(super) async fn pull(
    State(api): Context,
    Path(room): Path<String>,
    headers: HeaderMap,
    body: Sent<Pull>,
) -> Answer<Response> {
    api.begin(&headers, &room, body.map(|Json(pull)| Wanted::Pull(pull))).await
}

/// Files that are played in the room.
#[utoipa::path(get, path = "/api/rooms/{room}/players", tag = "streams", params(("room" = String, Path, description = "The room"), Page),
    responses((status = 200, description = "Players, and those that ended lately", body = [Stream])))]
pub(super) async fn players(
    State(api): Context,
    Path(room): Path<String>,
    headers: HeaderMap,
    page: Asked<Page>,
) -> Answer<Response> {
    api.of_kind(&headers, &room, page, StreamKind::Play, "players")
}

/// Plays a file below `media_dir` in the room, as a publisher.
#[utoipa::path(post, path = "/api/rooms/{room}/players", tag = "streams", request_body = NewPlayer,
    params(("room" = String, Path, description = "The room"), super::IdempotencyKey),
    responses((status = 201, description = "It plays; `Location` leads to it", body = Stream),
        (status = 400, description = "`bad_request`", body = Problem), (status = 404, description = "`unknown_file`", body = Problem),
        (status = 503, description = "`full`", body = Problem)))]
pub(super) async fn play(
    State(api): Context,
    Path(room): Path<String>,
    headers: HeaderMap,
    body: Sent<Play>,
) -> Answer<Response> {
    api.begin(&headers, &room, body.map(|Json(play)| Wanted::Play(play))).await
}

/// A push, pull or player.
#[utoipa::path(get, path = "/api/rooms/{room}/streams/{stream}", tag = "streams",
    params(("room" = String, Path, description = "The room"), ("stream" = String, Path, description = "Its id")),
    responses((status = 200, description = "The stream", body = Stream), (status = 404, description = "`unknown_stream`", body = Problem)))]
pub(super) async fn show(
    State(api): Context,
    Path((room, id)): Path<(String, String)>,
    headers: HeaderMap,
) -> Answer<Response> {
    let room = api.controlled(&headers, &room)?;
    Ok(fresh(api.stream(&room, &id)?))
}

/// Holds a player, or lets it go on.
#[utoipa::path(patch, path = "/api/rooms/{room}/streams/{stream}", tag = "streams", request_body = StreamChange,
    params(("room" = String, Path, description = "The room"), ("stream" = String, Path, description = "Its id")),
    responses((status = 200, description = "The stream as it is now", body = Stream), (status = 404, description = "`unknown_stream`", body = Problem),
        (status = 409, description = "`not_now`: only a player that plays can be held", body = Problem)))]
pub(super) async fn change(
    State(api): Context,
    Path((room, id)): Path<(String, String)>,
    headers: HeaderMap,
    body: Sent<StreamChange>,
) -> Answer<Response> {
    let room = api.controlled(&headers, &room)?;
    let Json(StreamChange { paused }) = body?;
    Ok(fresh(api.streams()?.pause(&room, id_of(&id)?, paused)?))
}

/// Ends a push, pull or player.
#[utoipa::path(delete, path = "/api/rooms/{room}/streams/{stream}", tag = "streams",
    params(("room" = String, Path, description = "The room"), ("stream" = String, Path, description = "Its id")),
    responses((status = 204, description = "It ends"), (status = 404, description = "`unknown_stream`", body = Problem)))]
pub(super) async fn stop(
    State(api): Context,
    Path((room, id)): Path<(String, String)>,
    headers: HeaderMap,
) -> Answer<StatusCode> {
    let room = api.controlled(&headers, &room)?;
    api.streams()?.stop(&room, id_of(&id)?)?;
    Ok(StatusCode::NO_CONTENT)
}
