//! Bodies of audio and video messages: FLV tags (Adobe, "Video File Format Specification" 10.1, annex E.4)
//! and their extension by four-letter codecs ("Enhanced RTMP" v2).

use crate::rtmp::RtmpError;
use crate::rtmp::wire::{kind, take, take_u8, take_uint};

/// A codec as the tag names it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TagCodec {
    /// H.264.
    H264,
    /// AAC.
    Aac,
    /// Opus.
    Opus,
    /// Anything else, by a name for people.
    Other(&'static str),
}

/// One audio or video message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Tag<'a> {
    /// The codec's configuration (AVCDecoderConfigurationRecord, AudioSpecificConfig, OpusHead).
    Config {
        /// Whose.
        codec: TagCodec,
        /// The record.
        data: &'a [u8],
    },
    /// One frame.
    Frame {
        /// In which codec.
        codec: TagCodec,
        /// The tag says that decoding can start here.
        keyframe: bool,
        /// Milliseconds from decoding to presentation.
        composition: i32,
        /// The frame.
        data: &'a [u8],
    },
    /// Nothing to play: metadata, end of sequence, another track than the first.
    Nothing,
}

const SHORT_VIDEO: RtmpError = RtmpError::Truncated(kind::VIDEO);
const SHORT_AUDIO: RtmpError = RtmpError::Truncated(kind::AUDIO);

/// Reads the body of a video message.
pub fn video(mut data: &[u8]) -> Result<Tag<'_>, RtmpError> {
    // An empty message is an encoder's sign of life.
    let Some(first) = take_u8(&mut data) else { return Ok(Tag::Nothing) };
    if (first >> 4) & 7 == 5 {
        return Ok(Tag::Nothing);
    }
    let keyframe = (first >> 4) & 7 == 1;
    if first & 0x80 != 0 {
        return extended(first & 0x0f, data, keyframe, &VIDEO);
    }
    let codec = video_codec(first & 0x0f);
    if codec != TagCodec::H264 {
        return Ok(Tag::Frame { codec, keyframe, composition: 0, data });
    }
    let packet = take_u8(&mut data).ok_or(SHORT_VIDEO)?;
    let composition = take_signed(&mut data).ok_or(SHORT_VIDEO)?;
    Ok(match packet {
        0 => Tag::Config { codec, data },
        1 => Tag::Frame { codec, keyframe, composition, data },
        _ => Tag::Nothing,
    })
}

/// Reads the body of an audio message.
pub fn audio(mut data: &[u8]) -> Result<Tag<'_>, RtmpError> {
    let Some(first) = take_u8(&mut data) else { return Ok(Tag::Nothing) };
    if first >> 4 == 9 {
        return extended(first & 0x0f, data, true, &AUDIO);
    }
    let codec = audio_codec(first >> 4);
    if codec != TagCodec::Aac {
        return Ok(Tag::Frame { codec, keyframe: true, composition: 0, data });
    }
    match take_u8(&mut data).ok_or(SHORT_AUDIO)? {
        0 => Ok(Tag::Config { codec, data }),
        1 => Ok(Tag::Frame { codec, keyframe: true, composition: 0, data }),
        _ => Ok(Tag::Nothing),
    }
}

fn video_codec(id: u8) -> TagCodec {
    match id {
        7 => TagCodec::H264,
        2 => TagCodec::Other("Sorenson H.263"),
        3 | 6 => TagCodec::Other("screen video"),
        4 | 5 => TagCodec::Other("VP6"),
        12 => TagCodec::Other("H.265"),
        13 => TagCodec::Other("AV1"),
        _ => TagCodec::Other("an unknown video codec"),
    }
}

fn audio_codec(id: u8) -> TagCodec {
    match id {
        10 => TagCodec::Aac,
        0 | 1 | 3 => TagCodec::Other("PCM"),
        2 | 14 => TagCodec::Other("MP3"),
        4..=6 => TagCodec::Other("Nellymoser"),
        7 | 8 => TagCodec::Other("G.711"),
        11 => TagCodec::Other("Speex"),
        13 => TagCodec::Other("Opus in an old form"),
        _ => TagCodec::Other("an unknown audio codec"),
    }
}

fn four_letters(name: &[u8]) -> TagCodec {
    match name {
        b"avc1" => TagCodec::H264,
        b"mp4a" => TagCodec::Aac,
        b"Opus" => TagCodec::Opus,
        b"hvc1" => TagCodec::Other("H.265"),
        b"vvc1" => TagCodec::Other("H.266"),
        b"av01" => TagCodec::Other("AV1"),
        b"vp08" => TagCodec::Other("VP8"),
        b"vp09" => TagCodec::Other("VP9"),
        b".mp3" => TagCodec::Other("MP3"),
        b"fLaC" => TagCodec::Other("FLAC"),
        b"ac-3" | b"ec-3" => TagCodec::Other("AC-3"),
        _ => TagCodec::Other("an unknown codec"),
    }
}

/// Where the packet types of sound and picture differ.
struct Shape {
    multitrack: u8,
    error: RtmpError,
    video: bool,
}

const VIDEO: Shape = Shape { multitrack: 6, error: SHORT_VIDEO, video: true };
const AUDIO: Shape = Shape { multitrack: 5, error: SHORT_AUDIO, video: false };
/// `ModEx`: more about the packet that follows.
const MODIFIER: u8 = 7;

/// What stands behind the first byte of an extended tag.
fn extended<'a>(
    mut packet: u8,
    mut data: &'a [u8],
    keyframe: bool,
    shape: &Shape,
) -> Result<Tag<'a>, RtmpError> {
    let short = || shape.error.clone();
    while packet == MODIFIER {
        packet = skip_modifier(&mut data).ok_or_else(short)?;
    }
    if packet != shape.multitrack {
        let codec = four_letters(take(&mut data, 4).ok_or_else(short)?);
        return body(packet, codec, data, keyframe, shape);
    }
    let (packet, codec, data) = first_track(data).ok_or_else(short)?;
    match codec {
        Some(codec) => body(packet, codec, data, keyframe, shape),
        None => Ok(Tag::Nothing),
    }
}

fn skip_modifier(data: &mut &[u8]) -> Option<u8> {
    let mut size = take_uint(data, 1)?.checked_add(1)?;
    if size == 256 {
        size = take_uint(data, 2)?.checked_add(1)?;
    }
    take(data, size as usize)?;
    Some(take_u8(data)? & 0x0f)
}

/// Finds track 0 of several; no codec: it is not among them.
fn first_track(mut data: &[u8]) -> Option<(u8, Option<TagCodec>, &[u8])> {
    let first = take_u8(&mut data)?;
    let (form, packet) = (first >> 4, first & 0x0f);
    let shared = if form == 2 { None } else { Some(four_letters(take(&mut data, 4)?)) };
    while !data.is_empty() {
        let codec = match shared {
            Some(codec) => codec,
            None => four_letters(take(&mut data, 4)?),
        };
        let track = take_u8(&mut data)?;
        let size = if form == 0 { data.len() } else { take_uint(&mut data, 3)? as usize };
        let body = take(&mut data, size)?;
        if track == 0 {
            return Some((packet, Some(codec), body));
        }
    }
    Some((packet, None, data))
}

fn body<'a>(
    packet: u8,
    codec: TagCodec,
    mut data: &'a [u8],
    keyframe: bool,
    shape: &Shape,
) -> Result<Tag<'a>, RtmpError> {
    let composition = match packet {
        0 => return Ok(Tag::Config { codec, data }),
        1 if shape.video && codec == TagCodec::H264 => take_signed(&mut data).ok_or(SHORT_VIDEO)?,
        1 => 0,
        3 if shape.video => 0,
        _ => return Ok(Tag::Nothing),
    };
    Ok(Tag::Frame { codec, keyframe, composition, data })
}

/// A signed number of 24 bits.
fn take_signed(data: &mut &[u8]) -> Option<i32> {
    take_uint(data, 3).map(|value| ((value as i32) << 8) >> 8)
}

/// The body of a video message with an AVCDecoderConfigurationRecord.
pub fn write_video_config(record: &[u8]) -> Vec<u8> {
    [&[0x17, 0, 0, 0, 0], record].concat()
}

/// The body of a video message with an access unit of H.264 that is shown when it is decoded.
pub fn write_video(keyframe: bool, unit: &[u8]) -> Vec<u8> {
    [&[if keyframe { 0x17 } else { 0x27 }, 1, 0, 0, 0], unit].concat()
}

/// The body of an audio message with a codec's configuration.
pub fn write_audio_config(codec: TagCodec, config: &[u8]) -> Vec<u8> {
    write_audio_packet(codec, 0, config)
}

/// The body of an audio message with a frame.
pub fn write_audio(codec: TagCodec, data: &[u8]) -> Vec<u8> {
    write_audio_packet(codec, 1, data)
}

/// AAC has a form of its own (always said to be 44.1 kHz, 16 bit, stereo); Opus is named by four letters.
fn write_audio_packet(codec: TagCodec, packet: u8, data: &[u8]) -> Vec<u8> {
    match codec {
        TagCodec::Opus => [&[0x90 | packet][..], b"Opus", data].concat(),
        _ => [&[0xaf, packet], data].concat(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn classic_tags() {
        assert_eq!(
            video(b"\x17\x00\0\0\0record").unwrap(),
            Tag::Config { codec: TagCodec::H264, data: b"record" }
        );
        assert_eq!(
            video(b"\x27\x01\xff\xff\xfbnal").unwrap(),
            Tag::Frame { codec: TagCodec::H264, keyframe: false, composition: -5, data: b"nal" }
        );
        assert_eq!(
            audio(b"\xaf\x00\x12\x10").unwrap(),
            Tag::Config { codec: TagCodec::Aac, data: b"\x12\x10" }
        );
        assert!(matches!(audio(b"\x2fmp3").unwrap(), Tag::Frame { codec: TagCodec::Other("MP3"), .. }));
        assert_eq!(video(b"\x57\0").unwrap(), Tag::Nothing);
        assert_eq!(video(b"").unwrap(), Tag::Nothing);
        assert_eq!(video(b"\x17\x01\0"), Err(SHORT_VIDEO));
    }

    #[test]
    fn extended_tags() {
        assert_eq!(
            video(b"\x91avc1\0\0\x21nal").unwrap(),
            Tag::Frame { codec: TagCodec::H264, keyframe: true, composition: 33, data: b"nal" }
        );
        assert_eq!(
            video(b"\x93avc1nal").unwrap(),
            Tag::Frame { codec: TagCodec::H264, keyframe: true, composition: 0, data: b"nal" }
        );
        assert_eq!(
            audio(b"\x91Opusx").unwrap(),
            Tag::Frame { codec: TagCodec::Opus, keyframe: true, composition: 0, data: b"x" }
        );
        assert!(matches!(video(b"\x90hvc1x").unwrap(), Tag::Config { codec: TagCodec::Other("H.265"), .. }));
    }

    #[test]
    fn modifiers_are_skipped_and_the_first_track_is_taken() {
        assert_eq!(
            video(b"\x97\x02abc\x03avc1nal").unwrap(),
            Tag::Frame { codec: TagCodec::H264, keyframe: true, composition: 0, data: b"nal" }
        );
        assert_eq!(
            video(b"\x96\x13avc1\x01\0\0\x02no\x00\0\0\x03yes").unwrap(),
            Tag::Frame { codec: TagCodec::H264, keyframe: true, composition: 0, data: b"yes" }
        );
        assert_eq!(video(b"\x96\x03avc1\x01no").unwrap(), Tag::Nothing);
        assert_eq!(video(b"\x97\xff\xff\xffx"), Err(SHORT_VIDEO));
    }
}
