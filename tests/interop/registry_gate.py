# SPDX-License-Identifier: Apache-2.0
"""A proxy before a real registry, in which requests wait for the test or for each other: what is to
happen at a certain moment must not depend on how fast anybody is."""
import http.client
import http.server
import re
import threading

import interop

# Of a connection, not of the next one.
HOP = ("connection", "keep-alive", "transfer-encoding", "content-length")
PIECE = 1 << 16


class Gate:
    """url() and host are as a registry's, requests end up there.

    limit: so many bytes of an answer's body pass; the rest when open() was called.
    """

    def __init__(self, registry):
        self.registry = registry
        self.limit = None
        self.opened = threading.Event()
        self.order = threading.Lock()
        self.pattern, self.left, self.barrier = None, 0, None
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args):
                pass

            def pass_on(self):
                outer.pass_on(self)
            do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = pass_on

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request, client_address):
                pass  # a client that was killed

        self.server = Server(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def url(self, name, reference="latest"):
        return self.registry.url(name, reference).replace(self.registry.host, self.host, 1)

    def hold(self, limit):
        self.opened.clear()
        self.limit = limit

    def open(self):
        self.limit = None
        self.opened.set()

    def gather(self, pattern, n):
        """The next n requests like "METHOD TARGET" wait until all n have come, are done one after
        the other, and answered after the last."""
        self.pattern, self.left = re.compile(pattern), n
        self.barrier = threading.Barrier(n)

    def close(self):
        self.open()
        self.server.shutdown()
        self.server.server_close()

    # ---- in the server's threads ----

    def is_gathered(self, text):
        with self.order:
            if not self.left or not self.pattern.search(text):
                return False
            self.left -= 1
            return True

    def pass_on(self, handler):
        body = handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        if handler.headers.get("Transfer-Encoding"):
            handler.close_connection = True
            handler.send_error(411)
            return
        gathered = self.is_gathered(f"{handler.command} {handler.path}")
        if gathered:
            self.barrier.wait(interop.PATIENCE)
        connection = http.client.HTTPConnection(self.registry.host, timeout=interop.PATIENCE)
        try:
            # A registry that reads a tag while it writes it finds nothing: one after the other.
            with self.order:
                connection.putrequest(handler.command, handler.path, skip_host=True,
                                      skip_accept_encoding=True)
                for name, value in handler.headers.items():
                    if name.lower() not in HOP and name.lower() != "expect":
                        connection.putheader(name, value)
                if handler.command not in ("GET", "HEAD"):
                    connection.putheader("Content-Length", str(len(body)))
                connection.endheaders(body)
                answer = connection.getresponse()
                data = b"" if "/blobs/" in handler.path else answer.read()
            if gathered:
                self.barrier.wait(interop.PATIENCE)
            self.answer(handler, answer, data)
        finally:
            connection.close()

    def answer(self, handler, answer, data):
        handler.send_response_only(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in HOP:
                handler.send_header(name, value)
        handler.send_header("Content-Length", answer.getheader("Content-Length", str(len(data))))
        handler.end_headers()
        sent = 0
        while data or (data := answer.read(PIECE)):
            if self.limit is not None and sent + len(data) > self.limit:
                handler.wfile.flush()
                self.opened.wait(interop.PATIENCE)
            handler.wfile.write(data)
            sent += len(data)
            data = b""
