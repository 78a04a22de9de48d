#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Registries, layouts, archives, builds, credentials and configuration by somebody who means us
harm. Each attack is a command of the real program, which ends soon with one of the exit statuses
that fit, in little memory, prints no control byte, and leaves nothing outside of its own places."""

import gzip
import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import threading
import time

import faultlib
from faultlib import LARDER, Scratch, Tap, Wrong
from publish_faults import (BUILD, KEY, Registry, compact, image, make_build, sha256,
                            write_archive)
from registry_jobs import INDEX, MANIFEST, TYPES, digest_of, put_blob, put_manifest

# Who is led on without an end would be for longer; who takes its time is no fault of ours.
HOSTILE_SECONDS = 120
MEMORY_MIB = 96  # of which the largest manifest, read, is most
ESCAPE = "\x1b[31mred\x1b[0m\x07\x9b"
FAILED = (1, 2, 3, 5, 6, 8)
CONTROL = re.compile(rb"[\x00-\x08\x0b-\x1f\x7f]|\xc2[\x80-\x9f]")
# A child of vfork counts what its parent once had as its own.
subprocess._USE_VFORK = False
FACTOR = 8 if faultlib.is_sanitized() else 1


def attack(box, *argv, statuses=FAILED, seconds=HOSTILE_SECONDS, says=None, stdin=None, env=None):
    """Runs larder; returns the result."""
    begin = time.monotonic()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = subprocess.Popen(
            [LARDER, *argv], stdin=stdin or subprocess.DEVNULL, stdout=out, stderr=err, cwd=box.path,
            env={**box.env, "LARDER_NET_RETRIES": "0", "LARDER_NET_CONNECT_TIMEOUT": "2s",
                 **(env or {})})
        timer = threading.Timer(seconds * FACTOR, process.kill)
        timer.start()
        _, status, usage = os.wait4(process.pid, 0)
        timer.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        seen, said = (file.seek(0) or file.read() for file in (out, err))
    result = faultlib.Result(argv, process.returncode, seen[:100000].decode(errors="replace"),
                             said[:100000].decode(errors="replace"))
    if time.monotonic() - begin > seconds * FACTOR:
        raise Wrong(f"hangs: {result}")
    if result.status not in statuses:
        raise Wrong(f"expected {statuses}: {result}")
    # (What this process itself has at the time counts as the child's.)
    if usage.ru_maxrss > MEMORY_MIB * 1024 and FACTOR == 1:
        raise Wrong(f"{usage.ru_maxrss >> 10} MiB of memory: {result}")
    if CONTROL.search(said) or ("--raw" not in argv and CONTROL.search(seen)):
        raise Wrong(f"control bytes are shown: {said[:300]!r} {seen[:300]!r}")
    if says and not re.search(says, result.err):
        raise Wrong(f"does not say {says!r}: {result}")
    if result.status != 0 and not result.err.strip():
        raise Wrong(f"fails without a word: {result}")
    return result


def put_raw(registry, repo, tag, body, kind=MANIFEST):
    registry.put(f"/_manifest/{repo}/{tag}", body, kind)


def where(registry, repo, tag="1"):
    return f"docker://{registry.host}/{repo}:{tag}"


def check_outside(box):
    """Nothing but what belongs there."""
    if os.path.lexists(os.path.join(box.path, "x")) or \
            os.path.lexists(os.path.join(box.path, "..", "x")):
        raise Wrong("something was written outside")


# ---- manifests ----------------------------------------------------------------------------------


def descriptor(digest="sha256:" + "0" * 64, size=2, kind=TYPES + "layer.v1.tar+gzip", **more):
    return {"mediaType": kind, "digest": digest, "size": size, **more}


BAD_DIGESTS = ["sha256:../../../../x", "sha256:" + "A" * 64, "sha256:" + "0" * 63,
               "sha256:" + "0" * 62 + "/x", "../x:" + "0" * 64, "sha256:" + "0" * 63 + "\u0000",
               "", "sha256", "sha256:" + "0" * 64 + "\n", 7, None, ["sha256:" + "0" * 64]]


def bad_digests(box, registry):
    config = put_blob(registry, "bad", b"{}", TYPES + "config.v1+json")
    for number, digest in enumerate(BAD_DIGESTS):
        for what in ({"mediaType": MANIFEST, "config": config, "layers": [descriptor(digest)]},
                     {"mediaType": MANIFEST, "config": descriptor(digest), "layers": []},
                     {"mediaType": INDEX, "manifests": [descriptor(digest, kind=MANIFEST)]}):
            put_raw(registry, "bad", "1", compact({"schemaVersion": 2, **what}), what["mediaType"])
            for target in (f"oci:out{number}:1", "store:x", f"oci-archive:out{number}.tar:1"):
                attack(box, "copy", where(registry, "bad"), target)
                check_outside(box)
            attack(box, "inspect", where(registry, "bad"), statuses=(0, *FAILED))
    box.check_blobs()
    return f"{len(BAD_DIGESTS)} digests"


def sizes(box, registry):
    config = put_blob(registry, "size", b"{}", TYPES + "config.v1+json")
    layer = put_blob(registry, "size", b"layer", TYPES + "layer.v1.tar")
    for size in (-1, 1 << 63, (1 << 63) - 1, 1 << 64, 1e30, 1.5, "5", None, True, 4, 6, 1 << 40):
        put_raw(registry, "size", "1", compact(
            {"schemaVersion": 2, "mediaType": MANIFEST, "config": config,
             "layers": [{**layer, "size": size}]}))
        for target in ("oci:out:1", "store:x", "oci-archive:out.tar:1"):
            attack(box, "copy", where(registry, "size"), target)
        put_manifest(registry, "size", "disk", [{**layer, "mediaType": "a/b", "size": size}])
        attack(box, "image", "get", f"oras://{registry.host}/size:disk")
    box.check_blobs()
    if os.path.exists(os.path.join(box.path, "out.tar")):
        raise Wrong("an archive was made")


def documents(box, registry):
    digest = '"sha256:' + "0" * 64 + '"'
    one = '{"mediaType":"a/b","digest":%s,"size":2}' % digest
    for text in ("", "[]", "7", "{", "null", "\ufeff{}", '{"schemaVersion":2}', "[" * 100000,
                 '{"a":' * 100000, '{"schemaVersion":1,"fsLayers":[]}',
                 '{"schemaVersion":2,"config":%s,"config":%s,"layers":[]}' % (one, one),
                 '{"schemaVersion":2,"config":%s,"layers":{}}' % one,
                 '{"schemaVersion":2,"config":%s,"layers":[[]]}' % one,
                 '{"schemaVersion":2,"manifests":[%s],"layers":[%s],"config":%s}' % (one, one, one),
                 '{"schemaVersion":2,"manifests":"x"}'):
        for kind in (MANIFEST, INDEX):
            put_raw(registry, "doc", "1", text.encode(), kind)
            attack(box, "copy", where(registry, "doc"), "oci:out:1", statuses=(0, *FAILED))
            attack(box, "image", "get", f"oras://{registry.host}/doc:1")
    put_raw(registry, "doc", "1", b'{"schemaVersion":2,"annotations":{"a":"\xff\xfe"},"config":' +
            one.encode() + b',"layers":[]}')
    attack(box, "copy", where(registry, "doc"), "oci:out:1")


def huge(box, registry):
    """Manifests of a million layers; of as many as fit."""
    config = put_blob(registry, "huge", b"{}", TYPES + "config.v1+json")
    blob = put_blob(registry, "huge", b"layer", "a/b")
    layer = compact({key: blob[key] for key in ("mediaType", "digest", "size")})
    for count, statuses in ((60000, (0,)), (70000, FAILED), (1000000, FAILED)):
        body = b'{"schemaVersion":2,"config":%s,"layers":[%s]}' % (
            compact(config), b",".join([layer] * count))
        put_raw(registry, "huge", "1", body)
        del body
        attack(box, "copy", where(registry, "huge"), f"oci:out{count}:1", statuses=statuses)
    # Members that differ.
    members = b",".join(b'{"digest":"sha256:%064d","size":7,"mediaType":"%s"}' % (
        i, MANIFEST.encode()) for i in range(40000))
    put_raw(registry, "huge", "2", b'{"schemaVersion":2,"manifests":[%s]}' % members, INDEX)
    attack(box, "copy", where(registry, "huge", "2"), "oci:outx:1")


def deep(box, registry):
    """Indexes in indexes; each twenty times a level, which would be 20^n for who counts paths."""
    def chain(levels, width):
        body, kind = compact({"schemaVersion": 2, "mediaType": MANIFEST, "config": put_blob(
            registry, "deep", b"{}", TYPES + "config.v1+json"), "layers": []}), MANIFEST
        for _ in range(levels):
            put_raw(registry, "deep", digest_of(body), body, kind)
            body, kind = compact({"schemaVersion": 2, "mediaType": INDEX, "manifests": [
                descriptor(digest_of(body), len(body), kind)] * width}), INDEX
        put_raw(registry, "deep", "1", body, kind)
    chain(30, 1)
    for target in ("oci:out:1", "store:deep", where(registry, "deep-to")):
        attack(box, "copy", where(registry, "deep"), target)
    chain(5, 20)
    for number, target in enumerate(("oci:wide:1", "store:wide", "oci-archive:wide.tar:1")):
        attack(box, "copy", where(registry, "deep"), target, statuses=(0,))
    attack(box, "inspect", where(registry, "deep"), statuses=(0, *FAILED))
    attack(box, "diff", where(registry, "deep"), "oci:wide:1", statuses=(0, *FAILED))
    attack(box, "gc", statuses=(0,))
    attack(box, "fsck", statuses=(0,))


# ---- what is shown ------------------------------------------------------------------------------


def escapes(box, registry):
    """Terminal sequences in everything that a registry says."""
    config = put_blob(registry, "esc", compact(
        {"architecture": ESCAPE, "os": ESCAPE, "config": {"Labels": {ESCAPE: ESCAPE},
                                                         "Env": [ESCAPE]}}),
        TYPES + "config.v1+json")
    layer = put_blob(registry, "esc", b"layer", TYPES + "layer.v1.tar", ESCAPE)
    put_raw(registry, "esc", "1", compact(
        {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer],
         "artifactType": ESCAPE, "annotations": {ESCAPE: ESCAPE}}))
    put_raw(registry, "esc", "2", compact(
        {"schemaVersion": 2, "mediaType": INDEX, "manifests": [
            descriptor(kind=ESCAPE, platform={"os": ESCAPE, "architecture": ESCAPE})]}), INDEX)
    good = (0, *FAILED)
    for options in ((), ("--json",)):
        for tag in "12":
            attack(box, *options, "inspect", where(registry, "esc", tag), statuses=good)
            attack(box, *options, "inspect", "--config", where(registry, "esc", tag),
                   statuses=good)
            attack(box, *options, "copy", where(registry, "esc", tag), "oci:esc:1", statuses=good)
            attack(box, *options, "copy", "--platform", "linux/none", where(registry, "esc", tag),
                   "oci:esc:2")
            attack(box, *options, "image", "get", f"oras://{registry.host}/esc:{tag}")
        attack(box, *options, "diff", where(registry, "esc"), where(registry, "esc", "2"),
               statuses=good)
    errors = compact({"errors": [{"code": ESCAPE, "message": ESCAPE, "detail": ESCAPE}]}).decode()
    for status in (400, 401, 403, 404, 429, 500):
        rule = {"match": ".", "status": status, "text": errors, "headers": {
            "WWW-Authenticate": f'Bearer realm="http://{ESCAPE}/t",service="{ESCAPE}"',
            "Warning": f'299 - "{ESCAPE}"', "Content-Type": f"application/json; {ESCAPE}",
            "Location": f"http://{ESCAPE}/", "Docker-Content-Digest": ESCAPE}}
        registry.admin("PUT", "/_control", compact({"rules": [rule]}))
        for argv in (["inspect", where(registry, "esc")], ["list-tags", where(registry, "esc")[:-2]],
                     ["copy", where(registry, "esc"), "oci:o:1"],
                     ["copy", "oci:esc:1", where(registry, "esc", "3")],
                     ["delete", where(registry, "esc")],
                     ["image", "get", f"oras://{registry.host}/esc:1"]):
            attack(box, *argv)
            attack(box, "--json", *argv)
    for name in ("Docker-Content-Digest", "Content-Type", "Warning", "Content-Length", "Link",
                 "Location"):
        registry.admin("PUT", "/_control", compact(
            {"rules": [{"match": "/v2/", "status": 200, "headers": {name: ESCAPE}}]}))
        attack(box, "inspect", where(registry, "esc"), statuses=good)
        attack(box, "list-tags", where(registry, "esc")[:-2], statuses=good)
    registry.admin("PUT", "/_control", b"{}")


TAGS = ["../../../x", "a\nb", "a\r\nX: y", ESCAPE, "", "a b", "\ud800", "x" * 5000, "-rf", 7, None]


def tag_lists(box, registry):
    for tags in (TAGS, *[[tag] for tag in TAGS], {}, "x", 7, [[]]):
        registry.admin("PUT", "/_control", compact({"rules": [
            {"match": "tags/list", "status": 200, "headers": {"Content-Type": "application/json"},
             "text": json.dumps({"name": "../../x", "tags": tags})}]}))
        result = attack(box, "list-tags", f"docker://{registry.host}/t", statuses=(0, *FAILED))
        if result.status == 0 and "\nX: y" in result.out:
            raise Wrong(f"a line that is none: {result}")
        result = attack(box, "--json", "list-tags", f"docker://{registry.host}/t",
                        statuses=(0, *FAILED))
        if result.status == 0:
            json.loads(result.out)
    # Pages without an end.
    registry.admin("PUT", "/_control", compact({"rules": [
        {"match": "tags/list", "status": 200, "text": '{"tags":["a"]}',
         "headers": {"Content-Type": "application/json",
                     "Link": '</v2/t/tags/list?last=a>; rel="next"'}}]}))
    attack(box, "list-tags", f"docker://{registry.host}/t", statuses=(0, *FAILED))
    registry.admin("PUT", "/_control", b"{}")


# ---- requests -----------------------------------------------------------------------------------


def redirects(box, registry):
    registry.admin("POST", "/_image", compact({"repo": "r", "tag": "1"}))
    for location in ("{}", "/v2/r/blobs/again", "http://127.0.0.1:1/x", "file:///etc/passwd",
                     "ftp://127.0.0.1/x", "gopher://127.0.0.1/", "//[", "http://", "x" * 70000,
                     "http://user:pw@127.0.0.1:1/"):
        for match in ("GET /v2/r/blobs", "GET /v2/r/manifests", "(PUT|POST)"):
            registry.admin("PUT", "/_control", compact({"rules": [
                {"match": match, "status": 307, "headers": {"Location": location}}]}))
            statuses = (0, *FAILED) if match == "(PUT|POST)" else FAILED
            attack(box, "copy", where(registry, "r"), f"oci:red{hash(location)}{hash(match)}:1",
                   statuses=statuses)
            if match == "(PUT|POST)":
                attack(box, "copy", where(registry, "r"), where(registry, "r-to"))
    registry.admin("PUT", "/_control", b"{}")


def tokens(box, registry):
    registry.admin("POST", "/_image", compact({"repo": "tok", "tag": "1"}))
    headers = {"Content-Type": "application/json"}
    for token in ("a\r\nX-Evil: 1", "a\nX-Evil: 1", "a\0b", ESCAPE, "", "x" * 200000, 7, None, {}):
        for text in (json.dumps({"token": token}), json.dumps({"access_token": token})):
            registry.admin("PUT", "/_control", compact({"auth": "bearer", "rules": [
                {"match": "/token", "status": 200, "text": text, "headers": headers}]}))
            attack(box, "inspect", where(registry, "tok"))
    with open(registry.seen, encoding="utf-8", errors="replace") as file:
        if "x-evil" in file.read().lower():
            raise Wrong("a header was smuggled in")
    for text in ("", "[]", "[" * 100000, '{"token":"a","token":"b"}', '{"token":"a","expires_in":1e99}',
                 '{"token":"a","expires_in":-5,"issued_at":"x"}', "x" * 3000000):
        registry.admin("PUT", "/_control", compact({"auth": "bearer", "rules": [
            {"match": "/token", "status": 200, "text": text, "headers": headers}]}))
        attack(box, "inspect", where(registry, "tok"))
    for realm in ("http://127.0.0.1:1/x\r\nX: y", "file:///etc/passwd", "", "x", "http://",
                  f"http://127.0.0.1:{registry.port}/v2/"):
        registry.admin("PUT", "/_control", compact({"auth": "bearer", "realm": realm}))
        attack(box, "inspect", "--creds", "u:p", where(registry, "tok"))
    registry.admin("PUT", "/_control", b"{}")


def names(box, registry):
    """What is ours to refuse before anything is asked."""
    registry.admin("POST", "/_image", compact({"repo": "tok", "tag": "1"}))
    for text in ("a\nb", "a\r\nX: y", "../../x", "a b", ESCAPE, "a?b", "a#b", "%2e%2e", "x" * 5000):
        target = f"docker://{registry.host}/{text}:1"
        attack(box, "copy", where(registry, "tok"), target, statuses=(1, 2))
        attack(box, "copy", where(registry, "tok"), f"docker://{registry.host}/a:{text}",
               statuses=(1, 2))
        attack(box, "publish", f"--repo={registry.host}/a", f"--tag={text}",
               where(registry, "tok"), statuses=(1, 2))
        attack(box, "login", "-u", "u", "--password-stdin", text, statuses=(1, 2, 8))
    for creds in ("u\nX: y:p", "u:p\r\nX-Evil: 1"):
        attack(box, "inspect", "--creds", creds, where(registry, "tok"), statuses=(0, 1, 2))
        attack(box, "inspect", "--registry-token", creds, where(registry, "tok"),
               statuses=(0, 1, 2))
    with open(registry.seen, encoding="utf-8", errors="replace") as file:
        if "x-evil" in file.read().lower():
            raise Wrong("a header was smuggled in")


class Raw:
    """A server whose answers never end. kind: what it does to GETs of a path's prefix."""

    def __init__(self, answers):
        self.answers = answers
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.host = "127.0.0.1:%d" % self.socket.getsockname()[1]
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            try:
                peer = self.socket.accept()[0]
            except OSError:
                return
            threading.Thread(target=self.serve, args=(peer,), daemon=True).start()

    def serve(self, peer):
        try:
            with peer:
                request = b""
                while b"\r\n\r\n" not in request:
                    piece = peer.recv(65536)
                    if not piece:
                        return
                    request += piece
                path = request.split(b" ", 2)[1].decode("latin-1")
                for prefix, answer in self.answers.items():
                    if re.search(prefix, path):
                        for data, pause in answer:
                            peer.sendall(data)
                            time.sleep(pause)
                        return
                peer.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        except OSError:
            pass

    def close(self):
        self.socket.close()


def forever(head, piece, pause=0.0):
    yield head, 0
    while True:
        yield piece, pause


class Again:
    """An answer that can be given more than once."""

    def __init__(self, *args):
        self.args = args

    def __iter__(self):
        return forever(*self.args)


def endless(box, _):
    json_head = b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\n"
    chunk = b"10000\r\n" + b"[" * 65536 + b"\r\n"
    count = 0
    for path in ("/manifests/", "/tags/list", "."):
        for status in (200, 400, 401, 500):
            for head, piece in ((json_head % status + b"Transfer-Encoding: chunked\r\n\r\n", chunk),
                                (json_head % status + b"\r\n", b"[" * 65536),
                                (json_head % status + b"X-Long: ", b"x" * 65536),
                                (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000),
                                (json_head % status, b"X-More: yes\r\n" * 1000)):
                server = Raw({path: Again(head, piece)})
                attack(box, "inspect", f"docker://{server.host}/a:1")
                attack(box, "list-tags", f"docker://{server.host}/a")
                server.close()
                count += 2
    return f"{count} of them"


def drip(box, _):
    """Slower than the stall timeout; faster, but by bytes; and a header without an end."""
    env = {"LARDER_NET_STALL_TIMEOUT": "1s"}
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n"
    endless = b"HTTP/1.1 200 OK\r\nX: "
    for first, piece, pause in ((head, b"[", 3), (head, b"[", 0.2), (b"", b"", 3), (endless, b"x", 0.2)):
        server = Raw({".": Again(first, piece, pause)})
        attack(box, "inspect", f"docker://{server.host}/a:1", env=env)
        attack(box, "copy", f"docker://{server.host}/a:1", "oci:drip:1", env=env)
        server.close()


# ---- files --------------------------------------------------------------------------------------


def make_layout(path):
    blobs, manifest = image("x86_64", "hostile")
    place = os.path.join(path, "blobs", "sha256")
    os.makedirs(place)
    for blob in blobs:
        with open(os.path.join(place, sha256(blob)), "wb") as file:
            file.write(blob)
    index = {"schemaVersion": 2, "manifests": [
        {"mediaType": MANIFEST, "digest": digest_of(manifest), "size": len(manifest),
         "annotations": {"org.opencontainers.image.ref.name": "1"}}]}
    write(os.path.join(path, "index.json"), compact(index))
    write(os.path.join(path, "oci-layout"), b'{"imageLayoutVersion":"1.0.0"}')
    return blobs, index


def write(path, data):
    with open(path, "wb") as file:
        file.write(data)


def all_of(box, registry, source, statuses=FAILED):
    attack(box, "copy", source, "oci:taken:1", statuses=statuses)
    attack(box, "copy", source, "store:taken", statuses=statuses)
    attack(box, "copy", source, "oci-archive:taken.tar:1", statuses=statuses)
    attack(box, "copy", source, where(registry, "taken"), statuses=statuses)
    attack(box, "inspect", source, statuses=(0, *FAILED))
    check_outside(box)


def layouts(box, registry):
    number = 0

    def fresh():
        nonlocal number
        number += 1
        path = os.path.join(box.path, f"lay{number}")
        return path, *make_layout(path)
    path, blobs, index = fresh()
    all_of(box, registry, f"oci:{path}:1", statuses=(0,))
    for name in ("index.json", "oci-layout", os.path.join("blobs", "sha256", sha256(blobs[-1])),
                 os.path.join("blobs", "sha256", sha256(blobs[1]))):
        for kind in ("fifo", "directory", "zero", "secret", "huge"):
            path, _, _ = fresh()
            target = os.path.join(path, name)
            os.unlink(target)
            if kind == "fifo":
                os.mkfifo(target)
            elif kind == "directory":
                os.mkdir(target)
            elif kind == "huge":
                write(target, b"")
                os.truncate(target, 1 << 40)
            else:
                os.symlink("/dev/zero" if kind == "zero" else "/etc/passwd", target)
            with box_paths(box, "taken", "taken.tar"):
                for to in ("oci:taken:1", "oci-archive:taken.tar:1",
                           where(registry, f"lay{number}")):
                    attack(box, "copy", f"oci:{path}:1", to)
            if name in ("index.json", "oci-layout"):
                attack(box, "copy", where(registry, "taken"), f"oci:{path}:2")
    for digest in BAD_DIGESTS:
        path, _, index = fresh()
        index["manifests"][0]["digest"] = digest
        write(os.path.join(path, "index.json"), compact(index))
        attack(box, "copy", f"oci:{path}:1", "oci:taken:1")
        # Others' entries stay as they are.
        attack(box, "copy", where(registry, "taken"), f"oci:{path}:2", statuses=(0, *FAILED))
        attack(box, "inspect", f"oci:{path}:1")
        check_outside(box)
    path, _, index = fresh()
    for name in (ESCAPE, "a\nb", "../../x", ""):
        index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"] = name
        write(os.path.join(path, "index.json"), compact(index))
        for options in ((), ("--json",)):
            attack(box, *options, "inspect", f"oci:{path}:none")
            attack(box, *options, "list-tags", f"oci:{path}", statuses=(0, *FAILED))
    for text in (b"", b"[", b"[" * 1000000, b'{"manifests":[],"manifests":[]}', b"\xff" * 100):
        write(os.path.join(path, "index.json"), text)
        attack(box, "copy", f"oci:{path}:1", "oci:taken:1")
        attack(box, "copy", where(registry, "taken"), f"oci:{path}:2")
    # Places for new files that lead elsewhere.
    os.mkdir(os.path.join(box.path, "elsewhere"))
    for name in ("blobs", ".larder", "blobs/sha256"):
        path = os.path.join(box.path, f"link{number}{name.replace('/', '-')}")
        os.makedirs(os.path.join(path, os.path.dirname(name)))
        os.symlink(os.path.join(box.path, "elsewhere"), os.path.join(path, name))
        attack(box, "copy", where(registry, "taken"), f"oci:{path}:1", statuses=(0, *FAILED))


class box_paths:
    """These are gone afterwards."""

    def __init__(self, box, *names):
        self.paths = [os.path.join(box.path, name) for name in names]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for path in self.paths:
            subprocess.run(["rm", "-rf", path], check=False)


def archives(box, registry):
    blobs, manifest = image("x86_64", "archive")
    path = os.path.join(box.path, "a.tar")
    index = compact({"schemaVersion": 2, "manifests": [
        {"mediaType": MANIFEST, "digest": digest_of(manifest), "size": len(manifest)}]})
    good = {"index.json": index, "oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
            **{"blobs/sha256/" + sha256(blob): blob for blob in blobs}}
    layer = "blobs/sha256/" + sha256(blobs[1])

    def make(members, change=None, kind=tarfile.PAX_FORMAT):
        with tarfile.open(path, "w", format=kind) as tar:
            for name, data in members.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                if change and name == layer:
                    change(info)
                if info.type != tarfile.REGTYPE:
                    info.size = 0
                tar.addfile(info, __import__("io").BytesIO(data))

    def link(kind, target):
        def change(info):
            info.type, info.linkname = kind, target
        return change
    make(good)
    all_of(box, registry, f"oci-archive:{path}", statuses=(0,))
    for change in (link(tarfile.SYMTYPE, "/etc/passwd"), link(tarfile.LNKTYPE, "/etc/passwd"),
                   link(tarfile.SYMTYPE, "../../index.json"), link(tarfile.FIFOTYPE, ""),
                   link(tarfile.CHRTYPE, ""), link(tarfile.DIRTYPE, "")):
        make(good, change)
        with box_paths(box, "other", "taken.tar"):
            attack(box, "copy", f"oci-archive:{path}", "oci:other:1")
            attack(box, "copy", f"oci-archive:{path}", "oci-archive:taken.tar:1")
    for name in ("../x", "/x", "../../../../x", "./../x", "blobs/sha256/../../x"):
        make({**good, name: b"evil"})
        all_of(box, registry, f"oci-archive:{path}", statuses=(0, *FAILED))
    with open(path, "rb") as file:
        whole = file.read()
    # Headers whose numbers lie, with a sum that is right.
    for field, text in ((124, b"77777777777\0"), (124, b"\x80" + b"\xff" * 11),
                        (124, b"\xff" * 12), (124, b"-0000000001\0"), (124, b"zzzzzzzzzzz\0")):
        header = bytearray(whole[:512])
        header[field:field + 12] = text
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
        write(path, bytes(header) + whole[512:])
        all_of(box, registry, f"oci-archive:{path}", statuses=(0, *FAILED))
    for text in (b"", b"\0" * 1024, whole[:700], whole[:1500], b"x" * 2048, gzip.compress(whole)):
        write(path, text)
        with box_paths(box, "other"):
            attack(box, "copy", f"oci-archive:{path}", "oci:other:1", statuses=(0, *FAILED))
    os.unlink(path)
    os.mkfifo(path)
    with box_paths(box, "other"):
        attack(box, "copy", f"oci-archive:{path}", "oci:other:1")
        attack(box, "copy", where(registry, "taken"), f"oci-archive:{path}:1",
               statuses=(0, *FAILED))


def bombs(box, registry):
    """Little that becomes a lot: 2 GiB of zeros in 2 MiB, twice packed."""
    raw = os.path.join(box.path, "zeros.gz")
    with gzip.open(raw, "wb", 6) as file:
        for _ in range(64):
            file.write(bytes(32 << 20))
    with open(raw, "rb") as file:
        packed = file.read()
    put_manifest(registry, "bomb", "file", [put_blob(registry, "bomb", packed, "a/b", "x.img.gz")])
    config = put_blob(registry, "bomb", b'{"architecture":"amd64","os":"linux"}',
                      TYPES + "config.v1+json")
    put_manifest(registry, "bomb", "disk", [put_blob(registry, "bomb", packed,
                                                     TYPES + "layer.v1.tar+gzip")], config)
    limits = ["prlimit", f"--fsize={64 << 20}"]
    for tag in ("file", "disk"):
        name = f"oras://{registry.host}/bomb:{tag}"
        attack(box, "image", "get", name, statuses=(0, *FAILED), seconds=600)
        done = subprocess.run([*limits, LARDER, "image", "get", "--fresh", name], env=box.env,
                              cwd=box.path, stdin=subprocess.DEVNULL, capture_output=True,
                              check=False, timeout=600)
        if done.returncode not in (0, 1, 3, 5):
            raise Wrong(f"status {done.returncode} at a file size limit: {done.stderr[-300:]}")
    box.good("gc")


def builds(box, registry):
    """builds/ of a job that others may write to: nothing outside of it is read or changed."""
    make_build(box, True)
    secret = os.path.join(box.path, "secret")
    os.makedirs(os.path.join(secret, "x86_64"))
    place = os.path.join(box.path, "builds", BUILD, "x86_64")
    blobs, manifest = image("x86_64", "secret")
    write_archive(os.path.join(box.path, "secret", "os.ociarchive"), blobs, manifest)
    builds_json = os.path.join(box.path, "builds", "builds.json")
    meta_json = os.path.join(place, "meta.json")
    with open(builds_json, encoding="ascii") as file:
        good_builds = json.load(file)
    with open(meta_json, encoding="ascii") as file:
        good_meta = json.load(file)
    write(os.path.join(secret, "x86_64", "meta.json"), compact(good_meta))

    def push(*more, statuses=(1, 2, 3, 5), **how):
        return attack(box, "cosa", "push-container-manifest", f"--repo={registry.host}/builds",
                      "--tag=t", "--artifact=ostree", f"--metajsonname={KEY}", *more,
                      statuses=statuses, **how)
    for name in ("../secret", "..", ".", "", "/", "a/../../secret", ESCAPE, "x\n", 7, None):
        document = json.loads(json.dumps(good_builds))
        document["builds"][0]["id"] = name
        write(builds_json, compact(document))
        push()
        document = json.loads(json.dumps(good_builds))
        document["builds"][0]["arches"] = [name]
        write(builds_json, compact(document))
        push()
    write(builds_json, compact(good_builds))
    hexa = faultlib.sha256_file(os.path.join(secret, "os.ociarchive"))
    for name in ("../../../secret/os.ociarchive", os.path.join(secret, "os.ociarchive"), "..", ".",
                 "../x86_64/../../../secret/os.ociarchive", "", "/", ESCAPE, 7, None):
        document = json.loads(json.dumps(good_meta))
        document["images"]["ostree"] = {"path": name, "sha256": hexa}
        document["images"].pop("oci-manifest")
        write(meta_json, json.dumps(document, indent=4).encode())
        push()
    for digest in ("../../x", "A" * 64, "0" * 63, "", 7, None, "0" * 64):
        document = json.loads(json.dumps(good_meta))
        document["images"]["ostree"]["sha256"] = digest
        document["images"]["oci-manifest"]["path"] = "../../../../../../etc/passwd"
        write(meta_json, json.dumps(document, indent=4).encode())
        push(statuses=(0, 1, 2, 3, 5) if digest == "0" * 64 else (1, 2, 3, 5))
    for key in (KEY, "buildid", "images", "name"):
        for value in (7, "x", [], {"image": 7}, {"image": "a", "digest": "../../x"},
                      {"additional-images": 7}, {"additional-images": [7]}, None):
            write(meta_json, json.dumps({**good_meta, key: value}, indent=4).encode())
            push(statuses=(0, 1, 2, 3, 5))
    write(meta_json, b'{"a":"' + b"x" * (100 << 20) + b'"}')
    push()
    for text in (b"", b"[" * 1000000, b"\xff", b'{"a":1,"a":2}', b'{"a":' + b"9" * 1000000 + b"}"):
        write(meta_json, text)
        push(statuses=(0, 1, 2, 3, 5))  # (an architecture without the artifact is left out)
        write(builds_json, text)
        push()
        write(builds_json, compact(good_builds))
    os.unlink(meta_json)
    os.mkfifo(meta_json)
    push()
    os.unlink(meta_json)
    os.symlink("/dev/zero", meta_json)
    push()
    for path in os.listdir(secret) + os.listdir(os.path.join(secret, "x86_64")):
        if path not in ("os.ociarchive", "x86_64", "meta.json"):
            raise Wrong(f"{path} was made in secret/")


def credentials(box, registry):
    path = os.path.join(box.path, "auth.json")
    target = where(registry, "taken")
    registry.admin("POST", "/_image", compact({"repo": "taken", "tag": "1"}))
    registry.admin("PUT", "/_control", compact({"auth": "basic"}))

    def use(statuses=FAILED, **how):
        attack(box, "inspect", "--authfile", path, target, statuses=statuses, **how)
        attack(box, "login", "--authfile", path, "--get-login", registry.host, statuses=statuses,
               **how)
        attack(box, "logout", "--authfile", path, registry.host, statuses=(0, *FAILED), **how)
    host = registry.host
    for text in (b"", b"{", b"[" * 1000000, b"7", b'{"auths":7}', b'{"auths":{"%s":7}}',
                 b'{"auths":{"%s":{"auth":"%%%%"}}}', b'{"auths":{"%s":{"auth":7}}}',
                 b'{"auths":{"%s":{"auth":"YQpYLUV2aWw6IDE6cA=="}}}',  # "a\nX-Evil: 1:p"
                 b'{"auths":{"%s":{"registrytoken":"a\\r\\nX-Evil: 1"}}}',
                 b'{"credsStore":"../../x"}', b'{"credHelpers":{"%s":"\\u001b[31m"}}',
                 b'{"credHelpers":{"%s":"missing"}}', b'{"credHelpers":7}', b"\xff"):
        write(path, text.replace(b"%s", host.encode()))
        use(statuses=(0, *FAILED))
    write(path, b'{"auths":{"a":"' + b"x" * (100 << 20) + b'"}}')
    use()
    os.unlink(path)
    os.mkfifo(path)
    use()
    os.unlink(path)
    os.symlink("/dev/zero", path)
    use()
    os.unlink(path)
    os.mkdir(path)
    use()
    os.rmdir(path)
    tools = os.path.join(box.path, "tools")
    os.mkdir(tools)
    for name, script in (("loud", "exec head -c 1000000000 /dev/zero"),
                         ("talker", "head -c 1000000000 /dev/zero >&2; exit 1"),
                         ("forks", "sleep 3000 & echo $! >>sleepers; echo '{}'"),
                         ("escape", "printf '\\033[31mred'; exit 1"),
                         ("evil", "printf '{\"Username\":\"a\\\\r\\\\nX-Evil: 1\",\"Secret\":\"s\"}'"),
                         ("dies", "kill -9 $$")):
        helper = os.path.join(tools, "docker-credential-" + name)
        write(helper, b"#!/bin/sh\n" + script.encode() + b"\n")
        os.chmod(helper, 0o755)
        write(path, compact({"credHelpers": {host: name}}))
        # (One that holds us up is killed, which is none of the statuses.)
        use(statuses=(0, *FAILED), env={"PATH": tools + ":" + os.environ["PATH"]})
    with open(registry.seen, encoding="utf-8", errors="replace") as file:
        if "x-evil" in file.read().lower():
            raise Wrong("a header was smuggled in")
    end_sleepers(box)
    # One that hangs does not keep us.
    hangs = os.path.join(tools, "docker-credential-hangs")
    write(hangs, b"#!/bin/sh\necho $$ >>sleepers\nexec sleep 3000\n")
    os.chmod(hangs, 0o755)
    write(path, compact({"credHelpers": {host: "hangs"}}))
    process = subprocess.Popen([LARDER, "inspect", "--authfile", path, target], cwd=box.path,
                               env={**box.env, "PATH": tools + ":" + os.environ["PATH"]},
                               stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + faultlib.SECONDS
        while not os.path.exists(os.path.join(box.path, "sleepers")):
            if process.poll() is not None or time.monotonic() > end:
                raise Wrong(f"the helper is not asked: status {process.poll()}")
            time.sleep(0.02)
        process.terminate()
        process.wait(HOSTILE_SECONDS)
    except subprocess.TimeoutExpired:
        raise Wrong("SIGTERM does not end us while a credential helper hangs") from None
    finally:
        process.kill()
        process.wait()
        end_sleepers(box)
        registry.admin("PUT", "/_control", b"{}")


def end_sleepers(box):
    """Those that helpers left behind, by the ids that they wrote down."""
    path = os.path.join(box.path, "sleepers")
    if not os.path.exists(path):
        return
    with open(path, encoding="ascii") as file:
        for pid in map(int, file.read().split()):
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as command:
                    if command.read() == b"sleep\x003000\0":
                        os.kill(pid, signal.SIGKILL)
            except (FileNotFoundError, ProcessLookupError):
                pass
    os.unlink(path)


def configuration(box, registry):
    place = os.path.join(box.home, ".config", "containers")
    os.makedirs(place)
    for text in (b"", b"\xff", b"[" * 100000, b"[[registry]]\n" * 20000, b"x = 1\nx = 2", b'a = """',
                 b"unqualified-search-registries = 7", b'[[registry]]\nlocation = "../../x"\n',
                 b'[[registry]]\nprefix = "127.0.0.1"\nlocation = "a\\nb"\n',
                 b'[[registry]]\nprefix = "127.0.0.1"\nblocked = true\n',
                 b"a = {" * 10000, b"a" * (3 << 20)):
        write(os.path.join(place, "registries.conf"), text)
        attack(box, "inspect", where(registry, "taken"), statuses=(0, *FAILED))
    os.unlink(os.path.join(place, "registries.conf"))
    os.mkfifo(os.path.join(place, "registries.conf"))
    attack(box, "inspect", where(registry, "taken"), statuses=(0, *FAILED))


ATTACKS = [bad_digests, sizes, documents, huge, deep, escapes, tag_lists, redirects, tokens, names,
           endless, drip, layouts, archives, bombs, builds, credentials, configuration]


def main():
    args = faultlib.arguments(__doc__, points=0)
    tap = Tap()
    begin = time.monotonic()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with Scratch() as scratch, Registry(scratch) as registry:
        registry.admin("POST", "/_image", compact({"repo": "taken", "tag": "1"}))
        for function in ATTACKS:
            if args.only and args.only not in function.__name__:
                continue
            with scratch.box() as box:
                tap.case(function.__name__.replace("_", " "), function, box, registry)
                registry.admin("PUT", "/_control", b"{}")
    print(f"# {faultlib.elapsed(begin)}")
    return tap.done()


if __name__ == "__main__":
    sys.exit(main())
