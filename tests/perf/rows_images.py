# SPDX-License-Identifier: Apache-2.0
"""The rows of bench.py about disk images: hits, verifying, fetching, sparse files."""
import ctypes
import http.server
import os
import shutil
import subprocess
import threading

from measure import (GIB, MIB, alternate, bytes_read, measure, median, precise, version,
                     write_random)


def resident(path):
    """MiB of a file in the page cache, by mincore(2)."""
    libc = ctypes.CDLL(None, use_errno=True)
    size = os.path.getsize(path)
    with open(path, "rb") as f:
        pages = (size + 4095) // 4096
        vector = (ctypes.c_ubyte * pages)()
        libc.mmap.restype = ctypes.c_void_p
        libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int,
                              ctypes.c_int, ctypes.c_long]
        libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]
        libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
        at = libc.mmap(None, size, 1, 1, f.fileno(), 0)
        libc.mincore(at, size, vector)
        libc.munmap(at, size)
    return sum(byte & 1 for byte in vector) * 4096 // MIB


def evict(path):
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)


def warm(path):
    with open(path, "rb", buffering=0) as f:
        while f.read(16 * MIB):
            pass


class Sendfile(http.server.SimpleHTTPRequestHandler):
    """Static files by sendfile(2): the server must not be what is measured."""
    protocol_version = "HTTP/1.1"

    def copyfile(self, source, outputfile):
        outputfile.flush()
        size, offset = os.fstat(source.fileno()).st_size, 0
        while offset < size:
            sent = os.sendfile(self.connection.fileno(), source.fileno(), offset, 8 * MIB)
            if sent == 0:
                break
            offset += sent

    def log_message(self, *args):
        pass


class ImageRows:
    """Mixed into Bench."""

    images = None

    def image_set(self):
        """Eight 1 GiB images, in a directory with SHA256SUMS and in a store as well."""
        if self.images:
            return
        self.images = []
        self.set_dir = os.path.join(self.tmp, "set")
        os.mkdir(self.set_dir)
        self.set_env = dict(self.env, LARDER_HOME=os.path.join(self.tmp, "set-store"))
        for i in range(8):
            path = os.path.join(self.set_dir, f"image{i}.raw")
            write_random(path, self.scaled(GIB))
            with open(path, "r+b") as f:
                f.write(b"%d" % i)
            self.images.append(path)
        with open(os.path.join(self.set_dir, "SHA256SUMS"), "w") as sums:
            subprocess.run(["openssl", "dgst", "-sha256", "-r", *map(os.path.basename, self.images)],
                           cwd=self.set_dir, stdout=sums, check=True)
        self.run_larder("image", "adopt", self.set_dir, env=self.set_env)

    def hit(self):
        many = os.path.join(self.tmp, "many")
        os.mkdir(many)
        big = os.path.join(self.tmp, "big.raw")
        write_random(big, self.scaled(600 * MIB), self.scaled(8 * GIB), 16)
        for i in range(999):
            with open(os.path.join(many, f"entry{i:04}.raw"), "wb") as f:
                f.write(os.urandom(4096))
        self.run_larder("image", "adopt", many)
        self.run_larder("image", "add", "big", big)
        self.run_larder("image", "get", "big")
        argv = [self.larder, "image", "get", "big"]
        ms = precise(argv, env=self.env, repeat=100)
        run, _ = self.run_larder("image", "get", "big")
        true_ms = precise(["/bin/true"], repeat=100)
        read = bytes_read(argv, self.env)
        self.row("`image get` hit, 1,000 entries, 8 GiB image",
                 "≤ 5 ms whole process, no image byte read, RSS ≤ 12 MB",
                 f"{ms:.2f} ms, RSS {run.rss:.1f} MiB",
                 f"`/bin/true` takes {true_ms:.2f} ms; {read / 1024:.0f} KiB read in all "
                 f"(libraries, /proc, small files)")

    def memo(self):
        self.image_set()
        self.run_larder("image", "verify", "--all", env=self.set_env)
        ms = precise([self.larder, "image", "verify", "--all"], env=self.set_env, repeat=50)
        for path in self.images:
            warm(path)
        peer, _ = measure(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=self.set_dir)
        self.row("memo verify of 8 × 1 GiB against `sha256sum -c`", "≥ 1,000 × faster",
                 f"{peer.wall * 1000 / ms:,.0f} ×",
                 f"{ms:.2f} ms against {peer.wall:.2f} s (warm, {version('sha256sum')})")

    def deep(self):
        self.image_set()
        blobs = os.path.join(self.set_env["LARDER_HOME"], "blobs", "sha256")
        # Adopted files are links of the very same files, where the file system allows.
        files = {os.stat(p).st_ino: p for p in self.images
                 + [os.path.join(blobs, n) for n in os.listdir(blobs)]}
        names = " ".join(map(os.path.basename, self.images))
        results = alternate(self.args.runs, {
            "larder": lambda: self.run_larder("image", "verify", "--all", "--deep",
                                              env=self.set_env)[0],
            "openssl": lambda: measure(
                ["sh", "-c", f"printf '%s\\n' {names} | xargs -P2 -n1 openssl dgst -sha256"],
                cwd=self.set_dir)[0],
            "sha256sum": lambda: measure(["sha256sum", "-c", "--quiet", "SHA256SUMS"],
                                         cwd=self.set_dir)[0],
        }, before=lambda: [warm(path) for path in files.values()])
        ours = median(results["larder"], "wall")
        openssl, coreutils = (median(results[k], "wall") for k in ("openssl", "sha256sum"))
        self.row("deep verify of 8 × 1 GiB, warm",
                 "≥ 1.3 × `xargs -P2 openssl dgst`, ≥ 10 × Debian 12's `sha256sum -c`, "
                 "RSS ≤ 32 MB",
                 f"{openssl / ours:.2f} × openssl, {coreutils / ours:.1f} × sha256sum, RSS "
                 f"{median(results['larder'], 'rss'):.1f} MiB",
                 f"wall {ours:.2f} / {openssl:.2f} / {coreutils:.2f} s; CPU "
                 f"{median(results['larder'], 'cpu'):.2f} / {median(results['openssl'], 'cpu'):.2f}"
                 f" / {median(results['sha256sum'], 'cpu'):.2f} s; {version('openssl')}, "
                 f"{version('sha256sum')}")

    def cache(self):
        self.image_set()
        blobs = os.path.join(self.set_env["LARDER_HOME"], "blobs", "sha256")
        paths = sorted(os.path.join(blobs, n) for n in os.listdir(blobs)
                       if os.path.getsize(os.path.join(blobs, n)) >= MIB)
        shared, cold = paths[0], paths[1:4]
        warm(shared)
        for path in cold:
            evict(path)
        before = resident(shared), sum(map(resident, cold))
        self.run_larder("scrub", "--older-than", "0", "--foreground", env=self.set_env)
        after = resident(shared), sum(map(resident, cold))
        self.row("page cache around a scrub",
                 "pages that were resident stay; pages that scrub brought in don't",
                 f"shared image {before[0]} → {after[0]} MiB, cold ones {before[1]} → {after[1]} "
                 "MiB", f"kernel {os.uname().release.split('-')[0]}")

    def fetch(self):
        www = os.path.join(self.tmp, "www")
        os.mkdir(www)
        image = os.path.join(www, "image.raw")
        write_random(image, self.scaled(4 * GIB))
        with open(os.path.join(www, "SHA256SUMS"), "w") as sums:
            subprocess.run(["openssl", "dgst", "-sha256", "-r", "image.raw"], cwd=www, stdout=sums,
                           check=True)
        handler = lambda *a: Sendfile(*a, directory=www)
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/image.raw"
        copy = os.path.join(self.tmp, "copy.raw")

        def ours():
            home = os.path.join(self.tmp, "fetch-store")
            shutil.rmtree(home, ignore_errors=True)
            env = dict(self.env, LARDER_HOME=home)
            run, _ = self.run_larder("image", "get", url, env=env)
            shutil.rmtree(home)
            return run

        def curl():
            run, _ = measure(["curl", "-s", "-o", copy, url], env=self.env)
            return run

        def openssl():
            run, _ = measure(["openssl", "dgst", "-sha256", copy])
            os.unlink(copy)
            return run

        # Nobody writes out what another left in the cache; openssl reads what curl just wrote.
        results = alternate(self.args.runs, {
            "larder": lambda: [os.sync(), warm(image), ours()][-1],
            "curl": lambda: [os.sync(), warm(image), curl()][-1],
            "openssl": openssl})
        server.shutdown()
        wall = {k: median(v, "wall") for k, v in results.items()}
        cpu = {k: median(v, "cpu") for k, v in results.items()}
        one_pass = median(results["openssl"], "user")  # without reading the file
        budget = wall["curl"] + wall["openssl"] / 2
        self.row("fetch + verify over loopback HTTP, 4 GiB",
                 "≤ 1.15 × (`curl -o`, then half of `openssl dgst`); CPU ≤ curl + one SHA-256 pass",
                 f"{wall['larder'] / budget:.2f} × that, CPU "
                 f"{cpu['larder'] / (cpu['curl'] + one_pass):.2f} × that, RSS "
                 f"{median(results['larder'], 'rss'):.1f} MiB",
                 f"wall {wall['larder']:.2f} s (fsync included) / curl {wall['curl']:.2f} / openssl "
                 f"{wall['openssl']:.2f} s; CPU {cpu['larder']:.2f} / {cpu['curl']:.2f} / "
                 f"{cpu['openssl']:.2f} s ({one_pass:.2f} s of it hashing)")

    def sparse(self):
        env = dict(self.env, LARDER_HOME=os.path.join(self.tmp, "sparse-store"))
        source = os.path.join(self.tmp, "sparse.raw")
        write_random(source, self.scaled(600 * MIB), self.scaled(8 * GIB), 16)
        self.run_larder("image", "add", "sparse", source, env=env)
        _, out = self.run_larder("image", "get", "sparse", env=env)
        blob = out.decode().strip()
        st = os.stat(blob)
        read = bytes_read([self.larder, "image", "verify", "--deep", "sparse"], env)
        run, _ = self.run_larder("image", "verify", "--deep", "sparse", env=env)
        self.row("sparse 8 GiB image with 600 MiB of data",
                 "holes stay holes; deep verify reads only data",
                 f"{st.st_size / GIB:.1f} GiB long, {st.st_blocks * 512 / MIB:.0f} MiB on disk, "
                 f"{read / MIB:.0f} MiB read",
                 f"deep verify {run.wall:.2f} s (the zeros of the holes are hashed, not read)")
