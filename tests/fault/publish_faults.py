#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Publishing that is killed, raced and repeated, against the scripted registry.

kill -9 at each system call that talks to the registry or changes a file: no tag ever points to
something incomplete, and the same command run again ends right, without a second entry in meta.json
and without sending a blob that was there. Hosts that append to one tag at once lose nothing, nor
do commands that record different keys in one meta.json."""

import hashlib
import io
import itertools
import json
import os
import re
import subprocess
import sys
import tarfile
import time
import urllib.request

import faultlib
from faultlib import LARDER, Scratch, Tap, Wrong

REGISTRY = os.path.join(faultlib.HERE, "..", "registry", "server.py")
ARCHES = {"x86_64": "amd64", "aarch64": "arm64"}
BUILD = "43.20250101.3.0"
TAGS = ["stable", BUILD]
KEY = "base-oscontainer"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
ESTABLISHED, FIN_WAIT1, CLOSE_WAIT = "01", "04", "08"  # of /proc/net/tcp
OTHERS_STAMP = "coreos-assembler.meta-stamp"


def compact(document):
    return json.dumps(document, separators=(",", ":")).encode()


def sha256(data):
    return hashlib.sha256(data).hexdigest()


class Registry:
    """One scripted registry; as many repositories as there are points."""

    def __init__(self, scratch, settings=None):
        ports = os.path.join(scratch.path, f"ports{id(self)}")
        self.log = ports + ".log"
        self.seen = ports + ".headers"
        for path in (self.log, self.seen):
            with open(path, "w", encoding="ascii"):
                pass
        self.process = subprocess.Popen(
            [sys.executable, REGISTRY, "--port-file", ports, "--log", self.log,
             "--headers", self.seen],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while not os.path.exists(ports):
            if self.process.poll() is not None:
                raise Wrong("the registry did not start")
            time.sleep(0.01)
        with open(ports, encoding="ascii") as file:
            self.port, other_port, self.admin_port = file.read().split()
        self.ports = {int(self.port), int(other_port)}
        self.host = f"127.0.0.1:{self.port}"
        if settings:
            self.admin("PUT", "/_control", compact(settings))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()

    def admin(self, method, path, body=None):
        request = urllib.request.Request(f"http://127.0.0.1:{self.admin_port}{path}", body,
                                         method=method)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request) as answer:
            return answer.read()

    def put(self, path, body, media_type):
        """With a Content-Type."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.admin_port}{path}", body,
                                         {"Content-Type": media_type}, method="PUT")
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request) as answer:
            return answer.read()

    def content(self, name):
        return json.loads(self.admin("GET", "/_content")).get(
            name, {"tags": {}, "manifests": {}, "blobs": {}})

    def manifest(self, name, reference):
        return json.loads(self.admin("GET", f"/_manifest/{name}/{reference}"))

    def lines(self, name):
        with open(self.log, encoding="ascii") as file:
            return [line for line in file if f" /v2/{name}/" in line]

    def waiting(self, kind, name=""):
        """Requests of a repository that are "held" by a rule, or "busy"."""
        return [request for request in json.loads(self.admin("GET", "/_waiting"))[kind]
                if f"/v2/{name}/" in request or not name]

    def wait_held(self, name, process):
        """Until a request of this process's is held."""
        end = time.monotonic() + faultlib.SECONDS
        while not self.waiting("held", name):
            if process.poll() is not None or time.monotonic() > end:
                raise Wrong(f"{process.args} (status {process.poll()}) asks for nothing that is "
                            f"held: {self.lines(name)}")
            time.sleep(0.02)

    def release(self):
        self.admin("DELETE", "/_waiting")

    def settle(self, name):
        """Requests of a client that was killed may still be on their way, or at work: until the
        registry has read all of its connections to their ends, and has no request to answer."""
        end = time.monotonic() + faultlib.SECONDS
        first = self.dead_clients()  # others die meanwhile, too
        while (dead := first & self.dead_clients()) or (busy := self.waiting("busy", name)):
            if time.monotonic() > end:
                raise Wrong(f"the registry does not come to rest: {dead or busy}")
            time.sleep(0.02)

    def dead_clients(self):
        """Ports of connections that nobody will use again and that the registry has not closed yet:
        ended by the client, or with nobody at that end."""
        with open("/proc/net/tcp", encoding="ascii") as file:
            sockets = [line.split()[1:4] for line in file][1:]
        there = {local for local, _, _ in sockets}

        def port(address):
            return int(address.split(":")[1], 16)
        return {port(remote) for local, remote, state in sockets if port(local) in self.ports and
                (state == CLOSE_WAIT or state == ESTABLISHED and remote not in there)} | \
            {port(local) for local, remote, state in sockets
             if port(remote) in self.ports and state == FIN_WAIT1}

    def check_complete(self, name):
        """Whatever a tag points to is there, down to the last blob."""
        content = self.content(name)
        for tag, digest in content["tags"].items():
            if digest not in content["manifests"]:
                raise Wrong(f"tag {tag} points to nothing")
            for member in self.manifest(name, digest)["manifests"]:
                if member["digest"] not in content["manifests"]:
                    raise Wrong(f"tag {tag}: no {member['digest']}")
                image = self.manifest(name, member["digest"])
                for blob in [image["config"], *image["layers"]]:
                    if blob["digest"] not in content["blobs"]:
                        raise Wrong(f"tag {tag}: no blob {blob['digest']}")

    def check_uploads(self, name):
        """No blob was sent twice, and all came: sent, or mounted from another repository."""
        stored, mounted = [], 0
        for line in self.lines(name):
            mounted += bool(re.match(r"POST \S*/blobs/uploads/\S*[?&]mount=\S* 201 ", line))
            match = re.match(r"(?:PUT|POST) \S*/blobs/uploads/\S*[?&]digest=(\S+?)(?:&\S*)? 201 ",
                             line)
            if match:
                stored.append(match.group(1))
        twice = {digest for digest in stored if stored.count(digest) > 1}
        if twice:
            raise Wrong(f"uploaded twice: {twice}")
        if not stored and not mounted:
            raise Wrong("no blob was sent or mounted")


# ---- a build ------------------------------------------------------------------------------------


def image(arch, text):
    """Config, layers and manifest of a small image."""
    layers = [f"{text} {arch} {i} ".encode() * 500 for i in range(2)]
    config = compact({"architecture": ARCHES[arch], "os": "linux",
                      "rootfs": {"type": "layers",
                                 "diff_ids": ["sha256:" + sha256(x) for x in layers]}})
    kind = "application/vnd.oci.image."
    manifest = compact({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": {"mediaType": kind + "config.v1+json", "digest": "sha256:" + sha256(config),
                   "size": len(config)},
        "layers": [{"mediaType": kind + "layer.v1.tar+gzip", "digest": "sha256:" + sha256(x),
                    "size": len(x)} for x in layers]})
    return [config, *layers, manifest], manifest


def write_archive(path, blobs, manifest):
    def add(name, data):
        info = tarfile.TarInfo(name)
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))
    with tarfile.open(path, "w") as tar:
        for blob in blobs:
            add("blobs/sha256/" + sha256(blob), blob)
        add("index.json", compact({"schemaVersion": 2, "manifests": [
            {"mediaType": MANIFEST, "digest": "sha256:" + sha256(manifest),
             "size": len(manifest)}]}))
        add("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')


def make_build(box, keeps_manifest):
    """builds/ as coreos-assembler leaves it; returns the digest of each architecture's image."""
    digests = {}
    for arch in ARCHES:
        place = os.path.join(box.path, "builds", BUILD, arch)
        os.makedirs(place)
        blobs, manifest = image(arch, BUILD)
        file = os.path.join(place, "os.ociarchive")
        write_archive(file, blobs, manifest)
        images = {"ostree": {"path": "os.ociarchive", "sha256": faultlib.sha256_file(file)}}
        for key in ("kubevirt", "extensions-container", "legacy-oscontainer"):
            images[key] = images["ostree"]
        if keeps_manifest:
            with open(os.path.join(place, "manifest.json"), "wb") as out:
                out.write(manifest)
            images["oci-manifest"] = {"path": "manifest.json", "sha256": sha256(manifest)}
        digests[arch] = "sha256:" + sha256(manifest)
        with open(os.path.join(place, "meta.json"), "w", encoding="ascii") as out:
            json.dump({"buildid": BUILD, "name": "fédora", "size": 1.0, "images": images,
                       OTHERS_STAMP: 1}, out, indent=4)
    with open(os.path.join(box.path, "builds", "builds.json"), "w", encoding="ascii") as out:
        json.dump({"schema-version": "1.0.0", "builds": [{"id": BUILD, "arches": list(ARCHES)}],
                   "tags": [], "timestamp": "t"}, out, indent=4)
    return digests


def read_meta(box, arch):
    path = os.path.join(box.path, "builds", BUILD, arch, "meta.json")
    with open(path, encoding="ascii") as file:
        text = file.read()
    document = json.loads(text)
    if json.dumps(document, indent=4) != text:
        raise Wrong(f"{path} is not as Python writes it")
    if document["size"] != 1.0 or document["name"] != "fédora":
        raise Wrong(f"{path}: other members changed")
    return document


def check_clean(box):
    """Nothing lies beside what the build has. (A lock that could not be removed is a dead one.)"""
    if box.notes.get("tolerant"):
        return
    for arch in ARCHES:
        left = set(os.listdir(os.path.join(box.path, "builds", BUILD, arch))) - {
            "meta.json", "manifest.json", "os.ociarchive"}
        if left:
            raise Wrong(f"left behind: {left}")


# ---- scenarios ----------------------------------------------------------------------------------


class Push:
    """cosa push-container-manifest of a build that nobody pushed yet."""
    name = "cosa"
    keeps_manifest = False

    def prepare(self, box, registry):
        box.digests = make_build(box, self.keeps_manifest)

    def argv(self, registry, repo):
        command = ["cosa", "push-container-manifest", f"--repo={registry.host}/{repo}",
                   "--artifact=ostree", f"--metajsonname={KEY}", "--write-digest-to-file=digest"]
        return command + [f"--tag={tag}" for tag in TAGS]

    def entry(self, registry, repo, arch, box):
        return {"image": f"{registry.host}/{repo}", "digest": box.digests[arch],
                "manifest-list-digest": registry.content(repo)["tags"]["stable"], "tags": TAGS}

    def check_meta(self, box, registry, repo):
        for arch in ARCHES:
            want = self.entry(registry, repo, arch, box)
            if read_meta(box, arch)[KEY] != want:
                raise Wrong(f"meta.json of {arch} has {read_meta(box, arch)[KEY]}, wanted {want}")

    def check(self, box, registry, repo):
        tags = registry.content(repo)["tags"]
        if set(tags) != set(TAGS) or len(set(tags.values())) != 1:
            raise Wrong(f"tags are {tags}")
        members = registry.manifest(repo, "stable")["manifests"]
        if [m["digest"] for m in members] != list(box.digests.values()):
            raise Wrong(f"members are {members}")
        self.check_meta(box, registry, repo)
        check_clean(box)
        with open(os.path.join(box.path, "digest"), encoding="ascii") as file:
            if file.read() != tags["stable"]:
                raise Wrong("the digest file has another digest")


class PushKept(Push):
    """Of a build that kept the manifests, so that archives are opened late."""
    name = "cosa-kept"
    keeps_manifest = True


class PushSecond(Push):
    """To a second repository: recorded in additional-images."""
    name = "cosa-second"

    def prepare(self, box, registry):
        super().prepare(box, registry)
        self.first = f"{self.name}-first"
        box.good(*self.argv(registry, self.first))

    def check_meta(self, box, registry, repo):
        for arch in ARCHES:
            want = {**self.entry(registry, self.first, arch, box),
                    "additional-images": [self.entry(registry, repo, arch, box)]}
            if read_meta(box, arch)[KEY] != want:
                raise Wrong(f"meta.json of {arch} has {read_meta(box, arch)[KEY]}, wanted {want}")


class Publish(Push):
    """larder publish of archives."""
    name = "publish"

    def argv(self, registry, repo):
        images = [f"oci-archive:builds/{BUILD}/{arch}/os.ociarchive" for arch in ARCHES]
        command = ["publish", f"--repo={registry.host}/{repo}", "--write-digest-to-file=digest"]
        return command + [f"--tag={tag}" for tag in TAGS] + images

    def check_meta(self, box, registry, repo):
        pass


class Append(Publish):
    name = "append"

    def argv(self, registry, repo):
        argv = super().argv(registry, repo)
        return [argv[0], "--append", *argv[1:]]


SCENARIOS = [Push, PushKept, PushSecond, Publish, Append]
# What talks to others or changes what they see; locks and modes don't.
CLASSES = "net,open,write,sync,link,rename,unlink"
numbers = itertools.count(1)


def strike(scratch, registry, scenario, n):
    repo = f"{scenario.name}{next(numbers)}"
    with scratch.box() as box:
        scenario.prepare(box, registry)
        argv = scenario.argv(registry, repo)
        result, calls = box.inject(argv, ["-c", CLASSES, "-n", str(n)])
        what = calls[n - 1] if len(calls) >= n else "end"
        try:
            if len(calls) >= n and result.status not in (-9, 137):
                raise Wrong(f"was not killed: {result}")
            registry.settle(repo)
            registry.check_complete(repo)
            box.good(*argv)
            registry.check_complete(repo)
            scenario.check(box, registry, repo)
            registry.check_uploads(repo)
            before = len(registry.lines(repo))
            box.good(*argv)
            # Nothing is left to do. (--append may ask again what it compared.)
            asked = len(registry.lines(repo)) - before
            if asked != len(TAGS):
                raise Wrong(f"a third run needs {asked} requests")
            scenario.check(box, registry, repo)
        except Wrong as wrong:
            raise Wrong(f"killed at call {n}, {what}: {wrong}") from None


def kill_everywhere(tap, scratch, registry, args):
    for number, kind in enumerate(SCENARIOS):
        scenario = kind()
        if args.only and args.only not in scenario.name:
            continue
        repo = f"{scenario.name}{next(numbers)}"
        with scratch.box() as box:
            scenario.prepare(box, registry)
            result, calls = box.inject(scenario.argv(registry, repo), ["-c", CLASSES])
            try:
                if result.status != 0:
                    raise Wrong(str(result))
                scenario.check(box, registry, repo)
            except Wrong as wrong:
                tap.report(False, f"{scenario.name}: without a fault", [wrong])
                continue
        chosen = [args.at] if args.at else faultlib.choose(len(calls), args.points, number)

        def one(n, scenario=scenario):
            try:
                strike(scratch, registry, scenario, n)
            except Exception as wrong:  # a broken point is a failed one
                return faultlib.told(wrong)
            return None
        count, failures = faultlib.run_points(chosen, one, args.jobs)
        tap.report(not failures, f"{scenario.name}: killed at {count} of {len(calls)} calls",
                   [text for _, text in failures[:args.show]])


# ---- races --------------------------------------------------------------------------------------


def start(box, *argv):
    return subprocess.Popen([LARDER, *argv], env=box.env, cwd=box.path,
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT)


def finish(process):
    out, _ = process.communicate(timeout=faultlib.SECONDS)
    if process.returncode != 0:
        raise Wrong(f"status {process.returncode}: {out.decode(errors='replace')}")


def race(scratch, registry, images, number):
    """Two hosts, a platform each, one tag."""
    repo = f"race{number}"
    with scratch.box() as box:
        commands = [["publish", "--append", f"--repo={registry.host}/{repo}", "--tag=t",
                     f"oci-archive:{path}"] for path in images]
        running = [start(box, *command) for command in commands]
        for process in running:
            finish(process)
        members = registry.manifest(repo, "t")["manifests"]
        got = [m["platform"]["architecture"] for m in members]
        if got != ["amd64", "arm64"]:
            raise Wrong(f"race {number}: the tag has {got}")


def append_races(scratch, registry, count, jobs):
    """Each time both have read the tag before either puts it, and whoever is first is overwritten:
    it has to find out, and to put again. (That a writer reads, and puts only when the other has
    waited and looked again, can't be found out by anybody, and must not happen here.)"""
    images = []
    for arch in ARCHES:
        blobs, manifest = image(arch, "race")
        images.append(os.path.join(scratch.path, f"{arch}.ociarchive"))
        write_archive(images[-1], blobs, manifest)
    registry.admin("PUT", "/_control", compact({"rules": [
        {"match": f"^PUT /v2/race{n}/manifests/t$", "gather": 2, "times": 2}
        for n in range(count)]}))

    def one(number):
        try:
            race(scratch, registry, images, number)
            puts = [line for line in registry.lines(f"race{number}")
                    if line.startswith(f"PUT /v2/race{number}/manifests/t ")]
            if len(puts) != 3:
                raise Wrong(f"race {number}: nobody was overwritten, or too often: {puts}")
        except Exception as wrong:  # the other races still run
            return faultlib.told(wrong)
        return None
    _, failures = faultlib.run_points(range(count), one, jobs)
    registry.admin("PUT", "/_control", b"{}")
    if failures:
        raise Wrong("\n".join(text for _, text in failures[:5]))
    return f"{count} races"


def parallel_keys(scratch, registry, rounds):
    """As release jobs do: several artifacts of one build at once."""
    artifacts = ["ostree", "kubevirt", "extensions-container", "legacy-oscontainer"]
    for number in range(rounds):
        with scratch.box() as box:
            digests = make_build(box, False)
            running = [start(box, "cosa", "push-container-manifest",
                             f"--repo={registry.host}/par{number}-{artifact}", "--tag=t",
                             f"--artifact={artifact}", f"--metajsonname=key-{artifact}")
                       for artifact in artifacts]
            for process in running:
                finish(process)
            for arch, artifact in itertools.product(ARCHES, artifacts):
                entry = read_meta(box, arch).get(f"key-{artifact}")
                if not entry or entry["digest"] != digests[arch] or "additional-images" in entry:
                    raise Wrong(f"{arch}: key-{artifact} is {entry}")
            check_clean(box)
    return f"{rounds} rounds of {len(artifacts)}"


def moved_meanwhile(scratch, registry):
    """Somebody else's list appears at the tag right behind our PUT: found out, not recorded."""
    with scratch.box() as box:
        make_build(box, False)
        scenario = Push()
        repo = "moved"
        registry.admin("POST", "/_image", compact({"repo": repo, "tag": "other",
                                                   "platforms": ["linux/amd64"]}))
        other = registry.admin("GET", f"/_manifest/{repo}/other")
        # The second tag's PUT waits for us.
        registry.admin("PUT", "/_control", compact({"rules": [
            {"match": f"PUT /v2/{repo}/manifests/{BUILD}", "hold": True, "times": 1}]}))
        process = start(box, *scenario.argv(registry, repo))
        try:
            registry.wait_held(repo, process)
            if "stable" not in registry.content(repo)["tags"]:
                raise Wrong(f"{BUILD} is put before stable")
            registry.put(f"/_manifest/{repo}/stable", other,
                         "application/vnd.oci.image.index.v1+json")
        finally:
            registry.release()
            out = process.communicate(timeout=faultlib.SECONDS)[0].decode(errors="replace")
            registry.admin("PUT", "/_control", b"{}")
        if process.returncode != 1 or "somebody else moved it" not in out:
            raise Wrong(f"status {process.returncode}: {out}")
        if KEY in read_meta(box, "x86_64"):
            raise Wrong("recorded all the same")


def main():
    args = faultlib.arguments(__doc__, points=24, operations=24)
    faultlib.need_inject()
    tap = Tap()
    with Scratch() as scratch, Registry(scratch) as registry:
        kill_everywhere(tap, scratch, registry, args)
        if not args.only and not args.at:
            tap.case("append races", append_races, scratch, registry, args.operations, 8)
            tap.case("keys of one meta.json", parallel_keys, scratch, registry, 5)
            tap.case("a tag that another pushes to", moved_meanwhile, scratch, registry)
    return tap.done()


if __name__ == "__main__":
    sys.exit(main())
