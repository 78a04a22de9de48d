# SPDX-License-Identifier: Apache-2.0
"""Real registries for the tests beside this file: Debian's docker-registry (2.8), distribution (3)
and olareg, each over a directory, on a port of loopback that it chose itself, with TLS, passwords or
tokens.

$LARDER_PEERS (see peers.sh) is looked in before PATH.
"""
import atexit
import base64
import hashlib
import http.client
import http.server
import json
import os
import re
import shutil
import ssl
import subprocess
import sys
import threading
import time
import urllib.parse

_PEERS = os.environ.get("LARDER_PEERS", "")  # before interop takes it away

import interop
from interop import run, wait_for

KINDS = ("docker-registry", "distribution", "olareg")
PROGRAMS = {"docker-registry": "docker-registry", "distribution": "distribution",
            "olareg": "olareg"}

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"

# Who may log in. bcrypt of these passwords, of the lowest cost: it is asked for on each request.
USER, PASSWORD = "larder", "open sesame"
READER, READER_PASSWORD = "reader", "only look"
HTPASSWD = """\
larder:$2y$04$XFccE2AY3j9W4U6VW0/UGuyDhzA0GsRuTDPqkyYNDJZgo55BWvE8i
reader:$2y$04$Qj7YFvUekxcGQ1Xq0D5rPeJ/l.qRNKEBdZoVblGh30bdPRI8WhCHi
"""


# What the user of this machine has configured is none of the tests' business.
for _name in ("REGISTRY_AUTH_FILE", "DOCKER_CONFIG", "CONTAINERS_REGISTRIES_CONF",
              "http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
    os.environ.pop(_name, None)
os.environ["XDG_RUNTIME_DIR"] = os.path.join(interop.work, "run")
os.environ["XDG_CONFIG_HOME"] = os.path.join(interop.work, ".config")
os.environ["OTEL_TRACES_EXPORTER"] = "none"  # distribution 3 looks for a collector else
os.mkdir(os.environ["XDG_RUNTIME_DIR"], 0o700)


def peer(name):
    """Path of a program, or None."""
    return shutil.which(name, path=os.pathsep.join([_PEERS, os.environ["PATH"]]))


def kinds():
    return [kind for kind in KINDS if peer(PROGRAMS[kind])]


ESTABLISHED, SYN_RECV, CLOSE_WAIT, LISTEN = "01", "03", "08", "0A"  # of /proc/net/tcp


def tcp_sockets():
    """[(local port, state, inode)] of this machine."""
    found = []
    for name in ("tcp", "tcp6"):
        try:
            with open(f"/proc/net/{name}", encoding="ascii") as f:
                lines = [line.split() for line in f][1:]
        except FileNotFoundError:
            continue
        found += [(int(line[1].rsplit(":", 1)[1], 16), line[3], int(line[9])) for line in lines]
    return found


def sockets_of(pid):
    """Inodes of the sockets that a process has; none of one that ended."""
    found = set()
    try:
        fds = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return found
    for fd in fds:
        try:
            target = os.readlink(f"/proc/{pid}/fd/{fd}")
        except OSError:
            continue
        if target.startswith("socket:["):
            found.add(int(target[8:-1]))
    return found


def digest_of(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


# ---- certificates ----

class Authority:
    """A private certificate authority. Its certificate: .path, and alone in .directory (ca.crt)."""

    def __init__(self, name="authority"):
        self.base = os.path.join(interop.work, name)
        self.directory = os.path.join(self.base, "certs.d")
        os.makedirs(self.directory)
        self.key = os.path.join(self.base, "ca.key")
        self.path = os.path.join(self.directory, "ca.crt")
        run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
            "-nodes", "-subj", "/CN=Tests", "-days", "2", "-keyout", self.key, "-out", self.path,
            "-addext", "keyUsage=critical,keyCertSign")
        with open(os.path.join(self.base, "ca.conf"), "w", encoding="ascii") as f:
            f.write(f"[ca]\ndefault_ca=d\n[d]\nnew_certs_dir={self.base}\ndatabase={self.base}/index\n"
                    f"serial={self.base}/serial\ndefault_md=sha256\npolicy=p\ncopy_extensions=copy\n"
                    "unique_subject=no\n[p]\ncommonName=supplied\n")
        for name_, text in (("index", ""), ("serial", "1000\n")):
            with open(os.path.join(self.base, name_), "w", encoding="ascii") as f:
                f.write(text)

    def issue(self, name, subject, *dates):
        """(certificate, key) for a subjectAltName; dates: -startdate and -enddate of openssl ca."""
        base = os.path.join(self.base, name)
        run("openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-subj", f"/CN={name}", "-addext", f"subjectAltName={subject}", "-keyout",
            base + ".key", "-out", base + ".csr")
        run("openssl", "ca", "-batch", "-notext", "-config", os.path.join(self.base, "ca.conf"),
            "-cert", self.path, "-keyfile", self.key, "-in", base + ".csr", "-out", base + ".cert",
            *(dates or ("-days", "1")))
        return base + ".cert", base + ".key"

    def good(self):
        return self.issue("good", "IP:127.0.0.1,DNS:localhost")

    def wrong_host(self):
        return self.issue("wrong", "DNS:registry.example.org")

    def expired(self):
        return self.issue("expired", "IP:127.0.0.1", "-startdate", "20200101000000Z", "-enddate",
                          "20200102000000Z")


# ---- tokens ----

def _url64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class TokenServer:
    """Signs JWTs as the registry's auth "token" wants them; log: (method, user, scopes, granted).

    larder may do everything, reader may pull, anybody may pull from public/.
    """

    number = 0

    def __init__(self, lifetime_s=3600):
        TokenServer.number += 1
        self.lifetime_s = lifetime_s
        self.log = []
        base = os.path.join(interop.work, f"tokens{TokenServer.number}")
        os.mkdir(base)
        self.key, self.certificate = base + "/key", base + "/certificate"
        run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=tokens",
            "-days", "2", "-keyout", self.key, "-out", self.certificate)
        der = ssl.PEM_cert_to_DER_cert(open(self.certificate, encoding="ascii").read())
        self.header = {"typ": "JWT", "alg": "RS256", "x5c": [base64.b64encode(der).decode()]}
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args):
                pass

            def do_GET(self):
                query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
                user = None
                header = self.headers.get("Authorization", "")
                if header.startswith("Basic "):
                    user, _, password = base64.b64decode(header[6:]).decode().partition(":")
                    if not outer.knows(user, password):
                        return self.answer(401, {"errors": [{"code": "UNAUTHORIZED"}]})
                return self.answer(200, outer.grant("GET", user, query))

            def do_POST(self):
                form = urllib.parse.parse_qs(
                    self.rfile.read(int(self.headers["Content-Length"])).decode())
                user = None
                if form.get("grant_type") == ["refresh_token"]:
                    if form.get("refresh_token") != ["identity of " + USER]:
                        return self.answer(401, {"errors": [{"code": "UNAUTHORIZED"}]})
                    user = USER
                elif form.get("grant_type") == ["password"]:
                    user = form["username"][0]
                    if not outer.knows(user, form["password"][0]):
                        return self.answer(401, {"errors": [{"code": "UNAUTHORIZED"}]})
                return self.answer(200, outer.grant("POST", user, form))

            def answer(self, status, document):
                data = json.dumps(document).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/token"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @staticmethod
    def knows(user, password):
        return (user, password) in ((USER, PASSWORD), (READER, READER_PASSWORD))

    @staticmethod
    def may(user, name, action):
        return user == USER or action == "pull" and (user == READER or name.startswith("public/"))

    def grant(self, method, user, query):
        scopes = [s for text in query.get("scope", []) for s in text.split()]
        access = []
        for scope in scopes:
            kind, name, actions = scope.split(":", 1)[0], *scope.split(":", 1)[1].rsplit(":", 1)
            granted = [a for a in actions.split(",") if self.may(user, name, a)]
            if granted:
                access.append({"type": kind, "name": name, "actions": granted})
        self.log.append((method, user, scopes, access))
        now = int(time.time())
        claims = {"iss": "tests", "sub": user or "", "aud": query["service"][0], "iat": now,
                  "nbf": now - 10, "exp": now + self.lifetime_s, "jti": str(len(self.log)),
                  "access": access}
        text = ".".join(_url64(json.dumps(part).encode()) for part in (self.header, claims))
        signature = subprocess.run(["openssl", "dgst", "-sha256", "-sign", self.key],
                                   input=text.encode(), capture_output=True, check=True).stdout
        token = text + "." + _url64(signature)
        return {"token": token, "access_token": token, "expires_in": self.lifetime_s}


# ---- registries ----

class Registry:
    """One registry, up when made.

    tls: (certificate, key); client_ca: who may knock at all; auth: "basic" or a TokenServer.
    """

    number = 0

    def __init__(self, kind, tls=None, client_ca=None, auth=None, delete=True):
        Registry.number += 1
        self.kind, self.tls, self.auth, self.delete = kind, tls, auth, delete
        self.client_ca = client_ca
        self.base = os.path.join(interop.work, f"registry{Registry.number}")
        self.storage = os.path.join(self.base, "storage")
        os.makedirs(self.storage)
        self.log = os.path.join(self.base, "log")
        self.seen = 0
        self.process = None
        self.port = None
        self.idle = set()
        atexit.register(self.stop)
        self.start()

    def start(self):
        program = peer(PROGRAMS[self.kind])
        if self.kind == "olareg":
            argv = [program, "serve", "--addr", "127.0.0.1", "--port", "0", "--dir",
                    self.storage, "-v", "trace"]
            argv += ["--api-delete", "--api-blob-delete"] if self.delete else []
            argv += ["--tls-cert", self.tls[0], "--tls-key", self.tls[1]] if self.tls else []
        else:
            config = os.path.join(self.base, "config.json")  # JSON is YAML
            with open(config, "w", encoding="ascii") as f:
                json.dump(self.config(), f)
            argv = [program, "serve", config]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            wait_for(self.kind, self.listens, self.process)
        except AssertionError as problem:
            with open(self.log, encoding="utf-8", errors="replace") as log:
                raise AssertionError(f"{problem}\n{log.read()[-2000:]}") from None
        self.host = f"127.0.0.1:{self.port}"
        self.idle = sockets_of(self.process.pid)
        self.mark()

    def config(self):
        config = {"version": 0.1, "log": {"level": "error"},
                  "storage": {"filesystem": {"rootdirectory": self.storage},
                              "delete": {"enabled": self.delete},
                              "maintenance": {"uploadpurging": {"enabled": False}}},
                  "http": {"addr": "127.0.0.1:0"}}
        if self.tls:
            config["http"]["tls"] = {"certificate": self.tls[0], "key": self.tls[1]}
            if self.client_ca:
                config["http"]["tls"]["clientcas"] = [self.client_ca]
        if self.auth == "basic":
            path = os.path.join(self.base, "htpasswd")
            with open(path, "w", encoding="ascii") as f:
                f.write(HTPASSWD)
            config["auth"] = {"htpasswd": {"realm": "tests", "path": path}}
        elif self.auth:
            config["auth"] = {"token": {"realm": self.auth.url, "service": "registry",
                                        "issuer": "tests", "rootcertbundle": self.auth.certificate}}
        return config

    def listens(self):
        """It chose its port itself, so nobody else can have taken it."""
        mine = sockets_of(self.process.pid)
        ports = [port for port, state, inode in tcp_sockets() if state == LISTEN and inode in mine]
        self.port = ports[0] if ports else None
        return bool(ports)

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    # ---- what it was asked ----

    def is_at_rest(self):
        """No client is left whose connection it would not have closed."""
        return not sockets_of(self.process.pid) - self.idle and not any(
            port == self.port and state in (ESTABLISHED, SYN_RECV, CLOSE_WAIT)
            for port, state, _ in tcp_sockets())

    def settle(self):
        """Clients that ended, or were killed, may have requests at work still. It closes their
        connections when it is through with them, and wrote its lines about them."""
        wait_for(f"{self.kind} to be through with all requests", self.is_at_rest, self.process)

    def mark(self):
        """requests() counts from here."""
        self.settle()
        self.seen = os.path.getsize(self.log)

    def requests(self):
        """[(method, target, status)] since mark(), tokens not among them."""
        self.settle()
        with open(self.log, "rb") as log:
            log.seek(self.seen)
            text = log.read().decode(errors="replace")
        found = re.findall(r'"([A-Z]+) (/v2/\S*) HTTP/[0-9.]+" (\d+)', text) or \
            re.findall(r"msg=ServeHTTP .*?method=([A-Z]+) url=\"?(/v2/\S*?)\"? status=(\d+)", text)
        return [(method, target, int(status)) for method, target, status in found]

    def count(self, method, pattern=""):
        return sum(1 for m, t, _ in self.requests() if m == method and re.search(pattern, t))

    # ---- its files ----

    def blob_file(self, name, digest):
        hex_ = digest.removeprefix("sha256:")
        if self.kind == "olareg":
            return os.path.join(self.storage, name, "blobs/sha256", hex_)
        return os.path.join(self.storage, "docker/registry/v2/blobs/sha256", hex_[:2], hex_, "data")

    def is_empty(self):
        """No manifest and no blob of any repository."""
        return not any(names for top, _, names in os.walk(self.storage) if "blobs" in top)

    # ---- asked by us ----

    def ask(self, method, path, body=None, **headers):
        """(status, headers, body) of a request without credentials."""
        if self.tls:
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            connection = http.client.HTTPSConnection(self.host, timeout=60, context=context)
        else:
            connection = http.client.HTTPConnection(self.host, timeout=60)
        connection.request(method, path, body, {k.replace("_", "-"): v for k, v in headers.items()})
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        return answer.status, answer.headers, data

    def manifest(self, name, reference, missing_ok=False):
        """The document's bytes, or None."""
        status, _, data = self.ask("GET", f"/v2/{name}/manifests/{reference}", Accept=", ".join(
            [OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_LIST]))
        if status == 404 and missing_ok:
            return None
        assert status == 200, f"{name}:{reference}: {status} {data!r}"
        return data

    def digest(self, name, reference):
        data = self.manifest(name, reference, missing_ok=True)
        return data and digest_of(data)

    def url(self, name, reference="latest"):
        separator = "@" if ":" in reference else ":"
        return f"docker://{self.host}/{name}{separator}{reference}"


if not peer("openssl"):
    print("1..0 # SKIP no openssl here")
    sys.exit(0)
