# SPDX-License-Identifier: Apache-2.0
"""An act is done for whom Kubernetes lets do it, once, and written down; what is secret is written nowhere."""

from __future__ import annotations

import base64
import json
import os
import socket
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from installer.base.errors import ClusterError, StoppedError
from installer.base.paths import Paths
from installer.base.run import Completed
from installer.config import facts
from installer.engine import jobrecord, jobs, jobunit, logs
from installer.engine.jobrecord import Request
from installer.engine.journal import Journal
from installer.operations import cluster_state, kube_api, node_add, reporting
from installer.operations.door import acts, audit, codes, phases, reads, service, users
from installer.operations.job_report import look
from tests.door_shapes import check_answer
from tests.unit.installer.helpers import ADDRESSES, CONFIG_TEXT, make_tree, product_bytes
from tests.unit.installer.operations.door.kubectl import Api

KEY = "0123456789abcdef"
HOST = {"address": "10.77.1.12", "hostKey": "SHA256:" + "a" * 43, "user": "ops"}
SECRETS = {"password": "hunter2-hunter2", "sudo": "sudo-sudo"}
MEMBERS = (cluster_state.Member("node1", "m1", is_control_plane=True),)


class Host:
    """A bootstrap node with an API; units are started by nobody."""

    def __init__(self, root: Path, tree: Path, api: Api) -> None:
        self.paths, self.tree, self.api = Paths(root), tree, api
        self.started: list[tuple[str, Sequence[str]]] = []

    def ask(self, verb: str, token: str | None = None, /, **more: Any) -> dict[str, Any]:
        """Return what the door answers in this process."""
        grant = more.pop("grant", None)
        request = {"verb": verb, "arguments": more, "token": token, "grant": grant, "client": "192.0.2.7"}
        ours, theirs = socket.socketpair()
        with ours, theirs:
            theirs.sendall(json.dumps(request).encode() + b"\n")
            service.Door(self.paths, self.tree, ["caisson"], {os.getuid()}).serve(ours)
            ours.shutdown(socket.SHUT_WR)
            with theirs.makefile("rb") as said:
                answer: dict[str, Any] = json.loads(said.readline())
        check_answer(verb, answer)
        return answer

    def start(self, token: str | None, operation: str = "add-host", /, **more: Any) -> dict[str, Any]:
        parameters = more.pop("parameters", HOST if operation in ("add-host", "probe") else {})
        given = {"operation": operation, "parameters": parameters, "key": KEY, "secrets": SECRETS, **more}
        if operation == "report":
            del given["secrets"]
        return self.ask("start", token, **given)

    def user(self, role: str) -> str:
        """Return the token of a user with this role."""
        users.ensure(self.paths, role, role)
        return users.token(self.paths, role, 3600).token

    def log(self) -> list[dict[str, Any]]:
        return audit.last(self.paths, 100)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    api = Api()
    monkeypatch.setattr(kube_api, "run", api)
    monkeypatch.setattr(jobunit, "run", lambda *_, **__: Completed(0, "ActiveState=inactive\n", ""))
    monkeypatch.setattr(facts, "read_addresses", lambda: ADDRESSES)
    monkeypatch.setattr(cluster_state, "get_members", lambda _: MEMBERS)
    tree = make_tree(tmp_path / "tree", {"product.json": product_bytes().decode()})
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        found = Host(Path(directory), tree, api)
        monkeypatch.setattr(jobunit, "start", lambda unit, words: found.started.append((unit, words)))
        found.paths.config_file.parent.mkdir(parents=True)
        found.paths.config_file.write_text(CONFIG_TEXT + "node: {name: node1}\n")
        yield found


def test_an_operator_starts_a_job_as_the_command_line_does(host: Host) -> None:
    answer = host.start(host.user("operator"))
    job = jobs.read(host.paths.jobs_dir / answer["result"]["job"])
    assert job.operation == "node-add"
    assert job.arguments == {
        "nodes": [
            {"address": "10.77.1.12", "role": "worker", "user": "ops", "port": 22, "hostKey": HOST["hostKey"]}
        ]
    }
    assert job.shown_command.startswith("caisson node add 10.77.1.12 --user ops --host-key SHA256:")
    assert job.asker == {"user": "system:serviceaccount:caisson-users:operator", "client": "192.0.2.7"}
    assert [unit for unit, _ in host.started] == [job.unit]
    secret = host.paths.secrets_dir / job.id
    assert json.loads(secret.read_text()) == SECRETS
    assert "asker" in look(job, is_active=lambda _: False).to_json()


def test_no_secret_is_written_down(host: Host) -> None:
    """But into the one file in memory that the job reads once."""
    token = host.user("operator")
    host.start(token)
    host.start(token, parameters={"address": "x"}, key=KEY + "2")
    for file in host.paths.root.rglob("*"):
        if file.is_file() and file.parent != host.paths.secrets_dir:
            text = file.read_text()
            assert not any(word in text for word in (*SECRETS.values(), token)), file


@pytest.mark.parametrize(
    ("role", "operation", "rule"),
    [
        ("viewer", "add-host", '"hosts"'),
        ("viewer", "probe", '"hosts"'),
        ("viewer", "remove-node", '"hosts"'),
        ("viewer", "report", '"reports"'),
    ],
)
def test_who_may_not_is_told_the_rule_that_is_missing(
    host: Host, role: str, operation: str, rule: str
) -> None:
    answer = host.start(host.user(role), operation, parameters={"name": "node2"})
    assert answer["error"]["status"] == 403
    assert rule in answer["error"]["details"][0]
    assert host.started == []
    (line,) = host.log()
    assert (line["answer"], line["verb"], line["client"]) == ("403", "start", "192.0.2.7")


@pytest.mark.parametrize("token", [None, "", "made up"])
def test_nobody_starts_nothing(host: Host, token: str | None) -> None:
    """A console that was taken over has no token when nobody is logged in."""
    job = jobrecord.prepare(host.paths, Request("report", {}, ()))
    assert host.ask("start", token, operation="report", key=KEY)["error"]["status"] == 401
    assert host.ask("cancel", token, id=job.id)["error"]["status"] == 401
    assert host.started == []
    assert [line["answer"] for line in host.log()] == ["401", "401"]


def test_a_deleted_user_is_nobody(host: Host) -> None:
    token = host.user("operator")
    users.remove(host.paths, "operator")
    assert host.start(token)["error"]["status"] == 401


def test_without_the_api_nothing_is_started(host: Host) -> None:
    token = host.user("operator")
    host.api.answers = False
    assert host.start(token)["error"]["status"] == 503
    assert host.started == []


def test_a_form_sent_twice_is_one_job(host: Host) -> None:
    token = host.user("operator")
    first, second = host.start(token), host.start(token)
    assert first["result"] == second["result"]
    assert len(host.started) == 1
    (directory,) = host.paths.jobs_dir.glob("[!.]*")
    jobrecord.finish(jobs.read(directory), error=StoppedError("ended"))
    assert host.start(token)["result"] == first["result"]
    assert len(host.started) == 1
    assert host.start(token, key=KEY + "2")["result"] != first["result"]


def test_a_form_sent_four_times_at_once_is_one_job(host: Host) -> None:
    token, answers = host.user("operator"), []
    threads = [threading.Thread(target=lambda: answers.append(host.start(token))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({json.dumps(answer["result"]) for answer in answers}) == 1
    assert len(host.started) == 1


def test_bad_parameters_are_named_all_at_once(host: Host) -> None:
    token = host.user("operator")
    answer = host.start(token, parameters={"address": "nowhere", "role": "king", "identity": "/etc/shadow"})
    assert answer["error"]["status"] == 400
    text = "\n".join(answer["error"]["details"])
    assert "role" in text
    assert "identity" in text
    assert "hostKey" in text
    answer = host.start(token, parameters={**HOST, "address": "nowhere"})
    assert "HOST" in "\n".join(answer["error"]["details"])
    answer = host.start(token, secrets={"key": "ssh-ed25519 AAAA"})
    assert "no private key" in answer["error"]["message"]
    assert host.started == []


def test_a_running_job_stands_in_the_way_and_is_named(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    token = host.user("operator")
    running = jobrecord.prepare(host.paths, Request("node-remove", {}, ("x",)), has_unit=True)
    monkeypatch.setattr(jobunit, "run", lambda *_, **__: Completed(0, "ActiveState=active\n", ""))
    answer = host.start(token)
    assert answer["error"]["status"] == 409
    assert running.id in answer["error"]["message"]


def test_a_failed_job_is_started_again_and_a_good_one_is_not(host: Host) -> None:
    token = host.user("operator")
    first = host.start(token)["result"]["job"]
    job = jobs.read(host.paths.jobs_dir / first)
    # Interrupted: the same job goes on.
    answer = host.ask("again", token, id=first, key=KEY + "a", secrets=SECRETS)
    assert answer["result"]["job"] == first
    jobrecord.finish(job, error=ClusterError("etcd is red"))
    second = host.ask("again", token, id=first, key=KEY + "b", secrets=SECRETS)["result"]["job"]
    assert second != first
    assert jobs.read(host.paths.jobs_dir / second).arguments == job.arguments
    jobrecord.finish(jobs.read(host.paths.jobs_dir / second), summary="done")
    answer = host.ask("again", token, id=second, key=KEY + "c")
    assert answer["error"]["status"] == 409


def test_what_the_command_line_alone_starts_is_not_started_again(host: Host) -> None:
    job = jobrecord.prepare(host.paths, Request("bootstrap", {}, ("caisson", "bootstrap")))
    answer = host.ask("again", host.user("admin"), id=job.id, key=KEY)
    assert answer["error"]["status"] == 403
    assert host.started == []


def test_an_interrupted_job_is_given_up_and_an_unknown_one_is_not_there(host: Host) -> None:
    token = host.user("operator")
    first = host.start(token)["result"]["job"]
    assert host.ask("cancel", token, id=first)["result"] == {"job": first, "state": "failed"}
    assert host.ask("cancel", token, id=first)["result"]["state"] == "failed"
    answer = host.ask("cancel", token, id="20261128-080000-node-add-0123ab")
    assert answer["error"]["status"] == 404


def test_a_local_session_may_make_a_report_and_nothing_else(host: Host) -> None:
    code = codes.make(host.paths, "anna", "admin", 3600, maker="anna")
    host.api.answers = False
    grant = host.ask("redeem", code=code)["result"]["grant"]
    assert host.ask("start", None, operation="report", key=KEY, grant=grant)["result"]["job"]
    for operation in ("probe", "add-host"):
        answer = host.ask(
            "start", None, operation=operation, key=KEY + "x", parameters=HOST, secrets=SECRETS, grant=grant
        )
        assert answer["error"]["status"] == 403
    assert host.ask("start", None, operation="report", key=KEY, grant="made-up")["error"]["status"] == 401
    assert [line["who"] for line in host.log()][:2] == ["local", "local:anna"]


def test_who_comes_in_is_written_down_and_the_code_is_not(host: Host) -> None:
    code = codes.make(host.paths, "anna", "viewer", 3600, maker="root (anna)")
    assert host.ask("redeem", code=code)["result"]["user"] == "anna"
    assert host.ask("redeem", code=code)["error"]["status"] == 401
    text = host.paths.audit_file.read_text()
    assert host.paths.audit_file.stat().st_mode & 0o777 == 0o600
    assert code not in text
    assert code.replace("-", "") not in text
    good, bad = host.log()
    assert (good["who"], good["answer"], bad["answer"]) == ("anna", "ok", "401")
    assert "root (anna)" in good["message"]


def test_what_cannot_be_written_down_is_not_done(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    token = host.user("operator")

    def full(_: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(audit, "open_private", full)
    answer = host.start(token)
    assert answer["error"]["status"] == 500
    assert "written down" in answer["error"]["details"][0]
    assert host.started == []


def test_the_log_begins_again_at_its_size(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "LIMIT_BYTES", 1000)
    for _ in range(30):
        host.ask("redeem", code="ABCD")
    names = sorted(file.name for file in host.paths.log_dir.glob("console.jsonl*"))
    assert names == ["console.jsonl", *(f"console.jsonl.{number}" for number in range(1, 5))]
    assert all(file.stat().st_mode & 0o777 == 0o600 for file in host.paths.log_dir.glob("console.jsonl*"))


# ---- reading -------------------------------------------------------------------------------------------------


def test_a_job_is_told_with_the_phases_to_come(host: Host) -> None:
    job_id = host.start(host.user("operator"))["result"]["job"]
    job = jobs.read(host.paths.jobs_dir / job_id)
    journal = Journal(job.journal_file, operation="node-add/10.77.1.12")
    journal.start("connect")
    journal.done("connect", changed=False, seconds=1.0)
    journal.start("probe")
    job.output_file.write_text("[ 2/11] probe: check the host\n        .. the clocks of the hosts\n")
    found = host.ask("job", id=job_id)["result"]
    shown = {phase["name"]: phase["state"] for phase in found["phases"]}
    assert list(shown.values())[:4] == ["done", "interrupted", "waiting", "waiting"]
    assert len(shown) == len(node_add.PHASES)
    assert found["phases"][0]["code"] == "CSP401"
    assert found["lines"][-1].endswith("the clocks of the hosts")
    assert phases.waits_for(found["lines"]) == "the clocks of the hosts"
    assert found["files"]["journal"] == job.journal_file.stat().st_size
    assert found["found"] is None


def test_lists_are_those_of_the_commands(host: Host) -> None:
    host.start(host.user("operator"))
    assert [job["state"] for job in host.ask("jobs")["result"]["jobs"]] == ["interrupted"]
    journal = Journal(host.paths.journal_file)
    for number in range(5):
        journal.start(f"phase{number}")
    found = host.ask("journal", limit=2)["result"]
    assert [entry["phase"] for entry in found["journal"]] == ["phase3", "phase4"]
    assert [line["verb"] for line in found["console"]] == ["start"]


def test_an_archive_comes_in_pieces(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reads, "CHUNK_BYTES", 1000)
    job_id = host.start(host.user("operator"), "report")["result"]["job"]
    job = jobs.read(host.paths.jobs_dir / job_id)
    assert host.ask("archive", id=job_id)["error"]["status"] == 404
    content = os.urandom(2500)
    reporting.file_of(job).write_bytes(content)
    jobrecord.finish(job, summary="done")
    pieces = [host.ask("archive", id=job_id, offset=offset)["result"] for offset in (0, 1000, 2000)]
    assert b"".join(base64.b64decode(piece["data"]) for piece in pieces) == content
    assert pieces[0]["size"] == 2500
    assert host.ask("job", id=job_id)["result"]["archive"]["sha256"] == pieces[0]["sha256"]


def test_every_verb_of_the_schema_is_answered(host: Host) -> None:
    from installer.operations import schemas  # noqa: PLC0415

    wanted: Mapping[str, Any] = schemas.load("door")["definitions"]
    verbs = set(wanted["request"]["properties"]["verb"]["enum"])
    assert verbs == {*reads.READS, *acts.ACTS, service.REDEEM, service.FOLLOW} == set(wanted["verbs"])
    operations = set(wanted["verbs"]["start"]["properties"]["operation"]["enum"])
    assert operations == set(wanted["parameters"]) == set(acts.PREPARED) == set(acts.OPERATIONS)
    assert set(acts.OPERATIONS.values()) == set(acts.RIGHTS)
    del host
