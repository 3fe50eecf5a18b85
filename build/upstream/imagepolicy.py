# SPDX-License-Identifier: Apache-2.0
"""Have skopeo judge images by a signature policy, as podman and CRI-O would before they run them.

    policy.json, image by digest --skopeo copy--> accepted, or an error

skopeo judges when it copies, and only then: ``inspect`` never does, nor ``copy --multi-arch index-only``. So each
image is copied, into a scratch directory that shares the layers of the store: only its manifest and its configuration
are asked for. Source: containers-policy.json(5); skopeo-copy(1); tried with skopeo 1.9.3.
"""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path

from build.base.errors import ProfileError, SignatureError
from build.base.run import run
from build.inventory.model import Digest, Endpoint, LockedImage
from build.store.objects import Store
from build.upstream.answers import host_of
from build.upstream.logins import login_name

_LIMIT_S = 120
_TIMEOUT_S = 150
_LAST_LINES = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImagePolicy:
    """A signature policy file; ``digest`` is that of its content."""

    file: Path
    digest: Digest

    @classmethod
    def read(cls, file: Path) -> ImagePolicy:
        """Read the file. Raises: ProfileError when it is not there."""
        try:
            return cls(file=file, digest=Digest.of_file(file))
        except OSError as exc:
            raise ProfileError(
                "the signature policy of the profile cannot be read",
                details=f"{file}: {exc.strerror}",
                resolution="correct 'signature_policy' in the profile; its format: man 5 containers-policy.json",
            ) from exc

    def check(self, image: LockedImage, store: Store, endpoint: Endpoint) -> None:
        """Check that the policy accepts an image, by the name and with the signatures that a place has of it.

        The store must have the image. Raises: SignatureError; CommandError when there is no skopeo.
        """
        with tempfile.TemporaryDirectory(prefix="caisson-policy-") as directory:
            blobs_dir = Path(directory, "blobs")
            (blobs_dir / "sha256").mkdir(parents=True)
            for blob in (image.config, *image.layers):
                link = blobs_dir / "sha256" / blob.digest.hex
                if not link.is_symlink():
                    link.symlink_to(store.path(blob.digest).absolute())
            args = plan_copy(self.file, image, endpoint, blobs_dir, Path(directory, "copy"))
            completed = run(args, timeout_s=_TIMEOUT_S, check=False)
        if completed.returncode != 0:
            raise SignatureError(
                f"image {image.reference}: skopeo does not accept it by the signature policy",
                details="\n".join(
                    [
                        *completed.stderr.strip().splitlines()[-_LAST_LINES:],
                        f"policy {self.file}; {image.platform.digest} from {endpoint.url}",
                    ]
                ),
                resolution="find out why it is not signed as the policy wants, before you change the policy",
            )


def plan_copy(
    policy_file: Path, image: LockedImage, endpoint: Endpoint, blobs_dir: Path, copy_dir: Path
) -> tuple[str, ...]:
    """Return the arguments of skopeo; signatures are read, and not written into the copy."""
    place = login_name(host_of(endpoint.url))
    tls = ("--src-tls-verify=false",) if endpoint.is_plain_http else ()
    return (
        "skopeo", f"--command-timeout={_LIMIT_S}s", "--policy", str(policy_file),
        "--override-os", "linux", "--override-arch", "amd64",
        "copy", "--quiet", "--remove-signatures", *tls, "--dest-shared-blob-dir", str(blobs_dir),
        f"docker://{place}/{endpoint.repository(image.reference)}@{image.platform.digest}", f"oci:{copy_dir}:image",
    )  # fmt: skip
