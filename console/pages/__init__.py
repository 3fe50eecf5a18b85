# SPDX-License-Identifier: Apache-2.0
"""Answer requests: each page asks its sources, hands what they said to a view, and the view's words to a template."""
