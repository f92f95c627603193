#!/usr/bin/env python3
"""Makes a room, tells what happens in it, and sends away whoever publishes under a name that is not wanted.

usage: controller.py ROOM UNWANTED [HOST:PORT] [USER PASSWORD]     (docs/control-protocol.md has the whole protocol)
"""
import json
import socket
import sys


class Controller:
    """A connection in the text form: requests are answered, notifications wait in `events`."""

    def __init__(self, address):
        host, port = address.rsplit(":", 1)
        self.stream = socket.create_connection((host, int(port))).makefile("rw", encoding="utf-8", newline="")
        self.uuid, self.events = 0, []

    def ask(self, kind, **parameters):
        self.uuid += 1
        self.stream.write(f"Request {kind}\r\n{self.uuid}\r\n")
        self.stream.writelines(f"{key}: {value}\r\n" for key, value in parameters.items())
        self.stream.write("\r\n")
        self.stream.flush()
        while True:
            head, status, answer = self.read()
            if head[0] == "Notification":
                self.events.append((head[1], answer))
            elif status.endswith("OK"):
                return answer
            else:
                sys.exit(f"{kind}: {answer['code']}: {answer['reason']}")

    def read(self):
        lines = list(iter(lambda: self.stream.readline().rstrip("\r\n"), ""))
        if not lines:
            sys.exit("the server hung up")
        head = lines[0].split(" ")
        status = lines.pop(1) if head[0] == "Response" else ""
        return head, status, dict(line.split(": ", 1) for line in lines[1:])

    def event(self):
        if not self.events:
            head, _, data = self.read()
            return head[1], data
        return self.events.pop(0)


room, unwanted, address, *credentials = (sys.argv[1:] + ["127.0.0.1:4080"])[:3] + sys.argv[4:]
controller = Controller(address)
if credentials:
    controller.ask("Authenticate", user=credentials[0], passwd=credentials[1])
controller.ask("room.open", room=room)
controller.ask("room.watch", watchId=1, room=room)
while True:
    event, data = controller.event()
    print(event, json.dumps(data), flush=True)
    if event == "peerjoined" and data["name"] == unwanted:
        controller.ask("peer.kick", room=room, conn=data["conn"], reason="not wanted here")
