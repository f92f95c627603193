#!/bin/sh
# SIPp against a server that has one core for all of its threads: CALLS calls, RATE begun a second, each into a room
# of its own. Prints a row of a table, and a line of JSON; fails if a call failed.
set -eu
cd "$(dirname "$0")/.."
BINARY=${SERVER_BINARY:-target/release/viaduct}
RATE=${RATE:-200}
CALLS=${CALLS:-6000}
command -v sipp >/dev/null || { echo "SIPp is needed (Debian: sip-tester)" >&2; exit 1; }

work=$(mktemp -d)
server=
cleanup() {
    [ -z "$server" ] || kill "$server" 2>/dev/null || true
    rm -rf "$work"
}
trap cleanup EXIT INT TERM

cores=$(nproc)
first=$((20000 + $$ % 5000))
sip=$first http=$((first + 1)) media=$((first + 2)) own=$((first + 3)) rtp=$((first + 4))
taskset -c $((cores - 1)) "$BINARY" --set "state_dir=$work/state" --set "http.listen=[\"127.0.0.1:$http\"]" \
    --set "webrtc.port=$media" --set "webrtc.listen=[127.0.0.1]" --set webrtc.announce_loopback=true --set control.listen=null \
    --set rtmp.listen=null --set demo=false --set log.level=warn --set workers.count=1 --set "sip.udp=127.0.0.1:$sip" --set sip.tcp=null \
    --set 'sip.trunks=[{name: sipp, peers: [127.0.0.1], max_calls: 5000}]' --set 'sip.dispatch=[{from: [sipp], number: "*", room: "{1}"}]' \
    --set sip.limits.max_calls=5000 --set rooms.max_rooms=5000 --set sip.limits.trunk_requests_per_second=100000 --set legs.port_min=30000 --set legs.port_max=49999 \
    >/dev/null 2>"$work/log" &
server=$!
tries=0
until curl -fs "http://127.0.0.1:$http/" >/dev/null 2>&1; do
    tries=$((tries + 1))
    [ $tries -lt 100 ] && kill -0 "$server" 2>/dev/null || { cat "$work/log" >&2; exit 1; }
    sleep 0.1
done

# Processor time of all threads, in nanoseconds.
used() { cat /proc/"$server"/task/*/schedstat | awk '{ sum += $1 } END { printf "%.0f", sum }'; }

scenario=$PWD/tests/clients/lib/sipp/brief-uac.xml
before=$(used) began=$(date +%s.%N)
cd "$work"
status=0
taskset -c 0 sipp "127.0.0.1:$sip" -sf "$scenario" -s call -key from bench -r "$RATE" -m "$CALLS" -l 5000 -i 127.0.0.1 -p "$own" \
    -mi 127.0.0.1 -mp "$rtp" -t u1 -nostdin -trace_stat -stf stat.csv -fd 1 -trace_err -error_file errors >/dev/null 2>&1 || status=$?
after=$(used) ended=$(date +%s.%N)
awk -F ';' -v rate="$RATE" -v status="$status" -v before="$before" -v after="$after" -v began="$began" -v ended="$ended" '
    NR == 1 { for (n = 1; n <= NF; n++) column[$n] = n; next }
    { for (name in column) last[name] = $column[name] }
    END {
        load = (after - before) / (ended - began) / 1e9
        made = last["TotalCallCreated"]; good = last["SuccessfulCall(C)"]; bad = last["FailedCall(C)"]
        again = last["Retransmissions(C)"]; took = last["ResponseTime1(C)"]
        split(took, part, ":"); ms = (part[1] * 3600 + part[2] * 60 + part[3]) * 1000 + part[4] / 1000
        print "| calls by SIPp | begun a second | whole | failed | repeated | INVITE to 200, mean ms | load, % of a core |"
        print "|---|---|---|---|---|---|---|"
        printf "| %d | %d | %d | %d | %d | %.1f | %.1f |\n", made, rate, good, bad, again, ms, 100 * load
        printf "{\"bench\":\"sipp\",\"calls\":%d,\"callsPerSecond\":%d,\"whole\":%d,\"failed\":%d,\"repeated\":%d,\"setupMs\":%.2f,\"load\":%.4f}\n", made, rate, good, bad, again, ms, load
        exit !(status == 0 && bad == 0 && good > 0)
    }' stat.csv || { head -c 2000 errors 2>/dev/null >&2; exit 1; }
