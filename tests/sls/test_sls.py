# SPDX-License-Identifier: Apache-2.0
"""Every sls compiles with every pillar; every file that a state names exists, renders and parses."""

from __future__ import annotations

import copy
import json
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.sls.compiler import GRAINS, Chunk, Compiler

TREE_DIR = Path(__file__).parents[2] / "salt"


def _sls_names() -> list[str]:
    """Return the dotted name of every sls; the top file is no sls."""
    files = sorted(TREE_DIR.rglob("*.sls"))
    names = [".".join(file.relative_to(TREE_DIR).with_suffix("").parts) for file in files]
    return [name.removesuffix(".init") for name in names if name != "top"]


ROLES = [name for name in _sls_names() if name.startswith("roles.")]
BOOTSTRAP = "roles.bootstrap"
"""What only the bootstrap node writes is looked at here; what a worker does, in test_worker.py."""
# What a user wrote may hold braces; what the tree wrote may not come out with them.
UNRENDERED = re.compile(r"\{%|%\}")


@pytest.mark.parametrize("sls", _sls_names())
def test_sls_compiles(compiler: Compiler, pillar: dict[str, Any], sls: str) -> None:
    compiled = compiler.compile(sls, pillar)
    assert list(compiled.faults) == []
    assert compiled.chunks


@pytest.mark.parametrize("role", ROLES)
def test_a_role_names_each_thing_once(compiler: Compiler, pillar: dict[str, Any], role: str) -> None:
    """Two states on one file would overwrite each other, and the second run would never be quiet."""
    files = [
        chunk["name"]
        for chunk in compiler.compile(role, pillar).chunks
        if (chunk["state"], chunk["fun"]) == ("file", "managed")
    ]
    assert len(files) == len(set(files))


@pytest.mark.parametrize("role", ROLES)
def test_ids_are_sentences(compiler: Compiler, pillar: dict[str, Any], role: str) -> None:
    """They are what a person sees while the installer waits."""
    ids = {chunk["__id__"] for chunk in compiler.compile(role, pillar).chunks}
    assert not [ident for ident in ids if not re.match(r"[A-Z][a-z]+ \S", ident)]


@pytest.mark.parametrize("role", ROLES)
def test_files_of_the_tree_exist_render_and_parse(
    compiler: Compiler, pillar: dict[str, Any], role: str
) -> None:
    seen = 0
    for chunk in compiler.compile(role, pillar).chunks:
        source = chunk.get("source")
        if not isinstance(source, str) or not source.startswith("salt://"):
            continue
        seen += 1
        assert (TREE_DIR / source.removeprefix("salt://")).is_file(), (
            f"{chunk['__id__']}: {source} is not there"
        )
        _parse(source, _text_of(compiler, chunk, pillar))
    assert seen


def _text_of(compiler: Compiler, chunk: Chunk, pillar: dict[str, Any]) -> str:
    source: str = chunk["source"]
    if chunk.get("template") == "jinja" or source.endswith(".j2"):
        text = compiler.render(source, chunk.get("context", {}), pillar)
        assert not UNRENDERED.search(text)
        return text
    return (TREE_DIR / source.removeprefix("salt://")).read_text(encoding="utf-8")


def _parse(source: str, text: str) -> None:
    """Parse a rendered file by what its name says that it is."""
    name = Path(source.removesuffix(".j2")).name
    if name.endswith((".yaml", ".yml")):
        assert yaml.safe_load(text)
    elif name.endswith(".toml"):
        assert tomllib.loads(text)
    elif name.endswith(".conf"):
        assert text.count("{") == text.count("}")


@pytest.mark.parametrize("role", ROLES)
def test_contents_that_are_toml_or_yaml_parse(compiler: Compiler, pillar: dict[str, Any], role: str) -> None:
    """What states write from the pillar, as text in the sls itself."""
    for chunk in compiler.compile(role, pillar).chunks:
        contents, name = chunk.get("contents"), chunk["name"]
        if not isinstance(contents, str):
            continue
        if name.endswith(".toml"):
            tomllib.loads(contents)
        elif name.endswith((".yaml", ".yml")):
            assert [document for document in yaml.safe_load_all(contents) if document is not None]


@pytest.mark.parametrize("name", ["10023", "007", "0777", "0x1f", "true", "on", "null", "1e3", "2024-01-15"])
@pytest.mark.parametrize("role", [BOOTSTRAP])
def test_names_that_yaml_misreads_reach_every_file(
    compiler: Compiler, pillar: dict[str, Any], role: str, name: str
) -> None:
    """Each is a host name by RFC 1123; each would be another value, read once as YAML without quotes."""
    changed = copy.deepcopy(pillar)
    changed["caisson"]["node"]["name"] = changed["caisson"]["cluster"]["name"] = name
    compiled = compiler.compile(role, changed)
    assert list(compiled.faults) == []
    written = {chunk["name"]: chunk for chunk in compiled.chunks if "contents" in chunk}
    minion = yaml.safe_load(written["/etc/salt/minion.d/90-caisson.conf"]["contents"])
    assert minion["id"] == name
    documents = re.split("^---$", written["/etc/caisson/kubeadm/init.yaml"]["contents"], flags=re.MULTILINE)
    init, cluster = (json.loads(text) for text in documents[1:3])
    assert (init["nodeRegistration"]["name"], cluster["clusterName"]) == (name, name)
    assert f"/etc/caisson/salt/pki/master/minions/{name}" in {chunk["name"] for chunk in compiled.chunks}
    assert name in {chunk.get("node") for chunk in compiled.chunks}


def test_every_value_in_an_sls_is_quoted() -> None:
    """What Jinja puts into YAML goes through ``json``; bare are only names that the sls itself lists, and calls."""
    own = re.compile(r"(?:name|mode|key|id|port|endpoint|phase\(.*\))\Z")
    # systemd's words, not YAML's.
    unit_lines = re.compile(r"^\s*ExecStart=.*$", re.MULTILINE)
    found = [
        f"{file.relative_to(TREE_DIR)}: {expression}"
        for file in TREE_DIR.rglob("*.sls")
        for expression in re.findall(
            r"\{\{-?\s*(.*?)\s*-?\}\}", unit_lines.sub("", file.read_text(encoding="utf-8")), re.DOTALL
        )
        if not re.search(r"\|\s*json\b", expression)
        and not own.match(expression)
        and " if site else " not in expression
    ]
    assert found == []


def test_braces_of_a_user_reach_the_file(compiler: Compiler, pillar: dict[str, Any]) -> None:
    """A value from bootstrap.yaml is data: it is never read as a template."""
    patches: dict[str, str] = pillar["caisson"]["overrides"]["kubeadm_patches"]
    written = {
        chunk["name"]: chunk.get("contents") for chunk in compiler.compile("control_plane", pillar).chunks
    }
    for name, text in patches.items():
        assert written[f"/etc/kubernetes/patches/{name}"] == text


PODS = sorted(file.parent.parent.name for file in TREE_DIR.glob("*/files/pod.yaml.j2"))


def _pod(compiler: Compiler, pillar: dict[str, Any], component: str) -> dict[str, Any]:
    """Return the static pod of a component, as its state would write it."""
    pod: dict[str, Any] = yaml.safe_load(compiler.render(f"salt://{component}/files/pod.yaml.j2", {}, pillar))
    return pod


@pytest.mark.parametrize("component", PODS)
def test_a_pod_of_ours_may_do_no_more_than_it_must(
    compiler: Compiler, pillar: dict[str, Any], component: str
) -> None:
    """What broke into it can neither write its image nor gain a right, and cannot take the node's memory."""
    spec = _pod(compiler, pillar, component)["spec"]
    assert spec["automountServiceAccountToken"] is False
    for container in spec["containers"]:
        rights = container["securityContext"]
        assert rights["readOnlyRootFilesystem"] is True
        assert rights["allowPrivilegeEscalation"] is False
        assert rights["capabilities"]["drop"] == ["ALL"]
        may = {"CHOWN", "SETGID", "SETUID"}
        may |= {"NET_ADMIN", "NET_RAW"} if component == "keepalived" else set()  # an address, ARP and VRRP
        assert set(rights["capabilities"].get("add", [])) <= may
        assert rights["seccompProfile"] == {"type": "RuntimeDefault"}
        assert rights["seLinuxOptions"] == {"type": "spc_t"}
        assert container["resources"]["limits"]["memory"]
        assert (
            container["livenessProbe"]["failureThreshold"] * container["livenessProbe"]["periodSeconds"] >= 60
        )


@pytest.mark.parametrize("component", PODS)
def test_no_pod_of_ours_sees_an_authority_s_key(
    compiler: Compiler, pillar: dict[str, Any], component: str
) -> None:
    """Nor the directory that it is in: of Caisson's keys nginx has its own, and no other pod has any."""
    paths = {
        volume["hostPath"]["path"]
        for volume in _pod(compiler, pillar, component)["spec"]["volumes"]
        if "hostPath" in volume
    }
    keys = ("/etc/caisson/pki", "/etc/caisson/tls")
    in_reach = {path for path in paths for key in keys if key.startswith(path) or path.startswith(key)}
    assert in_reach == ({"/etc/caisson/tls"} if component == "nginx" else set())


def test_no_log_grows_without_end(compiler: Compiler, pillar: dict[str, Any]) -> None:
    """Nginx logs to its container, which the kubelet rotates; a probe is not logged, but all that writes is."""
    text = compiler.render(
        "salt://nginx/files/nginx.conf.j2", {"address": "192.0.2.11", "media_dir": "/srv"}, pillar
    )
    assert re.findall(r"(?:access|error)_log (\S+)", text) == ["/dev/stderr", "/dev/stdout", "/dev/stdout"]
    assert 'map "$request_method $request_uri $http_user_agent" $is_logged' in text
    unlogged = re.compile(re.findall(r'"~(\S.*)" 0;', text)[0])
    assert unlogged.search("GET /v2/ kube-probe/1.36")
    for request in ("PUT /v2/", "GET /v2/x/manifests/1", "GET /v2/?x", "GET /"):
        assert not unlogged.search(f"{request} kube-probe/1.36")
    _, reading, writing = re.split(r"(?=^  server )", text, flags=re.MULTILINE)
    assert "access_log" not in reading
    assert re.search(r":8444 ssl;.*access_log /dev/stdout caisson;", writing, re.DOTALL)


@pytest.mark.parametrize(
    ("source", "options"),
    [
        ("salt_master/files/master.j2", ("publish_signing_algorithm", "cluster_encryption_algorithm")),
        ("salt_minion/connected.sls", ("encryption_algorithm", "signing_algorithm")),
    ],
)
def test_salt_signs_and_encrypts_without_sha1(source: str, options: tuple[str, ...]) -> None:
    """Each option that Salt 3008 sets to a SHA-1 scheme by default. Source: salt/config/__init__.py, 3008.3."""
    text = (TREE_DIR / source).read_text(encoding="utf-8")
    for option in options:
        assert re.search(rf"^ *{option}: \S+-SHA224$", text, re.MULTILINE), option


def test_rendering_asks_no_live_question() -> None:
    """What an sls renders to depends on grains, pillar and the tree alone, never on when it is rendered."""
    calls = re.compile(
        r"salt\[\s*['\"](?!caisson_)|salt\.(?!caisson_)\w+\.\w+\(|(?<!_)caisson_wait\.|\bmine\.get"
    )
    found = [
        f"{file.relative_to(TREE_DIR)}: {match.group()}"
        for file in TREE_DIR.rglob("*.sls")
        for match in re.finditer(r"\{[{%].*?[%}]\}", file.read_text(encoding="utf-8"), re.DOTALL)
        if calls.search(match.group())
    ]
    assert not found


def test_the_compiler_finds_faults(tmp_path: Path) -> None:
    """Each kind of fault that it is there for."""
    tree_dir = tmp_path / "tree"
    tree_dir.mkdir()
    (tree_dir / "bad.sls").write_text(
        "A wrong argument:\n  file.managed: [name: /a, contentz: x]\n"
        "A missing argument:\n  file.copy: [name: /b]\n"
        "A missing function:\n  file.manage: [name: /c]\n"
        "A lost requisite:\n  file.managed: [name: /d, require: [{file: Nowhere}]]\n"
    )
    compiler = Compiler(tree_dir, tmp_path / "minion", GRAINS)
    faults = "\n".join(compiler.compile("bad", {}).faults)
    for part in (
        "no argument 'contentz'",
        "needs the argument 'source'",
        "file.manage",
        "'Nowhere' matches no state",
    ):
        assert part in faults


def test_nothing_is_configured_for_a_control_plane_of_others(
    compiler: Compiler, pillar: dict[str, Any]
) -> None:
    chunks = compiler.compile("control_plane.configured", pillar).chunks
    assert (chunks[0]["state"], chunks[0]["fun"]) == ("caisson_kubeadm", "control_plane_fits")
    files = [chunk for chunk in chunks if chunk["state"] == "file"]
    assert files
    for chunk in files:
        functions = {entry["fun"] for key in ("unless", "onlyif") for entry in chunk.get(key, ())}
        assert functions <= {"caisson_kubeadm.is_left_alone", "caisson_kubeadm.waits_for"}, chunk["__id__"]
        assert len(functions) == 1, chunk["__id__"]


def test_coredns_of_others_keeps_its_corefile(compiler: Compiler, pillar: dict[str, Any]) -> None:
    chunks = compiler.compile("addons", pillar).chunks
    (chunk,) = (chunk for chunk in chunks if chunk["fun"] == "corefile_fits")
    assert chunk["unless"] == [{"fun": "caisson_kubeadm.is_left_alone"}]


def test_no_unless_has_two_reasons(compiler: Compiler, pillar: dict[str, Any]) -> None:
    """Salt skips a state when all entries hold: of two reasons in a list neither is enough. Source: salt/state.py."""
    for role in ROLES:
        for chunk in compiler.compile(role, pillar).chunks:
            reasons = chunk.get("unless", [])
            assert isinstance(reasons, str) or len(reasons) <= 1, chunk["__id__"]


def test_a_guard_that_is_loaded_is_not_loaded_again(
    compiler: Compiler, pillar: dict[str, Any], tmp_path: Path
) -> None:
    """The condition is a line of shell: it is run as Salt runs it, beside an nft that prints what nft prints."""
    chunks = compiler.compile("firewall.guard", pillar).chunks
    (chunk,) = (chunk for chunk in chunks if "unless" in chunk)
    (written,) = (chunk for chunk in chunks if chunk.get("name") == "/etc/caisson/guard.nft")
    wanted, file = _text_of(compiler, written, pillar), tmp_path / "guard.nft"
    file.write_text(wanted, encoding="utf-8")
    nft = tmp_path / "nft"
    nft.touch(mode=0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    condition = chunk["unless"].replace("/etc/caisson/guard.nft", str(file))
    assert str(file) in condition
    other = {**written, "context": {**written["context"], "pods": ["10.9.0.0/16"]}}
    for loaded, expected in ((wanted, 0), (_text_of(compiler, other, pillar), 1), ("", 1)):
        nft.write_text(f"#!/bin/sh\ncat <<'END'\n{loaded}\nEND\n", encoding="utf-8")
        done = subprocess.run(["sh", "-c", condition], env=environment, check=False)
        assert done.returncode == expected


def test_the_mark_of_the_guard_is_of_all_its_rules(
    compiler: Compiler, pillar: dict[str, Any], tmp_path: Path
) -> None:
    """A rule that is changed by hand in the tree, and nobody thinks of a number beside it."""
    chunks = compiler.compile("firewall.guard", pillar).chunks
    (written,) = (chunk for chunk in chunks if chunk.get("name") == "/etc/caisson/guard.nft")
    template = (TREE_DIR / "firewall/files/guard.nft.j2").read_text(encoding="utf-8")
    marks = set()
    for number, change in enumerate((("", ""), ("ct state established,related", "ct state established"))):
        tree_dir = tmp_path / str(number)
        tree_dir.mkdir()
        (tree_dir / "guard.nft.j2").write_text(template.replace(*change), encoding="utf-8")
        other = Compiler(tree_dir, tmp_path / "minion", GRAINS)
        text = other.render("salt://guard.nft.j2", written["context"], pillar)
        marks.update(re.findall(r'comment "caisson ([0-9a-f]{16})"', text))
    assert len(marks) == 2


def test_the_guard_is_never_away_while_it_is_loaded_again(compiler: Compiler, pillar: dict[str, Any]) -> None:
    """Its unit takes it away when it is stopped, and so when it is restarted."""
    chunks = compiler.compile("firewall.guard", pillar).chunks
    (kept,) = (chunk for chunk in chunks if chunk["state"] == "caisson_service")
    assert kept["reloads"] is True
    unit = dict(
        line.partition("=")[::2]
        for line in (TREE_DIR / "firewall/files/caisson-guard.service")
        .read_text(encoding="utf-8")
        .splitlines()
    )
    assert unit["ExecReload"] == unit["ExecStart"]
    assert "delete table" in unit["ExecStop"]


@pytest.mark.parametrize("role", ROLES)
def test_what_a_service_reads_is_read_also_after_a_kill(
    compiler: Compiler, pillar: dict[str, Any], role: str
) -> None:
    """Salt's own watch acts in the run that changed the file, and in no later one; nor reads a unit again, enabled."""
    chunks = compiler.compile(role, pillar).chunks
    assert [chunk["__id__"] for chunk in chunks if "watch" in chunk or "listen" in chunk] == []
    assert [
        chunk["__id__"] for chunk in chunks if (chunk["state"], chunk["fun"]) == ("service", "running")
    ] == []
    kept = {"caisson_service": ("running", "unit_files_read")}
    cared_for = {
        chunk["unit"] for chunk in chunks if chunk["fun"] in kept.get(chunk["state"], ()) and chunk["unit"]
    }
    for chunk in chunks:
        # The unit of an instance is read when that is started.
        unit = re.match(r"/etc/systemd/system/([^/@]+?\.(?:service|path|socket))(?:\.d/.*)?\Z", chunk["name"])
        if unit and (chunk["state"], chunk["fun"]) == ("file", "managed"):
            assert unit[1] in cared_for, chunk["__id__"]


@pytest.mark.parametrize("role", [BOOTSTRAP])
def test_what_a_site_overrides_is_root_s_alone_and_in_no_log(
    compiler: Compiler, pillar: dict[str, Any], role: str
) -> None:
    """A registry's password, say: neither is the file for everyone, nor does Salt log what has changed in it."""
    secret = "the-secret-of-a-site"
    changed = copy.deepcopy(pillar)
    overrides = changed["caisson"]["overrides"]
    overrides["containerd"] = f'version = 3\n[x]\n  password = "{secret}"\n'
    overrides["kubelet"]["x"] = overrides["kube_proxy"]["x"] = secret
    overrides["kubeadm_patches"]["etcd0+merge.yaml"] = f"metadata: {{annotations: {{x: {secret}}}}}"
    chunks = compiler.compile(role, changed).chunks
    found = [chunk for chunk in chunks if secret in str(chunk.get("contents"))]
    assert len(found) >= 4
    for chunk in found:
        assert (chunk["state"], chunk["fun"]) == ("file", "managed"), chunk["__id__"]
        assert (chunk["mode"], chunk.get("show_changes")) == ("0600", False), chunk["__id__"]
