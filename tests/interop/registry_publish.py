#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""larder publish and larder cosa push-container-manifest beside podman manifest, whose digests are
to be met to the byte; runs that are killed, and runs that race, at a real registry."""

import json
import os
import shutil
import subprocess
import time

from registries import DOCKER_LIST, OCI_INDEX, Registry, kinds, peer  # first: takes LARDER_PEERS
from registry_gate import Gate
import interop
from interop import LARDER, Store, case, equal, run, sha256, skip
from images import Layout

ARCHES = {"x86_64": ("amd64", None), "aarch64": ("arm64", None), "s390x": ("s390x", None),
          "armv7": ("arm", "v7")}
RACES = 3
KILLS = 12

interop.need("skopeo")
if not kinds():
    print("1..0 # SKIP no registry here")
    raise SystemExit(0)
store = Store("here")
registry = Registry(kinds()[0])
source = Layout("source")
ARCHIVES = {}
for arch, (goarch, variant) in ARCHES.items():
    source.image(arch, ref=arch, architecture=goarch, variant=variant, sizes=(900000, 70000))
    ARCHIVES[arch] = f"{arch}.ociarchive"
    run("skopeo", "--insecure-policy", "copy", "-q", f"oci:source:{arch}",
        "oci-archive:" + ARCHIVES[arch])
SPECS = ["oci-archive:" + path for path in ARCHIVES.values()]


def larder(*argv, status=0):
    return store.larder(*argv, status=status)


def publish(name, tags, *more, status=0):
    return larder("publish", "--repo", f"{registry.host}/{name}",
                  *[x for tag in tags for x in ("--tag", tag)], *more, status=status).stdout.strip()


# ---- podman ----

def podman(*argv):
    return run("podman", "--root", os.path.join(interop.work, "root"), "--runroot",
               os.path.join(interop.work, "runroot"), "--storage-driver", "vfs",
               "--cgroup-manager", "cgroupfs", "--events-backend", "none", *argv).stdout


def podman_pushes(name, specs, *more):
    """The digest of a list as cosa makes it: create, add, push --all."""
    where = f"{registry.host}/{name}"
    podman("manifest", "create", where)
    for spec in specs:
        podman("manifest", "add", "--tls-verify=false", where, spec)
    podman("manifest", "push", "--tls-verify=false", "--all", *more, where, "docker://" + where,
           "--digestfile", "digestfile")
    podman("manifest", "rm", where)
    with open("digestfile", encoding="ascii") as f:
        return f.read()


def why_no_podman():
    """None, or why podman can't be asked here."""
    if not peer("podman") or os.geteuid() != 0:
        return "no podman here, or not root"
    try:
        podman("manifest", "create", "example.org/try:1")
        podman("manifest", "rm", "example.org/try:1")
    except AssertionError as problem:
        return "it makes no lists: " + str(problem).replace("#", "").splitlines()[-1]
    return None


WHY_NOT = why_no_podman()
HAS_PODMAN = not WHY_NOT


def golden():
    with case("the list is podman's, to the byte"):
        digest = podman_pushes("podman/app:1", SPECS)
        equal(publish("golden", ["1"], *SPECS), digest)
        equal(registry.manifest("golden", "1"), registry.manifest("podman/app", "1"))

    with case("with --v2s2 the list and its members are podman's -f v2s2"):
        digest = podman_pushes("podman/docker:1", SPECS, "-f", "v2s2")
        equal(publish("golden-docker", ["1"], "--v2s2", *SPECS), digest)
        equal(registry.manifest("golden-docker", "1"), registry.manifest("podman/docker", "1"))
        listed = json.loads(registry.manifest("golden-docker", "1"))
        equal(listed["mediaType"], DOCKER_LIST)
        for member in listed["manifests"]:
            equal(registry.manifest("golden-docker", member["digest"]),
                  registry.manifest("podman/docker", member["digest"]))

    with case("images out of a registry: the same list again"):
        members = [m["digest"] for m in json.loads(registry.manifest("golden", "1"))["manifests"]]
        specs = [f"docker://{registry.host}/golden@{digest}" for digest in members]
        digest = podman_pushes("podman/other:1", specs)
        equal(publish("golden-other", ["1"], *specs), digest)
        equal(digest, registry.digest("golden", "1"))


# ---- larder publish ----

def publishing():
    with case("twice: the second is a HEAD a tag, archives are not opened again"):
        digest = publish("twice", ["1", "stable"], *SPECS)
        registry.mark()
        equal(publish("twice", ["1", "stable"], *SPECS), digest)
        equal(sorted((r[0], r[2]) for r in registry.requests()), [("HEAD", 200)] * 2)

    with case("a tag that went astray is set right, the others are left alone"):
        publish("twice", ["stable"], *SPECS[:2])
        registry.mark()
        equal(publish("twice", ["1", "stable"], *SPECS), digest)
        equal({r[1] for r in registry.requests() if r[0] not in ("GET", "HEAD")} -
              {f"/v2/twice/manifests/{digest}"}, {"/v2/twice/manifests/stable"})

    with case("--no-clobber and --dry-run change nothing"):
        registry.mark()
        larder("publish", "--no-clobber", "--repo", f"{registry.host}/twice", "--tag", "1",
               *SPECS[:1], status=1)
        publish("twice", ["1"], "--dry-run", *SPECS[:1])
        equal([r for r in registry.requests() if r[0] not in ("GET", "HEAD")], [])
        equal(registry.digest("twice", "1"), digest)

    with case(f"killed {KILLS} times, then finished: right, complete, and no blob sent twice"):
        publish("killed", ["before"], SPECS[3])
        want = digest
        registry.mark()
        argv = [LARDER, "publish", "--repo", f"{registry.host}/killed", "--tag", "1", "--tag", "2",
                *SPECS]
        started = time.monotonic()
        larder("publish", "--repo", f"{registry.host}/timing", "--tag", "1", "--tag", "2", *SPECS)
        whole = time.monotonic() - started
        for i in range(KILLS):
            process = subprocess.Popen(argv, env=store.env, stdin=subprocess.DEVNULL,
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                process.wait(whole * (i + 1) / (KILLS + 1))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            registry.settle()  # or what it is storing now would be stored again
            for tag in ("1", "2"):
                assert registry.digest("killed", tag) in (None, want), f"{tag} after kill {i}"
        equal(publish("killed", ["1", "2"], *SPECS), want)
        equal([registry.digest("killed", tag) for tag in ("1", "2")], [want] * 2)
        done = [t.split("digest=")[1] for m, t, s in registry.requests()
                if m in ("PUT", "POST") and s == 201 and t.startswith("/v2/killed/blobs")
                and "digest=" in t]
        equal(sorted(done), sorted(set(done)))

    gate = Gate(registry)
    with case(f"two hosts that append at once, {RACES} times: both platforms are there"):
        for i in range(RACES):
            # Both have read the tag before either puts it: one is overwritten, and finds out.
            gate.gather(f"^PUT /v2/race/manifests/{i}$", 2)
            registry.mark()
            hosts = [subprocess.Popen([LARDER, "publish", "--append", "--repo",
                                       f"{gate.host}/race", "--tag", str(i), spec],
                                      env=store.env, stdin=subprocess.DEVNULL,
                                      stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
                     for spec in SPECS[:2]]
            for host in hosts:
                _, text = host.communicate(timeout=interop.PATIENCE)
                equal(host.returncode, 0, text)
            equal(registry.count("PUT", f"/race/manifests/{i}$"), 3)
            listed = json.loads(registry.manifest("race", str(i)))
            equal(listed["mediaType"], OCI_INDEX)
            equal([m["platform"]["architecture"] for m in listed["manifests"]],
                  ["amd64", "arm64"], f"race {i}")
    gate.close()


# ---- cosa ----

BUILD = "43.20251214.3.0"
COSA_ARCHES = ("x86_64", "aarch64", "s390x")


def make_builds(where):
    """What coreos-assembler leaves behind when it has built for these."""
    shutil.rmtree(where, ignore_errors=True)
    for arch in COSA_ARCHES:
        top = os.path.join(where, "builds", BUILD, arch)
        os.makedirs(top)
        path = os.path.join(top, f"fcos-{arch}.ociarchive")
        shutil.copy(ARCHIVES[arch], path)
        # As `cosa import` leaves it: the manifest's bytes, so that the archive need not be opened.
        with open(os.path.join(top, "manifest.json"), "wb") as f:
            f.write(subprocess.run(["skopeo", "inspect", "--raw", "oci-archive:" + path],
                                   capture_output=True, check=True).stdout)
        with open(os.path.join(top, "meta.json"), "w", encoding="ascii") as f:
            json.dump({"buildid": BUILD, "name": "fcos", "coreos-assembler.basearch": arch,
                       "coreos-assembler.meta-stamp": 1700000000000000000,
                       "images": {"oci-manifest": {"path": "manifest.json",
                                                   "sha256": sha256(f"{top}/manifest.json")},
                                  "ostree": {"path": os.path.basename(path),
                                             "sha256": sha256(path),
                                             "size": os.path.getsize(path)}}}, f, indent=4)
    with open(os.path.join(where, "builds", "builds.json"), "w", encoding="ascii") as f:
        json.dump({"schema-version": "1.0.0", "timestamp": "2025-12-14T00:00:00Z",
                   "builds": [{"id": BUILD, "arches": list(COSA_ARCHES)}]}, f)


def meta(where, arch):
    with open(os.path.join(where, "builds", BUILD, arch, "meta.json"), encoding="ascii") as f:
        return json.load(f)


def push(where, name, *more, status=0, program=("cosa", "push-container-manifest")):
    return larder(*program, "-C", where, "--repo", f"{registry.host}/{name}", "--tag", "stable",
                  "--tag", BUILD, "--artifact", "ostree", "--metajsonname", "base-oscontainer",
                  "--write-digest-to-file", "list-digest", *more, status=status)


def cosa():
    specs = [f"oci-archive:{ARCHIVES[arch]}" for arch in COSA_ARCHES]
    for title, options, format_ in (("the list", [], []),
                                    ("with --v2s2 the list", ["--v2s2"], ["-f", "v2s2"])):
        name = f"cosa{len(options)}"
        with case(f"cosa: {title} and what meta.json tells of it"):
            make_builds(name)
            push(name, name, *options)
            want = registry.digest(name, "stable")
            equal(registry.digest(name, BUILD), want)
            with open("list-digest", encoding="ascii") as f:
                equal(f.read(), want)
            members = {m["platform"]["architecture"]: m["digest"]
                       for m in json.loads(registry.manifest(name, "stable"))["manifests"]}
            for arch in COSA_ARCHES:
                equal(meta(name, arch)["base-oscontainer"],
                      {"image": f"{registry.host}/{name}", "digest": members[ARCHES[arch][0]],
                       "manifest-list-digest": want, "tags": ["stable", BUILD]})
        if HAS_PODMAN:
            with case(f"cosa: {title} is podman's"):
                equal(podman_pushes(f"podman/{name}:stable", specs, *format_), want)
        else:
            skip(f"cosa: {title} is podman's", WHY_NOT)

        with case(f"cosa: {title} again: nothing is done, the archives need not be there"):
            before = {arch: meta(name, arch) for arch in COSA_ARCHES}
            for arch in COSA_ARCHES:
                os.unlink(os.path.join(name, "builds", BUILD, arch, f"fcos-{arch}.ociarchive"))
            os.unlink("list-digest")
            registry.mark()
            said = push(name, name, *options)
            assert "Remote already matches desired state" in said.stdout, said.stdout
            equal([r for r in registry.requests() if r[0] not in ("GET", "HEAD")], [])
            equal({arch: meta(name, arch) for arch in COSA_ARCHES}, before)
            with open("list-digest", encoding="ascii") as f:
                equal(f.read(), want)

    with case("cosa: pushed, but not yet in meta.json: only that is written"):
        make_builds("late")
        push("late", "late")
        told = {arch: meta("late", arch)["base-oscontainer"] for arch in COSA_ARCHES}
        make_builds("late")
        registry.mark()
        push("late", "late")
        equal([r for r in registry.requests() if r[0] not in ("GET", "HEAD")], [])
        equal({arch: meta("late", arch)["base-oscontainer"] for arch in COSA_ARCHES}, told)

    with case("cosa: a damaged archive is refused before anything is sent"):
        make_builds("damaged")
        interop.flip(os.path.join("damaged", "builds", BUILD, "s390x", "fcos-s390x.ociarchive"),
                     100000)
        said = push("damaged", "damaged", status=1)
        assert "incorrect checksum" in said.stdout + said.stderr, said.stdout + said.stderr
        equal(registry.digest("damaged", "stable"), None)
        equal("base-oscontainer" in meta("damaged", "x86_64"), False)

    with case("cosa: under its old name, with abbreviated options"):
        make_builds("named")
        link = os.path.join(interop.work, "cmd-push-container-manifest")
        os.symlink(LARDER, link)
        run(link, "--rep", f"{registry.host}/named", "--ta=stable", "--art", "ostree", "--meta",
            "base-oscontainer", "--auth", "/dev/null", cwd="named",
            env=store.env)
        equal(registry.digest("named", "stable"), registry.digest("late", "stable"))


if HAS_PODMAN:
    golden()
else:
    skip("lists are podman's", WHY_NOT)
publishing()
cosa()
interop.done()
