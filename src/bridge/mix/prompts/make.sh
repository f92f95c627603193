#!/bin/sh
# Speaks the built-in English prompts: espeak-ng for the voice, ffmpeg for 8 kHz mu-law WAV files beside this script.
set -eu
cd "$(dirname "$0")"
speak() {
    espeak-ng -v en-us+f3 -s 150 -p 45 -w "/tmp/prompt.$$.wav" "$2"
    ffmpeg -nostdin -loglevel error -y -i "/tmp/prompt.$$.wav" -af "highpass=f=120,volume=0.9" \
        -ar 8000 -ac 1 -c:a pcm_mulaw -bitexact "$1.wav"
    rm -f "/tmp/prompt.$$.wav"
}
speak enter-pin "Please enter your pin, then press the pound key."
speak wrong-pin "That pin is not right. Please try again."
speak no-more-tries "That pin is not right either. Goodbye."
speak joining "You are joining now."
speak alone "You are the only one here so far. Please wait."
speak room-full "This room is full. Please call again later."
speak no-such-room "There is no room with that number."
speak please-hold "Please hold."
speak goodbye "Goodbye."
