# SPDX-License-Identifier: Apache-2.0
"""Chores of development. A package, or one of the same name among the installed ones would be found first."""
