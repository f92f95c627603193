#!/usr/bin/env python3
"""Packs the packets of a media file into a .vclip: the form in which Viaduct carries its demo clip and test samples.

usage: vclip.py INPUT OUTPUT [--loop SECONDS] [--from SECONDS]

INPUT is anything ffprobe reads, with H.264 (from MP4 or MKV), Opus or AAC tracks. With --loop the clip lasts that
long and repeats; packets of sound are then taken from --from on, so that an encoder's first packets stay outside.

Layout, big-endian:
    "VCLIP\\x01"             six bytes
    u32                     length of the loop in microseconds (0: does not loop)
    u8                      number of tracks; for each:
        u8                      codec: 1 H.264, 2 Opus, 3 AAC
        u32                     RTP clock in Hz
        u8                      channels (0 for a picture)
        u16, bytes              configuration (AAC: AudioSpecificConfig)
    until the end, ordered by decoding time, for each packet:
        u8                      track, counted from 0
        u8                      1: keyframe
        i64                     decoding time in microseconds
        i64                     presentation time in microseconds
        u32, bytes              data; H.264 as NAL units behind four-byte lengths, keyframes with SPS and PPS
"""
import json
import struct
import subprocess
import sys

CODECS = {"h264": 1, "opus": 2, "aac": 3}


def unhex(dump):
    out = bytearray()
    for line in dump.splitlines():
        if ":" in line:
            out += bytes.fromhex(line.split(":", 1)[1][:41].replace(" ", ""))
    return bytes(out)


def micros(text):
    whole, _, part = text.partition(".")
    value = int(whole.lstrip("-") or 0) * 1_000_000 + int((part + "000000")[:6] or 0)
    return -value if text.startswith("-") else value


def parameter_sets(record):
    sets, at = [], 5
    for mask in (0x1F, 0xFF):
        count, at = record[at] & mask, at + 1
        for _ in range(count):
            length = struct.unpack_from(">H", record, at)[0]
            sets.append(record[at + 2 : at + 2 + length])
            at += 2 + length
    return sets


def access_unit(data, sets):
    nals, at = [], 0
    while at + 4 <= len(data):
        length = struct.unpack_from(">I", data, at)[0]
        nals.append(data[at + 4 : at + 4 + length])
        at += 4 + length
    nals = [nal for nal in nals if nal and nal[0] & 31 not in (6, 7, 8, 9, 12)]
    key = any(nal[0] & 31 == 5 for nal in nals)
    return key, b"".join(struct.pack(">I", len(nal)) + nal for nal in (sets if key else []) + nals)


def main():
    args = sys.argv[1:]
    loop = micros(args[args.index("--loop") + 1]) if "--loop" in args else 0
    skip = micros(args[args.index("--from") + 1]) if "--from" in args else 0
    probe = ["ffprobe", "-v", "error", "-of", "json", "-show_streams", "-show_packets", "-show_data", args[0]]
    info = json.loads(subprocess.run(probe, check=True, capture_output=True, text=True).stdout)
    head, sets, records = bytearray(), {}, []
    for index, stream in enumerate(info["streams"]):
        config = unhex(stream.get("extradata", ""))
        video = stream["codec_name"] == "h264"
        if video:
            sets[index] = parameter_sets(config)
        config = config if stream["codec_name"] == "aac" else b""
        clock = 90_000 if video else int(stream["sample_rate"])
        channels = 0 if video else int(stream["channels"])
        head += struct.pack(">BIBH", CODECS[stream["codec_name"]], clock, channels, len(config)) + config
    for packet in info["packets"]:
        index, data = packet["stream_index"], unhex(packet["data"])
        pts, dts = micros(packet["pts_time"]), micros(packet.get("dts_time", packet["pts_time"]))
        key = True
        if index in sets:
            key, data = access_unit(data, sets[index])
        elif loop:
            # Packets of 20 ms, the first ones timed before zero by the encoder's delay: counted, not timed.
            count = sum(1 for record in records if record[0] == index)
            pts = dts = count * 20_000 - skip
        records.append((index, dts, pts, key, data))
    if loop:
        records = [record for record in records if 0 <= record[1] < loop]
    records.sort(key=lambda record: record[1])
    with open(args[1], "wb") as out:
        out.write(b"VCLIP\x01" + struct.pack(">IB", loop, len(info["streams"])) + head)
        for index, dts, pts, key, data in records:
            out.write(struct.pack(">BBqqI", index, key, dts, pts, len(data)) + data)
    print(f"{args[1]}: {len(records)} packets")


main()
