# SPDX-License-Identifier: Apache-2.0
"""Whoever has a code that root made comes in, once, within five minutes; nothing of it lies anywhere."""

from __future__ import annotations

import base64
import json
import os
import re
import threading
from pathlib import Path
from typing import Any

import pytest

from installer.base.errors import ClusterError, UsageError
from installer.base.paths import Paths
from installer.operations import kube_api
from installer.operations.door import codes, users
from installer.operations.door.wire import RefusalError
from tests.unit.installer.operations.door.kubectl import Api


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Api:
    found = Api()
    monkeypatch.setattr(kube_api, "run", found)
    return found


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(tmp_path)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    now = {"s": 1000.0}
    monkeypatch.setattr(codes, "_now", lambda: now["s"])
    return now


def make(paths: Paths, user: str = "anna", role: str = "operator") -> str:
    return codes.make(paths, user, role, 8 * 3600, maker="root (anna)")


def test_a_code_has_128_bits_and_is_easy_to_type(paths: Paths) -> None:
    made = [make(paths) for _ in range(50)]
    assert len(set(made)) == 50
    assert all(re.fullmatch(r"([A-Z2-7]{4}-){6}[A-Z2-7]{2}", code) for code in made)
    assert len(base64.b32decode(made[0].replace("-", "") + "======")) == 16


def test_what_lies_in_memory_names_no_code_and_is_root_s(paths: Paths) -> None:
    code = make(paths)
    (file,) = paths.codes_dir.iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    assert paths.codes_dir.stat().st_mode & 0o777 == 0o700
    assert code.replace("-", "") not in file.read_text() + file.name
    assert "token" not in json.loads(file.read_text())


def test_a_code_becomes_a_token_once(paths: Paths, api: Api) -> None:
    code = make(paths)
    entry, result = codes.redeem(paths, code)
    assert entry.maker == "root (anna)"
    assert result == {
        "token": "token-of-anna",
        "ends": "2026-11-28T16:00:00Z",
        "user": "anna",
        "role": "operator",
    }
    assert api.role("anna") == "operator"
    assert list(paths.codes_dir.iterdir()) == []
    with pytest.raises(RefusalError, match="not known") as caught:
        codes.redeem(paths, code)
    assert caught.value.status == 401


@pytest.mark.parametrize("typed", ["lower", "without dashes", "with spaces"])
def test_a_code_may_be_typed_as_people_do(paths: Paths, api: Api, typed: str) -> None:
    del api
    code = make(paths)
    changed = {"lower": code.lower(), "without dashes": code.replace("-", ""), "with spaces": f" {code} "}[
        typed
    ]
    assert codes.redeem(paths, changed)[1]["user"] == "anna"


def test_a_code_ends_after_five_minutes_and_the_answer_is_the_same(
    paths: Paths, api: Api, clock: dict[str, float]
) -> None:
    code = make(paths)
    clock["s"] += codes.CODE_LIFE_S
    with pytest.raises(RefusalError) as late:
        codes.redeem(paths, code)
    with pytest.raises(RefusalError) as wrong:
        codes.redeem(paths, "ABCD-EFGH")
    assert str(late.value) == str(wrong.value)
    assert api.calls == []


def test_of_two_who_come_at_once_one_gets_in(paths: Paths, api: Api) -> None:
    del api
    for _ in range(20):
        code = make(paths)
        got: list[Any] = []

        def come(given: str = code, into: list[Any] = got) -> None:
            try:
                into.append(codes.redeem(paths, given)[1]["user"])
            except RefusalError:
                into.append(None)

        threads = [threading.Thread(target=come) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(map(str, got)) == ["None", "None", "None", "anna"]


def test_old_codes_go_when_a_new_one_is_made(paths: Paths, clock: dict[str, float]) -> None:
    make(paths)
    clock["s"] += codes.CODE_LIFE_S + 1
    make(paths)
    assert len(list(paths.codes_dir.iterdir())) == 1


@pytest.mark.parametrize("how", ["others may read it", "it is a link", "it is no JSON"])
def test_what_is_not_root_s_own_is_no_code(paths: Paths, how: str) -> None:
    code = make(paths)
    (file,) = paths.codes_dir.iterdir()
    if how == "others may read it":
        file.chmod(0o640)
    elif how == "it is a link":
        file.rename(paths.root / "elsewhere")
        file.symlink_to(paths.root / "elsewhere")
    else:
        file.write_text("{")
    with pytest.raises(RefusalError):
        codes.redeem(paths, code)


def test_without_the_api_a_code_gives_a_grant(paths: Paths, api: Api, clock: dict[str, float]) -> None:
    """Whoever logs in then may look; the grant ends after an hour."""
    code = make(paths)
    api.answers = False
    _, result = codes.redeem(paths, code)
    assert result["user"] == "local"
    assert "token" not in result
    assert codes.granted(paths, result["grant"]).maker == "root (anna)"
    (file,) = paths.grants_dir.iterdir()
    assert result["grant"] not in file.read_text() + file.name
    with pytest.raises(RefusalError):
        codes.granted(paths, result["grant"] + "x")
    clock["s"] += codes.GRANT_LIFE_S
    with pytest.raises(RefusalError):
        codes.granted(paths, result["grant"])


def test_a_full_run_says_so(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> bool:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(codes, "write_file", full)
    with pytest.raises(Exception, match="cannot be written") as caught:
        make(paths)
    assert "df -h /run" in str(caught.value)


# ---- users ---------------------------------------------------------------------------------------------------


def test_users_are_made_bound_again_and_removed(paths: Paths, api: Api) -> None:
    assert users.ensure(paths, "anna", "viewer")
    assert not users.ensure(paths, "anna", "viewer")
    assert users.ensure(paths, "anna", "admin")
    assert [(account.name, account.role) for account in users.listed(paths)] == [("anna", "admin")]
    assert api.accounts["anna"]["automountServiceAccountToken"] is False
    users.remove(paths, "anna")
    assert users.listed(paths) == []
    assert not api.bindings
    with pytest.raises(UsageError, match="no user 'anna'"):
        users.remove(paths, "anna")


def test_a_cluster_without_the_namespace_says_which_phase_makes_it(paths: Paths, api: Api) -> None:
    api.has_namespace = False
    with pytest.raises(ClusterError, match="no namespace caisson-users"):
        users.ensure(paths, "anna", "viewer")


@pytest.mark.parametrize("name", ["", "Anna", "a_b", "-a", "a-", "a" * 64, "a\nb", "a/../b"])
def test_a_bad_name_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="cannot be the name"):
        users.check_name(name)


def test_no_token_is_in_what_is_typed(paths: Paths, api: Api) -> None:
    users.ensure(paths, "anna", "viewer")
    users.token(paths, "anna", 3600)
    api.tokens["s3cret"] = "anna"
    from installer.operations.door import rights  # noqa: PLC0415

    assert rights.who(paths, "s3cret").name.endswith(":anna")
    assert not any("s3cret" in word for words in api.words for word in words)
    assert os.environ.get("TOKEN") is None
