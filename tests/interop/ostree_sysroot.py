#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Updates of a booted system: what each of its deployments is told, on a sysroot that ostree itself
made, in a mount namespace that ostree takes for a boot of it."""
import json
import os
import re
import struct

import interop
from interop import LARDER, case, equal, run, skip
from images import Layout
from ostree_rig import (Repo, Sysroot, can_boot, digest, found, has_updates, image, larder,
                        make_tree, told)

interop.need("ostree", "unshare", "setpriv", "chroot")

UNIT = os.path.join(os.environ["LARDER_SOURCE"], "data/systemd/larder-update-booted.service")


def capabilities():
    """What the unit leaves: "+sys_admin,+chown"."""
    with open(UNIT, encoding="utf-8") as file:
        names = re.search("^CapabilityBoundingSet=(.+)$", file.read(), re.M)[1].lower().split()
    return ",".join("+" + name.removeprefix("cap_") for name in names)

why = can_boot()
if why:
    print(f"1..0 # SKIP {why}")
    raise SystemExit(0)

layout = Layout(os.path.join(interop.work, "layout"))
REFERENCE = f"oci:{layout.path}:stable"
ORIGIN = f"ostree-unverified-image:{REFERENCE}"
DOCUMENTS = {v: image(v, [("base", 1000), (f"of {v}", 100 * int(v))]) for v in "123"}
DIGESTS = {v: digest(manifest) for v, (manifest, _) in DOCUMENTS.items()}


def offer(version, tag="stable"):
    """What the reference points to from now on. Its layers are nobody's business here."""
    manifest, config = DOCUMENTS[version]
    layout.blob(config.encode(), "")
    layout.entries = [entry for entry in layout.entries
                      if entry["annotations"]["org.opencontainers.image.ref.name"] != tag]
    equal(layout.document(json.loads(manifest), tag)["digest"], DIGESTS[version])


def imported(repo, version):
    """The commit of an image as an import leaves it: the reference's ref is on it."""
    number = len(os.listdir(interop.work))
    return repo.image(REFERENCE, DOCUMENTS[version], make_tree(f"tree{number}", version))


def by_role(answer):
    """{role: (digest of its image, of the update kept with it)}"""
    return {h["role"]: (h["digest"], h.get("update", {}).get("digest")) for h in answer["holders"]}


def the_rig():
    sysroot = Sysroot("rig")
    first = imported(sysroot.repo, "1")
    with case("ostree takes the namespace for a booted system"):
        sysroot.deploy(first, ORIGIN)
        sysroot.boot(first)
        equal(sysroot.status(), [("*", first, "")])
        equal(sysroot.inside("stat", "-c", "%d:%i", "/").stdout,
              run("stat", "-c", "%d:%i", sysroot.directory(first)).stdout)

    with case("it has a pending deployment, a staged one, and after a boot one to roll back to"):
        second = imported(sysroot.repo, "2")
        sysroot.deploy(second, ORIGIN)
        equal(sysroot.status(), [(" ", second, "pending"), ("*", first, "")])
        sysroot.boot(second)
        equal(sysroot.status(), [("*", second, ""), (" ", first, "rollback")])
        third = imported(sysroot.repo, "3")
        sysroot.deploy(third, ORIGIN, "--stage")
        equal(sysroot.status(), [(" ", third, "staged"), ("*", second, ""),
                                 (" ", first, "rollback")])
        equal(os.path.exists(os.path.join(sysroot.run, "ostree/staged-deployment")), True)

    with case("its disk can be read-only"):
        equal(sysroot.inside("touch", "/sysroot/ostree/repo/x", status=None,
                             read_only=True).returncode, 1)
        equal(sysroot.inside("ostree", "admin", "status", read_only=True).returncode, 0)


def one_system():
    """A system's life: an update is found, staged, booted, and rolled back from."""
    sysroot = Sysroot("system")
    repo = sysroot.repo
    inside = sysroot.inside
    first = imported(repo, "1")
    sysroot.deploy(first, ORIGIN)
    sysroot.boot(first)

    with case("a booted system without options: larder looks at what it follows"):
        answer = json.loads(inside(LARDER, "update", "show", "--json").stdout)
        equal((answer["ref"], answer["state"]), (REFERENCE, "unknown"))
        equal(by_role(answer), {"image": (DIGESTS["1"], None), "booted": (DIGESTS["1"], None)})
        offer("1")
        equal(json.loads(inside(LARDER, "update", "check", "--json").stdout)["state"], "unchanged")

    with case("an update is kept with the booted deployment"):
        offer("2")
        answer = json.loads(inside(LARDER, "update", "check", "--json").stdout)
        equal((answer["state"], found(answer)), ("available", (DIGESTS["2"], "2")))
        equal(repo.cached(first)[0], DIGESTS["2"])
        shown = json.loads(inside(LARDER, "update", "show", "--json").stdout)
        equal(by_role(shown), {"image": (DIGESTS["1"], DIGESTS["2"]),
                               "booted": (DIGESTS["1"], DIGESTS["2"])})
        equal(shown["update"]["diff"], answer["update"]["diff"])
        text = inside(LARDER, "update", "show").stdout
        for part in ("Version: 2", DIGESTS["2"], "Booted: 1"):
            equal(part in text, True, text)

    with case("the same from outside, by the path of the sysroot, and of its repository"):
        for place in (sysroot.path, repo):
            equal(found(told("show", place, REFERENCE)), (DIGESTS["2"], "2"))
        equal(told("show", sysroot.path)["ref"], REFERENCE)

    second = imported(repo, "2")
    sysroot.deploy(second, ORIGIN, "--stage")
    with case("once it is staged, show says so"):
        shown = json.loads(inside(LARDER, "update", "show", "--json").stdout)
        equal(by_role(shown), {"image": (DIGESTS["2"], None), "staged": (DIGESTS["2"], None),
                               "booted": (DIGESTS["1"], DIGESTS["2"])})
        equal((shown["state"], found(shown)), ("staged", (DIGESTS["2"], "2")))
        equal("Staged already" in inside(LARDER, "update", "show").stdout, True)
        listed = json.loads(inside(LARDER, "update", "list", "--json").stdout)["updates"]
        equal([(one["ref"], one["state"]) for one in listed], [(REFERENCE, "staged")])

    with case("libostree is not needed to show that, nor to say that nothing is new"):
        alone = ["env", "LARDER_OSTREE_READER=only", LARDER, "update"]
        for verb in ("show", "list"):
            equal(inside(*alone, verb, "--json").stdout,
                  inside(LARDER, "update", verb, "--json").stdout)
        inside(LARDER, "update", "check")
        equal(json.loads(inside(*alone, "check", "--json").stdout)["state"], "unchanged")

    with case("a boot as later ostree tells of it: of this root, or of one that another covers"):
        root = os.stat(sysroot.directory(first))
        shown = inside(LARDER, "update", "show", "--json").stdout
        for inode, is_read in ((root.st_ino, True), (root.st_ino + 1, False)):
            # {'backing-root-device-inode': <(DEVICE, INODE)>}
            sysroot.boot(first, b"backing-root-device-inode\0\0\0\0\0\0\0" +
                         struct.pack("=QQ", root.st_dev, inode) + b"\0(tt)\x1a\x36")
            equal(inside(LARDER, "update", "show", "--json").stdout, shown)
            equal(inside(*alone, "show", "--json", status=None).returncode == 0, is_read)
        sysroot.boot(first)

    with case("what is found then is kept with the staged one, and the booted one keeps its own"):
        offer("3")
        inside(LARDER, "update", "check")
        equal((repo.cached(first)[0], repo.cached(second)[0]), (DIGESTS["2"], DIGESTS["3"]))
        shown = json.loads(inside(LARDER, "update", "show", "--json").stdout)
        equal(by_role(shown), {"image": (DIGESTS["2"], DIGESTS["3"]),
                               "staged": (DIGESTS["2"], DIGESTS["3"]),
                               "booted": (DIGESTS["1"], DIGESTS["2"])})
        equal((shown["state"], found(shown)), ("available", (DIGESTS["3"], "3")))

    with case("it survives the boot: booted now, with one to roll back to"):
        sysroot.finish()
        sysroot.boot(second)
        equal(sysroot.status(), [("*", second, ""), (" ", first, "rollback")])
        shown = json.loads(inside(LARDER, "update", "show", "--json").stdout)
        equal(by_role(shown), {"image": (DIGESTS["2"], DIGESTS["3"]),
                               "booted": (DIGESTS["2"], DIGESTS["3"]),
                               "rollback": (DIGESTS["1"], DIGESTS["2"])})

    with case("a disk that is read-only but for who changes it: kept, and read-only it stays"):
        inside(LARDER, "update", "clear", read_only=True, can_mount=True)
        equal(repo.cached(second)[0], None)
        ended = inside("sh", "-c", '"$1" update check --json && ! touch /sysroot/x', "sh", LARDER,
                       read_only=True, can_mount=True)
        answer = json.loads(ended.stdout)
        equal((answer["state"], answer["persisted"], answer["record"]),
              ("available", True, "repository"))
        equal(("warning" in ended.stderr, os.path.exists(f"{sysroot.path}/x")), (False, False))
        equal(repo.cached(second)[0], DIGESTS["3"])

    with case("the same with the capabilities of larder-update-booted.service, and no others"):
        inside(LARDER, "update", "clear", read_only=True, can_mount=True)
        ended = inside("setpriv", f"--bounding-set=-all,{capabilities()}", "--inh-caps=-all",
                       "--no-new-privs", LARDER, "update", "check", "--json", "--sysroot", "/",
                       read_only=True, can_mount=True)
        answer = json.loads(ended.stdout)
        equal((answer["persisted"], answer["record"]), (True, "repository"), ended.stderr)
        equal(repo.cached(second)[0], DIGESTS["3"])

    with case("a disk that is read-only: the answer, one warning, nothing kept"):
        inside(LARDER, "update", "clear")
        equal(repo.cached(second)[0], None)
        ended = inside(LARDER, "update", "check", "--json", read_only=True)
        answer = json.loads(ended.stdout)
        equal((answer["state"], answer["persisted"]), ("available", False))
        equal(len(ended.stderr.splitlines()), 1, ended.stderr)
        equal(repo.cached(second)[0], None)
        inside(LARDER, "update", "check", "--require-persist", read_only=True, status=1)
        shown = json.loads(inside(LARDER, "update", "show", "--json", read_only=True).stdout)
        equal((shown["state"], found(shown)), ("unknown", None))
        inside(LARDER, "update", "clear", read_only=True)

    with case("a state directory keeps it then, as long as the base is the same"):
        state = ["--state-dir", os.path.join(interop.work, "state")]
        ended = inside(LARDER, "update", "check", "--json", *state, read_only=True)
        equal((json.loads(ended.stdout)["persisted"], ended.stderr), (True, ""))
        shown = json.loads(inside(LARDER, "update", "show", "--json", *state,
                                  read_only=True).stdout)
        equal((shown["state"], found(shown), shown["record"]),
              ("available", (DIGESTS["3"], "3"), "state directory"))
        listed = json.loads(inside(LARDER, "update", "list", "--json", *state,
                                   read_only=True).stdout)["updates"]
        equal([(one["ref"], found(one)) for one in listed], [(REFERENCE, (DIGESTS["3"], "3"))])
        for verb in ("show", "list"):
            equal(DIGESTS["3"] in inside(LARDER, "update", verb, "--json", read_only=True).stdout,
                  False)
        third = imported(repo, "3")
        shown = json.loads(inside(LARDER, "update", "show", "--json", *state,
                                  read_only=True).stdout)
        equal((found(shown), shown["current"]["digest"]), (None, DIGESTS["3"]))
        inside(LARDER, "update", "check", *state)
        equal(repo.cached(third)[0], None)

    with case("a record in a disk that became read-only can't be cleared, and nothing else can"):
        offer("2")
        inside(LARDER, "update", "check")
        equal(repo.cached(third)[0], DIGESTS["2"])
        inside(LARDER, "update", "clear", read_only=True, status=1)
        equal(found(json.loads(inside(LARDER, "update", "show", "--json",
                                      read_only=True).stdout)), (DIGESTS["2"], "2"))

    with case("ostree's own cleaning up takes a record away with its commit"):
        equal(os.path.exists(repo.commitmeta(first)), True)
        inside("ostree", "admin", "undeploy", "1")
        repo.ostree("prune", "--refs-only")
        equal(os.path.exists(repo.commitmeta(first)), False)
        equal(found(json.loads(inside(LARDER, "update", "show", "--json").stdout)),
              (DIGESTS["2"], "2"))


def other_systems():
    with case("packages layered on an image: the deployment has another commit than the image"):
        sysroot = Sysroot("layered")
        first = imported(sysroot.repo, "1")
        sysroot.repo.ref("rpmostree/base/0", first)
        layered = sysroot.repo.commit(make_tree("tree-layered", "layered"))
        sysroot.deploy(layered, ORIGIN)
        sysroot.boot(layered)
        offer("2")
        sysroot.inside(LARDER, "update", "check")
        equal(sysroot.repo.cached(first)[0], DIGESTS["2"])
        shown = json.loads(sysroot.inside(LARDER, "update", "show", "--json").stdout)
        equal((shown["state"], found(shown), shown["current"]["digest"]),
              ("available", (DIGESTS["2"], "2"), DIGESTS["1"]))
        equal([(h["role"], h["commit"]) for h in shown["holders"]],
              [("image", first), ("booted", layered)])

    with case("the ref of the image is gone, its deployment is not"):
        sysroot = Sysroot("no-ref")
        repo = sysroot.repo
        first = imported(repo, "1")
        sysroot.deploy(first, ORIGIN)
        sysroot.boot(first)
        repo.ostree("refs", "--delete", "ostree/container/image")
        sysroot.inside(LARDER, "update", "check")
        equal(repo.cached(first)[0], DIGESTS["2"])
        shown = json.loads(sysroot.inside(LARDER, "update", "show", "--json").stdout)
        equal((by_role(shown), found(shown)), ({"booted": (DIGESTS["1"], DIGESTS["2"])},
                                               (DIGESTS["2"], "2")))

    with case("the next deployment follows another reference: each has its own update"):
        other = f"oci:{layout.path}:other"
        second = repo.image(other, DOCUMENTS["2"], make_tree("tree-other", "other"))
        sysroot.deploy(second, f"ostree-unverified-image:{other}")
        offer("3", "other")
        sysroot.inside(LARDER, "update", "check", "--sysroot", "/", other)
        shown = json.loads(sysroot.inside(LARDER, "update", "show", "--json").stdout)
        equal((shown["ref"], found(shown)), (REFERENCE, (DIGESTS["2"], "2")))
        shown = told("show", "/", other, within=sysroot.inside)
        equal((by_role(shown)["pending"], found(shown)),
              ((DIGESTS["2"], DIGESTS["3"]), (DIGESTS["3"], "3")))
        listed = json.loads(sysroot.inside(LARDER, "update", "list", "--json", "--sysroot",
                                           "/").stdout)
        equal(sorted(one["ref"] for one in listed["updates"]), sorted([REFERENCE, other]))

    with case("a system without container images: it says so, and a reference is one of the store"):
        sysroot = Sysroot("plain")
        commit = sysroot.repo.commit(make_tree("tree-plain", "plain"))
        sysroot.repo.ref("plain", commit)
        sysroot.admin("deploy", "--os=test", "plain")
        sysroot.boot(commit)
        for verb in ("check", "show"):
            ended = sysroot.inside(LARDER, "update", verb, status=3)
            equal("no deployment follows a container image" in ended.stderr, True, ended.stderr)
        offer("1")
        answer = json.loads(sysroot.inside(LARDER, "update", "check", "--json", REFERENCE).stdout)
        equal((answer["state"], "current" in answer), ("available", False))
        equal("container" in sysroot.repo.ostree("refs"), False)


def somebody_else():
    """Not root, not the owner, on a repository that root made."""
    other = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "env",
             "HOME=/nonexistent"]
    os.chmod(interop.work, 0o755)
    if run(*other, LARDER, "--version", status=None).returncode:
        skip("somebody else's repository", "no setpriv, or a build that others can't read")
        return
    repo = Repo("owned")
    commit = imported(repo, "1")
    offer("2")
    larder("update", "check", "--ostree-repo", repo.path, REFERENCE)

    def as_other(*argv, status=0):
        return run(*other, LARDER, "update", *argv, "--ostree-repo", repo.path, REFERENCE,
                   status=status)

    with case("another user sees the update, and can't keep or clear one"):
        equal(found(json.loads(as_other("show", "--json").stdout)), (DIGESTS["2"], "2"))
        offer("3")
        ended = as_other("check", "--json")
        answer = json.loads(ended.stdout)
        equal((found(answer), answer["persisted"]), ((DIGESTS["3"], "3"), False))
        equal(len(ended.stderr.splitlines()), 1, ended.stderr)
        as_other("clear", status=1)
        equal(repo.cached(commit)[0], DIGESTS["2"])

    with case("another user keeps one in a state directory"):
        state = os.path.join(interop.work, "others")
        os.mkdir(state)
        os.chown(state, 65534, 65534)
        equal(json.loads(as_other("check", "--json", "--state-dir",
                                  state).stdout)["persisted"], True)
        equal(repo.cached(commit)[0], DIGESTS["2"])


the_rig()
why = has_updates()
if why:
    skip("updates of deployments", why)
else:
    one_system()
    other_systems()
    somebody_else()
interop.done()
