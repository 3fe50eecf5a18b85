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


def test_a_single_fault_is_told_as_it_is() -> None:
    error = errors.LockError("it is so", details="first", resolution="do this")
    assert (
        errors.joined([error, errors.LockError("it is so", details="first", resolution="do this")], "x")
        is error
    )


def test_faults_are_told_once_sorted_and_numbered() -> None:
    far = [errors.NetworkError("h is far", details=f"for {what}", resolution="wait") for what in "ba"]
    several = errors.joined(
        [errors.SolverError("no b", resolution="correct it"), errors.SolverError("no a")], "y"
    )
    error = errors.joined([*far, several], "the lock")
    assert error.render().splitlines() == [
        "error: the lock has 3 faults",
        "  details: 1. no a",
        "    2. no b",
        "       fix: correct it",
        "    3. h is far",
        "       for a",
        "       for b",
        "       fix: wait",
        "  resolution: fix them all, then run it again: nothing was written",
    ]
    assert len(error.faults) == 3


def test_the_exit_code_is_that_of_the_class_that_all_share() -> None:
    code = {
        kinds: errors.joined([kind(str(number)) for number, kind in enumerate(kinds)], "x").exit_code
        for kinds in (
            (errors.SolverError, errors.SolverError),
            (errors.NotFoundError, errors.CredentialsError),
            (errors.NotFoundError, errors.SolverError),
        )
    }
    assert list(code.values()) == [14, 15, 10]
