#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The commands about registries as they are typed: what is refused, and what is said then.
. "$(dirname "$0")/lib.sh"

# refused PATTERN COMMAND...: a usage error that says this, and no word on standard output.
refused() {
    refused_pattern=$1
    shift
    expect_status 2 larder "$@" >out 2>err &&
        expect_match "$refused_pattern" err &&
        test ! -s out
}
sum=sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08

expect_success 'a location without a transport: says what to write' '
    refused "hint: .*docker://registry.example.org/app:1" copy registry.example.org/app:1 oci:x &&
    refused "hint: .*docker://127.0.0.1:5000/app" inspect 127.0.0.1:5000/app &&
    refused "hint: .*docker://alpine" delete alpine &&
    refused "hint: .*oci:./layout" diff ./layout oci:x &&
    refused "hint: .*oci:/srv/x" copy oci:y /srv/x &&
    refused "hint: .*docker://example.org/app" publish --repo example.org/a -t 1 //example.org/app
'
expect_success 'words that lack or are too many' '
    refused "copy: found 1 word, expected SOURCE DESTINATION" copy oci:x &&
    refused "inspect: found 0 words" inspect &&
    refused "list-tags: found 2 words" list-tags a b &&
    refused "diff: found 1 word" diff oci:x &&
    refused "login: found 0 words" login &&
    refused "logout: expected either HOST or --all" logout &&
    refused "logout: expected either HOST or --all" logout --all example.org &&
    refused "publish: found 0 words" publish --repo example.org/a --tag 1 &&
    refused "hint: .*larder help copy" copy --unheard-of oci:x oci:y
'
expect_success 'options that do not go together' '
    refused "more than one of --creds" inspect --creds a:b --no-creds docker://example.org/a &&
    refused "more than one of --creds" copy --src-registry-token x --src-no-creds \
        docker://example.org/a oci:x &&
    refused "more than one of --creds" delete --creds a:b --password c docker://example.org/a &&
    refused "found --username alone" inspect --username secretword docker://example.org/a &&
    refused "found --password alone" copy --dest-password secretword oci:x docker://example.org/a &&
    expect_no_match secretword err &&
    refused "one of them" login -u a -p b --password-stdin example.org &&
    refused "USER:PASSWORD" inspect --creds secretword docker://example.org/a &&
    expect_no_match secretword err &&
    refused "no --repo" publish -t 1 oci:x &&
    refused "no --tag" publish --repo example.org/a oci:x &&
    refused "one of them" publish --repo example.org/a -t 1 --force --no-clobber oci:x &&
    refused "expected true or false" copy --src-tls-verify=perhaps oci:x oci:y &&
    refused "expected 0 to 10000" copy --jobs=-1 oci:x oci:y
'
expect_success 'transports of others are known and refused' '
    expect_status 1 larder copy dir:/tmp/x oci:y >out 2>err &&
    expect_match "oci-archive" err
'
# push OPTION...: the command of coreos-assembler.
push() { larder cosa push-container-manifest "$@"; }
needs="--repo example.org/a --tag 1"
expect_success 'cosa push-container-manifest: what is required' '
    refused "no --repo" cosa push-container-manifest &&
    refused "no --tag" cosa push-container-manifest --repo example.org/a &&
    refused "neither --image nor --artifact" cosa push-container-manifest $needs &&
    refused "--image and --artifact" cosa push-container-manifest $needs --image oci:x \
        --artifact ostree &&
    refused "without --metajsonname" cosa push-container-manifest $needs --artifact ostree &&
    refused "found 1 word" cosa push-container-manifest $needs --image oci:x more
'
expect_success 'cosa push-container-manifest: options may be cut short as the original allows' '
    refused "without --metajsonname" cosa push-container-manifest --r example.org/a --t 1 \
        --auth=x.json --v --f --w digest --b latest --arc x86_64 --art ostree &&
    refused "without --metajsonname" cosa push-container-manifest --rep=example.org/a --ta=1 \
        --au x.json --v2 --fo --write-digest x --bui=4 --arch=s390x --artif=kubevirt &&
    refused "ambiguous option --ar" cosa push-container-manifest $needs --ar x
'
expect_success 'cosa push-container-manifest: under its own name' '
    ln -s "$LARDER" cmd-push-container-manifest &&
    expect_status 2 ./cmd-push-container-manifest --repo=example.org/a --t=1 2>err &&
    expect_match "neither --image nor --artifact" err &&
    ./cmd-push-container-manifest --help >out &&
    larder cosa push-container-manifest --help >out2 &&
    test_cmp out out2
'
expect_success 'cosa push-container-manifest: exits with 1 for what fails, whatever it is' '
    expect_status 1 larder cosa push-container-manifest $needs --artifact ostree \
        --metajsonname base-oscontainer -C "$PWD/nowhere" 2>err &&
    expect_match nowhere err &&
    expect_status 1 larder cosa push-container-manifest $needs --image "oci:$PWD/nowhere" 2>err &&
    expect_match nowhere err
'
# Without a controlling terminal, wherever the tests run from.
expect_success 'no terminal to ask for a password: says what to do in a script' '
    expect_status 2 setsid -w "$LARDER" login example.org </dev/null 2>err &&
    expect_match "hint: .*--password-stdin" err
'
test_done
