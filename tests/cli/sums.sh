# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh disable=SC2034
# For tests of checksum files: sourced after http_start. www/a.qcow2 is the image, good and bad are
# its digests and those of something else.
make_image www/a.qcow2 1
good256=$(sha256sum www/a.qcow2 | cut -c1-64)
good512=$(sha512sum www/a.qcow2 | cut -c1-128)
bad256=$(echo bad | sha256sum | cut -c1-64)
bad512=$(echo bad | sha512sum | cut -c1-128)
# fresh [ARG...]: a new entry of the image in a store without its bytes; what get says.
fresh() {
    chmod -R u+rwX "$LARDER_HOME" 2>/dev/null
    rm -rf "$LARDER_HOME"
    larder -q image add a "$url/a.qcow2" "$@" && larder -q image get a >out 2>err
}
siblings() { find www -type f ! -name a.qcow2 -exec rm -f {} +; }
# taken NAME: that checksum file decided.
taken() {
    larder --json image show a >show &&
        json show "d.get(\"sums_url\", \"\").endswith(\"/$1\") and d[\"verdict\"] == \"valid\""
}
