# SPDX-License-Identifier: Apache-2.0
"""Stand for an API with users, roles and bindings, asked through kubectl --raw; what it is told it remembers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from installer.base.run import Completed
from installer.operations.door import rights, users

GROUPS = ["system:serviceaccounts", "system:authenticated"]
RULES: Mapping[str, frozenset[tuple[str, str]]] = {
    "viewer": frozenset({("get", "hosts"), ("list", "jobs")}),
    "operator": frozenset({("create", "hosts"), ("create", "reports"), ("delete", "jobs")}),
    "admin": frozenset({("create", "hosts"), ("delete", "hosts"), ("create", "reports"), ("delete", "jobs")}),
}


class Api:
    """The API server; ``answers`` False: it is down."""

    def __init__(self) -> None:
        self.answers = True
        self.has_namespace = True
        self.accounts: dict[str, dict[str, Any]] = {}
        self.bindings: dict[str, dict[str, Any]] = {}
        self.tokens: dict[str, str] = {}
        self.calls: list[tuple[str, str]] = []
        self.words: list[Sequence[str]] = []

    def __call__(
        self, args: Sequence[Any], *, timeout_s: float, stdin: bytes = b"", **_: object
    ) -> Completed:
        del timeout_s
        words = [str(word) for word in args]
        self.words.append(words)
        if not self.answers:
            return Completed(1, "", "The connection to the server 10.0.0.1:6443 was refused\n")
        path = words[words.index("--raw") + 1]
        method = words[words.index("--raw") - 1]
        self.calls.append((method, path))
        if path == "/readyz":
            return Completed(0, "ok", "")
        try:
            return Completed(0, json.dumps(self._answer(method, path, json.loads(stdin or b"{}"))), "")
        except KeyError as exc:
            return Completed(1, "", f"Error from server ({exc.args[0]}): no\n")

    def _answer(self, method: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        if path == rights.WHO_IS_IT:
            name = self.tokens.get(body["spec"]["token"])
            user = {"username": f"system:serviceaccount:caisson-users:{name}", "uid": "1", "groups": GROUPS}
            is_known = name in self.accounts
            return {"status": {"authenticated": True, "user": user} if is_known else {"error": "unknown"}}
        if path == rights.WHAT_MAY_IT:
            asked = body["spec"]["resourceAttributes"]
            role = self.role(body["spec"]["user"].rpartition(":")[2])
            is_allowed = (asked["verb"], asked["resource"]) in RULES.get(role, ())
            return {"status": {"allowed": is_allowed and asked["group"] == "console.caisson.internal"}}
        if path.endswith("/token"):
            name = path.split("/")[-2]
            if name not in self.accounts:
                raise KeyError("NotFound")
            token = f"token-of-{name}"
            self.tokens[token] = name
            return {"status": {"token": token, "expirationTimestamp": "2026-11-28T16:00:00Z"}}
        store = self.bindings if path.startswith(users.BINDINGS) else self.accounts
        if method == "get":
            return {"items": list(store.values())}
        if method == "create":
            if not self.has_namespace and store is self.accounts:
                raise KeyError("NotFound")
            name = body["metadata"]["name"]
            if name in store:
                raise KeyError("AlreadyExists")
            store[name] = body
            return body
        if store.pop(path.rpartition("/")[2], None) is None:
            raise KeyError("NotFound")
        return {}

    def role(self, name: str) -> str:
        """Return the role that a user is bound to."""
        for binding in self.bindings.values():
            if binding["subjects"][0]["name"] == name:
                return str(binding["roleRef"]["name"])[len("caisson-") :]
        return ""
