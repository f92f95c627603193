//! Datagrams over TCP: each behind its length in two bytes, big-endian (RFC 4571 §2, RFC 6544 §3).

#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

/// Bytes of a frame's length field.
const HEADER: usize = 2;

/// The stream is of no use any more.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum FrameError {
    /// A frame is longer than the limit.
    #[error("a frame of {0} bytes is too long")]
    TooLong(usize),
    /// Whoever takes the frames has had enough.
    #[error("a frame was nobody's")]
    Rejected,
}

/// Cuts a stream into frames; holds at most one unfinished frame.
pub(crate) struct Frames {
    partial: Vec<u8>,
    limit: usize,
}

impl Frames {
    /// Takes frames of at most `limit` bytes.
    pub fn new(limit: usize) -> Frames {
        Frames { partial: Vec::new(), limit }
    }

    /// Takes bytes in and hands out each frame that is whole; `false` from `take` ends it.
    pub fn feed(
        &mut self,
        bytes: &mut [u8],
        mut take: impl FnMut(&mut [u8]) -> bool,
    ) -> Result<(), FrameError> {
        let mut rest = self.finish(bytes, &mut take)?;
        while let Some(len) = self.length(rest)? {
            let whole = HEADER.saturating_add(len);
            if rest.len() < whole {
                break;
            }
            let (frame, behind) = std::mem::take(&mut rest).split_at_mut(whole);
            rest = behind;
            hand_out(frame, &mut take)?;
        }
        self.partial.extend_from_slice(rest);
        Ok(())
    }

    /// Finishes the frame that the last bytes left unfinished; what is left of `bytes`.
    fn finish<'a>(
        &mut self,
        bytes: &'a mut [u8],
        take: &mut impl FnMut(&mut [u8]) -> bool,
    ) -> Result<&'a mut [u8], FrameError> {
        let mut rest = bytes;
        while !self.partial.is_empty() && !rest.is_empty() {
            let whole = match self.length(&self.partial)? {
                Some(len) => HEADER.saturating_add(len),
                None => HEADER,
            };
            let missing = whole.saturating_sub(self.partial.len()).min(rest.len());
            let (now, behind) = rest.split_at_mut(missing);
            self.partial.extend_from_slice(now);
            rest = behind;
            let Some(len) = self.length(&self.partial)? else { continue };
            if self.partial.len() >= HEADER.saturating_add(len) {
                let taken = hand_out(&mut self.partial, take);
                self.partial.clear();
                taken?;
            }
        }
        Ok(rest)
    }

    /// The length of the frame that begins `bytes`, if it is there.
    fn length(&self, bytes: &[u8]) -> Result<Option<usize>, FrameError> {
        let Some(header) = bytes.first_chunk::<HEADER>() else { return Ok(None) };
        let len = usize::from(u16::from_be_bytes(*header));
        if len > self.limit { Err(FrameError::TooLong(len)) } else { Ok(Some(len)) }
    }
}

/// Hands out a frame without its header; empty ones (used as keep-alive) are passed over.
fn hand_out(frame: &mut [u8], take: &mut impl FnMut(&mut [u8]) -> bool) -> Result<(), FrameError> {
    let payload = frame.get_mut(HEADER..).unwrap_or_default();
    if payload.is_empty() || take(payload) { Ok(()) } else { Err(FrameError::Rejected) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stream(frames: &[Vec<u8>]) -> Vec<u8> {
        let framed = frames.iter().map(|frame| [&(frame.len() as u16).to_be_bytes()[..], frame].concat());
        framed.collect::<Vec<_>>().concat()
    }

    proptest! {
        #[test]
        fn frames_do_not_depend_on_how_the_stream_is_cut(
            frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..20),
            cuts in prop::collection::vec(1usize..30, 1..40),
        ) {
            let mut bytes = stream(&frames);
            let (mut reader, mut found) = (Frames::new(100), Vec::new());
            let (mut rest, mut cuts) = (&mut bytes[..], cuts.iter().cycle());
            while !rest.is_empty() {
                let cut = rest.len().min(*cuts.next().expect("endless"));
                let (now, behind) = rest.split_at_mut(cut);
                reader.feed(now, |frame| { found.push(frame.to_vec()); true }).expect("valid");
                rest = behind;
            }
            prop_assert_eq!(found, frames);
        }

        #[test]
        fn garbage_never_holds_more_than_a_frame(bytes in prop::collection::vec(any::<u8>(), 0..500)) {
            let mut reader = Frames::new(50);
            for byte in bytes {
                if reader.feed(&mut [byte], |frame| frame.len() <= 50).is_err() {
                    break;
                }
                prop_assert!(reader.partial.len() <= HEADER + 50);
            }
        }
    }

    #[test]
    fn too_long_and_rejected_frames_end_it() {
        let mut reader = Frames::new(10);
        assert_eq!(reader.feed(&mut [0, 11, 1], |_| true), Err(FrameError::TooLong(11)));
        let mut reader = Frames::new(10);
        assert_eq!(reader.feed(&mut [0, 0, 0, 1, 7], |_| false), Err(FrameError::Rejected));
    }
}
