# SPDX-License-Identifier: Apache-2.0
"""Show who one is and what one may do; for what one may not, the rule that is missing."""

from __future__ import annotations

from typing import Any

from console import rights
from console.rights import Act
from console.sources import Sources
from console.views import base


def view(sources: Sources, now: float) -> dict[str, Any]:
    """Return what the page shows."""
    known = sources.rights
    return {
        "groups_of_acts": [
            ("On this host", [_row(sources, act) for act in rights.READS]),
            ("Acts", [_row(sources, act) for act in rights.ACTS]),
            ("In Kubernetes, in all namespaces", [_row(sources, act) for act in rights.KUBERNETES]),
        ],
        "is_known": known.value is not None,
        "rules": [
            {
                "groups": ", ".join(group or '""' for group in rule.groups) or "-",
                "resources": ", ".join(rule.resources) or "-",
                "verbs": ", ".join(rule.verbs) or "-",
                "names": ", ".join(rule.names),
            }
            for rule in (known.value.rules if known.value is not None else ())
        ],
        "missing": [act.rule for act in (*rights.READS, *rights.ACTS) if not sources.may(act)],
        "source": base.source_of(known, now, 120.0),
    }


def _row(sources: Sources, act: Act) -> dict[str, Any]:
    return {"title": act.title, "may": sources.may(act), "rule": act.rule}
