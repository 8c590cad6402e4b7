"""The test of the test: test_interleavings.py finds mistakes in maps and what those are made of.

On copies of the headers with one mistake each, the explorer (interleave.c) must find the mistake.
Those in queues have a file of their own, so that two workers share the time.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from mistakes import IN_MAPS, Mistake, expect_found


@pytest.mark.parametrize("mistake", IN_MAPS, ids=str)
def test_the_explorer_finds_a_mistake(mistake: Mistake, tmp_path: Path) -> None:
    expect_found(mistake, tmp_path)
