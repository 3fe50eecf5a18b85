# SPDX-License-Identifier: Apache-2.0
"""The lab: a miniature upstream and air-gapped nodes, on which the product is run for real.

The lab imports nothing of ``build`` or ``installer`` and neither of them imports the lab: what only the
test machine forces reaches the product through its public configuration.
"""
