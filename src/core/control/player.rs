//! What a member plays to its room while it has no voice of its own: a ringing tone, music, a prompt. It is a track of
//! that member, so that everybody hears it as they hear voices, mixed or by itself.
//!
//! It comes from a mix without sources behind a Direct transport of that member.

use std::sync::mpsc;

use tracing::{debug, info};

use crate::core::capabilities::Kind;
use crate::core::control::handle::Produce;
use crate::core::control::jobs::one_stream;
use crate::core::control::mix::opus;
use crate::core::control::peer_events::PeerEvent;
use crate::core::control::state::{Reply, State, Target};
use crate::core::convert::{MixCommand, Sound};
use crate::core::id::{ConnId, TransportId};
use crate::core::peer::CloseReason;

/// The number of its only output.
const TRACK: u32 = 1;

/// See the module.
pub(super) struct Player {
    pub transport: TransportId,
    commands: mpsc::Sender<MixCommand>,
}

impl Player {
    fn play(&self, sounds: Vec<Sound>) {
        let command = MixCommand::Play { output: Some(TRACK), sounds, over: false, number: 0 };
        if self.commands.send(command).is_err() {
            // Its lanes are closed too, and the worker will say so.
            debug!("a player that has ended was told something");
        }
    }
}

impl State {
    /// Plays sounds to a member's room as a track of that member, in place of what it played before; none: stops.
    /// `false`: nothing can be played.
    pub fn play_to_room(&mut self, conn: ConnId, sounds: Vec<Sound>) -> bool {
        if sounds.is_empty() {
            self.stop_player(conn);
            return true;
        }
        if !self.players.contains_key(&conn)
            && let Err(text) = self.start_player(conn)
        {
            info!(%conn, "nothing can be played to the room: {text}");
            return false;
        }
        self.players.get(&conn).into_iter().for_each(|player| player.play(sounds.clone()));
        true
    }

    fn start_player(&mut self, conn: ConnId) -> Result<(), String> {
        let format = self.mixer.as_ref().and_then(|mixer| mixer.output(&[opus()]));
        let format = format.ok_or("there is no mixer")?;
        let room = self.members.get(&conn).map(|entry| entry.room.clone()).ok_or("it is gone")?;
        let made = self.new_transport(conn, false).map_err(|error| error.to_string())?;
        let (router, worker, transport) = made;
        let opened = self.open_mix(&room, (router, worker, transport), Reply::Player(conn, transport));
        let commands = opened.inspect_err(|_| self.forget_transport(conn, transport))?;
        // Its end is not that of its member.
        self.dispatcher.subscribe(transport.0, worker, Target::Player(conn));
        let player = Player { transport, commands };
        // There is nobody to refuse it: the lanes are new.
        drop(player.commands.send(MixCommand::AddOutput {
            track: TRACK,
            format: format.clone(),
            without: None,
        }));
        self.players.insert(conn, player);
        let produce = Produce::new(Kind::Audio, one_stream(&format.codec, TRACK));
        let made = self.create_producer(conn, transport, format, produce, (Some(TRACK), None));
        made.map(drop).map_err(|error| {
            self.stop_player(conn);
            error.to_string()
        })
    }

    fn stop_player(&mut self, conn: ConnId) {
        if let Some(player) = self.players.remove(&conn) {
            // Nobody waits for the answer.
            drop(self.close_one_transport(conn, player.transport));
        }
    }

    /// A transport is gone, and with it a player that was behind it.
    pub fn forget_player(&mut self, conn: ConnId, transport: TransportId) {
        if self.players.get(&conn).is_some_and(|player| player.transport == transport) {
            self.players.remove(&conn);
        }
    }

    /// All that was to be played has been.
    pub fn player_ended(&mut self, conn: ConnId) {
        self.stop_player(conn);
        self.tell_peer(conn, PeerEvent::PlayedToRoom);
    }

    /// The player broke down, or could not be put in place: its member stays.
    pub fn player_failed(&mut self, conn: ConnId, transport: TransportId, text: &str) {
        if self.players.get(&conn).is_none_or(|player| player.transport != transport) {
            return;
        }
        info!(%conn, "what was played to the room broke off: {text}");
        self.forget_transport(conn, transport);
        self.drop_carried(conn, transport, &CloseReason::new("error", text));
        self.tell_peer(conn, PeerEvent::PlayedToRoom);
    }
}
