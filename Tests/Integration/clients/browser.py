"""A page in headless Chromium that speaks STOMP over WebSocket.

    python3 browser.py WEBSOCKET-URI PAGE-HOST PAGE-PORT PROFILE-DIRECTORY

Serves the page on that port of 127.0.0.1 (0: a free one), and starts the browser, for which PAGE-HOST means that address. So the
page's origin is http://PAGE-HOST:PORT. Prints the origin, and then what the page has reported, as lines.
"""

import ctypes
import http.server
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading

URI, HOST, PORT, PROFILE = sys.argv[1:5]
BROWSERS = ["chromium-headless-shell", "chromium"]
SECONDS = 80
PAGE = """<!doctype html><meta charset="utf-8"><title>STOMP</title><script>
const report = (text) => fetch("/result", { method: "POST", body: text });
const socket = new WebSocket("URI", ["v10.stomp", "v11.stomp", "v12.stomp"]);
const sizes = [0, 1, 100, 5000, 200000];
let rest = "", wanted = 0, state = "opening";
const send = (text) => socket.send(text);
const body = (number) => number + " zwölf 🐎 " + "x".repeat(sizes[number]);
function take(frame) {
    const [head, ...tail] = frame.split("\\n\\n");
    const lines = head.split("\\n");
    if (lines[0] === "CONNECTED") {
        if (!lines.includes("version:1.2")) throw new Error(frame);
        send("SUBSCRIBE\\nid:0\\ndestination:/topic/browser\\nreceipt:subscribed\\n\\n\\0");
    } else if (lines[0] === "RECEIPT" && lines.includes("receipt-id:subscribed")) {
        state = "subscribed";
        sizes.forEach((_, number) => {
            // The largest in pieces of 8 KiB, as stompjs splits it.
            const frame = "SEND\\ndestination:/topic/browser\\n\\n" + body(number) + "\\0";
            for (let start = 0; start < frame.length; start += 8192) send(frame.slice(start, start + 8192));
        });
    } else if (lines[0] === "MESSAGE") {
        if (tail.join("\\n\\n") !== body(wanted)) throw new Error("message " + wanted + ": " + frame.slice(0, 300));
        if (++wanted === sizes.length) send("DISCONNECT\\nreceipt:bye\\n\\n\\0");
    } else if (lines[0] === "RECEIPT" && lines.includes("receipt-id:bye")) {
        state = "done";
    } else {
        throw new Error(frame);
    }
}
socket.onopen = () => {
    state = "open";
    send("CONNECT\\naccept-version:1.2,1.1,1.0\\nheart-beat:10000,10000\\n\\n\\0");
};
socket.onmessage = (event) => {
    if (typeof event.data !== "string") return report("error: binary data");
    rest += event.data;
    for (let end; (end = rest.indexOf("\\0")) >= 0;) {
        const frame = rest.slice(0, end).replace(/^\\n+/, "");
        rest = rest.slice(end + 1);
        try { take(frame); } catch (error) { return report("error: " + error.message); }
    }
};
socket.onclose = (event) => report(state + " " + (socket.protocol || "-") + " " + event.code + " " + event.wasClean);
</script>"""

results = queue.Queue()


class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self, status, body=b"", kind="text/html; charset=utf-8"):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        if self.path == "/":
            self.answer(200, PAGE.replace("URI", URI).encode())
        else:
            self.answer(404)

    def do_POST(self):
        results.put(self.rfile.read(int(self.headers["Content-Length"])).decode())
        self.answer(204)

    def log_message(self, *_):
        pass


def die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


server = http.server.ThreadingHTTPServer(("127.0.0.1", int(PORT)), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
origin = f"http://{HOST}:{server.server_port}"
browser = subprocess.Popen(
    [
        next(path for path in map(shutil.which, BROWSERS) if path), "--headless", "--no-sandbox", "--disable-gpu",
        "--disable-dev-shm-usage", "--no-first-run", "--no-proxy-server", "--disable-background-networking",
        "--disable-component-update", "--disable-sync", f"--user-data-dir={PROFILE}", "--ignore-certificate-errors",
        "--remote-debugging-port=0", f"--host-resolver-rules=MAP {HOST} 127.0.0.1", f"{origin}/",
    ],
    stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True,
    preexec_fn=die_with_parent)
threading.Thread(target=lambda: results.put("the browser ended: " + browser.stderr.read().decode()[-2000:]),
                 daemon=True).start()
try:
    print(origin)
    print(results.get(timeout=SECONDS))
finally:
    # The browser's processes are a group of their own.
    os.killpg(browser.pid, signal.SIGKILL)
    browser.wait()
