"""A headless Chromium, for pictures and tests of the page: the system's, driven by playwright; none is downloaded.

Debian: `apt-get install chromium`. `CHROMIUM` in the environment names another one.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lenses.errors import ExtraMissing
from lenses.text import one_line

if TYPE_CHECKING:
    from playwright.sync_api import Browser

_FLAGS = [
    "--no-sandbox",  # a container's root has no other way
    *("--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_ADVICE = "apt-get install chromium, or name another one in the environment: CHROMIUM=/path/to/chrome"


def find_chromium() -> str:
    """The path of a Chromium that is here; raises ExtraMissing."""
    names = [os.environ["CHROMIUM"]] if "CHROMIUM" in os.environ else _NAMES
    for name in names:
        if path := shutil.which(name):
            return path
    raise ExtraMissing(f"no Chromium here (looked for {one_line(', '.join(names))}): {_ADVICE}")


@contextmanager
def open_chromium() -> "Iterator[Browser]":
    """A browser, closed in the end; raises ExtraMissing without playwright, or a Chromium that starts."""
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError as error:
        raise ExtraMissing("playwright is not installed: pip install '.[dev]' brings it") from error
    path = find_chromium()
    with sync_playwright() as driver:
        try:
            browser = driver.chromium.launch(executable_path=path, headless=True, args=_FLAGS)
        except Error as error:
            why = one_line(error.message.splitlines()[0])
            raise ExtraMissing(f"{one_line(path)} does not start ({why}): {_ADVICE}") from error
        with browser:
            yield browser
