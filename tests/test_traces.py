"""The graphs that tests keep: `tests.traces`."""

import os
import time
from pathlib import Path

from tests import traces


def test_a_run_beside_other_releases_keeps_its_graphs(tmp_path: Path) -> None:
    """Two environments in one checkout, as the matrix of versions runs them: neither deletes what the other writes."""
    ours, theirs = traces.kept(tmp_path, "ours"), traces.kept(tmp_path, "theirs")
    assert traces.kept(tmp_path, "ours") == ours
    assert ours.is_dir()
    assert theirs.is_dir()


def test_graphs_that_nobody_opens_are_deleted(tmp_path: Path) -> None:
    before = time.time() - traces.UNUSED_AFTER - 60
    for name in ("old", "ours"):
        os.utime(traces.kept(tmp_path, name), (before, before))
    traces.kept(tmp_path, "ours")
    assert [folder.name for folder in tmp_path.iterdir()] == ["ours"]
