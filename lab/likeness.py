# SPDX-License-Identifier: Apache-2.0
"""Compare two nodes as kubeadm left them: what is made at random falls away, what was decided stays. Pure.

``normalise`` turns what was read on a node (see ``RAW_KEYS``) into things, each with its fields as text; ``differ``
names what differs; ``judge`` holds the differences against a list of those that are known, each with its reason.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any

import yaml

from lab.errors import LabError

RAW_KEYS = ("objects", "manifests", "kubeconfigs", "certificates", "kubelet", "listing")
SIDES = ("bootstrap", "kubeadm", "both")
IS_THERE = "is there"

Things = dict[str, dict[str, str]]

#: What the API server and its controllers write by themselves.
_OWN_METADATA = (
    "uid",
    "resourceVersion",
    "creationTimestamp",
    "generation",
    "managedFields",
    "ownerReferences",
)
_OWN_KEYS = ("status", "kind", "metadata")
#: Lists whose order means something, although their entries have names.
_ORDERED = ("initContainers", "env")
ORDER = "(order)"
_OWN_ANNOTATIONS = ("deployment.kubernetes.io/revision", "deprecated.daemonset.template.generation")
#: A certificate may be made in the second before, or after, its authority.
_SECONDS_A_DAY = 86_400
_SECONDS_AN_HOUR = 3_600
_TOKEN_TYPE = "bootstrap.kubernetes.io/token"  # noqa: S105 - a type, no token
_RANDOM = (
    (re.compile(r"-----BEGIN ([A-Z ]+)-----.*?-----END \1-----\n?", re.DOTALL), r"<\1>"),
    (re.compile(r"\bLS0tLS1CRUdJTi[A-Za-z0-9+/=]+"), "<PEM>"),
    (re.compile(r"\b(bootstrap-token|jws-kubeconfig)-[a-z0-9]{6}\b"), r"\1-<id>"),
    (re.compile(r"\bey[\w-]+\.\.[\w-]+"), "<signature>"),
    (re.compile(r"\bkubelet-client-\d{4}(-\d\d){5}\.pem"), "kubelet-client-<date>.pem"),
    (re.compile(r"(?<=@)\d{10}\b"), "<date>"),
    (re.compile(r"\b\d{4}-\d\d-\d\d(T[\d:.]+Z)?"), "<date>"),
)
_DOCUMENT = re.compile(r"\A\s*(\{|[\w.-]+:(\s|$))")
_LISTED = re.compile(r"^(?P<mode>\S+) (?P<owner>\S+) (?P<path>/\S+)(?: -> (?P<target>\S+))?$")
_FLAG = re.compile(r"^(?P<name>--[\w-]+)(?:=(?P<value>.*))?$", re.DOTALL)


@dataclass(frozen=True)
class Difference:
    """What differs at one place; an empty value: it is not there."""

    place: str
    bootstrap: str
    kubeadm: str

    @property
    def side(self) -> str:
        """Return who has it: the bootstrapped node, kubeadm's, or both (with other values)."""
        if self.bootstrap and self.kubeadm:
            return "both"
        return "bootstrap" if self.bootstrap else "kubeadm"

    def __str__(self) -> str:
        return f"{self.place}: bootstrapped {self.bootstrap or '-'}, by kubeadm {self.kubeadm or '-'}"


@dataclass(frozen=True)
class Allowed:
    """Differences that are known: a pattern of places, who has them, and why that is right.

    Of what both have, with other values, both values are given: any other one is another difference.
    """

    place: str
    side: str
    reason: str
    bootstrap: str = ""
    kubeadm: str = ""

    def fits(self, difference: Difference) -> bool:
        """Tell whether it is about a difference."""
        if self.side != difference.side or not fnmatchcase(difference.place, self.place):
            return False
        is_exact = (self.bootstrap, self.kubeadm) == (difference.bootstrap, difference.kubeadm)
        return self.side != "both" or is_exact

    @property
    def is_whole(self) -> bool:
        """Tell whether it says what it has to say, and no more."""
        has_values = bool(self.bootstrap and self.kubeadm) if self.side == "both" else not self.given
        return self.side in SIDES and bool(self.reason.strip()) and has_values

    @property
    def given(self) -> str:
        """Return the two values as they are shown; nothing where there are none."""
        return f"{self.bootstrap}, {self.kubeadm}" if self.bootstrap or self.kubeadm else ""


def read_allowed(text: str) -> tuple[Allowed, ...]:
    """Read the list of known differences.

    Raises:
        LabError: an entry lacks its place, its side, its reason or its values, or two are about one place.
    """
    entries = tuple(
        Allowed(**{key: str(value) for key, value in entry.items()}) for entry in yaml.safe_load(text)
    )
    faults = [entry.place for entry in entries if not entry.is_whole]
    places = [(entry.place, entry.side) for entry in entries]
    faults += sorted({place for place, side in places if places.count((place, side)) > 1})
    if faults:
        raise LabError(
            "the list of differences from kubeadm has faults",
            details="\n".join(faults),
            resolution=f"each entry is named once and has a side of {', '.join(SIDES)}, a reason, "
            "and where both have it the value of each",
        )
    return entries


def judge(
    differences: Sequence[Difference], allowed: Sequence[Allowed]
) -> tuple[tuple[Difference, ...], tuple[Allowed, ...]]:
    """Return the differences that no entry is about, and the entries that are about no difference."""
    unknown = tuple(one for one in differences if not any(entry.fits(one) for entry in allowed))
    unused = tuple(entry for entry in allowed if not any(entry.fits(one) for one in differences))
    return unknown, unused


def differ(bootstrapped: Things, by_kubeadm: Things) -> tuple[Difference, ...]:
    """Return each place where two nodes differ, in order; a thing that only one has is one difference."""
    found: list[Difference] = []
    for thing in sorted({*bootstrapped, *by_kubeadm}):
        ours, theirs = bootstrapped.get(thing), by_kubeadm.get(thing)
        if ours is None or theirs is None:
            found.append(
                Difference(
                    thing, IS_THERE if ours is not None else "", IS_THERE if theirs is not None else ""
                )
            )
            continue
        found += [
            Difference(f"{thing}: {field}", ours.get(field, ""), theirs.get(field, ""))
            for field in sorted({*ours, *theirs})
            if ours.get(field) != theirs.get(field)
        ]
    return tuple(found)


def normalise(raw: Mapping[str, Any]) -> Things:
    """Return what was read on a node, as things with fields.

    ``raw``: ``objects``, a list from the API; ``manifests``, ``kubeconfigs``, ``kubelet``: name to text;
    ``certificates``: place to the words of ``openssl x509 -text``; ``listing``: mode, owner and path a line.
    """
    things: Things = {}
    for item in raw["objects"]:
        things[object_name(item)] = dict(fields(_without_own(item)))
    for kind in ("manifests", "kubeconfigs", "kubelet"):
        for name, text in raw[kind].items():
            things[f"{kind.removesuffix('s')} {name}"] = dict(fields(_parsed(text)))
    for place, text in raw["certificates"].items():
        things[f"certificate {neutral(place)}"] = certificate(text)
    for line in raw["listing"].splitlines():
        listed = _LISTED.match(line)
        if listed is not None:
            things[f"file {neutral(listed['path'])}"] = {
                key: neutral(listed[key]) for key in ("mode", "owner", "target") if listed[key]
            }
    return things


def object_name(item: Mapping[str, Any]) -> str:
    """Return kind, namespace and name of an object.

    >>> object_name({"kind": "Secret", "metadata": {"namespace": "kube-system", "name": "bootstrap-token-abcdef"}})
    'Secret kube-system/bootstrap-token-<id>'
    """
    metadata = item["metadata"]
    name = neutral(str(metadata["name"]))
    return (
        f"{item['kind']} {metadata['namespace']}/{name}"
        if "namespace" in metadata
        else f"{item['kind']} {name}"
    )


def neutral(text: str) -> str:
    """Return a text without what is another one at each installation: keys, tokens, dates.

    >>> neutral("/var/lib/kubelet/pki/kubelet-client-2026-11-27-06-01-02.pem")
    '/var/lib/kubelet/pki/kubelet-client-<date>.pem'
    """
    for pattern, replacement in _RANDOM:
        text = pattern.sub(replacement, text)
    return text


def fields(value: object, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield path and text of each leaf.

    Lists of named things go by name, flags by flag, texts that are YAML by key and others line by line, each line
    below those that open the blocks around it.

    >>> dict(fields({"command": ["etcd", "--name=a", "--name=b"], "env": [{"name": "X", "value": 1}], "none": {}}))
    {'command.0': 'etcd', 'command.--name': '["a", "b"]', 'env.X.name': 'X', 'env.X.value': '1', 'none': '{}'}
    """
    if isinstance(value, str) and _DOCUMENT.match(value):
        value = _parsed(value)
    if isinstance(value, Mapping) and value:
        for key, entry in value.items():
            yield from fields(entry, _join(path, neutral(str(key))))
    elif isinstance(value, list) and value:
        keyed = _keyed(value)
        if path.rpartition(".")[2] in _ORDERED and len(keyed) > 1:
            yield _join(path, ORDER), ", ".join(keyed)
        for key, entry in keyed.items():
            yield from fields(entry, _join(path, key))
    elif isinstance(value, str) and "\n" in value.strip():
        for line, count in _lines(neutral(value)).items():
            yield _join(path, line), IS_THERE if count == 1 else f"is there {count} times"
    else:
        yield path, neutral(value if isinstance(value, str) else str(value)) or "empty"


def certificate(text: str) -> dict[str, str]:
    """Return what a certificate says, from the words of ``openssl x509 -text``.

    Its lifetime is in days; of the key identifiers only their presence counts.
    """
    found = {
        "subject": neutral(_after(r"^\s*Subject: ?(.*)$", text)),
        "issuer": neutral(_after(r"^\s*Issuer: ?(.*)$", text)),
        "signature": _after(r"^\s*Signature Algorithm: (.*)$", text),
        "key": f"{_after(r'Public Key Algorithm: (.*)$', text)} {_after(r'Public-Key: (.*)$', text)}",
        "days": str(_days(_after(r"Not Before ?: (.*)$", text), _after(r"Not After ?: (.*)$", text))),
    }
    for name, critical, value in re.findall(
        r"^ {12}X509v3 ([^:\n]+):( critical)?\s*\n\s+(.*)$", text, re.MULTILINE
    ):
        shown = IS_THERE if name.endswith("Key Identifier") else ", ".join(sorted(value.strip().split(", ")))
        found[name] = shown + critical
    return found


def _after(pattern: str, text: str) -> str:
    match = re.search(pattern, text, re.MULTILINE)
    return match[1].strip() if match else ""


def _days(begins: str, ends: str) -> int:
    """Return the days between two times as openssl writes them."""
    first, last = (datetime.strptime(f"{time} +0000", "%b %d %H:%M:%S %Y GMT %z") for time in (begins, ends))
    return round((last - first).total_seconds() / _SECONDS_A_DAY)


def _parsed(text: str) -> object:
    """Return a text read as YAML, as a list where it has several documents; a text that is none is itself."""
    try:
        documents = [document for document in yaml.load_all(text, yaml.BaseLoader) if document is not None]
    except yaml.YAMLError:
        return {"text": text}
    if not all(isinstance(document, (dict, list)) for document in documents):
        return {"text": text}
    return documents[0] if len(documents) == 1 else documents


def _without_own(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return an object without its status and what the API server wrote into its metadata."""
    metadata = {key: value for key, value in item["metadata"].items() if key not in _OWN_METADATA}
    annotations = {
        key: value for key, value in metadata.pop("annotations", {}).items() if key not in _OWN_ANNOTATIONS
    }
    kept = {key: value for key, value in item.items() if key not in _OWN_KEYS}
    if kept.get("type") == _TOKEN_TYPE:
        kept["data"] = _shaped(kept["data"], str(item["metadata"].get("creationTimestamp", "")))
    return {**kept, "metadata": {**metadata, "annotations": annotations}}


def _shaped(token: Mapping[str, str], made: str) -> dict[str, str]:
    """Return a bootstrap token with the shape of its two halves, and its life in hours."""
    shaped = dict(token)
    for key, length in (("token-id", 6), ("token-secret", 16)):
        if re.fullmatch(rf"[a-z0-9]{{{length}}}", token.get(key, "")):
            shaped[key] = f"<{length} letters and digits>"
    if made and "expiration" in token:
        first, last = (datetime.fromisoformat(time) for time in (made, token["expiration"]))
        hours = round((last - first).total_seconds() / _SECONDS_AN_HOUR)
        shaped["expiration"] = f"{hours} h after it was made"
    return shaped


def _keyed(values: list[Any]) -> dict[str, Any]:
    """Return a list as a mapping: by name, by flag, else by position."""
    if all(isinstance(value, Mapping) and "name" in value for value in values):
        names = [str(value["name"]) for value in values]
        if len(set(names)) == len(names):
            return dict(zip(names, values, strict=True))
    keyed: dict[str, Any] = {}
    flags: dict[str, list[str]] = {}
    for position, value in enumerate(values):
        flag = _FLAG.match(value) if isinstance(value, str) else None
        if flag is None:
            keyed[str(position)] = value
        else:
            flags.setdefault(flag["name"], []).append(flag["value"] if flag["value"] is not None else "true")
    return {
        **keyed,
        **{name: given[0] if len(given) == 1 else json.dumps(given) for name, given in flags.items()},
    }


def _lines(text: str) -> Counter[str]:
    r"""Return how often each line of a text is there; a line in a block goes by the lines that open it as well.

    >>> dict(_lines(".:53 {\n  errors\n  cache {\n    ttl 30\n  }\n}\n"))
    {'.:53': 1, '.:53.errors': 1, '.:53.cache': 1, '.:53.cache.ttl 30': 1}
    """
    found: Counter[str] = Counter()
    opened: list[str] = []
    for line in map(str.strip, text.splitlines()):
        if line == "}" and opened:
            opened.pop()
            continue
        name = line.removesuffix("{").rstrip() if line.endswith("{") else line
        found[".".join([*opened, name])] += 1
        if line.endswith("{"):
            opened.append(name)
    return found


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key
