#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Progress on a terminal: rate and time left in one line that goes away; none elsewhere."""
import hashlib
import json
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import tempfile
import time

LARDER = os.environ["LARDER"]
SERVER = os.path.join(os.environ["LARDER_SOURCE"], "tests/http/server.py")
PATIENCE_S = 600
# The program shows nothing of what is over sooner (PROGRESS_QUIET_NS), with something to spare.
QUIET_S = 0.25
RATE = r"\d[\d.]* ?[KMG]?i?B/s"
TIME_LEFT = r"/s +\d+:\d\d"
HOW_MUCH = r"[\d.]+ MiB/8.0 MiB +\d+%"
# A busy machine or disk may keep the program from drawing in just the second that a get takes: the
# next one takes four times as long.
SECONDS_A_PIECE = (0.02, 0.08, 0.32, 1.28)
# So often a hit may take longer than what nothing is shown of; if it always does, none can be seen.
HIT_TRIES = 10
count = failed = 0


def check(title, ok, detail=""):
    global count, failed
    count += 1
    print("%s %d - %s" % ("ok" if ok else "not ok", count, title))
    if not ok:
        failed += 1
        for line in str(detail).splitlines():
            print("# " + line)
    sys.stdout.flush()


def on_terminal(argv, env, size=(24, 80)):
    """What a terminal on stderr is sent; stdout apart."""
    import fcntl
    import struct
    import termios
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
    child = subprocess.Popen(argv, env=env, stdin=slave, stdout=subprocess.PIPE, stderr=slave)
    os.close(slave)
    seen = b""
    out = b""
    open_fds = {master, child.stdout.fileno()}
    end = time.monotonic() + PATIENCE_S
    while open_fds and time.monotonic() < end:
        for fd in select.select(list(open_fds), [], [], 1)[0]:
            try:
                piece = os.read(fd, 65536)
            except OSError:
                piece = b""
            if not piece:
                open_fds.discard(fd)
            elif fd == master:
                seen += piece
            else:
                out += piece
    if open_fds:
        child.kill()
        seen += b"killed after %d s" % PATIENCE_S
    child.wait()
    os.close(master)
    return child.returncode, out.decode(), seen.decode(errors="replace")


def main():
    work = tempfile.mkdtemp(prefix="larder-test.")
    www = os.path.join(work, "www")
    os.mkdir(www)
    os.mkdir(os.path.join(work, "home"))
    data = b"\xeb\x63" + os.urandom(508) + b"\x55\xaa" + os.urandom(8 * 1024 * 1024)
    with open(os.path.join(www, "a.img"), "wb") as f:
        f.write(data)
    with open(os.path.join(www, "SHA256SUMS"), "w", encoding="ascii") as f:
        f.write(hashlib.sha256(data).hexdigest() + "  a.img\n")
    control = os.path.join(work, "control")

    def drip(seconds):
        with open(control + ".new", "w", encoding="ascii") as f:
            json.dump({"/a.img": {"drip": [131072, seconds]}}, f)
        os.rename(control + ".new", control)

    drip(SECONDS_A_PIECE[0])
    server = subprocess.Popen([sys.executable, SERVER, "--control", control, www],
                              stdout=subprocess.PIPE)
    url = "http://127.0.0.1:%s/a.img" % server.stdout.readline().decode().strip()
    env = {k: v for k, v in os.environ.items() if not k.startswith(("LARDER_", "XDG_"))}
    env.update(HOME=os.path.join(work, "home"), TERM="xterm", LC_ALL="C.UTF-8")
    n = 0

    def fresh():
        nonlocal n
        n += 1
        env["LARDER_HOME"] = os.path.join(work, "store%d" % n)

    def fetch(wanted, size=(24, 80)):
        """Gets, until all that is wanted was drawn, what another look may show."""
        for seconds in SECONDS_A_PIECE:
            drip(seconds)
            fresh()
            rc, out, seen = on_terminal([LARDER, "image", "get", url], env, size)
            if rc != 0 or all(re.search(pattern, seen) for pattern in wanted):
                break
        drip(SECONDS_A_PIECE[0])
        return rc, out, seen

    try:
        rc, out, seen = fetch([RATE, TIME_LEFT, HOW_MUCH])
        check("fetched on a terminal", rc == 0 and out.startswith("/"), seen)
        check("progress has a rate", re.search(RATE, seen), repr(seen))
        check("progress has the time left", re.search(TIME_LEFT, seen), repr(seen))
        check("progress has how much of how much, and the per cent",
              re.search(HOW_MUCH, seen), repr(seen))
        check("each update stays in its line",
              "\r" in seen and seen.count("\n") <= 3, repr(seen))
        widths = [len(re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", x)) for x in re.split(r"[\r\n]", seen)
                  if "/s" in x]
        check("no update is wider than the terminal", widths and max(widths) <= 80, widths)
        rc, out, seen = fetch(["%"], (24, 30))
        widths = [len(re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", x)) for x in re.split(r"[\r\n]", seen)
                  if "%" in x]
        check("a narrow terminal gets narrow lines", rc == 0 and widths and max(widths) <= 30,
              repr(seen))
        for title, flags, term in (("--no-progress", ["--no-progress"], "xterm"),
                                   ("--quiet", ["--quiet"], "xterm"), ("a dumb terminal", [], "dumb")):
            fresh()
            rc, out, seen = on_terminal([LARDER, *flags, "image", "get", url], dict(env, TERM=term))
            check("none with " + title, rc == 0 and "/s" not in seen and "\x1b" not in seen, repr(seen))
        fresh()
        done = subprocess.run([LARDER, "image", "get", url], env=env, stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=PATIENCE_S, check=False)
        check("none when piped", done.returncode == 0 and "\r" not in done.stderr
              and "/s" not in done.stderr and "\x1b" not in done.stderr, repr(done.stderr))
        for _ in range(HIT_TRIES):
            begin = time.monotonic()
            rc, out, seen = on_terminal([LARDER, "image", "get", url], env)
            took = time.monotonic() - begin
            if seen == "" or took < QUIET_S:
                break
        check("none for a hit", rc == 0 and (seen == "" or took >= QUIET_S), repr(seen))
    finally:
        server.terminate()
        server.wait()
        subprocess.run(["chmod", "-R", "u+rwX", work], check=False)
        shutil.rmtree(work)
    print("1..%d" % count)
    return 1 if failed else 0


sys.exit(main())
