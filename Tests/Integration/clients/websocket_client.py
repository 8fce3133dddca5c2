"""STOMP over WebSocket with the library websocket-client, whose calls block.

    python3 websocket_client.py URI CASE

For wss://, CA in the environment names the file of the issuer. Exits with 0 when the case held, and otherwise with a
traceback that says where it did not.
"""

import os
import sys

import websocket
from websocket import ABNF

URI, CASE = sys.argv[1], sys.argv[2]
CONNECT = "CONNECT\naccept-version:1.0,1.1,1.2\nheart-beat:0,0\n\n\0"
SEND = "SEND\ndestination:/topic/websocket-client\n\n"


def connect(**options):
    return websocket.create_connection(
        URI, timeout=20, subprotocols=["v10.stomp", "v11.stomp", "v12.stomp"],
        sslopt={"ca_certs": os.environ["CA"]} if URI.startswith("wss") else None, **options)


class Frames:
    """The frames of a connection, whatever the messages they come in."""

    def __init__(self, socket):
        self.socket, self.rest = socket, b""

    def next(self):
        while b"\0" not in self.rest:
            message = self.socket.recv()
            assert message != "", "the connection has ended"
            self.rest += message.encode() if isinstance(message, str) else message
        frame, self.rest = self.rest.lstrip(b"\n").split(b"\0", 1)
        return frame

    def expect(self, *parts):
        frame = self.next()
        for part in parts:
            assert part.encode() in frame, (part, frame)
        return frame


def expect_close(socket, code):
    """Line ends may come before the close frame: the one after the last frame."""
    while True:
        opcode, frame = socket.recv_data_frame(control_frame=True)
        if opcode == ABNF.OPCODE_CLOSE:
            got = int.from_bytes(frame.data[:2], "big")
            assert got == code, (got, frame.data)
            return
        assert frame.data == b"\n", frame


def conversation():
    socket = connect()
    assert socket.getsubprotocol() == "v12.stomp", socket.getsubprotocol()
    frames = Frames(socket)
    socket.send(CONNECT)
    frames.expect("CONNECTED\n", "version:1.2\n")
    socket.send("SUBSCRIBE\nid:0\ndestination:/topic/websocket-client\nreceipt:s\n\n\0")
    frames.expect("RECEIPT\n")
    # Two frames in a message, a frame in three fragments with a ping between them, and binary data.
    socket.send(SEND + "one\0\n" + SEND + "zwölf\0")
    socket.send_frame(ABNF.create_frame(SEND, ABNF.OPCODE_TEXT, 0))
    socket.ping(b"here")
    socket.send_frame(ABNF.create_frame("frag", ABNF.OPCODE_CONT, 0))
    socket.send_frame(ABNF.create_frame("ments\0", ABNF.OPCODE_CONT, 1))
    socket.send_binary(SEND.replace("\n\n", "\ncontent-length:3\n\n").encode() + b"\xff\0\xfe\0")
    received, pongs = b"", 0
    while received.count(b"MESSAGE\n") < 4 or not received.rstrip(b"\n").endswith(b"\xff\0\xfe\0"):
        opcode, frame = socket.recv_data_frame(control_frame=True)
        if opcode == ABNF.OPCODE_PONG:
            assert frame.data == b"here", frame.data
            pongs += 1
        else:
            received += frame.data
    assert pongs == 1, pongs
    for text in ["\n\none\0", "\n\nzwölf\0", "\n\nfragments\0"]:
        assert text.encode() in received, received
    socket.send("DISCONNECT\nreceipt:bye\n\n\0")
    frames.expect("receipt-id:bye")
    expect_close(socket, 1000)


def long_messages():
    socket = connect()
    frames = Frames(socket)
    socket.send(CONNECT)
    frames.expect("CONNECTED\n")
    socket.send("SUBSCRIBE\nid:0\ndestination:/queue/websocket-client\nack:auto\n\n\0")
    body = "0123456789" * 10_000
    for number in range(10):
        socket.send(f"SEND\ndestination:/queue/websocket-client\nnumber:{number}\n\n{body}\0")
        assert frames.expect(f"number:{number}\n").endswith(body.encode())
    socket.close()


def origins():
    """By default the library says the address of the broker itself."""
    connect().close()
    connect(suppress_origin=True).close()
    for origin in ["http://evil.example", "null"]:
        try:
            connect(origin=origin)
        except websocket.WebSocketBadStatusException as refusal:
            assert refusal.status_code == 403, refusal
        else:
            raise AssertionError(origin)


def errors():
    socket = connect()
    frames = Frames(socket)
    socket.send(CONNECT)
    frames.expect("CONNECTED\n")
    socket.send("SEND\ndestination:/nowhere/at/all\nreceipt:r\n\n\0")
    frames.expect("ERROR\n", "receipt-id:r\n", "destination")
    expect_close(socket, 1000)


{"conversation": conversation, "long_messages": long_messages, "origins": origins, "errors": errors}[CASE]()
