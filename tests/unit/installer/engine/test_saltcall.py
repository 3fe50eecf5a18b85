# SPDX-License-Identifier: Apache-2.0
"""Calls of Salt: how long one may be silent, and what is told when it gives no answer."""

from __future__ import annotations

import re
import stat
import time
from pathlib import Path

import pytest

from installer.base import session
from installer.base.errors import SaltError
from installer.engine import leftovers, saltcall, saltworker
from installer.media import dnf, rpmdb
from tests.unit.installer.helpers import make_context

SALT_DIR = Path(__file__).parents[4] / "salt"
LIMIT = re.compile(r"""\b\w*timeout(?:_s)?(?:\s*:\s*int)?\s*[=:]\s*"?(?P<seconds>\d+)""", re.IGNORECASE)


def limits() -> dict[str, float]:
    """Return each limit of time that stands in the states and modules, by its place."""
    return {
        f"{file.relative_to(SALT_DIR)}:{number}": float(match["seconds"])
        for file in sorted(SALT_DIR.rglob("*"))
        if file.suffix in (".py", ".sls")
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1)
        for match in LIMIT.finditer(line)
    }


def test_timeouts_nest() -> None:
    """A command gives up before the call it runs in, with room for what the state does besides."""
    found = limits()
    assert len(found) > 25
    margin_s = 2 * session.TERMINATION_GRACE_S
    assert {place: s for place, s in found.items() if s + margin_s > saltcall.SILENCE_LIMIT_S} == {}
    for transaction_s in (dnf.DNF_TIMEOUT_S, rpmdb.SCRIPTS_TIMEOUT_S):
        assert transaction_s + session.TRANSACTION_GRACE_S + margin_s < saltcall.SILENCE_LIMIT_S
        assert transaction_s <= leftovers.TIMEOUT_S
    assert leftovers.TIMEOUT_S >= session.TRANSACTION_GRACE_S


FAKE = """\
#!/bin/bash
read -r line
for state in 'Create a directory' 'Install packages'; do
  echo "[INFO] Running state [$state] at time 10:00:00" >>'{log}'
  sleep 0.7
done
echo "[INFO] caisson waits: the pull of x" >>'{log}'
{last}
"""


@pytest.fixture
def log_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the log of Salt; a silence of 1.5 s is one too many, and what was begun is looked for often."""
    file = make_context(tmp_path).paths.log_dir / saltcall.LOG_NAME
    file.parent.mkdir(parents=True)
    monkeypatch.setattr(saltcall, "SILENCE_LIMIT_S", 1.5)
    monkeypatch.setattr(saltcall, "FOLLOW_INTERVAL_S", 0.05)
    monkeypatch.setattr(saltworker, "SALT_CALL", str(tmp_path / "salt-call"))
    return file


def write_fake(tmp_path: Path, log_file: Path, last: str) -> None:
    program = tmp_path / "salt-call"
    program.write_text(FAKE.format(log=log_file, last=last))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)


@pytest.mark.subprocess
def test_a_call_that_goes_on_has_all_the_time_it_needs(tmp_path: Path, log_file: Path) -> None:
    """By bash. It takes longer than any silence may, but tells of each state."""
    write_fake(tmp_path, log_file, """sleep 0.7; echo '{"return": 7}'""")
    context, started = make_context(tmp_path), time.monotonic()
    assert saltcall.call(context, "state.apply", local=True) == 7
    assert time.monotonic() - started > 1.5
    context.salt.close()


@pytest.mark.subprocess
def test_a_call_that_is_silent_names_what_was_heard_last(tmp_path: Path, log_file: Path) -> None:
    """By bash."""
    write_fake(tmp_path, log_file, "sleep 60")
    with pytest.raises(SaltError, match=r"Salt gave no answer to state\.apply") as caught:
        saltcall.call(make_context(tmp_path), "state.apply", local=True)
    assert caught.value.details.startswith("last heard of: the pull of x\n")
    assert "no answer within 1.5 s, ended by SIGTERM" in caught.value.details
