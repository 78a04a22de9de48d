#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""From the check of an update to the boot of it: a registry, larder, and the real ostree-ext, which
imports and deploys what larder fetched."""
import json
import os

import ostree_ext  # first: it takes LARDER_PEERS
from ostree_ext import PROGRAM, Images, cached, ext, pull
from registries import Registry, kinds
import interop
from interop import LARDER, case, equal, run
from ostree_rig import Sysroot, can_boot, found, has_updates

interop.need("ostree", "unshare", "setpriv", "chroot")
why = ostree_ext.missing() or can_boot() or has_updates() or \
    (None if kinds() else "no registry here")
if why:
    print(f"1..0 # SKIP {why}")
    raise SystemExit(0)

images = Images("images")
V1 = images.on_base("1", {"usr/share/one": b"one" * 1000})
V2 = images.on_base("2", {"usr/share/one": b"one" * 1000, "usr/share/two": os.urandom(30000)})
V3 = images.on_base("3", {"usr/share/three": b"three" * 1000})
registry = Registry(kinds()[0])
REFERENCE = registry.url("os/test", "stable")
ORIGIN = "ostree-unverified-registry:" + REFERENCE.removeprefix("docker://")
PINNED = os.path.join(interop.work, "pinned")
sysroot = Sysroot("sysroot")
repo = sysroot.repo


def push(digest):
    images.tag("pushed", digest)
    run("skopeo", "--insecure-policy", "copy", "-q", "--dest-tls-verify=false",
        "--preserve-digests", images.at("pushed"), REFERENCE)


def inside(*argv, **more):
    return sysroot.inside(LARDER, "update", *argv, **more)


def shown(verb="show", *argv):
    return json.loads(inside(verb, "--json", *argv).stdout)


def deploy(source):
    """As bootc would, but from here; the origin says where updates come from."""
    argv = ["container", "image", "deploy", "--stateroot", "test", "--imgref",
            f"ostree-unverified-image:{source}", "--target-imgref", ORIGIN]
    if sysroot.booted:
        sysroot.inside(PROGRAM, *argv, "--sysroot", "/")
    else:
        ext(*argv, "--sysroot", sysroot.path)
    return repo.resolve(REFERENCE)


def layers(digest):
    return [layer["digest"] for layer in json.loads(images.read(digest))["layers"]]


push(V1)
images.tag("first", V1)
first = deploy(images.at("first"))
sysroot.boot(first)

with case("a system that ostree-ext deployed: larder asks the registry that its origin names"):
    answer = shown("check")
    equal((answer["ref"], answer["state"]), (REFERENCE, "unchanged"))
    push(V2)
    answer = shown("check")
    equal((answer["state"], found(answer), answer["current"]["digest"]),
          ("available", (V2, "2"), V1))
    equal(cached(repo, first), (V2, "2", 3), "what bootc status reads of the booted deployment")

with case("fetched by digest, though the tag has moved on: only what the system lacks"):
    push(V3)
    inside("fetch", "--partial", "--to", f"oci:{PINNED}:new")
    has = {"sha256:" + name for name in os.listdir(os.path.join(PINNED, "blobs/sha256"))}
    equal([layer in has for layer in layers(V2)], [False, False, True])
    equal(found(shown()), (V2, "2"))

with case("ostree-ext stages exactly that, and goes on to follow the tag"):
    second = deploy(f"oci:{PINNED}:new")
    equal(sysroot.status(), [(" ", second, "staged"), ("*", first, "")])
    with open(sysroot.origin_of(second), encoding="utf-8") as file:
        equal(REFERENCE.removeprefix("docker://") in file.read(), True)
    answer = shown()
    equal({h["role"]: h["digest"] for h in answer["holders"] if h["role"] != "image"},
          {"staged": V2, "booted": V1})
    equal(answer["state"], "staged")

with case("the next update is kept where bootc looks: with the staged deployment"):
    equal(found(shown("check")), (V3, "3"))
    equal((cached(repo, first)[0], cached(repo, second)[0]), (V2, V3))
    equal(os.path.exists(os.path.join(sysroot.directory(second), "usr/share/two")), True)

with case("it outlives the boot, and ostree-ext's own pruning"):
    sysroot.finish()
    sysroot.boot(second)
    sysroot.inside(PROGRAM, "container", "image", "prune-images", "--sysroot", "/", "--full")
    answer = shown()
    equal((answer["state"], found(answer), answer["current"]["digest"]),
          ("available", (V3, "3"), V2))
    equal({h["role"]: h.get("update", {}).get("digest") for h in answer["holders"]
           if h["role"] != "image"}, {"booted": V3, "rollback": V2})
    equal(cached(repo, second), (V3, "3", 2))

with case("with the rollback goes its record, with an image that nobody deployed its own"):
    other = f"oci:{images.path}:other"
    images.tag("other", V1)
    pull(repo, other)
    images.tag("other", V3)
    equal(found(shown("check", "--sysroot", "/", other)), (V3, "3"))
    alone = repo.resolve(other)
    equal(cached(repo, alone)[0], V3)
    sysroot.inside("ostree", "admin", "undeploy", "1")
    sysroot.inside(PROGRAM, "container", "image", "prune-images", "--sysroot", "/", "--full")
    equal([os.path.exists(repo.commitmeta(c)) for c in (first, alone, second)],
          [False, False, True])
    equal(found(shown()), (V3, "3"))
    equal(shown("show", "--sysroot", "/", other)["state"], "unknown")

with case("cleared, and found again"):
    inside("clear")
    equal(cached(repo, second), None)
    equal(shown()["state"], "unknown")
    equal(found(shown("check")), (V3, "3"))
    equal(cached(repo, second), (V3, "3", 2))
registry.stop()
interop.done()
