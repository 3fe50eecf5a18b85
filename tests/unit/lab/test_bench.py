# SPDX-License-Identifier: Apache-2.0
"""What the bench of the installer makes of its figures; the measuring itself needs nodes."""

from __future__ import annotations

import json

from installer.media import dnf
from lab import bench, byhand
from lab.bench import AGAIN, BOOTSTRAP, BY_HAND, PRELOADED, Figures, Turn
from tests.conftest import GoldenCheck


def _answer(*phases: tuple[str, float, bool]) -> str:
    rows = [{"name": name, "seconds": seconds, "has_changed": changed} for name, seconds, changed in phases]
    return json.dumps({"format": 1, "phases": rows, "exit_code": 0})


def _figures() -> Figures:
    figures = Figures()
    for extra_s in (0.0, 4.0, 2.0):
        figures.turns[PRELOADED].append(Turn(30.0, {"kubeadm init": 10.0, "until all is Ready": 20.0}))
        steps_s = {"packages": 6.0 + extra_s, "kubeadm init": 10.0, "until all is Ready": 20.0}
        figures.turns[BY_HAND].append(Turn(36.0 + extra_s, steps_s))
        answer = _answer(("verify-media", 3.0, False), ("install-minion", 8.0 + extra_s, True))
        figures.turns[BOOTSTRAP].append(bench.read_phases(answer, 50.0 + extra_s))
        again = _answer(("verify-media", 3.0, False), ("install-minion", 0.1, False))
        figures.turns[AGAIN].append(bench.read_phases(again, 5.0))
    return figures


def test_what_no_phase_has_of_the_whole_is_its_start_and_end() -> None:
    turn = bench.read_phases(_answer(("one", 2.0, True), ("two", 3.0, False)), 6.5)
    assert turn.steps_s == {"one": 2.0, "two": 3.0, "start and end": 1.5}
    assert (turn.total_s, turn.changes) == (6.5, 1)


def test_medians_are_of_the_whole_and_of_each_step() -> None:
    figures = _figures()
    assert figures.median_s(BY_HAND) == 38.0
    assert figures.step_medians_s(BOOTSTRAP)["install-minion"] == 10.0


def test_a_target_is_met_or_missed_by_the_medians() -> None:
    text = bench.render(_figures())
    assert "| (c) / (b) | 1.37 | <= 1.0 | missed |" in text
    assert "| (c) / (a) | 1.73 | <= 1.7 | missed |" in text
    assert "| the second run | 5.0 s, 0 changes | <= 10 s, 0 changes | met |" in text


def test_one_change_in_one_second_run_misses_its_target() -> None:
    figures = _figures()
    figures.turns[AGAIN][0].changes = 1
    assert "| the second run | 5.0 s, 1 changes | <= 10 s, 0 changes | missed |" in bench.render(figures)


def test_the_page(golden: GoldenCheck) -> None:
    golden("installer-bench.md", bench.render_page(_figures(), date="2026-01-02", machine="2 cores"))


def test_by_hand_waits_for_every_pod_of_the_cluster() -> None:
    def pod(name: str, status: str) -> dict[str, object]:
        return {"metadata": {"name": name}, "status": {"conditions": [{"type": "Ready", "status": status}]}}

    pods = [pod(f"pod-{number}", "True") for number in range(byhand.PODS)]
    assert byhand.unready(pods[1:]) is None
    assert byhand.unready(pods) == []
    assert byhand.unready([*pods[1:], pod("late", "False")]) == ["late"]


def test_by_hand_installs_what_the_bootstrap_installs() -> None:
    assert byhand.PACKAGES == dnf.HOST_PACKAGES
