# SPDX-License-Identifier: Apache-2.0
"""File capabilities as libcap writes them and as the kernel keeps them."""

from __future__ import annotations

import pytest

from build.bundle.filecaps import encode


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("cap_net_bind_service=ep", "0100000200040000000000000000000000000000"),
        ("= cap_net_bind_service+ep", "0100000200040000000000000000000000000000"),
        ("cap_net_raw=p", "0000000200200000000000000000000000000000"),
        ("CAP_NET_RAW+eip", "0100000200200000002000000000000000000000"),
        ("cap_bpf=ep", "0100000200000000000000008000000000000000"),
        ("cap_net_raw,cap_setuid=ep cap_setuid-ep", "0100000200200000000000000000000000000000"),
        ("all=ep", "01000002ffffffff00000000ff01000000000000"),
        ("cap_net_raw=", ""),
        ("=", ""),
        ("", ""),
    ],
)
def test_what_the_kernel_keeps(text: str, value: str) -> None:
    assert encode(text).hex() == value


@pytest.mark.parametrize(
    "text", ["cap_none=ep", "cap_net_raw", "cap_net_raw=x", "cap_net_raw=ep cap_setuid=p"]
)
def test_what_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"capabilit"):
        encode(text)
