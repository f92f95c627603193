//! Rooms of three, made and taken down again and again: whether the server gives back what they took.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::control::Controller;
use super::process::Server;
use crate::bench::control::{ControlOptions, Memory, Said, opus};

/// Members of a room.
const MEMBERS: u32 = 3;
/// Rooms asked for at once.
const BATCH: u32 = 20;
/// Ids of one member: its router, transport, track, and consumers of the others.
const IDS: u32 = 8;
/// For memory to be given back.
const SETTLE: Duration = Duration::from_secs(15);
const LOOK: Duration = Duration::from_millis(250);

/// Measures.
pub(super) fn live_and_die(
    server: &Server,
    address: SocketAddr,
    options: &ControlOptions,
) -> anyhow::Result<Memory> {
    let mut controller = Controller::connect(address)?;
    let rooms = options.conferences as u32;
    let mut memory = Memory { rooms: options.conferences, cycles: options.cycles, ..Memory::default() };
    memory.before = settled(server)?;
    let (began, mut asked) = (Instant::now(), 0);
    for cycle in 0..options.cycles {
        for first in (0..rooms).step_by(BATCH as usize) {
            asked += make(&mut controller, first..rooms.min(first + BATCH))?;
        }
        if cycle == 0 {
            memory.full = server.resident()? / 1024;
        }
        for first in (0..rooms).step_by(BATCH as usize) {
            asked += take_down(&mut controller, first..rooms.min(first + BATCH))?;
        }
        if cycle == 0 {
            memory.after_first = settled(server)?;
        }
    }
    let spent = began.elapsed().as_secs_f64();
    memory.seconds = spent / options.cycles as f64;
    memory.per_second = asked as f64 / spent;
    drop(controller);
    memory.after_last = settled(server)?;
    Ok(memory)
}

/// Resident KiB, once it falls no further for a while.
fn settled(server: &Server) -> anyhow::Result<u64> {
    let (mut least, mut since) = (u64::MAX, Instant::now());
    let limit = since + SETTLE;
    loop {
        let now = server.resident()? / 1024;
        if now < least {
            (least, since) = (now, Instant::now());
        }
        if since.elapsed() > SETTLE / 3 || Instant::now() > limit {
            return Ok(least);
        }
        thread::sleep(LOOK);
    }
}

/// The first id of a room's member.
fn base(room: u32, member: u32) -> u32 {
    1 + (room * MEMBERS + member) * IDS
}

/// Everybody joins, speaks and hears the two others. How many requests that took.
fn make(controller: &mut Controller, rooms: std::ops::Range<u32>) -> anyhow::Result<u64> {
    let members = || rooms.clone().flat_map(|room| (0..MEMBERS).map(move |member| (room, member)));
    let line = &mut controller.line;
    let mut routers = HashMap::new();
    for (room, member) in members() {
        let id = base(room, member);
        routers.insert(id, 0);
        let join = json!({"room": format!("bench-{room}"), "name": format!("m{member}"), "publishes": true});
        line.ask("room.attach", &json!({"routerId": id}), &join);
    }
    // An attached room is a router once that is answered.
    answers(controller, routers.len())?;
    for (room, member) in members() {
        let id = base(room, member);
        let on = json!({"routerId": id, "transportId": id + 1, "producerId": id + 2});
        let line = &mut controller.line;
        line.ask("router.createWebRtcTransport", &json!({"routerId": id, "transportId": id + 1}), &json!({}));
        line.ask("router.createProducer", &on, &json!({"kind": "audio", "rtpParameters": opus(id)}));
    }
    let mut left = 2 * routers.len();
    let mut tracks: Vec<(u32, Value)> = Vec::new();
    let due = (MEMBERS as usize - 1) * routers.len();
    controller.converse(|said| {
        match said {
            Said::Answer(_, result) => {
                result.map_err(anyhow::Error::msg)?;
                left -= 1;
            }
            Said::Event(router, event, data) if event == "trackadded" && routers.contains_key(&router) => {
                tracks.push((router, data["producerId"].clone()));
            }
            Said::Event(..) => {}
        }
        Ok(left == 0 && tracks.len() == due)
    })?;
    for (router, producer) in tracks {
        let heard = routers.entry(router).or_insert(0);
        let id = router + 3 + *heard;
        *heard += 1;
        let on =
            json!({"routerId": router, "transportId": router + 1, "consumerId": id, "producerId": producer});
        controller.line.ask("router.createConsumer", &on, &json!({"kind": "audio"}));
        controller.line.ask("consumer.enable", &on, &json!({"rtpParameters": opus(id)}));
    }
    answers(controller, 2 * due)?;
    Ok((3 * routers.len() + 2 * due) as u64)
}

/// Everybody leaves.
fn take_down(controller: &mut Controller, rooms: std::ops::Range<u32>) -> anyhow::Result<u64> {
    let mut open = HashMap::new();
    for (room, member) in rooms.flat_map(|room| (0..MEMBERS).map(move |member| (room, member))) {
        let id = base(room, member);
        controller.line.ask("router.close", &json!({"routerId": id}), &json!({}));
        open.insert(id, ());
    }
    let (asked, mut left) = (open.len() as u64, open.len());
    controller.converse(|said| {
        match said {
            Said::Answer(_, result) => {
                result.map_err(anyhow::Error::msg)?;
                left -= 1;
            }
            Said::Event(target, event, _) if event == "close" => drop(open.remove(&target)),
            Said::Event(..) => {}
        }
        Ok(left == 0 && open.is_empty())
    })?;
    Ok(asked)
}

/// So many answers, none of them a refusal.
fn answers(controller: &mut Controller, count: usize) -> anyhow::Result<()> {
    let mut left = count;
    controller.converse(|said| {
        if let Said::Answer(_, result) = said {
            result.map_err(anyhow::Error::msg)?;
            left -= 1;
        }
        Ok(left == 0)
    })
}
