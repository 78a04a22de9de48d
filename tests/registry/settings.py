# SPDX-License-Identifier: Apache-2.0
"""How the fake registry behaves: its settings, and rules for single requests."""
import re
import threading

DEFAULTS = {
    # who may
    "auth": "none",
    "user": "user",
    "password": "secret",
    "anonymous": "none",
    "identity_token": "identity",
    "challenge": "plain",
    "realm": None,
    "service": "fake",
    "token_at": "same",
    "token_get": 200,
    "token_post": 200,
    "token_key": "token",
    "token_life": 300,
    "token_really": None,
    "token_refresh": False,
    "token_refuses": [],
    "token_revoked_by": None,
    "token_revoked_times": 1,
    "scope_denied": [],
    "denied_status": 401,
    # manifests and tags
    "digest_header": True,
    "manifest_check": True,
    "manifest_max": 4 << 20,
    "accept_check": False,
    "immutable": False,
    "if_match": False,
    "tag_delay": 0,
    "tags_order": "sorted",
    "tags_max": 0,
    "tags_link": True,
    "tags_n_limit": 0,
    "tags_need_manifest": False,
    "referrers": True,
    "referrers_max": 0,
    "delete_tag": 202,
    "delete_manifest": 202,
    "delete_blob": 202,
    # uploads
    "single_post": True,
    "mount": 201,
    "mount_denied": 202,
    "mount_any": True,
    "location": "relative",
    "patch_status": 202,
    "patch_refused": 0,
    "patch_range": "right",
    "put_body_refused": 0,
    "chunk_min": 0,
    "body_max": 0,
    "body_max_methods": ["PATCH"],
    "body_max_status": 416,
    # downloads
    "redirect": 0,
    "redirect_to": "other",
    "redirect_head": False,
    "redirect_life": 300,
    "other_host": "127.0.0.1",
    "other_authorization": "refused",
    # everything
    "warning": None,
    "delay": 0,
    "rules": [],
}

RULE_KEYS = {
    "match", "times", "skip", "after", "delay", "status", "text", "headers", "retry_after", "raw",
    "drop", "cut", "close", "stall_after", "stall", "cut_request", "keep", "no_range",
    "range_shift", "content_range", "corrupt", "extra", "short", "chunked", "gzip",
    "hold", "gather",
}  # fmt: skip


class Rule:
    def __init__(self, document):
        unknown = set(document) - RULE_KEYS
        if unknown:
            raise ValueError("unknown member of a rule: " + ", ".join(sorted(unknown)))
        self.values = document
        self.pattern = re.compile(document.get("match", ""))
        self.seen = 0

    def takes(self, request):
        """Whether the rule holds for the request ("GET /v2/..."); counts it."""
        if not self.pattern.search(request):
            return False
        first = self.values.get("skip", 0)
        n = self.seen
        self.seen += 1
        times = self.values.get("times")
        return n >= first and (times is None or n < first + times)


class Settings:
    def __init__(self):
        self.lock = threading.Lock()
        self.values = dict(DEFAULTS)
        self.rules = []

    def change(self, document, is_merge):
        """ValueError for what does not exist: a mistyped name must not make a test pass."""
        unknown = set(document) - set(DEFAULTS)
        if unknown:
            raise ValueError("unknown setting: " + ", ".join(sorted(unknown)))
        rules = [Rule(x) for x in document.get("rules", [])]
        with self.lock:
            if not is_merge:
                self.values = dict(DEFAULTS)
                self.rules = []
            self.values.update(document)
            if "rules" in document:
                self.rules = rules

    def __getitem__(self, name):
        return self.values[name]

    def rule(self, request):
        with self.lock:
            for rule in self.rules:
                if rule.takes(request):
                    return rule.values
        return {}
