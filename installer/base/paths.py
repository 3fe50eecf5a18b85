# SPDX-License-Identifier: Apache-2.0
"""Name every path on the host that the installer writes or reads as its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Paths:
    """The installer's files below ``root``; anything but ``/`` is for tests."""

    root: Path = Path("/")

    def at(self, absolute: str) -> Path:
        """Return the place of an absolute path below ``root``.

        >>> Paths(Path("/tmp/x")).at("/etc/hosts")
        PosixPath('/tmp/x/etc/hosts')
        """
        return self.root / absolute.lstrip("/")

    @property
    def config_file(self) -> Path:
        """The configuration that the bootstrap was given, mode 0600."""
        return self.at("/etc/caisson/bootstrap.yaml")

    @property
    def pillar_dir(self) -> Path:
        """The pillar of Salt, JSON text, 0600."""
        return self.at("/etc/caisson/pillar")

    @property
    def dnf_dir(self) -> Path:
        """The configuration of dnf that only Caisson uses."""
        return self.at("/etc/caisson/dnf")

    @property
    def dnf_cache_dir(self) -> Path:
        """The metadata cache of that dnf."""
        return self.at("/var/cache/caisson/dnf")

    @property
    def state_dir(self) -> Path:
        """Everything that must survive a reboot."""
        return self.at("/var/lib/caisson")

    @property
    def installed_file(self) -> Path:
        """Which bundle this host is installed from, noted before its first package."""
        return self.state_dir / "installed.json"

    @property
    def transaction_file(self) -> Path:
        """What was installed when a transaction of packages began, or how it ended."""
        return self.state_dir / "packages.json"

    @property
    def journal_file(self) -> Path:
        """What was begun and what was finished, one JSON object a line."""
        return self.state_dir / "journal.jsonl"

    @property
    def jobs_dir(self) -> Path:
        """The jobs, a directory each: what was asked, its journal, what it said, its result; root's alone."""
        return self.state_dir / "jobs"

    @property
    def log_dir(self) -> Path:
        """The logs: one an operation, commands.log, salt.log (begun again at 10 MiB, four old ones stay), dnf/."""
        return self.at("/var/log/caisson")

    @property
    def lock_file(self) -> Path:
        """The exclusive lock; /run, so that it is gone after a reboot."""
        return self.at("/run/caisson.lock")

    @property
    def running_dir(self) -> Path:
        """The commands that run, one file each; /run, like the lock."""
        return self.at("/run/caisson")

    @property
    def secrets_dir(self) -> Path:
        """Secrets on their way to a job, in memory only; a job reads its own once, and it is deleted."""
        return self.running_dir / "secrets"

    @property
    def codes_dir(self) -> Path:
        """The log-in codes of the console that nobody has used yet, each by its digest; in memory, root's alone."""
        return self.running_dir / "console/codes"

    @property
    def grants_dir(self) -> Path:
        """Sessions of the console that were let in while the API did not answer, each by its digest; in memory."""
        return self.running_dir / "console/grants"

    @property
    def audit_file(self) -> Path:
        """Who logged in to the console, what was started there, what was refused: one JSON object a line."""
        return self.log_dir / "console.jsonl"

    @property
    def known_hosts_file(self) -> Path:
        """The keys of the other hosts, one for each, which somebody has confirmed. Source: sshd(8), SSH_KNOWN_HOSTS."""
        return self.state_dir / "known_hosts"

    @property
    def ssh_dir(self) -> Path:
        """What a connection to another host needs while it lasts; /run, in memory: a password may be in it."""
        return self.at("/run/caisson-ssh")

    @property
    def push_password_file(self) -> Path:
        """The password of whoever pushes to the site's registry; root's alone, in a directory that no pod mounts."""
        return self.at("/etc/caisson/registry-login/password")

    @property
    def read_login_file(self) -> Path:
        """The line of nginx' configuration with which it reads from the registry; root's alone."""
        return self.at("/etc/caisson/nginx/registry-login.conf")

    @property
    def htpasswd_file(self) -> Path:
        """The registry's users, as bcrypt hashes; root's alone."""
        return self.at("/etc/caisson/registry/htpasswd")

    @property
    def barred_nodes_dir(self) -> Path:
        """An empty file for each further node, by its address: nginx takes no push from there."""
        return self.at("/etc/caisson/nginx/nodes")

    @property
    def media_certificate_file(self) -> Path:
        """Caisson's own certificate of nginx, its key (``.key``) beside it; renewed 90 days before its end."""
        return self.at("/etc/caisson/tls/media.crt")

    @property
    def site_certificate_file(self) -> Path:
        """The certificate of nginx that the site brings, its key (``.key``) beside it; served in that one's place."""
        return self.at("/etc/caisson/tls/site.crt")

    @property
    def media_maps_dir(self) -> Path:
        """What ISOs beside the one in use have, as lines of nginx' maps: made by ``caisson media``."""
        return self.at("/etc/caisson/nginx/media")

    @property
    def media_notes_dir(self) -> Path:
        """What each ISO was when it was verified, a file each: the digest of its SHA256SUMS, who signed it."""
        return self.state_dir / "media"

    @property
    def pushes_paused_file(self) -> Path:
        """As long as it is there nginx takes no push: images are removed."""
        return self.at("/etc/caisson/nginx/pushes-paused")

    @property
    def site_images_file(self) -> Path:
        """Which images of the site's own directory or ISO the bootstrap has pushed, and from where."""
        return self.at("/var/lib/caisson/site-images.json")

    @property
    def hosts_file(self) -> Path:
        """The host's table of names; Caisson's two lines are at its end."""
        return self.at("/etc/hosts")

    @property
    def names_file(self) -> Path:
        """What belongs into /etc/hosts; caisson-hosts.service puts it back."""
        return self.at("/etc/caisson/hosts.json")

    @property
    def units_dir(self) -> Path:
        """Where the administrator's systemd units live."""
        return self.at("/etc/systemd/system")

    @property
    def command_file(self) -> Path:
        """The command that works when the media is gone."""
        return self.at("/usr/bin/caisson")

    @property
    def admin_kubeconfig_file(self) -> Path:
        """The administrator's kubeconfig, as kubeadm writes it."""
        return self.at("/etc/kubernetes/admin.conf")

    def media_dir(self, full_version: str) -> Path:
        """Return where the ISO of this version and build is mounted, now and at each boot."""
        return self.at(f"/srv/caisson/{full_version}")

    def self_dir(self, full_version: str) -> Path:
        """Return where the installer of this version and build keeps its own copy."""
        return self.at(f"/opt/caisson/{full_version}")
