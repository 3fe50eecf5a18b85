# SPDX-License-Identifier: Apache-2.0
"""The only doors to the network, and what vouches for the bytes that come through them."""
