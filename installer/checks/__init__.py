# SPDX-License-Identifier: Apache-2.0
"""The checks of a host. Codes are stable: 1xx machine, 2xx network, 3xx disks, 4xx software, 5xx things tried.

Those between hosts are in ``between.py``: 6xx.

The docstring of a check's function is what ``caisson explain CODE`` shows and what the reference page holds.
"""

from __future__ import annotations

from installer.checks.disks import DISKS
from installer.checks.machine import MACHINE
from installer.checks.network import NETWORK
from installer.checks.preflight import Check
from installer.checks.software import SOFTWARE
from installer.checks.tried import TRIALS

CHECKS: tuple[Check, ...] = (*MACHINE, *NETWORK, *DISKS, *SOFTWARE, *TRIALS)
