#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Who may in: TLS with a private authority, passwords, tokens with scopes that are enforced, and the
credentials that larder, skopeo and podman keep for each other."""

import base64
import json
import os
import shutil
import stat
import subprocess

from registries import (PASSWORD, READER, READER_PASSWORD, USER, Authority, Registry, TokenServer,
                        kinds, peer)  # first: it takes LARDER_PEERS
import interop
from interop import LARDER, Store, case, equal, run, skip
from images import Layout, blobs_in

store = Store("here")
source = Layout("source")
image = source.image("image", ref="image")
other = source.image("other", ref="other")
authority = Authority()
strangers = Authority("strangers")
good = authority.good()
SERVERS = [kind for kind in kinds() if kind != "olareg"]  # which knows neither users nor tokens
CREDS = ["--creds", f"{USER}:{PASSWORD}"]
READER_CREDS = ["--creds", f"{READER}:{READER_PASSWORD}"]


def larder(*argv, status=0, **env):
    return run(LARDER, *argv, status=status, env={**store.env, **env})


def skopeo(*argv, status=0, **env):
    return run("skopeo", "--insecure-policy", *argv, status=status, env={**os.environ, **env})


def login(registry, user=USER, password=PASSWORD, *more, status=0, **env):
    done = subprocess.run([LARDER, "login", "-u", user, "--password-stdin", *more, registry.host],
                          input=password + "\n", capture_output=True, text=True, check=False,
                          env={**store.env, **env}, timeout=interop.PATIENCE)
    equal(done.returncode, status, done.stderr)
    return done


def refused(why, *argv, status, **env):
    """larder must fail, and name what is the matter."""
    done = larder(*argv, status=status, **env)
    for word in why:
        assert word in done.stderr, f"no {word!r} in {done.stderr!r}"
    return done


# ---- TLS ----

def tls(kind):
    registry = Registry(kind, tls=good)
    here = registry.url("app", "1")

    with case(f"{kind}, TLS: an unknown authority is refused, by skopeo too"):
        refused(["certificate", registry.host], "copy", "oci:source:image", here, "--tls-verify",
                status=1)
        refused(["certificate"], "copy", "oci:source:image", here, "--cert-dir",
                strangers.directory, "--tls-verify", status=1)
        equal(registry.digest("app", "1"), None)
        if peer("skopeo"):
            skopeo("copy", "-q", "oci:source:image", here, status=1)

    with case(f"{kind}, TLS: --cert-dir, and the second copy is one HEAD"):
        larder("copy", "oci:source:image", here, "--cert-dir", authority.directory, "--tls-verify")
        equal(registry.digest("app", "1"), image["digest"])
        registry.mark()
        larder("copy", "oci:source:image", here, "--dest-cert-dir", authority.directory)
        equal([r[0] for r in registry.requests()], ["HEAD"])
        if peer("skopeo"):
            skopeo("inspect", "--raw", "--cert-dir", authority.directory, here)

    with case(f"{kind}, TLS: certs.d of the user"):
        directory = os.path.join(os.environ["XDG_CONFIG_HOME"], "containers/certs.d", registry.host)
        shutil.copytree(authority.directory, directory)
        larder("copy", here, f"oci:tls-{kind}:x")
        equal(blobs_in(f"tls-{kind}"), source.reachable(image["digest"]))
        shutil.rmtree(directory)

    with case(f"{kind}, TLS: --tls-verify=false"):
        larder("copy", here, f"oci:insecure-{kind}:x", "--tls-verify=false")
        equal(blobs_in(f"insecure-{kind}"), source.reachable(image["digest"]))
    registry.stop()

    for name, pair in (("another host", authority.wrong_host()), ("the past", authority.expired())):
        with case(f"{kind}, TLS: a certificate for {name} is refused, and said to be that"):
            registry = Registry(kind, tls=pair)
            word = "host" if name == "another host" else "expired"
            refused(["certificate", registry.host, word], "copy", "oci:source:image",
                    registry.url("app", "1"), "--cert-dir", authority.directory, "--tls-verify",
                    status=1)
            equal(registry.digest("app", "1"), None)
            registry.stop()


def client_certificates(kind):
    with case(f"{kind}, TLS: a certificate for the client"):
        registry = Registry(kind, tls=good, client_ca=authority.path)
        directory = os.path.join(interop.work, f"client-{kind}")
        shutil.copytree(authority.directory, directory)
        refused([registry.host], "inspect", registry.url("app", "1"), "--cert-dir", directory,
                "--tls-verify", status=1)
        certificate, key = authority.issue("client", "DNS:client.example.org")
        shutil.copy(certificate, os.path.join(directory, "client.cert"))
        shutil.copy(key, os.path.join(directory, "client.key"))
        larder("copy", "oci:source:image", registry.url("app", "1"), "--cert-dir", directory)
        larder("copy", registry.url("app", "1"), f"oci:client-tls-{kind}:x", "--cert-dir",
               directory)
        equal(blobs_in(f"client-tls-{kind}"), source.reachable(image["digest"]))
        registry.stop()


# ---- passwords ----

def basic(kind):
    registry = Registry(kind, auth="basic")
    here = registry.url("app", "1")
    shutil.rmtree(os.path.join(os.environ["XDG_RUNTIME_DIR"], "containers"), ignore_errors=True)

    with case(f"{kind}, passwords: none and wrong ones are refused, with a hint"):
        refused(["larder login", registry.host], "copy", "oci:source:image", here, status=1)
        refused([registry.host], "copy", "oci:source:image", here, "--creds", f"{USER}:wrong",
                status=1)
        login(registry, USER, "wrong", status=1)
        equal(os.path.exists(os.path.join(os.environ["XDG_RUNTIME_DIR"], "containers/auth.json")),
              False)

    with case(f"{kind}, passwords: --creds"):
        larder("copy", "oci:source:image", here, *CREDS)
        larder("copy", here, f"oci:basic-{kind}:x", *CREDS)
        equal(blobs_in(f"basic-{kind}"), source.reachable(image["digest"]))

    with case(f"{kind}, passwords: one request more for all of a copy"):
        registry.mark()
        larder("copy", "oci:source:image", here, *CREDS)
        statuses = [status for _, _, status in registry.requests()]
        equal(statuses, [401, 200])

    with case(f"{kind}, passwords: login, use, logout"):
        login(registry)
        equal(larder("login", "--get-login", registry.host).stdout.strip(), USER)
        path = os.path.join(os.environ["XDG_RUNTIME_DIR"], "containers/auth.json")
        equal(stat.S_IMODE(os.stat(path).st_mode), 0o600)
        equal(json.load(open(path, encoding="utf-8"))["auths"][registry.host]["auth"],
              base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode())
        larder("list-tags", f"docker://{registry.host}/app")
        larder("logout", registry.host)
        refused(["larder login"], "list-tags", f"docker://{registry.host}/app", status=1)
        larder("login", "--get-login", registry.host, status=3)
    neighbours(kind, registry)
    registry.stop()


def neighbours(kind, registry):
    here = registry.url("app", "1")
    tools = [tool for tool in ("skopeo", "podman") if peer(tool)]
    if not tools:
        skip(f"{kind}, passwords: shared with skopeo and podman", "neither is here")
        return
    with case(f"{kind}, passwords: skopeo and podman use what larder keeps"):
        login(registry)
        for tool in tools:
            equal(run(tool, "login", "--get-login", registry.host).stdout.strip(), USER)
        if "skopeo" in tools:
            skopeo("inspect", "--raw", "--tls-verify=false", here)
        # A second registry beside it is not touched.
        authfile = os.path.join(os.environ["XDG_RUNTIME_DIR"], "containers/auth.json")
        document = json.load(open(authfile, encoding="utf-8"))
        document["auths"]["registry.example.org"] = {"auth": "YTpi"}
        with open(authfile, "w", encoding="utf-8") as f:
            json.dump(document, f)
        run(tools[-1], "logout", registry.host)
        refused(["larder login"], "inspect", here, status=1)

    with case(f"{kind}, passwords: larder uses what skopeo and podman keep"):
        for tool in tools:
            run(tool, "login", "--tls-verify=false", "-u", USER, "-p", PASSWORD, registry.host)
            larder("inspect", "--raw", here)
            larder("logout", registry.host)
            run(tool, "login", "--get-login", registry.host, status=None)
            refused(["larder login"], "inspect", here, status=1)
        left = json.load(open(os.path.join(os.environ["XDG_RUNTIME_DIR"], "containers/auth.json"),
                              encoding="utf-8"))
        equal(left["auths"], {"registry.example.org": {"auth": "YTpi"}})
        os.unlink(os.path.join(os.environ["XDG_RUNTIME_DIR"], "containers/auth.json"))

    with case(f"{kind}, passwords: --authfile and $REGISTRY_AUTH_FILE, both ways"):
        one, two = os.path.join(interop.work, "one.json"), os.path.join(interop.work, "two.json")
        login(registry, USER, PASSWORD, "--authfile", one)
        run(tools[0], "login", "--get-login", "--authfile", one, registry.host)
        run(tools[0], "login", "--tls-verify=false", "--authfile", two, "-u", READER, "-p",
            READER_PASSWORD, registry.host)
        larder("inspect", "--raw", here, "--authfile", two)
        larder("inspect", "--raw", here, REGISTRY_AUTH_FILE=one)
        equal(larder("login", "--get-login", registry.host, REGISTRY_AUTH_FILE=two).stdout.strip(),
              READER)
        refused(["larder login"], "inspect", here, status=1)

    with case(f"{kind}, passwords: a namespace's own, as podman keeps them"):
        path = os.path.join(interop.work, "names.json")
        login_argv = ["login", "-u", USER, "--password-stdin", "--authfile", path]
        subprocess.run([LARDER, *login_argv, f"{registry.host}/app"], input=PASSWORD, text=True,
                       check=True, env=store.env, capture_output=True)
        larder("inspect", "--raw", here, "--authfile", path)
        refused(["larder login"], "list-tags", f"docker://{registry.host}/else", "--authfile", path,
                status=1)
        if "podman" in tools:
            equal(run("podman", "login", "--get-login", "--authfile", path,
                      f"{registry.host}/app").stdout.strip(), USER)


HELPER = """#!/bin/sh
# A docker-credential-helper over one file.
here=$(dirname "$0")
echo "$1" >>"$here/calls"
case $1 in
store) cat >"$here/kept" ;;
get)
    read -r server
    if grep -qF "\\"$server\\"" "$here/kept" 2>/dev/null; then cat "$here/kept"; else
        echo "credentials not found in native keychain"
        exit 1
    fi
    ;;
erase) rm -f "$here/kept" ;;
list) echo "{}" ;;
esac
"""


def helper(kind):
    registry = Registry(kind, auth="basic")
    here = registry.url("app", "1")
    bin_ = os.path.join(interop.work, f"bin-{kind}")
    os.makedirs(bin_)
    path = os.path.join(bin_, "docker-credential-tests")
    with open(path, "w", encoding="ascii") as f:
        f.write(HELPER)
    os.chmod(path, 0o755)
    config = os.path.join(interop.work, f"docker-{kind}")
    os.makedirs(config)
    with open(os.path.join(config, "config.json"), "w", encoding="ascii") as f:
        json.dump({"credHelpers": {registry.host: "tests"}}, f)
    env = {"PATH": bin_ + os.pathsep + os.environ["PATH"],
           "REGISTRY_AUTH_FILE": os.path.join(config, "config.json")}

    def calls():
        with open(os.path.join(bin_, "calls"), encoding="ascii") as f:
            return f.read().split()

    with case(f"{kind}, a credential helper: login stores in it, a copy asks it once"):
        refused(["larder login"], "copy", "oci:source:image", here, status=1, **env)
        login(registry, **env)
        equal(json.load(open(os.path.join(bin_, "kept"), encoding="utf-8"))["Secret"], PASSWORD)
        os.unlink(os.path.join(bin_, "calls"))
        larder("copy", "oci:source:image", here, **env)
        equal(calls(), ["get"])
        config_now = json.load(open(env["REGISTRY_AUTH_FILE"], encoding="utf-8"))
        equal(PASSWORD in json.dumps(config_now), False)

    with case(f"{kind}, a credential helper: skopeo uses what is in it, and logout erases"):
        if peer("skopeo"):
            skopeo("inspect", "--raw", "--tls-verify=false", here, **env)
        larder("logout", registry.host, **env)
        equal(os.path.exists(os.path.join(bin_, "kept")), False)
        refused(["larder login"], "inspect", here, status=1, **env)
    registry.stop()


# ---- tokens ----

def tokens(kind):
    server = TokenServer()
    registry = Registry(kind, auth=server)
    here = registry.url("app", "1")

    with case(f"{kind}, tokens: a push with a password, few tokens, the right scopes"):
        larder("copy", "oci:source:image", here, *CREDS)
        asked = [entry[2] for entry in server.log]
        equal({scope for scopes in asked for scope in scopes}, {"repository:app:pull,push"})
        assert len(asked) == 1, asked
        larder("copy", "oci:source:image", registry.url("public/app", "1"), *CREDS)
        larder("copy", here, f"oci:token-{kind}:x", *CREDS)
        equal(blobs_in(f"token-{kind}"), source.reachable(image["digest"]))

    with case(f"{kind}, tokens: nothing to do is HEAD, token, HEAD"):
        del server.log[:]
        registry.mark()
        larder("copy", "oci:source:image", here, *CREDS)
        equal([r[0] for r in registry.requests()], ["HEAD", "HEAD"])
        equal(len(server.log), 1)

    with case(f"{kind}, tokens: anonymous where that is enough"):
        del server.log[:]
        larder("copy", registry.url("public/app", "1"), f"oci:anonymous-{kind}:x")
        equal(blobs_in(f"anonymous-{kind}"), source.reachable(image["digest"]))
        equal({entry[1] for entry in server.log}, {None})
        refused([registry.host], "copy", here, f"oci:none-{kind}:x", status=1)

    with case(f"{kind}, tokens: who may read may not write nor delete"):
        larder("copy", here, f"oci:reader-{kind}:x", *READER_CREDS)
        refused([registry.host], "copy", "oci:source:other", here, *READER_CREDS, status=1)
        refused([registry.host], "delete", here, *READER_CREDS, status=1)
        refused([registry.host], "list-tags", f"docker://{registry.host}/app", "--creds",
                f"{USER}:wrong", status=1)
        equal(json.loads(larder("list-tags", "--json", f"docker://{registry.host}/app",
                                *READER_CREDS).stdout)["Tags"], ["1"])

    with case(f"{kind}, tokens: a mount asks for both repositories, and is one"):
        del server.log[:]
        registry.mark()
        larder("copy", here, registry.url("team/mounted", "1"), *CREDS)
        mounts = [s for _, target, s in registry.requests() if "mount=" in target]
        equal(201 in mounts and set(mounts) <= {201, 401}, True)
        equal([r for r in registry.requests() if r[0] == "GET" and "/blobs/" in r[1]], [])
        assert any({"repository:app:pull", "repository:team/mounted:pull,push"} <= set(entry[2])
                   for entry in server.log), server.log

    with case(f"{kind}, tokens: deleting asks for the right to"):
        del server.log[:]
        larder("delete", registry.url("team/mounted", image["digest"]), *CREDS)
        assert any("delete" in scope for entry in server.log for scope in entry[2]), server.log

    with case(f"{kind}, tokens: login, and an identity token by POST"):
        login(registry)
        larder("inspect", "--raw", here)
        larder("logout", registry.host)
        authfile = os.path.join(interop.work, "identity.json")
        with open(authfile, "w", encoding="ascii") as f:
            json.dump({"auths": {registry.host: {"auth": base64.b64encode(b"0:").decode(),
                                                 "identitytoken": "identity of " + USER}}}, f)
        os.chmod(authfile, 0o600)
        del server.log[:]
        larder("copy", "oci:source:other", registry.url("app", "2"), "--authfile", authfile)
        equal({(entry[0], entry[1]) for entry in server.log}, {("POST", USER)})

    with case(f"{kind}, tokens: one that is given"):
        token = server.grant("GET", USER, {"service": ["registry"],
                                           "scope": ["repository:app:pull"]})["token"]
        del server.log[:]
        larder("inspect", "--raw", here, "--registry-token", token)
        equal(server.log, [])
    registry.stop()


if not SERVERS:
    skip("all about passwords and tokens", "neither docker-registry nor distribution here")
for kind_ in kinds():
    tls(kind_)
for kind_ in SERVERS:
    client_certificates(kind_)
    basic(kind_)
    tokens(kind_)
for kind_ in SERVERS[:1]:
    helper(kind_)
interop.done()
