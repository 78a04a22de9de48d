#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Updates that larder keeps in an ostree repository, read by the real ostree-ext, which bootc and
rpm-ostree are made of; and those that ostree-ext keeps there, read by larder."""
import json

import ostree_ext  # first: it takes LARDER_PEERS
from ostree_ext import Images, cached, check, ext, pull, query
import interop
from interop import case, equal
from ostree_rig import Repo, image, make_tree

interop.need("ostree")
if ostree_ext.missing():
    print(f"1..0 # SKIP {ostree_ext.missing()}")
    raise SystemExit(0)

images = Images("images")
V1 = images.on_base("1", {"usr/share/one": b"one" * 100})
V2 = images.on_base("2", {"usr/share/one": b"one" * 100, "usr/share/two": b"two" * 1000})
V3 = images.on_base("3", {"usr/share/three": b"three" * 1000})
STABLE = images.at("stable")


def repo_with(digest, name):
    """A repository into which ostree-ext has imported an image as STABLE."""
    repo = Repo(name)
    images.tag("stable", digest)
    pull(repo, STABLE)
    return repo


def the_reader():
    with case("ostree-ext reads what these tests write with the ostree command alone"):
        repo = Repo("by-hand")
        old, new = image("1", [("a", 1000)]), image("2", [("a", 1000), ("b", 20)])
        commit = repo.image("docker://example.org/os:stable", old,
                            make_tree("by-hand.tree", "1"))
        told = query(repo, "docker://example.org/os:stable")["image"]
        equal((told["commit"], told["version"], told["cached"]), (commit, "1", None))
        equal(ext("container", "image", "list", "--repo", repo.path).stdout.split(),
              ["docker://example.org/os:stable"])
        repo.keep(commit, new)
        equal(cached(repo, "docker://example.org/os:stable")[1:], ("2", 2))
        equal(cached(repo, commit), cached(repo, "docker://example.org/os:stable"))

    with case("ostree-ext imports these images, and finds the next"):
        repo = repo_with(V1, "imported")
        equal(query(repo, STABLE)["image"]["digest"], V1)
        equal(check(repo, STABLE), None)
        images.tag("stable", V2)
        equal(check(repo, STABLE), json.loads(images.read(V2)))
        equal(cached(repo, STABLE), (V2, "2", 3))
        equal(repo.cached(repo.resolve(STABLE))[0], V2)
        pull(repo, STABLE)
        equal(query(repo, STABLE)["image"]["digest"], V2)


the_reader()
interop.done()
