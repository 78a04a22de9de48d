# SPDX-License-Identifier: Apache-2.0
"""Who may do what in the fake registry: challenges, Basic, and the token server."""
import base64
import json
import threading
import time
import urllib.parse
import uuid

ALL = {"pull", "push", "delete"}


def parse_scope(text):
    """("repository", "a/b", {"pull"}) of "repository:a/b:pull"; a name may hold one ":"."""
    kind, _, rest = text.partition(":")
    name, _, actions = rest.rpartition(":")
    return kind, name, set(actions.split(",")) - {""}


class Tokens:
    def __init__(self, settings):
        self.settings = settings
        self.lock = threading.Lock()
        self.tokens = {}  # token -> {"ends": monotonic, "scopes": {name: set}}
        self.revoked_times = 0

    # ---- the registry's side ----

    def basic_user(self, header):
        """True: right; False: wrong; None: no Basic."""
        kind, _, value = header.partition(" ")
        if kind.lower() != "basic":
            return None
        try:
            given = base64.b64decode(value).decode()
        except ValueError:
            return False
        return given == self.settings["user"] + ":" + self.settings["password"]

    def refusal(self, header, needs):
        """None when header allows each (name, action) of needs; else (status, error)."""
        settings = self.settings
        if settings["auth"] == "none":
            return None
        is_read = all(action == "pull" for _, action in needs)
        if settings["auth"] == "basic":
            if self.basic_user(header):
                denied = [n for n, _ in needs if n in settings["scope_denied"]]
                return (403, "") if denied else None
            is_open = settings["anonymous"] == "pull" and is_read and needs and not header
            return None if is_open else (401, "")
        kind, _, value = header.partition(" ")
        if kind.lower() != "bearer":
            return (401, "")
        with self.lock:
            token = self.tokens.get(value)
            if token is None or token["ends"] < time.monotonic():
                return (401, "invalid_token")
            for name, action in needs:
                if action not in token["scopes"].get(name, set()):
                    return (settings["denied_status"], "insufficient_scope")
        return None

    def challenges(self, base, needs, error):
        """Values of WWW-Authenticate."""
        settings = self.settings
        basic = 'Basic realm="fake"'
        if settings["auth"] == "basic":
            return [basic]
        realm = settings["realm"] or base + "/token"
        scopes = {}
        for name, action in needs:
            scopes.setdefault(name, []).append(action)
        scope = " ".join("repository:%s:%s" % (n, ",".join(a)) for n, a in scopes.items())
        how = settings["challenge"]
        quote = "" if how == "bare" else '"'
        parts = ["realm=" + quote + realm + quote, "service=" + quote + settings["service"] + quote]
        if scope:
            parts.append('scope="' + scope + '"')
        if error:
            parts.append("error=" + quote + error + quote)
        bearer = "Bearer " + ",".join(parts)
        if how == "upper":
            bearer = bearer.replace("Bearer realm", "BEARER Realm")
        return {
            "none": [],
            "list": ["Negotiate, " + basic + ", " + bearer],
            "headers": [basic, "Negotiate", bearer],
        }.get(how, [bearer])

    def after(self, method):
        """Ends all tokens when the settings say that this method's success does that."""
        with self.lock:
            wanted = self.settings["token_revoked_by"]
            if wanted == method and self.revoked_times < self.settings["token_revoked_times"]:
                self.revoked_times += 1
                self.tokens.clear()

    def reset(self):
        with self.lock:
            self.tokens.clear()
            self.revoked_times = 0

    # ---- the token server ----

    def grant(self, scopes, is_user):
        settings = self.settings
        allowed = {}
        for text in scopes:
            kind, name, actions = parse_scope(text)
            if kind != "repository" or name in settings["scope_denied"]:
                continue
            rights = ALL if is_user else {"none": set(), "pull": {"pull"}, "all": ALL}[
                settings["anonymous"]]
            if "*" in actions:
                actions = set(ALL)
            allowed.setdefault(name, set()).update(actions & rights)
        return allowed

    def issue(self, scopes, is_user, wants_refresh):
        settings = self.settings
        token = "t" + uuid.uuid4().hex
        life = settings["token_really"]
        if life is None:
            life = settings["token_life"] or 60
        with self.lock:
            self.tokens[token] = {
                "ends": time.monotonic() + life,
                "scopes": self.grant(scopes, is_user),
            }
        answer = {}
        if settings["token_key"] in ("token", "both"):
            answer["token"] = token
        if settings["token_key"] in ("access_token", "both"):
            answer["access_token"] = token
        if settings["token_life"] is not None:
            answer["expires_in"] = settings["token_life"]
        if settings["token_refresh"] and wants_refresh:
            answer["refresh_token"] = settings["identity_token"]
        return 200, answer

    def answer(self, method, query, authorization, body):
        """(status, document) of a request to /token."""
        settings = self.settings
        status = settings["token_post" if method == "POST" else "token_get"]
        if status != 200:
            return status, {"errors": [{"code": "DENIED", "message": "no tokens this way"}]}
        if method == "POST":
            form = dict(urllib.parse.parse_qsl(body.decode()))
            scopes = form.get("scope", "").split()
            kind = form.get("grant_type")
            is_user = (
                kind == "password"
                and form.get("username") == settings["user"]
                and form.get("password") == settings["password"]
            ) or (
                kind == "refresh_token"
                and form.get("refresh_token") == settings["identity_token"]
            )
            if not is_user or "service" not in form or "client_id" not in form:
                return 401, {"error": "invalid_grant", "details": "incorrect username or password"}
            wants_refresh = form.get("access_type") == "offline"
        else:
            scopes = []
            for name, value in query:
                if name == "scope":
                    scopes += value.split()
            is_user = self.basic_user(authorization)
            if is_user is False or (is_user is None and authorization):
                text = "incorrect username or password"
                return 401, {"errors": [{"code": "UNAUTHORIZED", "message": text}]}
            if is_user is None and settings["anonymous"] == "none":
                return 401, {"errors": [{"code": "UNAUTHORIZED", "message": "who are you"}]}
            wants_refresh = dict(query).get("offline_token") == "true"
        for text in scopes:
            if parse_scope(text)[1] in settings["token_refuses"]:
                return 403, {"errors": [{"code": "DENIED", "message": "invalid scope " + text}]}
        return self.issue(scopes, bool(is_user), wants_refresh)


def dump(document):
    return json.dumps(document).encode()
