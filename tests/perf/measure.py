# SPDX-License-Identifier: Apache-2.0
"""Timing whole processes, and words about the machine, for bench.py and its rows."""
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time

GIB = 1 << 30
MIB = 1 << 20


class Run:
    """One finished process: wall and CPU seconds (user alone too), peak memory in MiB."""

    def __init__(self, wall, user, system, rss):
        self.wall, self.user, self.cpu, self.rss = wall, user, user + system, rss


def measure(argv, cwd=None, env=None, ok=(0,)):
    """Runs argv under time(1): a child of Python would report Python's own memory as its peak."""
    with tempfile.NamedTemporaryFile("r") as out:
        done = subprocess.run(
            ["/usr/bin/time", "-o", out.name, "-f", "%e %U %S %M", *argv],
            cwd=cwd, env=env, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if done.returncode not in ok:
            sys.exit(f"bench: {' '.join(argv)}: exit {done.returncode}\n"
                     f"{done.stderr.decode(errors='replace')}")
        wall, user, system, rss = out.read().split()[-4:]
    return Run(float(wall), float(user), float(system), int(rss) / 1024), done.stdout


def precise(argv, env=None, repeat=20):
    """Milliseconds of a whole process, where time(1)'s hundredths are too coarse."""
    best = []
    for _ in range(repeat):
        start = time.perf_counter()
        pid = os.posix_spawn(argv[0], argv, env or os.environ,
                             file_actions=[(os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0),
                                           (os.POSIX_SPAWN_OPEN, 2, "/dev/null", os.O_WRONLY, 0)])
        _, status = os.waitpid(pid, 0)
        best.append((time.perf_counter() - start) * 1000)
        if os.waitstatus_to_exitcode(status) != 0:
            sys.exit(f"bench: {' '.join(argv)}: exit {os.waitstatus_to_exitcode(status)}")
    return statistics.median(best)


def median(runs, what):
    return statistics.median(getattr(run, what) for run in runs)


def alternate(runs, commands, before=lambda: None):
    """Runs the commands in turn, A B A B ..., so that a slow phase of the machine hits all.

    Before each of them `before` makes the same start for all.
    """
    results = {name: [] for name in commands}
    for _ in range(runs):
        for name, action in commands.items():
            before()
            results[name].append(action())
    return results


def busy():
    """What other programs take of the CPUs, in percent over half a second."""
    def ticks():
        with open("/proc/stat", encoding="ascii") as f:
            numbers = [int(n) for n in f.readline().split()[1:9]]
        return sum(numbers), numbers[3] + numbers[4]
    total, idle = ticks()
    time.sleep(0.5)
    total_after, idle_after = ticks()
    return 100 * (1 - (idle_after - idle) / max(total_after - total, 1))


def version(program):
    """The first line a program says of itself: peers differ from release to release."""
    argv = [program, "version"] if program == "openssl" else [program, "--version"]
    line = subprocess.run(argv, capture_output=True, check=True).stdout.decode().split("\n")[0]
    return " ".join(line.split()[:4]).rstrip(",")


def write_random(path, data_bytes, virtual_bytes=None, extents=1):
    """data_bytes of incompressible data in extents spread over virtual_bytes; the rest holes."""
    block = os.urandom(4 * MIB)
    virtual = virtual_bytes or data_bytes
    with open(path, "wb", buffering=0) as f:
        f.truncate(virtual)
        share = data_bytes // extents // len(block) * len(block)
        for i in range(extents):
            f.seek(virtual // extents * i // 4096 * 4096)
            for k in range(share // len(block)):
                f.write((i * 1000003 + k).to_bytes(8, "little") + block[8:])


def bytes_read(argv, env):
    """rchar of a process and its libraries: what it asked read(2) and pread(2) for."""
    done = subprocess.run(["sh", "-c", '"$@" >/dev/null && sed -n "s/^rchar: //p" /proc/$$/io',
                           "sh", *argv], env=env, capture_output=True, check=True)
    return int(done.stdout)


def cpu_model():
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as f:
        text = f.read()
    model = re.search(r"model name\s*: (.*)", text)
    flags = re.search(r"flags\s*: (.*)", text)
    notable = [f for f in ("sha_ni", "avx512f") if flags and f in flags.group(1).split()]
    return f"{model.group(1) if model else os.uname().machine}, {os.cpu_count()} CPUs" + (
        f", {' '.join(notable)}" if notable else "")


def release():
    with open("/etc/os-release", encoding="utf-8") as f:
        name = re.search(r'PRETTY_NAME="(.*)"', f.read())
    return name.group(1) if name else "unknown"
