# SPDX-License-Identifier: Apache-2.0
"""The builder: lock, fetch and build one ISO that holds everything."""
