# SPDX-License-Identifier: Apache-2.0
"""The rows of bench.py about registries: Debian's docker-registry on loopback, started and emptied
for each push, requests counted in its access log."""
import json
import hashlib
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tarfile
import time
import urllib.request

from layouts import make
from measure import GIB, MIB, alternate, measure, median, precise

SERVER_START_S = 10


def find_peer(name):
    """A program in $LARDER_PEERS, PATH; None without."""
    path = os.pathsep.join(filter(None, [os.environ.get("LARDER_PEERS"), os.environ["PATH"]]))
    return shutil.which(name, path=path)


class Registry:
    """docker-registry over a directory; requests() counts what its log says since clear()."""

    def __init__(self, tmp):
        self.tmp = tmp
        self.storage = os.path.join(tmp, "registry")
        self.log = os.path.join(tmp, "registry.log")
        self.process = None

    def start(self, empty=True):
        self.stop()
        if empty:
            shutil.rmtree(self.storage, ignore_errors=True)
            os.makedirs(self.storage)
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.host = f"127.0.0.1:{s.getsockname()[1]}"
        config = os.path.join(self.tmp, "registry.yml")
        with open(config, "w", encoding="ascii") as f:
            f.write("version: 0.1\nlog: {level: error}\nstorage: {filesystem: "
                    f"{{rootdirectory: {self.storage}}}, delete: {{enabled: true}}}}\n"
                    f"http: {{addr: '{self.host}'}}\n")
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(["docker-registry", "serve", config], stdout=log,
                                            stderr=log, stdin=subprocess.DEVNULL)
        for _ in range(SERVER_START_S * 20):
            try:
                urllib.request.urlopen(f"http://{self.host}/v2/").close()
                break
            except OSError:
                time.sleep(0.05)
        else:
            sys.exit("bench: docker-registry did not start")
        self.clear()

    def stop(self):
        if self.process:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait()
            self.process = None

    def clear(self):
        self.seen = os.path.getsize(self.log)

    def requests(self):
        time.sleep(0.05)  # the line comes after the answer
        with open(self.log, encoding="utf-8", errors="replace") as log:
            log.seek(self.seen)
            return len(re.findall(r'"(?:GET|HEAD|PUT|POST|PATCH|DELETE) /v2/', log.read()))


class RegistryRows:
    """Mixed into Bench."""

    registry = None

    def setup_registry(self):
        if self.registry:
            return
        self.registry = Registry(self.tmp)
        self.layouts = {}
        for name in list(self.env):
            if name in ("REGISTRY_AUTH_FILE", "DOCKER_CONFIG"):
                del self.env[name]

    def layout(self, shape):
        self.setup_registry()
        if shape not in self.layouts:
            path = os.path.join(self.tmp, "layout-" + shape)
            make(path, shape, self.args.scale)
            self.layouts[shape] = path
        return self.layouts[shape]

    def pushers(self, layout, is_index, tag="1"):
        """Command of each tool that is here, pushing the layout to R:tag."""
        to = f"{self.registry.host}/bench:{tag}"
        commands = {"larder": [self.larder, "copy", "--quiet", f"oci:{layout}:latest",
                               f"docker://{to}"]}
        peers = {
            "skopeo": ["--insecure-policy", "copy", "-q", "--all", "--dest-tls-verify=false",
                       f"oci:{layout}:latest", f"docker://{to}"],
            "crane": ["push", "--insecure", *(["--index"] if is_index else []), layout, to],
            "regctl": ["--host", f"reg={self.registry.host},tls=disabled", "image", "copy",
                       f"ocidir://{layout}:latest", to],
            "oras": ["cp", "--no-tty", "--from-oci-layout", f"{layout}:latest", "--to-plain-http",
                     to],
        }
        for name, argv in peers.items():
            if find_peer(name):
                commands[name] = [find_peer(name), *argv]
        return commands

    def pullers(self, out):
        """Command of each tool, pulling R:1 into the layout directory out."""
        source = f"{self.registry.host}/bench:1"
        commands = {"larder": [self.larder, "copy", "--quiet", f"docker://{source}",
                               f"oci:{out}:latest"]}
        peers = {
            "skopeo": ["--insecure-policy", "copy", "-q", "--all", "--src-tls-verify=false",
                       f"docker://{source}", f"oci:{out}:latest"],
            "crane": ["pull", "--insecure", "--format=oci", source, out],
            "regctl": ["--host", f"reg={self.registry.host},tls=disabled", "image", "copy", source,
                       f"ocidir://{out}:latest"],
            "oras": ["cp", "--no-tty", "--from-plain-http", "--to-oci-layout", source,
                     f"{out}:latest"],
        }
        for name, argv in peers.items():
            if find_peer(name):
                commands[name] = [find_peer(name), *argv]
        return commands

    def push_once(self, shape):
        """The registry holds the shape as bench:1 afterwards."""
        layout = self.layout(shape)
        self.registry.start()
        measure(self.pushers(layout, shape in ("arch5", "tiny"))["larder"], env=self.env)

    def table(self, results, what="wall", unit="s", digits=2):
        return " / ".join(f"{name} {median(runs, what):.{digits}f}"
                          for name, runs in results.items()) + f" {unit}"

    def best_peer(self, results, what="wall"):
        return min((median(runs, what), name) for name, runs in results.items()
                   if name != "larder")

    def blob_paths(self, layout):
        """What a pull of bench:1 asks for: manifests and blobs, each once."""
        def load(digest):
            with open(os.path.join(layout, "blobs/sha256", digest[7:]), encoding="utf-8") as f:
                return json.load(f)

        def walk(digest):
            yield f"/v2/bench/manifests/{digest}"
            manifest = load(digest)
            for member in manifest.get("manifests", []):
                yield from walk(member["digest"])
            for blob in [manifest.get("config"), *manifest.get("layers", [])]:
                if blob:
                    yield f"/v2/bench/blobs/{blob['digest']}"
        with open(os.path.join(layout, "index.json"), encoding="utf-8") as f:
            return list(dict.fromkeys(walk(json.load(f)["manifests"][0]["digest"])))

    def floor(self, shape):
        """Seconds that a bare client takes to receive the same and throw it away."""
        tool = os.path.join(os.path.dirname(self.larder), "tests/perf/floor_get")
        if not os.path.exists(tool):
            return "not measured"
        done = subprocess.run([tool, self.registry.host.split(":")[1], "6"], check=True,
                              input="\n".join(self.blob_paths(self.layout(shape))) + "\n",
                              capture_output=True, text=True)
        return f"{float(done.stdout.split()[0]):.2f} s"

    def requests_of(self, argv):
        self.registry.clear()
        measure(argv, env=self.env)
        return self.registry.requests()

    # ---- rows ----

    def noop(self):
        self.push_once("arch5")
        # A tag for each: crane pushes the layout's index.json itself, which is another index.
        commands = {name: self.pushers(self.layout("arch5"), True, name)[name]
                    for name in self.pushers(self.layout("arch5"), True)}
        publish = [self.larder, "publish", "--quiet", "--repo", f"{self.registry.host}/bench",
                   "--tag", "published"]
        with open(os.path.join(self.layout("arch5"), "index.json"), encoding="utf-8") as f:
            root = json.load(f)["manifests"][0]["digest"].split(":")[1]
        with open(os.path.join(self.layout("arch5"), "blobs/sha256", root),
                  encoding="utf-8") as f:
            publish += [f"oci:{self.layout('arch5')}@{member['digest']}"
                        for member in json.load(f)["manifests"]]
        commands["larder publish"] = publish
        for argv in commands.values():
            measure(argv, env=self.env)
        times = alternate(30, {
            name: lambda argv=argv: precise(argv, env=self.env, repeat=1)
            for name, argv in commands.items()})
        ms = {name: statistics.median(runs) for name, runs in times.items()}
        counts = {name: self.requests_of(argv) for name, argv in commands.items()}
        run, _ = measure(publish, env=self.env)
        best = min((ms[n], n) for n in ms if not n.startswith("larder"))
        self.registry.stop()
        self.row("publish of a 5-arch index that is there",
                 "1 request a tag, ≤ ½ of crane, RSS ≤ 8 MB",
                 f"{ms['larder publish']:.1f} ms, {counts['larder publish']} request, "
                 f"{ms['larder publish'] / ms.get('crane', best[0]):.2f} × crane, RSS "
                 f"{run.rss:.1f} MiB",
                 "; ".join(f"{name} {ms[name]:.1f} ms / {counts[name]}" for name in ms)
                 + " (requests)")

    def pull(self):
        for shape, what in (("big", "1 GiB"), ("many", "64 × 16 MiB")):
            self.push_once(shape)
            out = os.path.join(self.tmp, "pulled")

            def one(argv):
                shutil.rmtree(out, ignore_errors=True)
                os.sync()
                return measure(argv, env=self.env)[0]
            results = alternate(self.args.runs, {
                name: lambda argv=argv: one(argv) for name, argv in self.pullers(out).items()})
            shutil.rmtree(out, ignore_errors=True)
            best, cpu = self.best_peer(results), self.best_peer(results, "cpu")
            floor = self.floor(shape)
            self.registry.stop()
            self.row(f"pull of {what}, verified",
                     "≥ 1.5 × faster than the best peer, CPU ≤ 0.7 × its, RSS ≤ 8 MB",
                     f"{best[0] / median(results['larder'], 'wall'):.2f} × {best[1]}, CPU "
                     f"{median(results['larder'], 'cpu') / cpu[0]:.2f} × {cpu[1]}, RSS "
                     f"{median(results['larder'], 'rss'):.1f} MiB",
                     f"wall (larder's with fsync) {self.table(results)}; CPU "
                     f"{self.table(results, 'cpu')}; receiving without looking takes {floor}")

    def push(self):
        for shape, what in (("big", "1 GiB"), ("many", "64 × 16 MiB")):
            layout = self.layout(shape)

            def one(name):
                self.registry.start()
                os.sync()
                return measure(self.pushers(layout, False)[name], env=self.env)[0]
            self.registry.start()
            results = alternate(self.args.runs, {
                name: lambda name=name: one(name) for name in self.pushers(layout, False)})
            self.registry.stop()
            best = self.best_peer(results)
            ours = median(results["larder"], "wall")
            gib = max(GIB * self.args.scale, MIB) / GIB
            self.row(f"push of {what}", "wall ≤ best peer, client CPU ≤ 0.2 s/GiB",
                     f"{ours / best[0]:.2f} × {best[1]}'s wall, CPU "
                     f"{median(results['larder'], 'cpu') / gib:.2f} s/GiB, RSS "
                     f"{median(results['larder'], 'rss'):.1f} MiB",
                     f"wall {self.table(results)}; CPU {self.table(results, 'cpu')}")

    def tiny(self):
        layout = self.layout("tiny")
        self.registry.start()
        push, again, pull, counts = {}, {}, {}, {}
        out = os.path.join(self.tmp, "pulled")
        for name in self.pushers(layout, True):
            if name == "skopeo" and "SKOPEO_TINY" not in os.environ:
                continue  # minutes, and never the best
            self.registry.start()
            os.sync()
            argv = self.pushers(layout, True)[name]
            push[name] = [measure(argv, env=self.env)[0]]
            counts[name] = [self.registry.requests(), self.requests_of(argv)]
            again[name] = precise(argv, env=self.env, repeat=5)
        for name, argv in self.pullers(out).items():
            if name not in push:
                continue
            shutil.rmtree(out, ignore_errors=True)
            os.sync()
            self.registry.clear()
            pull[name] = [measure(argv, env=self.env)[0]]
            counts[name].append(self.registry.requests())
        floor = self.floor("tiny")
        self.registry.stop()
        shutil.rmtree(out, ignore_errors=True)
        ours = median(push["larder"], "wall"), median(pull["larder"], "wall")
        best = self.best_peer(push), self.best_peer(pull)
        self.row("index of 2,000 tiny images: push, repeat, pull",
                 "push ≤ 0.7 × best, repeat ≤ 20 ms, pull ≤ 0.6 × best",
                 f"push {ours[0] / best[0][0]:.2f} × {best[0][1]}, repeat {again['larder']:.1f} "
                 f"ms, pull {ours[1] / best[1][0]:.2f} × {best[1][1]}",
                 f"push {self.table(push)}; pull {self.table(pull)}, where receiving "
                 f"without looking takes {floor}; requests "
                 + ", ".join(f"{n} {' / '.join(map(str, c))}" for n, c in counts.items())
                 + f"; RSS {median(push['larder'], 'rss'):.1f} / "
                 f"{median(pull['larder'], 'rss'):.1f} MiB")

    def cosa(self):
        """Four arches with 1 GiB archives that were pushed already."""
        self.setup_registry()
        self.registry.start()
        root = os.path.join(self.tmp, "cosa")
        arches = {"x86_64": "amd64", "aarch64": "arm64", "ppc64le": "ppc64le", "s390x": "s390x"}
        archives = [self.cosa_build(root, arch, go) for arch, go in arches.items()]
        with open(os.path.join(root, "builds/builds.json"), "w", encoding="ascii") as f:
            json.dump({"schema-version": "1.0.0", "builds": [{"id": "1", "arches": list(arches)}],
                       "tags": []}, f)
        argv = [self.larder, "cosa", "push-container-manifest", "--repo",
                f"{self.registry.host}/os", "--tag", "stable", "--artifact", "ostree",
                "--metajsonname", "base-oscontainer"]

        def run():
            return measure(argv, env=self.env, cwd=root)[0]
        first = run()
        self.registry.clear()
        runs = [run() for _ in range(self.args.runs)]
        requests = self.registry.requests() / len(runs)
        trace = subprocess.run(["strace", "-f", "-e", "trace=openat,open", *argv], cwd=root,
                               env=self.env, capture_output=True, check=True).stderr.decode()
        opened = sum(name in trace for name in map(os.path.basename, archives))
        start = time.perf_counter()
        for path in archives:
            with open(path, "rb") as f:
                hashlib.file_digest(f, "sha256")
        hashing = time.perf_counter() - start
        ms = precise_in(argv, self.env, root)
        self.registry.stop()
        self.row("cosa publish of 4 arches with 1 GiB archives, nothing to do",
                 "≤ 50 ms, archives not opened",
                 f"{ms:.1f} ms, {requests:.0f} request, {opened} archives opened",
                 f"the first run took {first.wall:.2f} s; hashing the archives, as upstream does "
                 f"before it asks, takes {hashing:.2f} s; RSS {median(runs, 'rss'):.1f} MiB")

    def cosa_build(self, root, arch, go_arch):
        """builds/1/ARCH with an ociarchive and a meta.json; returns the archive's path."""
        folder = os.path.join(root, "builds/1", arch)
        layout = os.path.join(self.tmp, "cosa-" + arch)
        os.makedirs(folder)
        digest = make(layout, "big", self.args.scale) if arch == "x86_64" else \
            self.rearch(os.path.join(self.tmp, "cosa-x86_64"), layout, go_arch)
        archive = os.path.join(folder, f"os-{arch}.ociarchive")
        with tarfile.open(archive, "w") as tar:
            tar.add(layout, arcname=".")
        manifest = os.path.join(layout, "blobs/sha256", digest.split(":")[1])
        shutil.copyfile(manifest, os.path.join(folder, f"os-{arch}.manifest.json"))
        with open(archive, "rb") as f:
            sha256 = hashlib.file_digest(f, "sha256").hexdigest()
        meta = {"buildid": "1", "coreos-assembler.meta-stamp": 1, "images": {
            "ostree": {"path": os.path.basename(archive), "sha256": sha256,
                       "size": os.path.getsize(archive)},
            "oci-manifest": {"path": f"os-{arch}.manifest.json", "sha256": digest[7:],
                             "size": os.path.getsize(manifest)}}}
        with open(os.path.join(folder, "meta.json"), "w", encoding="ascii") as f:
            json.dump(meta, f, indent=4)
        return archive

    def rearch(self, source, target, go_arch):
        """The same layers for another architecture."""
        subprocess.run(["cp", "-al", source, target], check=True)
        blobs = os.path.join(target, "blobs/sha256")

        def put(document):
            data = json.dumps(document).encode()
            name = hashlib.sha256(data).hexdigest()
            with open(os.path.join(blobs, name), "wb") as f:
                f.write(data)
            return "sha256:" + name, len(data)

        def get(digest):
            with open(os.path.join(blobs, digest.split(":")[1]), "rb") as f:
                return json.load(f)
        with open(os.path.join(target, "index.json"), encoding="utf-8") as f:
            index = json.load(f)
        entry = index["manifests"][0]
        manifest = get(entry["digest"])
        config = dict(get(manifest["config"]["digest"]), architecture=go_arch)
        manifest["config"]["digest"], manifest["config"]["size"] = put(config)
        entry["digest"], entry["size"] = put(manifest)
        os.unlink(os.path.join(target, "index.json"))
        with open(os.path.join(target, "index.json"), "w", encoding="ascii") as f:
            json.dump(index, f)
        return entry["digest"]


def precise_in(argv, env, cwd):
    here = os.getcwd()
    os.chdir(cwd)
    try:
        return precise(argv, env=env, repeat=20)
    finally:
        os.chdir(here)
