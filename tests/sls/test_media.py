# SPDX-License-Identifier: Apache-2.0
"""Images are pushed with a password, from where they may be, under their whole name; everybody pulls them."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from installer.base import bcrypt
from installer.operations import push_login
from tests.sls import media
from tests.sls.compiler import Compiler
from tests.sls.media import HOST, MediaServer, basic

pytestmark = pytest.mark.parametrize("pillar", ["least"], indirect=True, scope="session")
DIGEST = "sha256:" + "0" * 64


@pytest.fixture(scope="module")
def server(
    compiler: Compiler, pillar: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[MediaServer]:
    with media.running(compiler, pillar, tmp_path_factory.mktemp("media")) as running:
        yield running


# ---- who, from where, by what method ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v2/"),
        ("POST", "/v2/vendor/app/blobs/uploads/"),
        ("POST", "/v2/quay.io/vendor/app/blobs/uploads/"),
        ("PUT", "/v2/quay.io/vendor/app/manifests/1"),
        ("PATCH", "/v2/quay.io/vendor/app/blobs/uploads/x"),
        ("PUT", "/v2/quay.io/vendor/app/blobs/uploads/x"),
        ("GET", "/v2/quay.io/vendor/app/tags/list"),
        ("HEAD", f"/v2/quay.io/vendor/app/blobs/{DIGEST}"),
    ],
)
@pytest.mark.parametrize(
    "login", ["none", "wrong", "empty", "another user", "nginx' own with a wrong password", "no basic"]
)
def test_without_the_password_nothing_is_taken(
    server: MediaServer, method: str, path: str, login: str
) -> None:
    password = push_login.get(server.paths)
    headers = {
        "none": {},
        "wrong": basic("caisson", password[:-1] + "-"),
        "empty": basic("caisson", ""),
        "another user": basic("root", password),
        "nginx' own with a wrong password": basic("nginx", password),
        "no basic": {"Authorization": f"Bearer {password}"},
    }[login]
    said = server.write(path, method, logged_in=False, headers=headers, body=b"{}")
    assert said.status == 401
    assert said.headers["Www-Authenticate"] == 'Basic realm="Caisson"'


@pytest.mark.parametrize("source", [media.POD, media.SERVICE, media.FURTHER_NODE, media.OTHER])
def test_with_the_password_nothing_is_taken_from_a_pod_or_another_node(
    server: MediaServer, source: str
) -> None:
    for method, path in (("POST", "/v2/quay.io/a/blobs/uploads/"), ("GET", "/v2/"), ("DELETE", "/v2/a/x")):
        said = server.write(path, method, source=source)
        assert (said.status, said.code) == (403, "DENIED")
        assert "from" in said.message


def test_a_node_that_goes_and_comes_is_known_at_its_next_request(server: MediaServer) -> None:
    mark = server.paths.barred_nodes_dir / media.FURTHER_NODE
    mark.unlink()
    assert server.write("/v2/", source=media.FURTHER_NODE).status == 200
    mark.touch()
    assert server.write("/v2/", source=media.FURTHER_NODE).status == 403


def test_what_workers_of_nginx_look_for_they_can_see(compiler: Compiler, pillar: dict[str, Any]) -> None:
    """They are another user than root: a node whose file they cannot see might push."""
    modes = {
        chunk["name"]: chunk["mode"]
        for chunk in compiler.compile("nginx.configured", pillar).chunks
        if (chunk["state"], chunk["fun"]) == ("file", "directory")
    }
    assert modes == {"/etc/caisson/nginx": "0755", "/etc/caisson/nginx/nodes": "0755"}


@pytest.mark.parametrize("source", [media.NODE, HOST])
def test_this_node_and_hosts_of_the_control_plane_push(server: MediaServer, source: str) -> None:
    assert server.write("/v2/", source=source).status == 200
    assert server.write("/v2/quay.io/of/some/blobs/uploads/", "POST", source=source).status == 202


def test_the_registry_itself_asks_for_the_password_too(server: MediaServer) -> None:
    """A program of this host, or a pod in its network, that goes past nginx."""
    for path in ("/v2/", "/v2/_catalog", "/v2/a/tags/list"):
        assert server.ask(server.registry_port, path, tls=False, source=media.NODE).status == 401
    said = server.ask(server.registry_port, "/v2/a/blobs/uploads/", "POST", tls=False, source=media.NODE)
    assert said.status == 401
    # What the kubelet and the states ask: whether it is alive.
    assert server.ask(server.registry_port, "/", tls=False, source=media.NODE).status == 200


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/v2/", "GET, HEAD"),
        ("/v2/quay.io/a/manifests/1", "GET, HEAD, PUT"),
        (f"/v2/quay.io/a/manifests/{DIGEST}", "GET, HEAD, PUT"),
        (f"/v2/quay.io/a/blobs/{DIGEST}", "GET, HEAD"),
        ("/v2/quay.io/a/blobs/uploads/", "POST"),
        ("/v2/quay.io/a/blobs/uploads/x", "GET, HEAD, PATCH, PUT"),
        ("/v2/quay.io/a/tags/list", "GET, HEAD"),
    ],
)
def test_other_methods_are_refused_where_images_are_pushed(
    server: MediaServer, path: str, allowed: str
) -> None:
    for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "MOVE"} - set(allowed.split(", ")):
        said = server.write(path, method, body=b"")
        assert (said.status, said.headers["Allow"]) == (405, allowed), method


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "MOVE"])
@pytest.mark.parametrize(
    "path",
    [
        "/v2/",
        "/v2/quay.io/a/manifests/1",
        f"/v2/quay.io/a/blobs/{DIGEST}",
        "/v2/quay.io/a/blobs/uploads/",
        "/v2/_catalog",
        "/repo/el9/repodata/repomd.xml",
        "/keys/a.key",
        "/ca.crt",
        "/",
    ],
)
def test_nothing_is_written_where_everybody_reads(server: MediaServer, method: str, path: str) -> None:
    assert server.read(path, method, body=b"", headers=server.login).status == 405


def test_packages_of_every_iso_that_is_mounted_are_served_and_nothing_else_of_it(server: MediaServer) -> None:
    path = "/media/media/repo/el9/repodata/repomd.xml"
    assert server.read(path).body == server.read("/repo/el9/repodata/repomd.xml").body == b"<repomd/>"
    assert b"repomd.xml" in server.read("/media/media/repo/el9/repodata/").body
    assert server.read("/media/media/keys/a.key").body == b"a key"
    for path in ("product.json", "keys/", "oci/blobs/", "repo/../product.json", "../etc/caisson/ca.crt", ""):
        assert server.read(f"/media/media/{path}").status in (403, 404), path
    for path in (
        "/media/etc/repo/x",
        "/media/.x/repo/x",
        "/media/media/repo/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
    ):
        assert server.read(path).status in (400, 404), path
    assert server.read("/media/media/repo/el9/repodata/repomd.xml", "PUT", body=b"").status == 405


# ---- names --------------------------------------------------------------------------------------------------


def test_two_vendors_images_of_one_name_stay_two(server: MediaServer) -> None:
    pushed = {
        name: server.push(name, "1", name.encode()) for name in ("quay.io/vendor/app", "docker.io/vendor/app")
    }
    assert len({*pushed.values()}) == 2
    for name, digest in pushed.items():
        registry, _, repository = name.partition("/")
        for path in (f"{repository}/manifests/1?ns={registry}", f"{name}/manifests/1"):
            said = server.read(f"/v2/{path}", source=media.POD)
            assert media.digest_of(said.body) == digest == said.headers["Docker-Content-Digest"]
            layer = json.loads(said.body)["layers"][0]["digest"]
            blob = server.read(f"/v2/{repository}/blobs/{layer}?ns={registry}", source=media.POD)
            assert blob.body == name.encode()
        by_digest = server.read(f"/v2/{repository}/manifests/{digest}?ns={registry}")
        assert media.digest_of(by_digest.body) == digest
    for path in (
        "vendor/app/manifests/1?ns=ghcr.io",
        "vendor/app/manifests/1",
        "ghcr.io/vendor/app/manifests/1",
    ):
        assert server.read(f"/v2/{path}").status == 404


@pytest.mark.parametrize(
    ("pushed", "query", "pulled"),
    [
        ("docker.io/tool", "", "library/tool/manifests/1?ns=docker.io"),
        ("index.docker.io/tool2", "", "docker.io/library/tool2/manifests/1"),
        ("registry.site__5000/app", "", "app/manifests/1?ns=registry.site%3A5000"),
        ("registry.site:5001/app", "", "registry.site__5001/app/manifests/1"),
        ("registry.site__5002/app", "", "registry.site:5002/app/manifests/1"),
        # As containerd pushes by hosts.toml: the registry in the query, of what the registry answers, too.
        ("vendor/by-query", "?ns=quay.io", "quay.io/vendor/by-query/manifests/1"),
        ("app", "?ns=registry.site%3A5003", "registry.site:5003/app/manifests/1"),
        # Without a registry it is the site's own, by the media server's names.
        ("site/app", "", "site/app/manifests/1?ns=127.0.0.1%3A{push_port}"),
        ("site/app", "", "site/app/manifests/1?ns=node1:{read_port}"),
        ("site/app", "", "site/app/manifests/1"),
        ("quay.io/vendor/own", "", "quay.io/vendor/own/manifests/1?ns=127.0.0.1%3A{read_port}"),
    ],
)
def test_what_is_pushed_under_a_name_is_pulled_by_it(
    server: MediaServer, pushed: str, query: str, pulled: str
) -> None:
    digest = server.push(pushed, "1", pushed.encode(), query=query)
    path = pulled.format(read_port=server.read_port, push_port=server.push_port)
    assert media.digest_of(server.read(f"/v2/{path}").body) == digest


def test_the_site_s_own_are_no_other_registry_s(server: MediaServer) -> None:
    server.push("site/only", "1", b"own")
    for path in ("site/only/manifests/1?ns=docker.io", "docker.io/site/only/manifests/1"):
        assert server.read(f"/v2/{path}").status == 404


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("registry.k8s.io/pause/manifests/3.10.2", "registry.k8s.io/pause:3.10.2"),
        ("pause/manifests/3.10.2?ns=registry.k8s.io", "registry.k8s.io/pause:3.10.2"),
        ("docker.io/library/nginx/manifests/1.30", "docker.io/library/nginx:1.30"),
        ("docker.io/nginx/manifests/1.30", "docker.io/library/nginx:1.30"),
        ("index.docker.io/nginx/manifests/1.30", "docker.io/library/nginx:1.30"),
        ("docker.io//library/./nginx/manifests/%31.30", "docker.io/library/nginx:1.30"),
    ],
)
def test_a_reference_of_the_iso_is_not_pushed_over(server: MediaServer, path: str, name: str) -> None:
    headers = {"Content-Type": media.OCI_MANIFEST}
    said = server.write(f"/v2/{path}", "PUT", body=media.ON_ISO, headers=headers)
    assert (said.status, said.code) == (403, "DENIED")
    assert (
        said.message
        == f"{name} is an image of the ISO, which is served in its place: push it under another tag or name"
    )
    assert server.read(f"/v2/{path}").body == media.ON_ISO


def test_another_tag_of_a_name_of_the_iso_may_be_pushed(server: MediaServer) -> None:
    digest = server.push("registry.k8s.io/pause", "3.10.2-site", b"another")
    assert media.digest_of(server.read("/v2/pause/manifests/3.10.2-site?ns=registry.k8s.io").body) == digest


@pytest.mark.parametrize(
    "name", ["Quay.io/app", "quay.io/App", "quay.io/-a", "a b", "a%3fb", "quay.io:x/a", "_a"]
)
def test_what_is_no_name_is_refused(server: MediaServer, name: str) -> None:
    said = server.write(f"/v2/{name.replace(' ', '%20')}/blobs/uploads/", "POST")
    assert (said.status, said.code) == (400, "NAME_INVALID")
    assert server.read(f"/v2/{name.replace(' ', '%20')}/manifests/1").status == 404


# ---- what is not served -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/v2/_catalog", "/v2/a/_catalog", "/v2/quay.io/a/referrers/" + DIGEST, "/v2/x", "/"]
)
def test_no_list_of_names_is_given_out(server: MediaServer, path: str) -> None:
    server.push("quay.io/vendor/listed", "1", b"listed")
    for said in (server.read(path), server.write(path)):
        assert b"vendor" not in said.body
        assert said.status in (404, 200 if path == "/" else 404)


def test_packages_are_listed_and_nothing_else(server: MediaServer) -> None:
    assert b"repomd.xml" in server.read("/repo/el9/repodata/").body
    assert server.read("/keys/a.key").body == b"a key"
    assert server.read("/ca.crt").status == 200
    for path, status in (("/keys/", 403), ("/oci/", 404), ("/oci/index.json", 404), ("/product.json", 404)):
        assert server.read(path).status == status, path


@pytest.mark.parametrize(
    "path",
    [
        "/../etc/caisson/tls/media.key",
        "/repo/../product.json",
        "/repo/%2e%2e/product.json",
        "/repo/..%2fproduct.json",
        "/repo../product.json",
        "/keys/..%2f..%2fetc%2fcaisson%2ftls%2fmedia.key",
        "/v2/../product.json",
        "/v2/quay.io/..%2f..%2f..%2f_catalog",
        f"/v2/quay.io/%2e%2e/a/blobs/{DIGEST}",
        "/repo/el9/%00",
        "/etc/caisson/registry/htpasswd",
    ],
)
def test_a_path_leads_out_of_nothing(server: MediaServer, path: str) -> None:
    for said in (server.read(path), server.write(path)):
        assert said.status in (400, 404)
        assert b"PRIVATE" not in said.body
        assert b"$2b$" not in said.body


def test_plain_http_is_refused(server: MediaServer) -> None:
    for port in (server.read_port, server.push_port):
        said = server.ask(port, "/v2/", tls=False)
        assert said.status == 400
        assert b"HTTPS" in said.body


@pytest.mark.parametrize("version", ["tls1", "tls1_1", "tls1_2", "tls1_3"])
def test_old_tls_is_refused(server: MediaServer, version: str) -> None:
    """By OpenSSL's own client, which is told to speak what it would not by itself."""
    for port in (server.read_port, server.push_port):
        done = subprocess.run(
            [
                "openssl",
                "s_client",
                f"-{version}",
                "-cipher",
                "ALL:@SECLEVEL=0",
                "-connect",
                f"127.0.0.1:{port}",
            ],
            input=b"",
            capture_output=True,
            timeout=30,
            check=False,
        )
        is_spoken = b"Cipher is (NONE)" not in done.stdout and b"BEGIN CERTIFICATE" in done.stdout
        assert is_spoken == (version in ("tls1_2", "tls1_3")), done.stdout.decode() + done.stderr.decode()


# ---- load ---------------------------------------------------------------------------------------------------


def test_a_hundred_that_say_nothing_stop_no_pull(server: MediaServer) -> None:
    digest = server.push("quay.io/vendor/loaded", "1", b"loaded")
    silent = [socket.create_connection(("127.0.0.1", server.read_port)) for _ in range(100)]
    try:
        said: list[str] = []

        def pull() -> None:
            said.append(media.digest_of(server.read("/v2/vendor/loaded/manifests/1?ns=quay.io").body))

        threads = [threading.Thread(target=pull) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert said == [digest] * 20
    finally:
        for connection in silent:
            connection.close()


def test_a_large_layer_in_chunks_goes_through_without_a_copy_here(server: MediaServer) -> None:
    """As docker and skopeo push: chunked, of no length said before; nginx keeps none of it, and it is read in parts."""
    size, part = 40, b"x" * (1 << 20)
    begun = server.write("/v2/quay.io/vendor/large/blobs/uploads/", "POST")
    place = begun.headers["Location"].partition(f":{server.push_port}")[2]
    context = ssl.create_default_context(cafile=str(server.ca_file))
    connection = http.client.HTTPSConnection(
        "127.0.0.1", server.push_port, context=context, source_address=(HOST, 0)
    )
    connection.request("PATCH", place, body=iter([part] * size), headers=server.login, encode_chunked=True)
    patched = connection.getresponse()
    patched.read()
    assert (patched.status, patched.headers["Range"]) == (202, f"0-{size * len(part) - 1}")
    connection.close()
    digest = media.digest_of(part * size)
    place = patched.headers["Location"].partition(f":{server.push_port}")[2]
    assert server.write(f"{place}&digest={digest}", "PUT", body=b"").status == 201
    assert not list((server.run_dir / "tmp/body").glob("*"))
    said = server.read(
        f"/v2/vendor/large/blobs/{digest}?ns=quay.io", headers={"Range": f"bytes={size * len(part) - 7}-"}
    )
    assert (said.status, said.body) == (206, b"x" * 7)


# ---- the password -------------------------------------------------------------------------------------------


def test_a_new_password_counts_at_once_and_pulls_go_on(server: MediaServer) -> None:
    digest = server.push("quay.io/vendor/rotated", "1", b"rotated")
    old = server.login
    push_login.rotate(server.paths)
    assert server.write("/v2/", logged_in=False, headers=old).status == 401
    assert server.write("/v2/").status == 200
    assert media.digest_of(server.read("/v2/vendor/rotated/manifests/1?ns=quay.io").body) == digest


def test_no_password_is_in_a_log(server: MediaServer) -> None:
    push_login.rotate(server.paths)
    server.push("quay.io/vendor/logged", "1", b"logged")
    server.read("/v2/vendor/logged/manifests/1?ns=quay.io")
    time.sleep(0.2)
    log = (server.run_dir / "log").read_text()
    reader = server.paths.read_login_file.read_text().split('"')[1].split()[1]
    for secret in (push_login.get(server.paths), server.login["Authorization"].split()[1], reader):
        assert secret not in log
    assert "Basic" not in log


def test_the_files_are_root_s_alone(server: MediaServer) -> None:
    for file in (
        server.paths.push_password_file,
        server.paths.read_login_file,
        server.paths.htpasswd_file,
    ):
        assert file.stat().st_mode & 0o777 == 0o600
    assert server.paths.push_password_file.parent.stat().st_mode & 0o777 == 0o700
    for line in server.paths.htpasswd_file.read_text().splitlines():
        assert bcrypt.is_password(push_login.get(server.paths), line.partition(":")[2]) == line.startswith(
            "caisson:"
        )


def _laid_out(directory: Path) -> bytes:
    """Write an image as skopeo's ``dir:`` has it, and return its manifest."""
    layer = b"a layer" * 1000
    config = {"architecture": "amd64", "os": "linux"}
    rootfs = {"type": "layers", "diff_ids": [media.digest_of(layer)]}
    blobs = {"config": json.dumps({**config, "rootfs": rootfs}).encode(), "layer.v1.tar": layer}
    directory.mkdir()
    for data in blobs.values():
        (directory / media.digest_of(data).partition(":")[2]).write_bytes(data)
    kinds = {"config": "application/vnd.oci.image.config.v1+json"}
    described = [
        {
            "mediaType": kinds.get(kind, f"application/vnd.oci.image.{kind}"),
            "digest": media.digest_of(data),
            "size": len(data),
        }
        for kind, data in blobs.items()
    ]
    manifest = {"schemaVersion": 2, "mediaType": media.OCI_MANIFEST, "config": described[0]}
    text = json.dumps({**manifest, "layers": described[1:]}).encode()
    (directory / "version").write_text("Directory Transport Version: 1.1\n")
    (directory / "manifest.json").write_bytes(text)
    return text


def test_skopeo_pushes_and_pulls(server: MediaServer, tmp_path: Path) -> None:
    """By tag and by digest, with the commands that 'caisson images login' prints."""
    certs, source, auth = tmp_path / "certs", tmp_path / "source", tmp_path / "auth.json"
    certs.mkdir()
    (certs / "ca.crt").write_bytes(server.ca_file.read_bytes())
    manifest = _laid_out(source)

    def skopeo(*words: object, data: str = "") -> None:
        command = ["skopeo", "--insecure-policy", *map(str, words)]
        done = subprocess.run(command, input=data, capture_output=True, timeout=60, text=True, check=False)
        assert done.returncode == 0, done.stderr

    place = f"127.0.0.1:{server.push_port}"
    login = (
        "login",
        "--authfile",
        auth,
        "--cert-dir",
        certs,
        "--username",
        "caisson",
        "--password-stdin",
        place,
    )
    skopeo(*login, data=push_login.get(server.paths))
    for name in ("quay.io/vendor/sk", "docker.io/vendor/sk"):
        skopeo(
            "copy",
            "--preserve-digests",
            "--authfile",
            auth,
            "--dest-cert-dir",
            certs,
            f"dir:{source}",
            f"docker://{place}/{name}:1",
        )
        for reference in (f"{name}:1", f"{name}@{media.digest_of(manifest)}"):
            pulled = tmp_path / "pulled"
            reading = f"docker://127.0.0.1:{server.read_port}/{reference}"
            skopeo(
                "copy",
                "--preserve-digests",
                "--src-cert-dir",
                certs,
                "--src-no-creds",
                reading,
                f"dir:{pulled}",
            )
            assert (pulled / "manifest.json").read_bytes() == manifest
