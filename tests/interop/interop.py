# SPDX-License-Identifier: Apache-2.0
"""What the tests against real programs share: TAP, the program under test, QEMU and its kin.

Nothing outlives a test: processes are ended by their id, files live below one temporary directory.
"""
import atexit
import contextlib
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import traceback

LARDER = os.environ["LARDER"]
# A machine that builds beside us is slow, a program that hangs is slower.
PATIENCE = 300.0

work = tempfile.mkdtemp(prefix="larder-interop.", dir=os.environ.get("TMPDIR", "/tmp"))
_count = _failed = 0
_processes = []


def _clean():
    for process in _processes:
        if process.poll() is None:
            process.kill()
            process.wait()
    for top, dirs, _ in os.walk(work):
        for name in dirs:
            path = os.path.join(top, name)
            if not os.path.islink(path):
                os.chmod(path, 0o700)
    shutil.rmtree(work, ignore_errors=True)


atexit.register(_clean)
for _name in [n for n in os.environ if n.startswith("LARDER_")]:
    if _name not in ("LARDER_SOURCE", "LARDER_BUILD", "LARDER_VERSION"):
        del os.environ[_name]
os.environ.update(LC_ALL="C.UTF-8", HOME=work, TZ="UTC")
os.chdir(work)


# ---- TAP ----

class Skip(Exception):
    """This test can't be done here; the message says why."""


@contextlib.contextmanager
def case(title):
    """One test: fails by any exception but Skip; the ones after it still run."""
    global _count, _failed
    _count += 1
    try:
        yield
        print(f"ok {_count} - {title}", flush=True)
    except Skip as why:
        print(f"ok {_count} - {title} # SKIP {why}", flush=True)
    except Exception as problem:  # whatever it is, it is this test's
        _failed += 1
        print(f"not ok {_count} - {title}")
        text = "".join(traceback.format_exception(problem))
        for line in text.splitlines():
            print("# " + line)
        sys.stdout.flush()


def skip(title, why):
    global _count
    _count += 1
    print(f"ok {_count} - {title} # SKIP {why}", flush=True)


def need(*programs):
    for program in programs:
        if not shutil.which(program):
            print(f"1..0 # SKIP no {program} here")
            sys.exit(0)


def done():
    print(f"1..{_count}")
    sys.exit(1 if _failed or not _count else 0)


def equal(got, expected, what=""):
    assert got == expected, f"{what}: got {got!r}, expected {expected!r}"


# ---- running things ----

def run(*argv, status=0, **more):
    """stdout of a program that must end with this status (None: any)."""
    done_ = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=PATIENCE,
                           stdin=subprocess.DEVNULL, **more)
    if status is not None and done_.returncode != status:
        raise AssertionError(f"{' '.join(argv)}: status {done_.returncode}, expected {status}\n"
                             f"{done_.stdout}{done_.stderr}")
    return done_


def wait_for(what, ready, process=None):
    end = time.monotonic() + PATIENCE
    while not ready():
        if process and process.poll() is not None:
            raise AssertionError(f"{what}: ended with {process.returncode}")
        if time.monotonic() > end:
            raise AssertionError(f"waited in vain for {what}")
        time.sleep(0.02)


def sha256(path):
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest() if hasattr(hashlib, "file_digest") \
            else hashlib.sha256(f.read()).hexdigest()


def flip(path, offset):
    """One bit of a file, whatever its mode says."""
    mode = os.stat(path).st_mode
    os.chmod(path, 0o600)
    with open(path, "r+b") as f:
        f.seek(offset)
        byte = f.read(1)[0]
        f.seek(offset)
        f.write(bytes([byte ^ 1]))
    os.chmod(path, mode & 0o7777)


# ---- larder ----

class Store:
    """The program under test on a store of its own."""

    def __init__(self, name, **env):
        self.path = os.path.join(work, name, "store")
        os.makedirs(os.path.dirname(self.path))
        self.env = {**os.environ, "LARDER_HOME": self.path, **env}

    def larder(self, *argv, status=0):
        return run(LARDER, *argv, status=status, env=self.env)

    def get(self, name, *more, status=0):
        return self.larder("image", "get", name, *more, status=status).stdout.rstrip("\n")

    def show(self, name):
        return json.loads(self.larder("image", "show", "--json", name).stdout)

    def holders(self, name):
        return "\n".join(self.show(name)["holders"])

    def gc(self, *more):
        """The hardest gc there is: nothing that may go stays."""
        return self.larder("gc", "--keep-for", "0", "--max-size", "1", *more)

    def files(self, *places):
        """Names below these directories of the store, without the notes beside evidence."""
        found = []
        for place in places or ("blobs", "quarantine"):
            for top, _, names in os.walk(os.path.join(self.path, place)):
                found += [os.path.join(top, n) for n in names if not n.endswith(".json")]
        return found


# ---- QEMU ----

class Held:
    """A process that holds an image, ended by its id."""

    def __init__(self, argv):
        self.log = tempfile.TemporaryFile(dir=work)
        self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=self.log,
                                        stderr=subprocess.STDOUT)
        _processes.append(self.process)

    @property
    def pid(self):
        return self.process.pid

    def wait_socket(self, path):
        def answers():
            with socket.socket(socket.AF_UNIX) as s:
                try:
                    s.connect(path)
                except OSError:
                    return False
            return True
        self.wait_until(path, answers)

    def wait_until(self, what, ready):
        try:
            wait_for(what, ready, self.process)
        except AssertionError as problem:
            self.log.seek(0)
            raise AssertionError(f"{problem}\n{self.log.read().decode(errors='replace')}") from None

    def is_alive(self):
        return self.process.poll() is None

    def stop(self):
        if self.is_alive():
            self.process.terminate()
        self.process.wait(PATIENCE)


class Monitor:
    """A QMP connection."""

    def __init__(self, held, path):
        held.wait_until(path, lambda: os.path.exists(path))
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(PATIENCE)
        held.wait_until(path, self._connects(path))
        self.file = self.socket.makefile("rw", encoding="utf-8")
        greeting = json.loads(self.file.readline())
        assert "QMP" in greeting, greeting
        self.do("qmp_capabilities")

    def _connects(self, path):
        def attempt():
            try:
                self.socket.connect(path)
            except OSError:
                return False
            return True
        return attempt

    def do(self, command, **arguments):
        self.file.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self.file.flush()
        while True:
            line = self.file.readline()
            assert line, f"{command}: the monitor was closed"
            answer = json.loads(line)
            if "error" in answer:
                raise AssertionError(f"{command}: {answer['error']}")
            if "return" in answer:
                return answer["return"]

    def close(self):
        self.file.close()
        self.socket.close()


class Qemu(Held):
    """A paused guest (with run=True: a running one) on one block node called "disk".

    drive: options of -drive instead, for what is not made of block nodes by hand.
    """

    number = 0

    def __init__(self, blockdev, *more, drive=None, run=False, program="qemu-system-x86_64"):
        Qemu.number += 1
        self.monitor_path = os.path.join(work, f"qmp{Qemu.number}")
        self.nbd_path = os.path.join(work, f"nbd{Qemu.number}")
        self.has_nbd = False
        if program == "qemu-storage-daemon":
            argv = [program, "--chardev", f"socket,id=m,path={self.monitor_path},server=on,wait=off",
                    "--monitor", "chardev=m", "--blockdev", blockdev]
        else:
            argv = [program, "-display", "none", "-nodefaults", "-machine", "pc,accel=tcg",
                    "-m", "32", "-qmp", f"unix:{self.monitor_path},server=on,wait=off",
                    *(["-drive", f"if=none,id=disk,{drive}"] if drive else ["-blockdev", blockdev]),
                    "-device", "virtio-blk-pci,drive=disk"]
            if not run:
                argv.append("-S")
        super().__init__([*argv, *more])
        self.has_devices = program != "qemu-storage-daemon"
        self.monitor = Monitor(self, self.monitor_path)

    def check(self, reference):
        """Up, answering, and every guest-visible byte that of the raw file reference."""
        assert self.is_alive(), f"ended with {self.process.returncode}"
        node = "disk"
        if self.has_devices:
            disk, = self.monitor.do("query-block")
            equal(disk.get("io-status", "ok"), "ok", "the disk's status")
            node = disk["inserted"]["node-name"]
            assert self.monitor.do("query-status")["status"] in ("prelaunch", "running")
        if not self.has_nbd:
            self.monitor.do("nbd-server-start",
                            addr={"type": "unix", "data": {"path": self.nbd_path}})
            self.monitor.do("block-export-add", **{"type": "nbd", "id": "look", "name": "look",
                                                   "node-name": node, "writable": False})
            self.has_nbd = True
        run("qemu-img", "compare", "-f", "raw", "-F", "raw", reference,
            f"nbd+unix:///look?socket={self.nbd_path}")

    def stop(self):
        self.monitor.close()
        super().stop()


class Nbd(Held):
    """qemu-nbd on one image, read-only."""

    def __init__(self, path, fmt):
        Qemu.number += 1
        self.nbd_path = os.path.join(work, f"nbd{Qemu.number}")
        super().__init__(["qemu-nbd", "-r", "-t", "-e", "0", "-k", self.nbd_path, "-x", "look",
                          "-f", fmt, path])
        self.wait_socket(self.nbd_path)

    def check(self, reference):
        assert self.is_alive(), f"ended with {self.process.returncode}"
        run("qemu-img", "compare", "-f", "raw", "-F", "raw", reference,
            f"nbd+unix:///look?socket={self.nbd_path}")


def make_disk(path, seed, size="16M"):
    """A qcow2 disk with data that depends on seed, and with room behind its header."""
    run("qemu-img", "create", "-q", "-f", "qcow2", path, size)
    writes = []
    for i in range(3):
        writes += ["-c", f"write -q -P {(seed * 16 + i + 1) % 255} {i * 5}M 1M"]
    run("qemu-io", "-f", "qcow2", *writes, path)


# Behind the header's last extension and before the first table: nobody reads these bytes.
SPARE_OFFSET = 60000


def convert(path, raw, fmt="qcow2"):
    run("qemu-img", "convert", "-f", fmt, "-O", "raw", path, raw)
    return raw


def image_info(path, *more):
    return json.loads(run("qemu-img", "info", "--output=json", *more, path).stdout)
