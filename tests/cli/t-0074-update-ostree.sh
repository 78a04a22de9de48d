#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# larder update with a base in an ostree repository, as far as the program's own words go; the
# programs that share such a repository are in tests/interop.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/registry.sh"
. "$(dirname "$0")/update.sh"

command -v ostree >/dev/null || skip_all 'no ostree'
ostree --repo=repo init --mode=bare-user
larder update show --ostree-repo repo oci:nowhere:x >out 2>err
if grep -q 'built without ostree' err; then
    expect_success 'built without ostree: what is missing' '
        expect_status 1 larder update show --ostree-repo repo oci:nowhere:x 2>err &&
        expect_match "^larder: hint: .*-Dostree=enabled" err &&
        expect_status 1 larder update show --sysroot . 2>err &&
        expect_match "built without ostree" err
    '
    test_done
fi
registry_start
ref=docker://$registry/os:stable
repo=$PWD/repo

# imported VERSION: what is under the tag now, as an import leaves it in the repository.
imported() {
    larder inspect --raw "$ref" >manifest.json && larder inspect --raw --config "$ref" >config.json &&
        mkdir -p tree && echo "$1" >tree/version &&
        layer=$(member manifest.json layers 0 digest | sed "s/:/_3A_/") &&
        ostree --repo=repo commit -b "ostree/container/blob/$layer" --tree=dir=tree -s layer >commit &&
        ostree --repo=repo commit -b "ostree/container/image/docker_3A__2F__2F_127_2E_0_2E_0_2E_1_3A_$registry_port/os_3A_stable" \
            --tree=dir=tree --add-metadata-string="ostree.manifest-digest=$(digest manifest.json)" \
            --add-metadata-string="ostree.manifest=$(cat manifest.json)" \
            --add-metadata-string="ostree.container.image-config=$(cat config.json)" >commit
}
expect_success 'unchanged, then an update, kept in the repository' '
    one=$(os_image "{\"version\": \"1\"}") && imported 1 &&
    expect_status 77 larder update check --exit-code --ostree-repo repo "$ref" >out &&
    expect_match "^No changes in: $ref\$" out &&
    two=$(os_image "{\"version\": \"2\", \"layers\": [[\"a\", 600], [\"d\", 7000]]}") &&
    larder update check --ostree-repo repo "$ref" >check && expect_match "^  Digest: $two\$" check &&
    expect_match "^Already here:     1     Size: 600 bytes\$" check &&
    expect_match "^Current: 1 .* $one\$" check &&
    ostree --repo=repo show --print-detached-metadata-key=ostree-ext.cached.manifest-digest \
        "$(cat commit)" >key && expect_match "$two" key && test ! -e "$LARDER_HOME"
'
expect_success 'show and list tell it' '
    larder update show --ostree-repo repo "$ref" >out && grep -v "^Last checked" out >shown && test_cmp check shown &&
    larder --json update show --ostree-repo "$repo" "$ref" >out &&
    json out "d[\"place\"] == \"$repo\" and d[\"persisted\"] and d[\"record\"] == \"repository\"" &&
    test "$(larder -q update list --ostree-repo repo)" = "$ref" &&
    larder update watch --once --all --ostree-repo repo >out && test ! -s out
'
expect_success 'fetch into a layout: the command that imports it, from any directory' '
    larder update fetch --ostree-repo repo --to oci:next:os "$ref" >out &&
    expect_match "^Image: oci:.*next:os\$" out && expect_match "^Digest: $two\$" out &&
    expect_match "^Import: ostree container image pull $repo ostree-unverified-image:oci:$PWD/next:os\$" out &&
    larder inspect --raw oci:next:os >raw && test "$(digest raw)" = "$two" && test ! -e "$LARDER_HOME" &&
    larder --json update fetch --ostree-repo repo --to "oci:my \"next\":os" "$ref" >out &&
    (eval "set -- $(member out imports 0)" && test $# -eq 6 &&
        test "$6" = "ostree-unverified-image:oci:$PWD/my \"next\":os")
'
expect_success '--partial: without the layers that the repository has' '
    larder --json update fetch --ostree-repo repo --partial --to oci:part:os "$ref" >out &&
    json out "d[\"is_partial\"] and d[\"layers_fetched\"] == 1 and d[\"layers_here\"] == 1"
'
expect_success 'fetch into the store: how it gets from there' '
    larder update fetch --ostree-repo repo "$ref" >out 2>err && expect_match "^Image: store:" out &&
    expect_no_match "^Import" out && expect_match "larder copy store:.* oci:DIR:REF" err
'
expect_success 'an image with Docker'\''s types: no import is promised' '
    os_image "{\"version\": \"3\", \"format\": \"docker\"}" >/dev/null &&
    larder -q update check --ostree-repo repo "$ref" >/dev/null &&
    larder update fetch --ostree-repo repo --to oci:docker:os "$ref" >out 2>err &&
    expect_no_match "^Import" out && expect_match "Docker" err
'
expect_success 'an image that the repository has: there already, and nothing to be done' '
    os_image "{\"version\": \"1\"}" >/dev/null && larder -q update check --ostree-repo repo "$ref" >out && test ! -s out &&
    forget_requests && larder update fetch --ostree-repo repo "$ref" >out 2>err && requests_are 0 &&
    expect_match "^Image: $repo\$" out && expect_match "^Digest: $one\$" out &&
    echo "larder: is there already, nothing was fetched" >expected && test_cmp expected err
'
expect_success 'an image that the repository does not have yet: what is to be done is said, and works' '
    os_image "{\"repo\": \"new\", \"version\": \"1\"}" >digest && new=docker://$registry/new:stable &&
    larder update check --ostree-repo repo "$new" >out 2>err && expect_match "^Update available for: $new" out &&
    expect_match "warning: .*has no image of $new yet .*a state directory \(--state-dir, update.state_dir\) would keep it" err &&
    test "$(wc -l <err)" -eq 1 && expect_status 3 larder update fetch --ostree-repo repo --to oci:new:os "$new" 2>err &&
    expect_match "hint: .*check and fetch with --state-dir" err &&
    larder -q update check --ostree-repo repo --state-dir state "$new" >out 2>err && test ! -s err &&
    larder update fetch --ostree-repo repo --state-dir state --to oci:new:os "$new" >out &&
    expect_match "^Digest: $(cat digest)\$" out && expect_match "^Import: " out
'
expect_success 'clear takes what is ours, and nothing else' '
    larder update clear --ostree-repo repo "$ref" && larder --json update show --ostree-repo repo "$ref" >out &&
    json out "d[\"state\"] == \"unknown\"" && larder update clear --ostree-repo repo "$ref" &&
    larder update clear --ostree-repo repo docker://example.org/none:1
'
expect_success 'no repository, no sysroot: 3' '
    expect_status 3 larder update show --ostree-repo none "$ref" 2>err && expect_match "none" err &&
    expect_status 3 larder update show --sysroot none 2>err && expect_match "none" err
'
test_done
