# SPDX-License-Identifier: Apache-2.0
"""The table of exit codes and the classes say the same."""

from __future__ import annotations

import re

from installer.base import errors


def subclasses(root: type[errors.InstallerError]) -> list[type[errors.InstallerError]]:
    found = [root]
    for child in root.__subclasses__():
        found += subclasses(child)
    return found


def test_every_class_is_in_the_table_with_its_code() -> None:
    rows = re.findall(r"^(\d+)\s+(\w+Error)\b", errors.__doc__ or "", re.MULTILINE)
    table = {name: int(code) for code, name in rows}
    classes = {
        found.__name__: found.exit_code
        for found in subclasses(errors.InstallerError)
        if found.__module__ == "installer.base.errors" and found is not errors.InstallerError
    }
    assert classes == table
    assert len(set(table.values())) == len(table)


def test_three_parts_are_shown_one_below_the_other() -> None:
    error = errors.MediaError("bad", details="a\nb", resolution="do c\nthen d")
    assert str(error) == "bad\n  a\n  b\n  -> do c\n  -> then d"


def test_what_is_written_down_is_the_same_error_again() -> None:
    error = errors.MediaError("bad", details="a\nb", resolution="do c")
    again = errors.from_json(errors.to_json(error))
    assert type(again) is errors.MediaError
    assert str(again) == str(error)
    assert type(errors.from_json({**errors.to_json(error), "exit_code": 99})) is errors.InternalError


def test_any_exception_becomes_an_error_that_can_be_shown() -> None:
    error = errors.MediaError("bad")
    assert errors.from_exception(error) is error
    assert errors.from_exception(KeyboardInterrupt()).exit_code == 130
    shown = errors.from_exception(ZeroDivisionError("division by zero"))
    assert (shown.exit_code, shown.details) == (1, "ZeroDivisionError: division by zero (unknown place)")
