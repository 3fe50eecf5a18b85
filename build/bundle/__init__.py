# SPDX-License-Identifier: Apache-2.0
"""From the store to the ISO: every part of it, and its assembly, without a network."""
