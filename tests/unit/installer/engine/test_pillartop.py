# SPDX-License-Identifier: Apache-2.0
"""The pillar's top file is one for all nodes: several that are added side by side are all in it."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from installer.base.paths import Paths
from installer.engine import pillartop


def test_nodes_that_are_added_side_by_side_are_all_in_the_top_file(tmp_path: Path) -> None:
    paths = Paths(tmp_path)
    names = [f"node{number}.example" for number in range(2, 42)]
    with ThreadPoolExecutor(8) as pool:
        list(
            pool.map(lambda name: pillartop.write(paths, "node1", {"node": {"name": name, "x": name}}), names)
        )
    top = json.loads((paths.pillar_dir / "top.sls").read_text().partition("\n")[2])
    assert set(top["base"]) == {"node1", *names}
    assert pillartop.read(paths, names[0]) == {"node": {"name": names[0], "x": names[0]}}
    assert pillartop.read(paths, "node99") == {}
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda name: pillartop.forget(paths, "node1", name), names))
    top = json.loads((paths.pillar_dir / "top.sls").read_text().partition("\n")[2])
    assert set(top["base"]) == {"node1"}
