#!/usr/bin/env python3
"""Takes events of the ledger (setting `events_webhook`), checks their signatures and keeps each one once. As an MES (setting
`mes_url`) it also answers whether a unit may be worked on, from a JSON file of blocked units: {"MAC": "reason"}.

    contrib/mes.py PORT SECRET_FILE EVENTS_FILE [BLOCKED_FILE]

Needs Python 3.9 and nothing else. Listens on this computer; TLS is a reverse proxy's work.
"""
import hashlib
import hmac
import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock

LARGEST_BODY = 1 << 20
OLDEST_S = 300  # an older request is a replay


class Events:
    """The file of events, and the keys that are in it."""

    def __init__(self, path):
        self.file = open(path, "a+", encoding="utf-8")
        self.file.seek(0)
        self.keys = {json.loads(line)["hash"] for line in self.file if line.endswith("\n")}
        self.lock = Lock()

    def keep(self, key, body):
        with self.lock:
            if key not in self.keys:
                self.file.write(body + "\n")
                self.file.flush()
                self.keys.add(key)


def verdict(question, blocked):
    """The answer to `[mes] check` of a recipe."""
    reasons = json.loads(Path(blocked).read_text()) if blocked else {}
    reason = reasons.get(question["unit"]["mac"])
    return {"allowed": reason is None, "reason": reason or ""}


def handler(secret, events, blocked=None):
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            length = int(self.headers.get("Content-Length", 0))
            if not 0 < length <= LARGEST_BODY:
                return self.answer(413)
            body = self.rfile.read(length).decode()
            at = self.headers.get("X-Esp-Timestamp", "")
            wanted = "sha256=" + hmac.new(secret, f"{at}.{body}".encode(), hashlib.sha256).hexdigest()
            if not hmac.compare_digest(wanted, self.headers.get("X-Esp-Signature", "")):
                return self.answer(401)
            if abs(time.time() - int(at)) > OLDEST_S:
                return self.answer(408)
            if self.path.endswith("/check"):
                return self.answer(200, verdict(json.loads(body), blocked))
            key = json.loads(body)["hash"]
            if key != self.headers.get("Idempotency-Key"):
                return self.answer(400)
            events.keep(key, body)
            self.answer(204)

        def answer(self, status, content=None):
            body = json.dumps(content).encode() if content else b""
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    return Handler


if __name__ == "__main__":
    if len(sys.argv) not in (4, 5):
        sys.exit(__doc__)
    port, secret_file, path, *blocked = sys.argv[1:]
    secret = Path(secret_file).read_text().strip().encode()
    server = ThreadingHTTPServer(("127.0.0.1", int(port)), handler(secret, Events(path), *blocked))
    print(f"http://127.0.0.1:{server.server_port}/", flush=True)
    server.serve_forever()
