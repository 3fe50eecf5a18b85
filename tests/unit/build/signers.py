# SPDX-License-Identifier: Apache-2.0
"""OpenPGP keys made for a test, in a directory of their own. Starts gpg and rpmsign."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from build.base.run import run
from build.inventory.model import PinnedKey


@dataclasses.dataclass(frozen=True)
class Signer:
    """One key: its file for those who verify, and ways to sign with it."""

    home_dir: Path
    fingerprint: str
    key_file: Path

    @property
    def pinned(self) -> PinnedKey:
        return PinnedKey(file=self.key_file, fingerprint=self.fingerprint)

    def sign_detached(self, file: Path) -> Path:
        """Write ``FILE.asc`` beside a file."""
        signature = file.with_name(f"{file.name}.asc")
        signature.unlink(missing_ok=True)
        self.gpg("--armor", "--detach-sign", "--output", str(signature), str(file))
        return signature

    def sign_rpm(self, file: Path, *, time: str | None = None, options: str = "") -> None:
        """Sign an RPM in place; ``time`` is the clock of gpg, ``options`` are more of its options."""
        words = f"--faked-system-time {time}" if time else options
        clock = ["--define", f"_gpg_sign_cmd_extra_args {words}"] if words else []
        run(
            ["rpmsign", "--define", "__gpg /usr/bin/gpg", "--define", f"_gpg_name {self.fingerprint}",
             "--define", f"_gpg_path {self.home_dir}", *clock, "--addsign", file],
            env={"GNUPGHOME": str(self.home_dir)},
        )  # fmt: skip

    def gpg(self, *args: str) -> str:
        return run(["gpg", "--homedir", self.home_dir, "--batch", "--yes", *args]).stdout

    def export(self) -> None:
        self.key_file.write_text(self.gpg("--armor", "--export", self.fingerprint), encoding="ascii")


@contextmanager
def signer(
    directory: Path,
    name: str,
    *,
    expire: str = "never",
    time: str | None = None,
    algorithm: str = "rsa2048",
    options: Sequence[str] = (),
) -> Iterator[Signer]:
    """Make a key; its agent is ended with the block. ``time`` is the clock of gpg, as in 20200101T000000."""
    home_dir = directory / name
    home_dir.mkdir(mode=0o700)
    clock = [] if time is None else ["--faked-system-time", time]
    new = Signer(home_dir, "", directory / f"{name}.asc")
    try:
        new.gpg(*clock, *options, "--passphrase", "", "--quick-gen-key", f"{name} <{name}@example.com>", algorithm,
                "sign", expire)  # fmt: skip
        listing = new.gpg("--with-colons", "--list-keys").splitlines()
        fingerprint = next(line.split(":")[9] for line in listing if line.startswith("fpr"))
        made = dataclasses.replace(new, fingerprint=fingerprint)
        made.export()
        yield made
    finally:
        run(["gpgconf", "--homedir", home_dir, "--kill", "all"], check=False)
