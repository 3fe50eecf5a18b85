# SPDX-License-Identifier: Apache-2.0
"""Root's side of the console: one request, one answer, one process; docs/reference/door.md says how they look."""
