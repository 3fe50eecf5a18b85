# SPDX-License-Identifier: Apache-2.0
"""Find the images that Salt states and templates name: written out in full, or by their id in the bundle's table."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from typing_extensions import override

from build.base.errors import ClosedWorldError
from build.evidence.wanted import Wanted

#: The name under which states find the bundle's images, by their id.
_TABLE = "images"
#: An image written out: a registry, a name, a tag or digest.
_LITERAL = re.compile(
    r"(?<![\w./-])((?:[a-z0-9-]+\.)+[a-z]{2,}(?::\d+)?/[a-z0-9._/-]+(?::[\w][\w.-]*|@sha256:[0-9a-f]{64}))"
)


def literal_images(text: str, name: str) -> Iterator[Wanted]:
    """Yield the images that a file writes out in full; an image named by its id alone is no such one.

    >>> [want.reference for want in literal_images('sandbox = "registry.k8s.io/pause:3.10"', "config.toml")]
    ['registry.k8s.io/pause:3.10']
    """
    for number, line in enumerate(text.splitlines(), start=1):
        if line.lstrip().startswith("#"):
            continue
        for match in _LITERAL.finditer(line):
            yield Wanted(match.group(1), f"{name}:{number}")


class _SaltTags(Extension):
    """The tags that Salt adds to Jinja, as far as finding their ends. Source: salt/utils/jinja.py, 3008."""

    tags = {  # noqa: RUF012 - Jinja's own declaration is this
        "import_json", "import_text", "import_yaml", "load_json", "load_text", "load_yaml", "profile",
    }  # fmt: skip

    @override
    def parse(self, parser: Parser) -> list[nodes.Node]:
        """Return what stands inside of the tag."""
        name = next(parser.stream).value
        while parser.stream.current.type != "block_end":
            next(parser.stream)
        if name.startswith("import_"):
            return []
        end = "name:endprofile" if name == "profile" else "name:endload"
        return parser.parse_statements((end,), drop_needle=True)


def template_images(text: str, name: str) -> Iterator[Wanted]:
    """Yield the ids of the images that a template takes from the bundle's table.

    Raises: ClosedWorldError when it is no template that Jinja can read.

    >>> text = "{% import_yaml 'x' as x %}{% for id in ['etcd', 'nginx'] %}{{ images[id] }}{% endfor %}"
    >>> text += "{{ pillar['images']['pause'] }}"
    >>> [want.reference for want in template_images(text, "x.sls")]
    ['etcd', 'nginx', 'pause']
    """
    environment = jinja2.Environment(extensions=["jinja2.ext.do", _SaltTags], autoescape=True)
    try:
        tree = environment.parse(text)
    except jinja2.TemplateSyntaxError as exc:
        raise ClosedWorldError(
            f"'{name}' cannot be searched for images",
            details=f"line {exc.lineno}: {exc.message}",
            resolution="correct the template",
        ) from exc
    loops = {
        loop.target.name: [item.value for item in loop.iter.items if isinstance(item, nodes.Const)]
        for loop in tree.find_all(nodes.For)
        if isinstance(loop.target, nodes.Name) and isinstance(loop.iter, nodes.List)
    }
    for field in tree.find_all(nodes.Getattr):
        if _is_table(field.node):
            yield Wanted(field.attr, f"{name}:{field.lineno}", is_id=True)
    for item in tree.find_all(nodes.Getitem):
        if _is_table(item.node):
            for image_id in _names(item.arg, loops):
                yield Wanted(image_id, f"{name}:{item.lineno}", is_id=True)


def _names(key: nodes.Node, loops: Mapping[str, Sequence[Any]]) -> Iterator[str]:
    """Yield what the key of a table can be: itself, or what a loop over a written list gives it."""
    if isinstance(key, nodes.Const):
        yield str(key.value)
    elif isinstance(key, nodes.Name):
        yield from map(str, loops.get(key.name, ()))


def _is_table(node: nodes.Node) -> bool:
    """Say whether an expression is the table of images: ``images``, ``x.images``, ``x['images']``."""
    if isinstance(node, nodes.Name):
        return node.name == _TABLE
    if isinstance(node, nodes.Getattr):
        return node.attr == _TABLE
    return isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Const) and node.arg.value == _TABLE
