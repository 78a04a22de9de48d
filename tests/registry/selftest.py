#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Tests of server.py, the scripted registry: that it is a good one, and bad where told to. TAP."""
import base64
import contextlib
import hashlib
import http.client
import json
import os
import subprocess
import sys
import threading
import time
import traceback
import urllib.parse

HERE = os.path.dirname(os.path.abspath(__file__))
TESTS = []


def test(function):
    TESTS.append(function)
    return function


class Registry:
    """server.py as a child."""

    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, os.path.join(HERE, "server.py")], stdout=subprocess.PIPE, text=True
        )
        self.port, self.other, self.admin = map(int, self.process.stdout.readline().split())

    def ask(self, method, target, body=None, headers=(), port=None):
        """(status, headers, body)"""
        c = http.client.HTTPConnection("127.0.0.1", port or self.port, timeout=20)
        with contextlib.closing(c):
            c.request(method, target, body, dict(headers))
            r = c.getresponse()
            return r.status, {k.lower(): v for k, v in r.getheaders()}, r.read()

    def ctl(self, method, target, document=None):
        body = json.dumps(document) if document is not None else None
        status, _, answer = self.ask(method, target, body, port=self.admin)
        assert status == 200, answer
        return json.loads(answer) if answer[:1] in (b"{", b"[") else answer

    def quirks(self, **settings):
        self.ctl("PUT", "/_control", settings)
        self.ctl("DELETE", "/_content")
        self.ctl("DELETE", "/_log")

    def begin(self, query=""):
        status, headers, _ = self.ask("POST", "/v2/a/b/blobs/uploads/" + query, b"")
        assert status == 202, status
        return headers

    def put(self, location, data, **headers):
        mark = "&" if "?" in location else "?"
        return self.ask("PUT", location + mark + "digest=" + digest(data), data, headers)


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def equal(got, want):
    assert got == want, "%r, expected %r" % (got, want)


@test
def uploads_in_every_way(r):
    r.quirks()
    equal(r.ask("GET", "/v2/")[0], 200)
    equal(r.ask("HEAD", "/v2/a/b/blobs/" + digest(b"one"))[0], 404)
    equal(r.put(r.begin()["location"], b"one")[0], 201)
    location = r.begin()["location"]
    status, headers, _ = r.ask("PATCH", location, b"tw", {"Content-Range": "0-1"})
    equal((status, headers["range"]), (202, "0-1"))
    equal(r.ask("PATCH", location, b"o", {"Content-Range": "5-5"})[0], 416)
    equal(r.ask("GET", location)[1]["range"], "0-1")
    status, _, _ = r.ask("PATCH", location, iter([b"o", b"!"]))
    equal(status, 202)
    equal(r.ask("PUT", location + "?digest=" + digest(b"two!"), b"")[0], 201)
    equal(r.ask("POST", "/v2/a/b/blobs/uploads/?digest=" + digest(b"3"), b"3")[0], 201)
    equal(r.put(r.begin()["location"] + "?x=1", b"four")[0], 201)
    equal(r.ask("PUT", r.begin()["location"] + "?digest=" + digest(b"no"), b"x")[0], 400)
    for data in (b"one", b"two!", b"3", b"four"):
        equal(r.ask("GET", "/v2/a/b/blobs/" + digest(data))[2], data)
    query = "?mount=%s&from=a/b" % digest(b"one")
    equal(r.ask("POST", "/v2/c/blobs/uploads/" + query, b"")[0], 201)
    query = "?mount=%s&from=a/b" % digest(b"none")
    equal(r.ask("POST", "/v2/c/blobs/uploads/" + query, b"")[0], 202)


@test
def ranges(r):
    r.quirks()
    data = bytes(range(256)) * 40
    r.ask("PUT", "/_blob/a/b", data, port=r.admin)
    for text, status, want in [
        ("bytes=500-1499", 206, data[500:1500]),
        ("bytes=500-", 206, data[500:]),
        ("bytes=-500", 206, data[-500:]),
        ("bytes=20000-30000", 416, b""),
    ]:
        got = r.ask("GET", "/v2/a/b/blobs/" + digest(data), None, {"Range": text})
        equal((got[0], got[2]), (status, want))


@test
def manifests_and_tags(r):
    r.quirks(tags_max=2)
    image = r.ctl("POST", "/_image", {"repo": "a/b", "tags": ["c", "a", "B"],
                                      "platforms": ["linux/amd64", "linux/arm64/v8"]})
    status, headers, body = r.ask("GET", "/v2/a/b/manifests/c")
    equal((status, digest(body)), (200, image["digest"]))
    equal(headers["docker-content-digest"], image["digest"])
    equal(len(json.loads(body)["manifests"]), 2)
    _, headers, body = r.ask("GET", "/v2/a/b/tags/list")
    equal(json.loads(body)["tags"], ["B", "a"])
    target = headers["link"].partition("<")[2].partition(">")[0]
    equal(json.loads(r.ask("GET", target)[2])["tags"], ["c"])
    content_type = {"Content-Type": "application/vnd.oci.image.manifest.v1+json"}
    missing = {"schemaVersion": 2, "config": {"digest": digest(b"?"), "size": 1}, "layers": []}
    got = r.ask("PUT", "/v2/a/b/manifests/x", json.dumps(missing), content_type)
    equal((got[0], b"MANIFEST_BLOB_UNKNOWN" in got[2]), (400, True))
    config = r.ask("PUT", "/_blob/a/b", b"{}", port=r.admin)[2].decode().strip()
    artifact = {"schemaVersion": 2, "config": {"digest": config, "size": 2, "mediaType": "x/y"},
                "layers": [], "subject": {"digest": image["digest"]}, "annotations": {"k": "v"}}
    got = r.ask("PUT", "/v2/a/b/manifests/x", json.dumps(artifact), content_type)
    equal((got[0], got[1]["oci-subject"]), (201, image["digest"]))
    index = json.loads(r.ask("GET", "/v2/a/b/referrers/" + image["digest"])[2])
    equal([m["artifactType"] for m in index["manifests"]], ["x/y"])
    equal(r.ask("DELETE", "/v2/a/b/manifests/c")[0], 202)
    equal(r.ask("GET", "/v2/a/b/manifests/" + image["digest"])[0], 200)
    equal(r.ask("DELETE", "/v2/a/b/manifests/" + image["digest"])[0], 202)
    equal(r.ask("GET", "/v2/a/b/manifests/a")[0], 404)


def basic(r):
    return {"Authorization": "Basic " + base64.b64encode(b"user:secret").decode()}


def token(r, scope, headers=(), **more):
    query = urllib.parse.urlencode({"service": "fake", "scope": scope, **more})
    status, _, body = r.ask("GET", "/token?" + query, None, headers)
    equal(status, 200)
    return {"Authorization": "Bearer " + json.loads(body)["token"]}


@test
def authorization(r):
    r.quirks(auth="basic")
    equal(r.ask("GET", "/v2/")[1]["www-authenticate"], 'Basic realm="fake"')
    equal(r.ask("GET", "/v2/", None, basic(r))[0], 200)
    r.quirks(auth="bearer", anonymous="pull", token_revoked_by="POST")
    r.ctl("POST", "/_image", {"repo": "a/b"})
    status, headers, _ = r.ask("GET", "/v2/a/b/manifests/latest")
    equal((status, 'scope="repository:a/b:pull"' in headers["www-authenticate"]), (401, True))
    one = token(r, "repository:a/b:pull,push")
    equal(r.ask("GET", "/v2/a/b/manifests/latest", None, one)[0], 200)
    status, headers, _ = r.ask("POST", "/v2/a/b/blobs/uploads/", b"", one)
    equal((status, "insufficient_scope" in headers["www-authenticate"]), (401, True))
    one = token(r, "repository:a/b:pull,push", basic(r))
    equal(r.ask("POST", "/v2/a/b/blobs/uploads/", b"", one)[0], 202)
    equal(r.ask("POST", "/v2/a/b/blobs/uploads/", b"", one)[0], 401)
    one = token(r, "repository:a/b:pull,push", basic(r))
    equal(r.ask("POST", "/v2/a/b/blobs/uploads/", b"", one)[0], 202)
    form = {"grant_type": "refresh_token", "refresh_token": "identity", "service": "fake",
            "client_id": "x", "scope": "repository:a/b:pull repository:c:pull"}
    status, _, body = r.ask("POST", "/token", urllib.parse.urlencode(form))
    equal((status, "token" in json.loads(body)), (200, True))
    r.quirks(auth="bearer", token_post=404, token_refuses=["bad"])
    equal(r.ask("POST", "/token", urllib.parse.urlencode(form))[0], 404)
    equal(r.ask("GET", "/token?scope=repository:bad:pull", None, basic(r))[0], 403)


@test
def upload_quirks(r):
    r.quirks(patch_status=201, body_max=4)
    location = r.begin()["location"]
    equal(r.ask("PATCH", location, b"1234")[0], 201)
    equal(r.ask("PATCH", location, b"12345")[0], 416)
    r.quirks(patch_refused=404, location="absolute+query", single_post=False)
    location = r.begin("?digest=" + digest(b"x"))["location"]
    assert location.startswith("http://127.0.0.1:%d/" % r.port), location
    path = location[location.index("/v2/") :]
    equal(r.ask("PATCH", path, b"1")[0], 404)
    equal(r.put(path.partition("?")[0], b"x")[0], 404)
    equal(r.put(path, b"x")[0], 201)
    r.quirks(put_body_refused=404, patch_range="stuck", chunk_min=3)
    headers = r.begin()
    equal(headers["oci-chunk-min-length"], "3")
    location = headers["location"]
    equal(r.put(location, b"x")[0], 404)
    equal(r.ask("PATCH", location, b"123", {"Content-Range": "0-2"})[1]["range"], "0-2")
    equal(r.ask("PATCH", location, b"45", {"Content-Range": "3-4"})[1]["range"], "0-2")
    equal(r.ask("PATCH", location, b"6", {"Content-Range": "5-5"})[0], 400)
    r.quirks(mount=403, immutable=True, location="missing")
    equal(r.ask("POST", "/v2/c/blobs/uploads/?mount=%s" % digest(b""), b"")[0], 403)
    assert "location" not in r.begin()


@test
def download_quirks(r):
    r.quirks(redirect=307)
    data = b"0123456789"
    where = "/v2/a/b/blobs/" + digest(data)
    r.ask("PUT", "/_blob/a/b", data, port=r.admin)
    status, headers, _ = r.ask("GET", where)
    equal((status, ":%d/storage/" % r.other in headers["location"]), (307, True))
    target = headers["location"][headers["location"].index("/storage") :]
    equal(r.ask("GET", target, port=r.other)[2], data)
    equal(r.ask("HEAD", target, port=r.other)[0], 403)
    equal(r.ask("GET", target, None, basic(r), port=r.other)[0], 400)
    r.ctl("PUT", "/_control", {"rules": [
        {"match": "GET .*/blobs/", "times": 1, "status": 429, "retry_after": "date+2"},
        {"match": "GET .*/blobs/", "times": 1, "corrupt": 3},
        {"match": "GET .*/blobs/", "times": 1, "gzip": True},
        {"match": "GET .*/blobs/", "times": 1, "cut": 4},
        {"match": "GET .*/blobs/", "no_range": True, "extra": 2},
    ]})
    status, headers, _ = r.ask("GET", where)
    equal((status, headers["retry-after"].endswith("GMT")), (429, True))
    equal(r.ask("GET", where)[2], b"012\xcc456789")
    equal(r.ask("GET", where)[1]["content-encoding"], "gzip")
    try:
        r.ask("GET", where)
        raise AssertionError("was not cut")
    except (ConnectionError, http.client.IncompleteRead):
        pass
    equal(r.ask("GET", where, None, {"Range": "bytes=2-3"})[2], data + b"xx")


def begin(*arguments):
    """ask() in a thread; its answer is in the list, once there is one."""
    answers = []
    thread = threading.Thread(target=lambda: answers.append(arguments[0].ask(*arguments[1:])[0]))
    thread.start()
    return thread, answers


def wait_until(r, **counts):
    """Until so many are held, or busy."""
    for _ in range(6000):
        waiting = r.ctl("GET", "/_waiting")
        if all(len(waiting[name]) == count for name, count in counts.items()):
            return waiting
        time.sleep(0.01)
    raise AssertionError("%s, expected %s" % (waiting, counts))


@test
def waiting(r):
    blob, place = b"x", "/v2/a/b/blobs/uploads/?digest=" + digest(b"x")
    r.quirks(rules=[{"match": "^POST", "hold": True, "times": 1}])
    thread, answers = begin(r, "POST", place, blob)
    equal(wait_until(r, held=1), {"held": ["POST " + place], "busy": ["POST " + place]})
    equal((answers, r.ctl("GET", "/_content")), ([], {}))
    equal(r.ask("HEAD", "/v2/a/b/blobs/" + digest(blob))[0], 404)
    r.ctl("DELETE", "/_waiting")
    thread.join()
    equal((answers, wait_until(r, held=0, busy=0)), ([201], {"held": [], "busy": []}))
    r.quirks(rules=[{"match": "^POST", "gather": 2, "times": 2}])
    first = begin(r, "POST", place, blob)
    wait_until(r, busy=1)
    equal((first[1], r.ctl("GET", "/_content")), ([], {}))
    other = begin(r, "POST", place, blob)
    first[0].join()
    other[0].join()
    equal((first[1], other[1]), ([201], [201]))
    equal(r.ask("POST", place, blob)[0], 201)  # a third does not wait


@test
def log_and_mistakes(r):
    r.quirks(warning="old", tag_delay=1)
    r.ctl("POST", "/_image", {"repo": "a/b"})
    r.ctl("POST", "/_image", {"repo": "a/b", "tag": "new", "seed": 2})
    image = r.ask("GET", "/v2/a/b/manifests/new")[2]
    kind = {"Content-Type": json.loads(image)["mediaType"]}
    equal(r.ask("PUT", "/v2/a/b/manifests/latest", image, kind)[0], 201)
    assert digest(image) != digest(r.ask("GET", "/v2/a/b/manifests/latest")[2])
    status, headers, body = r.ask("GET", "/v2/a/b/manifests/latest")
    equal((digest(body), headers["warning"]), (digest(image), '299 - "old"'))
    lines = r.ctl("GET", "/_log").decode().splitlines()
    first = lines[1].split()
    equal(first[:6], ["PUT", "/v2/a/b/manifests/latest", "201", "0", str(len(image)), "none"])
    equal(len(lines), 4)
    status, _, body = r.ask("PUT", "/_control", '{"nonsense": 1}', port=r.admin)
    equal((status, b"nonsense" in body), (400, True))


def main():
    print("1..%d" % len(TESTS))
    failed = 0
    registry = Registry()
    for i, function in enumerate(TESTS, 1):
        try:
            function(registry)
            print("ok %d - %s" % (i, function.__name__))
        except Exception:  # pylint: disable=broad-except
            failed += 1
            print("not ok %d - %s" % (i, function.__name__))
            for line in traceback.format_exc().splitlines():
                print("# " + line)
    registry.process.terminate()
    registry.process.wait()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
