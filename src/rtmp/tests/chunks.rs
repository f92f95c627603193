use super::*;
use crate::rtmp::RtmpError;

const LIMITS: ChunkLimits = ChunkLimits { message_bytes: 10_000, partial_bytes: 15_000, streams: 4 };

/// Reads all messages, in pieces of every size given.
fn read(data: &[u8], piece: usize) -> Result<Vec<Message>, RtmpError> {
    let mut reader = ChunkReader::new(LIMITS);
    let mut messages = Vec::new();
    for mut part in data.chunks(piece) {
        while let Some(message) = reader.read(&mut part)? {
            messages.push(message);
        }
    }
    Ok(messages)
}

fn read_any(data: &[u8]) -> Vec<Message> {
    let whole = read(data, data.len()).unwrap();
    for piece in [1, 2, 3, 7, 128] {
        assert_eq!(read(data, piece).unwrap(), whole, "in pieces of {piece}");
    }
    whole
}

/// A full header on a one-byte chunk stream id.
fn full(id: u8, time: u32, length: u32, kind: u8) -> Vec<u8> {
    let mut out = vec![id];
    out.extend(&time.min(0xff_ffff).to_be_bytes()[1..]);
    out.extend(&length.to_be_bytes()[1..]);
    out.extend([kind, 1, 0, 0, 0]);
    if time >= 0xff_ffff {
        out.extend(time.to_be_bytes());
    }
    out
}

fn summary(messages: &[Message]) -> Vec<(u32, u32, usize)> {
    messages.iter().map(|m| (m.chunk_stream, m.timestamp, m.payload.len())).collect()
}

#[test]
fn a_chunk_of_sound_between_two_of_picture() {
    let data =
        [full(6, 100, 200, 9), vec![1; 128], full(4, 90, 3, 8), vec![2; 3], vec![0xc6], vec![1; 72]].concat();
    let messages = read_any(&data);
    assert_eq!(summary(&messages), [(4, 90, 3), (6, 100, 200)]);
    assert!(messages[1].payload.iter().all(|&byte| byte == 1));
}

#[test]
fn headers_without_fields_repeat_the_one_before() {
    // Type 1 (delta 40), then type 3 beginning a message: the delta is added again.
    let data = [
        full(6, 1000, 2, 9),
        vec![1; 2],
        vec![0x46, 0, 0, 40, 0, 0, 3, 9, 1, 1, 1],
        vec![0xc6, 1, 1, 1],
        vec![0x86, 0, 0, 7, 1, 1, 1],
        vec![0xc6, 1, 1, 1],
    ]
    .concat();
    assert_eq!(
        summary(&read_any(&data)).iter().map(|m| m.1).collect::<Vec<_>>(),
        [1000, 1040, 1080, 1087, 1094]
    );
    // Section 5.3.1.2.4: after type 0 its timestamp counts as the delta.
    let data = [full(6, 23, 1, 9), vec![1], vec![0xc6, 1]].concat();
    assert_eq!(summary(&read_any(&data)), [(6, 23, 1), (6, 46, 1)]);
}

#[test]
fn extended_timestamps_repeat_in_later_chunks_or_do_not() {
    let time = 0x0123_4567u32;
    let repeated =
        [full(6, time, 200, 9), vec![5; 128], vec![0xc6], time.to_be_bytes().to_vec(), vec![5; 72]];
    assert_eq!(summary(&read_any(&repeated.concat())), [(6, time, 200)]);
    let left_out = [full(6, time, 130, 9), vec![5; 128], vec![0xc6], vec![5; 2], full(6, 3, 1, 9), vec![6]];
    let messages = read_any(&left_out.concat());
    assert_eq!(summary(&messages), [(6, time, 130), (6, 3, 1)]);
    assert!(messages[0].payload.iter().all(|&byte| byte == 5));
    // The last value that needs no extension, and the first that does.
    assert_eq!(summary(&read_any(&[full(6, 0xff_fffe, 1, 9), vec![1]].concat()))[0].1, 0xff_fffe);
    assert_eq!(summary(&read_any(&[full(6, 0xff_ffff, 1, 9), vec![1]].concat()))[0].1, 0xff_ffff);
    // A type-3 chunk that begins a message after an extended delta.
    let delta =
        [full(6, 0, 1, 9), vec![1], vec![0x86, 0xff, 0xff, 0xff, 1, 0, 0, 0, 1], vec![0xc6, 1, 0, 0, 0, 1]];
    assert_eq!(
        summary(&read_any(&delta.concat())).iter().map(|m| m.1).collect::<Vec<_>>(),
        [0, 1 << 24, 2 << 24]
    );
}

#[test]
fn long_stream_ids() {
    let header = |id: &[u8]| [id, &[0, 0, 0, 0, 0, 1, 9, 1, 0, 0, 0, 7]].concat();
    let data = [header(&[0x00, 0]), header(&[0x00, 255]), header(&[0x01, 255, 0]), header(&[0x01, 255, 255])];
    assert_eq!(summary(&read_any(&data.concat())), [(64, 0, 1), (319, 0, 1), (319, 0, 1), (65_599, 0, 1)]);
}

#[test]
fn timestamps_wrap() {
    let data = [full(6, u32::MAX, 1, 9), vec![1], vec![0x86, 0, 0, 2, 1]].concat();
    assert_eq!(summary(&read_any(&data)).iter().map(|m| m.1).collect::<Vec<_>>(), [u32::MAX, 1]);
}

#[test]
fn extreme_chunk_sizes() {
    let mut reader = ChunkReader::new(LIMITS);
    assert_eq!(reader.set_chunk_size(0), Err(RtmpError::BadChunkSize(0)));
    assert_eq!(reader.set_chunk_size(0x8000_0000), Err(RtmpError::BadChunkSize(0x8000_0000)));
    for size in [1usize, 2, 5000, 0x7fff_ffff] {
        reader.set_chunk_size(size as u32).unwrap();
        let mut data = Vec::new();
        let payload: Vec<u8> = (0..5000).map(|at| at as u8).collect();
        let message = Message { chunk_stream: 6, stream: 1, kind: 9, timestamp: 0x0100_0000, payload };
        write_message(&mut data, size, &message);
        assert_eq!(reader.read(&mut data.as_slice()), Ok(Some(message)));
    }
}

#[test]
fn bounds_hold() {
    let mut reader = ChunkReader::new(LIMITS);
    let long = reader.read(&mut full(6, 0, 10_001, 9).as_slice());
    assert_eq!(long, Err(RtmpError::MessageTooLong { size: 10_001, limit: 10_000 }));

    let mut reader = ChunkReader::new(LIMITS);
    for id in 2..6 {
        assert_eq!(
            reader.read(&mut [full(id, 0, 1, 9), vec![1]].concat().as_slice()).unwrap().map(|_| ()),
            Some(())
        );
    }
    assert_eq!(reader.read(&mut full(6, 0, 1, 9).as_slice()), Err(RtmpError::TooManyChunkStreams(4)));

    let mut reader = ChunkReader::new(LIMITS);
    reader.set_chunk_size(9_000).unwrap();
    assert_eq!(reader.read(&mut [full(2, 0, 10_000, 9), vec![1; 9_000]].concat().as_slice()), Ok(None));
    assert_eq!(reader.partial_bytes(), 9_000);
    let more = reader.read(&mut [full(3, 0, 10_000, 9), vec![1; 9_000]].concat().as_slice());
    assert_eq!(more, Err(RtmpError::TooManyPartialBytes(15_000)));

    assert_eq!(read(&[0xc6], 1), Err(RtmpError::NoPreviousHeader(6)));
}

#[test]
fn aborted_and_interrupted_messages_are_dropped() {
    let mut reader = ChunkReader::new(LIMITS);
    assert_eq!(reader.read(&mut [full(6, 0, 200, 9), vec![1; 128]].concat().as_slice()), Ok(None));
    reader.abort(6);
    assert_eq!(reader.partial_bytes(), 0);
    let message = reader.read(&mut [full(6, 5, 1, 9), vec![2]].concat().as_slice()).unwrap().unwrap();
    assert_eq!((message.timestamp, message.payload), (5, vec![2]));
    // A new header on a chunk stream whose message is unfinished begins another.
    let data = [full(6, 0, 200, 9), vec![1; 128], full(6, 9, 2, 9), vec![3; 2]].concat();
    assert_eq!(summary(&read_any(&data)), [(6, 9, 2)]);
}

#[test]
fn empty_messages() {
    let data = [full(6, 0, 0, 9), vec![0xc6, 0xc6], full(6, 0x0200_0000, 0, 9)].concat();
    assert_eq!(read_any(&data).len(), 4);
}
