//! The RTP header: read without copying, written with any header extensions (RFC 3550 §5.1, RFC 8285).
//!
//! A forwarded packet gets a new header (payload type, sequence number, timestamp, SSRC and the receiver's
//! extension ids), so there is no editing in place: read the old one, write the new one.
#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

/// Length of the header without CSRCs and extensions.
pub const FIXED_HEADER: usize = 12;
const ONE_BYTE_PROFILE: u16 = 0xbede;
const TWO_BYTE_PROFILE: u16 = 0x1000;

/// What is wrong with an RTP packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RtpError {
    /// It ends before its header does.
    #[error("RTP packet cut short")]
    Short,
    /// Its version is not 2.
    #[error("not RTP version 2")]
    Version,
    /// Its padding is longer than its payload, or of length 0.
    #[error("RTP padding out of bounds")]
    Padding,
    /// The buffer is too small to write to.
    #[error("no room for the RTP header")]
    NoRoom,
}

impl RtpError {
    /// Whether any network can be expected to send such a thing.
    pub fn is_expected(&self) -> bool {
        !matches!(self, RtpError::NoRoom)
    }
}

/// Whether a datagram of the RTP and RTCP range (first byte 128 to 191) is RTCP (RFC 5761 §4).
pub fn is_rtcp(datagram: &[u8]) -> bool {
    matches!(datagram, [_, 192..=223, ..])
}

/// Length of the header with CSRCs and extensions; all of it is in `packet`.
pub fn header_length(packet: &[u8]) -> Result<usize, RtpError> {
    let first = *packet.first().ok_or(RtpError::Short)?;
    if first >> 6 != 2 {
        return Err(RtpError::Version);
    }
    let mut len = FIXED_HEADER.saturating_add(usize::from(first & 0x0f).saturating_mul(4));
    if first & 0x10 != 0 {
        let words = read_u16(packet, len.saturating_add(2)).ok_or(RtpError::Short)?;
        len = len.saturating_add(4).saturating_add(usize::from(words).saturating_mul(4));
    }
    if packet.len() < len { Err(RtpError::Short) } else { Ok(len) }
}

/// A parsed packet; borrows the bytes.
#[derive(Clone, Copy, Debug)]
pub struct RtpView<'a> {
    /// Marker bit.
    pub marker: bool,
    /// Payload type, 0 to 127.
    pub payload_type: u8,
    /// Sequence number.
    pub sequence: u16,
    /// Timestamp.
    pub timestamp: u32,
    /// Synchronisation source.
    pub ssrc: u32,
    /// Bytes before the payload.
    pub header_len: usize,
    /// The payload, without padding.
    pub payload: &'a [u8],
    /// Bytes of padding behind the payload, the counting byte included.
    pub padding: u8,
    profile: u16,
    extension: &'a [u8],
}

impl<'a> RtpView<'a> {
    /// Reads an unprotected packet.
    pub fn parse(packet: &'a [u8]) -> Result<Self, RtpError> {
        let header_len = header_length(packet)?;
        let first = *packet.first().ok_or(RtpError::Short)?;
        let second = *packet.get(1).ok_or(RtpError::Short)?;
        let body = packet.get(header_len..).ok_or(RtpError::Short)?;
        let mut padding = 0;
        if first & 0x20 != 0 {
            padding = *body.last().ok_or(RtpError::Padding)?;
            if padding == 0 {
                return Err(RtpError::Padding);
            }
        }
        let end = body.len().checked_sub(usize::from(padding)).ok_or(RtpError::Padding)?;
        let (profile, extension) = extension_block(packet, first, header_len);
        Ok(RtpView {
            marker: second & 0x80 != 0,
            payload_type: second & 0x7f,
            sequence: read_u16(packet, 2).ok_or(RtpError::Short)?,
            timestamp: read_u32(packet, 4).ok_or(RtpError::Short)?,
            ssrc: read_u32(packet, 8).ok_or(RtpError::Short)?,
            header_len,
            payload: body.get(..end).ok_or(RtpError::Padding)?,
            padding,
            profile,
            extension,
        })
    }

    /// A packet of the same moment and source with another number and payload, and nothing else of this one.
    pub fn replaced<'b>(&self, sequence: u16, payload: &'b [u8]) -> RtpView<'b> {
        RtpView {
            marker: false,
            payload_type: self.payload_type,
            sequence,
            timestamp: self.timestamp,
            ssrc: self.ssrc,
            header_len: FIXED_HEADER,
            payload,
            padding: 0,
            profile: 0,
            extension: &[],
        }
    }

    /// The header extension elements as (id, data), in one-byte and two-byte form; what is malformed
    /// ends the iteration.
    pub fn extensions(&self) -> Extensions<'a> {
        Extensions::new(self.profile, self.extension)
    }
}

fn extension_block(packet: &[u8], first: u8, header_len: usize) -> (u16, &[u8]) {
    if first & 0x10 == 0 {
        return (0, &[]);
    }
    let start = FIXED_HEADER.saturating_add(usize::from(first & 0x0f).saturating_mul(4));
    let profile = read_u16(packet, start).unwrap_or(0);
    (profile, packet.get(start.saturating_add(4)..header_len).unwrap_or(&[]))
}

/// The data of the header extension element `id` of a packet, to be changed.
pub fn extension_mut(packet: &mut [u8], id: u8) -> Option<&mut [u8]> {
    let length = header_length(packet).ok()?;
    let (profile, block) = extension_block(packet, *packet.first()?, length);
    let mut elements = Extensions::new(profile, block);
    let size = elements.find(|(found, _)| *found == id)?.1.len();
    let end = length.checked_sub(elements.rest.len())?;
    packet.get_mut(end.checked_sub(size)?..end)
}

/// Iterator over header extension elements.
#[derive(Clone, Debug)]
pub struct Extensions<'a> {
    rest: &'a [u8],
    two_byte: bool,
}

impl<'a> Extensions<'a> {
    fn new(profile: u16, block: &'a [u8]) -> Self {
        let two_byte = profile & 0xfff0 == TWO_BYTE_PROFILE;
        let known = two_byte || profile == ONE_BYTE_PROFILE;
        Extensions { rest: if known { block } else { &[] }, two_byte }
    }
}

impl<'a> Iterator for Extensions<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (&first, rest) = self.rest.split_first()?;
            if first == 0 {
                self.rest = rest; // padding between elements
                continue;
            }
            let (id, len, rest) = if self.two_byte {
                let (&len, rest) = rest.split_first()?;
                (first, usize::from(len), rest)
            } else {
                // Id 15 is reserved and ends the processing (RFC 8285 §4.2).
                if first >> 4 == 15 {
                    self.rest = &[];
                    return None;
                }
                (first >> 4, usize::from(first & 0x0f).saturating_add(1), rest)
            };
            let Some((data, rest)) = rest.split_at_checked(len) else {
                self.rest = &[];
                return None;
            };
            self.rest = rest;
            if id == 0 {
                continue; // one-byte form: id 0 with a length is padding of that size
            }
            return Some((id, data));
        }
    }
}

/// The fields of a header to write.
#[derive(Clone, Copy, Debug, Default)]
pub struct HeaderFields {
    /// Marker bit.
    pub marker: bool,
    /// The P bit: the payload is followed by padding, see [`write_padding`].
    pub padding: bool,
    /// Payload type, 0 to 127.
    pub payload_type: u8,
    /// Sequence number.
    pub sequence: u16,
    /// Timestamp.
    pub timestamp: u32,
    /// Synchronisation source.
    pub ssrc: u32,
}

/// Writes a header with extension elements (id, data) into `out` and returns its length. The one-byte
/// form is used where each id is at most 14 and each length 1 to 16. Elements of id 0 are left out.
pub fn write_header(
    out: &mut [u8],
    fields: &HeaderFields,
    extensions: &[(u8, &[u8])],
) -> Result<usize, RtpError> {
    let fixed = out.first_chunk_mut::<FIXED_HEADER>().ok_or(RtpError::NoRoom)?;
    let [s0, s1] = fields.sequence.to_be_bytes();
    let [t0, t1, t2, t3] = fields.timestamp.to_be_bytes();
    let [c0, c1, c2, c3] = fields.ssrc.to_be_bytes();
    let present = extensions.iter().any(|(id, _)| *id != 0);
    let first = 0x80 | (u8::from(fields.padding) << 5) | (u8::from(present) << 4);
    let second = (u8::from(fields.marker) << 7) | (fields.payload_type & 0x7f);
    *fixed = [first, second, s0, s1, t0, t1, t2, t3, c0, c1, c2, c3];
    if !present {
        return Ok(FIXED_HEADER);
    }
    let block = out.get_mut(FIXED_HEADER..).ok_or(RtpError::NoRoom)?;
    let len = write_extensions(block, extensions).ok_or(RtpError::NoRoom)?;
    Ok(FIXED_HEADER.saturating_add(len))
}

fn write_extensions(block: &mut [u8], extensions: &[(u8, &[u8])]) -> Option<usize> {
    let elements = extensions.iter().filter(|(id, _)| *id != 0);
    let one_byte = elements.clone().all(|(id, data)| *id <= 14 && (1..=16).contains(&data.len()));
    let mut at = 4usize;
    for (id, data) in elements {
        if one_byte {
            *block.get_mut(at)? = (id << 4) | (u8::try_from(data.len()).ok()?.checked_sub(1)?);
            at = at.checked_add(1)?;
        } else {
            *block.get_mut(at)? = *id;
            *block.get_mut(at.checked_add(1)?)? = u8::try_from(data.len()).ok()?;
            at = at.checked_add(2)?;
        }
        let end = at.checked_add(data.len())?;
        block.get_mut(at..end)?.copy_from_slice(data);
        at = end;
    }
    let end = at.checked_next_multiple_of(4)?;
    block.get_mut(at..end)?.fill(0);
    let words = u16::try_from(end.checked_sub(4)? / 4).ok()?;
    let profile = if one_byte { ONE_BYTE_PROFILE } else { TWO_BYTE_PROFILE };
    let [p0, p1] = profile.to_be_bytes();
    let [w0, w1] = words.to_be_bytes();
    *block.first_chunk_mut::<4>()? = [p0, p1, w0, w1];
    Some(end)
}

/// Fills `out` as RTP padding: zeros, the last byte the count. `out` holds 1 to 255 bytes and stands
/// directly behind the payload of a packet whose header has the P bit.
pub fn write_padding(out: &mut [u8]) {
    let count = u8::try_from(out.len()).unwrap_or(u8::MAX);
    out.fill(0);
    if let Some(last) = out.last_mut() {
        *last = count;
    }
}

fn read_u16(data: &[u8], at: usize) -> Option<u16> {
    data.get(at..)?.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))
}

fn read_u32(data: &[u8], at: usize) -> Option<u32> {
    data.get(at..)?.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fields() -> HeaderFields {
        HeaderFields {
            marker: true,
            padding: false,
            payload_type: 111,
            sequence: 65_535,
            timestamp: 0xdead_beef,
            ssrc: 0x1234_5678,
        }
    }

    fn written(fields: &HeaderFields, extensions: &[(u8, &[u8])], payload: &[u8]) -> Vec<u8> {
        let mut out = vec![0xaa; 2000];
        let len = write_header(&mut out, fields, extensions).unwrap();
        out.truncate(len);
        out.extend_from_slice(payload);
        out
    }

    #[test]
    fn an_element_is_changed_in_place() {
        for (first, second) in [(&b"abc"[..], &b"de"[..]), (&[7; 30][..], &b"de"[..])] {
            let fields = HeaderFields { padding: true, ..fields() };
            let mut packet = written(&fields, &[(3, first), (9, second)], b"");
            extension_mut(&mut packet, 9).unwrap().copy_from_slice(b"xy");
            assert_eq!(extension_mut(&mut packet, 3).unwrap(), first);
            assert_eq!(extension_mut(&mut packet, 9).unwrap(), b"xy");
            assert_eq!(extension_mut(&mut packet, 4), None);
        }
    }

    #[test]
    fn a_plain_header_comes_back() {
        let packet = written(&fields(), &[], b"payload");
        assert_eq!(packet.len(), FIXED_HEADER + 7);
        let view = RtpView::parse(&packet).unwrap();
        assert!(view.marker);
        assert_eq!((view.payload_type, view.sequence), (111, 65_535));
        assert_eq!((view.timestamp, view.ssrc), (0xdead_beef, 0x1234_5678));
        assert_eq!((view.header_len, view.payload, view.padding), (12, &b"payload"[..], 0));
        assert_eq!(view.extensions().count(), 0);
    }

    #[test]
    fn one_and_two_byte_forms() {
        let short: &[(u8, &[u8])] = &[(1, b"abc"), (0, b"left out"), (14, b"0123456789abcdef"), (2, b"x")];
        let packet = written(&fields(), short, b"p");
        assert_eq!(packet[12..14], [0xbe, 0xde]);
        assert_eq!(header_length(&packet), Ok(packet.len() - 1));
        let view = RtpView::parse(&packet).unwrap();
        let expected: Vec<_> = short.iter().copied().filter(|(id, _)| *id != 0).collect();
        assert_eq!(view.extensions().collect::<Vec<_>>(), expected);
        assert_eq!(view.payload, b"p");

        for long in [&[(15u8, &b"x"[..]), (1, b"y")][..], &[(1, b"")], &[(1, b"0123456789abcdefg"), (3, b"")]]
        {
            let packet = written(&fields(), long, b"p");
            assert_eq!(packet[12..14], [0x10, 0x00]);
            let view = RtpView::parse(&packet).unwrap();
            assert_eq!(view.extensions().collect::<Vec<_>>(), long);
            assert_eq!(view.payload, b"p");
        }
    }

    #[test]
    fn padding_between_elements_csrcs_and_unknown_profiles() {
        // Two CSRCs; id 3 of one byte, two bytes of padding, id 5 of two bytes.
        let mut packet = vec![0x92, 96, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 1, 1, 1, 1, 2, 2, 2, 2];
        packet.extend_from_slice(&[0xbe, 0xde, 0, 2, 0x30, 9, 0, 0, 0x51, 7, 8, 0, b'!']);
        let view = RtpView::parse(&packet).unwrap();
        assert_eq!(view.extensions().collect::<Vec<_>>(), [(3, &[9][..]), (5, &[7, 8])]);
        assert_eq!((view.header_len, view.payload), (32, &b"!"[..]));
        // Id 15 ends the one-byte form; a length beyond the block does too.
        packet[24] = 0xf0;
        assert_eq!(RtpView::parse(&packet).unwrap().extensions().count(), 0);
        packet[24] = 0x3f;
        assert_eq!(RtpView::parse(&packet).unwrap().extensions().count(), 0);
        packet[20] = 0x55;
        assert_eq!(RtpView::parse(&packet).unwrap().extensions().count(), 0);
    }

    #[test]
    fn rtp_padding() {
        let mut packet = written(&HeaderFields { padding: true, ..fields() }, &[], b"payload....");
        let len = packet.len();
        write_padding(&mut packet[len - 4..]);
        let view = RtpView::parse(&packet).unwrap();
        assert_eq!((view.payload, view.padding), (&b"payload"[..], 4));
        *packet.last_mut().unwrap() = 12;
        assert_eq!(RtpView::parse(&packet).err(), Some(RtpError::Padding));
        *packet.last_mut().unwrap() = 0;
        assert_eq!(RtpView::parse(&packet).err(), Some(RtpError::Padding));
        // Nothing but padding is a legal probe.
        *packet.last_mut().unwrap() = 11;
        assert_eq!(RtpView::parse(&packet).unwrap().payload, b"");
    }

    #[test]
    fn what_is_cut_or_foreign_is_refused() {
        let packet = written(&fields(), &[(1, b"abc")], b"");
        for len in 0..packet.len() {
            assert_eq!(RtpView::parse(&packet[..len]).err(), Some(RtpError::Short));
        }
        assert_eq!(RtpView::parse(&[0x40; 20]).err(), Some(RtpError::Version));
        let mut small = [0; 19];
        assert_eq!(write_header(&mut small, &fields(), &[(1, b"abcd")]), Err(RtpError::NoRoom));
        assert_eq!(write_header(&mut small[..11], &fields(), &[]), Err(RtpError::NoRoom));
    }

    #[test]
    fn rtcp_is_told_from_rtp() {
        assert!(is_rtcp(&[0x80, 200]) && is_rtcp(&[0x80, 206]));
        assert!(!is_rtcp(&[0x80, 96]) && !is_rtcp(&[0x80, 0x80 | 111]) && !is_rtcp(&[0x80]));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(view) = RtpView::parse(&bytes) {
                prop_assert_eq!(
                    view.header_len + view.payload.len() + usize::from(view.padding), bytes.len());
                let total: usize = view.extensions().map(|(_, data)| data.len()).sum();
                prop_assert!(total <= bytes.len());
            }
        }
    }
}
