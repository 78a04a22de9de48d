#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Overlays that larder wrote, in the hands of qemu-img and of a guest that boots from them."""
import json
import os

import interop
from interop import Qemu, Store, case, convert, equal, make_disk, run, sha256

interop.need("qemu-system-x86_64", "qemu-img", "qemu-io")

MIB = 1024 * 1024
# Prints "guest up", writes its own boot sector to sector 1 of the disk through the BIOS, prints
# "written" or "failed", and stops. 16-bit code at 0x7c00; port 0xe9 is QEMU's debug console.
BOOT_CODE = bytes.fromhex(
    "fafc 31c0 8ed8 8ec0 8ed0 bc007c fb"  # cli, cld; ax = ds = es = ss = 0; sp = 7c00; sti
    "be407c e81b00"                       # si = first text; call print
    "b80103 bb007c b90200 ba8000 cd13"    # int 13h write: 1 sector, from 7c00, sector 2, drive 80h
    "be4a7c 7303 be537c e80200"           # si = second text, the third with carry; call print
    "ebfe"                                # stay here
    "ac 84c0 7404 e6e9 ebf7 c3")          # print: lodsb; until 0: out e9h, al; ret


def boot_sector():
    sector = bytearray(512)
    sector[:len(BOOT_CODE)] = BOOT_CODE
    for offset, text in ((0x40, b"guest up\n"), (0x4a, b"written\n"), (0x53, b"failed\n")):
        sector[offset:offset + len(text)] = text
    sector[510:] = b"\x55\xaa"
    return bytes(sector)


def make_bootable(path):
    """A qcow2 disk that boots, with an empty sector 1."""
    raw = path + ".raw"
    with open(raw, "wb") as f:
        f.write(boot_sector())
        f.seek(2 * MIB)
        f.write(bytes(range(256)) * 64)
        f.truncate(8 * MIB)
    run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, path)
    return raw


def boot(overlay):
    """What the guest said."""
    said = overlay + ".said"
    guest = Qemu(f"driver=qcow2,node-name=disk,file.driver=file,file.filename={overlay}",
                 "-chardev", f"file,id=said,path={said}", "-device",
                 "isa-debugcon,iobase=0xe9,chardev=said", run=True)

    def text():
        with open(said, encoding="ascii") as f:
            return f.read()
    guest.wait_until("the guest's last word", lambda: text().endswith(("written\n", "failed\n")))
    guest.stop()
    return text()


def fresh(name, image, checksum=True):
    """A store with the image got, its path, and a directory for overlays."""
    store = Store(name)
    more = ["--checksum", f"sha256:{sha256(image)}"] if checksum else []
    store.larder("image", "add", "disk", image, *more)
    return store, store.get("disk"), os.path.dirname(store.path)


SOURCE = os.path.join(interop.work, "disk.qcow2")
make_disk(SOURCE, 9)
RAW = convert(SOURCE, os.path.join(interop.work, "disk.raw"))

with case("qemu-img finds an overlay sound, and finds the base's content in it"):
    here, base, top = fresh("sound", SOURCE)
    overlay = os.path.join(top, "guest.qcow2")
    here.larder("image", "overlay", "disk", overlay)
    run("qemu-img", "check", overlay)
    info = interop.image_info(overlay)
    equal(info["format"], "qcow2")
    equal(info["virtual-size"], 16 * MIB)
    equal(info["backing-filename"], base)
    equal(info["full-backing-filename"], base)
    equal(info["backing-filename-format"], "qcow2")
    equal(info.get("dirty-flag"), False)
    equal(info["format-specific"]["data"]["corrupt"], False)
    run("qemu-img", "compare", "-f", "raw", "-F", "qcow2", RAW, overlay)
    equal(sha256(convert(overlay, overlay + ".raw")), sha256(RAW))

with case("it is the overlay that qemu-img create would have made"):
    here, base, top = fresh("same", SOURCE)
    ours, theirs = os.path.join(top, "ours.qcow2"), os.path.join(top, "theirs.qcow2")
    here.larder("image", "overlay", "disk", ours)
    run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", base, theirs)
    mine, qemus = interop.image_info(ours), interop.image_info(theirs)
    for info in (mine, qemus):
        del info["filename"]
        info.pop("actual-size")
        info.pop("children", None)
    equal(mine, qemus)
    equal(json.loads(run("qemu-img", "map", "--output=json", ours).stdout),
          json.loads(run("qemu-img", "map", "--output=json", theirs).stdout))

with case("--size: larger is zeros behind the base, smaller is refused"):
    here, base, top = fresh("size", SOURCE)
    overlay = os.path.join(top, "guest.qcow2")
    here.larder("image", "overlay", "disk", overlay, "--size", "3G")
    equal(interop.image_info(overlay)["virtual-size"], 3 << 30)
    run("qemu-img", "check", overlay)
    run("qemu-img", "compare", "-f", "raw", "-F", "qcow2", RAW, overlay)
    run("qemu-io", "-f", "qcow2", "-c", "read -P 0 16M 64M", "-c", "write -P 9 2G 1M",
        "-c", "read -P 9 2G 1M", overlay)
    run("qemu-img", "check", overlay)
    bad = here.larder("image", "overlay", "disk", os.path.join(top, "small"), "--size", "1M",
                      status=2)
    assert "smaller" in bad.stderr and not os.path.exists(os.path.join(top, "small")), bad.stderr
    equal(sha256(base), sha256(SOURCE))

with case("an existing file is refused and stays"):
    here, base, top = fresh("exists", SOURCE)
    overlay = os.path.join(top, "mine")
    with open(overlay, "w", encoding="ascii") as f:
        f.write("precious")
    here.larder("image", "overlay", "disk", overlay, status=1)
    with open(overlay, encoding="ascii") as f:
        equal(f.read(), "precious")
    equal(here.holders("disk"), "")

with case("writing through the overlay never changes the base"):
    here, base, top = fresh("write", SOURCE)
    overlay = os.path.join(top, "guest.qcow2")
    here.larder("image", "overlay", "disk", overlay)
    stat = os.stat(base)
    run("qemu-io", "-f", "qcow2", "-c", "write -q -P 0xaa 0 2M", "-c", "write -q -z 5M 1M",
        "-c", "discard -q 10M 1M", "-c", "write -q -P 0xbb 15M 1M", overlay)
    run("qemu-io", "-f", "qcow2", "-c", "read -P 0xaa 0 2M", "-c", "read -P 0 5M 1M",
        "-c", "read -P 0xbb 15M 1M", overlay)
    run("qemu-img", "check", overlay)
    equal(sha256(base), sha256(SOURCE))
    equal((os.stat(base).st_mtime_ns, os.stat(base).st_ctime_ns), (stat.st_mtime_ns, stat.st_ctime_ns))
    here.larder("image", "verify", "--deep", "disk")

with case("snapshot, resize and rebase of the overlay"):
    here, base, top = fresh("rebase", SOURCE)
    overlay = os.path.join(top, "guest.qcow2")
    here.larder("image", "overlay", "disk", overlay)
    run("qemu-img", "snapshot", "-c", "first", overlay)
    run("qemu-img", "resize", "-q", overlay, "20M")
    run("qemu-img", "rebase", "-u", "-f", "qcow2", "-F", "qcow2", "-b", base, overlay)
    run("qemu-img", "check", overlay)
    run("qemu-img", "compare", "-f", "raw", "-F", "qcow2", RAW, overlay)
    run("qemu-img", "rebase", "-f", "qcow2", "-b", "", overlay)
    run("qemu-img", "check", overlay)
    run("qemu-img", "compare", "-f", "raw", "-F", "qcow2", RAW, overlay)
    assert "backing-filename" not in interop.image_info(overlay)
    equal(sha256(base), sha256(SOURCE))

with case("a guest boots from the overlay and writes: the overlay changes, the base does not"):
    bootable = os.path.join(interop.work, "boot.qcow2")
    make_bootable(bootable)
    here, base, top = fresh("boot", bootable)
    overlay = os.path.join(top, "guest.qcow2")
    here.larder("image", "overlay", "disk", overlay, "--size", "1G")
    equal(boot(overlay), "guest up\nwritten\n")
    run("qemu-img", "check", overlay)
    with open(convert(overlay, overlay + ".raw"), "rb") as f:
        equal(f.read(1024), boot_sector() * 2, "first two sectors")
    equal(sha256(base), sha256(bootable))
    equal(boot(overlay), "guest up\nwritten\n", "second boot")

with case("overlays on every format that QEMU can open as a base"):
    for fmt, options in (("raw", ()), ("vmdk", ()), ("vdi", ()), ("vpc", ()), ("vhdx", ())):
        image = os.path.join(interop.work, f"base.{fmt}")
        run("qemu-img", "convert", "-f", "raw", "-O", fmt, *options, RAW, image)
        here, base, top = fresh(f"on-{fmt}", image)
        overlay = os.path.join(top, "guest.qcow2")
        here.larder("image", "overlay", "disk", overlay)
        info = interop.image_info(overlay)
        equal(info["backing-filename-format"], fmt, "backing format")
        equal(info["virtual-size"], interop.image_info(image, "-f", fmt)["virtual-size"], fmt)
        run("qemu-img", "check", overlay)
        # vpc rounds sizes up to its geometry: the rest must be zeros.
        run("qemu-img", "compare", "-f", "raw", "-F", "qcow2", RAW, overlay)

COMMIT = "qemu-img commit into the base: found by the next get, healed for old and new"
if os.geteuid() != 0:
    with case("qemu-img commit into the base is refused to who is not root"):
        here, base, top = fresh("commit", SOURCE)
        overlay = os.path.join(top, "guest.qcow2")
        here.larder("image", "overlay", "disk", overlay)
        run("qemu-io", "-f", "qcow2", "-c", "write -q -P 0xaa 0 1M", overlay)
        run("qemu-img", "commit", "-q", overlay, status=1)
        equal(sha256(base), sha256(SOURCE))
    interop.skip(COMMIT, "only root can open the store's files for writing")
else:
    with case(COMMIT):
        here, base, top = fresh("commit", SOURCE)
        overlay = os.path.join(top, "guest.qcow2")
        here.larder("image", "overlay", "disk", overlay)
        run("qemu-io", "-f", "qcow2", "-c", "write -q -P 0xaa 0 1M", overlay)
        run("qemu-img", "commit", "-q", overlay)
        assert sha256(base) != sha256(SOURCE), "commit did not reach the base: nothing is tested"
        here.larder("image", "verify", "disk", status=5)
        again = here.get("disk")
        equal(sha256(again), sha256(SOURCE))
        equal(again, base, "path")
        here.larder("image", "verify", "--deep", "disk")
        # Its commit emptied the overlay: it shows the base that is good again.
        run("qemu-img", "check", overlay)
        run("qemu-img", "compare", "-f", "raw", "-F", "qcow2", RAW, overlay)

    with case("qemu-img commit into the base, and get without a verify between"):
        here, base, top = fresh("commit2", SOURCE)
        overlay = os.path.join(top, "guest.qcow2")
        here.larder("image", "overlay", "disk", overlay)
        run("qemu-io", "-f", "qcow2", "-c", "write -q -P 0xaa 0 1M", overlay)
        run("qemu-img", "commit", "-q", overlay)
        equal(sha256(here.get("disk")), sha256(SOURCE))
        here.larder("fsck")

interop.done()
