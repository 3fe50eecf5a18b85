# SPDX-License-Identifier: Apache-2.0
"""The console: a small web server on each control plane, without a right on the host or in the cluster."""
