#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A scripted OCI registry for tests: distribution-spec in memory, and badly where it is told to.

    server.py [--port-file FILE] [--log FILE] [--headers FILE] [--tls-cert PEM --tls-key PEM]
              [--client-ca PEM] [--other-plain] [--set JSON]... [--image JSON]...

It listens on three free ports of 127.0.0.1, printed on stdout as one line "REGISTRY OTHER ADMIN"
(and written to --port-file, complete when it exists), with threads, HTTP/1.1 and keep-alive:

    REGISTRY  the registry, /v2/ and /token (TLS with --tls-cert; client certificates of
              --client-ca are required)
    OTHER     another origin: /storage/ (where redirects point to), /token (token_at: other),
              uploads (location: other). TLS, too, unless --other-plain
    ADMIN     plain HTTP, never logged: what tests use (below)

It ends on SIGTERM and when its parent process dies.

ADMIN
    PUT  /_control   a JSON object of settings (below); all others get their defaults; rules begin
                     to count anew, tokens are forgotten. 400 when a setting does not exist
    POST /_control   the same, the others stay as they are
    GET  /_control   the settings
    POST /_image     makes an image: {"repo": "a/b", "tag": "latest" or "tags": [...], "platforms":
                     ["linux/amd64", "linux/arm64/v8"] (none: a manifest without index), "layers":
                     2, "size": 4096, "seed": 1, "format": "oci" or "docker", "labels": {}}.
                     Same words, same bytes. Answers {"digest", "mediaType", "size", "members"}
    PUT  /_manifest/NAME/REFERENCE   body and Content-Type as they are, nothing checked
    PUT  /_blob/NAME                 a blob; answers its digest
    GET  /_content   {"a/b": {"tags": {tag: digest}, "manifests": {digest: type}, "blobs":
                     {digest: size}}}
    GET  /_blob/NAME/DIGEST, /_manifest/NAME/REFERENCE   the bytes
    DELETE /_blob/NAME/DIGEST, /_manifest/NAME/REFERENCE
    DELETE /_content forgets everything that was pushed
    GET  /_waiting   {"held": [...], "busy": [...]}: "METHOD TARGET" of the requests that a rule
                     holds, and of all that are not answered yet
    DELETE /_waiting lets those go that are held (as PUT and POST /_control do)
    GET  /_log       the log; DELETE /_log empties it (so does truncating the file)

LOG: a line a request, written before its answer is sent:
    METHOD TARGET STATUS SENT RECEIVED AUTHORIZATION CONNECTION LISTENER
SENT and RECEIVED are bytes of bodies; AUTHORIZATION is none, basic, bearer or other; CONNECTION
counts from 1; LISTENER is registry or other. STATUS 0: closed without an answer. --headers FILE
gets {"method", "target", "headers"} of each as a JSON line.

SETTINGS [default]
  who may
    auth [none] | basic | bearer        user [user], password [secret]
    anonymous [none] | pull | all       rights without a user; of the token given without one
    identity_token [identity]           the refresh token that POST /token takes
    challenge [plain] | bare (no quotes) | upper | list (Negotiate, Basic, Bearer in one header) |
              headers (each in its own) | none (401 without)
    realm [null]                        URL in the challenge instead of ours
    service [fake]
    token_at [same] | other             which listener the realm names
    token_get, token_post [200]         404, 405, 503...: what the token server answers to that
    token_key [token] | access_token | both
    token_life [300]                    expires_in; null: not said
    token_really [null]                 seconds after which the token is refused; null: as said
    token_refresh [false]               a refresh token is given when asked for
    token_refuses []                    repositories; a scope naming one fails the token request
    token_revoked_by [null]             "PATCH", "POST"...: its success ends all tokens,
    token_revoked_times [1]             that often
    scope_denied []                     repositories that a token never covers (Basic: 403)
    denied_status [401] | 403           to a token without the right; 401 has insufficient_scope
  manifests, tags
    digest_header [true] | false | wrong
    manifest_check [true]               a manifest whose blobs or members lack: 400
    manifest_max [4194304]              413 above
    accept_check [false]                404 when Accept lacks the type
    immutable [false] | true (other bytes are refused) | always (the same bytes, too)
    if_match [false]                    If-Match and If-None-Match of a PUT are honoured (412)
    tag_delay [0]                       so many reads of a tag after its PUT see the state before
    tags_order [sorted] | ignoring-case | unsorted (of creation)
    tags_max [0]                        at most so many a page
    tags_link [true] | false | absolute
    tags_n_limit [0]                    n above it: 400
    tags_need_manifest [false]          the list is 404 for a repository with blobs alone, as
                                        docker-registry's
    referrers [true]                    false: 404, no OCI-Subject
    referrers_max [0]                   at most so many a page
    delete_tag, delete_manifest, delete_blob [202]    405, 400, 404: refused that way
  uploads
    single_post [true]                  false: 202 and a session
    mount [201] | 202 (never) | 400 | 401 | 403 | 404
    mount_denied [202] | 401 | 403 | 404    the token may not read the source
    mount_any [true]                    false: 400 without "from"
    location [relative] | absolute | other | query | missing | http | schemeless; joined with "+"
                                        ("absolute+query"; with query only the latest is taken)
    patch_status [202] | 201 | 204
    patch_refused [0]                   404, 405: monolithic uploads only
    patch_range [right] | stuck (after the first) | none
    put_body_refused [0]                404...: PATCH only
    chunk_min [0]                       OCI-Chunk-Min-Length; a smaller chunk before the last: 400
    body_max [0], body_max_methods ["PATCH"]    larger bodies: body_max_status [416]
  downloads
    redirect [0] | 301 | 302 | 303 | 307 | 308    of blobs to /storage/, which refuses
                                        Authorization (400), cookies (400) and HEAD (403)
    redirect_to [other] | same
    redirect_head [false]               HEAD as well
    redirect_life [300]                 seconds until the URL is refused (403)
    other_host [127.0.0.1]              name of the other origin ("localhost")
    other_authorization [refused] | ok
  everything
    warning [null]                      texts of Warning headers: "..." or ["...", ...]
    delay [0]                           seconds before each answer
    rules []                            below

RULES: [{"match": REGEX, ...}, ...]; the first whose REGEX is found in "METHOD TARGET" holds, all
listeners alike.
    times: N            for the first N such requests only;  skip: N  but not for the first N
    status: N           answers this instead (with text, headers {..: null removes}, retry_after:
                        seconds or "date+SECONDS"); text alone: 200 with it
    after: true         the request is done first, then that is answered (stored, but 500)
    delay: S            waits before answering
    hold: true          waits, before it is done, until DELETE /_waiting
    gather: N           such requests wait until N have come, and for their answers until all N of
                        them are done
    drop: true          closes without an answer;  raw: "..."  sends that and closes
    cut_request: N      RST after N bytes of the request's body; keep: true  an upload keeps them
    cut: N, close: N    RST / proper close after N bytes of the answer's body
    stall_after: N      then silence for `stall` seconds [3600]
    no_range: true      Range is ignored: 200
    range_shift: N      Content-Range and bytes from N further on
    content_range: "."  that header, whatever the bytes
    corrupt: N          byte N of the blob is flipped;  extra: N  bytes more;  short: N  fewer
    chunked: true       no Content-Length
    gzip: true          the body gzip'd with Content-Encoding
"""
import argparse
import ctypes
import email.utils
import fcntl
import gzip
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

sys.dont_write_bytecode = True
from content import Content, make_image  # noqa: E402
from distribution import Distribution, Reply, Request, refuse  # noqa: E402
from settings import Settings  # noqa: E402
from tokens import Tokens  # noqa: E402
from waiting import Waiting  # noqa: E402

PIECE = 1 << 18
PR_SET_PDEATHSIG = 1
TCP_ESTABLISHED = 1  # tcpi_state


class Cut(Exception):
    """The connection is over; with_reset: abruptly."""

    def __init__(self, with_reset=False):
        super().__init__()
        self.with_reset = with_reset


class State:
    def __init__(self, args):
        self.settings = Settings()
        self.content = Content()
        self.tokens = Tokens(self.settings)
        self.distribution = Distribution(self.settings, self.content, self.tokens)
        self.waiting = Waiting()
        self.lock = threading.Lock()
        self.connections = 0
        self.log_file = open(args.log, "ab", buffering=0) if args.log else None
        self.headers_file = open(args.headers, "ab", buffering=0) if args.headers else None
        self.lines = []
        self.scheme = {}
        self.ports = {}

    def base(self, listener):
        host = self.settings["other_host"] if listener == "other" else "127.0.0.1"
        return "%s://%s:%d" % (self.scheme[listener], host, self.ports[listener])

    def connected(self):
        with self.lock:
            self.connections += 1
            return self.connections

    def log(self, request, status, sent, connection):
        kind = request.headers.get("authorization", "none").partition(" ")[0].lower()
        kind = kind if kind in ("none", "basic", "bearer") else "other"
        line = "%s %s %d %d %d %s %d %s" % (
            request.method, request.target, status, sent, len(request.body), kind, connection,
            request.listener,
        )  # fmt: skip
        seen = {"method": request.method, "target": request.target, "headers": request.headers}
        with self.lock:
            self.lines.append(line)
            if self.log_file:
                self.log_file.write(line.encode("latin-1", "replace") + b"\n")
            if self.headers_file:
                self.headers_file.write(json.dumps(seen).encode() + b"\n")

    def forget_log(self):
        with self.lock:
            self.lines = []
            if self.log_file:
                self.log_file.truncate(0)


def parse_range(text, size):
    """(first, one past the last); None: not satisfiable; False: not a range."""
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
    return (start, min(end, size)) if start < size and end > start else None


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
    rbufsize = 1 << 16
    disable_nagle_algorithm = True

    def handle(self):
        self.connection_number = self.server.state.connected()
        try:
            while self.one():
                pass
        except Cut as cut:
            if cut.with_reset:
                linger = struct.pack("ii", 1, 0)
                self.request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                # Whoever closes last sends the RST; the file object holds the socket too.
                self.rfile.close()
                self.request.close()
        except (ConnectionError, ssl.SSLError, TimeoutError):
            pass

    def finish(self):
        try:
            super().finish()
        except (OSError, ValueError):
            pass

    # ---- reading ----

    def read_head(self):
        """The request without its body; None when the connection ended."""
        line = self.rfile.readline(1 << 16)
        words = line.decode("latin-1").split()
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            if line.strip():  # a TLS greeting, for one: no client is to wait
                self.request.sendall(b"HTTP/1.1 400 X\r\nContent-Length: 0\r\n\r\n")
            return None
        headers = {}
        while True:
            line = self.rfile.readline(1 << 16).decode("latin-1").rstrip("\r\n")
            if not line:
                break
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        state = self.server.state
        request = Request(words[0], words[1], headers, self.server.name, state.base("registry"))
        request.other = state.base("other")
        return request

    def read_some(self, request, body, n):
        """Up to n bytes more; false when the client went away."""
        while n > 0:
            piece = self.rfile.read(min(n, PIECE))
            if not piece:
                request.is_whole = False
                return False
            body += piece
            n -= len(piece)
        return True

    def read_body(self, request, limit=None):
        """At most limit bytes of it."""
        headers = request.headers
        body = bytearray()
        request.body = body
        if headers.get("expect", "").lower() == "100-continue":
            self.request.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        if headers.get("transfer-encoding", "").lower() == "chunked":
            while limit is None or len(body) < limit:
                n = int(self.rfile.readline(1024).partition(b";")[0] or b"0", 16)
                if not self.read_some(request, body, n):
                    return
                self.rfile.readline(1024)
                if n == 0:
                    return
        elif "content-length" in headers:
            n = int(headers["content-length"])
            self.read_some(request, body, n if limit is None else min(n, limit))

    # ---- one request ----

    def one(self):
        request = self.read_head()
        if request is None:
            return False
        if self.server.name == "admin":
            self.read_body(request)
            self.send(request, self.server.state.admin.answer(request), {})
            return request.headers.get("connection", "").lower() != "close"
        with self.server.state.waiting.at_work(request.method + " " + request.target):
            return self.serve(request)

    def serve(self, request):
        state = self.server.state
        rule = state.settings.rule(request.method + " " + request.target)
        if "cut_request" in rule:
            self.cut_request(request, rule)
        is_early = "status" in rule and not rule.get("after")
        if is_early and request.headers.get("expect"):
            del request.headers["expect"]
            self.send(request, self.scripted(rule), {})
            return False
        if request.headers.get("expect") and request.path.startswith("/v2/"):
            refusal = state.distribution.early(request)
            if refusal:
                self.send(request, refusal, {})
                return False
        self.read_body(request)
        time.sleep(state.settings["delay"] + rule.get("delay", 0))
        if rule.get("hold"):
            state.waiting.hold(request.method + " " + request.target)
        if "gather" in rule:
            state.waiting.meet(("come", rule["match"]), rule["gather"])
        if rule.get("drop") or "raw" in rule:
            self.log(request, 0, len(rule.get("raw", "")))
            self.request.sendall(rule.get("raw", "").encode("latin-1"))
            raise Cut()
        if is_early or ("text" in rule and not rule.get("after")):
            reply = self.scripted(rule)
        else:
            reply = self.dispatch(request)
            if "gather" in rule:
                state.waiting.meet(("done", rule["match"]), rule["gather"])
            if rule.get("after"):
                reply = self.scripted(rule)
        self.adorn(reply, rule)
        self.send(request, reply, rule)
        return request.is_whole and request.headers.get("connection", "").lower() != "close"

    def cut_request(self, request, rule):
        self.read_body(request, rule["cut_request"])
        request.is_whole = False
        if rule.get("keep"):
            self.dispatch(request)
        self.log(request, 0, 0)
        raise Cut(True)

    def dispatch(self, request):
        state = self.server.state
        if request.path == "/token":
            header = request.headers.get("authorization", "")
            status, document = state.tokens.answer(
                request.method, request.query, header, bytes(request.body)
            )
            return Reply(status, [], json.dumps(document).encode(), "application/json")
        if request.path.startswith("/storage/"):
            return state.distribution.storage(request)
        return state.distribution.answer(request)

    def scripted(self, rule):
        status = rule.get("status", 200)
        if "text" in rule:
            return Reply(status, [], rule["text"].encode(), "text/plain")
        if status >= 400:
            return refuse(status, "TOOMANYREQUESTS" if status == 429 else "UNKNOWN", "as scripted")
        return Reply(status)

    def adorn(self, reply, rule):
        warning = self.server.state.settings["warning"]
        for text in [warning] if isinstance(warning, str) else warning or []:
            reply.headers.append(("Warning", '299 - "%s"' % text))
        after = rule.get("retry_after")
        if isinstance(after, str) and after.startswith("date+"):
            after = email.utils.formatdate(time.time() + float(after[5:]), usegmt=True)
        if after is not None:
            reply.headers.append(("Retry-After", str(after)))
        given = {k.lower(): (k, v) for k, v in rule.get("headers", {}).items()}
        reply.headers = [(k, v) for k, v in reply.headers if k.lower() not in given]
        reply.headers += [(k, v) for k, v in given.values() if v is not None]

    # ---- answering ----

    def log(self, request, status, sent):
        if self.server.name != "admin":
            self.server.state.log(request, status, sent, self.connection_number)

    def choose(self, request, reply, rule):
        """The blob's bytes to send, with the range's headers set."""
        data = reply.body
        if "corrupt" in rule and rule["corrupt"] < len(data):
            data = bytearray(data)
            data[rule["corrupt"]] ^= 0xFF
        if "short" in rule:
            data = data[: -rule["short"]]
        if "extra" in rule:
            data = bytes(data) + b"x" * rule["extra"]
        wanted = parse_range(request.headers.get("range"), len(data))
        if wanted is False or rule.get("no_range"):
            return memoryview(data)
        if wanted is None:
            reply.status = 416
            reply.headers.append(("Content-Range", "bytes */%d" % len(data)))
            return memoryview(b"")
        start, end = wanted
        start += rule.get("range_shift", 0)
        text = rule.get("content_range", "bytes %d-%d/%d" % (start, end - 1, len(data)))
        reply.status = 206
        reply.headers.append(("Content-Range", text))
        return memoryview(data)[start:end]

    def send(self, request, reply, rule):
        if reply.is_blob:
            body = self.choose(request, reply, rule)
        else:
            body = memoryview(reply.body)
        if rule.get("gzip"):
            body = memoryview(gzip.compress(body, 1, mtime=0))
            reply.headers.append(("Content-Encoding", "gzip"))
        is_bare = reply.status in (204, 304) or request.method == "HEAD"
        lines = ["HTTP/1.1 %d X" % reply.status, "Docker-Distribution-Api-Version: registry/2.0"]
        lines += ["%s: %s" % pair for pair in reply.headers]
        is_chunked = rule.get("chunked") and not is_bare
        if is_chunked:
            lines.append("Transfer-Encoding: chunked")
        elif reply.status not in (204, 304):
            lines.append("Content-Length: %d" % len(body))
        end = len(body)
        for name in ("cut", "close", "stall_after"):
            end = min(end, rule.get(name, end))
        self.log(request, reply.status, 0 if is_bare else end)
        self.request.sendall(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))
        if is_bare:
            return
        self.send_bytes(body[:end], is_chunked)
        if "stall_after" in rule:
            time.sleep(rule.get("stall", 3600))
        if "cut" in rule or "close" in rule:
            wait_until_arrived(self.request)
            raise Cut("cut" in rule)
        if is_chunked:
            self.request.sendall(b"0\r\n\r\n")

    def send_bytes(self, body, is_chunked):
        for i in range(0, len(body), PIECE):
            piece = body[i : i + PIECE]
            if is_chunked:
                piece = b"%x\r\n" % len(piece) + bytes(piece) + b"\r\n"
            self.request.sendall(piece)


class Admin:
    def __init__(self, state):
        self.state = state

    def answer(self, request):
        """Of the admin's listener."""
        _, _, rest = request.path.partition("/_")
        what, _, rest = rest.partition("/")
        try:
            found = getattr(self, request.method.lower() + "_" + what)(rest, request)
        except AttributeError as e:
            return Reply(404, [], ("%s\n" % e).encode())
        except (KeyError, ValueError, TypeError) as e:
            return Reply(400, [], ("%s: %s\n" % (type(e).__name__, e)).encode())
        if found is None:
            return Reply(404, [], b"no such thing\n")
        if not isinstance(found, (bytes, bytearray)):
            found = json.dumps(found, indent=1).encode() + b"\n"
        return Reply(200, [], found)

    def put_control(self, _, request):
        self.state.settings.change(json.loads(request.body), False)
        self.state.tokens.reset()
        self.state.waiting.release()
        return b""

    def post_control(self, _, request):
        self.state.settings.change(json.loads(request.body), True)
        self.state.waiting.release()
        return b""

    def get_waiting(self, _rest, _request):
        waiting = self.state.waiting
        with waiting.changed:
            return {"held": list(waiting.held), "busy": list(waiting.busy)}

    def delete_waiting(self, _rest, _request):
        self.state.waiting.release()
        return b""

    def get_control(self, _rest, _request):
        return self.state.settings.values

    def post_image(self, _, request):
        return make_image(self.state.content, json.loads(request.body))

    def put_manifest(self, rest, request):
        name, _, reference = rest.rpartition("/")
        media_type = request.headers.get("content-type", "")
        self.state.content.put_manifest(name, reference, media_type, request.body)
        return b""

    def get_manifest(self, rest, _):
        name, _, reference = rest.rpartition("/")
        repo = self.state.content.repository(name)
        return repo.manifests.get(repo.tags.get(reference, reference), (None, None))[1]

    def delete_manifest(self, rest, _):
        name, _, reference = rest.rpartition("/")
        repo = self.state.content.repository(name)
        where = repo.manifests if ":" in reference else repo.tags
        return b"" if where.pop(reference, None) else None

    def put_blob(self, rest, request):
        return self.state.content.put_blob(rest, request.body).encode() + b"\n"

    def get_blob(self, rest, _):
        name, _, digest = rest.rpartition("/")
        return self.state.content.blob(name, digest)

    def delete_blob(self, rest, _):
        name, _, digest = rest.rpartition("/")
        self.state.content.repository(name).blobs.discard(digest)
        return b""

    def get_content(self, _rest, _request):
        return self.state.content.summary()

    def delete_content(self, _rest, _request):
        self.state.content.reset()
        return b""

    def get_log(self, _rest, _request):
        with self.state.lock:
            return "".join(line + "\n" for line in self.state.lines).encode()

    def delete_log(self, _rest, _request):
        self.state.forget_log()
        return b""


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128
    tls = None

    def __init__(self, name, state):
        super().__init__(("127.0.0.1", 0), Handler)
        self.name = name
        self.state = state
        state.ports[name] = self.server_address[1]

    def get_request(self):
        connection, address = super().get_request()
        if self.tls:
            connection = self.tls.wrap_socket(
                connection, server_side=True, do_handshake_on_connect=False
            )
        return connection, address

    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], (OSError, Cut)):
            super().handle_error(request, client_address)


def make_tls(args):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(args.tls_cert, args.tls_key)
    if args.client_ca:
        context.load_verify_locations(args.client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def make_servers(args, state):
    servers = [Server(name, state) for name in ("registry", "other", "admin")]
    for server in servers:
        is_plain = server.name == "admin" or (server.name == "other" and args.other_plain)
        if args.tls_cert and not is_plain:
            server.tls = make_tls(args)
        state.scheme[server.name] = "https" if server.tls else "http"
    return servers


def main():
    parser = argparse.ArgumentParser(description="scripted OCI registry for tests")
    for name in ("port-file", "log", "headers", "tls-cert", "tls-key", "client-ca"):
        parser.add_argument("--" + name)
    parser.add_argument("--other-plain", action="store_true")
    parser.add_argument("--set", action="append", default=[], type=json.loads)
    parser.add_argument("--image", action="append", default=[], type=json.loads)
    args = parser.parse_args()

    # Both: the signal covers a parent that dies later, the check one that died already.
    parent = os.getppid()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit(0)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))

    state = State(args)
    state.admin = Admin(state)
    for document in args.set:
        state.settings.change(document, True)
    for spec in args.image:
        make_image(state.content, spec)
    servers = make_servers(args, state)
    line = "%d %d %d\n" % tuple(state.ports[s.name] for s in servers)
    if args.port_file:
        with open(args.port_file + ".tmp", "w", encoding="ascii") as f:
            f.write(line)
        os.rename(args.port_file + ".tmp", args.port_file)
    sys.stdout.write(line)
    sys.stdout.flush()
    for server in servers[1:]:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    servers[0].serve_forever(poll_interval=0.5)


if __name__ == "__main__":
    main()
