#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Updates that larder keeps in an ostree repository, read by the real ostree-ext, which bootc and
rpm-ostree are made of; and those that ostree-ext keeps there, read by larder."""
import json
import os
import subprocess

import ostree_ext  # first: it takes LARDER_PEERS
from ostree_ext import Images, cached, check, ext, pull, query
from images import CONFIG
from registries import Registry, kinds
import interop
from interop import LARDER, case, equal, run, skip
from ostree_rig import (BLOBS, CACHED, Repo, escape, found, has_introspection, has_updates, image,
                        larder, make_tree, told)

interop.need("ostree")
why = ostree_ext.missing() or has_updates() or \
    (None if has_introspection() else "no gir1.2-ostree-1.0 here")
if why:
    print(f"1..0 # SKIP {why}")
    raise SystemExit(0)

images = Images("images")
ONE, TWO = b"one" * 1000, os.urandom(40000)
V1 = images.on_base("1", {"usr/share/one": ONE})
V2 = images.on_base("2", {"usr/share/one": ONE, "usr/share/two": TWO})
V3 = images.on_base("3", {"usr/share/three": b"three" * 1000})
STABLE = images.at("stable")
number = 0


def repo_with(digest, reference=STABLE):
    """A repository into which ostree-ext has imported an image."""
    global number
    number += 1
    repo = Repo(f"repo{number}")
    images.tag("stable", digest)
    pull(repo, reference)
    return repo


def checked(digest, repo, **more):
    """larder's answer when the tag is at this digest."""
    images.tag("stable", digest)
    return told("check", repo, STABLE, **more)


def documents(digest):
    """Manifest and configuration of an image, read."""
    manifest = json.loads(images.read(digest))
    return manifest, json.loads(images.read(manifest["config"]["digest"]))


def bare(document):
    """Without what is empty: ostree-ext writes some of that, and leaves out other."""
    if not isinstance(document, dict):
        return document
    return {k: bare(v) for k, v in document.items() if v not in ({}, [], None)}


def sees(repo, digest, version, layers):
    """ostree-ext finds this update, by the image's name and by its commit, and all of it."""
    manifest, config = documents(digest)
    for of in (STABLE, repo.resolve(STABLE)):
        equal(cached(repo, of), (digest, version, layers), of)
        update = query(repo, of)["image"]["cached"]
        equal(bare(update["manifest"]), bare(manifest))
        equal(bare(update["config"]), bare(config))


def the_reader():
    with case("ostree-ext reads what these tests write with the ostree command alone"):
        repo = Repo("by-hand")
        old, new = image("1", [("a", 1000)]), image("2", [("a", 1000), ("b", 20)])
        name = "docker://example.org/os:stable"
        commit = repo.image(name, old, make_tree("by-hand.tree", "1"))
        state = query(repo, name)["image"]
        equal((state["commit"], state["version"], state["cached"]), (commit, "1", None))
        equal(ext("container", "image", "list", "--repo", repo.path).stdout.split(), [name])
        repo.keep(commit, new)
        equal(cached(repo, name)[1:], ("2", 2))
        equal(cached(repo, commit), cached(repo, name))

    with case("ostree-ext imports these images, and finds the next"):
        repo = repo_with(V1)
        equal(query(repo, STABLE)["image"]["digest"], V1)
        equal(check(repo, STABLE), None)
        images.tag("stable", V2)
        equal(check(repo, STABLE), json.loads(images.read(V2)))
        sees(repo, V2, "2", 3)
        pull(repo, STABLE)
        equal(query(repo, STABLE)["image"]["digest"], V2)


def larder_writes():
    with case("ostree-ext reads the update that larder found"):
        repo = repo_with(V1)
        answer = checked(V2, repo)
        equal((answer["state"], found(answer)), ("available", (V2, "2")))
        equal((answer["persisted"], answer["current"]["digest"]), (True, V1))
        sees(repo, V2, "2", 3)
        kept = repo.cached(repo.resolve(STABLE))
        equal(kept[0], V2)
        equal(kept[1].encode(), images.read(V2), "the registry's own bytes")
        equal(query(repo, STABLE)["image"]["digest"], V1)

    with case("a tag that moved twice: the later one; one that moved back: none"):
        equal(found(checked(V3, repo)), (V3, "3"))
        sees(repo, V3, "3", 2)
        answer = checked(V1, repo)
        equal((answer["state"], found(answer)), ("unchanged", None))
        equal(cached(repo, STABLE), None)
        equal(check(repo, STABLE), None)
        equal(larder("update", "check", "--exit-code", "--ostree-repo", repo.path, STABLE,
                     status=77).returncode, 77)

    with case("an image that was only packed again is an update for neither"):
        again = images.on_base("again", {"usr/share/one": ONE}, level=1,
                               labels={"org.opencontainers.image.version": "1"})
        equal(again != V1 and json.loads(images.read(again))["config"] ==
              json.loads(images.read(V1))["config"], True)
        equal(checked(again, repo)["state"], "unchanged")
        equal(check(repo, STABLE), None)
        equal(cached(repo, STABLE), None)

    with case("labels of any letters, a manifest of many pages"):
        big = images.on_base("grün 42 — 日本", {"usr/share/one": ONE},
                             labels={"who": "Zoë\u2028\U0001F600 \"q\" \\ \t"},
                             annotations={"org.example.note": "naïve \U0001F600 " * 2000})
        equal(len(images.read(big)) > 4096, True)
        equal(found(checked(big, repo)), (big, "grün 42 — 日本"))
        sees(repo, big, "grün 42 — 日本", 2)
        equal(told("show", repo, STABLE)["update"]["version"], "grün 42 — 日本")

    with case("of a list, both take this machine's image"):
        other = images.on_base("other", {"usr/share/one": b"other"})
        entry = {e["digest"]: e for e in images.entries}
        images.index("list", [
            {**{k: entry[d][k] for k in ("mediaType", "digest", "size")},
             "platform": {"os": "linux", "architecture": a}}
            for d, a in ((other, "riscv64"), (V2, documents(V2)[1]["architecture"]))])
        listed = images.entries[-1]["digest"]
        answer = checked(listed, repo)
        equal((found(answer), answer["listed"]), ((V2, "2"), listed))
        sees(repo, V2, "2", 3)
        larder("update", "clear", "--ostree-repo", repo.path, STABLE)
        equal(cached(repo, STABLE), None)
        check(repo, STABLE)
        equal(cached(repo, STABLE), (V2, "2", 3))


def strange(change, config=True):
    """The digest of V2 with another configuration, or another manifest."""
    manifest, document = documents(V2)
    change(document if config else manifest)
    manifest["config"] = images.blob(json.dumps(document).encode(), CONFIG)
    return images.document(manifest, f"strange{len(images.entries)}")["digest"]


def strangers():
    """OCI lets more be left out than ostree-ext does, which loses sight of the whole image when it
    can't read its update."""
    for title, digest, is_update in (
            ("no history", strange(lambda c: c.pop("history")), True),
            ("a history of null", strange(lambda c: c.update(history=None)), True),
            ("no created", strange(lambda c: c.pop("created")), True),
            ("no config", strange(lambda c: c.pop("config")), True),
            ("labels of null", strange(lambda c: c["config"].update(Labels=None)), True),
            ("a key that nobody knows", strange(lambda c: c.update(x={"y": []})), True),
            ("more in its manifest", strange(lambda m: m.update(x=1), False), True),
            ("no type in its manifest", images.base, True),
            ("no os", strange(lambda c: c.pop("os")), False),
            ("no architecture", strange(lambda c: c.pop("architecture")), False),
            ("a root without a type", strange(lambda c: c["rootfs"].pop("type")), False),
            ("no root", strange(lambda c: c.pop("rootfs")), False),
            ("no diff ids", strange(lambda c: c["rootfs"].pop("diff_ids")), False),
            ("a time that is a number", strange(lambda c: c.update(created=5)), False),
            ("a label that is a number",
             strange(lambda c: c["config"]["Labels"].update(x=5)), False),
            ("a layer of negative size",
             strange(lambda m: m["layers"][0].update(size=-1), False), False),
            ("a configuration that is a list", strange_list(), False)):
        with case(f"ostree-ext does not lose the image by an update with {title}"):
            repo = repo_with(V1)
            images.tag("stable", digest)
            ended = larder("update", "check", "--json", "--ostree-repo", repo.path, STABLE,
                           status=None)
            state = query(repo, STABLE)
            equal(state.get("error"), None)
            equal(state["image"]["digest"], V1)
            update = state["image"]["cached"]
            if is_update:
                equal((ended.returncode, update["digest"]), (0, digest), ended.stderr)
            if ended.returncode == 0:
                answer = json.loads(ended.stdout)
                equal((answer["state"], answer["update"]["digest"]), ("available", digest))
                if answer["persisted"]:
                    equal((found(told("show", repo, STABLE)), update["digest"]),
                          (found(answer), digest))


def strange_list():
    manifest, _ = documents(V2)
    manifest["config"] = images.blob(b"[]", CONFIG)
    return images.document(manifest, "list")["digest"]


def larder_reads():
    with case("larder shows the update that ostree-ext found"):
        repo = repo_with(V1)
        equal(told("show", repo, STABLE)["state"], "unknown")
        images.tag("stable", V2)
        check(repo, STABLE)
        images.tag("stable", V3)  # nobody is asked
        answer = told("show", repo, STABLE)
        equal((answer["state"], found(answer), answer["current"]["digest"]),
              ("available", (V2, "2"), V1))
        equal([layer["change"] for layer in answer["update"]["diff"]["layers"]],
              ["kept", "kept", "added"])
        equal(answer["update"]["layersNeeded"], 1)
        equal([line for line in run(LARDER, "update", "list", "--ostree-repo",
                                    repo.path).stdout.splitlines() if STABLE in line] != [], True)

    with case("of the difference both say the same lines"):
        for digest in (V2, V3):
            images.tag("stable", digest)
            check(repo, STABLE)
            theirs = run(ostree_ext.PROGRAM, "diff", repo.path, STABLE).stdout
            ours = larder("update", "show", "--ostree-repo", repo.path, STABLE).stdout
            for line in theirs.replace("\u00a0", " ").splitlines():
                equal(line.rstrip() in [text.replace("\u00a0", " ").strip()
                                        for text in ours.splitlines()], True,
                      f"{line!r} in {ours!r}")

    with case("larder finds again what ostree-ext had found, and the other way round"):
        answer = checked(V3, repo)
        equal((found(answer), answer["persisted"]), ((V3, "3"), True))
        sees(repo, V3, "3", 2)
        images.tag("stable", V2)
        check(repo, STABLE)
        equal(found(told("show", repo, STABLE)), (V2, "2"))
        equal(checked(V2, repo)["state"], "available")
        sees(repo, V2, "2", 3)

    with case("keys of others stay, but for the ones that ostree-ext drops"):
        commit = repo.resolve(STABLE)
        repo.set_detached(commit, org__example__key=("s", "theirs"), org__example__n=("t", 7))
        checked(V3, repo)
        sees(repo, V3, "3", 2)
        equal(repo.detached(commit)["org.example.key"], ["s", "theirs"])
        larder("update", "clear", "--ostree-repo", repo.path, STABLE)
        larder("update", "clear", "--ostree-repo", repo.path, STABLE)
        equal(repo.detached(commit), {"org.example.key": ["s", "theirs"],
                                      "org.example.n": ["t", 7]})
        equal(cached(repo, STABLE), None)
        images.tag("stable", V2)
        check(repo, STABLE)
        equal(sorted(repo.detached(commit)),
              [CACHED + k for k in ("config", "manifest", "manifest-digest")])


def both_at_once():
    with case("checks of both at once: at any time ostree-ext reads one update or the other"):
        repo = repo_with(V1)
        ours = [LARDER, "update", "check", "--quiet", "--ostree-repo", repo.path, STABLE]
        theirs = [ostree_ext.PROGRAM, "container", "image", "pull", "--quiet", "--check",
                  os.path.join(interop.work, "at-once"), repo.path,
                  f"ostree-unverified-image:{STABLE}"]
        seen = set()
        for i in range(25):
            images.tag("stable", (V2, V3)[i % 2])
            running = [subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
                       for argv in (ours, theirs, ours, theirs)]
            while any(process.poll() is None for process in running):
                seen.add(cached(repo, STABLE))
            equal([process.returncode for process in running], [0] * 4)
            seen.add(cached(repo, STABLE))
            equal(cached(repo, STABLE)[0], (V2, V3)[i % 2])
            equal(found(told("show", repo, STABLE))[0], (V2, V3)[i % 2])
        equal(seen - {None}, {(V2, "2", 3), (V3, "3", 2)})


def damage():
    with case("a damaged record: ostree-ext loses sight of the image, larder says so and mends it"):
        repo = repo_with(V1)
        commit = repo.resolve(STABLE)
        for broken in ({"config": None}, {"manifest": ("s", "{")}, {"manifest-digest": ("t", 5)},
                       {"manifest": ("u", 5)}, {"manifest-digest": ("s", "sha256:0")}):
            checked(V2, repo)
            repo.set_detached(commit, **{CACHED + k: v or (None, None)
                                         for k, v in broken.items()})
            equal("error" in query(repo, STABLE), True, str(broken))
            answer = told("show", repo, STABLE, status=5)
            equal((answer["state"], found(answer), answer["current"]["digest"]),
                  ("corrupt", None, V1), str(broken))
            if "config" in broken:
                larder("update", "clear", "--ostree-repo", repo.path, STABLE)
                equal(cached(repo, STABLE), None)
            else:
                checked(V3, repo)
                sees(repo, V3, "3", 2)

    with case("metadata of no bytes is no update"):
        repo.detached(commit, "empty")
        equal(os.path.getsize(repo.commitmeta(commit)), 0)
        equal(cached(repo, STABLE), None)
        equal(told("show", repo, STABLE)["state"], "unknown")
        checked(V2, repo)
        sees(repo, V2, "2", 3)


def lifecycle():
    with case("an import consumes the record; the commit before keeps it"):
        repo = repo_with(V1)
        first = repo.resolve(STABLE)
        checked(V2, repo)
        pull(repo, STABLE)
        second = repo.resolve(STABLE)
        equal((cached(repo, second), cached(repo, first)[0]), (None, V2))
        answer = told("show", repo, STABLE)
        equal((found(answer), answer["current"]["digest"]), (None, V2))
        equal(checked(V2, repo)["state"], "unchanged")

    with case("what larder keeps protects nothing from ostree-ext's own pruning, nor stops it"):
        checked(V3, repo)
        needed = BLOBS + escape(documents(V3)[0]["layers"][1]["digest"])
        ext("container", "image", "prune-layers", "--repo", repo.path)
        equal(needed in repo.ostree("refs").split(), False)
        sees(repo, V3, "3", 2)
        repo.ostree("prune", "--refs-only")
        equal(os.path.exists(repo.commitmeta(first)), False)
        sees(repo, V3, "3", 2)

    with case("a record travels with a copy of the repository"):
        for copy in ("container", "pull-local"):
            there = Repo(f"there-{copy}")
            if copy == "container":
                ext("container", "image", "copy", "--src-repo", repo.path, "--dest-repo",
                    there.path, f"ostree-unverified-image:{STABLE}")
            else:
                there.ostree("pull-local", "--disable-verify-bindings", repo.path)
            sees(there, V3, "3", 2)
            equal(found(told("show", there, STABLE)), (V3, "3"))
            equal(checked(V2, there)["state"], "unchanged")
            equal(cached(there, STABLE), None)

    with case("a removed image has no record, and is cleared all the same"):
        second = repo.resolve(STABLE)
        ext("container", "image", "remove", "--repo", repo.path, STABLE)
        repo.ostree("prune", "--refs-only")
        equal(os.path.exists(repo.commitmeta(second)), False)
        answer = told("show", repo, STABLE)
        equal((answer["state"], found(answer)), ("unknown", None))
        larder("update", "clear", "--ostree-repo", repo.path, STABLE)


def fetched():
    """ostree-ext imports from a layout into which larder fetched only what is not there."""
    with case("ostree-ext imports what larder fetched, with the layers that were missing alone"):
        repo = repo_with(V1)
        checked(V2, repo)
        images.tag("stable", V3)  # the tag moves on: it is not asked
        there = os.path.join(interop.work, "fetched")
        answer = json.loads(larder("update", "fetch", "--json", "--partial", "--to",
                                   f"oci:{there}:new", "--ostree-repo", repo.path, STABLE).stdout)
        equal((answer["digest"], answer["layers_fetched"]), (V2, 1))
        layers = [layer["digest"] for layer in documents(V2)[0]["layers"]]
        has = {"sha256:" + name for name in os.listdir(os.path.join(there, "blobs/sha256"))}
        equal([layer in has for layer in layers], [False, False, True])
        pull(repo, f"oci:{there}:new")
        equal(query(repo, f"oci:{there}:new")["image"]["digest"], V2)
        tree = os.path.join(interop.work, "checkout")
        repo.ostree("checkout", "-U", repo.resolve(f"oci:{there}:new"), tree)
        for name, data in (("one", ONE), ("two", TWO)):
            with open(os.path.join(tree, "usr/share", name), "rb") as file:
                equal(file.read() == data, True, name)
        sees(repo, V2, "2", 3)

    with case("a layer that went from the repository since is missing, and fetched by the next run"):
        repo.ostree("refs", "--delete", BLOBS + escape(layers[1]))
        answer = json.loads(larder("update", "fetch", "--json", "--partial", "--to",
                                   f"oci:{there}:again", "--ostree-repo", repo.path,
                                   STABLE).stdout)
        equal((answer["layers_fetched"], answer["was_there"]), (1, False))
        pull(repo, f"oci:{there}:again")
        equal(query(repo, f"oci:{there}:again")["image"]["digest"], V2)

    with case("a fetch of all of it is what an empty repository needs"):
        larder("update", "fetch", "--to", f"oci:{there}:new", "--ostree-repo", repo.path, STABLE)
        empty = Repo("empty")
        pull(empty, f"oci:{there}:new")
        equal(query(empty, f"oci:{there}:new")["image"]["digest"], V2)


def as_printed():
    with case("the command that fetch prints imports the image, as it stands"):
        repo = repo_with(V1)
        checked(V2, repo)
        there = os.path.join(interop.work, "with a 'space")
        printed = larder("update", "fetch", "--partial", "--to", f"oci:{there}:new",
                         "--ostree-repo", repo.path, STABLE).stdout
        command, = [line.removeprefix("Import:").strip() for line in printed.splitlines()
                    if line.startswith("Import:")]
        # What ostree runs for "ostree container"; a package of ostree-ext's would have it.
        os.mkdir("bin")
        os.symlink(ostree_ext.PROGRAM, "bin/ostree-container")
        path = os.path.abspath("bin") + os.pathsep + os.environ["PATH"]
        run("sh", "-c", command, env={**os.environ, "PATH": path}, cwd="/")
        equal(query(repo, f"oci:{there}:new")["image"]["digest"], V2)


def repositories():
    for mode in ("bare", "bare-user-only"):
        if mode == "bare" and os.geteuid() != 0:
            skip(f"a repository of mode {mode}", "not root")
            continue
        with case(f"a repository of mode {mode}"):
            repo = Repo(mode, mode=mode)
            images.tag("stable", V1)
            pull(repo, STABLE)
            equal(found(checked(V2, repo)), (V2, "2"))
            sees(repo, V2, "2", 3)

    with case("of a repository with a parent both read, and write the child alone"):
        parent = repo_with(V1)
        commit = parent.resolve(STABLE)
        checked(V2, parent)
        child = Repo("child")
        child.ostree("config", "set", "core.parent", parent.path)
        for name in parent.ostree("refs").split():
            path = os.path.join(child.path, "refs/heads", name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w", encoding="ascii") as file:
                file.write(parent.ostree("rev-parse", name) + "\n")
        sees(child, V2, "2", 3)
        equal(found(told("show", child, STABLE)), (V2, "2"))
        checked(V3, child)
        sees(child, V3, "3", 2)
        sees(parent, V2, "2", 3)
        equal(os.path.exists(child.commitmeta(commit)), True)


def registry_images():
    registry = Registry(kinds()[0])
    name = registry.url("os/test", "stable")
    more = ["--insecure-skip-tls-verification"]

    def push(digest, *options):
        images.tag("pushed", digest)
        run("skopeo", "--insecure-policy", "copy", "-q", "--dest-tls-verify=false", *options,
            images.at("pushed"), name)
        return registry.digest("os/test", "stable")

    with case(f"of {registry.kind}: Docker's schema 2, which both write as OCI"):
        repo = Repo("docker")
        first = push(V1, "--preserve-digests")
        pull(repo, name, *more)
        equal((first, query(repo, name)["image"]["digest"]), (V1, V1))
        second = push(V2, "--format", "v2s2")
        answer = told("check", repo, name)
        equal((answer["state"], found(answer)), ("available", (second, "2")))
        ours = query(repo, name)["image"]["cached"]
        equal((ours["digest"], ours["version"], ours["layers"]), (second, "2", 3))
        equal(answer, {**told("show", repo, name), **{k: answer[k] for k in answer if k not in
                                                      told("show", repo, name)}})
        check(repo, name, *more)
        theirs = query(repo, name)["image"]["cached"]
        equal(ours["digest"], theirs["digest"])
        # skopeo writes the configuration anew, too, which has another digest then.
        for one in (ours, theirs):
            one["manifest"]["config"] = one["manifest"]["config"]["mediaType"]
        equal(bare(ours["manifest"]), bare(theirs["manifest"]))
        equal(bare(ours["config"]), bare(theirs["config"]))
        equal(found(told("show", repo, name)), (second, "2"))

    with case(f"of {registry.kind}: an import of the schema 2 image is the base of the next check"):
        pull(repo, name, *more)
        equal(query(repo, name)["image"]["digest"], second)
        answer = told("check", repo, name)
        equal((answer["state"], answer["current"]["digest"]), ("unchanged", second))
        third = push(V3, "--preserve-digests")
        answer = told("check", repo, name)
        equal((found(answer), answer["current"]["digest"]), ((third, "3"), second))
        equal(cached(repo, name), (third, "3", 2))

    with case(f"of {registry.kind}: fetched by digest when the tag moved, imported by ostree-ext"):
        push(V1, "--preserve-digests")
        there = os.path.join(interop.work, "pinned")
        larder("update", "fetch", "--partial", "--to", f"oci:{there}:new", "--ostree-repo",
               repo.path, name)
        equal(found(told("show", repo, name)), (V3, "3"))
        pull(repo, f"oci:{there}:new")
        equal(query(repo, f"oci:{there}:new")["image"]["digest"], V3)
    registry.stop()


the_reader()
larder_writes()
strangers()
larder_reads()
both_at_once()
damage()
lifecycle()
fetched()
as_printed()
repositories()
if kinds():
    registry_images()
else:
    skip("images of a registry", "no registry here")
interop.done()
