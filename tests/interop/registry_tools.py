#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""skopeo, podman, umoci, oras, crane and regctl read what larder wrote, and larder reads what they
wrote: in registries, layouts and archives; the digests are the same on both sides."""

import json
import os
import shutil
import subprocess
import tarfile

from registries import (DOCKER_MANIFEST, OCI_MANIFEST, Registry, digest_of, kinds,
                        peer)  # first: it takes LARDER_PEERS
import interop
from interop import Store, case, equal, run, skip
from images import Layout, blobs_in

if not kinds():
    print("1..0 # SKIP no registry here")
    raise SystemExit(0)
SBOM = "application/vnd.example.sbom.v1"
store = Store("here")
source = Layout("source")
members = [source.image(f"tools-{a}", ref=a, architecture=a) for a in ("amd64", "arm64")]
index = source.index("multi", members)
single = source.image("single", ref="single")
sbom = source.artifact(single, SBOM, b"what is in it")
source.entries.append(sbom)
source.flush()
REFS = {"multi": index["digest"], "single": single["digest"]}
registry = Registry(kinds()[0])
STORAGE = ["--root", os.path.join(interop.work, "root"), "--runroot",
           os.path.join(interop.work, "runroot"), "--storage-driver", "vfs",
           "--cgroup-manager", "cgroupfs", "--events-backend", "none"]
number = 0


def larder(*argv, status=0):
    return store.larder(*argv, status=status)


def copy(*argv):
    return larder("copy", *argv).stdout.strip()


def output_digest(*argv):
    """Of the bytes that a program prints."""
    return digest_of(subprocess.run(argv, capture_output=True, check=True).stdout)


def fresh(stem):
    global number
    number += 1
    return f"{stem}{number}"


def at(name, tag):
    return f"{registry.host}/{name}:{tag}"


def regctl(*argv):
    return run(peer("regctl"), *argv, "--host", f"reg={registry.host},tls=disabled").stdout


def skopeo(*argv):
    return run("skopeo", "--insecure-policy", *argv).stdout


def podman(*argv):
    return run("podman", *STORAGE, *argv).stdout


def why_no_podman():
    """None, or why podman can't do its part: it may not unpack layers in a chroot, where it can't
    remount /, or without the right to make namespaces. An archive of skopeo's tells."""
    if os.geteuid() != 0:
        return "not root"
    if not peer("skopeo"):
        return None
    skopeo("copy", "-q", "oci:source:arm64", "oci-archive:control.tar:localhost/control:1")
    tried = run("podman", *STORAGE, "load", "-q", "-i", "control.tar", status=None)
    said = [*tried.stderr.replace("#", "").splitlines(), "no word"]
    return None if tried.returncode == 0 else f"it can't unpack layers: {said[0]}"


def larder_reads(place, digest):
    """All of it, into a layout; every byte is hashed by us as well."""
    there = fresh("read")
    equal(copy(place, f"oci:{there}:x"), digest)
    blobs = blobs_in(there)
    assert digest in blobs
    shutil.rmtree(there)
    return blobs


def written():
    """The images in every place that larder writes to."""
    for tag in REFS:
        copy(f"oci:source:{tag}", registry.url("larder/app", tag))
        copy(f"oci:source:{tag}", f"oci:layout:{tag}")
    copy("oci:source:multi", "oci-archive:multi.tar:multi")
    copy("oci:source:single", "oci-archive:single.tar:single")


# ---- each with its tool ----

def with_skopeo():
    with case("skopeo reads what larder wrote, everywhere"):
        for tag, digest in REFS.items():
            for place in (f"docker://{at('larder/app', tag)}", f"oci:layout:{tag}",
                          f"oci-archive:{tag}.tar:{tag}"):
                tls = ["--tls-verify=false"] if place.startswith("docker") else []
                equal(output_digest("skopeo", "inspect", "--raw", *tls, place), digest, place)
                there = fresh("skopeo")
                skopeo("copy", "-q", "--all", "--preserve-digests", place, f"oci:{there}:x",
                       *(["--src-tls-verify=false"] if tls else []))
                equal(blobs_in(there), source.reachable(digest), place)

    with case("larder reads what skopeo wrote, everywhere"):
        for tag, digest in REFS.items():
            skopeo("copy", "-q", "--all", "--preserve-digests", f"oci:source:{tag}",
                   f"docker://{at('skopeo/app', tag)}", "--dest-tls-verify=false")
            skopeo("copy", "-q", "--all", f"oci:source:{tag}", f"oci:skopeo-layout:{tag}")
            skopeo("copy", "-q", "--all", f"oci:source:{tag}", f"oci-archive:skopeo-{tag}.tar:x")
            for place in (registry.url("skopeo/app", tag), f"oci:skopeo-layout:{tag}",
                          f"oci-archive:skopeo-{tag}.tar:x", f"oci-archive:skopeo-{tag}.tar"):
                equal(larder_reads(place, digest), source.reachable(digest), place)

    for title, options, media_type, layer_type in (
            ("docker's schema 2", ["--format", "v2s2"], DOCKER_MANIFEST,
             "application/vnd.docker.image.rootfs.diff.tar.gzip"),
            ("zstd", ["--dest-compress-format", "zstd", "--dest-compress-level", "3"], OCI_MANIFEST,
             "application/vnd.oci.image.layer.v1.tar+zstd")):
        with case(f"larder carries skopeo's {title}, unchanged"):
            name = "skopeo/" + fresh("format")
            origin = "oci:source:single"
            if title == "zstd":  # skopeo compresses what is not compressed, and new to it
                source.image("plain", ref="plain", compress=False)
                origin = "oci:source:plain"
            skopeo("copy", "-q", *options, origin, f"docker://{at(name, '1')}",
                   "--dest-tls-verify=false")
            document = json.loads(registry.manifest(name, "1"))
            equal({layer["mediaType"] for layer in document["layers"]}, {layer_type})
            equal(document["mediaType"], media_type)
            digest = registry.digest(name, "1")
            larder_reads(registry.url(name, "1"), digest)
            equal(copy(registry.url(name, "1"), registry.url(name + "/again", "1")), digest)
            equal(registry.digest(name + "/again", "1"), digest)
            there = fresh("layout")
            equal(copy(registry.url(name, "1"), f"oci:{there}:x", f"oci-archive:{there}.tar:x"),
                  digest)
            for place in (f"oci:{there}:x", f"oci-archive:{there}.tar:x"):
                equal(larder_reads(place, digest) >= {digest}, True)
                # Debian's skopeo does not look for Docker's media types in layouts.
                if media_type == OCI_MANIFEST:
                    equal(output_digest("skopeo", "inspect", "--raw", place), digest)
            equal(copy(f"oci:{there}:x", registry.url(name + "/back", "1")), digest)
            equal(output_digest("skopeo", "inspect", "--raw", "--tls-verify=false",
                                f"docker://{at(name + '/back', '1')}"), digest)
            told = json.loads(larder("inspect", registry.url(name, "1")).stdout)
            theirs = json.loads(skopeo("inspect", "--tls-verify=false",
                                       f"docker://{at(name, '1')}"))
            for key in ("Name", "Digest", "RepoTags", "Created", "Architecture", "Os", "Layers",
                        "Env"):
                equal(told[key], theirs[key], key)

    with case("skopeo and larder list the same tags"):
        theirs = json.loads(skopeo("list-tags", "--tls-verify=false",
                                   f"docker://{registry.host}/larder/app"))
        equal(json.loads(larder("list-tags", "--json",
                                f"docker://{registry.host}/larder/app").stdout), theirs)


def with_podman():
    with case("podman pulls what larder pushed, and loads its archive"):
        podman("pull", "-q", "--tls-verify=false", at("larder/app", "single"))
        equal(json.loads(podman("image", "inspect", at("larder/app", "single")))[0]["Digest"],
              single["digest"])
        copy("oci:source:amd64", "oci-archive:named.tar:localhost/loaded:1")
        podman("load", "-q", "-i", "named.tar")
        told, = json.loads(podman("image", "inspect", "localhost/loaded:1"))
        equal(told["Config"]["Env"], ["SEED=tools-amd64"])

    with case("larder reads what podman pushed and saved"):
        podman("push", "-q", "--tls-verify=false", "--digestfile", "podman-digest",
               "localhost/loaded:1", at("podman/app", "1"))
        with open("podman-digest", encoding="ascii") as f:
            digest = f.read()
        larder_reads(registry.url("podman/app", "1"), digest)
        podman("push", "-q", "--tls-verify=false", "--format", "v2s2", "localhost/loaded:1",
               at("podman/app", "docker"))
        larder_reads(registry.url("podman/app", "docker"), registry.digest("podman/app", "docker"))
        podman("save", "-q", "--format", "oci-archive", "-o", "saved.tar", "localhost/loaded:1")
        raw = output_digest("skopeo", "inspect", "--raw", "oci-archive:saved.tar") \
            if peer("skopeo") else copy("oci-archive:saved.tar", "oci:saved:x")
        larder_reads("oci-archive:saved.tar", raw)


def with_umoci():
    with case("umoci unpacks what larder wrote"):
        copy("oci:source:single", "oci:for-umoci:single")
        run("umoci", "unpack", "--rootless", "--image", "for-umoci:single", "bundle")
        tar_member = {}
        for layer in json.loads(source.read(single["digest"]))["layers"]:
            with tarfile.open(source.file(layer["digest"])) as tar:
                for member in tar:
                    tar_member[member.name] = tar.extractfile(member).read()
        for name, data in tar_member.items():
            with open(os.path.join("bundle/rootfs", name), "rb") as f:
                equal(f.read() == data, True, name)

    with case("larder carries what umoci made of it"):
        with open("bundle/rootfs/new", "w", encoding="ascii") as f:
            f.write("new")
        run("umoci", "repack", "--image", "for-umoci:changed", "bundle")
        run("umoci", "config", "--image", "for-umoci:changed", "--config.env", "A=b")
        digest = copy("oci:for-umoci:changed", registry.url("umoci/app", "1"))
        equal(registry.digest("umoci/app", "1"), digest)
        larder_reads(registry.url("umoci/app", "1"), digest)
        run("umoci", "gc", "--layout", "for-umoci")
        larder_reads("oci:for-umoci:changed", digest)
        if peer("skopeo"):
            equal(output_digest("skopeo", "inspect", "--raw", "--tls-verify=false",
                                f"docker://{at('umoci/app', '1')}"), digest)


def with_crane():
    crane = peer("crane")
    with case("crane finds what larder pushed whole"):
        for tag, digest in REFS.items():
            equal(run(crane, "digest", at("larder/app", tag)).stdout.strip(), digest)
            there = fresh("crane")
            run(crane, "pull", "--format", "oci", at("larder/app", tag), there)
            equal(source.reachable(digest) <= blobs_in(there), True)
        run(crane, "validate", "--remote", at("larder/app", "single"))
        run(crane, "push", "layout", at("crane/all", "1"), status=None)

    with case("larder reads what crane pushed and copied"):
        run(crane, "copy", at("larder/app", "multi"), at("crane/app", "multi"))
        equal(larder_reads(registry.url("crane/app", "multi"), index["digest"]),
              source.reachable(index["digest"]))
        there = fresh("crane")
        copy("oci:source:single", f"oci:{there}:x")
        run(crane, "push", there, at("crane/app", "single"))
        equal(copy(registry.url("crane/app", "single"), fresh("oci:crane-back")), single["digest"])
        run(crane, "append", "-b", at("larder/app", "single"), "-f", tar_file(), "-t",
            at("crane/app", "appended"))
        larder_reads(registry.url("crane/app", "appended"), registry.digest("crane/app", "appended"))


def tar_file():
    with open("hello", "w", encoding="ascii") as f:
        f.write("hello")
    with tarfile.open("hello.tar", "w") as tar:
        tar.add("hello")
    return "hello.tar"


def with_regctl():
    with case("regctl reads what larder wrote"):
        for tag, digest in REFS.items():
            equal(regctl("image", "digest", at("larder/app", tag)).strip(), digest)
            equal(run(peer("regctl"), "image", "digest", f"ocidir://layout:{tag}").stdout.strip(),
                  digest)
            there = fresh("regctl")
            regctl("image", "copy", at("larder/app", tag), f"ocidir://{there}:x")
            equal(source.reachable(digest) <= blobs_in(there), True)

    with case("larder reads what regctl wrote"):
        regctl("image", "copy", "--digest-tags", "ocidir://source:multi", at("regctl/app", "1"))
        equal(larder_reads(registry.url("regctl/app", "1"), index["digest"]),
              source.reachable(index["digest"]))
        run(peer("regctl"), "image", "copy", "ocidir://source:multi", "ocidir://regctl-layout:x")
        larder_reads("oci:regctl-layout:x", index["digest"])
        run(peer("regctl"), "image", "export", "ocidir://source:single", "regctl.tar")
        larder_reads("oci-archive:regctl.tar", single["digest"])


def with_oras():
    oras = peer("oras")
    with case("oras reads what larder wrote"):
        for tag, digest in REFS.items():
            equal(output_digest(oras, "manifest", "fetch", "--plain-http", at("larder/app", tag)),
                  digest)
            equal(output_digest(oras, "manifest", "fetch", "--oci-layout", f"layout:{tag}"), digest)
            there = fresh("oras")
            run(oras, "cp", "--from-plain-http", "--to-oci-layout", at("larder/app", tag),
                f"{there}:x")
            equal(source.reachable(digest) <= blobs_in(there), True)

    with case("larder reads what oras wrote"):
        run(oras, "cp", "--from-oci-layout", "--to-plain-http", "source:multi",
            at("oras/app", "1"))
        equal(larder_reads(registry.url("oras/app", "1"), index["digest"]),
              source.reachable(index["digest"]))
        run(oras, "cp", "--from-oci-layout", "--to-oci-layout", "source:multi", "oras-layout:x")
        larder_reads("oci:oras-layout:x", index["digest"])

    for kind in kinds():
        with case(f"referrers: larder's found by oras, those of oras by larder, at {kind}"):
            here = registry if kind == registry.kind else Registry(kind)
            copy("--referrers", "oci:source:single", here.url("refer/app", "1"))
            found = json.loads(run(oras, "discover", "--plain-http", "--format", "json",
                                   f"{here.host}/refer/app:1").stdout)
            equal([m["digest"] for m in found.get("manifests") or found.get("referrers")],
                  [sbom["digest"]])
            with open("signature", "w", encoding="ascii") as f:
                f.write("signed")
            run(oras, "attach", "--plain-http", "--artifact-type", "application/vnd.example.sig",
                f"{here.host}/refer/app:1", "signature:text/plain")
            there = fresh("referrers")
            copy("--referrers", here.url("refer/app", "1"), f"oci:{there}:x")
            blobs = blobs_in(there)
            equal(sbom["digest"] in blobs, True)
            equal(digest_of(b"signed") in blobs, True)
            # And on to another repository, where oras finds both. (Of two that come at the same
            # moment olareg forgets one.)
            copy("--referrers", "--jobs", "1", f"oci:{there}:x", here.url("refer/again", "1"))
            found = json.loads(run(oras, "discover", "--plain-http", "--format", "json",
                                   f"{here.host}/refer/again:1").stdout)
            equal(len(found.get("manifests") or found.get("referrers")), 2)
            if here is not registry:
                here.stop()


def disks():
    oras = peer("oras")
    disk = os.path.join(interop.work, "disk.raw")
    with open(disk, "wb") as f:
        f.write(os.urandom(3 << 20))
    with case("oras pulls a disk that larder pushed; sha256sum -c is content with it"):
        larder("image", "add", "disk", disk)
        digest = larder("image", "push", "disk", registry.url("disks/larder", "1")).stdout.strip()
        equal(registry.digest("disks/larder", "1"), digest)
        run(oras, "pull", "--plain-http", "-o", "pulled", at("disks/larder", "1"))
        names = os.listdir("pulled")
        sums = [name for name in names if "sha256" in name.lower()]
        equal(len(sums) >= 1, True, str(names))
        run("sha256sum", "--strict", "-c", sums[0], cwd="pulled")
        equal([name for name in names if name not in sums and
               interop.sha256(os.path.join("pulled", name)) == interop.sha256(disk)] != [], True,
              str(names))
        registry.mark()
        equal(larder("image", "push", "disk", registry.url("disks/larder", "1")).stdout.strip(),
              digest)
        equal([r for r in registry.requests() if r[0] not in ("GET", "HEAD")], [])

    with case("larder gets a disk that oras pushed, and a newer one when its tag moves"):
        run(oras, "push", "--plain-http", at("disks/oras", "1"), "disk.raw:application/octet-stream",
            cwd=interop.work)
        source_url = "oras://" + at("disks/oras", "1")
        path = store.get(source_url)
        equal(interop.sha256(path), interop.sha256(disk))
        larder("image", "add", "oras", source_url)
        registry.mark()
        equal(interop.sha256(store.get("oras", "--fresh")), interop.sha256(disk))
        equal([r for r in registry.requests() if "/blobs/" in r[1]], [])
        with open(disk, "r+b") as f:
            f.write(b"newer")
        run(oras, "push", "--plain-http", at("disks/oras", "1"), "disk.raw:application/octet-stream",
            cwd=interop.work)
        equal(interop.sha256(store.get("oras", "--fresh")), interop.sha256(disk))


written()
for tool, part in (("skopeo", with_skopeo), ("podman", with_podman), ("umoci", with_umoci),
                   ("crane", with_crane), ("regctl", with_regctl), ("oras", with_oras),
                   ("oras", disks)):
    why_not = f"no {tool} here" if not peer(tool) else why_no_podman() if tool == "podman" else None
    if why_not:
        skip(f"{tool}: {part.__name__}", why_not)
    else:
        part()
interop.done()
