"""A service that decides about logins, by the protocol of RabbitMQ's HTTP backend.

    login_service.py [CERTIFICATE KEY]      with both: https

Prints its port on standard error, and a line for each question: method, path and form. What it answers depends on the
name of the user:

    alice    allow reader, if the password is "secret"
    locked   deny, with a reason
    plain    allow, without tags
    slow     nothing, for 30 s
    broken   the status 500
    odd      a body that is neither
    far      allow reader; the virtual host is denied
    chunked  allow reader, in chunks
    closing  allow reader, and closes the connection without having said so
"""

import http.server
import ssl
import sys
import time
import urllib.parse


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.answer(self.rfile.read(int(self.headers["Content-Length"])).decode())

    def do_GET(self):
        self.answer(urllib.parse.urlsplit(self.path).query)

    def answer(self, form):
        path = urllib.parse.urlsplit(self.path).path
        print(self.command, path, form, flush=True)
        fields = dict(urllib.parse.parse_qsl(form, keep_blank_values=True))
        user = fields.get("username")
        if path == "/vhost":
            return self.say("deny" if user == "far" else "allow")
        if user == "slow":
            time.sleep(30)
        if user == "broken":
            return self.say("allow reader", 500)
        if user == "chunked":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for part in [b"al", b"low rea", b"der"]:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
                self.wfile.flush()
                time.sleep(0.01)
            self.wfile.write(b"0\r\n\r\n")
            return
        answers = {"locked": "deny the account is locked", "plain": "allow", "odd": "perhaps", "far": "allow reader"}
        if user == "alice":
            answers[user] = "allow reader" if fields.get("password") == "secret" else "deny"
        self.say(answers.get(user, "allow reader" if user in ("closing", "slow") else "deny"))
        self.close_connection = user == "closing"

    def say(self, body, status=200):
        body = body.encode() + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
server.daemon_threads = True
if len(sys.argv) > 1:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[1], sys.argv[2])
    server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_address[1], file=sys.stderr, flush=True)
server.serve_forever()
