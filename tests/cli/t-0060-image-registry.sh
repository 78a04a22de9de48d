#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Disk images out of registries: what nosi, oras, podman machine, KubeVirt and tart push.
. "$(dirname "$0")/lib.sh"
make_image a.qcow2 1
make_image b.qcow2 2
. "$(dirname "$0")/registry.sh"
registry_start

# push SHAPE FILE NAME:TAG: as that program would; prints the digest of what the tag points to.
push() {
    "$python" - "$admin" "$@" <<'END'
import gzip, hashlib, io, json, os, platform, struct, sys, tarfile, urllib.request

admin, shape, path, target = sys.argv[1:]
name, tag = target.split(":")
urllib.request.install_opener(urllib.request.build_opener(urllib.request.ProxyHandler({})))
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"


def put(url, data, media_type):
    request = urllib.request.Request(admin + url, data, {"Content-Type": media_type}, method="PUT")
    urllib.request.urlopen(request).read()


def blob(data, media_type, title=None, **more):
    put(f"/_blob/{name}", data, "application/octet-stream")
    descriptor = {"mediaType": media_type, "digest": "sha256:" + hashlib.sha256(data).hexdigest(),
                  "size": len(data), "annotations": dict(more)}
    if title:
        descriptor["annotations"]["org.opencontainers.image.title"] = title
    return descriptor


def manifest(layers, reference=None, config=None, **more):
    config = config or blob(b"{}", "application/vnd.oci.empty.v1+json")
    data = json.dumps({"schemaVersion": 2, "mediaType": MANIFEST, "config": config,
                       "layers": layers, **more}).encode()
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    put(f"/_manifest/{name}/{reference or digest}", data, MANIFEST)
    return {"mediaType": MANIFEST, "digest": digest, "size": len(data)}


def lz4(data):  # stored: the framing is what counts, the codec has tests of its own
    return b"bv4-" + struct.pack("<I", len(data)) + data + b"bv4$"


with open(path, "rb") as f:
    disk = f.read()
base = os.path.basename(path)
if shape == "oras":
    out = manifest([blob(disk, "application/octet-stream", base),
                    blob(hashlib.sha256(disk).hexdigest().encode(), "text/plain",
                         base + ".sha256")], tag)
elif shape == "nosi":
    packed = gzip.compress(disk, 1, mtime=0)
    out = manifest([blob(b"z" * (len(packed) + 9), "application/vnd.nosi.build-report.v1+zip"),
                    blob(packed, "application/vnd.nosi.disk-image.layer.v1+gzip", "d.img.gz")],
                   tag, artifactType="application/vnd.nosi.disk-image.v1+gzip")
elif shape == "podman":
    members = []
    for kind, data in (("applehv", b"not this one"), ("qemu", disk), ("hyperv", b"nor this")):
        title = f"podman-machine.x86_64.{kind}.img"
        members.append(dict(manifest([blob(data, "application/x", title)]), platform={
            "os": "linux", "architecture": platform.machine()}, annotations={"disktype": kind}))
    data = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": members}).encode()
    put(f"/_manifest/{name}/{tag}", data, INDEX)
    out = {"digest": "sha256:" + hashlib.sha256(data).hexdigest()}
elif shape in ("containerdisk", "container"):
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        folder = "disk" if shape == "containerdisk" else "usr"
        for member, data in ((f"{folder}/x.img", disk), ("etc/y", b"y")):
            info = tarfile.TarInfo(member)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    config = blob(b'{"architecture":"amd64","os":"linux"}',
                  "application/vnd.oci.image.config.v1+json")
    out = manifest([blob(gzip.compress(raw.getvalue(), 1, mtime=0),
                         "application/vnd.oci.image.layer.v1.tar+gzip")], tag, config)
elif shape in ("tart", "tart-wrong"):
    half = len(disk) // 2
    pieces = []
    for part in (disk[:half], disk[half:]):
        digest = hashlib.sha256(part if shape == "tart" else b"other").hexdigest()
        pieces.append(blob(lz4(part), "application/vnd.cirruslabs.tart.disk.v2", **{
            "org.cirruslabs.tart.uncompressed-size": str(len(part)),
            "org.cirruslabs.tart.uncompressed-content-digest": "sha256:" + digest}))
    out = manifest([blob(b"{}", "application/vnd.cirruslabs.tart.config.v1"), *pieces,
                    blob(b"nv" * len(disk), "application/vnd.cirruslabs.tart.nvram.v1")], tag)
print(out["digest"])
END
}

for shape in oras nosi podman containerdisk tart; do
    expect_success "what $shape pushes is fetched, whole and verified" '
        push $shape a.qcow2 $shape:1 &&
        larder -q image add $shape oras://$registry/$shape:1 &&
        larder -q image get $shape >out && test_cmp a.qcow2 "$(cat out)" &&
        larder -q image verify --deep $shape
    '
    expect_success "$shape: a hit costs no request while it is fresh, one HEAD when asked" '
        forget_requests && larder -q image get $shape && requests_are 0 &&
        larder -q image verify --fresh $shape && requests_are 1 HEAD && requests_are 1
    '
    expect_success "$shape: a tag that moved is outdated, and fetched beside" '
        old=$(larder -q image get $shape) && push $shape b.qcow2 $shape:1 &&
        expect_status 4 larder -q image verify --fresh $shape &&
        larder -q image get $shape >out && test_cmp b.qcow2 "$(cat out)" &&
        test_cmp a.qcow2 "$old"
    '
done
expect_success 'a tag that moved to the same disk is no new image' '
    push oras a.qcow2 same:1 && larder -q image add same oci://$registry/same:1 --refresh always &&
    larder -q image get same >one && mv a.qcow2 renamed.qcow2 && push oras renamed.qcow2 same:1 &&
    mv renamed.qcow2 a.qcow2 && forget_requests && larder -q image get same >two &&
    test_cmp one two && requests_are 0 "GET .*/blobs/"
'
expect_success 'a password of the file that registry.authfile names' '
    push oras a.qcow2 private:1 >digest && quirks "{\"auth\": \"basic\"}" &&
    larder -q image add private oras://$registry/private:1 &&
    { larder -q image get private 2>err; test $? -ne 0; } && expect_match "larder login" err &&
    printf secret | larder -q login --authfile a.json -u user --password-stdin "$registry" &&
    LARDER_REGISTRY_AUTHFILE=$PWD/a.json larder -q image get private >out && test_cmp a.qcow2 "$(cat out)" &&
    quirks "{}"
'
expect_success 'a manifest by digest' '
    digest=$(push oras a.qcow2 pinned:1) && push oras b.qcow2 pinned:1 &&
    larder -q image get oras://$registry/pinned@$digest >out && test_cmp a.qcow2 "$(cat out)"
'
expect_success 'a digest that is a blob, as nosi prints it' '
    push oras a.qcow2 blob:1 && blob=sha256:$(sha256sum a.qcow2 | cut -c1-64) &&
    larder -q image get oras://$registry/blob@$blob >out && test_cmp a.qcow2 "$(cat out)"
'
expect_success '... of a registry that fails when it takes the blob for a manifest' '
    quirks "{\"rules\": [{\"match\": \"(GET|HEAD) .*/manifests/sha256:\", \"status\": 500}]}" &&
    blob=sha256:$(sha256sum a.qcow2 | cut -c1-64) &&
    LARDER_HOME=$PWD/another larder -q image get oras://$registry/blob@$blob >out && test_cmp a.qcow2 "$(cat out)" &&
    expect_status 8 larder -q image get oras://$registry/blob@sha256:$(echo none | sha256sum | cut -c1-64) 2>err &&
    expect_match "status 500" err &&
    quirks "{}"
'
expect_success 'pinned: nothing is asked again' '
    forget_requests && larder -q image verify --fresh "$(larder --json image list |
        "$python" -c "import json, sys
print([i[\"name\"] for i in json.load(sys.stdin)[\"images\"] if \"@$blob\" in i[\"source\"]][0])")" &&
    requests_are 0
'
expect_success 'no such tag: gone upstream' '
    larder -q image add none oras://$registry/oras:none &&
    expect_status 6 larder image get none 2>err && expect_match "oras:none" err
'
expect_success 'a container image is no disk' '
    push container a.qcow2 container:1 &&
    expect_status 3 larder image get oras://$registry/container:1 2>err &&
    expect_match "/disk" err
'
expect_success 'pieces that unpack to other bytes than announced are refused' '
    push tart-wrong a.qcow2 wrong:1 &&
    expect_status 5 larder image get oras://$registry/wrong:1 2>err && expect_match "piece 1" err
'
expect_success 'a registry that is away: the copy here is used, with a warning' '
    registry_stop && larder -q image add --replace --refresh always tart oras://$registry/tart:1 && larder image get tart >out 2>err && test_cmp b.qcow2 "$(cat out)" &&
    expect_match warning err && expect_status 8 larder -q image get --require-fresh tart
'
expect_success 'a checksum beside a registry is refused: the registry has one' '
    expect_status 2 larder image add x oras://$registry/x:1 --checksum sha256:$(printf %064d 0) 2>err &&
    expect_match "@sha256" err
'
expect_success 'a reference with a slip' '
    expect_status 2 larder image add x oras://$registry/UPPER:1 2>err && expect_match "UPPER" err &&
    expect_status 1 larder image add x ftp://h/x 2>err && expect_match "oras://" err
'

registry_start
make_disk() { cp a.qcow2 own.qcow2; }
expect_success 'push: the tag points to an artifact with disk, sums and provenance' '
    make_disk && sha256sum own.qcow2 >SHA256SUMS &&
    larder -q image add --replace own ./own.qcow2 --checksum ./SHA256SUMS &&
    larder image push own docker://$registry/own:1 >digest 2>err &&
    larder inspect --raw docker://$registry/own:1 >manifest &&
    echo "sha256:$(sha256sum manifest | cut -c1-64)" >expected && test_cmp expected digest &&
    json manifest "[l[\"annotations\"][\"org.opencontainers.image.title\"] for l in
        d[\"layers\"]] == [\"own.qcow2\", \"own.qcow2.sha256\", \"upstream.sums\"]" &&
    json manifest "d[\"annotations\"][\"dev.larder.image.format\"] == \"qcow2\"" &&
    expect_no_match "$test_work" manifest
'
expect_success 'push again: one question, nothing sent' '
    forget_requests && larder image push own docker://$registry/own:1 2>err &&
    expect_match "nothing was sent" err && requests_are 1 HEAD && requests_are 1
'
expect_success 'what was pushed can be fetched by another machine' '
    LARDER_HOME=$test_work/other larder -q image get oras://$registry/own:1 >out &&
    test_cmp a.qcow2 "$(cat out)"
'
expect_success 'push --dry-run sends nothing' '
    larder image push --dry-run own docker://$registry/own:2 2>err && expect_match "would send" err &&
    expect_status 3 larder inspect --raw docker://$registry/own:2
'
expect_success 'push into a layout' '
    larder -q image push own oci:layout:v1 && larder inspect --raw oci:layout:v1 >again &&
    test_cmp manifest again
'
expect_success 'push --json' '
    larder --json image push own docker://$registry/own:3 >out &&
    json out "d[\"digest\"].startswith(\"sha256:\") and not d[\"was_there\"]"
'
expect_success 'push to a digest, or nowhere, is refused' '
    expect_status 2 larder image push own "docker://$registry/own@$(cat digest)" &&
    expect_status 2 larder image push own $registry/own:1
'
test_done
