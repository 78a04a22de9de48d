#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""larder copy, list-tags, delete and inspect against real registries: every server that is here
gets the same treatment, and is looked at behind larder's back."""

import json
import os
import shutil
import subprocess
import time

from registries import KINDS, OCI_INDEX, Registry, kinds  # first: it takes LARDER_PEERS
from registry_gate import Gate
import interop
from interop import LARDER, Store, case, equal, flip, skip
from images import PLAIN_LAYER, Layout, blobs_in

MIB = 1 << 20
TAGS = 1200
# One server is given the big one; a slow suite on a small machine has to end. 4 GiB and more for
# who sets it.
BIG = int(os.environ.get("INTEROP_BIG_MIB", "1024")) * MIB
# Of the whole client, and what it may take: a bound that a blob in memory or a quadratic loop
# breaks, not a benchmark.
BIG_RSS_KIB = 24 * 1024
BIG_SECONDS_EACH = interop.PATIENCE * (1 + BIG // (1024 * MIB))

SBOM = "application/vnd.example.sbom.v1"
store = Store("here")
source = Layout("source")
members = [source.image(f"member-{a}", architecture=a) for a in ("amd64", "arm64", "s390x")]
index = source.index("multi", members)
single = source.image("single", ref="single")
sbom = source.artifact(index, SBOM, b"what is in it", **{"org.example.key": "value"})
signature = source.artifact(members[0], "application/vnd.example.signature.v1", b"signed")
source.entries += [sbom, signature]
pull_me = source.image("pull", ref="pull", layers=[source.blob(os.urandom(96 * MIB), PLAIN_LAYER),
                                                   source.blob(os.urandom(4 * MIB), PLAIN_LAYER)])
big = source.image("big", ref="big", layers=[source.sparse(BIG)])
source.flush()


def larder(*argv, status=0):
    return store.larder(*argv, status=status)


def copy(*argv):
    """What a copy says its digest is."""
    return larder("copy", *argv).stdout.strip()


def uploads(registry):
    """Requests that carry a blob to the registry, or ask it for one."""
    return [r for r in registry.requests() if "/blobs/" in r[1] and "mount=" not in r[1]]


def writes(registry):
    return [r for r in registry.requests() if r[0] not in ("GET", "HEAD")]


def vm_hwm_kib(pid):
    try:
        with open(f"/proc/{pid}/status", encoding="ascii") as f:
            return max([int(line.split()[1]) for line in f if line.startswith("VmHWM")] or [0])
    except (OSError, ValueError):
        return 0


def watched(*argv, limit_s):
    """Peak RSS in KiB of larder with these arguments, which must end well and in time."""
    process = subprocess.Popen([LARDER, *argv], env=store.env, stdin=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    peak, end = 0, time.monotonic() + limit_s
    while process.poll() is None:
        peak = max(peak, vm_hwm_kib(process.pid))
        if time.monotonic() > end:
            process.kill()
            process.wait()
            raise AssertionError(f"{' '.join(argv)}: not done after {limit_s} s")
        time.sleep(0.02)
    equal(process.returncode, 0, process.stderr.read())
    return peak


def forget():
    """Away with what the store has of earlier copies."""
    shutil.rmtree(store.path, ignore_errors=True)


def partials(path):
    """Files of unfinished blobs: in a store, and in a layout."""
    return [os.path.join(top, name) for top, _, names in os.walk(path) for name in names
            if os.path.basename(top) in ("partial", ".larder") and
            not name.endswith((".json", ".lock"))]


def kill_in_the_middle(target, path):
    """Starts a pull that can't end, and ends it by SIGKILL when some of the big blob is there."""
    process = subprocess.Popen([LARDER, "copy", *target], env=store.env, stdin=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        interop.wait_for("8 MiB of a pull", lambda: any(
            size > 8 * MIB for size in map(size_of, partials(path))), process)
    finally:
        process.kill()
        _, said = process.communicate()
    equal(process.returncode, -9, said)


def size_of(path):
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


# ---- the treatment ----

def pushes(kind, registry):
    with case(f"{kind}: an index is pushed whole, and is the same there"):
        equal(copy("oci:source:multi", registry.url("app", "1")), index["digest"])
        equal(registry.digest("app", "1"), index["digest"])
        for digest in source.reachable(index["digest"]):
            path = registry.blob_file("app", digest)
            with open(path, "rb") as f:
                equal(f.read(), source.read(digest), digest)

    with case(f"{kind}: the second copy is one HEAD"):
        registry.mark()
        equal(copy("oci:source:multi", registry.url("app", "1")), index["digest"])
        equal(registry.requests(), [("HEAD", "/v2/app/manifests/1", 200)])

    with case(f"{kind}: more tags are a HEAD and a PUT each, later a HEAD each"):
        tags = [registry.url("app", tag) for tag in ("1", "2", "3")]
        registry.mark()
        copy("oci:source:multi", *tags)
        equal(sorted((m, t) for m, t, _ in registry.requests()),
              [("HEAD", f"/v2/app/manifests/{i}") for i in (1, 2, 3)] +
              [("PUT", f"/v2/app/manifests/{i}") for i in (2, 3)])
        registry.mark()
        copy("oci:source:multi", *tags)
        equal(sorted(r[0] for r in registry.requests()), ["HEAD"] * 3)

    with case(f"{kind}: a pull has every byte, digests equal"):
        equal(copy(registry.url("app", "1"), f"oci:pulled-{kind}:x"), index["digest"])
        equal(blobs_in(f"pulled-{kind}"), source.reachable(index["digest"]))
        equal(copy(registry.url("app", index["digest"]), f"oci-archive:pulled-{kind}.tar:x"),
              index["digest"])
        equal(copy(f"oci-archive:pulled-{kind}.tar:x", f"oci:unpacked-{kind}:x"), index["digest"])
        equal(blobs_in(f"unpacked-{kind}"), source.reachable(index["digest"]))

    with case(f"{kind}: one platform of an index"):
        equal(copy("--platform", "linux/arm64", registry.url("app", "1"),
                   f"oci:one-{kind}:x"), members[1]["digest"])
        equal(blobs_in(f"one-{kind}"), source.reachable(members[1]["digest"]))

    with case(f"{kind}: blobs of another repository are mounted, not moved"):
        registry.mark()
        equal(copy(registry.url("app", "1"), registry.url("team/other", "1")), index["digest"])
        mounts = [r for r in registry.requests() if "mount=" in r[1]]
        blobs = source.reachable(index["digest"]) - {index["digest"]} - \
            {m["digest"] for m in members}
        equal([status for _, _, status in mounts], [201] * len(blobs))
        equal([r for r in uploads(registry) if r[0] != "HEAD"], [])
        equal(registry.digest("team/other", "1"), index["digest"])

    with case(f"{kind}: inspect and diff fetch no layer"):
        registry.mark()
        told = json.loads(larder("inspect", "--platform", "linux/amd64",
                                 registry.url("app", "1")).stdout)
        equal(told["Digest"], index["digest"])
        equal(told["Env"], ["SEED=member-amd64"])
        assert {"1", "2", "3"} <= set(told["RepoTags"]), told["RepoTags"]
        equal(larder("inspect", "--raw", registry.url("app", "1")).stdout.encode(),
              source.read(index["digest"]))
        larder("diff", "--exit-code", registry.url("app", "1"), "oci:source:multi")
        larder("diff", "--exit-code", registry.url("app", "1"), "oci:source:single", status=4)
        layers = [d["digest"] for m in members
                  for d in json.loads(source.read(m["digest"]))["layers"]]
        equal([r for r in registry.requests() if any(d in r[1] for d in layers)], [])

    with case(f"{kind}: what is not there is not found"):
        equal(larder("inspect", registry.url("app", "no"), status=3).stdout, "")
        larder("copy", registry.url("nowhere", "1"), "oci:nothing:x", status=3)
        equal(os.path.exists("nothing"), False)
        larder("list-tags", f"docker://{registry.host}/app/none",
               status=0 if kind == "olareg" else 3)


def referrers(kind, registry):
    with case(f"{kind}: referrers go along, by the API or by the fallback tag"):
        copy("--referrers", "oci:source:multi", registry.url("referred", "1"))
        for subject, artifact, type_ in ((index, sbom, SBOM),
                                         (members[0], signature, signature_type)):
            if kind == "olareg":
                status, _, data = registry.ask("GET", f"/v2/referred/referrers/{subject['digest']}")
                equal(status, 200)
            else:
                data = registry.manifest("referred", subject["digest"].replace(":", "-"))
                equal(json.loads(data)["mediaType"], OCI_INDEX)
            listed, = json.loads(data)["manifests"]
            equal((listed["digest"], listed["artifactType"]), (artifact["digest"], type_))
            if artifact is sbom:
                equal(listed["annotations"], {"org.example.key": "value"})

    with case(f"{kind}: referrers come back, and a second time nothing is sent"):
        copy("--referrers", registry.url("referred", "1"), f"oci:referred-{kind}:x")
        there = blobs_in(f"referred-{kind}")
        for digest in (sbom["digest"], signature["digest"]):
            assert source.reachable(digest) <= there, digest
        registry.mark()
        copy("--referrers", "oci:source:multi", registry.url("referred", "1"))
        equal(writes(registry), [])


signature_type = "application/vnd.example.signature.v1"


def tags(kind, registry):
    with case(f"{kind}: {TAGS} tags in one go, all of them listed"):
        names = [f"t-{i:04}" for i in range(TAGS)]
        registry.mark()
        copy("oci:source:single", *[registry.url("many", name) for name in names])
        equal(len([r for r in writes(registry) if "/manifests/" in r[1]]), TAGS)
        registry.mark()
        listed = larder("list-tags", f"docker://{registry.host}/many").stdout.split()
        equal(len(listed), TAGS)
        equal(sorted(listed), names)
        told = json.loads(larder("list-tags", "--json", f"docker://{registry.host}/many").stdout)
        equal(sorted(told["Tags"]), names)


def deletes(kind, registry):
    with case(f"{kind}: a tag, or all that its manifest has where a registry knows no other way"):
        copy("oci:source:single", registry.url("gone", "a"), registry.url("gone", "b"))
        copy("oci:source:multi", registry.url("gone", "other"))
        only = larder("delete", "--tag-only", registry.url("gone", "a"),
                      status=1 if kind == "docker-registry" else 0)
        if kind == "docker-registry":
            assert "tag" in only.stderr, only.stderr
            equal(registry.digest("gone", "a"), single["digest"])
            larder("delete", registry.url("gone", "a"))
            equal(registry.digest("gone", "b"), None)
        else:
            equal(registry.digest("gone", "b"), single["digest"])
        equal(registry.digest("gone", "a"), None)
        equal(registry.digest("gone", "other"), index["digest"])

    with case(f"{kind}: a manifest, once"):
        larder("delete", registry.url("gone", index["digest"]))
        equal(registry.digest("gone", "other"), None)
        larder("delete", registry.url("gone", index["digest"]), status=3)
        larder("delete", registry.url("gone", "never"), status=3)

    with case(f"{kind}: deleting is refused where it is switched off, and says so"):
        closed = Registry(kind, delete=False)
        copy("oci:source:single", closed.url("app", "1"))
        refused = larder("delete", closed.url("app", single["digest"]), status=1)
        assert "does not delete" in refused.stderr and closed.host in refused.stderr, refused.stderr
        # distribution 3 deletes tags all the same.
        larder("delete", closed.url("app", "1"), status=0 if kind == "distribution" else 1)
        equal(closed.digest("app", single["digest"]), single["digest"])
        closed.stop()


def resumes(kind, registry):
    layers = [d["digest"] for d in json.loads(source.read(pull_me["digest"]))["layers"]]
    copy("oci:source:pull", registry.url("pull", "1"))
    gate = Gate(registry)
    for target, path in ((f"oci:killed-{kind}:x", f"killed-{kind}"),
                         (f"store:killed-{kind}", store.path)):
        title = f"{kind}: a pull to {target.split(':')[0]}: killed goes on where it was"
        with case(title):
            forget()
            gate.hold(48 * MIB)
            try:
                kill_in_the_middle([gate.url("pull", "1"), target], path)
            finally:
                gate.open()
            left = max(map(size_of, partials(path)))
            assert left >= 8 * MIB, left
            registry.mark()
            equal(copy(gate.url("pull", "1"), target), pull_me["digest"])
            asked = [status for method, path_, status in registry.requests()
                     if method == "GET" and layers[0] in path_]
            equal(asked, [206])
            equal(partials(path), [])
            equal(copy(target, f"oci:again-{kind}-{path == store.path}:x"), pull_me["digest"])
            equal(blobs_in(f"again-{kind}-{path == store.path}"),
                  source.reachable(pull_me["digest"]))
    gate.close()


def corrupts(kind, registry):
    layer = json.loads(source.read(members[2]["digest"]))["layers"][1]["digest"]
    file = registry.blob_file("rotten", layer)
    copy("oci:source:multi", registry.url("rotten", "1"))
    flip(file, 100000)
    for target, path in ((f"oci:rotten-{kind}:x", f"rotten-{kind}"),
                         (f"oci-archive:rotten-{kind}.tar:x", f"rotten-{kind}.tar"),
                         (f"store:rotten-{kind}", store.path)):
        with case(f"{kind}: a rotten blob does not get into {target.split(':')[0]}:"):
            forget()
            refused = larder("copy", registry.url("rotten", "1"), target, status=5)
            assert layer in refused.stderr and registry.host in refused.stderr, refused.stderr
            equal(refused.stdout, "")
            hex_ = layer.removeprefix("sha256:")
            equal([name for top, _, names in os.walk(".") for name in names
                   if hex_ in name and top.startswith(("./" + path, "./here"))], [])
            if path.endswith(".tar"):
                equal(os.path.exists(path), False)
            larder("inspect", "--raw", target, status=3)
    flip(file, 100000)
    with case(f"{kind}: healed, all of it is pulled"):
        equal(copy(registry.url("rotten", "1"), f"oci:rotten-{kind}:x"), index["digest"])
        equal(source.reachable(index["digest"]) <= blobs_in(f"rotten-{kind}"), True)


def big_blob(kind, registry):
    with case(f"{kind}: a blob of {BIG // MIB} MiB, there and back, in little memory"):
        up = watched("copy", "oci:source:big", registry.url("big", "1"), limit_s=BIG_SECONDS_EACH)
        equal(registry.digest("big", "1"), big["digest"])
        down = watched("copy", registry.url("big", "1"), "oci:big:x", limit_s=BIG_SECONDS_EACH)
        equal(blobs_in("big"), source.reachable(big["digest"]))
        assert max(up, down) <= BIG_RSS_KIB, f"push {up} KiB, pull {down} KiB"
        print(f"# push {up} KiB, pull {down} KiB")
    shutil.rmtree("big", ignore_errors=True)


for kind_ in KINDS:
    if kind_ not in kinds():
        skip(f"{kind_}: all of it", f"no {kind_} here")
        continue
    registry_ = Registry(kind_)
    for part in (pushes, referrers, tags, deletes, resumes, corrupts):
        part(kind_, registry_)
    if kind_ == kinds()[0]:
        big_blob(kind_, registry_)
    registry_.stop()
    shutil.rmtree(registry_.base)

interop.done()
