# SPDX-License-Identifier: Apache-2.0
"""What runs an operation: its context, its journal, its lock, and the way to Salt."""
