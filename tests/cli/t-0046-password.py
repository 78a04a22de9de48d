#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""larder login on a terminal: what is asked, that the password is not shown, and interruption."""
import json
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import termios
import time

LARDER = os.environ["LARDER"]
SERVER = os.path.join(os.environ["LARDER_SOURCE"], "tests/registry/server.py")
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


def converse(argv, env, answers):
    """Runs argv with a terminal of its own; answers: [(text to wait for, what is typed)]. Gives
    exit status, what the terminal showed, and whether it echoes at the end."""
    pid, master = pty.fork()
    if pid == 0:
        # Whoever runs the tests in the background has them ignored, which larder would respect.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.signal(signal.SIGQUIT, signal.SIG_DFL)
        os.execve(argv[0], argv, env)
    seen = ""
    answers = list(answers)
    echoes = None
    end = time.monotonic() + 600
    while time.monotonic() < end:
        if select.select([master], [], [], 0.2)[0]:
            try:
                piece = os.read(master, 4096).decode()
            except OSError:
                break
            if not piece:
                break
            seen += piece
        if answers and seen.endswith(answers[0][0]):
            os.write(master, answers.pop(0)[1].encode())
        try:
            echoes = bool(termios.tcgetattr(master)[3] & termios.ECHO)
        except termios.error:
            echoes = None
            break
    if time.monotonic() >= end:
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    os.close(master)
    if os.WIFSIGNALED(status):
        return -os.WTERMSIG(status), seen, echoes
    return os.WEXITSTATUS(status), seen, echoes


def main():
    work = tempfile.mkdtemp(prefix="larder-test.")
    env = {k: v for k, v in os.environ.items() if not k.startswith(("LARDER_", "XDG_"))}
    env.update(HOME=work, LARDER_HOME=work + "/store", REGISTRY_AUTH_FILE=work + "/auth.json")
    server = subprocess.Popen(
        [sys.executable, SERVER, "--set", json.dumps({"auth": "basic"})],
        stdout=subprocess.PIPE, text=True)
    try:
        port = server.stdout.readline().split()[0]
        host = "127.0.0.1:" + port
        status, seen, _ = converse([LARDER, "login", host], env,
                                   [("Username: ", "user\r"), ("Password: ", "secret\r")])
        check("user and password are asked for", status == 0 and "logged in" in seen, seen)
        check("the user is shown, the password is not",
              "user" in seen and "secret" not in seen, seen)
        with open(work + "/auth.json", encoding="utf-8") as f:
            kept = json.load(f)
        check("it is kept", host in kept["auths"], kept)
        status, seen, _ = converse([LARDER, "login", "-u", "user", host], env,
                                   [("Password: ", "wrong\r")])
        check("a wrong password is refused", status == 1 and "wrong" not in seen, seen)
        status, seen, echoes = converse([LARDER, "login", "-u", "user", host], env,
                                        [("Password: ", "\x03")])
        check("an interrupt ends it and the terminal echoes again",
              status == 128 + signal.SIGINT and echoes is not False, (status, seen, echoes))
        status, seen, _ = converse([LARDER, "login", "-u", "user", host], env,
                                   [("Password: ", "\r")])
        check("an empty password is none", status == 2, (status, seen))
    finally:
        server.terminate()
        server.wait()
        shutil.rmtree(work, ignore_errors=True)
    print("1..%d" % count)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
