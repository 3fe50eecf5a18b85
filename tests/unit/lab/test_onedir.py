# SPDX-License-Identifier: Apache-2.0
"""The Salt tree of the lab: as strict as upstream's."""

from __future__ import annotations

import re

from lab import onedir


def test_python_is_one_whose_tls_is_strict() -> None:
    major, minor = re.fullmatch(r"python(\d)\.(\d+)", onedir.PYTHON).groups()  # type: ignore[union-attr]
    assert (int(major), int(minor)) >= (3, 13)


def test_requirements_are_those_of_the_trees_python() -> None:
    text = (onedir.REQUIREMENTS_DIR / "requirements.txt").read_text()
    assert f"for CPython {onedir.PYTHON.removeprefix('python')} on x86_64" in text


def test_programs_start_with_the_trees_python() -> None:
    first = onedir.render_program("salt_call").splitlines()[0]
    assert first == f"#!{onedir.ONEDIR}/bin/{onedir.PYTHON} -I"
