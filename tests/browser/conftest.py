"""A headless Chromium for these tests, started once; they are skipped, with the reason, where there is none.

Debian: `apt-get install chromium`. `CHROMIUM` in the environment names another one.
"""

import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

_FLAGS = [
    "--no-sandbox",  # a container's root has no other way
    *("--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: pip install '.[dev]' brings it"
    )
    named = [os.environ["CHROMIUM"]] if "CHROMIUM" in os.environ else _NAMES
    found = next((path for path in map(shutil.which, named) if path), None)
    if found is None:
        pytest.skip(f"no Chromium here (looked for {', '.join(named)}): apt-get install chromium")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=found, headless=True, args=_FLAGS)
        yield chromium
        chromium.close()
