# SPDX-License-Identifier: Apache-2.0
"""Images of the site: who may push, from where, under which name; two vendors' images stay two; nothing shows a secret.

On a copy of a kept disk: pushes stay in it.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from installer.operations.registry import MANIFEST_TYPES
from lab import kept
from lab.neighbour import Neighbour
from lab.node import Lab, Node
from lab.places import CONTROL_PLANE

from .installing import lab_iso, shell

pytestmark = pytest.mark.lab

ADDRESS = "10.77.1.11"
READ, PUSH = f"{ADDRESS}:8443", f"{ADDRESS}:8444"
KUBECTL = "kubectl --kubeconfig /etc/kubernetes/admin.conf"
CTR = "ctr --namespace k8s.io images"
PASSWORD_FILE = "/etc/caisson/registry-login/password"
ACCEPT = ", ".join(MANIFEST_TYPES)
SECRET_FILES = {PASSWORD_FILE, "/etc/caisson/nginx/registry-login.conf"}
PAUSE, DNS = "registry.k8s.io/pause:", "registry.k8s.io/coredns/coredns:"


@pytest.fixture(scope="module")
def registry_lab() -> Iterator[Lab]:
    """Return a lab of its own: its node has the name and the addresses of the shared one."""
    with Lab() as lab:
        yield lab


@pytest.fixture(scope="module")
def node(registry_lab: Lab) -> Node:
    """Return a node that was bootstrapped some time ago."""
    return kept.start_bootstrapped_node(registry_lab, "node1", iso=lab_iso())


@pytest.fixture(scope="module")
def host(registry_lab: Lab, node: Node) -> Iterator[Neighbour]:
    """Return a host of the control plane's network that is no node."""
    made = Neighbour(lab=registry_lab.name, name="inside", plane=CONTROL_PLANE, address="10.77.1.150/24")
    made.connect()
    yield made
    made.remove()


@pytest.fixture(scope="module")
def password(node: Node) -> str:
    """Return what root may read."""
    return node.read_file(PASSWORD_FILE).strip()


@pytest.fixture(scope="module")
def archives(node: Node) -> dict[str, str]:
    """Return two images of the ISO as archives on the node."""
    return exported(node)


def exported(node: Node) -> dict[str, str]:
    """Export two images of the ISO; return prefix of their name -> file on the node."""
    found = {}
    for prefix in (PAUSE, DNS):
        name = shell(node, f"{CTR} list --quiet | grep '^{prefix}'").split()[0]
        file = f"/root/{prefix.split('/')[-1].rstrip(':')}.tar"
        shell(node, f"{CTR} export --local --platform linux/amd64 {file} {name}")
        found[prefix] = file
    return found


@pytest.fixture(scope="module")
def in_pod(node: Node) -> str:
    """Return what enters the network of a pod."""
    image = shell(node, f"{CTR} list --quiet | grep '^{PAUSE}'").split()[0]
    shell(node, f"{KUBECTL} run client --image={image} --image-pull-policy=Never --restart=Never")
    shell(node, f"{KUBECTL} wait pod client --for=condition=Ready --timeout=60s", timeout_s=90)
    script = "crictl inspect $(crictl ps --quiet --state running --name '^client$')"
    return f"nsenter --target {json.loads(shell(node, script))['info']['pid']} --net "


def asked(
    node: Node, path: str, *, where: str = PUSH, options: str = "", inside: str = "", tls: str = "https"
) -> int:
    """Ask with curl and return the status; 0: there was no answer."""
    words = f"{inside}curl --silent --path-as-is --cacert /etc/caisson/ca.crt --output /dev/null"
    return int(shell(node, f"{words} --write-out '%{{http_code}}' {options} '{tls}://{where}{path}' || true"))


def with_login(password: str) -> str:
    """Return the options of curl for a log-in."""
    return f"--user 'caisson:{password}'"


UPLOADS = "/v2/vendor/app/blobs/uploads/"


def test_each_is_refused_with_its_status(node: Node, host: Neighbour, password: str, in_pod: str) -> None:
    login, post = with_login(password), "--request POST"
    assert asked(node, UPLOADS, options=post) == 401
    assert asked(node, UPLOADS, options=f"{post} {with_login('wrong')}") == 401
    assert asked(node, UPLOADS, options=f"{post} {login}") == 202
    for options in (post, f"{post} {login}"):
        assert asked(node, UPLOADS, options=options, inside=in_pod) == 403
    # It goes past nginx, in the network of the node.
    assert asked(node, UPLOADS, options=post, where="127.0.0.1:5000", tls="http") == 401
    for where in (READ, PUSH):
        assert asked(node, "/v2/", where=where, tls="http", options=login) == 400
        assert asked(node, "/v2/", where=where, options="--tls-max 1.1") == 0
        assert asked(node, "/v2/../../etc/caisson/tls/media.key", where=where, options=login) in (400, 404)
        assert asked(node, "/repo/..%2f..%2f..%2fetc/passwd", where=where, options=login) in (400, 404)
    for method in ("DELETE", "PATCH", "POST", "OPTIONS"):
        options = f"{login} --request {method}"
        assert asked(node, "/v2/quay.io/vendor/app/manifests/1", options=options) == 405
    name = shell(node, f"{CTR} list --quiet | grep '^{PAUSE}'").split()[0]
    path = f"/v2/{name.replace(':', '/manifests/')}"
    assert asked(node, path, options=f"{login} --request PUT --data '{{}}'") == 403
    assert asked(node, "/v2/_catalog", where=READ) == asked(node, "/v2/_catalog", options=login) == 404


def test_what_comes_from_a_further_node_is_refused(node: Node, host: Neighbour, password: str) -> None:
    """The neighbour is one, as long as there is the file that an addition makes: nothing is started again for it."""
    words = ["curl", "--silent", "--insecure", "--output", "/dev/null", "--write-out", "%{http_code}"]
    words += ["--user", f"caisson:{password}", f"https://{PUSH}/v2/"]
    assert host.run(words).stdout == "200"
    shell(node, f"touch /etc/caisson/nginx/nodes/{host.source}")
    assert host.run(words).stdout == "403"
    shell(node, f"rm /etc/caisson/nginx/nodes/{host.source}")
    assert host.run(words).stdout == "200"


def image_of(node: Node, pod: str) -> str:
    """Return the digest of the configuration of the image that a pod's container was made of."""
    deadline = time.monotonic() + 60
    while True:
        found = [
            entry["imageRef"]
            for entry in json.loads(shell(node, "crictl ps --all --output json"))["containers"]
            if entry["labels"]["io.kubernetes.pod.name"] == pod
        ]
        if found:
            return str(found[0])
        assert time.monotonic() < deadline, shell(node, f"{KUBECTL} describe pod {pod}")
        time.sleep(1)


def configuration_of(node: Node, name: str) -> str:
    """Return the digest of the configuration of what is pulled under a name, asked for as containerd does."""
    registry, _, rest = name.partition("/")
    repository, _, reference = rest.partition(":")
    asking = f"curl --silent --fail --cacert /etc/caisson/ca.crt --header 'Accept: {ACCEPT}'"
    while True:
        url = f"https://{READ}/v2/{repository}/manifests/{reference}?ns={registry}"
        manifest = json.loads(shell(node, f"{asking} '{url}'"))
        if "config" in manifest:
            return str(manifest["config"]["digest"])
        reference = str(manifest["manifests"][0]["digest"])


def test_two_vendors_images_of_one_name_stay_two(node: Node, archives: dict[str, str]) -> None:
    pushed: dict[str, Any] = {}
    for name, prefix in (("quay.io/vendor/app:1", PAUSE), ("docker.io/vendor/app:1", DNS)):
        said = json.loads(
            shell(node, f"caisson images push {archives[prefix]} --as {name} --json", timeout_s=120)
        )
        (pushed[name],) = said["images"]
        assert pushed[name]["name"] == name
    for pod, name in (
        ("quay", "quay.io/vendor/app:1"),
        ("docker", "docker.io/vendor/app:1"),
        ("short", "vendor/app:1"),
    ):
        shell(node, f"{KUBECTL} run {pod} --image={name} --image-pull-policy=Always --restart=Never")
    images = {pod: image_of(node, pod) for pod in ("quay", "docker", "short")}
    assert images["quay"] == configuration_of(node, "quay.io/vendor/app:1")
    assert images["docker"] == images["short"] == configuration_of(node, "docker.io/vendor/app:1")
    assert images["quay"] != images["docker"]
    listed = json.loads(shell(node, "caisson images list --json", timeout_s=120))["images"]
    assert {entry["name"] for entry in listed if entry["origin"] == "site"} == {*pushed}


@pytest.mark.parametrize("name", ["quay.io/vendor/ctr:1", "registry.site__5000/vendor/ctr:1"])
def test_ctr_pushes_and_containerd_pulls_by_tag_and_digest(node: Node, password: str, name: str) -> None:
    image = shell(node, f"{CTR} list --quiet | grep '^{PAUSE}'").split()[0]
    login = f"--user caisson:{password} --tlscacert /etc/caisson/ca.crt"
    shell(node, f"{CTR} push --local --platform linux/amd64 {login} {PUSH}/{name} {image}", timeout_s=120)
    pulled = name.replace("__", ":")
    shell(node, f"crictl pull {pulled}", timeout_s=120)
    digests = json.loads(shell(node, f"crictl inspecti {pulled}"))["status"]["repoDigests"]
    (by_digest,) = [entry for entry in digests if entry.startswith(pulled.rpartition(":")[0])]
    shell(node, f"crictl pull {by_digest}", timeout_s=120)


def test_skopeo_pushes_and_pulls_by_tag_and_digest(
    node: Node, host: Neighbour, password: str, archives: dict[str, str], tmp_path: Path
) -> None:
    certs, auth = tmp_path / "certs", tmp_path / "auth.json"
    certs.mkdir()
    (certs / "ca.crt").write_text(node.read_file("/etc/caisson/ca.crt"))
    pair = base64.b64encode(f"caisson:{password}".encode()).decode()
    auth.write_text(json.dumps({"auths": {PUSH: {"auth": pair}}}))
    source = node.places.root_dir / archives[DNS].lstrip("/")
    skopeo: list[str | Path] = ["skopeo", "--insecure-policy", "copy", "--preserve-digests"]
    pushing = [
        *skopeo,
        "--dest-cert-dir",
        certs,
        f"oci-archive:{source}",
        f"docker://{PUSH}/quay.io/vendor/sk:1",
    ]
    refused = host.run(pushing, check=False, timeout_s=120)
    assert refused.returncode != 0
    assert "authentication required" in refused.stderr or "unauthorized" in refused.stderr
    host.run([*pushing[:4], "--authfile", auth, *pushing[4:]], timeout_s=120)
    reading = [*skopeo, "--src-no-creds", "--src-cert-dir", certs]
    host.run([*reading, f"docker://{READ}/quay.io/vendor/sk:1", f"dir:{tmp_path}/by-tag"], timeout_s=120)
    manifest = (tmp_path / "by-tag/manifest.json").read_bytes()
    inspected: list[str | Path] = ["skopeo", "manifest-digest", tmp_path / "by-tag/manifest.json"]
    digest = host.run(inspected).stdout.strip()
    host.run(
        [*reading, f"docker://{READ}/quay.io/vendor/sk@{digest}", f"dir:{tmp_path}/by-digest"], timeout_s=120
    )
    assert (tmp_path / "by-digest/manifest.json").read_bytes() == manifest


def test_a_damaged_blob_is_named_and_removal_frees_what_nothing_needs(
    node: Node, archives: dict[str, str]
) -> None:
    shell(node, f"caisson images push {archives[PAUSE]} --as quay.io/vendor/damaged:1", timeout_s=120)
    shell(node, "caisson images verify", timeout_s=120)
    file = shell(
        node,
        "find /var/lib/caisson/registry -path '*/blobs/sha256/*' -name data -printf '%s %p\\n' | sort -n | tail -1",
    ).split()[1]
    shell(node, f"cp --preserve {file} /root/blob; printf x | dd of={file} bs=1 seek=100 conv=notrunc")
    verified = node.run(["caisson", "images", "verify", "--json"], check=False, timeout_s=120)
    assert verified.returncode == 21
    (fault,) = json.loads(verified.stdout)["faults"]
    assert fault["digest"].removeprefix("sha256:") in file
    assert fault["images"]
    shell(node, f"cp --preserve /root/blob {file}")
    listed = json.loads(shell(node, "caisson images list --json", timeout_s=120))["images"]
    for entry in listed:
        if entry["origin"] == "site":
            shell(node, f"caisson images remove {entry['name']}", timeout_s=120)
    assert shell(node, "find /var/lib/caisson/registry -path '*/blobs/sha256/*' -name data").strip() == ""
    # What was removed and is pushed again is whole.
    shell(node, f"caisson images push {archives[PAUSE]} --as quay.io/vendor/again:1", timeout_s=120)
    shell(node, "caisson images verify; crictl pull quay.io/vendor/again:1", timeout_s=120)


def test_a_new_password_counts_at_once_and_nothing_starts_again(node: Node, password: str) -> None:
    running = "crictl ps --quiet --name '^(nginx|registry)$' | sort"
    before = shell(node, running)
    shell(node, "caisson images login --rotate")
    assert asked(node, "/v2/", options=with_login(password)) == 401
    assert asked(node, "/v2/", options=with_login(node.read_file(PASSWORD_FILE).strip())) == 200
    path = "/v2/vendor/again/manifests/1?ns=quay.io"
    assert asked(node, path, where=READ, options=f"--header 'Accept: {ACCEPT}'") == 200
    assert shell(node, running) == before


def test_no_secret_is_anywhere_but_in_its_file(node: Node) -> None:
    """Both passwords, and what a header holds of them: logs, journals, pillars, caches, jobs, processes."""
    shown = shell(node, "caisson images login; caisson images login --json")
    script = r"""
    set -e
    push=$(cat /etc/caisson/registry-login/password)
    pair=$(printf 'caisson:%s' "$push" | base64 --wrap 0)
    line=$(sed 's/.*Basic \([^"]*\)".*/\1/' /etc/caisson/nginx/registry-login.conf)
    read=$(printf '%s' "$line" | base64 --decode | cut -d : -f 2)
    printf '%s\n' "$push" "$pair" "$line" "$read" > /dev/shm/secrets
    grep --recursive --files-with-matches --fixed-strings --file /dev/shm/secrets --devices=skip --exclude-dir=rootfs \
      /etc /root /run /srv /tmp /opt /var/cache /var/log /var/lib/caisson /var/tmp 2>/dev/null || true
    journalctl --no-pager | grep --count --fixed-strings --file /dev/shm/secrets || true
    for pod in nginx registry; do crictl logs $(crictl ps --quiet --name "^$pod\$") 2>&1; done |
      grep --count --fixed-strings --file /dev/shm/secrets || true
    cat /proc/[0-9]*/{cmdline,environ} 2>/dev/null |
      grep --text --count --fixed-strings --file /dev/shm/secrets || true
    grep --count --fixed-strings --file /dev/shm/secrets <<< "$SHOWN" || true
    """
    found = shell(node, f"SHOWN=$(cat <<'END'\n{shown}\nEND\n)\n{script}", timeout_s=300).split()
    assert {word for word in found if word.startswith("/")} == SECRET_FILES
    assert [word for word in found if not word.startswith("/")] == ["0", "0", "0", "0"]
    modes = shell(node, f"stat --format '%a %U' {' '.join(SECRET_FILES)} /etc/caisson/registry/htpasswd")
    assert set(modes.splitlines()) == {"600 root"}


# ---- a newer registry -------------------------------------------------------------------

MANIFEST_FILE = "/etc/kubernetes/manifests/registry.yaml"
REPLACED_FILE = "/var/lib/caisson/replaced/registry.yaml"
JOURNAL_FILE = "/var/lib/caisson/journal.jsonl"
BOOTSTRAP = "caisson bootstrap --accept-lab-bundle"
OLDER, NEWER = "0.0.1", "99.0.0"


def again(node: Node, options: str = "") -> str:
    """Run the bootstrap once more and return what it said."""
    return shell(node, f"{BOOTSTRAP} {options} 2>&1", timeout_s=900)


def steps_of(node: Node, phase: str) -> list[str]:
    """Return the steps that the journal has of the last run of a phase."""
    entries = [json.loads(line) for line in shell(node, f"cat {JOURNAL_FILE}").splitlines()]
    ends = [entry for entry in entries if entry["phase"] == phase and entry["event"] == "done"]
    return [str(step) for step in ends[-1].get("steps", [])]


def registry_image(node: Node) -> str:
    """Return the image of the manifest that is in place."""
    return str(yaml.safe_load(node.read_file(MANIFEST_FILE))["spec"]["containers"][0]["image"])


def run_as(node: Node, tag: str) -> str:
    """Let the registry run as another version: the same image under another tag, as its manifest says; return it."""
    pod = yaml.safe_load(node.read_file(MANIFEST_FILE))
    image = str(pod["spec"]["containers"][0]["image"])
    other = f"{image.rpartition(':')[0]}:{tag}"
    shell(node, f"{CTR} tag --force {image} {other}")
    pod["spec"]["containers"][0]["image"] = other
    pod["metadata"]["uid"] = tag.replace(".", "").zfill(32)
    pod["metadata"]["annotations"]["caisson.io/configuration-sha256"] = pod["metadata"]["uid"]
    text = yaml.safe_dump(pod, sort_keys=True)
    shell(
        node,
        f"cat > /etc/kubernetes/.registry <<'END'\n{text}END\nmv /etc/kubernetes/.registry {MANIFEST_FILE}",
    )
    await_registry(node, other)
    return other


def await_registry(node: Node, image: str) -> None:
    """Wait until the registry runs with an image of this name, and answers."""
    deadline = time.monotonic() + 120
    script = "crictl ps --state running --name '^registry$' --output json"
    while True:
        found = json.loads(shell(node, script))["containers"]
        names = [entry["image"].get("userSpecifiedImage") or entry["image"]["image"] for entry in found]
        if image in names and asked(node, "/", where="127.0.0.1:5000", tls="http") == 200:
            return
        assert time.monotonic() < deadline, (names, image)
        time.sleep(1)


def test_a_newer_registry_takes_the_place_of_an_older_one_and_then_it_stays(
    node: Node, archives: dict[str, str]
) -> None:
    """Older -> newer -> same: each step is in the journal, what was pushed is there after, nothing changes again."""
    shell(node, f"caisson images push {archives[PAUSE]} --as quay.io/vendor/kept:1", timeout_s=120)
    ours = registry_image(node)
    older = run_as(node, OLDER)
    said = again(node)
    assert f"registry: {OLDER} is replaced by the media's {ours.rpartition(':')[2]}" in said
    assert registry_image(node) == ours
    steps = steps_of(node, "registry")
    assert [step.partition(": ")[0] for step in steps] == [
        "Import the image of the registry",
        "Remove the manifest of the registry",
        "Wait until the registry is down",
        "Run registry",
        "Wait for the registry",
    ]
    assert "was removed" in steps[1]
    assert "was down after" in steps[2]
    assert shell(node, f"ls {REPLACED_FILE} 2>/dev/null || true") == ""
    shell(node, "crictl pull quay.io/vendor/kept:1; caisson images verify", timeout_s=120)
    same = again(node)
    assert "is left as it is, the media has the same" in same
    assert ", 0 changes" in same
    assert steps_of(node, "registry") == []
    shell(node, f"{CTR} remove {older}")
