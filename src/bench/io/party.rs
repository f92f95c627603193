//! A party with what it does: a source or a viewer behind a client.

use std::time::Instant;

use crate::bench::client::{Client, Identity, Media};
use crate::bench::media::Stamp;
use crate::bench::sdp::{Answer, Local};
use crate::bench::source::Source;
use crate::bench::viewer::Viewer;
use crate::core::time::MediaTime;

/// What a party does.
pub(super) enum Role {
    Source(Source),
    Viewer(Box<Viewer>),
}

/// See the module.
pub(super) struct Party {
    pub(super) client: Client,
    pub(super) role: Role,
    /// The path of its session.
    pub(super) location: Option<String>,
}

impl Party {
    /// The party that made the offer of `local`.
    pub(super) fn new(
        identity: &Identity,
        local: &Local<'_>,
        answer: Answer,
        role: Role,
        location: Option<String>,
    ) -> Self {
        Party { client: Client::new(identity, local, answer, Instant::now()), role, location }
    }

    pub(super) fn viewer(&self) -> Option<&Viewer> {
        match &self.role {
            Role::Viewer(viewer) => Some(viewer),
            Role::Source(_) => None,
        }
    }

    pub(super) fn viewer_mut(&mut self) -> Option<&mut Viewer> {
        match &mut self.role {
            Role::Viewer(viewer) => Some(viewer),
            Role::Source(_) => None,
        }
    }

    /// The RTCP that is due, protected.
    pub(super) fn report(&mut self, time: MediaTime) -> anyhow::Result<Option<Vec<u8>>> {
        let (Role::Viewer(viewer), Some(sender)) = (&mut self.role, &mut self.client.sender) else {
            return Ok(None);
        };
        let Some(report) = viewer.report(time) else { return Ok(None) };
        let mut out = vec![0; report.len() + 32];
        let len = sender.seal_rtcp(&report, &mut out)?;
        out.truncate(len);
        Ok(Some(out))
    }

    /// Takes a datagram; the stamp of what it carried.
    pub(super) fn take(
        &mut self,
        (now, time): (Instant, MediaTime),
        datagram: &mut [u8],
        arrived: u64,
    ) -> anyhow::Result<Option<Stamp>> {
        let media = self.client.handle(now, datagram)?;
        Ok(match (media, &mut self.role) {
            (Some(Media::Rtp(len, index)), Role::Viewer(viewer)) => {
                viewer.rtp(time, &datagram[..len], index, arrived)
            }
            (Some(Media::Rtcp(len)), Role::Viewer(viewer)) => {
                viewer.rtcp(time, &datagram[..len]);
                None
            }
            (Some(Media::Rtcp(len)), Role::Source(source)) => {
                source.rtcp(&datagram[..len]);
                None
            }
            _ => None,
        })
    }
}
