# SPDX-License-Identifier: Apache-2.0
"""Every page by axe (WCAG 2.2 A and AA), light and dark, full, empty, failed, without the API; and at every width."""

from __future__ import annotations

import pytest

from tests import browsing
from tests.ui.conftest import Eyes, Look
from tests.unit.console import world as worlds
from tests.unit.console.test_security import PAGES


def faults_of(eyes: Eyes, scheme: str = "light") -> list[str]:
    """Return what axe has found on the page: by every rule, or by those of colours where it was looked at before."""
    eyes.page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    found = browsing.axe_faults(eyes.page, browsing.RULES if scheme == "light" else browsing.COLOURS)
    return [f"{scheme}: {fault}" for fault in found]


def world_of(kind: str) -> worlds.World:
    """Return the world of a kind."""
    return {"empty": worlds.empty, "failed": worlds.failed}.get(kind, worlds.full)()


@pytest.mark.parametrize("kind", ["full", "empty", "failed", "down"])
def test_c10_axe_finds_nothing(look: Look, kind: str) -> None:
    # axe is put into the page as a script: the policy is passed by for it here, and here alone.
    eyes = look(world_of(kind), stands_still=True, bypass_csp=True)
    found: dict[str, list[str]] = {}

    def examine(path: str) -> None:
        eyes.go(path)
        found[path] = [fault for scheme in ("light", "dark") for fault in faults_of(eyes, scheme)]

    examine("/login")
    eyes.log_in()
    if kind == "down":
        for path in ("/nodes", "/pods"):
            eyes.go(path)
        eyes.console.api.stop()
        worlds.api_down(eyes.console.world)
        eyes.console.world.ahead_s += 15
    for path in PAGES:
        examine(path)
    eyes.faults[:] = [line for line in eyes.faults if "404" not in line]  # pages of what is not there yet
    bad = {path: faults for path, faults in found.items() if faults}
    assert not bad, "\n".join(f"{path}: {fault}" for path, faults in bad.items() for fault in faults)


def test_c10_no_page_is_wider_than_the_screen(look: Look) -> None:
    """What is wide scrolls by itself; the page never does. 320 is 1280 at 400 %."""
    eyes = look(worlds.failed(), stands_still=True)
    eyes.log_in()
    for path in PAGES:
        eyes.go(path)
        for width in (320, 768, 1280, 3840):
            eyes.page.set_viewport_size({"width": width, "height": 900})
            fits = "document.documentElement.scrollWidth <= innerWidth"
            assert eyes.page.evaluate(fits), (path, width)


def test_colour_is_never_all_that_tells(look: Look) -> None:
    """Each mark has a word, and a shape of its own where colours are forced."""
    eyes = look(worlds.failed(), forced_colors="active")
    eyes.log_in()
    marks = eyes.page.eval_on_selector_all(".mark", "all => all.map(one => one.textContent.trim())")
    assert marks
    assert all(marks)


def test_the_report_page_prints(look: Look) -> None:
    eyes = look(worlds.failed())
    eyes.log_in()
    eyes.page.emulate_media(media="print")
    assert not eyes.page.is_visible("nav")
    assert eyes.page.is_visible(".faults")
