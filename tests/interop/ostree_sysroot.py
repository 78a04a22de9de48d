#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Updates of a booted system: what each of its deployments is told, on a sysroot that ostree itself
made, in a mount namespace that ostree takes for a boot of it."""
import os

import interop
from interop import case, equal
from ostree_rig import Sysroot, can_boot, image, make_tree

interop.need("ostree", "unshare", "chroot")
if can_boot():
    print(f"1..0 # SKIP {can_boot()}")
    raise SystemExit(0)

REFERENCE = "docker://example.org/os:stable"
ORIGIN = "ostree-unverified-registry:example.org/os:stable"
sysroot = Sysroot("sysroot")
repo = sysroot.repo


def imported(version, *layers):
    """The commit of an image that was just imported: the reference's ref is on it now."""
    return repo.image(REFERENCE, image(version, [("base", 1000), *layers]),
                      make_tree(f"tree-{version}", version))


def the_rig():
    first, second, third = (imported(v, (v, 100)) for v in ("1", "2", "3"))
    with case("ostree takes the namespace for a booted system"):
        sysroot.deploy(first, ORIGIN)
        sysroot.boot(first)
        equal(sysroot.status(), [("*", first, "")])
        equal(sysroot.inside("stat", "-c", "%d:%i", "/").stdout,
              interop.run("stat", "-c", "%d:%i", sysroot.directory(first)).stdout)

    with case("it has a pending deployment, a staged one, and after a boot one to roll back to"):
        sysroot.deploy(second, ORIGIN)
        equal(sysroot.status(), [(" ", second, "pending"), ("*", first, "")])
        sysroot.boot(second)
        equal(sysroot.status(), [("*", second, ""), (" ", first, "rollback")])
        sysroot.deploy(third, ORIGIN, "--stage")
        equal(sysroot.status(), [(" ", third, "staged"), ("*", second, ""),
                                 (" ", first, "rollback")])
        equal(os.path.exists(os.path.join(sysroot.run, "ostree/staged-deployment")), True)

    with case("its disk can be read-only"):
        equal(sysroot.inside("touch", "/sysroot/ostree/repo/x", status=None,
                             read_only=True).returncode, 1)
        equal(sysroot.inside("ostree", "admin", "status", read_only=True).returncode, 0)


the_rig()
interop.done()
