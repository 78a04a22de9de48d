# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# For tests of updates: sourced after registry.sh.

# os_image JSON: an image in the registry, as a builder of OS images would push it; prints the
# digest of this machine's manifest. $test_work/image.json gets {digest, listed, config, layers}.
#   repo [os], tag [stable]
#   layers [["a", 600], ["b", 3000]]   content and bytes of each; a third member is its packing: a
#                                      gzip of that content, other bytes for each number
#   version [none], created ["2026-01-02T03:04:05Z"] (null: none), labels {}
#   format [oci] | docker
#   platforms []                       an index of these; the layers are those of all
os_image() {
    "$python" - "$admin" "$1" >"$test_work/image.json" <<'END_OF_PROGRAM' || return 1
import gzip, hashlib, json, platform, random, sys, urllib.request

admin, spec = sys.argv[1], {"repo": "os", "tag": "stable", "layers": [["a", 600], ["b", 3000]],
                            "created": "2026-01-02T03:04:05Z", "labels": {}, "format": "oci",
                            "platforms": [], "version": None}
given = json.loads(sys.argv[2])
assert not set(given) - set(spec), given
spec.update(given)
urllib.request.install_opener(urllib.request.build_opener(urllib.request.ProxyHandler({})))
host = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
OCI = {"manifest": "application/vnd.oci.image.manifest.v1+json",
       "index": "application/vnd.oci.image.index.v1+json",
       "config": "application/vnd.oci.image.config.v1+json",
       "layer": "application/vnd.oci.image.layer.v1.tar"}
DOCKER = {"manifest": "application/vnd.docker.distribution.manifest.v2+json",
          "index": "application/vnd.docker.distribution.manifest.list.v2+json",
          "config": "application/vnd.docker.container.image.v1+json",
          "layer": "application/vnd.docker.image.rootfs.diff.tar"}
types = DOCKER if spec["format"] == "docker" else OCI


def put(url, data, media_type):
    request = urllib.request.Request(admin + url, data, {"Content-Type": media_type}, method="PUT")
    urllib.request.urlopen(request).read()
    return "sha256:" + hashlib.sha256(data).hexdigest()


def dump(document):
    return json.dumps(document, ensure_ascii=False).encode()


def layer(content, size, packing=None):
    raw = random.Random(content).randbytes(size)
    data = raw if packing is None else gzip.compress(raw, 1, mtime=packing)
    media_type = types["layer"]
    if packing is not None:
        media_type += ".gzip" if types is DOCKER else "+gzip"
    digest = put("/_blob/" + spec["repo"], data, "application/octet-stream")
    return ({"mediaType": media_type, "size": len(data), "digest": digest},
            "sha256:" + hashlib.sha256(raw).hexdigest())


def image(arch, reference):
    layers = [layer(*one) for one in spec["layers"]]
    config = {"architecture": arch, "os": "linux", "config": {"Labels": dict(spec["labels"])},
              "rootfs": {"type": "layers", "diff_ids": [diff_id for _, diff_id in layers]}}
    if spec["version"] is not None:
        config["config"]["Labels"]["org.opencontainers.image.version"] = spec["version"]
    if spec["created"] is not None:
        config["created"] = spec["created"]
    data = dump(config)
    digest = put("/_blob/" + spec["repo"], data, "application/octet-stream")
    manifest = {"schemaVersion": 2, "mediaType": types["manifest"],
                "config": {"mediaType": types["config"], "size": len(data), "digest": digest},
                "layers": [descriptor for descriptor, _ in layers]}
    data = dump(manifest)
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    put("/_manifest/%s/%s" % (spec["repo"], digest), data, types["manifest"])
    if reference:
        put("/_manifest/%s/%s" % (spec["repo"], reference), data, types["manifest"])
    return {"digest": digest, "listed": digest, "size": len(data),
            "config": manifest["config"]["digest"],
            "layers": [descriptor["digest"] for descriptor, _ in layers]}


if spec["platforms"]:
    members, mine = [], None
    for one in spec["platforms"]:
        arch = one.split("/")[1]
        made = image(arch, None)
        members.append({"mediaType": types["manifest"], "size": made["size"],
                        "digest": made["digest"],
                        "platform": {"os": "linux", "architecture": arch}})
        if arch == host:
            mine = made
    data = dump({"schemaVersion": 2, "mediaType": types["index"], "manifests": members})
    out = dict(mine or made, members={m["platform"]["architecture"]: m["digest"] for m in members},
               listed=put("/_manifest/%s/%s" % (spec["repo"], spec["tag"]), data, types["index"]))
else:
    out = image(host, spec["tag"])
print(json.dumps(out))
END_OF_PROGRAM
    member "$test_work/image.json" digest
}

# on_read_only COMMAND...: with a store that cannot be written, for root neither.
on_read_only() {
    unshare "$test_unshare" -- sh -c 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" &&
        exec "$@"' "$LARDER_HOME" "$@"
}
# Whether that can be had here.
can_read_only() {
    test_unshare=-m
    [ "$(id -u)" -eq 0 ] || test_unshare=-rm
    unshare "$test_unshare" -- sh -c 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" &&
        ! touch "$0/x"' "$test_work/trash" 2>/dev/null
}
