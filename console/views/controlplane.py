# SPDX-License-Identifier: Apache-2.0
"""Show the control plane of this host: what the API says of its checks, and what systemd, files and containerd say."""

from __future__ import annotations

import re
from typing import Any

from console import api, text
from console.known import Known
from console.views import base, nodes
from console.views.base import Mark

CHECK = re.compile(r"^\[(?P<sign>[+-])\](?P<name>\S+) (?P<rest>.*)$")
ANSWERED = re.compile(r"HTTP [0-9]{3}")
"""What an endpoint is said to have answered that is well: else there are more words than these."""


def view(status: Known[dict[str, Any]], ready: Known[str], now: float) -> dict[str, Any]:
    """Return what the page shows."""
    host = api.part(status.value, "host")
    is_fresh = status.is_fresh(now, base.DOOR_FRESH_S)
    etcd = api.part(status.value, "etcd")
    size, quota = base.number(etcd.get("size_bytes")), base.number(etcd.get("quota_bytes"))
    vip = api.part(status.value, "vip")
    own = api.part(host, "api")
    return {
        "pods": [_pod(one, is_fresh=is_fresh) for one in api.items(host, "static_pods")],
        "services": [_service(one, is_fresh=is_fresh) for one in api.items(host, "services")],
        "etcd": {
            "version": base.words(etcd.get("version")),
            "size": size,
            "quota": quota,
            "percent": round(min(100.0, size / quota * 100), 1) if size is not None and quota else None,
            "members": [
                {
                    "name": base.words(one.get("name")),
                    "kind": "learner" if one.get("is_learner") is True else "voter",
                    "urls": ", ".join(base.texts(one.get("client_urls"))),
                }
                for one in api.items(etcd, "members")
            ],
            "alarms": base.texts(etcd.get("alarms")),
        }
        if etcd
        else None,
        "vip": {
            "address": base.words(vip.get("address")),
            "held_by": ", ".join(base.texts(vip.get("held_by"))) or "nobody",
        }
        if vip
        else None,
        "endpoints": [
            {
                "name": base.words(one.get("name")),
                "url": base.words(one.get("url")),
                "answer": base.words(one.get("answer")),
                "mark": (Mark.GOOD if has_answered(base.words(one.get("answer"))) else Mark.BAD)
                if is_fresh
                else Mark.UNKNOWN,
            }
            for one in api.items(status.value, "endpoints")
        ],
        "checks": checks_of(ready, now),
        "own": {
            "url": base.words(own.get("url")),
            "answer": base.words(own.get("answer")),
            "mark": Mark.UNKNOWN if not is_fresh else Mark.GOOD if own.get("answers") is True else Mark.BAD,
        }
        if own
        else None,
        "facts": _facts(host),
        "disks": nodes.disks_of(status.value),
        "firewall": base.words(api.part(status.value).get("firewall")),
        "salt": base.words(api.part(status.value).get("salt")),
        "status_source": base.door_source(status, now),
        "ready_source": base.api_source(ready, now),
    }


def has_answered(answer: str) -> bool:
    """Say whether an endpoint has answered as it must, by the words of ``caisson status``.

    >>> has_answered("HTTP 200"), has_answered("HTTP 401"), has_answered("HTTP 503 instead of 200"), has_answered("")
    (True, True, False, False)
    """
    return ANSWERED.fullmatch(answer) is not None


def checks_of(ready: Known[str], now: float) -> list[dict[str, Any]]:
    """Return the checks of the API server, those that fail first."""
    is_fresh = ready.is_fresh(now, base.API_FRESH_S)
    found = [
        {
            "name": match["name"],
            "mark": (Mark.GOOD if match["sign"] == "+" else Mark.BAD) if is_fresh else Mark.UNKNOWN,
            "says": match["rest"],
        }
        for line in (ready.value or "").splitlines()
        if (match := CHECK.match(line))
    ]
    return sorted(found, key=lambda one: (one["mark"] is not Mark.BAD, str(one["name"])))


def _pod(data: dict[str, Any], *, is_fresh: bool) -> dict[str, Any]:
    running, ended = data.get("running"), api.part(data, "last_exit")
    last = ""
    if ended:
        reason = f" ({ended['reason']})" if ended.get("reason") else ""
        last = (
            f"exited {ended.get('code', 'unknown')}{reason}, {text.stamp(text.moment(ended.get('time')))} UTC"
        )
    restarts = base.whole(data.get("restarts"))
    return {
        "name": base.words(data.get("name")),
        "mark": Mark.UNKNOWN
        if running is None or not is_fresh
        else Mark.GOOD
        if running is True
        else Mark.BAD,
        "state": "unknown" if running is None else "running" if running is True else "does not run",
        "restarts": "unknown" if restarts is None else str(restarts),
        "last": last,
        "lines": base.texts(data.get("lines")),
    }


def _service(data: dict[str, Any], *, is_fresh: bool) -> dict[str, Any]:
    state = base.words(data.get("state")) or "unknown"
    marks = {"active": Mark.GOOD, "not installed": Mark.UNKNOWN, "unknown": Mark.UNKNOWN}
    return {
        "name": base.words(data.get("name")),
        "mark": marks.get(state, Mark.BAD) if is_fresh else Mark.UNKNOWN,
        "state": state,
        "detail": base.words(data.get("detail")),
        "restarts": base.whole(data.get("restarts")) or 0,
        "since": base.words(data.get("since")),
        "lines": base.texts(data.get("lines")),
    }


def _facts(host: dict[str, Any]) -> list[tuple[str, str]]:
    if not host:
        return []
    memory, clock = api.part(host, "memory"), api.part(host, "clock")
    words = {"True": "synchronized", "False": "not synchronized"}
    kept = words.get(str(clock.get("synchronized")), "unknown")
    load = host.get("load")
    return [
        ("Host", base.words(host.get("name"))),
        ("Up for", text.age(base.number(host.get("uptime_s")))),
        ("Load", ", ".join(map(str, load)) if isinstance(load, list) else "unknown"),
        ("Processors", base.words(host.get("processors")) or "unknown"),
        (
            "Memory free",
            f"{text.size(memory.get('available_bytes'))} of {text.size(memory.get('total_bytes'))}",
        ),
        ("Clock", f"{kept}{f', {zone}' if (zone := base.words(clock.get('zone'))) else ''}"),
    ]
