# SPDX-License-Identifier: Apache-2.0
"""Take the pictures of the guide; ``--update-goldens`` writes them into ``docs/pictures``, to be looked at."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.ui.conftest import Look
from tests.unit.console import world as worlds

PICTURES_DIR = Path(__file__).parents[2] / "docs" / "pictures"
#: Name -> world, colours, page.
PICTURES = {
    "console-overview": ("failed", "light", "/"),
    "console-api-down": ("down", "dark", "/"),
    "console-job": ("full", "light", f"/jobs/{worlds.JOB}"),
    "console-add-a-host": ("full", "light", f"/hosts/add/{worlds.LOOK}"),
}
MOST_BYTES = 200_000


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_of_the_guide(look: Look, name: str, request: pytest.FixtureRequest) -> None:
    kind, scheme, path = PICTURES[name]
    world = worlds.failed() if kind == "failed" else worlds.full()
    eyes = look(world, stands_still=True, color_scheme=scheme, viewport={"width": 1280, "height": 800})
    eyes.log_in()
    if kind == "down":
        eyes.console.api.stop()
        worlds.api_down(world)
        world.ahead_s += 12
    eyes.go(path)
    picture = eyes.page.screenshot()
    assert 10_000 < len(picture) <= MOST_BYTES
    file = PICTURES_DIR / f"{name}.png"
    if request.config.getoption("--update-goldens"):
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(picture)
    assert file.is_file(), (
        "run: .venv/bin/pytest tests/ui/test_pictures.py --update-goldens, then look at them"
    )
