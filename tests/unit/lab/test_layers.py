# SPDX-License-Identifier: Apache-2.0
"""What the measuring of layers makes of its figures; the measuring itself needs nodes."""

from __future__ import annotations

import yaml

from installer.config import bootstrap as config
from lab import layers
from lab.__main__ import _parser
from lab.layers import DISCARDED, KEPT, MEASURES, Figures


def figures() -> Figures:
    made = Figures()
    for number in (1.0, 3.0, 2.0):
        for way, factor in ((KEPT, 2e6), (DISCARDED, 1e6)):
            made.add(
                way,
                {name: number * (factor if name.endswith("_bytes") else factor / 1e6) for name in MEASURES},
            )
    return made


def test_medians_are_shown_by_setting() -> None:
    text = layers.render(figures())
    assert "| /var/lib/containerd, bytes | 4.0 MB | 2.0 MB |" in text
    assert "| bootstrap.sh, seconds | 4.0 | 2.0 |" in text
    assert len(text.splitlines()) == 2 + len(MEASURES)


def test_the_page_says_how_it_was_made() -> None:
    page = layers.render_page(figures(), date="2026-01-02", machine="2 cores")
    assert "2026-01-02, 2 cores; lab nodes on that machine, 3 rounds" in page
    assert layers.render(figures()) in page


def test_each_setting_is_a_configuration_without_faults() -> None:
    for way, is_set in ((KEPT, False), (DISCARDED, True)):
        text = layers.configuration(way)
        assert yaml.safe_load(text)["containerd"] == {"discardUnpackedLayers": is_set}
        assert config.parse(text).discard_unpacked_layers is is_set


def test_the_command_is_there() -> None:
    arguments = _parser().parse_args(["layers", "--iso", "x.iso"])
    assert (arguments.rounds, arguments.do) == (layers.ROUNDS, layers.run_layers)
