# SPDX-License-Identifier: Apache-2.0
"""What proves the bundle: the closed world, bills of materials, verification, comparison, measurement."""
