#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checksum files as today's tools write them: image check judges a directory as the tool itself.

Three images: one is intact, one is changed after its checksum was taken, one is gone.
"""
import base64
import hashlib
import json
import os
import shutil
import subprocess

import interop
from interop import LARDER, Store, case, equal, run, skip

NAMES = ["good.img", "bad.img", "gone.img"]


def fill(folder, names):
    os.makedirs(folder)
    for number, name in enumerate(names):
        with open(os.path.join(folder, name), "wb") as f:
            f.write(bytes([0, 255, number]) * 20000)


def spoil(folder, names):
    good, bad, gone = (os.path.join(folder, name) for name in names)
    with open(bad, "r+b") as f:
        f.seek(30000)
        f.write(b"spoilt")
    os.unlink(gone)
    return good, bad


def judge(folder, sums):
    """larder's verdicts by file name."""
    store = Store(folder + ".store")
    shown = store.larder("image", "check", "--json", folder, status=None)
    assert shown.returncode in (0, 5), shown.stderr
    verdicts = {}
    for item in json.loads(shown.stdout)["images"]:
        verdicts[os.path.basename(item["path"])] = item["verdict"]
        if item["verdict"] != "unknown":
            equal(os.path.basename(item["sidecar"]), sums, "sidecar")
    return verdicts, shown.returncode


def written(folder, sums, names, command):
    """The tool's output over the files, as the file sums."""
    out = subprocess.run([*command, *names], cwd=folder, capture_output=True, check=True)
    with open(os.path.join(folder, sums), "wb") as f:
        f.write(out.stdout)


def agrees(folder, sums, checker):
    """What the tool itself finds: {name: OK}, from `NAME: OK` lines."""
    out = subprocess.run([*checker, sums], cwd=folder, capture_output=True, text=True, check=False)
    return {line.rsplit(": ", 1)[0]: line.endswith(": OK") for line in out.stdout.splitlines()
            if line.endswith((": OK", ": FAILED"))}


def has(command):
    """Whether the tool is here and knows these options."""
    return shutil.which(command[0]) and subprocess.run(
        [*command, "/dev/null"], capture_output=True, check=False).returncode == 0


# title, name of the checksum file, command, command that checks it (None: none that can)
TOOLS = [
    ("sha256sum", "SHA256SUMS", ["sha256sum"], ["sha256sum", "-c"]),
    ("sha256sum -b", "SHA256SUMS", ["sha256sum", "-b"], ["sha256sum", "-c"]),
    ("sha256sum --tag", "CHECKSUM", ["sha256sum", "--tag"], ["sha256sum", "-c"]),
    ("sha512sum", "SHA512SUMS", ["sha512sum"], ["sha512sum", "-c"]),
    ("sha512sum --tag", "CHECKSUM", ["sha512sum", "--tag"], ["sha512sum", "-c"]),
    ("openssl dgst -sha256", "CHECKSUM", ["openssl", "dgst", "-sha256"], None),
    ("openssl dgst -sha512 -r", "SHA512SUMS", ["openssl", "dgst", "-sha512", "-r"],
     ["sha512sum", "-c"]),
    ("cksum -a sha256", "CHECKSUM", ["cksum", "-a", "sha256"], ["cksum", "-c"]),
    ("cksum -a sha256 --untagged", "SHA256SUMS", ["cksum", "-a", "sha256", "--untagged"],
     ["sha256sum", "-c"]),
    ("cksum -a sha256 --base64", "CHECKSUM", ["cksum", "-a", "sha256", "--base64"],
     ["cksum", "-c"]),
    ("cksum -a sha512 --base64", "CHECKSUM", ["cksum", "-a", "sha512", "--base64"],
     ["cksum", "-c"]),
    ("shasum -a 256", "SHA256SUMS", ["shasum", "-a", "256"], ["shasum", "-c"]),
    ("shasum -a 256 --tag", "CHECKSUM", ["shasum", "-a", "256", "--tag"], None),
    ("shasum -a 512 -b", "SHA512SUMS", ["shasum", "-a", "512", "-b"], ["shasum", "-c"]),
    ("b2sum", "B2SUMS", ["b2sum"], ["b2sum", "-c"]),
    ("b2sum --tag", "CHECKSUM", ["b2sum", "--tag"], ["b2sum", "-c"]),
    ("rhash --sha256 --bsd", "CHECKSUM", ["rhash", "--sha256", "--bsd"], None),
    ("busybox sha256sum", "SHA256SUMS", ["busybox", "sha256sum"], ["sha256sum", "-c"]),
]
STRANGE = ["go od.img", "b(a)d = 1.img", "go\\ne.img"]

for number, (title, sums, command, checker) in enumerate(TOOLS):
    if not has(command):
        skip(title, "not here, or an older one")
        continue
    for kind, names in (("", NAMES), (", strange names", STRANGE)):
        with case(title + kind):
            here = f"tool{number}{len(kind)}"
            fill(here, names)
            written(here, sums, names, command)
            good, bad = spoil(here, names)
            verdicts, status = judge(here, sums)
            equal(verdicts, {os.path.basename(good): "valid", os.path.basename(bad): "corrupt"})
            equal(status, 5, "exit status")
            if checker:
                theirs = agrees(here, sums, checker)
                # coreutils shows a name with a backslash escaped; none of the two judged has one.
                equal({n: v == "valid" for n, v in verdicts.items()}, theirs, "the tool's own word")
            run(LARDER, "image", "check", "--remove", here, status=5,
                env={**os.environ, "LARDER_HOME": os.path.abspath(here + ".other")})
            assert os.path.exists(good) and not os.path.exists(bad), os.listdir(here)

# ---- what says less than a digest that counts ----

for title, command, sums in (("crc of cksum", ["cksum"], "CHECKSUM"),
                             ("sum", ["sum"], "CHECKSUM")):
    with case(f"{title}: a digest larder does not know is no verdict"):
        here = "unknown-" + title.replace(" ", "-")
        fill(here, NAMES)
        written(here, sums, NAMES, command)
        spoil(here, NAMES)
        verdicts, status = judge(here, sums)
        equal(set(verdicts.values()), {"unknown"}, "verdicts")
        equal(status, 0, "exit status")

for title, command, sums in (("md5sum", ["md5sum"], "MD5SUMS"),
                             ("sha1sum", ["sha1sum"], "SHA1SUMS")):
    with case(f"{title}: finds damage"):
        here = "weak-" + title
        fill(here, NAMES)
        written(here, sums, NAMES, command)
        spoil(here, NAMES)
        verdicts, status = judge(here, sums)
        equal(verdicts["bad.img"], "corrupt")
        equal(status, 5, "exit status")

for algorithm in ("sha256", "sha512"):
    # coreutils before 9.2 cannot write it; the text is what 9.2 and later print.
    with case(f"lines as cksum -a {algorithm} --base64 writes them"):
        here = "base64-" + algorithm
        fill(here, NAMES)
        with open(os.path.join(here, "CHECKSUM"), "w", encoding="ascii") as f:
            for name in NAMES:
                with open(os.path.join(here, name), "rb") as image:
                    digest = hashlib.new(algorithm, image.read()).digest()
                f.write(f"{algorithm.upper()} ({name}) = {base64.b64encode(digest).decode()}\n")
        spoil(here, NAMES)
        verdicts, status = judge(here, "CHECKSUM")
        equal(verdicts, {"good.img": "valid", "bad.img": "corrupt"})
        equal(status, 5, "exit status")

# ---- gpg ----

if not shutil.which("gpg"):
    skip("gpg --clearsign", "no gpg here")
else:
    gnupg = os.path.join(interop.work, "gnupg")
    os.mkdir(gnupg, 0o700)
    gpg = ["gpg", "--homedir", gnupg, "--batch", "--quiet", "--pinentry-mode", "loopback",
           "--passphrase", ""]
    run(*gpg, "--quick-generate-key", "Test <test@example.org>", "default", "default", "never")
    for kind, command in (("", ["sha256sum"]), (" of tagged lines", ["sha256sum", "--tag"])):
        with case(f"gpg --clearsign{kind}"):
            here = "signed" + str(len(kind))
            fill(here, NAMES)
            written(here, "plain", NAMES, command)
            run(*gpg, "--clearsign", "--output", os.path.join(here, "SHA256SUMS"),
                os.path.join(here, "plain"))
            os.unlink(os.path.join(here, "plain"))
            # Behind the signature stands another word about the changed image: it is not signed.
            good, bad = spoil(here, NAMES)
            forged = interop.sha256(bad)
            with open(os.path.join(here, "SHA256SUMS"), "a", encoding="ascii") as f:
                f.write(f"{forged}  bad.img\n")
            verdicts, status = judge(here, "SHA256SUMS")
            equal(verdicts, {"good.img": "valid", "bad.img": "corrupt"})
            equal(status, 5, "exit status")
    with case("gpg --clearsign and --keyring: image get wants the signature"):
        fill("keyed", NAMES)
        written("keyed", "plain", NAMES, ["sha256sum"])
        run(*gpg, "--clearsign", "--output", "keyed/SHA256SUMS", "keyed/plain")
        run(*gpg, "--export", "--output", "keyed/key.gpg")
        here = Store("keyring")
        here.larder("image", "add", "good", os.path.abspath("keyed/good.img"),
                    "--keyring", os.path.abspath("keyed/key.gpg"))
        equal(interop.sha256(here.get("good")), interop.sha256("keyed/good.img"))
        assert here.show("good")["signed_by"], "no signer shown"
        shutil.copy("keyed/plain", "keyed/SHA256SUMS")
        here.larder("image", "add", "again", os.path.abspath("keyed/good.img"),
                    "--keyring", os.path.abspath("keyed/key.gpg"))
        refused = here.larder("image", "get", "again", status=None)
        assert refused.returncode not in (0, 2), refused
    subprocess.run(["gpgconf", "--homedir", gnupg, "--kill", "gpg-agent"], check=False)

with case("a sidecar beside each image, by sha256sum and by hand"):
    fill("beside", NAMES)
    written("beside", "good.img.sha256", ["good.img"], ["sha256sum"])
    digest = interop.sha256("beside/bad.img")
    with open("beside/bad.img.checksum", "w", encoding="ascii") as f:
        f.write(digest.upper() + "\n")
    os.unlink("beside/gone.img")
    here = Store("besides")
    here.larder("image", "check", "beside")
    interop.flip("beside/bad.img", 40000)
    here.larder("image", "check", "beside", status=5)

interop.done()
