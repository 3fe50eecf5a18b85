# SPDX-License-Identifier: Apache-2.0
"""Root's side of the console on the shared node: its address, the door, codes and what the roles behind them may.

What a browser sees is another file's. They run last on that node: users of the console stay in the cluster until then.
"""

from __future__ import annotations

import json
import re
import shlex
import time
from typing import Any

import jsonschema
import pytest

from installer.operations import schemas
from tests.node.conftest import Cluster

pytestmark = pytest.mark.lab

URL = "https://10.77.1.11:9443"
SCHEMA = schemas.load("door")
ANSWER = jsonschema.Draft7Validator({**SCHEMA["definitions"]["answer"], "definitions": SCHEMA["definitions"]})
#: What the console does, in the node's own Python: one line there, one line back.
ASK = """
import socket, sys
door = socket.socket(socket.AF_UNIX)
door.connect("/run/caisson-console/door.sock")
door.sendall(sys.argv[1].encode() + b"\\n")
print(door.makefile("rb").readline().decode())
"""
FINGERPRINT = "openssl x509 -in /etc/caisson/console/tls.crt -noout -fingerprint -sha256"


def ask(cluster: Cluster, verb: str, *, user: str = "caisson-console", token: str = "", **more: Any) -> Any:
    """Return what the door answers to a user of the node."""
    request = json.dumps({"verb": verb, "arguments": more, "token": token, "client": "10.77.1.2"})
    words = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]
    words += ["python3", "-c", ASK, request]
    answer = json.loads(cluster.node.run(words, timeout_s=60).stdout)
    ANSWER.validate(answer)
    return answer


def login(cluster: Cluster, *words: str) -> dict[str, Any]:
    """Make a code; return what was said of it."""
    found: dict[str, Any] = json.loads(
        cluster.shell(f"caisson console login --json {' '.join(map(shlex.quote, words))}")
    )
    return found


def may(cluster: Cluster, token: str, verb: str, resource: str) -> bool:
    """Ask the API, as the holder of a token; ``resource`` with its group, as in ``jobs.console.caisson.internal``.

    Not by ``kubectl auth can-i``: it drops the group of a resource that the API does not serve.
    """
    name, _, group = resource.partition(".")
    attributes = {"verb": verb, "resource": name, "group": group}
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview"}
    server = "https://api.lab.internal:6443"
    words = f"--kubeconfig=/dev/null --server={server} --certificate-authority=/etc/kubernetes/pki/ca.crt"
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    said = cluster.shell(
        f"kubectl {words} --token={token} create --raw {path} --filename - <<'END'\n"
        f"{json.dumps({**review, 'spec': {'resourceAttributes': attributes}})}\nEND"
    )
    answer: bool = json.loads(said)["status"]["allowed"]
    return answer


def test_the_bootstrap_ends_with_where_the_console_is(cluster: Cluster) -> None:
    shown = cluster.shell(FINGERPRINT).strip().partition("=")[2]
    lines = [line.strip() for line in cluster.output.splitlines()]
    place = lines.index(f"UI ready at {URL}")
    assert lines[place + 1] == f"its certificate, SHA-256: {shown}"
    assert lines[place + 2] == "a log-in code: sudo caisson console login"
    assert json.loads(cluster.shell("caisson status --json"))["services"]["console"] == "listening"


def test_it_answers_by_its_address_and_ends_by_itself_or_runs(cluster: Cluster) -> None:
    said = cluster.shell(f"curl --silent --show-error --cacert /etc/caisson/ca.crt {URL}/healthz")
    assert said
    exposure = cluster.shell("systemd-analyze security --no-pager caisson-console.service | tail -1")
    found = re.search(r"([0-9.]+)", exposure.partition(":")[2])
    assert found is not None, exposure
    assert float(found[1]) <= 2.0


def test_what_is_secret_is_root_s(cluster: Cluster) -> None:
    login(cluster)
    modes = cluster.shell(
        "stat --format '%a %U %n' /etc/caisson/console/tls.key /run/caisson/console /run/caisson/console/codes "
        "/run/caisson/console/codes/* /var/log/caisson/console.jsonl /run/caisson-console/door.sock"
    ).splitlines()
    found = {line.split()[2]: line.split()[:2] for line in modes}
    assert found["/run/caisson-console/door.sock"] == ["660", "root"]
    del found["/run/caisson-console/door.sock"]
    assert {tuple(mode) for mode in found.values()} == {("600", "root"), ("700", "root")}


def test_the_door_answers_the_console_and_no_other_user(cluster: Cluster) -> None:
    found = ask(cluster, "status")["result"]
    assert found["role"] == "bootstrap"
    assert found["exit_code"] == 0, found["faults"]
    assert {pod["name"]: pod["running"] for pod in found["host"]["static_pods"]}["etcd"] is True
    assert [service["state"] for service in found["host"]["services"]][:2] == ["active", "active"]
    names = [entry["file"] for entry in ask(cluster, "certificates")["result"]["certificates"]]
    assert "/etc/caisson/console/tls.crt" in names
    for verb in ("media", "images", "journal", "jobs"):
        assert "result" in ask(cluster, verb), verb
    refused = cluster.node.run(
        ["setpriv", "--reuid=nobody", "--clear-groups", "python3", "-c", ASK, '{"verb": "jobs"}'],
        check=False,
        timeout_s=30,
    )
    assert refused.returncode != 0


def test_a_code_becomes_a_token_that_may_what_its_role_says(cluster: Cluster) -> None:
    made = login(cluster, "--as", "eve", "--role", "viewer", "--for", "30m")
    assert made["url"] == f"{URL}/login"
    result = ask(cluster, "redeem", code=made["code"])["result"]
    assert result["user"] == "eve"
    assert ask(cluster, "redeem", code=made["code"])["error"]["status"] == 401
    token = result["token"]
    assert may(cluster, token, "list", "nodes")
    assert not may(cluster, token, "list", "secrets")
    assert may(cluster, token, "list", "jobs.console.caisson.internal")
    assert not may(cluster, token, "create", "reports.console.caisson.internal")
    refused = ask(cluster, "start", token=token, operation="report", key="0123456789abcdef")
    assert refused["error"]["status"] == 403
    assert '"reports"' in refused["error"]["details"][0]


def test_an_operator_makes_a_report_once(cluster: Cluster) -> None:
    code = login(cluster, "--as", "oscar", "--role", "operator")["code"]
    token = ask(cluster, "redeem", code=code)["result"]["token"]
    wanted = {"operation": "report", "key": "fedcba9876543210"}
    first, second = (ask(cluster, "start", token=token, **wanted) for _ in range(2))
    job = first["result"]["job"]
    assert second["result"]["job"] == job
    cluster.shell(f"caisson job {job} --follow", timeout_s=300)
    found = ask(cluster, "job", id=job)["result"]
    assert found["job"]["state"] == "succeeded"
    assert found["job"]["asker"]["user"] == "system:serviceaccount:caisson-users:oscar"
    assert ask(cluster, "archive", id=job)["result"]["sha256"] == found["archive"]["sha256"]
    log = cluster.shell("cat /var/log/caisson/console.jsonl")
    assert job in log
    assert token not in log + cluster.shell("cat /var/log/caisson/*.log /var/lib/caisson/jobs/*/job.json")


def test_users_come_and_go(cluster: Cluster) -> None:
    cluster.shell("caisson console user add anna --role operator")
    token = cluster.kubectl_text("create", "token", "anna", "-n", "caisson-users", "--duration", "8h").strip()
    assert may(cluster, token, "create", "hosts.console.caisson.internal")
    assert not may(cluster, token, "delete", "hosts.console.caisson.internal")
    assert re.search(r"^anna +operator ", cluster.shell("caisson console user list"), re.MULTILINE)
    cluster.shell("caisson console user remove anna")
    assert "anna" not in cluster.shell("caisson console user list")
    # Its rights end at once; the API server knows the token itself for ten seconds more, from its cache.
    assert refusal(cluster, token) in (401, 403)
    deadline = time.monotonic() + 30
    while refusal(cluster, token) != 401:
        assert time.monotonic() < deadline
        time.sleep(1)


def refusal(cluster: Cluster, token: str) -> int:
    """Return how the door refuses to start a report."""
    refused = ask(cluster, "start", token=token, operation="report", key="0123456789abcdef")
    status: int = refused["error"]["status"]
    return status
