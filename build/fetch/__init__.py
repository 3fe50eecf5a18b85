# SPDX-License-Identifier: Apache-2.0
"""From the lock to the store: what is locked and nothing else."""
