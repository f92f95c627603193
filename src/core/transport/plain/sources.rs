//! Which producer a packet of a plain leg is for. SIP names no SSRC, so the payload type tells; a party that
//! changes its SSRC (a transfer behind its PBX, music on hold) is followed once the old stream has stopped, and so is one
//! that keeps it and counts anew (RFC 3550 appendix A.1).

use serde_json::{Map, Value, json};

use crate::core::capabilities::RtpParameters;
use crate::core::id::ProducerId;
use crate::core::producer::Input;
use crate::core::router::Router;
use crate::core::rtp::header::RtpView;
use crate::core::transport::plain::parameter_sets::ParameterSets;

/// Packets of a new source, with none of the old one between them, after which it is followed.
const PACKETS: u8 = 3;
/// A packet that lies so far behind the newest is no late one: the party counts anew, if more follow it in order.
const BEHIND: i16 = -100;

struct Source {
    key: usize,
    /// SSRC was named beforehand: others are strangers.
    named: bool,
    ssrc: Option<u32>,
    rtx: Option<u32>,
    /// An SSRC that wants to take over, and its packets so far.
    next: Option<(u32, u8)>,
    /// The newest sequence number, and one that would go on from a count begun anew, with its packets so far.
    newest: Option<u16>,
    anew: Option<(u16, u8)>,
    sets: Option<ParameterSets>,
}

impl Source {
    /// Takes note of a sequence number; answers whether the party counts anew from it. None: it may, the next packets
    /// will show.
    fn count(&mut self, sequence: u16) -> Option<bool> {
        let newest = *self.newest.get_or_insert(sequence);
        let step = sequence.wrapping_sub(newest).cast_signed();
        if step >= BEHIND {
            self.anew = None;
            self.newest = Some(if step > 0 { sequence } else { newest });
            return Some(false);
        }
        let count = self.anew.filter(|(next, _)| *next == sequence).map_or(1, |(_, count)| count + 1);
        self.anew = Some((sequence.wrapping_add(1), count));
        if count < PACKETS {
            return None;
        }
        (self.newest, self.anew) = (Some(sequence), None);
        Some(true)
    }
}

/// Whether old numbers come again where they were lost: then they say nothing.
fn repairs(router: &Router, key: usize) -> bool {
    router
        .producers
        .get(key)
        .is_some_and(|found| found.receptions().any(|reception| reception.nack.is_some()))
}

/// Whose a packet is.
pub(super) struct Owner {
    /// The producer.
    pub key: usize,
    /// It came on the retransmission stream.
    pub rtx: bool,
    /// Its SSRC was not known before.
    pub new: bool,
    /// It is another stream than before: its SSRC takes the place of another, or it counts anew.
    pub changed: bool,
}

/// See the module.
#[derive(Default)]
pub(super) struct Sources(Vec<Source>);

impl Sources {
    /// A producer of `parameters`.
    pub fn add(&mut self, key: usize, parameters: &RtpParameters) {
        let encoding = parameters.encodings.first();
        let ssrc = encoding.and_then(|encoding| encoding.ssrc);
        let rtx = encoding.and_then(|encoding| encoding.rtx.as_ref()).map(|rtx| rtx.ssrc);
        self.0.push(Source {
            key,
            named: ssrc.is_some(),
            ssrc,
            rtx,
            next: None,
            newest: None,
            anew: None,
            sets: ParameterSets::new(parameters),
        });
    }

    /// Parameter sets that its party has not in band.
    pub fn parameter_sets(&mut self, key: usize) -> Option<&mut ParameterSets> {
        self.0.iter_mut().find(|source| source.key == key)?.sets.as_mut()
    }

    /// A producer is gone.
    pub fn remove(&mut self, key: usize) {
        self.0.retain(|source| source.key != key);
    }

    /// Whose the packet is. `proven`: SRTP has authenticated it, so a new SSRC needs no trial.
    pub fn owner(&mut self, view: &RtpView<'_>, router: &mut Router, proven: bool) -> Option<Owner> {
        for source in &mut self.0 {
            let rtx = source.rtx == Some(view.ssrc);
            if rtx || source.ssrc == Some(view.ssrc) {
                source.next = source.next.filter(|_| rtx);
                let changed = match proven || rtx || repairs(router, source.key) {
                    true => false,
                    false => source.count(view.sequence)?,
                };
                return Some(Owner { key: source.key, rtx, new: false, changed });
            }
        }
        let of = |key: usize| {
            let producer = router.producers.get(key)?;
            let media = producer.formats.iter().any(|format| format.codec.payload_type == view.payload_type);
            let tone = matches!(&producer.input, Input::Rtp(input) if input.tones.takes(view.payload_type));
            (media || tone).then_some(())
        };
        let source = self.0.iter_mut().find(|source| !source.named && of(source.key).is_some())?;
        let changed = source.ssrc.is_some();
        if changed && !proven {
            let count = match source.next {
                Some((ssrc, count)) if ssrc == view.ssrc => count.saturating_add(1),
                _ => 1,
            };
            source.next = Some((view.ssrc, count));
            if count < PACKETS {
                return None;
            }
        }
        (source.ssrc, source.next) = (Some(view.ssrc), None);
        (source.newest, source.anew) = (Some(view.sequence), None);
        let streams = router.producers.get_mut(source.key).map(|producer| &mut producer.streams);
        if let Some(reception) = streams.and_then(|streams| streams.first_mut()?.reception.as_mut()) {
            reception.ssrc = Some(view.ssrc);
        }
        Some(Owner { key: source.key, rtx: false, new: true, changed })
    }

    /// SSRCs and their producers.
    pub fn table(&self, producer_id: impl Fn(usize) -> Option<ProducerId>) -> Value {
        let streams = self.0.iter().filter_map(|source| {
            Some((source.ssrc?.to_string(), json!(producer_id(source.key)?.to_string())))
        });
        Value::Object(streams.collect::<Map<_, _>>())
    }
}
