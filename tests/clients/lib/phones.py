"""Drives real baresip phones for the tests: JSON lines in, JSON lines out. Sound comes from files and goes to files.

Each line in is {"id", "op", "phone", ...}; each line out {"id", "result"} or {"id", "error"}.
"""
import base64, glob, json, math, os, re, shutil, signal, socket, struct, subprocess, sys, tempfile, threading, time, wave

MODULES = "/usr/lib/baresip/modules"
NAMES = {"opus": "opus", "g722": "g722", "pcmu": "g711", "pcma": "g711"}
LINES = {"opus": "opus/48000/1", "g722": "G722/8000/1", "pcmu": "PCMU/8000/1", "pcma": "PCMA/8000/1"}


def tone(path, hz, seconds=60, rate=48000):
    with wave.open(path, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate)
        second = b"".join(struct.pack("<h", int(9000 * math.sin(2 * math.pi * hz * n / rate))) for n in range(rate))
        out.writeframes(second * seconds)


def share(path, hz, last=None):
    """The largest share of half a second's energy that lies at hz, of the last so many seconds."""
    with open(path, "rb") as file:  # the length fields are unset when the phone was killed: read past the header
        raw = file.read()
    if len(raw) < 46:
        return 0.0
    channels, rate = struct.unpack("<HI", raw[22:28])
    data = raw[44:]
    if last:
        data = data[-int(last * rate) * 2 * channels :]
    samples = struct.unpack("<%dh" % (len(data) // 2), data[: len(data) // 2 * 2])[::channels]
    best, step = 0.0, rate // 2
    for at in range(0, len(samples) - step, step):
        part = samples[at : at + step]
        energy = sum(x * x for x in part)
        if energy < len(part) * 100 * 100:
            continue
        k, q1, q2 = 2 * math.cos(2 * math.pi * hz / rate), 0.0, 0.0
        for x in part:
            q1, q2 = x + k * q1 - q2, q1
        best = max(best, 2 * (q1 * q1 + q2 * q2 - k * q1 * q2) / (len(part) * energy))
    return best


class Phone:
    def __init__(self, user, port, hz, codecs, host="127.0.0.1", transport="udp", mediaenc=None, medianat=None, video=None,
                 clip=None, outbound=None, password=None, register=False, answer="manual", cafile=None,
                 certificate=None, key=None):
        self.home, self.events, self.answers, self.number, self.port = tempfile.mkdtemp(prefix="phone."), [], {}, 0, port
        os.makedirs(self.home + "/rec")
        tone(self.home + "/tone.wav", hz)
        modules = [NAMES[c] for c in codecs] + (["avcodec", "fakevideo", "avformat", "snapshot"] if video else [])
        modules += [("srtp" if mediaenc.startswith("srtp") else mediaenc)] if mediaenc else []
        modules += ([medianat] if medianat else []) + ["stun", "uuid", "sndfile", "aufile", "aubridge", "auloop"]
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "3",
                        "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", self.home + "/k.pem",
                        "-out", self.home + "/c.pem"], check=True, capture_output=True)
        with open(self.home + "/cert.pem", "w") as out:
            out.write(open(key or self.home + "/k.pem").read() + open(certificate or self.home + "/c.pem").read())
        host = f"[{host}]" if ":" in host else host
        first = 30000 + port % 1000 * 20
        lines = ["poll_method epoll", f"sip_listen {host}:{port}", f"sip_certificate {self.home}/cert.pem",
                 f"sip_cafile {cafile or self.home + '/c.pem'}", "call_max_calls 20", "audio_player aubridge,none",
                 f"audio_source aufile,{self.home}/tone.wav", "audio_alert aubridge,none", "ausrc_srate 48000", "auplay_srate 48000",
                 "ausrc_channels 1", "auplay_channels 1", "audio_buffer 20-160", f"rtp_ports {first}-{first + 18}", "rtcp_enable yes",
                 "rtcp_mux yes", f"ctrl_tcp_listen 127.0.0.1:{port + 2}", f"snd_path {self.home}/rec", "opus_stereo no",
                 "opus_sprop_stereo no", f"module_path {MODULES}"]
        if video:
            lines += [f"video_source avformat,{clip}" if clip else "video_source fakevideo,nil", "video_display fakevideo,nil",
                      "video_size 640x360", "video_bitrate 500000", "video_fps 30", "videnc_format yuv420p"]
        lines += [f"module {m}.so" for m in dict.fromkeys(modules)] + ["module_tmp account.so"]
        lines += [f"module_app {m}.so" for m in ("contact", "debug_cmd", "menu", "ctrl_tcp")]
        open(self.home + "/config", "w").write("\n".join(lines) + "\n")
        kind = "" if transport == "udp" else f";transport={transport}"
        account = f"<sip:{user}@{host}{kind}>;audio_codecs=" + ",".join(LINES[c] for c in codecs) + f";answermode={answer}"
        # Without a list it offers H.264 in both packetization modes, with one only mode 0.
        account += f";video_codecs={video.upper()}" if video and video != "all" else ""
        account += (f";mediaenc={mediaenc}" if mediaenc else "") + (f";medianat={medianat}" if medianat else "")
        account += f';outbound="{outbound}{kind}"' if outbound else ""
        account += f";auth_user={user};auth_pass={password}" if password else ""
        open(self.home + "/accounts", "w").write(account + f";regint={120 if register else 0}\n")
        open(self.home + "/contacts", "w").write("")
        self.log = open(self.home + "/log", "wb")
        self.process = subprocess.Popen(["baresip", "-f", self.home, "-v"], stdin=subprocess.DEVNULL, stdout=self.log,
                                        stderr=subprocess.STDOUT, cwd=self.home)
        for _ in range(100):
            try:
                self.socket = socket.create_connection(("127.0.0.1", port + 2), 2)
                break
            except OSError:
                if self.process.poll() is not None:
                    raise RuntimeError("baresip ended: " + open(self.home + "/log", errors="replace").read()[-500:])
                time.sleep(0.1)
        self.socket.settimeout(None)
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        held = b""
        while data := self.receive():
            held += data
            while (m := re.match(rb"(\d+):", held)) and len(held) >= m.end() + int(m[1]) + 1:
                end = m.end() + int(m[1])
                message = json.loads(held[m.end() : end])
                held = held[end + 1 :]
                if message.get("event"):
                    self.events.append(message)
                else:
                    self.answers[message.get("token")] = message

    def receive(self):
        try:
            return self.socket.recv(65536)
        except OSError:
            return b""

    def command(self, name, params="", wait=3.0):
        self.number += 1
        token = str(self.number)
        text = json.dumps({"command": name, "params": params, "token": token}).encode()
        self.socket.sendall(b"%d:%s," % (len(text), text))
        end = time.time() + wait
        while token not in self.answers and time.time() < end:
            time.sleep(0.02)
        return self.answers.get(token)

    def event(self, kind, seconds=10, count=1):
        end = time.time() + seconds
        while time.time() < end:
            if sum(e.get("type") == kind for e in self.events) >= count:
                return True
            time.sleep(0.05)
        return False

    def keys(self, digits):
        for digit in digits:
            self.command("sndcode", digit)
            time.sleep(0.2)
            self.command("sndcode", "\x04")
            time.sleep(0.1)
        return True

    def packets(self):
        """Packets received, as the phone's last report says."""
        reports = [e["rtcp_stats"]["rx"]["sent"] for e in self.events if e.get("type") == "CALL_RTCP"]
        return reports[-1] if reports else 0

    def picture(self):
        """The picture it shows now as grey values: [width, height, base64 of the rows], or None."""
        path = self.home + "/shown.png"
        if os.path.exists(path):
            os.remove(path)
        self.command("snapshot_recv", path)
        for _ in range(40):
            if os.path.exists(path) and os.path.getsize(path):
                made = subprocess.run(["ffmpeg", "-nostdin", "-loglevel", "error", "-i", path, "-f", "image2pipe", "-pix_fmt", "gray",
                                       "-c:v", "pgm", "-"], capture_output=True)
                if made.returncode == 0 and made.stdout:
                    head = re.match(rb"P5\s+(\d+)\s+(\d+)\s+255\s", made.stdout)
                    return [int(head[1]), int(head[2]), base64.b64encode(made.stdout[head.end():]).decode()]
            time.sleep(0.05)
        return None

    def lately(self, hz):
        """What it heard of hz in the last second."""
        return max([share(f, hz, 1) for f in glob.glob(self.home + "/rec/*-dec.wav")] or [0.0])

    def heard(self, hz):
        return max([share(f, hz) for f in glob.glob(self.home + "/rec/*-dec.wav")] or [0.0])

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        return True

    def stop(self):
        try:
            self.command("hangup", wait=0.3)
            time.sleep(0.3)
            self.command("quit", wait=0.3)
        except OSError:
            pass
        for sign in (None, signal.SIGTERM, signal.SIGKILL):
            if sign:
                self.process.send_signal(sign)
            try:
                self.process.wait(3)
                break
            except subprocess.TimeoutExpired:
                continue
        return True

    def remove(self):
        shutil.rmtree(self.home, ignore_errors=True)
        return True


phones = {}


def serve(line):
    ask = json.loads(line)
    op, name, args = ask["op"], ask["phone"], ask.get("args", [])
    try:
        if op == "start":
            phones[name] = Phone(**args[0])
            result = True
        elif op == "keysheard":
            result = "".join(e.get("param", "") for e in phones[name].events if e.get("type") == "CALL_DTMF_START")
        else:
            result = getattr(phones[name], op)(*args)
        answer = {"id": ask["id"], "result": result}
    except Exception as error:
        answer = {"id": ask["id"], "error": repr(error)}
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


for line in sys.stdin:
    threading.Thread(target=serve, args=(line,)).start()
