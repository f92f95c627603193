//! The offers of a call out. Everybody who can take the same gets the same one; somebody's browser, which wants ICE and
//! DTLS, rings beside her desk phone, which wants plain RTP, with an offer of its own. The answer decides which of them
//! the call is about.

use crate::sip::session::branch::Target;
use crate::sip::session::media::{Local, OpenStream};
use crate::sip::session::offer::{MediaSession, Policy, SECTIONS};

/// Ends of ours that a call without an answer may have, over all of its offers.
const MAX_ENDS: usize = 4;

/// What a call offers, to whom.
#[derive(Debug, Default)]
pub struct Offers(Vec<Offer>);

#[derive(Debug)]
struct Offer {
    policy: Policy,
    ipv6: bool,
    media: MediaSession,
    sdp: String,
}

impl Offers {
    /// The offer for a target, and the ends that must be opened for it. None: the call has all the ends it may have.
    pub fn fit(&mut self, target: &Target) -> Option<(usize, Vec<OpenStream>)> {
        let policy = &target.settings.policy;
        let same = |offer: &Offer| offer.policy == *policy && offer.ipv6 == target.ipv6;
        if let Some(known) = self.0.iter().position(same) {
            return Some((known, Vec::new()));
        }
        let mut media = MediaSession::beside(policy.clone(), self.0.len() * SECTIONS);
        let open = media.make_offer(target.ipv6);
        let ends: usize = self.0.iter().map(|offer| offer.media.places().len()).sum();
        if ends + open.len() > MAX_ENDS {
            return None;
        }
        self.0.push(Offer { policy: policy.clone(), ipv6: target.ipv6, media, sdp: String::new() });
        Some((self.0.len() - 1, open))
    }

    /// Ends of ours are open.
    pub fn opened(&mut self, locals: &[(usize, Local)]) {
        for offer in &mut self.0 {
            offer.media.opened(locals.to_vec());
            offer.sdp = offer.media.write();
        }
    }

    /// The text of one.
    pub fn sdp(&self, at: usize) -> &str {
        self.0.get(at).map_or("", |offer| &offer.sdp)
    }

    /// What one is about, as offered.
    pub fn media(&self, at: usize) -> Option<&MediaSession> {
        self.0.get(at).map(|offer| &offer.media)
    }

    /// The places of the ends that only others have.
    pub fn beside(&self, at: usize) -> Vec<usize> {
        let others = self.0.iter().enumerate().filter(|(other, _)| *other != at);
        others.flat_map(|(_, offer)| offer.media.places()).collect()
    }
}
