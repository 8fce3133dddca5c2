"""STOMP over WebSocket with the library websockets, as browsers' clients speak it.

    python3 websocket_stomp.py URI CASE

For wss://, CA in the environment names the file of the issuer; COMPRESSION=1: messages are to be compressed. Exits with 0 when the case held, and otherwise with a traceback that says where it did not.
"""

import asyncio
import os
import ssl
import sys

import websockets

URI, CASE = sys.argv[1], sys.argv[2]
TLS = {"ssl": ssl.create_default_context(cafile=os.environ["CA"])} if URI.startswith("wss") else {}
OFFERS = ["v10.stomp", "v11.stomp", "v12.stomp"]
CONNECT = "CONNECT\naccept-version:1.0,1.1,1.2\nheart-beat:0,0\n\n\0"


class Frames:
    """The frames of a connection, whatever the messages they come in."""

    def __init__(self, socket):
        self.socket, self.rest = socket, b""

    async def next(self):
        while b"\0" not in self.rest:
            message = await asyncio.wait_for(self.socket.recv(), 20)
            self.rest += message.encode() if isinstance(message, str) else message
        frame, self.rest = self.rest.lstrip(b"\n").split(b"\0", 1)
        return frame

    async def expect(self, *parts):
        frame = await self.next()
        for part in parts:
            assert part.encode() in frame, (part, frame)
        return frame


async def closed(socket, code):
    try:
        while True:
            await asyncio.wait_for(socket.recv(), 20)
    except websockets.ConnectionClosed:
        assert socket.close_code == code, socket.close_code


async def conversation():
    async with websockets.connect(URI, **TLS, subprotocols=OFFERS) as socket:
        assert socket.subprotocol == "v12.stomp", socket.subprotocol
        is_compressed = [extension.name for extension in socket.extensions] == ["permessage-deflate"]
        assert is_compressed == (os.environ.get("COMPRESSION") == "1"), socket.extensions
        frames = Frames(socket)
        await socket.send(CONNECT)
        await frames.expect("CONNECTED\n", "version:1.2\n")
        await socket.send("SUBSCRIBE\nid:0\ndestination:/topic/ws\nreceipt:s\n\n\0")
        await frames.expect("RECEIPT\n")
        # One message with two frames, a frame in fragments, one of binary data, and one that is long.
        send = "SEND\ndestination:/topic/ws\n\n"
        await socket.send(send + "one\0\n" + send + "zwölf\0")
        await socket.send([send, "fra", "gments\0"])
        await socket.send(b"SEND\ndestination:/topic/ws\ncontent-length:3\n\n\xff\0\xfe\0")
        for text in ["one", "zwölf", "fragments"]:
            await frames.expect("MESSAGE\n", "\n\n" + text)
        frames.rest += b""
        frame = await frames.next()
        assert frame.endswith(b"\n\n\xff"), frame
        await asyncio.wait_for(await socket.ping(b"are you there"), 20)
        await socket.send("\n")
        frames.rest = b""
        await socket.send("DISCONNECT\nreceipt:bye\n\n\0")
        await frames.expect("receipt-id:bye")
        await closed(socket, 1000)


async def bound_version():
    async with websockets.connect(URI, **TLS, subprotocols=["v11.stomp"]) as socket:
        await socket.send("CONNECT\naccept-version:1.0,1.1,1.2\n\n\0")
        await Frames(socket).expect("CONNECTED\n", "version:1.1\n")
    async with websockets.connect(URI, **TLS, subprotocols=["v10.stomp"]) as socket:
        await socket.send("CONNECT\naccept-version:1.1,1.2\n\n\0")
        await Frames(socket).expect("ERROR\n", "message:Supported versions are 1.0\n", "version:1.0\n")
        await closed(socket, 1000)


async def long_messages():
    """More than the socket takes at a time, in messages that the library accepts (1 MiB)."""
    async with websockets.connect(URI, **TLS, subprotocols=OFFERS) as socket:
        frames = Frames(socket)
        await socket.send(CONNECT)
        await frames.expect("CONNECTED\n")
        await socket.send("SUBSCRIBE\nid:0\ndestination:/queue/ws-long\nack:auto\n\n\0")
        body = "0123456789" * 50_000
        for number in range(20):
            await socket.send(f"SEND\ndestination:/queue/ws-long\nnumber:{number}\n\n{body}\0")
        for number in range(20):
            frame = await frames.expect(f"number:{number}\n")
            assert frame.endswith(body.encode()), len(frame)
        await socket.close()
        assert socket.close_code == 1000, socket.close_code


async def origins():
    for origin, is_allowed in [("http://localhost:8080", True), ("http://evil.example", False), ("null", False)]:
        try:
            async with websockets.connect(URI, **TLS, origin=origin):
                assert is_allowed, origin
        except websockets.InvalidHandshake:
            assert not is_allowed, origin


asyncio.run({"conversation": conversation, "bound_version": bound_version, "long_messages": long_messages,
             "origins": origins}[CASE]())
