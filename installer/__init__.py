# SPDX-License-Identifier: Apache-2.0
"""Install a Kubernetes cluster from Caisson's media, on a host without internet access.

Runs on the target's own Python (3.9 or newer) with the standard library and the pure-Python packages
in ``vendor/``. Imports nothing of ``build/``.
"""
