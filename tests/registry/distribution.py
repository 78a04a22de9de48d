# SPDX-License-Identifier: Apache-2.0
"""The distribution API of the fake registry, over content.py, as settings.py says."""
import json
import re
import time
import urllib.parse

from content import digest_of, is_digest

NAME = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*"
TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}\Z")
INDEX = "application/vnd.oci.image.index.v1+json"
ROUTES = [
    (re.compile("/v2/(" + NAME + r")/blobs/uploads/([^/]*)\Z"), "upload"),
    (re.compile("/v2/(" + NAME + r")/blobs/([^/]+)\Z"), "blob"),
    (re.compile("/v2/(" + NAME + r")/manifests/([^/]+)\Z"), "manifest"),
    (re.compile("/v2/(" + NAME + r")/tags/(list)\Z"), "tags"),
    (re.compile("/v2/(" + NAME + r")/referrers/([^/]+)\Z"), "referrers"),
]


class Request:
    """One request; body is what arrived of it, is_whole whether that was all."""

    def __init__(self, method, target, headers, listener, base):
        parts = urllib.parse.urlsplit(target)
        self.method = method
        self.target = target
        self.path = urllib.parse.unquote(parts.path)
        self.query = urllib.parse.parse_qsl(parts.query, keep_blank_values=True)
        self.args = dict(self.query)
        self.headers = headers
        self.listener = listener  # "registry" or "other"
        self.base = base  # "http://127.0.0.1:PORT" of the registry
        self.other = None  # the same of the other listener
        self.body = b""
        self.is_whole = True


class Reply:
    def __init__(self, status, headers=(), body=b"", media_type=None):
        self.status = status
        self.headers = list(headers)
        self.body = body
        self.is_blob = False
        if media_type:
            self.headers.append(("Content-Type", media_type))


def refuse(status, code, message=""):
    document = {"errors": [{"code": code, "message": message or code.lower()}]}
    return Reply(status, [], json.dumps(document).encode(), "application/json")


class Distribution:
    def __init__(self, settings, content, tokens):
        self.settings = settings
        self.content = content
        self.tokens = tokens

    # ---- dispatch ----

    def route(self, request):
        for pattern, kind in ROUTES:
            found = pattern.match(request.path)
            if found:
                return kind, found.group(1), found.group(2)
        return None, None, None

    def needs(self, request, kind, name):
        """(name, action) that the request needs. The source of a mount is not among them."""
        if kind is None:
            return []
        if request.method in ("GET", "HEAD") and kind != "upload":
            return [(name, "pull")]
        if request.method == "DELETE" and kind != "upload":
            return [(name, "delete")]
        return [(name, "pull"), (name, "push")]

    def answer(self, request):
        kind, name, rest = self.route(request)
        refusal = self.refusal(request, self.needs(request, kind, name))
        if refusal:
            return refusal
        if request.path in ("/v2/", "/v2"):
            return Reply(200, [], b"{}", "application/json")
        if request.path == "/v2/_catalog":
            names = sorted(self.content.repositories)
            return Reply(200, [], json.dumps({"repositories": names}).encode(), "application/json")
        if kind is None:
            return refuse(404, "NAME_INVALID" if request.path.startswith("/v2/") else "NOT_FOUND")
        reply = getattr(self, kind)(request, name, rest)
        if reply.status < 300:
            self.tokens.after(request.method)
        return reply

    def early(self, request):
        """Who expects a 100 is refused before the body."""
        kind, name, _ = self.route(request)
        return self.refusal(request, self.needs(request, kind, name))

    def refusal(self, request, needs):
        if request.listener == "other":
            if "authorization" in request.headers and self.settings["other_authorization"] != "ok":
                return refuse(400, "INVALID", "only one auth mechanism allowed")
            return None
        refused = self.tokens.refusal(request.headers.get("authorization", ""), needs)
        if not refused:
            return None
        status, error = refused
        reply = refuse(status, "UNAUTHORIZED" if status == 401 else "DENIED", "access denied")
        if status == 401:
            base = request.other if self.settings["token_at"] == "other" else request.base
            for value in self.tokens.challenges(base, needs, error):
                reply.headers.append(("WWW-Authenticate", value))
        return reply

    # ---- blobs ----

    def blob(self, request, name, digest):
        if not is_digest(digest):
            return refuse(400, "DIGEST_INVALID")
        if request.method == "DELETE":
            return self.delete_blob(name, digest)
        if request.method not in ("GET", "HEAD"):
            return refuse(405, "UNSUPPORTED")
        data = self.content.blob(name, digest)
        if data is None:
            return refuse(404, "BLOB_UNKNOWN", "blob unknown to registry")
        redirect = self.settings["redirect"]
        if redirect and (request.method == "GET" or self.settings["redirect_head"]):
            return self.redirect(request, name, digest, redirect)
        return self.bytes(request, data, digest)

    def redirect(self, request, name, digest, status):
        base = request.other if self.settings["redirect_to"] == "other" else request.base
        ends = "%.3f" % (time.time() + self.settings["redirect_life"])
        query = urllib.parse.urlencode({"name": name, "ends": ends, "signature": "a+b/c=="})
        return Reply(status, [("Location", "%s/storage/%s?%s" % (base, digest, query))])

    def storage(self, request):
        """What a redirect points to: as a bucket answers a URL signed for GET."""
        digest = request.path[len("/storage/") :]
        if "authorization" in request.headers:
            return Reply(400, [], b"<Code>InvalidArgument</Code>only one auth mechanism allowed")
        if "cookie" in request.headers:
            return Reply(400, [], b"<Code>InvalidArgument</Code>a cookie")
        if request.method != "GET" or request.args.get("signature") != "a+b/c==":
            return Reply(403, [], b"<Code>SignatureDoesNotMatch</Code>")
        if float(request.args.get("ends", "0")) < time.time():
            return Reply(403, [], b"<Code>AccessDenied</Code>request has expired")
        data = self.content.blob(request.args.get("name", ""), digest)
        if data is None:
            return Reply(404, [], b"<Code>NoSuchKey</Code>")
        return self.bytes(request, data, None)

    def bytes(self, request, data, digest):
        headers = [("Accept-Ranges", "bytes"), ("Content-Type", "application/octet-stream")]
        if digest:
            headers.append(("Etag", '"%s"' % digest))
            if self.settings["digest_header"]:
                headers.append(("Docker-Content-Digest", self.shown(digest)))
        reply = Reply(200, headers, data)
        reply.is_blob = True
        return reply

    def shown(self, digest):
        """The digest as the header gives it."""
        if self.settings["digest_header"] == "wrong":
            return digest.split(":")[0] + ":" + "0" * len(digest.split(":")[1])
        return digest

    def delete_blob(self, name, digest):
        status = self.settings["delete_blob"]
        if status != 202:
            return refuse(status, "UNSUPPORTED" if status != 404 else "BLOB_UNKNOWN")
        with self.content.lock:
            repo = self.content.repository(name)
            if digest not in repo.blobs:
                return refuse(404, "BLOB_UNKNOWN")
            repo.blobs.discard(digest)
        return Reply(202)

    # ---- uploads ----

    def upload(self, request, name, key):
        if request.method == "POST" and not key:
            return self.begin(request, name)
        with self.content.lock:
            upload = self.content.uploads.get(key)
        if upload is None or upload.repo != name:
            return refuse(404, "BLOB_UPLOAD_UNKNOWN")
        if request.method in ("GET", "HEAD"):
            return Reply(204, self.upload_headers(request, name, key, upload))
        state = request.args.get("_state")
        if "query" in self.settings["location"] and state != str(upload.requests):
            return refuse(404, "BLOB_UPLOAD_INVALID", "not the latest location")
        if request.method == "DELETE":
            with self.content.lock:
                self.content.uploads.pop(key, None)
            return Reply(204)
        if request.method == "PATCH":
            return self.patch(request, name, key, upload)
        if request.method == "PUT":
            return self.finish(request, name, key, upload)
        return refuse(405, "UNSUPPORTED")

    def begin(self, request, name):
        if "mount" in request.args:
            reply = self.mount(request, name)
            if reply:
                return reply
        elif "digest" in request.args and self.settings["single_post"]:
            too_big = self.too_big(request)
            return too_big or self.commit(name, request.args["digest"], request.body)
        key = self.content.begin_upload(name)
        upload = self.content.uploads[key]
        headers = self.upload_headers(request, name, key, upload)
        if self.settings["chunk_min"]:
            headers.append(("OCI-Chunk-Min-Length", str(self.settings["chunk_min"])))
        return Reply(202, headers)

    def mount(self, request, name):
        """None: an ordinary session is opened instead."""
        settings = self.settings
        digest, source = request.args["mount"], request.args.get("from")
        if settings["mount"] not in (201, 202):
            code = {401: "UNAUTHORIZED", 403: "DENIED", 404: "NAME_UNKNOWN"}
            return refuse(settings["mount"], code.get(settings["mount"], "INVALID_REQUEST"))
        if not is_digest(digest):
            return refuse(400, "DIGEST_INVALID")
        if source is None and not settings["mount_any"]:
            return refuse(400, "INVALID_REQUEST", "missing from")
        if settings["mount"] == 202:
            return None
        if source is not None:
            header = request.headers.get("authorization", "")
            if self.tokens.refusal(header, [(source, "pull")]):
                status = settings["mount_denied"]
                return None if status == 202 else refuse(status, "DENIED", "no such project")
            data = self.content.blob(source, digest)
        else:
            data = self.content.blobs.get(digest)
        if data is None:
            return None
        with self.content.lock:
            self.content.repository(name).blobs.add(digest)
        return self.created(name, digest)

    def created(self, name, digest):
        headers = [("Location", "/v2/%s/blobs/%s" % (name, digest))]
        if self.settings["digest_header"]:
            headers.append(("Docker-Content-Digest", self.shown(digest)))
        return Reply(201, headers)

    def upload_headers(self, request, name, key, upload):
        how = self.settings["location"].split("+")
        path = "/v2/%s/blobs/uploads/%s" % (name, key)
        if "query" in how:
            path += "?_state=%d&token=%s" % (upload.requests, urllib.parse.quote("a+b/c==", ""))
        base = request.base
        if "other" in how:
            path = request.other + path
        elif "http" in how:
            path = "http:" + base.partition(":")[2] + path
        elif "schemeless" in how:
            path = base.partition(":")[2] + path
        elif "absolute" in how:
            path = base + path
        headers = [] if "missing" in how else [("Location", path)]
        headers.append(("Docker-Upload-UUID", key))
        last = max(len(upload.data) - 1, 0)
        wanted = self.settings["patch_range"]
        if wanted == "stuck" and upload.requests > 1:
            last = upload.first_range
        elif upload.requests == 1:
            upload.first_range = last
        if wanted != "none":
            headers.append(("Range", "0-%d" % last))
        return headers

    def too_big(self, request):
        limit = self.settings["body_max"]
        if not limit or request.method not in self.settings["body_max_methods"]:
            return None
        if len(request.body) <= limit:
            return None
        text = "request body is too large, the limit is %.2fMiB" % (limit / (1 << 20))
        return refuse(self.settings["body_max_status"], "BLOB_UPLOAD_INVALID", text)

    def append(self, request, upload):
        """Adds the body; a Reply when it does not fit."""
        content_range = request.headers.get("content-range")
        if content_range is not None:
            found = re.fullmatch(r"(\d+)-(\d+)", content_range)
            length = len(request.body)
            if not found or int(found.group(1)) != len(upload.data):
                return refuse(416, "BLOB_UPLOAD_INVALID", "out of order")
            if request.is_whole and int(found.group(2)) - int(found.group(1)) + 1 != length:
                return refuse(400, "SIZE_INVALID", "Content-Range differs from the length")
            if upload.had_short_chunk and length:
                return refuse(400, "SIZE_INVALID", "a part before the last was too small")
            upload.had_short_chunk = length < self.settings["chunk_min"]
        upload.data += request.body
        return None

    def patch(self, request, name, key, upload):
        if self.settings["patch_refused"]:
            return refuse(self.settings["patch_refused"], "UNSUPPORTED", "no chunked uploads")
        problem = self.too_big(request) or self.append(request, upload)
        if problem:
            return problem
        upload.requests += 1
        headers = self.upload_headers(request, name, key, upload)
        return Reply(self.settings["patch_status"], headers)

    def finish(self, request, name, key, upload):
        if request.body and self.settings["put_body_refused"]:
            return refuse(self.settings["put_body_refused"], "BLOB_UNKNOWN", "no body expected")
        problem = self.too_big(request) or self.append(request, upload)
        if problem:
            return problem
        if not request.is_whole:
            return refuse(400, "SIZE_INVALID")
        reply = self.commit(name, request.args.get("digest", ""), upload.data)
        if reply.status == 201:
            with self.content.lock:
                self.content.uploads.pop(key, None)
        return reply

    def commit(self, name, digest, data):
        if not is_digest(digest) or digest_of(data, digest.partition(":")[0]) != digest:
            return refuse(400, "DIGEST_INVALID", "provided digest did not match uploaded content")
        self.content.put_blob(name, data, digest)
        return self.created(name, digest)

    # ---- manifests ----

    def manifest(self, request, name, reference):
        if not is_digest(reference) and not TAG.match(reference):
            return refuse(400, "DIGEST_INVALID" if ":" in reference else "TAG_INVALID")
        if request.method == "PUT":
            return self.put_manifest(request, name, reference)
        if request.method == "DELETE":
            return self.delete_manifest(name, reference)
        if request.method not in ("GET", "HEAD"):
            return refuse(405, "UNSUPPORTED")
        digest = self.resolve(name, reference)
        if digest is None:
            return refuse(404, "MANIFEST_UNKNOWN", "manifest unknown")
        media_type, data = self.content.repository(name).manifests[digest]
        accept = request.headers.get("accept", "")
        if self.settings["accept_check"] and media_type not in accept and "*/*" not in accept:
            return refuse(404, "MANIFEST_UNKNOWN", "accept header does not support " + media_type)
        headers = [("Etag", '"%s"' % digest), ("Content-Type", media_type)]
        if self.settings["digest_header"]:
            headers.append(("Docker-Content-Digest", self.shown(digest)))
        if request.headers.get("if-none-match") == '"%s"' % digest:
            return Reply(304, headers)
        return Reply(200, headers, data)

    def resolve(self, name, reference):
        """Digest of a manifest that exists, or None; counts down what is still hidden."""
        with self.content.lock:
            repo = self.content.repositories.get(name)
            if repo is None:
                return None
            digest = reference if ":" in reference else repo.tags.get(reference)
            hidden = repo.hidden.get(reference)
            if hidden:
                hidden[0] -= 1
                if hidden[0] < 0:
                    del repo.hidden[reference]
                else:
                    digest = hidden[1]
            return digest if digest in repo.manifests else None

    def put_manifest(self, request, name, reference):
        settings = self.settings
        if len(request.body) > settings["manifest_max"]:
            return refuse(413, "SIZE_INVALID", "manifest is too large")
        if not request.is_whole:
            return refuse(400, "SIZE_INVALID")
        media_type = request.headers.get("content-type", "").partition(";")[0]
        is_named_by_digest = is_digest(reference)
        algorithm = reference.split(":")[0] if is_named_by_digest else "sha256"
        digest = digest_of(request.body, algorithm)
        if is_named_by_digest and digest != reference:
            return refuse(400, "DIGEST_INVALID")
        try:
            document = json.loads(request.body)
            if document.get("mediaType", media_type) != media_type:
                return refuse(400, "MANIFEST_INVALID", "mediaType differs from Content-Type")
            missing = self.missing(name, document) if settings["manifest_check"] else []
        except (ValueError, AttributeError, TypeError, KeyError):
            return refuse(400, "MANIFEST_INVALID")
        if missing:
            return refuse(400, "MANIFEST_BLOB_UNKNOWN", "blob unknown: " + ", ".join(missing))
        with self.content.lock:
            repo = self.content.repository(name)
            old = repo.tags.get(reference)
            if old and settings["immutable"] and (
                old != digest or settings["immutable"] == "always"
            ):
                return refuse(400, "TAG_INVALID", "the tag is immutable and exists already")
            wanted = request.headers.get("if-match")
            if settings["if_match"] and wanted is not None and wanted != '"%s"' % old:
                return refuse(412, "PRECONDITION_FAILED", "the tag was moved")
            if settings["if_match"] and old and request.headers.get("if-none-match") == "*":
                return refuse(412, "PRECONDITION_FAILED", "the tag exists")
            if not is_named_by_digest:
                if settings["tag_delay"]:
                    repo.hidden[reference] = [settings["tag_delay"], old]
                repo.tags[reference] = digest
            repo.manifests[digest] = (media_type, bytes(request.body))
        reply = Reply(201, [("Location", "/v2/%s/manifests/%s" % (name, digest))])
        if settings["digest_header"]:
            reply.headers.append(("Docker-Content-Digest", self.shown(digest)))
        if settings["referrers"] and isinstance(document.get("subject"), dict):
            reply.headers.append(("OCI-Subject", document["subject"].get("digest", "")))
        return reply

    def missing(self, name, document):
        """Digests that the manifest needs and that the repository lacks."""
        repo = self.content.repository(name)
        blobs = [x for x in document.get("layers") or [] if not x.get("urls")]
        if document.get("config"):
            blobs.append(document["config"])
        return [x["digest"] for x in blobs if x["digest"] not in repo.blobs] + [
            x["digest"]
            for x in document.get("manifests") or []
            if x["digest"] not in repo.manifests
        ]

    def delete_manifest(self, name, reference):
        kind = "delete_manifest" if ":" in reference else "delete_tag"
        status = self.settings[kind]
        if status != 202:
            return refuse(status, "UNSUPPORTED" if status != 404 else "MANIFEST_UNKNOWN")
        with self.content.lock:
            repo = self.content.repository(name)
            if ":" not in reference:
                if repo.tags.pop(reference, None) is None:
                    return refuse(404, "MANIFEST_UNKNOWN")
                return Reply(202)
            if repo.manifests.pop(reference, None) is None:
                return refuse(404, "MANIFEST_UNKNOWN")
            for tag in [t for t, d in repo.tags.items() if d == reference]:
                del repo.tags[tag]
        return Reply(202)

    # ---- lists ----

    def tags(self, request, name, _):
        settings = self.settings
        with self.content.lock:
            repo = self.content.repositories.get(name)
            if repo is None or (settings["tags_need_manifest"] and not repo.manifests):
                return refuse(404, "NAME_UNKNOWN", "repository name not known to registry")
            tags = list(repo.tags)
        how = settings["tags_order"]
        if how != "unsorted":
            tags.sort(key=str.lower if how == "ignoring-case" else None)
        n = int(request.args.get("n", 0) or 0)
        if settings["tags_n_limit"] and n > settings["tags_n_limit"]:
            return refuse(400, "PAGINATION_NUMBER_INVALID", "n is too large")
        last = request.args.get("last")
        if last in tags:
            tags = tags[tags.index(last) + 1 :]
        elif last is not None and how != "unsorted":
            key = str.lower if how == "ignoring-case" else str
            tags = [t for t in tags if key(t) > key(last)]
        limit = min(x for x in (n, settings["tags_max"], 1 << 30) if x)
        reply = Reply(200, [], b"", "application/json")
        if len(tags) > limit:
            tags = tags[:limit]
            if settings["tags_link"]:
                query = urllib.parse.urlencode({"last": tags[-1], "n": limit})
                base = request.base if settings["tags_link"] == "absolute" else ""
                link = '<%s/v2/%s/tags/list?%s>; rel="next"' % (base, name, query)
                reply.headers.append(("Link", link))
        reply.body = json.dumps({"name": name, "tags": tags}).encode()
        return reply

    def referrers(self, request, name, digest):
        if not self.settings["referrers"]:
            return refuse(404, "NOT_FOUND", "page not found")
        if not is_digest(digest):
            return refuse(400, "DIGEST_INVALID")
        with self.content.lock:
            repo = self.content.repositories.get(name)
            manifests = dict(repo.manifests) if repo else {}
        found = []
        for own, (media_type, data) in sorted(manifests.items()):
            document = json.loads(data)
            if (document.get("subject") or {}).get("digest") != digest:
                continue
            entry = {"mediaType": media_type, "digest": own, "size": len(data)}
            config = document.get("config") or {}
            entry["artifactType"] = document.get("artifactType") or config.get("mediaType", "")
            if document.get("annotations"):
                entry["annotations"] = document["annotations"]
            found.append(entry)
        reply = Reply(200, [], b"", INDEX)
        wanted = request.args.get("artifactType")
        if wanted:
            found = [x for x in found if x["artifactType"] == wanted]
            reply.headers.append(("OCI-Filters-Applied", "artifactType"))
        limit = self.settings["referrers_max"]
        start = int(request.args.get("start", 0))
        if limit and len(found) > start + limit:
            link = "</v2/%s/referrers/%s?start=%d>; rel=next" % (name, digest, start + limit)
            reply.headers.append(("Link", link))
        found = found[start : start + limit] if limit else found
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": found}
        reply.body = json.dumps(index).encode()
        return reply
