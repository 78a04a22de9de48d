#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs the checks of ./dev check, slow-check and test, and counts them truthfully.

Every step runs, also after a failed one. A step prints one line; what failed in it is shown below,
with its diagnosis, and named again in the end, in a line `failed: STEP: TEST` each. The last line is
`N passed, N failed, N skipped`: tests of meson are counted one by one (each line of a TAP stream is
a test), a build or a lint step is one test.
"""

import concurrent.futures
import glob
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time

SLOW_SUITES = {"fault", "interop", "soak"}
# These look at the source, not at what a compiler made of it: once is enough.
SOURCE_SUITES = {"headers", "layout"}
# The style was fixed with this version; others break some lines elsewhere.
CLANG_FORMAT = 14
# A step that runs longer hangs, on the slowest of machines.
STEP_SECONDS = 2 * 3600
LOG_TAIL = 60
# Half of their time most tests wait for a server, a clock or the disk.
TESTS_AT_ONCE = os.cpu_count() + 1
# So many of a step's failures are named in the end.
NAMED_MAX = 20
LOGS = "build/check-logs"

SANITIZER_ENV = {
    "ASAN_OPTIONS": "exitcode=99:detect_leaks=1:strict_string_checks=1:detect_stack_use_after_return=1:"
                    "check_initialization_order=1:allocator_may_return_null=1",
    "UBSAN_OPTIONS": "exitcode=99:print_stacktrace=1:halt_on_error=1",
    "TSAN_OPTIONS": "halt_on_error=1:second_deadlock_stack=1",
}


class Skip(Exception):
    """The step cannot be run here; the message says why."""


class Fail(Exception):
    """The step failed; the message is what the log does not say."""


class Count:
    def __init__(self, passed=0, failed=0, skipped=0):
        self.passed, self.failed, self.skipped = passed, failed, skipped

    def add(self, other):
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped

    def __str__(self):
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"


def heed_signals():
    """In a child: a shell's background job, or nohup's, has these ignored, and the program under
    test would respect that."""
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def count_tap(text):
    """Counts the tests of a TAP stream; None where it holds no test and no plan to skip."""
    count = Count()
    for line in text.splitlines():
        match = re.match(r"(not )?ok\b[^#]*(?:#\s*(skip|todo)\b)?", line, re.IGNORECASE)
        if not match:
            continue
        if (match[2] or "").lower() == "skip" and not match[1]:
            count.skipped += 1
        elif match[1] and (match[2] or "").lower() != "todo":
            count.failed += 1
        else:
            count.passed += 1
    if count.passed + count.failed + count.skipped == 0:
        if re.search(r"^1\.\.0\s*#\s*skip", text, re.IGNORECASE | re.MULTILINE):
            return Count(skipped=1)
        return None
    return count


class Step:
    """One line of the report, with its log."""

    def __init__(self, title):
        self.title = title
        self.failures = []  # what is to be shown of a failed step; nothing: the end of its log
        self.failed_names = []  # its failed tests, short
        os.makedirs(LOGS, exist_ok=True)
        name = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
        self.log_path = f"{LOGS}/{name}.log"
        self.log = open(self.log_path, "w", encoding="utf-8", errors="replace")

    def run(self, command, env=None, check=True):
        """Runs a command into the log; a group of its own, so that nothing outlives a timeout."""
        line = shlex.join(command)
        self.log.write("$ " + (line if len(line) < 400 else line[:400] + " ...") + "\n")
        self.log.flush()
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=subprocess.STDOUT,
            env={**os.environ, **(env or {})}, start_new_session=True, preexec_fn=heed_signals)
        try:
            status = process.wait(timeout=STEP_SECONDS)
        except (subprocess.TimeoutExpired, KeyboardInterrupt) as stop:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if isinstance(stop, KeyboardInterrupt):
                raise
            raise Fail(f"{command[0]} ran longer than {STEP_SECONDS} s") from None
        if check and status != 0:
            raise Fail(f"{command[0]} ended with {status}")
        return status

    def write(self, text):
        self.log.write(text + "\n")
        self.log.flush()

    def read_log(self):
        self.log.flush()
        with open(self.log_path, encoding="utf-8", errors="replace") as log:
            return log.read()


class Check:
    def __init__(self):
        self.total = Count()
        self.failed_names = []

    def step(self, title, action):
        """Runs action(step); it returns a Count, or None for one passed test."""
        step = Step(title)
        start = time.monotonic()
        note = ""
        try:
            count = action(step) or Count(passed=1)
        except Skip as why:
            count, note = Count(skipped=1), str(why)
        except Fail as why:
            count, note = Count(failed=1), str(why)
        except Exception as why:  # a broken step is a failed step, and the next ones still run
            count, note = Count(failed=1), f"{type(why).__name__}: {why}"
        seconds = time.monotonic() - start
        word = "FAILED" if count.failed else "ok" if count.passed else "skipped"
        tests = count.passed + count.failed + count.skipped
        if tests > 1 and not note:
            note = str(count)
        print(f"{word:8}{seconds:7.1f} s  {title}" + (f": {note}" if note else ""), flush=True)
        if count.failed:
            self.name_failures(step, note)
            for line in step.failures or step.read_log().splitlines()[-LOG_TAIL:]:
                print("    | " + line)
            print(f"    | (whole log: {step.log_path})", flush=True)
        step.log.close()
        self.total.add(count)
        return not count.failed

    def name_failures(self, step, note):
        names = step.failed_names or [
            line for line in step.read_log().splitlines() if line.startswith("not ok")] or [note]
        self.failed_names += [f"{step.title}: {name}" for name in names[:NAMED_MAX]]
        if len(names) > NAMED_MAX:
            self.failed_names.append(f"{step.title}: {len(names) - NAMED_MAX} more")

    def finish(self):
        for name in self.failed_names:
            print("failed: " + name)
        print(self.total, flush=True)
        return 1 if self.total.failed or not self.total.passed else 0


# ---- meson ---------------------------------------------------------------------------------


def build(variant):
    def action(step):
        step.run(["sh", "./dev", "configure", variant])
        step.run(["ninja", "-C", build_dir(variant), "-k", "20"])
    return action


def build_dir(variant):
    return "build" if variant == "release" else "build-" + variant


def meson_tests(directory):
    """Name -> (suites, protocol) of every test of a build directory. Names are unique: a test is
    asked for by its name, and a second one would run unasked."""
    text = subprocess.run(["meson", "introspect", "--tests", directory], check=True,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True).stdout
    tests = json.loads(text)
    names = [test["name"] for test in tests]
    doubles = sorted({name for name in names if names.count(name) > 1})
    if doubles:
        raise Fail("two tests have the same name: " + ", ".join(doubles))
    return {test["name"]: ({suite.split(":")[-1] for suite in test["suite"]}, test["protocol"])
            for test in tests}


def without_aslr():
    """Sanitizers of older compilers want the memory layout of a kernel without much ASLR: with the 32
    random bits that some kernels are set up for, a program dies at its start now and then."""
    probe = ["setarch", "-R", "true"]
    if shutil.which("setarch") and subprocess.run(probe, stderr=subprocess.DEVNULL).returncode == 0:
        return ["setarch", "-R"]
    return []


def count_results(step, log, protocols):
    total = Count()
    with open(log, encoding="utf-8") as lines:
        results = [json.loads(line) for line in lines]
    for result in results:
        name = result["name"].split(" / ")[-1]
        word = result["result"]
        tap = protocols.get(name) == "tap"
        count = count_tap(result.get("stdout", "")) if tap else None
        if count is None:
            if tap and word == "SKIP":
                step.write(f"{name}: printed no TAP test and no plan")
                word = "ERROR"
            count = Count(passed=word in ("OK", "EXPECTEDFAIL"), skipped=word == "SKIP")
            count.failed = 1 - count.passed - count.skipped
        elif word not in ("OK", "SKIP", "EXPECTEDFAIL") and not count.failed:
            # Died or lied about its plan after tests that were all good.
            count.failed = 1
        if count.failed:
            show_failure(step, name, word, result)
        total.add(count)
    return total, len(results)


def show_failure(step, name, word, result):
    """What failed in one test program: the bad TAP lines with their diagnosis, and stderr."""
    lines = [f"--- {name}: {word} after {result['duration']:.1f} s"]
    shown = False
    bad = []
    if word == "TIMEOUT":  # it hangs in the test behind the last one that ended
        lines += [f"last: {line}" for line in result.get("stdout", "").splitlines()[-5:]]
    for line in result.get("stdout", "").splitlines():
        if line.startswith(("not ok", "Bail out")):
            bad.append(line)
        shown = line.startswith(("not ok", "Bail out")) or shown and not line.startswith("ok")
        if shown:
            lines.append(line)
    lines += result.get("stderr", "").splitlines()[-30:]
    step.write("\n".join(lines))
    step.failures += lines[:LOG_TAIL]
    if word not in ("ERROR", "FAIL") or not bad:  # a timeout, a signal, a wrong plan
        bad.append(f"{word} after {result['duration']:.0f} s")
    step.failed_names += [f"{name}: {line}" for line in bad]


def run_tests(variant, wanted, env=None, prefix=(), multiplier=1):
    """Runs the tests for which wanted(name, suites) holds."""
    def action(step):
        directory = build_dir(variant)
        tests = meson_tests(directory)
        names = [name for name, (suites, _) in tests.items() if wanted(name, suites)]
        if not names:
            raise Skip("no such test")
        base = "check-" + re.sub(r"[^a-z0-9]+", "-", step.title.lower())
        for old in glob.glob(f"{directory}/meson-logs/{base}.*"):
            os.unlink(old)
        status = step.run([*prefix, "meson", "test", "-C", directory, "--no-rebuild", "--logbase",
                           base, "--timeout-multiplier", str(multiplier),
                           "--num-processes", str(TESTS_AT_ONCE), *names], env=env, check=False)
        protocols = {name: protocol for name, (_, protocol) in tests.items()}
        count, ran = count_results(step, f"{directory}/meson-logs/{base}.json", protocols)
        if ran != len(names):
            step.failed_names.append(f"{ran} of {len(names)} tests left a result")
            step.failures.append(step.failed_names[-1])
            step.write(step.failed_names[-1])
            count.failed += abs(len(names) - ran)
        if status != 0 and not count.failed:
            count.failed = 1
        return count
    return action


LEAK = """
#include <stdlib.h>
int main(void)
{
    void *volatile p = malloc(7);
    p = NULL;
    return p != NULL;
}
"""

RACE = """
#include <pthread.h>
static int shared;
static void *add(void *arg)
{
    for (int i = 0; i < 10000; i++)
        shared++;
    return arg;
}
int main(void)
{
    pthread_t a, b;
    pthread_create(&a, NULL, add, NULL);
    pthread_create(&b, NULL, add, NULL);
    pthread_join(a, NULL);
    pthread_join(b, NULL);
    return 0;
}
"""


def probe(source, sanitizer, report, prefix=()):
    """A sanitizer that cannot work here is silent: a planted fault must be reported, or a good
    result proves nothing."""
    def action(step):
        with tempfile.TemporaryDirectory() as tmp:
            path, program = f"{tmp}/planted.c", f"{tmp}/planted"
            with open(path, "w", encoding="ascii") as out:
                out.write(source)
            step.run(["gcc", "-g", "-pthread", f"-fsanitize={sanitizer}", "-o", program, path])
            status = step.run([*prefix, program], env=SANITIZER_ENV, check=False)
            if status == 0 or report not in step.read_log():
                raise Fail(f"the planted fault gives no \"{report}\" here")
    return action


# ---- lint ----------------------------------------------------------------------------------


def tracked(*patterns):
    """Files of the project, also those not yet committed, that match one of the patterns."""
    answer = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "-co", "--exclude-standard", "--", *patterns],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=True)
    return [path for path in answer.stdout.splitlines() if os.path.exists(path)]


def tool(name):
    if not shutil.which(name):
        raise Skip(f"{name} is not installed")
    return name


def version_of(name):
    text = subprocess.run([name, "--version"], stdout=subprocess.PIPE, text=True).stdout
    match = re.search(r"version (\d+)", text)
    return int(match[1]) if match else 0


def clang_format(step):
    version = version_of(tool("clang-format"))
    if version != CLANG_FORMAT:
        raise Skip(f"the style is that of clang-format {CLANG_FORMAT}, this is {version}")
    step.run(["clang-format", "--dry-run", "-Werror", *tracked("*.c", "*.h")])


def clang_tidy(step):
    tool("clang-tidy")
    with open("build-clang/compile_commands.json", encoding="utf-8") as commands:
        sources = sorted({os.path.normpath(os.path.join(unit["directory"], unit["file"]))
                          for unit in json.load(commands)})

    def one(source):
        # error.c defines what analyzer.h wraps.
        first = [] if source.endswith("src/base/error.c") else [
            "--extra-arg=-include", "--extra-arg=" + os.path.abspath("tests/lint/analyzer.h"),
            "--extra-arg=-I" + os.path.abspath("src"),
            "--extra-arg=-I" + os.path.abspath("include")]
        done = subprocess.run(["clang-tidy", "--quiet", "-p", "build-clang", *first, source],
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True)
        return done.returncode, done.stdout

    bad, findings = 0, []
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for source, (status, text) in zip(sources, pool.map(one, sources)):
            if status != 0:
                bad += 1
                step.write(text)
                findings += [line for line in text.splitlines() if " error: " in line]
    # The paths to the findings are long: the findings alone come last.
    step.write("\n".join(sorted({os.path.relpath(line) for line in findings})))
    if bad:
        raise Fail(f"{bad} of {len(sources)} files have findings")


def cppcheck(step):
    tool("cppcheck")
    step.run(["cppcheck", "--enable=warning,portability,performance", "--error-exitcode=1",
              "--quiet", "--inline-suppr", "--std=c11", "--library=posix,gnu", "-j",
              str(os.cpu_count()), "--suppressions-list=tests/lint/cppcheck.suppress",
              "-D_GNU_SOURCE", "-D__linux__", "-I", "include", "-I", "src", "src"])


def shellcheck(step):
    tool("shellcheck")
    scripts = []
    for path in tracked():
        with open(path, "rb") as file:
            first = file.readline(64)
        if re.match(rb"#! ?/(usr/)?bin/(env )?(ba|da)?sh\b", first):
            scripts.append(path)
    step.run(["shellcheck", *scripts])


def codespell(step):
    tool("codespell")
    step.run(["codespell", "--ignore-words", "tests/lint/codespell.ignore", *tracked()])


def fuzz(seconds):
    def action(step):
        if not os.path.exists("tests/fuzz/run.sh"):
            raise Skip("there is no tests/fuzz/run.sh")
        step.run(["sh", "./dev", "configure", "fuzz"])
        step.run(["ninja", "-C", "build-fuzz"])
        start = len(step.read_log())
        status = step.run([*without_aslr(), "sh", "tests/fuzz/run.sh", "build-fuzz", str(seconds)],
                          env=SANITIZER_ENV, check=False)
        count = count_tap(step.read_log()[start:])
        if count is None:
            raise Fail("tests/fuzz/run.sh printed no TAP test")
        if status != 0 and not count.failed:
            count.failed = 1
        return count
    return action


def demo(step):
    if not os.path.exists("tests/demo/demo.sh"):
        raise Skip("there is no tests/demo/demo.sh")
    step.run(["sh", "./dev", "demo"])


# ---- the three commands --------------------------------------------------------------------


def is_quick(_, suites):
    return not suites & SLOW_SUITES


def is_slow(_, suites):
    # soak is for a person with an hour: `./dev test soak`
    return bool(suites & SLOW_SUITES) and "soak" not in suites


def check_all(check):
    if check.step("gcc build, hardened, warnings are errors", build("release")):
        check.step("tests", run_tests("release", is_quick))
    tidy = check.step("clang build, warnings are errors", build("clang"))
    check.step("leak detection works here", probe(LEAK, "address", "detected memory leaks", without_aslr()))
    if check.step("gcc build with ASan and UBSan", build("asan")):
        check.step("tests under ASan and UBSan",
                   run_tests("asan", lambda _, suites: not suites & (SLOW_SUITES | SOURCE_SUITES),
                             env=dict(SANITIZER_ENV, FAULT_POINTS_MAX="8"), prefix=without_aslr(),
                             multiplier=4))
    check.step("race detection works here",
               probe(RACE, "thread", "data race", without_aslr()))
    if check.step("gcc build with TSan", build("tsan")):
        check.step("threaded tests under TSan",
                   run_tests("tsan", lambda _, suites: "unit" in suites and not suites & SLOW_SUITES,
                             env=SANITIZER_ENV, prefix=without_aslr(), multiplier=4))
    check.step("clang-format", clang_format)
    if tidy:
        check.step("clang-tidy", clang_tidy)
    check.step("cppcheck", cppcheck)
    check.step("shellcheck", shellcheck)
    check.step("codespell", codespell)
    check.step("fuzz smoke", fuzz(5))


def check_slow(check):
    if check.step("gcc build", build("release")):
        check.step("slow tests", run_tests("release", is_slow))
        check.step("demo", demo)
    if check.step("gcc build with ASan and UBSan", build("asan")):
        check.step("fault tests under ASan and UBSan",
                   run_tests("asan", lambda _, suites: "fault" in suites,
                             env=dict(SANITIZER_ENV, FAULT_POINTS_MAX="8"), prefix=without_aslr(),
                             multiplier=4))
    check.step("fuzz", fuzz(30))


def test_some(check, words):
    tests = meson_tests("build")
    known = {"all"} | set().union(*(suites for suites, _ in tests.values())) | set(tests)
    for word in words:
        if word not in known:
            sys.exit(f"dev: no suite or test is named '{word}'; there are: " +
                     " ".join(sorted(known)))

    def wanted(name, suites):
        if not words:
            return is_quick(name, suites)
        return "all" in words or name in words or bool(suites & set(words))
    check.step(" ".join(["tests", *words]), run_tests("release", wanted))


def main(arguments):
    os.chdir(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    command = arguments[0] if arguments else "check"
    check = Check()
    if command == "check":
        check_all(check)
    elif command == "slow-check":
        check_slow(check)
    elif command == "test":
        test_some(check, arguments[1:])
    else:
        sys.exit(f"run_check.py: unknown command '{command}'")
    return check.finish()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
