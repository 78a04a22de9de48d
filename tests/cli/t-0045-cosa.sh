#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# larder cosa push-container-manifest over a build's directory, as a release job runs it.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/registry.sh"

registry_start
here=docker://$registry

# build ID: a build of two architectures, its archives made by us.
build() {
    registry_image "{\"repo\": \"tmp/os\", \"tag\": \"$1\", \"seed\": \"$1\", \"layers\": 2,
        \"platforms\": [\"linux/amd64\", \"linux/arm64\"]}" >/dev/null || return 1
    for build_arch in x86_64 aarch64; do
        build_dir=builds/$1/$build_arch
        build_file=os-$1-ostree.$build_arch.ociarchive
        mkdir -p "$build_dir" &&
            larder copy --quiet --platform "linux/$build_arch" "$here/tmp/os:$1" \
                "oci-archive:$build_dir/$build_file" >"$build_dir/digest" &&
            larder inspect --raw "oci-archive:$build_dir/$build_file" >"$build_dir/manifest.json" ||
            return 1
        cat >"$build_dir/meta.json" <<END
{
    "buildid": "$1",
    "images": {
        "ostree": {
            "path": "$build_file",
            "sha256": "$(sha256sum "$build_dir/$build_file" | cut -c1-64)"
        },
        "oci-manifest": {
            "path": "manifest.json",
            "sha256": "$(sha256sum "$build_dir/manifest.json" | cut -c1-64)"
        }
    },
    "coreos-assembler.basearch": "$build_arch",
    "coreos-assembler.meta-stamp": 1
}
END
    done
    echo '{"schema-version": "1.0.0", "builds": [{"id": "'"$1"'",
        "arches": ["x86_64", "aarch64"]}], "tags": [], "timestamp": "x"}' >builds/builds.json
}
push() {
    larder cosa push-container-manifest --repo="$registry/os" --tag=stable --tag="$id" \
        --artifact=ostree --metajsonname=base-oscontainer "$@"
}

expect_success 'a build is pushed under both tags, and told of in meta.json' '
    id=43.1 && build $id && cp -r builds pristine &&
    push --auth="$PWD/none.json" --write-digest-to-file=digest >out 2>err &&
    expect_match "^Targeting build: 43.1\$" out &&
    list=$(cat digest) && test "$(wc -c <digest)" -eq 71 &&
    admin GET /_content >content.json &&
    json content.json "d[\"os\"][\"tags\"] == {\"stable\": \"$list\", \"43.1\": \"$list\"}" &&
    for arch in x86_64 aarch64; do
        json builds/$id/$arch/meta.json "d[\"base-oscontainer\"] == {\"image\": \"$registry/os\",
            \"digest\": \"$(cat builds/$id/$arch/digest)\", \"manifest-list-digest\": \"$list\",
            \"tags\": [\"stable\", \"43.1\"]}" || return 1
    done
'
expect_success 'again: nothing, in as many requests as tags; the digest file is written' '
    cp -r builds before && rm digest && forget_requests &&
    push --write-digest-to-file=digest >out 2>err &&
    expect_match "^Remote already matches desired state; skipping push. Use --force to override" \
        out &&
    test "$(cat digest)" = "$list" && requests_are 2 && diff -r before builds
'
expect_success 'the archives are not even opened for that, unless --verify is given' '
    mv builds/$id/x86_64/*.ociarchive saved &&
    : >builds/$id/x86_64/os-43.1-ostree.x86_64.ociarchive &&
    push >out 2>err && expect_match "^Remote already matches" out &&
    expect_status 1 push --verify >out 2>err && expect_match "incorrect checksum" out &&
    mv saved builds/$id/x86_64/os-43.1-ostree.x86_64.ociarchive
'
expect_success 'pushed, but meta.json lost: only meta.json is written' '
    cp pristine/$id/x86_64/meta.json builds/$id/x86_64/meta.json && forget_requests &&
    push >out 2>err &&
    requests_are 0 "(POST|PUT|PATCH) " &&
    member builds/$id/x86_64/meta.json base-oscontainer manifest-list-digest >got &&
    test "$(cat got)" = "$list"
'
expect_success 'a tag that is missing is set, the other is not touched' '
    admin DELETE /_manifest/os/43.1 && forget_requests &&
    push >out 2>err &&
    requests_are 1 "PUT /v2/os/manifests/43.1 " && requests_are 0 "PUT /v2/os/manifests/stable "
'
expect_success '--force puts again; --json moves the lines to standard error' '
    forget_requests && push --force --json >out.json 2>err &&
    expect_match "Targeting build" err &&
    json out.json "d[\"digest\"] == \"$list\" and len(d[\"images\"]) == 2" &&
    requests_are 1 "PUT /v2/os/manifests/stable "
'
expect_success '--dry-run' '
    rm -rf builds && cp -r pristine builds && admin DELETE /_content && forget_requests &&
    push --dry-run >out 2>err && requests_are 0 "(POST|PUT|PATCH) " && diff -r pristine builds
'
expect_success 'a file that is not what meta.json says: 1, before anything is sent' '
    printf x >>builds/$id/aarch64/os-43.1-ostree.aarch64.ociarchive && forget_requests &&
    expect_status 1 push >out 2>err &&
    expect_match "has an incorrect checksum" out && requests_are 0 "PUT .*/manifests/(stable|43.1) "
'
expect_success 'a file that is not there: 1' '
    rm builds/$id/aarch64/*.ociarchive &&
    expect_status 1 push >out 2>err && expect_match "does not exist on disk" out
'
expect_success 'an architecture or build that is not there: 1' '
    rm -rf builds && cp -r pristine builds &&
    expect_status 1 push --arch s390x >out 2>err && expect_match "s390x is not in 43.1" out &&
    expect_status 1 push --build 44.1 >out 2>err && expect_match "44.1" err
'
expect_success 'a registry that cannot be asked: 1, and nothing is changed' '
    quirks "{\"rules\": [{\"status\": 503}]}" &&
    expect_status 1 push >out 2>err && diff -r pristine builds && quirks "{}"
'
# elsewhere REPO [OPTION...]: the build goes to another repository, too.
elsewhere() {
    elsewhere_repo=$1
    shift
    larder cosa push-container-manifest --repo="$elsewhere_repo" --tag=stable --artifact=ostree \
        --metajsonname=base-oscontainer "$@"
}
expect_success 'a second repository of the registry gets the blobs from the first' '
    push >out 2>err && forget_requests &&
    elsewhere "$registry/more/os" --json >out.json 2>err &&
    json out.json "d[\"blobs_copied\"] == 0 and d[\"blobs_mounted\"] == 6" &&
    requests_are 6 "POST .*/more/os/.*[?&]mount=.*&from=os" &&
    elsewhere "$registry/third/os" --json --v2s2 >out.json 2>err &&
    json out.json "d[\"blobs_mounted\"] == 6" &&
    requests_are 0 "from=more"
'
expect_success 'where it does not allow that, from here' '
    quirks "{\"mount\": 403}" &&
    elsewhere "$registry/fourth/os" --json >out.json 2>err &&
    json out.json "d[\"blobs_copied\"] == 6 and d[\"blobs_mounted\"] == 0" && quirks "{}"
'
expect_success 'another registry has none of them' '
    registry_start && here=docker://$registry && forget_requests &&
    elsewhere "$registry/os" --json >out.json 2>err &&
    json out.json "d[\"blobs_copied\"] == 6" && requests_are 0 "from="
'
expect_success '--image, as the node image job has it' '
    registry_image "{\"repo\": \"node\", \"tag\": \"x\", \"platforms\": [\"linux/amd64\",
        \"linux/arm64\"]}" >/dev/null &&
    cp "$test_work/image.json" image.json &&
    larder cosa push-container-manifest --repo "$registry/node" --tag 4.20 \
        --image "$here/node@$(member image.json members linux/amd64)" \
        --image "$here/node@$(member image.json members linux/arm64)" \
        --write-digest-to-file digest >out 2>err &&
    test "$(larder inspect --no-tags "$here/node:4.20" | sed -n "s/.*\"Digest\": \"\(.*\)\",/\1/p" |
        head -1)" = "$(cat digest)"
'
test_done
