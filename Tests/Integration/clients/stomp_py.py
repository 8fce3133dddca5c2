"""What programs do with stomp.py, each as one case.

    python3 stomp_py.py PORT VERSION PREFIX CASE

VERSION is 1.0, 1.1 or 1.2; PREFIX begins every destination's name. Exits with 0 when the case held, and otherwise
with a traceback that says where it did not.

TRANSPORT in the environment is stomp (the default), stomps, ws or wss. The last two need stomp.py 8.1, and version 1.2.
With TLS, CA names the file of the issuer, and CERTIFICATE and KEY, if they are there, those of the client.
"""

import os
import queue
import sys

import stomp

SECONDS = 20
PORT, VERSION, PREFIX, CASE = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
TRANSPORT = os.environ.get("TRANSPORT", "stomp")
IS_SECURE = TRANSPORT in ("stomps", "wss")
# The name is that of the broker's certificate.
HOSTS = [("localhost" if IS_SECURE else "127.0.0.1", PORT)]


class Listener(stomp.ConnectionListener):
    """Puts what happens into queues, so that a case can wait for it."""

    def __init__(self):
        self.messages, self.receipts, self.errors, self.heart_beats = (queue.Queue() for _ in range(4))

    def on_message(self, frame):
        self.messages.put(frame)

    def on_receipt(self, frame):
        self.receipts.put(frame.headers["receipt-id"])

    def on_error(self, frame):
        self.errors.put(frame)

    def on_heartbeat(self):
        self.heart_beats.put(True)


class Client:
    """A connection, and the waiting that goes with it."""

    def __init__(self, **options):
        if TRANSPORT.startswith("ws"):
            from stomp.adapter.ws import WSStompConnection
            assert VERSION == "1.2"
            self.connection = WSStompConnection(HOSTS, ws_path="/ws", **options)
        else:
            kind = {"1.0": stomp.Connection10, "1.1": stomp.Connection11, "1.2": stomp.Connection12}[VERSION]
            self.connection = kind(HOSTS, **options)
        if IS_SECURE:
            self.connection.set_ssl(HOSTS, ca_certs=os.environ["CA"], cert_file=os.environ.get("CERTIFICATE"),
                                    key_file=os.environ.get("KEY"))
        self.listener = Listener()
        self.connection.set_listener("case", self.listener)
        self.connection.connect("guest", "guest", wait=True)
        self.receipt_count = 0

    def receipt(self):
        """A new receipt's name."""
        self.receipt_count += 1
        return f"receipt-{self.receipt_count}"

    def wait_for_receipt(self, receipt):
        got = self.listener.receipts.get(timeout=SECONDS)
        assert got == receipt, (got, receipt)

    def subscribe(self, destination, ack="auto", id="0", **headers):
        receipt = self.receipt()
        self.connection.subscribe(destination, id=id, ack=ack, receipt=receipt, **headers)
        self.wait_for_receipt(receipt)

    def send(self, destination, body, **headers):
        receipt = self.receipt()
        self.connection.send(destination, body, receipt=receipt, **headers)
        self.wait_for_receipt(receipt)

    def message(self, body=None):
        frame = self.listener.messages.get(timeout=SECONDS)
        if body is not None:
            assert frame.body == body, (frame.body, body)
        return frame

    def _acknowledge(self, method, frame, **options):
        if VERSION == "1.0":
            method(frame.headers["message-id"], **options)
        elif VERSION == "1.1":
            method(frame.headers["message-id"], frame.headers["subscription"], **options)
        else:
            method(frame.headers["ack"], **options)

    def ack(self, frame, **options):
        receipt = self.receipt()
        self._acknowledge(self.connection.ack, frame, receipt=receipt, **options)
        self.wait_for_receipt(receipt)

    def nack(self, frame):
        receipt = self.receipt()
        self._acknowledge(self.connection.nack, frame, receipt=receipt)
        self.wait_for_receipt(receipt)

    def nothing_waits(self):
        """A round trip: what was due has come before its receipt."""
        receipt = self.receipt()
        self.connection.send(f"/topic/{PREFIX}-round-trip", "", receipt=receipt)
        self.wait_for_receipt(receipt)
        assert self.listener.messages.empty(), self.listener.messages.get().body

    def disconnect(self):
        receipt = self.receipt()
        self.connection.disconnect(receipt=receipt)
        self.wait_for_receipt(receipt)
        assert self.listener.errors.empty(), self.listener.errors.get().body


def publish_and_subscribe():
    for kind in ("queue", "topic"):
        destination = f"/{kind}/{PREFIX}"
        client = Client()
        client.subscribe(destination)
        for index in range(100):
            client.connection.send(destination, f"message {index}", content_type="text/plain", index=str(index))
        for index in range(100):
            frame = client.message(f"message {index}")
            assert frame.headers["destination"] == destination
            assert frame.headers["index"] == str(index)
            assert frame.headers["content-type"] == "text/plain"
            assert frame.headers["subscription"] == "0"
            assert frame.headers["message-id"]
        if VERSION == "1.0":
            client.connection.unsubscribe(destination=destination, id="0")
        else:
            client.connection.unsubscribe(id="0")
        client.connection.send(destination, "after unsubscribe")
        client.nothing_waits()
        client.disconnect()


def ack_auto():
    destination = f"/queue/{PREFIX}"
    client = Client()
    client.subscribe(destination)
    client.send(destination, "taken")
    client.message("taken")
    client.disconnect()
    heir = Client()
    heir.subscribe(destination)
    heir.nothing_waits()
    heir.disconnect()


def ack_client():
    """Cumulative."""
    destination = f"/queue/{PREFIX}"
    client = Client()
    client.subscribe(destination, ack="client")
    for index in range(4):
        client.send(destination, str(index))
    frames = [client.message(str(index)) for index in range(4)]
    client.ack(frames[2])
    client.disconnect()
    heir = Client()
    heir.subscribe(destination)
    assert heir.message("3").headers["redelivered"] == "true"
    heir.nothing_waits()
    heir.disconnect()


def ack_client_individual():
    destination = f"/queue/{PREFIX}"
    client = Client()
    client.subscribe(destination, ack="client-individual")
    for index in range(4):
        client.send(destination, str(index))
    frames = [client.message(str(index)) for index in range(4)]
    client.ack(frames[2])
    if VERSION != "1.0":
        client.nack(frames[0])
        client.ack(client.message("0"))
    else:
        client.ack(frames[0])
    client.disconnect()
    heir = Client()
    heir.subscribe(destination)
    heir.message("1")
    heir.message("3")
    heir.nothing_waits()
    heir.disconnect()


def transactions():
    destination, output = f"/queue/{PREFIX}", f"/queue/{PREFIX}-output"
    client = Client()
    client.subscribe(destination, ack="client-individual")
    client.subscribe(output, id="1")
    client.send(destination, "input")
    frame = client.message("input")

    transaction = client.connection.begin()
    client.send(output, "aborted", transaction=transaction)
    client.ack(frame, transaction=transaction)
    client.nothing_waits()
    client.connection.abort(transaction)
    client.nothing_waits()

    transaction = client.connection.begin()
    client.send(output, "first", transaction=transaction)
    client.send(output, "second", transaction=transaction)
    client.ack(frame, transaction=transaction)
    client.nothing_waits()
    client.connection.commit(transaction)
    client.message("first")
    client.message("second")
    client.disconnect()

    heir = Client()
    heir.subscribe(destination)
    heir.nothing_waits()
    heir.disconnect()


def receipts():
    client = Client()
    for index in range(50):
        client.connection.send(f"/topic/{PREFIX}", "x", receipt=f"r{index}")
    for index in range(50):
        client.wait_for_receipt(f"r{index}")
    client.disconnect()


def heart_beats():
    """Both ways, for several times the interval after which a silent peer is cut."""
    client = Client(heartbeats=(200, 200))
    for _ in range(12):
        client.listener.heart_beats.get(timeout=SECONDS)
    assert client.connection.is_connected()
    client.nothing_waits()
    client.disconnect()


def temporary_queues():
    requests = f"/queue/{PREFIX}"
    service = Client()
    service.subscribe(requests)
    client = Client()
    headers = {"reply-to": "/temp-queue/replies", "correlation-id": "42"}
    client.connection.send(requests, "question", headers=headers)
    frame = service.message("question")
    assert frame.headers["correlation-id"] == "42"
    service.connection.send(frame.headers["reply-to"], "answer", headers={"correlation-id": "42"})
    frame = client.message("answer")
    assert frame.headers["correlation-id"] == "42"
    assert frame.headers["subscription"] == "/temp-queue/replies"
    client.disconnect()
    service.disconnect()


def binary_bodies():
    destination = f"/queue/{PREFIX}"
    client = Client(auto_decode=False)
    client.subscribe(destination)
    bodies = [b"", b"\0", b"\0\n\0\n", bytes(range(256)) * 4, bytes(range(256)) * 4096]
    for body in bodies:
        client.connection.send(destination, body, content_type="application/octet-stream")
    for body in bodies:
        got = client.message().body
        got = got.encode() if isinstance(got, str) else got
        assert got == body, (len(got), len(body))
    client.disconnect()


def unicode_headers():
    destination = f"/queue/{PREFIX}/Füße/日本/🐎"
    client = Client()
    client.subscribe(destination)
    headers = {"schlüssel": "Wert mit ä", "ключ": "значение", "emoji": "🐎 🐎"}
    if VERSION != "1.0":
        # This client escapes values, and not names.
        headers["escaped"] = "a:b\\c\nd"
    client.connection.send(destination, "Füße 日本 🐎", headers=headers)
    frame = client.message("Füße 日本 🐎")
    assert frame.headers["destination"] == destination, frame.headers
    for name, value in headers.items():
        assert frame.headers[name] == value, (name, frame.headers)
    client.disconnect()


def errors():
    client = Client()
    client.connection.send("/nowhere/at/all", "x", receipt="r")
    frame = client.listener.errors.get(timeout=SECONDS)
    assert "destination" in frame.headers["message"], frame.headers
    assert frame.headers["receipt-id"] == "r", frame.headers


{
    function.__name__: function
    for function in (
        publish_and_subscribe, ack_auto, ack_client, ack_client_individual, transactions, receipts, heart_beats,
        temporary_queues, binary_bodies, unicode_headers, errors,
    )
}[CASE]()
