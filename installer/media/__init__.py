# SPDX-License-Identifier: Apache-2.0
"""What is on the ISO, how it is trusted, and how packages are installed from it."""
