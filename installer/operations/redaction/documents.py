# SPDX-License-Identifier: Apache-2.0
"""Take what is secret out of YAML and JSON by their form: manifests, patches, the configuration, what Caisson printed.

Every ``value`` of an environment goes, whatever its name, and so do the values of Secrets and the word that follows an
option with a secret name. What cannot be read as such is looked at line by line.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from installer.operations.redaction import names, without_secrets
from installer.operations.redaction.keys import REMOVED
from installer.operations.redaction.lines import OF_SECRETS

YAML_LIMIT = 32 * 1024
"""A parser in Python takes a second for so much."""
NODES_LIMIT = 50_000
"""A few lines of YAML may say again and again what was said before, and be without end."""


def without_secrets_of_form(text: str, suffix: str) -> str:
    """Return a text of ``.yaml`` or ``.json`` in the same form without what is secret; of any other, as it stands."""
    try:
        if suffix == ".json":
            return json.dumps(_Walk().cleaned(json.loads(text)), indent=1) + "\n"
        if suffix == ".yaml" and len(text) <= YAML_LIMIT:
            walk = _Walk()
            found = [walk.cleaned(document) for document in yaml.safe_load_all(text)]
            return without_secrets(yaml.safe_dump_all(found, sort_keys=False, width=1000))
    except (ValueError, yaml.YAMLError, RecursionError):
        pass
    return without_secrets(text)


class _Walk:
    """A walk through one document."""

    def __init__(self) -> None:
        self._left = NODES_LIMIT

    def cleaned(self, value: Any, name: str = "") -> Any:
        """Return a value without what is secret in it.

        Raises:
            ValueError: there is no end of it.
        """
        self._left -= 1
        if self._left < 0:
            raise ValueError("too many values")
        if name and names.is_secret(name) and not _is_harmless(name, value):
            return REMOVED
        if isinstance(value, Mapping):
            return self._mapping(value)
        if isinstance(value, (list, tuple)):
            return self._sequence(value)
        return self._text(value) if isinstance(value, str) else value

    def _mapping(self, value: Mapping[Any, Any]) -> dict[Any, Any]:
        hidden = set()
        if "value" in value and _is_of_environment(value):
            hidden.add("value")
        if str(value.get("kind", "")) in ("Secret", "SealedSecret"):
            hidden |= {key for key in value if str(key).lower() in OF_SECRETS}
        return {
            key: REMOVED if key in hidden else self.cleaned(entry, str(key)) for key, entry in value.items()
        }

    def _sequence(self, value: Sequence[Any]) -> list[Any]:
        cleaned, is_next = [], False
        for entry in value:
            is_option = isinstance(entry, str) and entry.startswith("--")
            cleaned.append(REMOVED if is_next and not is_option else self.cleaned(entry))
            is_next = is_option and "=" not in entry and " " not in entry and names.is_secret(entry)
        return cleaned

    def _text(self, value: str) -> str:
        """Return a text without what is secret; it may be a document itself, as a patch is."""
        if ("\n" in value or value[:1] in ("{", "[")) and len(value) <= YAML_LIMIT:
            try:
                found = list(yaml.safe_load_all(value))
            except (ValueError, yaml.YAMLError, RecursionError):
                return without_secrets(value)
            if any(isinstance(entry, (dict, list)) for entry in found):
                cleaned = [self.cleaned(entry) for entry in found]
                return without_secrets(yaml.safe_dump_all(cleaned, sort_keys=False, width=1000))
        return without_secrets(value)


def _is_of_environment(value: Mapping[Any, Any]) -> bool:
    """Say whether a mapping is a variable of a container, or a patch of one."""
    path = str(value.get("path", ""))
    is_patch = "/env" in path or names.is_secret(path.rpartition("/")[2])
    return "name" in value or (is_patch and isinstance(value["value"], str))


def _is_harmless(name: str, value: Any) -> bool:
    if isinstance(value, (Mapping, list)):
        return not value
    return names.is_harmless(name, "null" if value is None else str(value))
