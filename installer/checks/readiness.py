# SPDX-License-Identifier: Apache-2.0
"""Put the preflights together: configuration, facts, media, checks. For command, phase and Salt."""

from __future__ import annotations

from pathlib import Path

from installer.base.paths import Paths
from installer.checks import CHECKS, host, preflight
from installer.config import bootstrap as config
from installer.config import changes, facts, leaf
from installer.config.ports import BOOTSTRAP_ROLE
from installer.media import product


def assess(
    tree_dir: Path, config_file: Path | None, *, paths: Paths | None = None, with_trials: bool = True
) -> preflight.Report:
    """Check this host and change nothing on it.

    ``tree_dir`` is the root of the media, or the installer's own copy of it (``/opt/caisson/VERSION-BUILD``).
    Without a configuration the checks that need one are skipped. ``with_trials=False`` leaves out what is
    tried: within one run it was tried a minute ago.

    Raises:
        ConfigError: the configuration has faults, or does not match the host.
        MediaError: the tree is incomplete.
    """
    loaded, gathered = None, None
    if config_file is not None:
        addresses = facts.read_addresses()
        loaded = config.load(config_file, host_addresses=[address.address for address in addresses])
        gathered = facts.gather(loaded, addresses)
        names = loaded.media_names(str(gathered.control_plane_address))
        installed_file = (paths or Paths()).at(leaf.INSTALLED_FILE)
        leaf.refuse(loaded.media_certificate, names, installed_file=installed_file)
    found, used = product.load(tree_dir), paths or Paths()
    role = str((changes.recorded(used) or {}).get("node", {}).get("role") or BOOTSTRAP_ROLE)
    return assess_known(tree_dir, loaded, gathered, found, paths=used, role=role, with_trials=with_trials)


def assess_known(
    tree_dir: Path,
    loaded: config.Config | None,
    gathered: facts.Facts | None,
    found: product.Product,
    *,
    paths: Paths,
    role: str = BOOTSTRAP_ROLE,
    with_trials: bool = True,
) -> preflight.Report:
    """Check this host with what is known already, as a node of ``role``."""
    view = host.view(config=loaded, facts=gathered, product=found, tree_dir=tree_dir, paths=paths, role=role)
    chosen = [check for check in CHECKS if with_trials or not check.is_trial]
    return preflight.check_host(view, chosen, ignored=loaded.overrides.ignored if loaded is not None else {})
