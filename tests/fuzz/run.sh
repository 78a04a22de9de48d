#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Usage: run.sh BUILD_DIR SECONDS [TARGET...]
#
# Runs each fuzz target of a build (or those named: "qcow2") for SECONDS, beginning with the seeds
# of corpus/TARGET and the binary ones made below. Prints TAP; fails when one crashes, leaks, hangs
# or needs too much memory, and leaves its input as TARGET-crash-* in BUILD_DIR/tests/fuzz.
set -u

[ $# -ge 2 ] || {
    echo "usage: $0 BUILD_DIR SECONDS [TARGET...]" >&2
    exit 2
}
here=$(cd "$(dirname "$0")" && pwd) || exit 1
bin=$(cd "$1/tests/fuzz" && pwd) || exit 1
seconds=$2
shift 2
if [ $# -eq 0 ]; then
    for program in "$bin"/fuzz_*; do
        [ -f "$program" ] && [ -x "$program" ] && set -- "$@" "${program##*/fuzz_}"
    done
fi
[ $# -gt 0 ] || {
    echo "no fuzz target in $bin" >&2
    exit 1
}

work=$(mktemp -d) || exit 1
child=
trap '[ -z "$child" ] || kill "$child" 2>/dev/null; rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

# zeros N: that many zero bytes.
zeros() {
    head -c "$1" /dev/zero
}

# be32 N, be64 N: big-endian numbers.
be32() {
    for shift in 24 16 8 0; do
        printf '%b' "\\0$(printf %o $(($1 >> shift & 255)))"
    done
}
be64() {
    be32 $(($1 >> 32))
    be32 $(($1 & 0xffffffff))
}

# A sound qcow2 header of VERSION with the incompatible FEATURES and 512 byte clusters, the first
# of which holds a backing name; four clusters.
qcow2_image() {
    printf 'QFI\373'
    be32 "$1"
    be64 400; be32 6
    be32 9; be64 32768; be32 0
    be32 1; be64 512
    be64 1024; be32 1
    be32 0; be64 0
    if [ "$1" -eq 3 ]; then
        be64 "$2"; be64 0; be64 0
        be32 4; be32 104
    fi
    printf '\342\171\052\312'; be32 5; printf 'qcow2'; zeros 3
    be32 0; be32 0
    if [ "$1" -eq 3 ]; then zeros 272; else zeros 304; fi
    printf 'b.file'; zeros 1642
}

# record_document [CONFIG]: a record by the words of larder-store(5), with its sum; with CONFIG (a
# JSON text without backslashes), of an update.
record_document() {
    digest=sha256:$(printf base | sha256sum | cut -d' ' -f1)
    if [ $# -gt 0 ]; then
        set -- "$1" '{"schemaVersion":2,"config":{"mediaType":"a/b","digest":"sha256:'"$(
            printf '%s' "$1" | sha256sum | cut -d' ' -f1)"'","size":'${#1}'},"layers":[]}'
        digest=sha256:$(printf '%s' "$2" | sha256sum | cut -d' ' -f1)
    fi
    sum=$({
        printf '%s\000' version=1 ref=docker://example.org/os:stable platform=linux/amd64 \
            "base=$digest" "listed=$digest" "manifest_digest=$digest" checked=1700000000000000000
        [ $# -eq 0 ] || printf '%s\000' update= media_type=application/json
    } | sha256sum | cut -d' ' -f1)
    printf '{"version":1,"ref":"docker://example.org/os:stable","platform":"linux/amd64",'
    printf '"base":"%s","listed":"%s","manifest_digest":"%s",' "$digest" "$digest" "$digest"
    [ $# -eq 0 ] || printf '"update":{"media_type":"application/json","manifest":"%s","config":"%s"},' \
        "$(printf '%s' "$2" | sed 's/"/\\"/g')" "$(printf '%s' "$1" | sed 's/"/\\"/g')"
    printf '"checked":1700000000000000000,"sum":"sha256:%s"}\n' "$sum"
}

# Seeds that would be binary files in the source.
make_seeds() {
    case $1 in
    qcow2)
        for version in 2 3; do
            { printf '\000\010\000\000\000\000\000\000'; qcow2_image $version 0; } \
                >"$2/version$version"
        done
        { printf '\000\010\000\000\000\000\000\000'; qcow2_image 3 6; } >"$2/features"
        ;;
    unpack)
        printf '\004bv41\006\000\000\000\007\000\000\000\140larderbv4-\002\000\000\000okbv4$' >"$2/lz4"
        # Headers with a CRC that is not theirs.
        { printf '\000\037\213\010\012\000\000\000\0001\003\000\000\000\003'; zeros 17; } \
            >"$2/header-crc"
        for text in '' 'a text that is packed, that is packed'; do
            i=$((${i-0} + 1))
            { printf '\000'; printf '%s' "$text" | gzip -n; } >"$2/gzip$i"
            { printf '\005'; printf '%s' "$text" | gzip -n; printf '%s' "$text" | gzip -n
              zeros 3; } >"$2/two$i"
            { printf '\001'; printf '%s' "$text" | xz; } >"$2/xz$i"
            if command -v zstd >/dev/null; then
                { printf '\002'; printf '%s' "$text" | zstd -c; } >"$2/zstd$i"
            fi
            if command -v bzip2 >/dev/null; then
                { printf '\003'; printf '%s' "$text" | bzip2; } >"$2/bzip2$i"
            fi
        done
        ;;
    tar)
        mkdir "$work/tree" "$work/tree/sub" && echo text >"$work/tree/sub/file" &&
            truncate -s 100K "$work/tree/sparse" && echo x >>"$work/tree/sparse" &&
            ln "$work/tree/sub/file" "$work/tree/link" && ln -s link "$work/tree/symlink" &&
            name=$(printf '%0150d' 0) && echo long >"$work/tree/$name"
        for kind in v7 ustar pax gnu; do
            tar -C "$work/tree" -b 1 -S -H $kind -cf "$2/$kind" . 2>/dev/null
        done
        ;;
    record)
        { printf 0; record_document; } >"$2/unchanged"
        { printf 0; record_document '{"os":"linux"}'; } >"$2/update"
        printf '0{"version":2}' >"$2/newer"
        # Made of these: what there is, the time, a byte to be changed; texts; a configuration.
        printf '1\013\007\003{a\nb\nc\nd\n{"os":"\303\274"}' >"$2/made"
        printf '1\004\377\001"oci:dir\nlinux/arm64/v8\n' >"$2/first"
        printf '1\010\000\200 a\nb\n\001"\\\t' >"$2/artifact"
        printf '1\001\000\000 a\nb\n\303\n' >"$2/no-utf8"
        ;;
    gvariant)
        printf 'da\000\000\000\000\000\000\000v\000\000s\002\015' >"$2/text"
        {
            printf 'da\000\000\000\000\000\000\000v\000\000s\002\000\000\000version\000\001'
            printf '\000\000\000\000\000\000\000\000t\010\015#'
        } >"$2/two"
        {
            printf 'dtarget\000\000a\000\000\000\000\000\000\000v\000\000s\002\015\000a{sv'
            printf '}\007\035'
        } >"$2/deep"
        {
            printf 'ca\000\000\000\000\000\000\000v\000\000s\002\015r\000\001\002\004s\000'
            printf 'b\000\000\007\000\000\000\000\000\000\000\001\003!\027\025\023\016\016'
        } >"$2/commit"
        ;;
    format)
        qcow2_image 3 0 >"$2/qcow2"
        for magic in 'QED\0000' 'COWD' 'vhdxfile' 'LUKS\0272\0276' '\0037\0213' 'BZh9' \
            '\03757zXZ\0000' '\0050\0265\0057\0375' '\0004\0042\0115\0030'; do
            i=$((${i-0} + 1))
            { printf '%b' "$magic"; zeros 600; } >"$2/magic$i"
        done
        { printf 'KDMV\003\000\000\000'; zeros 4; printf '\000\120'; zeros 14
          printf '\001'; zeros 7; printf '\001'; zeros 467
          printf '%s\n' '# Disk DescriptorFile' 'parentCID=ffffffff' \
              'createType="monolithicSparse"' 'RW 20480 SPARSE "v.vmdk"'; zeros 1000; } >"$2/vmdk"
        { zeros 446; zeros 4; printf '\356'; zeros 3; printf '\001'; zeros 55
          printf '\125\252EFI PART'; zeros 504; } >"$2/gpt"
        { zeros 512; printf 'conectix'; zeros 504; } >"$2/vhd"
        { zeros 64; printf '\177\020\332\276'; zeros 8; printf '\001'; zeros 440; } >"$2/vdi"
        ;;
    esac
}

# runs_of TARGET SECONDS: how often, so that a slow machine needs about SECONDS. In CI the walk is
# always the same one, whatever the machine's speed: a change is judged by what it changed, not by
# luck.
runs_of() {
    case $1 in
    qcow2) echo $(($2 * 200000)) ;;
    format | gvariant) echo $(($2 * 80000)) ;;
    checksum_file) echo $(($2 * 20000)) ;;
    entry | ini | reference) echo $(($2 * 8000)) ;;
    *) echo $(($2 * 2500)) ;;
    esac
}

# Options of libFuzzer; a program that only replays files (no clang) skips them.
run_one() {
    target=$1
    program=$bin/fuzz_$1
    seeds=$work/$1
    corpus=$here/corpus/$1
    mkdir "$seeds" "$seeds/new" "$seeds/made" || return 1
    [ -d "$corpus" ] || corpus=$seeds/made
    make_seeds "$1" "$seeds/made"
    if "$program" -help=1 2>&1 | grep -q max_total_time; then
        if [ -n "${CI-}" ]; then
            set -- -seed=1 -runs="$(runs_of "$target" "$seconds")" -max_total_time=$((seconds * 4))
        else
            set -- -max_total_time="$seconds"
        fi
        set -- "$@" -timeout=60 -rss_limit_mb=1024 -max_len=70000 -print_final_stats=1 \
            -artifact_prefix="$bin/$target-" "$seeds/new" "$seeds/made" "$corpus"
    else
        set --
        for file in "$seeds/made"/* "$corpus"/*; do
            [ -f "$file" ] && set -- "$@" "$file"
        done
    fi
    "$program" "$@" >"$work/log" 2>&1 &
    child=$!
    wait "$child"
    status=$?
    child=
    return "$status"
}

echo "1..$#"
failed=0
number=0
for target in "$@"; do
    number=$((number + 1))
    if run_one "$target"; then
        runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$work/log")
        echo "ok $number - $target (${runs:-only replayed} runs)"
    else
        failed=1
        # The walk (NEW, REDUCE) says nothing; what ended it, and on which input, does.
        grep -v -e '^#[0-9]' -e '^ *#[0-9]* 0x[0-9a-f]* *(/' "$work/log" | sed 's/^/# /' | tail -40
        echo "not ok $number - $target"
        # Last, where the end of a long log still shows it: all that it takes to run it again.
        sed -n -e 's/^SUMMARY: /# &/p' -e 's/^Base64: /# input of '"$target"' in base64: /p' \
            "$work/log" | tail -2
    fi
done
exit "$failed"
