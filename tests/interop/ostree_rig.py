# SPDX-License-Identifier: Apache-2.0
"""ostree repositories with container images in them, and sysroots that believe they are booted.

A repository's images are made with the ostree command alone, as ostree-ext writes them; a booted
system is a mount namespace whose root directory is that of a deployment, for that is what libostree
looks at. Needs root for both.
"""
import hashlib
import json
import os
import re
import subprocess

import interop
from interop import run

PYTHON = "/usr/bin/python3"  # the one that Debian's python3-gi is for
IMAGES, BLOBS = "ostree/container/image/", "ostree/container/blob/"
CACHED = "ostree-ext.cached."
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
# Deployments are made immutable else, which no clean-up of a temporary directory gets past.
os.environ["OSTREE_SYSROOT_DEBUG"] = "mutable-deployments"
# What stages a deployment has systemd finish it at the next shutdown. Ours are finished by finish(),
# and this machine's own systemd, if it has one, is not to be asked.
STAND_INS = os.path.join(interop.work, "stand-ins")
os.mkdir(STAND_INS)
with open(os.path.join(STAND_INS, "systemctl"), "w", encoding="ascii") as stand_in:
    stand_in.write("#!/bin/sh\nexit 0\n")
os.chmod(stand_in.name, 0o755)
os.environ["PATH"] = STAND_INS + os.pathsep + os.environ["PATH"]
# This machine's own store is none of the tests' business.
os.environ["LARDER_HOME"] = os.path.join(interop.work, "store")

_DETACHED = """
import json, sys
import gi
gi.require_version("OSTree", "1.0")
from gi.repository import Gio, GLib, OSTree
repo = OSTree.Repo.new(Gio.File.new_for_path(sys.argv[1]))
repo.open(None)
commit, verb = sys.argv[2:4]
if verb == "set":
    _, old = repo.read_commit_detached_metadata(commit, None)
    new = GLib.VariantDict.new(old)
    for key, (type_, text) in json.loads(sys.argv[4]).items():
        if type_:
            new.insert_value(key, GLib.Variant(type_, text))
        else:
            new.remove(key)
    repo.write_commit_detached_metadata(commit, new.end(), None)
elif verb == "empty":
    repo.write_commit_detached_metadata(commit, None, None)
_, meta = repo.read_commit_detached_metadata(commit, None)
if meta is None:
    print("null")
else:
    print(json.dumps({meta.get_child_value(i).get_child_value(0).get_string():
                      [(v := meta.get_child_value(i).get_child_value(1).get_variant())
                       .get_type_string(), v.unpack()] for i in range(meta.n_children())}))
"""


def has_introspection():
    return os.path.exists(PYTHON) and subprocess.run(
        [PYTHON, "-c", "import gi; gi.require_version('OSTree', '1.0')"],
        capture_output=True, check=False).returncode == 0


def escape(name):
    """A name as ostree-ext writes it in a ref."""
    out, previous = "", ""
    for i, c in enumerate(name):
        if (c.isascii() and c.isalnum()) or c == "-":
            out += c
        elif c == "_":
            out += "__"
        elif c == "/" and previous.isascii() and previous.isalnum() and i + 1 < len(name):
            out += c
        else:
            out += f"_{ord(c):02X}_"
        previous = c
    return out


def compact(document):
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False)


def digest(text):
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def image(version, layers, *, created="2024-01-10T12:00:00Z", labels=(), **more):
    """Manifest and configuration of an image whose layers are [(name, bytes)]; no blob is made."""
    config = compact({"created": created, "architecture": "amd64", "os": "linux",
                      "config": {"Labels": {"org.opencontainers.image.version": version,
                                            **dict(labels)}},
                      "rootfs": {"type": "layers",
                                 "diff_ids": [digest(f"plain {name}") for name, _ in layers]},
                      "history": [{"created": created, "created_by": name} for name, _ in layers],
                      **more})
    manifest = compact({"schemaVersion": 2, "mediaType": OCI_MANIFEST,
                        "config": {"mediaType": OCI_CONFIG, "digest": digest(config),
                                   "size": len(config.encode())},
                        "layers": [{"mediaType": OCI_LAYER, "digest": digest(name), "size": size}
                                   for name, size in layers]})
    return manifest, config


class Repo:
    """An ostree repository."""

    def __init__(self, path, make=True, mode="bare-user"):
        self.path = os.path.join(interop.work, path)
        if make:
            run("ostree", f"--repo={self.path}", "init", f"--mode={mode}")

    def ostree(self, verb, *argv, status=0):
        return run("ostree", f"--repo={self.path}", verb, *argv, status=status).stdout.strip()

    def commit(self, tree, *argv):
        return self.ostree("commit", "--orphan", f"--tree=dir={tree}", *argv)

    def ref(self, name, commit):
        self.ostree("refs", "--force", f"--create={name}", commit)

    def image(self, reference, documents, tree, *argv):
        """The commit of an image, as an import leaves it: a ref for each layer, and one for it."""
        manifest, config = documents
        commit = self.commit(
            tree, "--timestamp=2024-01-10T12:00:00Z", "--subject=",
            f"--add-metadata-string=ostree.manifest-digest={digest(manifest)}",
            f"--add-metadata-string=ostree.manifest={manifest}",
            f"--add-metadata-string=ostree.container.image-config={config}",
            "--add-metadata-string=ostree.importer.version=0.15.3", *argv)
        for layer in json.loads(manifest)["layers"]:
            self.ref(BLOBS + escape(layer["digest"]),
                     self.commit(tree, f"--add-metadata-string=of={layer['digest']}"))
        self.ref(IMAGES + escape(reference), commit)
        return commit

    def resolve(self, reference):
        return self.ostree("rev-parse", IMAGES + escape(reference))

    def detached(self, commit, verb="get", **keys):
        """{key: [type, value]} of a commit's detached metadata, or None; by way of the library."""
        return json.loads(run(PYTHON, "-c", _DETACHED, self.path, commit, verb,
                              json.dumps(keys.get("keys", {}))).stdout)

    def set_detached(self, commit, **keys):
        """key=(type, value), with "__" for the dots; type None removes the key."""
        return self.detached(commit, "set",
                             keys={k.replace("__", "."): v for k, v in keys.items()})

    def keep(self, commit, documents):
        """Keeps an update with a commit as ostree-ext does."""
        manifest, config = documents
        return self.set_detached(commit, **{CACHED + "manifest-digest": ("s", digest(manifest)),
                                            CACHED + "manifest": ("s", manifest),
                                            CACHED + "config": ("s", config)})

    def cached(self, commit):
        """(digest, manifest, configuration) of a commit's cached update, by the ostree command."""
        found = []
        for key in ("manifest-digest", "manifest", "config"):
            shown = run("ostree", f"--repo={self.path}", "show",
                        f"--print-detached-metadata-key={CACHED}{key}", commit, status=None)
            if shown.returncode:
                assert "No such metadata key" in shown.stderr or \
                    "No detached metadata" in shown.stderr, shown.stderr
                found.append(None)
            else:
                found.append(unquoted(shown.stdout.rstrip("\n")))
        return tuple(found)

    def commitmeta(self, commit):
        return os.path.join(self.path, "objects", commit[:2], commit[2:] + ".commitmeta")


def unquoted(text):
    """The string that GVariant's text form of a string stands for."""
    quote = text[0]
    assert quote in "'\"" and text[-1] == quote, text
    plain = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}
    return re.sub(r"\\(?:u([0-9a-f]{4})|U([0-9a-f]{8})|(.))",
                  lambda m: chr(int(m[1] or m[2], 16)) if m[1] or m[2]
                  else plain.get(m[3], m[3]), text[1:-1])


# ---- larder ----

def asked_twice(within, *argv, env=None, **more):
    """Runs argv; what only reads is asked for again with libostree alone, and says the same."""
    ended = within(*argv, env=env, **more)
    if {interop.LARDER, "update", "--json"} <= set(argv) and {"show", "list"} & set(argv):
        again = within(*argv, env={**(env or os.environ), "LARDER_OSTREE_READER": "no"}, **more)
        interop.equal((again.returncode, again.stdout, again.stderr),
                      (ended.returncode, ended.stdout, ended.stderr), "libostree's answer")
    return ended


def larder(*argv, status=0, **more):
    """A program's environment is enough: a store is not asked for."""
    return asked_twice(run, interop.LARDER, *argv, status=status, **more)


def has_updates():
    """Why larder knows nothing of repositories, or None."""
    probe = larder("update", "show", "--ostree-repo", interop.work, "oci:/nowhere:x", status=None)
    return None if probe.returncode == 3 else probe.stderr.splitlines()[0]


def told(verb, place, *argv, status=0, within=run):
    """The JSON that `larder update` prints. place: a repository, or a sysroot's path."""
    where = ["--ostree-repo", place.path] if isinstance(place, Repo) else ["--sysroot", place]
    return json.loads(asked_twice(within, interop.LARDER, "update", verb, "--json", *where, *argv,
                                  status=status).stdout)


def found(answer):
    """(digest, version) of the update in such an answer, or None."""
    update = answer.get("update")
    return update and (update["digest"], update.get("version"))


# ---- a system ----

KERNEL = "6.1.0"


def make_tree(path, version):
    """The least that ostree deploys and boots, were it ever asked to."""
    path = os.path.join(interop.work, path)
    modules = os.path.join(path, "usr/lib/modules", KERNEL)
    for name in ("usr/etc", "usr/bin", "usr/lib", "usr/share", modules, "boot", "dev", "home",
                 "proc", "run", "sys", "sysroot", "tmp", "var"):
        os.makedirs(os.path.join(path, name), exist_ok=True)
    os.symlink("sysroot/ostree", os.path.join(path, "ostree"))
    for name, text in (("usr/lib/os-release", f'ID=test\nPRETTY_NAME="Test {version}"\n'),
                       ("usr/etc/hostname", "test\n"),
                       (f"{modules}/vmlinuz", "kernel"), (f"{modules}/initramfs.img", "initrd")):
        with open(os.path.join(path, name), "w", encoding="ascii") as file:
            file.write(text)
    return path


class Sysroot:
    """A sysroot with one OS ("test") in it."""

    def __init__(self, path):
        self.path = os.path.join(interop.work, path)
        self.run = self.path + ".run"  # what /run is, from one start of a program to the next
        os.mkdir(self.path)
        os.makedirs(os.path.join(self.run, "ostree"))
        self.admin("init-fs", self.path)
        self.admin("os-init", "test")
        self.repo = Repo(os.path.join(self.path, "ostree/repo"), make=False)
        self.repo.ostree("config", "set", "sysroot.bootloader", "none")
        self.booted = None

    def admin(self, verb, *argv, status=0):
        where = [] if verb == "init-fs" else [f"--sysroot={self.path}"]
        return run("ostree", "admin", verb, *where, *argv, status=status).stdout

    def origin(self, reference):
        path = os.path.join(interop.work, "origin")
        with open(path, "w", encoding="utf-8") as file:
            file.write(f"[origin]\ncontainer-image-reference={reference}\n")
        return path

    def deploy(self, commit, reference, *argv):
        """Puts a commit first in boot order; the one before it remains."""
        deploy = ["deploy", "--os=test", f"--origin-file={self.origin(reference)}", *argv, commit]
        if self.booted:
            self.inside("ostree", "admin", *deploy)
        else:
            self.admin(deploy[0], *deploy[1:])

    def directory(self, commit):
        return os.path.join(self.path, "ostree/deploy/test/deploy", commit + ".0")

    def origin_of(self, commit):
        return self.directory(commit) + ".origin"

    def boot(self, commit, flag=b""):
        """From now on this deployment is the booted one, for programs run by inside(). flag: what
        the boot tells of it."""
        self.booted = commit
        with open(os.path.join(self.run, "ostree-booted"), "wb") as file:
            file.write(flag)

    def finish(self):
        """What a shutdown does with the staged deployment."""
        self.inside("ostree", "admin", "finalize-staged")

    def mounts(self, read_only=False):
        """Commands that make the booted deployment's directory the root of a whole system."""
        root = self.directory(self.booted)
        out = [f"mount --bind '{root}' '{root}'"]
        for name in sorted(os.listdir("/")):
            here, there = f"/{name}", os.path.join(root, name)
            if name in ("boot", "lost+found", "ostree", "proc", "run", "sysroot"):
                continue
            if os.path.islink(here):
                if not os.path.lexists(there):
                    os.symlink(os.readlink(here), there)
            elif os.path.isdir(here):
                os.makedirs(there, exist_ok=True)
                out.append(f"mount --rbind '{here}' '{there}'")
        # ostree compares its mount namespace with that of process 1, which must be one of ours.
        out += [f"mount -t proc proc '{root}/proc'",
                f"mount --bind '{self.path}' '{root}/sysroot'",
                f"mount --bind '{self.path}/boot' '{root}/boot'",
                f"mount --bind '{self.run}' '{root}/run'"]
        if read_only:
            out += [f"mount -o bind,remount,ro '{root}/sysroot'",
                    f"mount -o bind,remount,ro '{root}/boot'"]
        return out

    def inside(self, *argv, status=0, read_only=False, can_mount=False, **more):
        """Runs a program in the booted system, whose sysroot is "/". read_only: a disk that can't
        be mounted writable either, unless it can_mount."""
        if read_only and not can_mount:
            argv = ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin", *argv]
        script = os.path.join(interop.work, "inside")
        with open(script, "w", encoding="utf-8") as file:
            file.write("\n".join(["set -e", *self.mounts(read_only),
                                  f"exec chroot '{self.directory(self.booted)}' \"$@\"\n"]))
        return asked_twice(run, "unshare", "--mount", "--propagation", "private", "--pid", "--fork",
                           "--kill-child", "sh", script, *argv, status=status, **more)

    def status(self):
        """[(mark, commit)] in boot order; mark is "*" for the booted one, else what it is."""
        text = self.inside("ostree", "admin", "status").stdout
        return [(mark, commit, more or "") for mark, commit, more in
                re.findall(r"^([* ]) test ([0-9a-f]{64})\.\d+(?: \((\w+)\))?", text, re.M)]


def can_boot():
    """Why a booted system can't be had here, or None: all that inside() and mounts() do is tried."""
    if os.geteuid() != 0:
        return "not root"
    root = os.path.join(interop.work, "try-root")
    os.makedirs(os.path.join(root, "proc"), exist_ok=True)
    for name in ("bin", "lib", "lib64", "usr"):
        here, there = f"/{name}", os.path.join(root, name)
        if os.path.islink(here) and not os.path.islink(there):
            os.symlink(os.readlink(here), there)
        elif os.path.isdir(here):
            os.makedirs(there, exist_ok=True)
    script = "\n".join(["set -e", 'mount --bind "$1" "$1"', 'mount -t proc proc "$1/proc"',
                        'for name in bin lib lib64 usr; do', '[ -L "$1/$name" ] || '
                        '[ ! -d "/$name" ] || mount --rbind "/$name" "$1/$name"', "done",
                        'mount -o bind,remount,ro "$1"', 'exec chroot "$1" true'])
    tried = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child",
         "setpriv", "--bounding-set=-sys_boot", "--inh-caps=-sys_boot", "sh", "-c", script, "sh",
         root], capture_output=True, text=True, check=False)
    said = [*tried.stderr.replace("#", "").splitlines(), "no word"]
    return f"no mount namespaces here: {said[0]}" if tried.returncode else None
