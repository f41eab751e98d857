"""Fixtures that several test files use."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data and reference results, which no copy of the project carries."""
    folder = Path(os.environ.get("XSTILTS_SHARED") or Path(__file__).parents[2] / "shared")
    if not folder.is_dir():
        pytest.skip("needs the shared reference data (set XSTILTS_SHARED)")
    return folder
