# SPDX-License-Identifier: Apache-2.0
"""Say which node gets which pillar: each one its own, by its exact name, never by a pattern.

The bootstrap node's is ``caisson.sls``. Each further node has a file of its own below ``nodes/`` (nodepillar.py).
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from installer.base import files
from installer.base.paths import Paths

NODES_DIR = "nodes"
_MUTEX = threading.Lock()
"""The top file is one for all nodes, and several are added side by side."""
HEADING = "#!json\n"
BY_JOIN = ("overrides.kubelet", "overrides.kubeadmPatches")
"""What kubeadm gives a node when it joins, in its kubelet's configuration and its manifests, and never again."""
BY_JOIN_OF_CONTROL_PLANES = ("apiServer.extraSans",)
"""So in the certificate of its API server."""
OF_ALL_AT_ONCE = ("overrides.kubeProxy", "images.directory", "images.iso")
"""What the cluster itself, or its registry, holds for all nodes."""


def file_name(node_name: str) -> str:
    """Return the name of a node's file, without its suffix: a dot would be a directory to Salt.

    A node's name has no underscore (RFC 1123), so two nodes never share a file.

    >>> file_name("node2.example")
    'node2_example'
    """
    return node_name.replace(".", "_")


def top(own_name: str, others: Iterable[str]) -> dict[str, Any]:
    """Return the top file of the pillar: the bootstrap node and the ``others``, each by its exact name. Pure.

    Matched as a list of one: to a compound match, Salt's default here, a node called ``not`` would be an operator.
    Source: Salt 3008.3, salt/matchers/confirm_top.py and list_match.py.

    >>> top("node1", ["node2"])["base"]["node2"]
    [{'match': 'list'}, 'nodes.node2']
    """
    given = {own_name: "caisson", **{name: f"{NODES_DIR}.{file_name(name)}" for name in others}}
    return {"base": {name: [{"match": "list"}, sls] for name, sls in given.items()}}


def known(paths: Paths) -> list[str]:
    """Return the names of the further nodes that have a pillar."""
    found = (paths.pillar_dir / NODES_DIR).glob("[!.]*.sls")
    return sorted(file.stem.replace("_", ".") for file in found)


def unaware(paths: Paths, changed: Sequence[str]) -> str:
    """Say which further nodes do not know of changed keys of bootstrap.yaml yet; empty when there is nothing to say."""
    others = known(paths)
    control_planes = [name for name in others if _role(paths, name) == "control-plane"]
    apart = {*BY_JOIN, *BY_JOIN_OF_CONTROL_PLANES, *OF_ALL_AT_ONCE}
    told = "what they were told of {} until 'caisson node add' is run again for them: {}"
    joined = (
        "what they joined with of {} until each is taken out of the cluster and added again ('caisson node remove', "
        "'caisson node add'): {}"
    )
    said = (
        (told, [key for key in changed if key not in apart], others),
        (joined, [key for key in changed if key in BY_JOIN], others),
        (joined, [key for key in changed if key in BY_JOIN_OF_CONTROL_PLANES], control_planes),
    )
    texts = [text.format(", ".join(keys), ", ".join(names)) for text, keys, names in said if keys and names]
    return "; ".join(f"further nodes keep {text}" for text in texts)


def _role(paths: Paths, node_name: str) -> str:
    return str(read(paths, node_name).get("node", {}).get("role", ""))


def file_of(paths: Paths, node_name: str) -> Path:
    """Return where the pillar of a further node is."""
    return paths.pillar_dir / NODES_DIR / f"{file_name(node_name)}.sls"


def pillars(paths: Paths) -> list[dict[str, Any]]:
    """Return the pillars of the further nodes, by the names of their files."""
    names = [paths.pillar_dir / NODES_DIR / f"{file_name(name)}.sls" for name in known(paths)]
    texts = [file.read_text(encoding="utf-8") for file in names]
    return [json.loads(text[len(HEADING) :])["caisson"] for text in texts]


def render(value: Any) -> str:
    """Return data as the text of a pillar's file: as JSON, so that nothing an operator wrote is read as a template."""
    return HEADING + canonical(value)


def canonical(value: Any) -> str:
    """Return a value as JSON that is the same for equal values."""
    return json.dumps(value, indent=1, sort_keys=True) + "\n"


def write(paths: Paths, own_name: str, caisson: Mapping[str, Any]) -> bool:
    """Write a node's pillar, then the top file that gives it to that node; return whether either was otherwise."""
    name = str(caisson["node"]["name"])
    file = file_of(paths, name)
    bar_pushes(paths, [caisson])
    changed = files.write_file(file, render({"caisson": caisson}), mode=0o600, dir_mode=0o700)
    return write_top(paths, own_name) or changed


def read(paths: Paths, node_name: str) -> dict[str, Any]:
    """Return what a node was told last; nothing where it never was."""
    try:
        text = (paths.pillar_dir / NODES_DIR / f"{file_name(node_name)}.sls").read_text(encoding="utf-8")
        found: dict[str, Any] = json.loads(text.partition("\n")[2])["caisson"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return found


def write_top(paths: Paths, own_name: str) -> bool:
    """Write the top file for all nodes that have a pillar; return whether it was otherwise."""
    with _MUTEX:
        text = render(top(own_name, known(paths)))
        return files.write_file(paths.pillar_dir / "top.sls", text, mode=0o600, dir_mode=0o700)


def forget(paths: Paths, own_name: str, node_name: str) -> bool:
    """Take a node's pillar away, from the top file first; return whether there was one."""
    file = file_of(paths, node_name)
    if not file.exists():
        return False
    address = str(read(paths, node_name).get("node", {}).get("control_plane_address", ""))
    with _MUTEX:
        others = [name for name in known(paths) if name != node_name]
        text = render(top(own_name, others))
        files.write_file(paths.pillar_dir / "top.sls", text, mode=0o600, dir_mode=0o700)
        file.unlink()
    if address:
        (paths.barred_nodes_dir / address).unlink(missing_ok=True)
    return True


def bar_pushes(paths: Paths, caissons: Iterable[Mapping[str, Any]]) -> bool:
    """Let nginx know further nodes by their addresses, from which it takes no push; return whether one is new.

    A pod that connects to the bootstrap node has the address of the node it runs on. nginx looks for the file at each
    request: it is neither reloaded nor started again for a node that comes.
    """
    addresses = {str(caisson["node"].get("control_plane_address", "")) for caisson in caissons} - {""}
    changed = [files.write_file(paths.barred_nodes_dir / address, "") for address in sorted(addresses)]
    return any(changed)


def let_push(paths: Paths) -> bool:
    """Take the marks of addresses away that no node has any more; return whether there was one."""
    nodes = {str(caisson["node"].get("control_plane_address", "")) for caisson in pillars(paths)}
    gone = [file for file in paths.barred_nodes_dir.glob("[!.]*") if file.name not in nodes]
    for file in gone:
        file.unlink()
    return bool(gone)
