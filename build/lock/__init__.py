# SPDX-License-Identifier: Apache-2.0
"""From names to digests: the only resolver, and the lock that it writes."""
