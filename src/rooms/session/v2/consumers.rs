//! What the client is sent. There is a consumer for each track of the others from the moment the track is there;
//! it costs nothing until the client enables it on one of its transports.
//!
//! A client is told one bit of pause: that its source is paused. Its own pauses are not told back to it, and
//! nothing is told of consumers that it has not enabled: the response to that says how things are.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::messages::{Direction, EnableConsumer, Preference, Ref};
use super::{Ask, Inside, Link, RequestId, Then, notify, unexpected};
use crate::core::capabilities::RtpParameters;
use crate::core::capabilities::ortc::{Capabilities, Numbers};
use crate::core::control::TrackInfo;
use crate::core::id::{ConnId, ConsumerId, ProducerId};
use crate::core::profile::Profile;
use crate::rooms::error::Refusal;
use crate::rooms::session::Answered;
use crate::rooms::session::asks::Answer;

/// A track of somebody else, for this client.
pub(super) struct Consumer {
    /// Whose.
    pub conn: ConnId,
    track: ProducerId,
    /// By what name its peer is shown.
    peer: String,
    rtp: RtpParameters,
    source_paused: bool,
    /// The client paused it.
    paused: bool,
    preferred: Profile,
    /// What flows; none before anything does.
    effective: Option<Profile>,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    /// The client knows of it.
    Announced,
    /// The core is asked for it, paused or not, by this transport of the client.
    Enabling { transport: u32, paused: bool },
    /// It stands.
    Enabled { transport: u32, consumer: ConsumerId },
}

impl Consumer {
    /// The core's id, while it is enabled.
    pub fn id(&self) -> Option<ConsumerId> {
        match self.stage {
            Stage::Enabled { consumer, .. } => Some(consumer),
            _ => None,
        }
    }

    /// By what name its peer is shown.
    pub fn peer(&self) -> &str {
        &self.peer
    }

    pub fn is_paused(&self) -> bool {
        self.paused || self.source_paused
    }

    /// A transport of the client is gone.
    pub fn unhandle(&mut self, gone: u32) {
        match self.stage {
            Stage::Enabled { transport, .. } | Stage::Enabling { transport, .. } if transport == gone => {
                self.stage = Stage::Announced;
                self.effective = None;
            }
            _ => {}
        }
    }
}

/// Makes a consumer of a track; answers how the client is told of it.
pub(super) fn announce(
    consumers: &mut HashMap<u32, Consumer>,
    takes: &Capabilities,
    link: &Link,
    track: &TrackInfo,
    peer: &str,
) -> Value {
    let id = fresh(link, |id| consumers.contains_key(&id), 8);
    let taken = |ssrc: u32| {
        let encodings = consumers.values().flat_map(|consumer| &consumer.rtp.encodings);
        encodings.into_iter().any(|encoding| {
            encoding.ssrc == Some(ssrc) || encoding.rtx.as_ref().is_some_and(|rtx| rtx.ssrc == ssrc)
        })
    };
    let ssrc = fresh(link, taken, 9);
    let rtx_ssrc = fresh(link, |rtx| rtx == ssrc || taken(rtx), 9);
    let numbers = Numbers { ssrc, rtx_ssrc, cname: track.conn.to_string(), mid: None };
    let rtp = takes.consumed(track.kind, &track.codec, numbers);
    let data = json!({
        "id": id,
        "kind": track.kind,
        "rtpParameters": rtp.to_v2(),
        "paused": track.paused,
        "preferredProfile": Profile::Default,
        "effectiveProfile": null,
        "appData": track.app_data,
        "peerName": peer,
    });
    let consumer = Consumer {
        conn: track.conn,
        track: track.producer,
        peer: peer.to_owned(),
        rtp,
        source_paused: track.paused,
        paused: false,
        preferred: Profile::Default,
        effective: None,
        stage: Stage::Announced,
    };
    consumers.insert(id, consumer);
    data
}

/// A random number of so many digits that is not taken.
fn fresh(link: &Link, taken: impl Fn(u32) -> bool, digits: u32) -> u32 {
    let (low, high) = (10_u64.pow(digits - 1), 10_u64.pow(digits));
    loop {
        let number = low + link.random() % (high - low);
        if let Some(number) = u32::try_from(number).ok().filter(|number| !taken(*number)) {
            return number;
        }
    }
}

impl Inside {
    pub(super) fn enable_consumer(
        &mut self,
        link: &mut Link,
        request: RequestId,
        enable: EnableConsumer,
    ) -> Result<(), Refusal> {
        let EnableConsumer { id, transport_id, paused, preferred_profile } = enable;
        let transport = self.transport(transport_id)?;
        let receives = |direction| direction == Direction::Recv;
        if !self.transports.get(&transport_id).is_some_and(|transport| receives(transport.direction)) {
            return Err(Refusal::bad(format!("transport {transport_id} is for sending")));
        }
        let consumer = self.consumers.get_mut(&id).ok_or_else(|| Refusal::unknown("consumer", id))?;
        if consumer.stage != Stage::Announced {
            return Err(Refusal::new(409, format!("consumer {id} is enabled already")));
        }
        if consumer.rtp.codecs.is_empty() {
            return Err(Refusal::bad(format!("this client takes no codec for consumer {id}")));
        }
        let preferred = preferred_profile.unwrap_or_default();
        check_profile(preferred)?;
        (consumer.paused, consumer.preferred) = (paused, preferred);
        consumer.stage = Stage::Enabling { transport: transport_id, paused };
        let (track, rtp) = (consumer.track, consumer.rtp.clone());
        link.ask(Ask::Consume { transport, track, rtp, paused }, Then::Enabled(request, id));
        Ok(())
    }

    pub(super) fn enabled(&mut self, link: &mut Link, request: RequestId, id: u32, answer: Answered) {
        let made = match answer {
            Ok(Answer::Consumed(made)) => made,
            other => {
                if let Some(consumer) = self.consumers.get_mut(&id) {
                    consumer.stage = Stage::Announced;
                    (consumer.paused, consumer.preferred) = (false, Profile::Default);
                }
                return link.respond(request, Err(other.err().unwrap_or_else(unexpected)));
            }
        };
        let consumer = self.consumers.get_mut(&id);
        let enabling = consumer.and_then(|consumer| match consumer.stage {
            Stage::Enabling { transport, paused } => Some((consumer, transport, paused)),
            _ => None,
        });
        let Some((consumer, transport, made_paused)) = enabling else {
            // Its source, or its transport, went meanwhile.
            link.ask(Ask::CloseConsumer(made.consumer), Then::Nothing);
            return link.respond(request, Err(Refusal::new(410, "the consumer was closed")));
        };
        consumer.stage = Stage::Enabled { transport, consumer: made.consumer };
        consumer.effective = self.early.remove(&made.consumer);
        if consumer.paused != made_paused {
            let ask = match consumer.paused {
                true => Ask::PauseConsumer(made.consumer),
                false => Ask::ResumeConsumer(made.consumer),
            };
            link.ask(ask, Then::Nothing);
        }
        if consumer.preferred != Profile::Default {
            link.ask(Ask::PreferProfile(made.consumer, consumer.preferred), Then::Nothing);
        }
        let data = json!({
            "paused": consumer.source_paused,
            "preferredProfile": consumer.preferred,
            "effectiveProfile": consumer.effective,
        });
        link.respond(request, Ok(data));
        if !self.consumers.values().any(|known| matches!(known.stage, Stage::Enabling { .. })) {
            self.early.clear();
        }
    }

    pub(super) fn pause_consumer(
        &mut self,
        link: &mut Link,
        Ref { id }: Ref,
        paused: bool,
    ) -> Result<(), Refusal> {
        let consumer = self.consumers.get_mut(&id).ok_or_else(|| Refusal::unknown("consumer", id))?;
        if consumer.paused != paused {
            consumer.paused = paused;
            if let Some(id) = consumer.id() {
                link.ask(
                    if paused { Ask::PauseConsumer(id) } else { Ask::ResumeConsumer(id) },
                    Then::Nothing,
                );
            }
        }
        Ok(())
    }

    /// The client wants another quality; answers the name of whose track it is.
    pub(super) fn prefer(&mut self, link: &mut Link, preference: Preference) -> Result<&str, Refusal> {
        let Preference { id, profile } = preference;
        check_profile(profile)?;
        let consumer = self.consumers.get_mut(&id).ok_or_else(|| Refusal::unknown("consumer", id))?;
        consumer.preferred = profile;
        if let Some(id) = consumer.id() {
            link.ask(Ask::PreferProfile(id, profile), Then::Nothing);
        }
        Ok(&consumer.peer)
    }

    pub(super) fn request_keyframe(
        &mut self,
        link: &mut Link,
        request: RequestId,
        id: u32,
    ) -> Result<(), Refusal> {
        let consumer = self.consumers.get(&id).ok_or_else(|| Refusal::unknown("consumer", id))?;
        let made = consumer.id().ok_or_else(|| Refusal::new(409, format!("consumer {id} is not enabled")))?;
        link.ask(Ask::RequestKeyframe(made), Then::Respond(request));
        Ok(())
    }

    /// The member that sends a track paused it, or goes on.
    pub(super) fn source_paused(&mut self, link: &mut Link, track: ProducerId, paused: bool) {
        let found = self.consumers.iter_mut().find(|(_, consumer)| consumer.track == track);
        let Some((id, consumer)) = found.filter(|(_, consumer)| consumer.source_paused != paused) else {
            return;
        };
        consumer.source_paused = paused;
        if consumer.id().is_some() {
            let method = if paused { "consumerPaused" } else { "consumerResumed" };
            notify(link, method, json!({"id": id, "peerName": consumer.peer}));
        }
    }

    /// A track is gone, and its consumer with it.
    pub(super) fn track_gone(&mut self, link: &mut Link, track: ProducerId) {
        self.remove_consumer(link, |consumer| consumer.track == track);
    }

    /// A consumer ended although its track is there: it could not be converted any more, say.
    pub(super) fn consumer_gone(&mut self, link: &mut Link, gone: ConsumerId) {
        self.remove_consumer(link, |consumer| consumer.id() == Some(gone));
    }

    fn remove_consumer(&mut self, link: &mut Link, which: impl Fn(&Consumer) -> bool) {
        let found = self.consumers.iter().find(|(_, consumer)| which(consumer));
        let Some(id) = found.map(|(id, _)| *id) else { return };
        if let Some(consumer) = self.consumers.remove(&id) {
            notify(link, "consumerClosed", json!({"id": id, "peerName": consumer.peer}));
        }
    }

    pub(super) fn effective_profile(&mut self, link: &mut Link, consumer: ConsumerId, profile: Profile) {
        let found = self.consumers.iter_mut().find(|(_, known)| known.id() == Some(consumer));
        let Some((id, known)) = found else {
            // The answer that says which consumer this is may come behind its first event.
            if self.consumers.values().any(|known| matches!(known.stage, Stage::Enabling { .. })) {
                self.early.insert(consumer, profile);
            }
            return;
        };
        known.effective = Some(profile);
        let data = json!({"id": id, "peerName": known.peer, "profile": profile});
        notify(link, "consumerEffectiveProfileChanged", data);
    }
}

/// Nobody can prefer nothing.
fn check_profile(profile: Profile) -> Result<(), Refusal> {
    match profile {
        Profile::None => Err(Refusal::bad("a preferred profile is default, low, medium or high")),
        _ => Ok(()),
    }
}
