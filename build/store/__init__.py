# SPDX-License-Identifier: Apache-2.0
"""What was fetched and what was made, named by digest."""
