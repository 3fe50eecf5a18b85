# SPDX-License-Identifier: Apache-2.0
"""No secret gets through, in whatever form it stands; what is none stays; no text takes long."""

from __future__ import annotations

import base64
import json
import textwrap
import time

import pytest
import yaml

from installer.operations.redaction import documents, without_secrets
from installer.operations.redaction.keys import REMOVED

W = "hunter2Kaese"
KEY = "-----BEGIN PRIVATE KEY-----\n" + "\n".join([(W + "0" * 64)[:64]] * 9) + "\n-----END PRIVATE KEY-----\n"
KEY_BASE64 = base64.b64encode(KEY.encode()).decode()
WRAPPED = "\n".join(textwrap.wrap(KEY_BASE64, 76))
CHAIN = f"-----BEGIN CERTIFICATE-----\n{'A' * 64}\n-----END CERTIFICATE-----\n{KEY}"
LOGIN = base64.b64encode(json.dumps({"auths": {"h": {"auth": f"jo{W}"}}}, indent=1).encode()).decode()
#: Each with a secret that must not stay.
LEAKS: tuple[tuple[str, str], ...] = (
    # ---- environments
    (f"env:\n- name: VAULT_TOKEN\n  value: {W}\n", W),
    (f"env:\n- value: {W}\n  name: VAULT_TOKEN\n", W),
    (f"env: [{{name: VAULT_TOKEN, value: {W}}}]", W),
    (f'{{"env": [{{"name": "VAULT_TOKEN", "value": "{W}"}}]}}', W),
    (f'{{"env": [{{"value": "{W}", "name": "VAULT_TOKEN"}}]}}', W),
    (f'{{\n "name": "DB_PASS",\n "value": "{W}"\n}}', W),
    (f'"Env": ["DB_PASS=hun {W}", "A=b"]', W),
    # ---- options
    (f'["--plugin-password","{W}"]', W),
    (f'["--plugin-password", "{W}"]', W),
    (f"- --plugin-password\n- {W}\n", W),
    (f'  "--plugin-password",\n  "{W}"\n', W),
    (f"run '--password=a {W}' --other", W),
    (f"--api-key {W}", W),
    (f"curl -u jo:{W} https://h", W),
    # ---- below the name
    (f"password:\n  {W}\n", W),
    (f"passwords:\n- a\n- {W}\n", W),
    (f"passwords:\n  - a\n  - {W}\n", W),
    (f'"password":\n"{W}"\n', W),
    (f'"tokens": [\n "a",\n "{W}"\n]', W),
    (f"X-Api-Key = [\n'a',\n'{W}',\n]\n", W),
    (f"+  password: |\n+    a\n+    {W}\n", W),
    (f" - password: >-\n     a\n     {W}\n", W),
    (f"  out| password: |\n  out|   {W}\n", W),
    (f"2026-11-27T07:00:00+0000 node1 x[1]: password: |\n2026-11-27T07:00:00+0000 node1 x[1]:   {W}\n", W),
    # ---- names
    ("password: 482913", "482913"),
    (f"MY_API_KEY={W}", W),
    (f'X-Api-Key = ["{W}"]', W),
    (f"api key: {W}", W),
    (f"pass={W}", W),
    (f"pwd={W}", W),
    (f"DB_PASS={W}", W),
    (f"dbPwd: {W}", W),
    (f"<password>{W}</password>", W),
    (f"Cookie: a={W}", W),
    # ---- values
    (f'password: "hun\\"{W}"', W),
    (f"password: 'hun''{W}'", W),
    (f"password='hun'\"'\"'{W}'", W),
    (f"password: hun,{W}", W),
    (f"password: hun;{W}", W),
    (f"x password=hun,{W} user=jo", W),
    (f'password: "hun\n  {W}"\nuser: jo', W),
    (f"password: 'hun\n\n  {W}'\nuser: jo", W),
    (f"{{user: jo, password: {W}, x: y}}", W),
    (f'"{{\\"password\\": \\"a {W}\\", \\"user\\": \\"jo\\"}}"', W),
    (f'{{\\"password\\": \\"a\\\\\\"{W}\\"}}', W),
    (f'"{{\\\\\\"password\\\\\\": \\\\\\"a {W}\\\\\\"}}"', W),
    (f'"patch": "- name: A_TOKEN\\n  value: {W}\\n"', W),
    # ---- addresses
    (f"http://jo:p@{W}@h/v2", W),
    (f"http://jo:a/{W}@h", W),
    (f"http://jo:{W}?a@h", W),
    (f"redis://:{W}@h", W),
    (f"https://ghp_{W}@h/a/b", W),
    (f"https://{W}@h/a@b", W),
    # ---- keys and Secrets
    (f".dockerconfigjson: {LOGIN}", LOGIN[10:30]),
    (f"x {LOGIN} y", LOGIN[10:30]),
    ("x eyJhdXRocyI6eyJoIjp7ImF1dGgiOiJhIn19fQ==", "XRocyI6"),
    (f"apiVersion: v1\ndata:\n  a: {W}\nkind: Secret\n", W),
    (f"kind: Secret\nstringData:\n  a: b\n  c: |\n    {W}\n", W),
    (f'{{"kind":"Secret","data":{{"a":"{W}"}}}}', W),
    (f"ca: |\n{textwrap.indent(WRAPPED, '  ')}\nuser: jo", KEY_BASE64[160:180]),
    (f"ca: {base64.b64encode(CHAIN.encode()).decode()}", KEY_BASE64[-40:-20]),
    (KEY.replace("KEY", "KEY BLOCK").replace("PRIVATE", "PGP PRIVATE"), W),
    (f"log\n{KEY[KEY.index(W) + 3 :]}", "0" * 40),
    (f"log\n{KEY[:200]}", W),
    (json.dumps({"a": KEY}), W),
    (json.dumps(json.dumps({"a": KEY})), W),
    ("".join(f"Nov 27 07:00:00 n1 x[1]: {line}\n" for line in KEY.splitlines()), W),
    ("".join(f"+ {line}\n" for line in KEY.splitlines()), W),
)
KEPT = (
    "clusterName: lab\nsigningKey: 0000\nkeyFile: /root/ca.key",
    "PWD=/root",
    "automountServiceAccountToken: false",
    "max_tokens: 5",
    "--client-cert-auth=true --service-account-key-file=/etc/kubernetes/pki/sa.pub",
    "the phase bootstrap-token is done",
    "https://10.77.1.11:8443/repo/el9@1 docker://h:5000/a@sha256:00",
    "authorization:\n  mode: Webhook\n",
    "- --authorization-mode=Node,RBAC\n- --tls-private-key-file=/x",
)


@pytest.mark.parametrize(("text", "secret"), LEAKS)
def test_a_secret_does_not_get_through(text: str, secret: str) -> None:
    shown = without_secrets(f"before: it\n{text}\nafter: it")
    assert secret not in shown
    assert shown.startswith("before: it\n")
    assert shown.endswith("after: it")
    assert without_secrets(shown).count(secret) == 0


@pytest.mark.parametrize("text", KEPT)
def test_what_is_no_secret_stays(text: str) -> None:
    assert without_secrets(text) == text


@pytest.mark.parametrize("mark", ["BEGIN", "END"])
def test_a_lone_mark_of_a_key_takes_nothing_else_with_it(mark: str) -> None:
    text = "first line of the log\n-----{} PRIVATE KEY-----\nthe next line\nand another one\n"
    assert without_secrets(text.format(mark)) == text.replace("-----{} PRIVATE KEY-----", REMOVED)


@pytest.mark.parametrize(
    "piece",
    [
        *("password", "password=", "password\n", "password:\n", "password: |\n", "pass='\n", "password={\n"),
        *("password=[", "pass=\\", "\\", '\\"', "'", "key ", "--password ", "--password\n", "name: token\n"),
        *("-----BEGIN PRIVATE KEY-----\n", "-----END PRIVATE KEY-----\n", "-----BEGIN PRIVATE KEY-----"),
        *("eyJ", "A", "AAAA\n", f"{'A' * 64}\n", "LS0tLS1CRUdJTi", "\n", " ", "://", "://a:b@", "$1$", "a:"),
        *(
            "basic ",
            "a.b-c_",
            "kind: Secret\ndata:\n  a: b\n",
            "<password>",
            "name=token value=x\n",
            "-",
            "+",
        ),
    ],
)
def test_no_text_takes_long(piece: str) -> None:
    text = (piece * (2 * 1024 * 1024 // len(piece) + 1))[: 2 * 1024 * 1024]
    began = time.process_time()
    without_secrets(text)
    assert time.process_time() - began < 2.0


# ---- by its form -----------------------------------------------------------------------------------------

CONFIGURATION = f"""\
clusterName: lab  # the password is {W}
overrides:
  containerd: |
    version = 3
    X-Api-Key = ["{W}"]
  kubelet: {{maxPods: 200}}
  kubeadmPatches:
    kube-apiserver+strategic.yaml: |
      spec:
        containers:
        - name: kube-apiserver
          command: [kube-apiserver, --plugin-password, {W}, --v, "2"]
          env:
          - {{name: PLAIN, value: {W}}}
    etcd0+json.json: '[{{"op": "add", "path": "/spec/containers/0/env/0/value", "value": "{W}"}}]'
"""


def test_a_configuration_is_read_with_the_texts_in_it() -> None:
    shown = documents.without_secrets_of_form(CONFIGURATION, ".yaml")
    assert W not in shown
    data = yaml.safe_load(shown)
    assert (data["clusterName"], data["overrides"]["kubelet"]) == ("lab", {"maxPods": 200})
    patch = yaml.safe_load(data["overrides"]["kubeadmPatches"]["kube-apiserver+strategic.yaml"])
    (container,) = patch["spec"]["containers"]
    assert container["command"] == ["kube-apiserver", "--plugin-password", REMOVED, "--v", "2"]
    assert container["env"] == [{"name": "PLAIN", "value": REMOVED}]


def test_what_has_no_form_is_looked_at_line_by_line() -> None:
    bomb = "a: &a [x, x]\n" + "".join(
        f"{n}: &{n} [*{p}, *{p}]\n" for p, n in zip("abcdefghijklmnopqr", "bcdefghijklmnopqrs", strict=True)
    )
    for text, suffix in ((f"[\npassword: {W}", ".yaml"), (f'{{"password": "{W}"', ".json"), (bomb, ".yaml")):
        began = time.process_time()
        assert W not in documents.without_secrets_of_form(text, suffix)
        assert time.process_time() - began < 3.0


def test_json_keeps_its_form() -> None:
    text = json.dumps({"faults": [], "bootstrapTokens": [W], "args": ["--token", W], "pods": {"total": 9}})
    shown = json.loads(documents.without_secrets_of_form(text, ".json"))
    assert shown == {
        "faults": [],
        "bootstrapTokens": REMOVED,
        "args": ["--token", REMOVED],
        "pods": {"total": 9},
    }
