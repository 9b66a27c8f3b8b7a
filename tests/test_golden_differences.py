"""What the generator of golden models says of a case that it makes anew."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from golden.generate.differences import differences


def test_what_changed_is_said_and_nothing_else(tmp_path: Path) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    rows = np.ones((3, 2), np.float32)
    for home in (before, after):
        home.mkdir()
        np.save(home / "same.npy", rows)
        np.save(home / "moved.npy", rows)
        np.save(home / "wider.npy", rows)
        (home / "case.json").write_text("{}")
    assert not list(differences(before, after))
    rows[1, 0] += 0.5
    np.save(after / "moved.npy", rows)
    np.save(after / "wider.npy", np.ones((3, 4), np.float32))
    (after / "case.json").write_text("{} ")
    (before / "old.txt").write_text("")
    (after / "new.txt").write_text("")
    assert list(differences(before, after)) == [
        "case.json has other content",
        "moved.npy differs in 1 of 3 rows, by 0.5 at most",
        "new.txt is new",
        "old.txt is gone",
        "wider.npy was float32 (3, 2), is float32 (3, 4)",
    ]
    assert all(line.endswith("is new") for line in differences(tmp_path / "nowhere", after))
