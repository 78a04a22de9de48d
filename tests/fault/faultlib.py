# SPDX-License-Identifier: Apache-2.0
"""What the fault tests share: a private store and upstream, running larder under a fault, and
judging a store from outside, with nothing of larder's own."""

import argparse
import concurrent.futures
import hashlib
import itertools
import json
import os
import random
import shutil
import stat
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback

LARDER = os.environ.get("LARDER", "larder")
INJECT = os.environ.get("FAULT_INJECT", "inject")
# What is traced is run with. The leak checker works with ptrace itself, and refuses to when it is
# traced.
TRACED = {"ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0"}
HERE = os.path.dirname(os.path.abspath(__file__))
# A command that runs longer hangs: everything here takes milliseconds, on an idle machine.
SECONDS = 300
# What a crash may leave behind: nothing of it is lost data or needs a person.
LEFT_BY_A_CRASH = {"temporary", "dead-lease", "orphan-memo", "unsure-blob", "dangling-ref",
                   "overdue-mark", "incomplete-ref"}


class Wrong(Exception):
    """The state or the answer is not what it has to be."""


class Result:
    def __init__(self, argv, status, out, err):
        self.argv, self.status, self.out, self.err = argv, status, out, err

    def __str__(self):
        text = f"status {self.status} of: larder {' '.join(self.argv)}"
        for line in (self.err + self.out).strip().splitlines()[-6:]:
            text += "\n    " + line
        return text


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def sha256_file(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def qcow2(seed, payload=40_000):
    """A small sound qcow2 image, with a body of its own for each seed."""
    size = 1 << 20
    header = struct.pack(">4sIQIIQIIQQIIQQQQII", b"QFI\xfb", 3, 0, 0, 9, size, 0,
                         (size // 512 + 63) // 64, 3 * 512, 512, 1, 0, 0, 0, 0, 0, 4, 104)
    l1_clusters = ((size // 512 + 63) // 64 * 8 + 511) // 512
    table = struct.pack(">Q", 2 * 512)
    used = 3 + l1_clusters
    counts = b"".join(struct.pack(">H", 1) for _ in range(used))
    body = (header.ljust(512, b"\0") + table.ljust(512, b"\0") + counts.ljust(512, b"\0") +
            bytes(512 * l1_clusters))
    return body + random.Random(seed).randbytes(payload)


def clean_environment():
    keep = {name: value for name, value in os.environ.items()
            if not name.startswith(("LARDER_", "XDG_")) and not name.lower().endswith("_proxy")}
    keep.update(LC_ALL="C.UTF-8", TZ="UTC")
    return keep


def is_sanitized():
    """Whether the program was built with a sanitizer, which has an allocator of its own."""
    with open(LARDER, "rb") as file:
        return b"__asan_init" in (data := file.read()) or b"__tsan_init" in data


def need_inject():
    """Ends the script, as skipped, where nothing may be traced."""
    if shutil.which(INJECT):
        probe = subprocess.run([INJECT, "-c", "open", "true"], stdin=subprocess.DEVNULL,
                               stderr=subprocess.PIPE, text=True, check=False)
        if probe.returncode == 0:
            return
        why = probe.stderr.strip().replace("#", "") or f"it ended with {probe.returncode}"
    else:
        why = "it is not built for this machine"
    print(f"1..0 # SKIP the injector: {why}")
    sys.exit(0)


def scratch_parent():
    """In memory when there is a place: thousands of runs should not wait for a disk's fsync."""
    if "TMPDIR" in os.environ:
        return os.environ["TMPDIR"]
    if os.path.isdir("/dev/shm") and os.access("/dev/shm", os.W_OK) and \
            shutil.disk_usage("/dev/shm").free > (2 << 30):
        return "/dev/shm"
    return None


def remove_tree(path):
    def writable(function, name, _):
        os.chmod(os.path.dirname(name), 0o700)
        os.chmod(name, 0o700)
        function(name)
    shutil.rmtree(path, onerror=writable)


class Scratch:
    """The directory of a whole script, with the HTTP server's root in it."""

    def __init__(self):
        self.path = tempfile.mkdtemp(prefix="larder-fault.", dir=scratch_parent())
        self.www = os.path.join(self.path, "www")
        os.mkdir(self.www)
        self.ids = itertools.count(1)
        self.server = None
        self.url = None

    def serve(self):
        script = os.path.join(HERE, "..", "http", "server.py")
        self.server = subprocess.Popen([sys.executable, script, self.www], text=True,
                                       stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                       stderr=subprocess.DEVNULL)
        self.url = f"http://127.0.0.1:{int(self.server.stdout.readline())}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.server:
            self.server.terminate()
            self.server.wait()
        remove_tree(self.path)

    def box(self):
        return Box(self, next(self.ids))


class Box:
    """One store and one upstream, for one point."""

    def __init__(self, scratch, number):
        self.path = os.path.join(scratch.path, f"box{number}")
        self.upstream = os.path.join(scratch.www, f"box{number}")
        self.store = os.path.join(self.path, "store")
        self.home = os.path.join(self.path, "home")
        os.makedirs(self.home)
        os.mkdir(self.upstream)
        self.url = f"{scratch.url}/box{number}" if scratch.url else None
        self.env = {**clean_environment(), "HOME": self.home, "LARDER_HOME": self.store}
        self.corrupt = set()  # digests whose blobs were damaged on purpose
        self.is_held = False  # an overlay needs the path: damaged bytes stay there, marked
        self.notes = {}
        self.stdin = b""  # of each command

    def __enter__(self):
        return self

    def __exit__(self, *_):
        remove_tree(self.path)
        remove_tree(self.upstream)

    # ---- running ----

    def run(self, argv, shown, env=None):
        try:
            done = subprocess.run(argv, input=self.stdin, stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE, env={**self.env, **(env or {})},
                                  cwd=self.path, timeout=SECONDS, check=False)
        except subprocess.TimeoutExpired:
            raise Wrong(f"hangs: larder {' '.join(shown)}") from None
        return Result(shown, done.returncode, done.stdout.decode(errors="replace"),
                      done.stderr.decode(errors="replace"))

    def larder(self, *argv):
        return self.run([LARDER, *argv], argv)

    def good(self, *argv):
        """Has to succeed."""
        result = self.larder(*argv)
        if result.status != 0:
            raise Wrong(str(result))
        return result

    def inject(self, argv, options):
        """Runs under the injector; returns the result and the calls that were counted."""
        report = os.path.join(self.path, "report")
        result = self.run([INJECT, "-o", report, *options, LARDER, *argv], argv, TRACED)
        if result.status == 125:
            raise Wrong(f"inject could not run: {result}")
        with open(report, encoding="utf-8", errors="replace") as file:
            lines = file.read().splitlines()
        return result, [line.split(" ", 1)[1] for line in lines if not line.startswith("total ")]

    # ---- upstream ----

    def publish(self, name, data, sums=True):
        """New content under the name, and its checksum file."""
        path = os.path.join(self.upstream, name)
        for target, content in ((path, data),
                                (path + ".sha256", f"{sha256(data)}  {name}\n".encode())):
            if target != path and not sums:
                continue
            with open(target + ".new", "wb") as file:
                file.write(content)
            os.rename(target + ".new", target)
        return path

    def source(self, name, http=False):
        return f"{self.url}/{name}" if http else os.path.join(self.upstream, name)

    def blob(self, data):
        return os.path.join(self.store, "blobs", "sha256", sha256(data))

    def damage(self, data):
        """Changes a byte of the blob, as a failing disk or a careless program does."""
        path = self.blob(data)
        os.chmod(path, 0o644)
        with open(path, "r+b") as file:
            file.seek(len(data) // 2)
            file.write(bytes([data[len(data) // 2] ^ 0x40]))
        os.chmod(path, 0o444)
        self.corrupt.add(sha256(data))

    # ---- judging ----

    def blobs(self):
        found = {}
        for alg in ("sha256", "sha512"):
            place = os.path.join(self.store, "blobs", alg)
            for name in os.listdir(place) if os.path.isdir(place) else ():
                found[name] = os.path.join(place, name)
        return found

    def check_blobs(self):
        """Whatever has a name under blobs/ is complete: its bytes hash to its name."""
        for name, path in self.blobs().items():
            st = os.lstat(path)
            if not stat.S_ISREG(st.st_mode):
                raise Wrong(f"{path} is no regular file")
            if sha256_file(path) != name and name not in self.corrupt:
                raise Wrong(f"{path} is {st.st_size} bytes that hash to {sha256_file(path)}")
            if stat.S_IMODE(st.st_mode) != 0o444:
                raise Wrong(f"{path} has mode {stat.S_IMODE(st.st_mode):o}")

    def check_path(self, path, data):
        """A path that was handed out: it is the blob of these bytes."""
        if path != self.blob(data):
            raise Wrong(f"got the path {path!r}, expected {self.blob(data)}")
        if sha256_file(path) != sha256(data):
            raise Wrong(f"{path} hashes to {sha256_file(path)}")

    def check_image(self, name, data):
        """An independent look: the entry is valid, here, and these bytes."""
        result = self.good("image", "get", "--offline", name)
        self.check_path(result.out.strip(), data)
        result = self.good("--json", "image", "verify", "--deep", name)
        if '"valid"' not in result.out:
            raise Wrong(f"verify --deep says: {result.out}")

    def names(self):
        return [image["name"] for image in json.loads(self.good("--json", "image", "list").out)["images"]]

    def fsck(self, *options):
        result = self.larder("--json", "fsck", *options)
        if result.status not in (0, 5):
            raise Wrong(f"fsck fails: {result}")
        try:
            return result, json.loads(result.out)["found"]
        except ValueError:
            raise Wrong(f"fsck prints no JSON: {result}") from None

    def check_fsck_harmless(self):
        """After a crash, before anything is repaired."""
        if not os.path.exists(os.path.join(self.store, "format")):
            return  # killed while the store was made: there is none yet
        result, found = self.fsck()
        may_be_corrupt = False
        for problem in found:
            if problem["kind"] == "corrupt-blob" and \
                    problem["object"].rsplit("/", 1)[1] in self.corrupt:
                may_be_corrupt = True
            elif problem["kind"] not in LEFT_BY_A_CRASH or not problem["is_harmless"]:
                if not (problem["kind"] == "overdue-mark"):
                    raise Wrong(f"fsck finds: {problem}")
        if result.status != 0 and not may_be_corrupt:
            raise Wrong(f"fsck: {result}")

    def check_repair(self):
        """--repair leaves nothing to find."""
        if not os.path.exists(os.path.join(self.store, "format")):
            return
        result, found = self.fsck("--repair")
        if any(not p["is_repaired"] and p["kind"] != "dangling-ref" for p in found):
            raise Wrong(f"fsck --repair leaves: {found}")
        # A file younger than two seconds may not be trusted by its times yet (the racy rule): it
        # is hashed again until it is older.
        result, found = self.fsck("--deep")
        found = [p for p in found if p["kind"] not in ("dangling-ref", "unsure-blob")]
        if result.status != 0 or found:
            raise Wrong(f"after fsck --repair: {result} {found}")
        if not self.is_held:
            self.corrupt.clear()
        self.check_blobs()
        left = os.listdir(os.path.join(self.store, "tmp"))
        if left:
            raise Wrong(f"temporaries stay after fsck --repair: {left}")


def told(error):
    """What the log is to say of an exception: of one that nobody expected, where it comes from."""
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, Wrong):
        return text
    frames = traceback.extract_tb(error.__traceback__)[-4:]
    return "\n".join([text, *(f"    at {os.path.basename(f.filename)}:{f.lineno}: {f.line}"
                              for f in frames)])


class Struck:
    """How registry_faults.py strikes a job."""
    # Exit codes beside 1 of a run that met an error: 8 when it was the registry.
    failed = (8,)
    # GLib ends a process that has no memory: then it is as if somebody had killed it.
    may_abort = False
    kinds = ("kill", "error", "memory")
    # Classes of the system calls that are counted, when not all that the kind has.
    classes = None
    points_factor = 1  # of --points

    def is_aimed(self, call):
        """Whether that system call is worth a strike."""
        return True


# ---- many points -------------------------------------------------------------------------------


class Tap:
    def __init__(self):
        self.lock = threading.Lock()
        self.count = 0
        self.failed = 0

    def report(self, good, title, notes=()):
        with self.lock:
            self.count += 1
            self.failed += not good
            print(f"{'ok' if good else 'not ok'} {self.count} - {title}")
            for note in notes:
                for line in str(note).splitlines():
                    print(f"# {line}")
            sys.stdout.flush()

    def skip(self, title, why):
        with self.lock:
            self.count += 1
            print(f"ok {self.count} - {title} # SKIP {why}", flush=True)

    def case(self, title, function, *arguments):
        """One test: a function that raises Wrong, or returns what to add to the title."""
        try:
            more = function(*arguments)
        except Wrong as wrong:
            self.report(False, title, [wrong])
        except Exception as error:  # a broken test is a failed one, and the next ones still run
            self.report(False, title, [told(error)])
        else:
            self.report(True, title + (f": {more}" if more else ""))

    def done(self):
        print(f"1..{self.count}", flush=True)
        return 1 if self.failed or not self.count else 0


def choose(total, wish, offset):
    """At most wish of the points 1..total, evenly spread; all of them for wish 0."""
    if not wish or total <= wish:
        return list(range(1, total + 1))
    return sorted({1 + (i * total // wish + offset) % total for i in range(wish)})


def run_points(points, function, jobs):
    """function(point) -> None or the text of a failure; returns how many and the failures."""
    failures = []
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        for point, failure in zip(points, pool.map(function, points)):
            if failure:
                failures.append((point, failure))
    return len(points), failures


def arguments(doc, points, operations=None):
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("--points", type=int, default=points, metavar="N",
                        help="at most so many points a scenario; 0: all (%(default)s)")
    parser.add_argument("--only", metavar="SCENARIO", help="those whose names contain this")
    parser.add_argument("--at", type=int, metavar="N", help="one point only, and tell")
    parser.add_argument("--show", type=int, default=5, metavar="N", help="failures a scenario")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 2)
    if operations is not None:
        parser.add_argument("--operations", type=int, default=operations, metavar="N")
        parser.add_argument("--seed", type=int)
    args = parser.parse_args()
    # A sanitizer makes every process several times slower: fewer points there, evenly spread.
    most = int(os.environ.get("FAULT_POINTS_MAX", "0"))
    if most and not args.at:
        args.points = min(args.points or most, most)
    return args


def elapsed(since):
    return f"{time.monotonic() - since:.0f} s"
