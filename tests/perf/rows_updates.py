# SPDX-License-Identifier: Apache-2.0
"""The rows of bench.py about updates: an operating system of 68 layers, of which an update changes
two, on Debian's docker-registry over loopback."""
import json
import os
import shutil
import statistics
import subprocess

from layouts import CONFIG, MANIFEST, Layout
from measure import MIB, alternate, measure, median, precise
from rows_registry import find_peer

LAYERS = 68
CHANGED = 2
RUNS = 40


def escape(name):
    """A name as ostree-ext writes it in a ref; one of a registry needs no other rules."""
    out = ""
    for before, c in zip(" " + name, name):
        plain = c.isalnum() or c == "-" or (c == "/" and before.isalnum())
        out += c if plain else "__" if c == "_" else f"_{ord(c):02X}_"
    return out


class SystemLayout(Layout):
    """Two versions of a system: tags v1 and v2, each an index of two architectures."""

    def __init__(self, path, layer_bytes):
        super().__init__(path)
        self.layer_bytes = layer_bytes
        self.documents = {}  # version: manifest and configuration for amd64, and layers' digests
        self.shared = [self.layer(layer_bytes, i) for i in range(LAYERS - CHANGED)]
        self.write({f"v{n}": self.version(n) for n in (1, 2)})

    def version(self, n):
        own = [self.layer(self.layer_bytes, 1000 * n + i) for i in range(CHANGED)]
        members = []
        for arch in ("amd64", "arm64"):
            layers = self.shared + own
            config = {"architecture": arch, "os": "linux", "created": f"2024-01-{n:02d}T00:00:00Z",
                      "config": {"Labels": {"org.opencontainers.image.version": f"39.{n}",
                                            "ostree.bootable": "true"}},
                      "rootfs": {"type": "layers", "diff_ids": [diff for _, diff in layers]},
                      "history": [{"created_by": "rpm-ostree"} for _ in layers]}
            manifest = {"schemaVersion": 2, "mediaType": MANIFEST,
                        "config": self.put(json.dumps(config).encode(), CONFIG),
                        "layers": [layer for layer, _ in layers]}
            members.append((self.put(json.dumps(manifest).encode(), MANIFEST), arch))
            if arch == "amd64":
                self.documents[f"v{n}"] = (members[0][0]["digest"], json.dumps(manifest),
                                           json.dumps(config),
                                           [layer["digest"] for layer, _ in layers])
        return self.index(members)

    def write(self, tags):
        entries = [dict(descriptor, annotations={"org.opencontainers.image.ref.name": tag})
                   for tag, descriptor in tags.items()]
        with open(os.path.join(self.path, "index.json"), "w", encoding="ascii") as f:
            json.dump({"schemaVersion": 2, "manifests": entries}, f)


class UpdateRows:
    """Mixed into Bench, beside RegistryRows."""

    system = None

    def setup_system(self):
        """The registry has os:stable = v1, and so has larder's store."""
        self.setup_registry()
        if not self.system:
            path = os.path.join(self.tmp, "layout-system")
            self.system = SystemLayout(path, max(int(4 * MIB * self.args.scale), 4096))
        self.registry.start()
        self.ref = f"docker://{self.registry.host}/os:stable"
        self.move_to("v1")
        self.keep("v1", self.ref)

    def move_to(self, version):
        measure([self.larder, "copy", "--quiet", f"oci:{self.system.path}:{version}", self.ref],
                env=self.env)

    def keep(self, version, ref):
        """The store has this version as the base of ref."""
        measure([self.larder, "copy", "--quiet", f"oci:{self.system.path}:{version}",
                 "store:" + ref.removeprefix("docker://")], env=self.env)

    def update(self, *words):
        return [self.larder, "update", *words, self.ref]

    def askers(self):
        """What each tool has to learn the digest of a tag."""
        name = self.ref.removeprefix("docker://")
        peers = {
            "crane": ["digest", "--insecure", name],
            "regctl": ["--host", f"reg={self.registry.host},tls=disabled", "image", "digest",
                       name],
            "oras": ["resolve", "--plain-http", name],
            "skopeo": ["inspect", "--raw", "--tls-verify=false", self.ref],
        }
        return {tool: [find_peer(tool), *argv] for tool, argv in peers.items() if find_peer(tool)}

    def timed(self, commands):
        runs = alternate(RUNS, {name: lambda argv=argv: precise(argv, env=self.env, repeat=1)
                                for name, argv in commands.items()})
        return {name: statistics.median(times) for name, times in runs.items()}

    def said(self, ms, counts):
        return "; ".join(f"{name} {ms[name]:.1f} ms / {counts[name]}" for name in ms) + " (requests)"

    def check(self):
        self.setup_system()
        commands = {"larder": self.update("check"), **self.askers()}
        for argv in commands.values():
            measure(argv, env=self.env)
        ms = self.timed(commands)
        counts = {name: self.requests_of(argv) for name, argv in commands.items()}
        best = min((ms[name], name) for name in ms if name != "larder" or len(ms) == 1)
        run, _ = measure(commands["larder"], env=self.env)
        self.row("update check, nothing new (68 layers, index of 2)", "1 request, ≤ 6 ms",
                 f"{ms['larder']:.1f} ms, {counts['larder']} request, "
                 f"{ms['larder'] / best[0]:.2f} × {best[1]}, RSS {run.rss:.1f} MiB",
                 self.said(ms, counts) + "; the peers only ask for the digest")

        self.move_to("v2")
        found = self.requests_of(self.update("check"))
        ms = self.timed({"again": self.update("check")})
        self.row("update check, a new version", "—",
                 f"{found} requests when it is found, then {self.requests_of(self.update('check'))}"
                 f" and {ms['again']:.1f} ms",
                 "index, manifest and configuration are asked for once")
        self.registry.stop()

    def show(self):
        self.setup_system()
        self.move_to("v2")
        measure(self.update("check"), env=self.env)
        self.registry.stop()
        ms = self.timed({"show": self.update("show"),
                         "nothing": [self.larder, "--version"]})
        run, _ = measure(self.update("show"), env=self.env)
        self.row("update show (68 layers, registry down)", "≤ 3 ms, no socket",
                 f"{ms['show']:.1f} ms, {self.sockets(self.update('show'))} sockets, RSS "
                 f"{run.rss:.1f} MiB", f"larder --version takes {ms['nothing']:.1f} ms")

    def ostree_repository(self):
        """v1 as an import leaves it: a commit that says its image, and a ref for each layer."""
        path = os.path.join(self.tmp, "ostree")
        tree = os.path.join(path, "tree")
        shutil.rmtree(path, ignore_errors=True)
        os.makedirs(tree)
        name, manifest, config, layers = self.system.documents["v1"]
        repo = ["ostree", f"--repo={path}/repo"]
        measure([*repo, "init", "--mode=bare-user"])
        _, out = measure([*repo, "commit", "--orphan", f"--tree=dir={tree}",
                          f"--add-metadata-string=ostree.manifest-digest={name}",
                          f"--add-metadata-string=ostree.manifest={manifest}",
                          f"--add-metadata-string=ostree.container.image-config={config}"])
        refs = {f"blob/{escape(layer)}" for layer in layers} | {f"image/{escape(self.ref)}"}
        for ref in refs:
            file = os.path.join(path, "repo/refs/heads/ostree/container", ref)
            os.makedirs(os.path.dirname(file), exist_ok=True)
            with open(file, "wb") as f:
                f.write(out)
        return os.path.join(path, "repo")

    def ostree(self):
        """The same two questions where the base is a commit."""
        if not shutil.which("ostree"):
            print("    skipped: no ostree here")
            return
        self.setup_system()
        repo = self.ostree_repository()
        check = self.update("check", "--ostree-repo", repo)
        show = self.update("show", "--ostree-repo", repo)
        listing = [shutil.which("ostree"), f"--repo={repo}", "refs"]
        measure(check, env=self.env)
        ms = self.timed({"check": check, "refs": listing})
        self.row("update check, nothing new, base in an ostree repository", "1 request, ≤ 6 ms",
                 f"{ms['check']:.1f} ms, {self.requests_of(check)} request, "
                 f"{ms['check'] / ms['refs']:.2f} × ostree",
                 f"`ostree refs` alone takes {ms['refs']:.1f} ms")
        self.move_to("v2")
        measure(check, env=self.env)
        self.registry.stop()
        ms = self.timed({"show": show, "refs": listing, "nothing": [self.larder, "--version"]})
        run, _ = measure(show, env=self.env)
        self.row("update show, base in an ostree repository (registry down)",
                 "≤ 3 ms, no socket",
                 f"{ms['show']:.1f} ms, {self.sockets(show)} sockets, "
                 f"{ms['show'] / ms['refs']:.2f} × ostree, RSS {run.rss:.1f} MiB",
                 f"larder --version takes {ms['nothing']:.1f} ms, `ostree refs` "
                 f"{ms['refs']:.1f}")

    def sockets(self, argv):
        if not shutil.which("strace"):
            return "?"
        log = os.path.join(self.tmp, "strace")
        subprocess.run(["strace", "-f", "-qq", "-e", "trace=%network", "-o", log, *argv],
                       env=self.env, stdout=subprocess.DEVNULL, check=True)
        with open(log, encoding="utf-8") as f:
            return len(f.readlines())

    def fetch_update(self):
        """Two of 68 layers are new: what each tool moves to have the new image complete."""
        self.setup_system()
        self.move_to("v2")
        name = self.ref.removeprefix("docker://")
        out = os.path.join(self.tmp, "pulled")

        def again():
            shutil.rmtree(self.env["LARDER_HOME"])
            self.keep("v1", self.ref)
            measure(self.update("check"), env=self.env)
            return measure(self.update("fetch", "--quiet"), env=self.env)[0]

        def peer(argv):
            shutil.rmtree(out, ignore_errors=True)
            shutil.copytree(self.system_v1(), out)
            return measure(argv, env=self.env)[0]

        peers = {
            "skopeo": ["--insecure-policy", "copy", "-q", "--all", "--src-tls-verify=false",
                       f"docker://{name}", f"oci:{out}:latest"],
            "regctl": ["--host", f"reg={self.registry.host},tls=disabled", "image", "copy", name,
                       f"ocidir://{out}:latest"],
            "oras": ["cp", "--no-tty", "--from-plain-http", "--to-oci-layout", name,
                     f"{out}:latest"],
        }
        commands = {"larder": again}
        for tool, argv in peers.items():
            if find_peer(tool):
                commands[tool] = lambda argv=[find_peer(tool), *argv]: peer(argv)
        results = alternate(self.args.runs, commands)
        again_requests = self.fetch_requests()
        best = min((median(runs, "wall"), tool) for tool, runs in results.items()
                   if tool != "larder" or len(results) == 1)
        wall = median(results["larder"], "wall")
        self.registry.stop()
        self.row("update fetch, 2 of 68 layers new", "—",
                 f"{wall:.2f} s, {again_requests} requests, {wall / best[0]:.2f} × {best[1]}",
                 self.table(results) + "; larder hashes the layers that are here, too; the peers copy "
                 "into a layout that has the old version, all architectures, and believe it")

    def fetch_requests(self):
        shutil.rmtree(self.env["LARDER_HOME"])
        self.keep("v1", self.ref)
        measure(self.update("check"), env=self.env)
        return self.requests_of(self.update("fetch", "--quiet"))

    def system_v1(self):
        """A layout with v1 alone, for peers to begin with."""
        path = os.path.join(self.tmp, "layout-v1")
        if not os.path.isdir(path):
            measure([self.larder, "copy", "--quiet", f"oci:{self.system.path}:v1",
                     f"oci:{path}:latest"], env=self.env)
        return path
