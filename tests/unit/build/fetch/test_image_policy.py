# SPDX-License-Identifier: Apache-2.0
"""A site's signature policy, judged by the real skopeo with real signatures. Starts skopeo and gpg."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from build.base.errors import ProfileError, SignatureError
from build.fetch.transfer import run_fetch
from build.inventory.model import Lock
from build.lock.lockfile import read_lock
from build.lock.resolve import run_lock
from build.store.objects import Store
from tests.unit.build.fakesite import Site

pytestmark = [pytest.mark.loopback, pytest.mark.subprocess]

ACCEPT = [{"type": "insecureAcceptAnything"}]
REJECT = [{"type": "reject"}]


@pytest.fixture
def site(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    text = site.profile_file.read_text(encoding="utf-8")
    site.profile_file.write_text(text + "signature_policy: policy.json\n", encoding="utf-8")
    return site


def put_policy(site: Site, default: object, **images: object) -> None:
    """Write a policy; ``images`` are rules for images by their last name."""
    scopes = {f"127.0.0.1:{site.upstream.port}/k8s/{name}": rules for name, rules in images.items()}
    policy = {"default": default, "transports": {"docker": scopes}}
    (site.root_dir / "policy.json").write_text(json.dumps(policy), encoding="utf-8")


def lock(site: Site) -> Lock:
    run_lock(site.profile_file, None, site.root_dir / "cache", sources=site.sources)
    return read_lock(site.lock_file)


def fetch(site: Site) -> Store:
    run_fetch(site.profile_file, None, site.root_dir / "store", sources=site.sources)
    return Store(site.root_dir / "store")


def test_a_policy_that_rejects_stops_every_fetch(site: Site) -> None:
    """Also the second, for which everything is in the store; and a policy that changed is asked again."""
    put_policy(site, ACCEPT, pause=REJECT)
    lock(site)
    for _ in range(2):
        with pytest.raises(SignatureError) as caught:
            fetch(site)
        assert caught.value.message.startswith("image registry.k8s.io/pause:3.10: skopeo does not accept it")
        assert "policy.json" in caught.value.details
    put_policy(site, ACCEPT)
    fetch(site)
    put_policy(site, REJECT)
    with pytest.raises(SignatureError):
        fetch(site)


def test_a_policy_that_accepts_costs_no_layers(site: Site) -> None:
    """They come once, into the store; the second fetch asks nothing at all."""
    put_policy(site, ACCEPT)
    made = lock(site)
    site.upstream.seen.clear()
    store = fetch(site)
    for image in made.images:
        for layer in image.layers:
            assert len([seen for seen in site.upstream.seen if str(layer.digest) in seen.path]) == 1
            assert store.verify(layer.digest, layer.size_bytes)
    site.upstream.seen.clear()
    fetch(site)
    assert not site.upstream.seen


def test_a_real_signature_is_looked_for(site: Site, tmp_path: Path) -> None:
    """Signed by gpg, kept where registries.d of the user says: the signed image passes, the other one does not."""
    made = lock(site)
    pause = made.image("pause")
    place = f"127.0.0.1:{site.upstream.port}/k8s/pause"
    signatures_dir = tmp_path / "signatures"
    digest_dir = signatures_dir / "k8s" / f"pause@sha256={pause.platform.digest.hex}"
    digest_dir.mkdir(parents=True)
    manifest = tmp_path / "manifest.json"
    manifest.write_bytes(site.upstream.content[f"/v2/k8s/pause/manifests/{pause.platform.digest}"])
    payload = {
        "critical": {
            "type": "atomic container signature",
            "image": {"docker-manifest-digest": str(pause.platform.digest)},
            "identity": {"docker-reference": f"{place}:3.10"},
        },
        "optional": {},
    }
    command = ["gpg", "--homedir", str(site.key.home_dir), "--batch", "--yes", "--sign"]
    command += ["--output", str(digest_dir / "signature-1")]
    subprocess.run(command, input=json.dumps(payload).encode(), check=True, capture_output=True)
    registries_dir = tmp_path / "home" / ".config" / "containers" / "registries.d"
    registries_dir.mkdir(parents=True)
    (registries_dir / "site.yaml").write_text(
        f"docker:\n  127.0.0.1:{site.upstream.port}:\n    sigstore: {signatures_dir.as_uri()}\n",
        encoding="utf-8",
    )
    signed = [
        {
            "type": "signedBy",
            "keyType": "GPGKeys",
            "keyPath": str(site.key.key_file),
            "signedIdentity": {"type": "matchRepository"},
        }
    ]
    put_policy(site, ACCEPT, pause=signed)
    fetch(site)
    put_policy(site, ACCEPT, pause=signed, old=signed)
    with pytest.raises(SignatureError, match=r"registry\.k8s\.io/old:1"):
        fetch(site)


def test_a_policy_that_is_not_there(site: Site) -> None:
    lock(site)
    with pytest.raises(ProfileError, match="signature policy of the profile cannot be read"):
        fetch(site)
