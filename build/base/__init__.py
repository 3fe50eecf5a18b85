# SPDX-License-Identifier: Apache-2.0
"""The ground that all wings stand on: errors, programs, progress, steps, documents; nothing of ours below it."""
