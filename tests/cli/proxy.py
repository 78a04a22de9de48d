#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A tiny HTTP proxy for tests: proxy.py PORT_FILE LOG [USER:PASS]

Forwards plain-HTTP requests (absolute URLs), one a connection, and writes the request line and
the names of the headers that it was sent as one line of LOG. With USER:PASS it answers 407 to
whoever does not know them.
"""
import base64
import os
import socket
import socketserver
import sys
import urllib.parse


class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        line = self.rfile.readline().decode("latin-1")
        if not line.strip():
            return
        method, target, _ = line.split()
        headers = []
        while (header := self.rfile.readline().decode("latin-1").rstrip("\r\n")):
            headers.append(header)
        with open(sys.argv[2], "a", encoding="utf-8") as log:
            names = " ".join(h.partition(":")[0].lower() for h in headers)
            log.write("%s %s %s\n" % (method, target, names))
        if len(sys.argv) > 3:
            want = "Basic " + base64.b64encode(sys.argv[3].encode()).decode()
            if not any(h.lower() == "proxy-authorization: " + want.lower() for h in headers):
                self.wfile.write(b"HTTP/1.1 407 no\r\nProxy-Authenticate: Basic realm=x\r\n"
                                 b"Content-Length: 0\r\nConnection: close\r\n\r\n")
                return
        url = urllib.parse.urlsplit(target)
        path = url.path + ("?" + url.query if url.query else "")
        kept = [h for h in headers if not h.lower().startswith(("proxy-", "connection:"))]
        with socket.create_connection((url.hostname, url.port or 80)) as server:
            server.sendall("\r\n".join(["%s %s HTTP/1.1" % (method, path), *kept,
                                        "Connection: close", "", ""]).encode("latin-1"))
            while piece := server.recv(65536):
                self.wfile.write(piece)


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True


with Server(("127.0.0.1", 0), Handler) as proxy:
    with open(sys.argv[1] + ".tmp", "w", encoding="ascii") as out:
        out.write("%d\n" % proxy.server_address[1])
    os.rename(sys.argv[1] + ".tmp", sys.argv[1])
    proxy.serve_forever()
