#!/bin/sh
# Makes the samples under tests/data that the bridge's tests read: H.264 as libx264 writes it with B-frames, each
# picture with its number in binary in its top row (eight squares, lowest bit left, white is 1), and AAC sines.
# Needs ffmpeg with libx264 and python3.
set -eu
cd "$(dirname "$0")/.."
mkdir -p tests/data
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
number="geq=lum='if(lt(Y,24),if(mod(floor(N/pow(2,floor(X/24))),2),235,16),lum(X,Y))':cb='if(lt(Y,24),128,cb(X,Y))':cr='if(lt(Y,24),128,cr(X,Y))'"
picture() { # name, seconds, x264 arguments ...
    name=$1 seconds=$2
    shift 2
    ffmpeg -v error -y -f lavfi -i "testsrc2=s=192x112:r=30:d=$seconds" -vf "$number,format=yuv420p" \
        -c:v libx264 -threads 1 "$@" "$work/$name.mp4"
    python3 tools/vclip.py "$work/$name.mp4" "tests/data/$name.vclip"
}
picture bframes-default 6 -crf 30 -g 60
picture bframes-flat 3 -crf 32 -bf 2 -x264-params b-pyramid=none
picture bframes-many 3 -crf 32 -bf 8 -b_strategy 0 -x264-params b-pyramid=strict:open-gop=1:keyint=30
picture bframes-obs 3 -b:v 300k -maxrate 300k -bufsize 300k -preset veryfast -profile:v high -g 250
sound() { # name, rate, expression
    ffmpeg -v error -y -f lavfi -i "aevalsrc='$3':s=$2:d=3" -c:a aac -b:a 192k "$work/$1.mp4"
    python3 tools/vclip.py "$work/$1.mp4" "tests/data/$1.vclip"
}
sound aac-44100-stereo 44100 "0.4*sin(2*PI*440*t)|0.4*sin(2*PI*880*t)"
sound aac-48000-stereo 48000 "0.4*sin(2*PI*440*t)|0.4*sin(2*PI*880*t)"
sound aac-48000-mono 48000 "0.4*sin(2*PI*440*t)"
ls -l tests/data
