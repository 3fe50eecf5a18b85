# SPDX-License-Identifier: Apache-2.0
"""The ground that all wings stand on: errors, commands, files, documents; nothing of ours below it."""
