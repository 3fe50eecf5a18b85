# SPDX-License-Identifier: Apache-2.0
"""What people want: inventory, upstream profile and policy, read and checked, as frozen data."""
