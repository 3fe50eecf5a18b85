# SPDX-License-Identifier: Apache-2.0
"""Errors have three parts and an exit code of their own."""

from __future__ import annotations

import inspect
import pickle

from build.base import errors


def all_classes() -> list[type[errors.BuildError]]:
    return [
        item for _, item in inspect.getmembers(errors, inspect.isclass) if issubclass(item, errors.BuildError)
    ]


def test_each_class_has_its_exit_code() -> None:
    codes = {item.__name__: item.exit_code for item in all_classes()}
    assert len(set(codes.values())) == len(codes)
    assert all(10 <= code < 64 for code in codes.values())


def test_three_parts_are_shown() -> None:
    error = errors.LockError("it is so", details="first\nsecond", resolution="do this")
    assert str(error) == "error: it is so\n  details: first\n    second\n  resolution: do this"
    assert str(errors.BuildError("only this")) == "error: only this"


def test_an_error_survives_a_process() -> None:
    error = errors.LockError("it is so", details="first", resolution="do this")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)  # noqa: S301  # our own bytes
