#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A scripted HTTP/1.1 server for tests: serves a directory, badly where it is told to.

    server.py [--port-file FILE] [--log FILE] [--control FILE] [--tls-cert PEM --tls-key PEM] DIR

It listens on 127.0.0.1, on a free port which it prints on stdout as one line (and writes to
--port-file, complete when it exists). It ends on SIGTERM and when its parent process dies.

Files of DIR are served with Content-Length, a strong ETag (of the content), Last-Modified (the
file's mtime), Accept-Ranges, Range, If-Range, If-None-Match and If-Modified-Since.

Behaviours are given per path as a JSON object {"/path": {KEY: VALUE, ...}}, from --control (read
again at each request when it changed, which sets all counts to 0) or with PUT /.control (replaces all; `curl -T`). POST
/.control merges. GET /.control shows them; GET /.log gives the request log; DELETE /.log empties
it; GET /.count/PATH says how many requests PATH had. A path may also be asked for with a query
"?x.KEY=VALUE&..." (values are JSON, else strings), which goes before the control.

    times: N            the other keys hold for the first N requests of this path only
    skip: N             ... but not for the first N
    only_range: true    ... only for requests with a Range
    delay: S            wait before answering
    status: N           answer with this status (with `headers`, `text`)
    text: "..."         body instead of the file's
    headers: {..}       added to (null: removed from) the answer
    file: "name"        serve this file of DIR instead (sums that come late: {"times": 2, ...})
    redirect: "URL"     Location, status 302 or `status`; {port} and {host} are filled in
    auth: "user:pass"   401 unless that Basic authorization was sent
    need: {"Name": "v"} 403 unless that request header was sent
    retry_after: "2"    the header
    reset_after: N      close the connection with RST after N body bytes (of this answer)
    close_after: N      close it properly after N body bytes
    stall_after: N      after N body bytes send nothing for stall seconds (default 3600)
    stall: S
    length: N or "+N"/"-N"   lie about Content-Length
    no_range: true      ignore Range, answer 200
    range_shift: N      answer a range with bytes from N further on, and say so
    range_lie: N        Content-Range starts N further on, the bytes don't
    range_total: N      total of Content-Range
    range_max: N        answer with at most N bytes of the range asked for
    etag: "..." or null, last_modified: "..." or null    instead of ours
    weak: true          the ETag is weak and there is no Last-Modified
    change_after: N     after N body bytes: RST; the next requests serve `file2` of DIR
    file2: "name"
    drip: [BYTES, S]    send so many bytes each S seconds
    chunked: true       Transfer-Encoding: chunked, no length; with close_after: cut
    encoding: "gzip"    the header only; the bytes stay as they are
    raw: "..."          send exactly this (latin-1) and close

Each request is one JSON line in the log: {"n", "method", "path", "query", "headers", "status",
"bytes" (of the body, sent), "host"}. Written before the connection goes on, so that a client that
has its answer finds its line.
"""
import argparse
import base64
import ctypes
import email.utils
import fcntl
import hashlib
import json
import os
import signal
import socket
import socketserver
import ssl
import struct
import sys
import termios
import threading
import time
import urllib.parse

PIECE = 65536
PR_SET_PDEATHSIG = 1
TCP_ESTABLISHED = 1  # tcpi_state


class Cut(Exception):
    """The connection is over; with_reset: abruptly."""

    def __init__(self, with_reset=False):
        super().__init__()
        self.with_reset = with_reset


class State:
    def __init__(self, args):
        self.root = os.path.realpath(args.dir)
        self.control_file = args.control
        self.log_file = args.log
        self.lock = threading.Lock()
        self.control = {}
        self.control_stamp = None
        self.lines = []
        self.counts = {}
        self.changed = set()
        self.digests = {}
        self.port = 0

    def rules(self, path, query, has_range):
        """Behaviour of this request; counts it."""
        with self.lock:
            self.reread()  # resets the counts when the control is new
            n = self.counts.get(path, 0)
            self.counts[path] = n + 1
            rule = dict(self.control.get(path, {}))
        for key, value in query:
            if key.startswith("x."):
                try:
                    rule[key[2:]] = json.loads(value)
                except ValueError:
                    rule[key[2:]] = value
        skip = rule.pop("skip", 0)
        times = rule.pop("times", None)
        if rule.pop("only_range", False) and not has_range:
            return {}
        if n < skip or (times is not None and n >= skip + times):
            return {}
        return rule

    def reread(self):
        if not self.control_file:
            return
        try:
            st = os.stat(self.control_file)
        except FileNotFoundError:
            return
        stamp = (st.st_mtime_ns, st.st_ino, st.st_size)
        if stamp != self.control_stamp:
            with open(self.control_file, encoding="utf-8") as f:
                self.control = json.load(f)
            self.control_stamp = stamp
            self.counts = {}
            self.changed = set()

    def log(self, line):
        with self.lock:
            line["n"] = len(self.lines)
            self.lines.append(line)
            if self.log_file:
                with open(self.log_file, "a", encoding="utf-8") as f:
                    f.write(json.dumps(line) + "\n")

    def etag(self, path, st):
        key = (path, st.st_mtime_ns, st.st_size, st.st_ino)
        with self.lock:
            if key in self.digests:
                return self.digests[key]
        h = hashlib.blake2b(digest_size=12)
        with open(path, "rb") as f:
            while piece := f.read(1 << 20):
                h.update(piece)
        with self.lock:
            self.digests[key] = '"' + h.hexdigest() + '"'
            return self.digests[key]


def parse_range(text, size):
    """First and one past the last byte, or None when not satisfiable; False: not a range."""
    if not text or not text.startswith("bytes=") or "," in text:
        return False
    first, _, last = text[6:].partition("-")
    try:
        if first == "":
            n = int(last)
            return (max(0, size - n), size) if n > 0 and size > 0 else None
        start = int(first)
        end = int(last) + 1 if last else size
    except ValueError:
        return False
    if start >= size or end <= start:
        return None
    return (start, min(end, size))


def wait_until_arrived(connection):
    """Until the client's kernel has all that was sent, or the client is gone: what a reset finds on
    the way is lost, what has arrived can still be read."""
    unsent = bytearray(4)
    for _ in range(60000):
        fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, unsent)
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
        if not any(unsent) or info[0] != TCP_ESTABLISHED:
            return
        time.sleep(0.001)


class Handler(socketserver.StreamRequestHandler):
    rbufsize = PIECE
    disable_nagle_algorithm = True

    def handle(self):
        try:
            while self.one():
                pass
        except Cut as cut:
            if cut.with_reset:
                linger = struct.pack("ii", 1, 0)
                self.request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                # Whoever closes last sends the RST; the file objects hold the socket too.
                self.rfile.close()
                self.request.close()
        except (ConnectionError, ssl.SSLError, TimeoutError, ValueError):
            pass

    def finish(self):
        try:
            super().finish()
        except (OSError, ValueError):
            pass

    # ---- reading ----

    def one(self):
        line = self.rfile.readline(PIECE)
        if not line.strip():
            return False
        self.method, target, _ = line.decode("latin-1").split()
        self.headers = {}
        while True:
            line = self.rfile.readline(PIECE).decode("latin-1").rstrip("\r\n")
            if not line:
                break
            name, _, value = line.partition(":")
            self.headers[name.lower()] = value.strip()
        parts = urllib.parse.urlsplit(target)
        self.path = urllib.parse.unquote(parts.path)
        self.query = urllib.parse.parse_qsl(parts.query, keep_blank_values=True)
        self.query_text = parts.query
        body = b""
        if "content-length" in self.headers:
            if self.headers.get("expect", "").lower() == "100-continue":
                self.request.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            body = self.rfile.read(int(self.headers["content-length"]))
        if self.path.startswith("/."):
            self.admin(body)
        else:
            self.serve()
        return self.headers.get("connection", "").lower() != "close"

    def admin(self, body):
        state = self.server.state
        answer = b""
        if self.path == "/.control" and self.method in ("PUT", "POST"):
            rules = json.loads(body)
            with state.lock:
                if self.method == "PUT":
                    state.control = rules
                    state.counts = {}
                    state.changed = set()
                else:
                    state.control.update(rules)
                    for path in rules:
                        state.counts.pop(path, None)
                        state.changed.discard(path)
        elif self.path == "/.control":
            answer = json.dumps(state.control).encode()
        elif self.path == "/.log" and self.method == "DELETE":
            with state.lock:
                state.lines = []
                if state.log_file:
                    open(state.log_file, "w").close()
        elif self.path == "/.log":
            with state.lock:
                answer = "".join(json.dumps(x) + "\n" for x in state.lines).encode()
        elif self.path.startswith("/.count/"):
            answer = b"%d\n" % state.counts.get(self.path[len("/.count"):], 0)
        self.head(200, {"Content-Length": str(len(answer))})
        self.request.sendall(answer)

    # ---- answering ----

    def head(self, status, headers):
        lines = ["HTTP/1.1 %d X" % status]
        lines += ["%s: %s" % (k, v) for k, v in headers.items() if v is not None]
        self.request.sendall(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))

    def log(self, status, count):
        self.server.state.log(
            {
                "method": self.method,
                "path": self.path,
                "query": self.query_text,
                "headers": self.headers,
                "status": status,
                "bytes": count,
                "host": self.headers.get("host", ""),
            }
        )

    def answer(self, status, text, headers, rule):
        """A small answer of our own."""
        body = text.encode()
        all_headers = {"Content-Length": str(len(body)), "Content-Type": "text/html"}
        all_headers["Date"] = email.utils.formatdate(usegmt=True)
        if "retry_after" in rule:
            all_headers["Retry-After"] = str(rule["retry_after"])
        all_headers.update(headers)
        all_headers.update(rule.get("headers", {}))
        self.log(status, len(body))
        self.head(status, all_headers)
        if self.method != "HEAD":
            self.request.sendall(body)

    def refused(self, rule):
        if "auth" in rule:
            want = "Basic " + base64.b64encode(rule["auth"].encode()).decode()
            if self.headers.get("authorization") != want:
                self.answer(401, "who?", {"WWW-Authenticate": 'Basic realm="test"'}, rule)
                return True
        for name, value in rule.get("need", {}).items():
            if self.headers.get(name.lower()) != value:
                self.answer(403, "no", {}, rule)
                return True
        return False

    def serve(self):
        state = self.server.state
        rule = state.rules(self.path, self.query, "range" in self.headers)
        if "delay" in rule:
            time.sleep(rule["delay"])
            if self.is_client_gone():
                raise Cut()  # not logged: it would be among the requests of the next test
        if "raw" in rule:
            self.log(0, len(rule["raw"]))
            self.request.sendall(rule["raw"].encode("latin-1"))
            raise Cut()
        if self.refused(rule):
            return
        if "redirect" in rule:
            host = self.headers.get("host", "").rpartition(":")[0]
            to = rule["redirect"].replace("{port}", str(state.port)).replace("{host}", host)
            self.answer(rule.get("status", 302), "moved", {"Location": to}, rule)
            return
        if rule.get("status", 200) != 200:
            self.answer(rule["status"], rule.get("text", "status"), {}, rule)
            return
        if "text" in rule:
            self.answer(200, rule["text"], {}, rule)
            return
        self.serve_file(rule)

    def find(self, rule):
        state = self.server.state
        name = rule.get("file", self.path.lstrip("/"))
        if "file2" in rule and self.path in state.changed:
            name = rule["file2"]
        path = os.path.realpath(os.path.join(state.root, name))
        inside = path.startswith(state.root + os.sep)
        return path if inside and os.path.isfile(path) else None

    def validators(self, path, st, rule):
        etag = self.server.state.etag(path, st)
        modified = email.utils.formatdate(st.st_mtime, usegmt=True)
        if rule.get("weak"):
            etag, modified = "W/" + etag, None
        return rule.get("etag", etag), rule.get("last_modified", modified)

    def is_unmodified(self, etag, modified):
        if "if-none-match" in self.headers:
            return etag is not None and etag in self.headers["if-none-match"]
        since = self.headers.get("if-modified-since")
        if since and modified:
            parse = email.utils.parsedate_to_datetime
            return parse(modified) <= parse(since)
        return False

    def choose_range(self, size, etag, modified, rule):
        """(start, end) or None for everything or "416"."""
        wanted = parse_range(self.headers.get("range"), size)
        if wanted is False or rule.get("no_range"):
            return None
        if_range = self.headers.get("if-range")
        if if_range is not None and if_range not in (etag, modified):
            return None
        if if_range is not None and if_range.startswith("W/"):
            return None
        if wanted is None:
            return "416"
        start, end = wanted
        start += rule.get("range_shift", 0)
        if "range_max" in rule:
            end = min(end, start + rule["range_max"])
        return (start, end)

    def serve_file(self, rule):
        path = self.find(rule)
        if not path:
            self.answer(404, "<html>not found</html>", {}, rule)
            return
        with open(path, "rb") as f:
            st = os.fstat(f.fileno())
            etag, modified = self.validators(path, st, rule)
            headers = {
                "Date": email.utils.formatdate(usegmt=True),
                "ETag": etag,
                "Last-Modified": modified,
                "Accept-Ranges": None if rule.get("no_range") else "bytes",
                "Content-Type": "application/octet-stream",
                "Content-Encoding": rule.get("encoding"),
            }
            if self.is_unmodified(etag, modified):
                headers.update(rule.get("headers", {}))
                self.log(304, 0)
                self.head(304, headers)
                return
            chosen = self.choose_range(st.st_size, etag, modified, rule)
            if chosen == "416":
                self.answer(416, "", {"Content-Range": "bytes */%d" % st.st_size}, rule)
                return
            start, end = chosen or (0, st.st_size)
            status = 206 if chosen else 200
            if chosen:
                said = start + rule.get("range_lie", 0)
                total = rule.get("range_total", st.st_size)
                headers["Content-Range"] = "bytes %d-%d/%s" % (
                    said, end - 1 + rule.get("range_lie", 0), total)
            self.send_file(f, start, end, status, headers, rule)

    def send_file(self, f, start, end, status, headers, rule):
        n = end - start
        said = rule.get("length", n)
        if isinstance(said, str):
            said = n + int(said)
        if rule.get("chunked"):
            headers["Transfer-Encoding"] = "chunked"
        else:
            headers["Content-Length"] = str(said)
        headers.update(rule.get("headers", {}))
        ends = [rule[k] for k in ("reset_after", "close_after", "change_after") if k in rule]
        self.log(status, n if self.method == "GET" else 0)
        self.head(status, headers)
        if self.method == "HEAD":
            return
        limit = min(ends + [n])
        self.send_body(f, start, limit, rule)
        if limit < n or (ends and min(ends) <= n):
            if "change_after" in rule:
                self.server.state.changed.add(self.path)
            wait_until_arrived(self.request)
            raise Cut("close_after" not in rule)
        if rule.get("chunked"):
            self.request.sendall(b"0\r\n\r\n")
        if said != n:
            raise Cut()

    def send_body(self, f, start, n, rule):
        f.seek(start)
        sent = 0
        drip = rule.get("drip")
        stall = rule.get("stall_after")
        plain = not drip and not rule.get("chunked") and stall is None
        if plain and not isinstance(self.request, ssl.SSLSocket):
            while sent < n:
                sent += os.sendfile(self.request.fileno(), f.fileno(), start + sent, n - sent)
            return
        while sent < n:
            want = min(drip[0] if drip else PIECE, n - sent)
            if stall is not None and sent < stall:
                want = min(want, stall - sent)
            elif stall is not None:
                stall = None
                self.idle(rule.get("stall", 3600))
            piece = f.read(want)
            if not piece:
                raise Cut()
            if rule.get("chunked"):
                piece_out = b"%x\r\n" % len(piece) + piece + b"\r\n"
            else:
                piece_out = piece
            self.request.sendall(piece_out)
            sent += len(piece)
            if drip:
                time.sleep(drip[1])

    def is_client_gone(self):
        if isinstance(self.request, ssl.SSLSocket):
            return False
        try:
            return not self.request.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False

    def idle(self, seconds):
        """Sleeps, but not longer than the client is there."""
        until = time.monotonic() + seconds
        self.request.settimeout(0.1)
        while time.monotonic() < until:
            try:
                if not self.request.recv(1, 0 if isinstance(self.request, ssl.SSLSocket)
                                         else socket.MSG_PEEK):
                    raise Cut()
            except TimeoutError:
                pass
        self.request.settimeout(None)


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128
    tls = None

    def get_request(self):
        connection, address = super().get_request()
        if self.tls:
            connection = self.tls.wrap_socket(connection, server_side=True,
                                              do_handshake_on_connect=False)
        return connection, address

    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], (OSError, Cut)):
            super().handle_error(request, client_address)


def main():
    parser = argparse.ArgumentParser(description="scripted HTTP server for tests")
    parser.add_argument("--port-file")
    parser.add_argument("--log")
    parser.add_argument("--control")
    parser.add_argument("--tls-cert")
    parser.add_argument("--tls-key")
    parser.add_argument("dir")
    args = parser.parse_args()

    # Both: the signal covers a parent that dies later, the check one that died already.
    parent = os.getppid()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit(0)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))

    server = Server(("127.0.0.1", 0), Handler)
    server.state = State(args)
    server.state.port = server.server_address[1]
    if args.tls_cert:
        server.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.tls.load_cert_chain(args.tls_cert, args.tls_key)
    if args.port_file:
        with open(args.port_file + ".tmp", "w", encoding="ascii") as f:
            f.write("%d\n" % server.state.port)
        os.rename(args.port_file + ".tmp", args.port_file)
    print(server.state.port, flush=True)
    server.serve_forever(poll_interval=0.5)


if __name__ == "__main__":
    main()
