#!/bin/sh
# Makes assets/demo.vclip, the clip that plays in room "demo": 8 seconds of 640x360 at 30 frames per second, H.264
# constrained baseline with a keyframe every two seconds, and quiet Opus chords. Picture and sound have a period of
# 8 seconds, so the loop has no seam. Needs ffmpeg with libx264 and libopus, python3 and the DejaVu fonts (Debian 12:
# apt-get install ffmpeg python3 fonts-dejavu-core).
set -eu
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
bold=/usr/share/fonts/truetype/dejavu/DejaVuSans-Bold.ttf
mono=/usr/share/fonts/truetype/dejavu/DejaVuSansMono.ttf

# Arches of a viaduct, and a train that crosses it and comes back.
ffmpeg -v error -y \
    -f lavfi -i "gradients=s=640x360:r=30:d=8:c0=0x16243c:c1=0x34527a:x0=0:y0=0:x1=0:y1=360:speed=0.00001" \
    -f lavfi -i "smptebars=s=640x40:r=30:d=8" \
    -f lavfi -i "color=c=0xe8b04a:s=120x18:r=30:d=8" \
    -filter_complex "
        [0:v]geq=lum='if(between(Y,210,318)*(1-between(Y,224,318)*lt(hypot(mod(X,80)-40,max(0,262-Y)),32)),64,lum(X,Y))':cb='cb(X,Y)':cr='cr(X,Y)',
        drawtext=fontfile=$bold:text='Viaduct':fontsize=64:fontcolor=white:x=(w-tw)/2:y=48,
        drawtext=fontfile=$mono:text='demo  %{eif\:mod(floor(n/30)\,8)\:d\:2}.%{eif\:mod(n\,30)\:d\:2}':fontsize=30:fontcolor=0xd0e0f0:x=(w-tw)/2:y=132[scene];
        [scene][2:v]overlay=x='(W-w)/2-(W-w)/2*cos(2*PI*t/8)':y=190[train];
        [train][1:v]overlay=x=0:y=320,format=yuv420p[out]" \
    -map "[out]" -frames:v 240 -c:v libx264 -profile:v baseline -preset veryslow -tune animation -bf 0 -refs 1 \
    -x264-params "keyint=60:min-keyint=60:scenecut=0:sliced-threads=0:threads=1:colorprim=bt709:transfer=bt709:colormatrix=bt709" \
    -crf 20 -maxrate 900k -bufsize 900k "$work/video.mp4"

# Four chords, each rising and falling over two seconds; every frequency is a multiple of 1/8 Hz.
chord() { echo "sin(2*PI*$1*t)+0.8*sin(2*PI*$2*t)+0.6*sin(2*PI*$3*t)"; }
swell="pow(sin(PI*mod(t,2)/2),2)"
step="mod(floor(t/2),4)"
voice="0.045*$swell*(eq($step,0)*($(chord 261.625 329.625 392))+eq($step,1)*($(chord 220 261.625 329.625))+eq($step,2)*($(chord 174.625 220 261.625))+eq($step,3)*($(chord 196 246.875 293.625)))"
ffmpeg -v error -y -f lavfi -i "aevalsrc='$voice|0.9*$voice':s=48000:d=24" \
    -c:a libopus -b:a 64k -application audio -frame_duration 20 -vbr on "$work/audio.mka"

ffmpeg -v error -y -i "$work/video.mp4" -i "$work/audio.mka" -map 0:v -map 1:a -c copy "$work/both.mp4"
python3 tools/vclip.py "$work/both.mp4" assets/demo.vclip --loop 8 --from 8
ls -l assets/demo.vclip
