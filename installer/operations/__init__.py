# SPDX-License-Identifier: Apache-2.0
"""What Caisson does to a host, phase by phase, and what it tells of it."""
