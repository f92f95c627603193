//! Rooms and who is in them.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::Value;

use super::problem::{Answer, Problem};
use super::shape::{Consumer, Move, NewRoom, Page, Peer, PeerChange, Producer, Room, Why};
use super::{Asked, Manage, Sent, fresh, known, listed};
use crate::core::auth::Action;
use crate::core::capabilities::Kind;
use crate::core::control::PeerDetail;
use crate::core::id::{ConnId, ConsumerId, ProducerId};
use crate::core::room::RoomName;
use crate::http::RESERVED;

type Context = State<Arc<Manage>>;

fn room_name(name: &str) -> Answer<RoomName> {
    RoomName::new(name, RESERVED).map_err(|error| Problem::bad(error.to_string()))
}

impl Manage {
    /// The room of that name, for somebody who may control it.
    pub(super) fn controlled(&self, headers: &HeaderMap, name: &str) -> Answer<RoomName> {
        self.admit(headers, Action::Control, name)?;
        room_name(name)
    }

    fn everybody(&self, room: &RoomName) -> Answer<Vec<PeerDetail>> {
        self.rooms.peers(room).ok_or_else(|| Problem::unknown("unknown_room", "room"))
    }

    fn somebody(&self, room: &RoomName, conn: &str) -> Answer<PeerDetail> {
        let conn = conn_of(conn)?;
        let found = self.everybody(room)?.into_iter().find(|peer| peer.info.conn == conn);
        found.ok_or_else(|| Problem::unknown("unknown_peer", "peer"))
    }
}

fn conn_of(text: &str) -> Answer<ConnId> {
    ConnId::parse(text)
        .ok_or_else(|| Problem::bad("a peer is named by the 32 hexadecimal digits of its connection"))
}

/// The rooms that the bearer may watch, by name.
#[utoipa::path(get, path = "/api/rooms", tag = "rooms", params(Page),
    responses((status = 200, description = "The rooms", body = [Room])))]
pub(super) async fn list(State(api): Context, headers: HeaderMap, page: Asked<Page>) -> Answer<Response> {
    let Query(page) = page?;
    let rooms = api.rooms.summaries().into_iter();
    let shown = rooms.filter(|room| api.may_watch(&headers, room.name.as_str())).collect();
    let (part, last) = page.cut(shown, |room| room.name.to_string());
    Ok(listed(part.into_iter().map(Room::from).collect::<Vec<_>>(), "/api/rooms", &page, last))
}

/// One room, if the bearer may watch it.
#[utoipa::path(get, path = "/api/rooms/{room}", tag = "rooms", params(("room" = String, Path, description = "Its name")),
    responses((status = 200, description = "The room", body = Room), (status = 404, description = "`unknown_room`: there is none, or not for this bearer", body = Problem)))]
pub(super) async fn show(
    State(api): Context,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Answer<Response> {
    let unknown = || Problem::unknown("unknown_room", "room");
    let room = RoomName::new(&name, RESERVED).map_err(|_| unknown())?;
    let summary = api.rooms.summary(&room).filter(|_| api.may_watch(&headers, &name));
    summary.map(|room| fresh(Room::from(room))).ok_or_else(unknown)
}

/// Makes a room that stays while nobody is in it. One that is there stays from now on.
#[utoipa::path(post, path = "/api/rooms", tag = "rooms", request_body = NewRoom, params(super::IdempotencyKey),
    responses((status = 201, description = "The room", body = Room), (status = 400, description = "`bad_request`", body = Problem),
        (status = 401, description = "`unauthorized`", body = Problem), (status = 403, description = "`denied`", body = Problem),
        (status = 503, description = "`full`: the server has all the rooms it may have", body = Problem)))]
pub(super) async fn create(State(api): Context, headers: HeaderMap, body: Sent<NewRoom>) -> Answer<Response> {
    known(&api.authority, &headers)?;
    let Json(NewRoom { name }) = body?;
    let room = api.controlled(&headers, &name)?;
    api.rooms.open(&room)?;
    let summary = api.rooms.summary(&room).ok_or_else(|| Problem::unknown("unknown_room", "room"))?;
    Ok((StatusCode::CREATED, fresh(Room::from(summary))).into_response())
}

/// Ends a room and everybody in it.
#[utoipa::path(delete, path = "/api/rooms/{room}", tag = "rooms", params(("room" = String, Path, description = "Its name"), Why),
    responses((status = 204, description = "It is gone"), (status = 404, description = "`unknown_room`", body = Problem)))]
pub(super) async fn close(
    State(api): Context,
    Path(name): Path<String>,
    headers: HeaderMap,
    why: Asked<Why>,
) -> Answer<StatusCode> {
    let Query(why) = why?;
    let room = api.controlled(&headers, &name)?;
    match api.rooms.close(&room, &why.reason("the room was closed")) {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(Problem::unknown("unknown_room", "room")),
    }
}

/// Everybody in a room, by connection.
#[utoipa::path(get, path = "/api/rooms/{room}/peers", tag = "peers", params(("room" = String, Path, description = "The room"), Page),
    responses((status = 200, description = "Who is there", body = [Peer]), (status = 404, description = "`unknown_room`", body = Problem)))]
pub(super) async fn peers(
    State(api): Context,
    Path(name): Path<String>,
    headers: HeaderMap,
    page: Asked<Page>,
) -> Answer<Response> {
    let Query(page) = page?;
    let room = api.controlled(&headers, &name)?;
    let mut all = api.everybody(&room)?;
    all.sort_unstable_by_key(|peer| peer.info.conn);
    let (part, last) = page.cut(all, |peer| peer.info.conn.to_string());
    let part: Vec<Peer> = part.into_iter().map(Peer::from).collect();
    Ok(listed(part, &format!("/api/rooms/{name}/peers"), &page, last))
}

/// Somebody in a room.
#[utoipa::path(get, path = "/api/rooms/{room}/peers/{conn}", tag = "peers",
    params(("room" = String, Path, description = "The room"), ("conn" = String, Path, description = "The peer's connection")),
    responses((status = 200, description = "The peer", body = Peer), (status = 404, description = "`unknown_room`, `unknown_peer`", body = Problem)))]
pub(super) async fn peer(
    State(api): Context,
    Path((name, conn)): Path<(String, String)>,
    headers: HeaderMap,
) -> Answer<Response> {
    let room = api.controlled(&headers, &name)?;
    Ok(fresh(Peer::from(api.somebody(&room, &conn)?)))
}

/// Renames or mutes somebody.
#[utoipa::path(patch, path = "/api/rooms/{room}/peers/{conn}", tag = "peers", request_body = PeerChange,
    params(("room" = String, Path, description = "The room"), ("conn" = String, Path, description = "The peer's connection")),
    responses((status = 200, description = "The peer as it is now", body = Peer), (status = 404, description = "`unknown_room`, `unknown_peer`", body = Problem)))]
pub(super) async fn change(
    State(api): Context,
    Path((name, conn)): Path<(String, String)>,
    headers: HeaderMap,
    body: Sent<PeerChange>,
) -> Answer<Response> {
    let room = api.controlled(&headers, &name)?;
    let Json(change) = body?;
    let id = api.somebody(&room, &conn)?.info.conn;
    if change.display_name.is_some() || change.app_data.is_some() {
        api.rooms.set_peer(&room, id, change.display_name.map(Some), change.app_data)?;
    }
    for (kind, mute) in [(Kind::Audio, change.mute_audio), (Kind::Video, change.mute_video)] {
        if let Some(mute) = mute {
            api.rooms.mute(&room, id, kind, mute).await?;
        }
    }
    Ok(fresh(Peer::from(api.somebody(&room, &conn)?)))
}

/// Sends somebody away.
#[utoipa::path(delete, path = "/api/rooms/{room}/peers/{conn}", tag = "peers",
    params(("room" = String, Path, description = "The room"), ("conn" = String, Path, description = "The peer's connection"), Why),
    responses((status = 204, description = "It is gone"), (status = 404, description = "`unknown_room`, `unknown_peer`", body = Problem)))]
pub(super) async fn kick(
    State(api): Context,
    Path((name, conn)): Path<(String, String)>,
    headers: HeaderMap,
    why: Asked<Why>,
) -> Answer<StatusCode> {
    let Query(why) = why?;
    let room = api.controlled(&headers, &name)?;
    let id = api.somebody(&room, &conn)?.info.conn;
    api.rooms.kick(&room, id, &why.reason("somebody in charge of the room ended it").text).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Moves somebody to another room. Its connection and media stay, and the other room is made when it is not there.
#[utoipa::path(post, path = "/api/rooms/{room}/peers/{conn}/move", tag = "peers", request_body = Move,
    params(("room" = String, Path, description = "The room"), ("conn" = String, Path, description = "The peer's connection")),
    responses((status = 200, description = "The peer in the other room", body = Peer),
        (status = 403, description = "`denied` in one of the two rooms; `not_allowed` for what a controller joined", body = Problem),
        (status = 404, description = "`unknown_room`, `unknown_peer`", body = Problem),
        (status = 409, description = "`name_taken`: the other room has a publisher of that name", body = Problem),
        (status = 503, description = "`full`", body = Problem)))]
pub(super) async fn relocate(
    State(api): Context,
    Path((name, conn)): Path<(String, String)>,
    headers: HeaderMap,
    body: Sent<Move>,
) -> Answer<Response> {
    let room = api.controlled(&headers, &name)?;
    let Json(wanted) = body?;
    let to = api.controlled(&headers, &wanted.room)?;
    api.rooms.move_peer(&room, api.somebody(&room, &conn)?.info.conn, &to)?;
    Ok(fresh(Peer::from(api.somebody(&to, &conn)?)))
}

/// Statistics of somebody's transports, as its worker counts them.
#[utoipa::path(get, path = "/api/rooms/{room}/peers/{conn}/stats", tag = "peers",
    params(("room" = String, Path, description = "The room"), ("conn" = String, Path, description = "The peer's connection")),
    responses((status = 200, description = "One object for each transport, in the words of docs/control-protocol.md", body = [Object]),
        (status = 404, description = "`unknown_room`, `unknown_peer`", body = Problem)))]
pub(super) async fn peer_stats(
    State(api): Context,
    Path((name, conn)): Path<(String, String)>,
    headers: HeaderMap,
) -> Answer<Response> {
    let room = api.controlled(&headers, &name)?;
    let detail = api.somebody(&room, &conn)?;
    let peer =
        api.rooms.peer(&room, detail.info.conn).ok_or_else(|| Problem::unknown("unknown_peer", "peer"))?;
    let mut all: Vec<Value> = Vec::new();
    for transport in detail.transports {
        match peer.transport_stats(transport).await? {
            Value::Array(some) => all.extend(some),
            other => all.push(other),
        }
    }
    Ok(fresh(all))
}

/// The tracks into a room, by number.
#[utoipa::path(get, path = "/api/rooms/{room}/producers", tag = "tracks", params(("room" = String, Path, description = "The room"), Page),
    responses((status = 200, description = "The tracks", body = [Producer]), (status = 404, description = "`unknown_room`", body = Problem)))]
pub(super) async fn producers(
    State(api): Context,
    Path(name): Path<String>,
    headers: HeaderMap,
    page: Asked<Page>,
) -> Answer<Response> {
    let of = |peer: Peer| peer.producers;
    tracks(&api, &name, &headers, page, "producers", of, |producer: &Producer| producer.id)
}

/// Ends a track.
#[utoipa::path(delete, path = "/api/rooms/{room}/producers/{producer}", tag = "tracks",
    params(("room" = String, Path, description = "The room"), ("producer" = u32, Path, description = "The track"), Why),
    responses((status = 204, description = "It is gone"), (status = 404, description = "`unknown_room`, `unknown_producer`", body = Problem)))]
pub(super) async fn close_producer(
    State(api): Context,
    Path((name, id)): Path<(String, u32)>,
    headers: HeaderMap,
    why: Asked<Why>,
) -> Answer<StatusCode> {
    let Query(why) = why?;
    let room = api.controlled(&headers, &name)?;
    let owner = api.everybody(&room)?.into_iter().find(|peer| {
        let mut tracks = peer.tracks.iter();
        tracks.any(|track| track.producer == ProducerId(id))
    });
    let owner = owner.ok_or_else(|| Problem::unknown("unknown_producer", "producer"))?.info.conn;
    let reason = why.reason("somebody in charge of the room ended it");
    api.rooms.close_track(&room, owner, ProducerId(id), &reason.text).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The tracks out of a room, by number.
#[utoipa::path(get, path = "/api/rooms/{room}/consumers", tag = "tracks", params(("room" = String, Path, description = "The room"), Page),
    responses((status = 200, description = "The tracks", body = [Consumer]), (status = 404, description = "`unknown_room`", body = Problem)))]
pub(super) async fn consumers(
    State(api): Context,
    Path(name): Path<String>,
    headers: HeaderMap,
    page: Asked<Page>,
) -> Answer<Response> {
    let of = |peer: Peer| peer.consumers;
    tracks(&api, &name, &headers, page, "consumers", of, |consumer: &Consumer| consumer.id)
}

/// Statistics of one track out of a room.
#[utoipa::path(get, path = "/api/rooms/{room}/consumers/{consumer}/stats", tag = "tracks",
    params(("room" = String, Path, description = "The room"), ("consumer" = u32, Path, description = "The track")),
    responses((status = 200, description = "In the words of docs/control-protocol.md", body = [Object]),
        (status = 404, description = "`unknown_room`, `unknown_consumer`", body = Problem)))]
pub(super) async fn consumer_stats(
    State(api): Context,
    Path((name, id)): Path<(String, u32)>,
    headers: HeaderMap,
) -> Answer<Response> {
    let room = api.controlled(&headers, &name)?;
    let unknown = || Problem::unknown("unknown_consumer", "consumer");
    let owner = api.everybody(&room)?.into_iter().find(|peer| {
        let mut consumers = peer.consumers.iter();
        consumers.any(|consumer| consumer.consumer == ConsumerId(id))
    });
    let owner = owner.ok_or_else(unknown)?.info.conn;
    let peer = api.rooms.peer(&room, owner).ok_or_else(unknown)?;
    Ok(fresh(peer.consumer_stats(ConsumerId(id)).await?))
}

/// A page of the tracks of a room that `of` finds at each of its peers, by number.
fn tracks<T: Serialize>(
    api: &Manage,
    name: &str,
    headers: &HeaderMap,
    page: Asked<Page>,
    what: &str,
    of: impl Fn(Peer) -> Vec<T>,
    id: impl Fn(&T) -> u32,
) -> Answer<Response> {
    let Query(page) = page?;
    let room = api.controlled(headers, name)?;
    let mut all: Vec<T> = api.everybody(&room)?.into_iter().flat_map(|peer| of(Peer::from(peer))).collect();
    all.sort_unstable_by_key(&id);
    // Text that sorts as the numbers do.
    let (part, last) = page.cut(all, |track| format!("{:010}", id(track)));
    Ok(listed(part, &format!("/api/rooms/{name}/{what}"), &page, last))
}
