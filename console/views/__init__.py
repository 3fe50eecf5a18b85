# SPDX-License-Identifier: Apache-2.0
"""Turn what sources said into what templates need: pure functions, one module a page."""
