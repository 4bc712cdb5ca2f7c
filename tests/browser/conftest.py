"""A headless Chromium for these tests, started once a file; they are skipped, with the reason, where there is none."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from chromium import open_chromium

from lenses.errors import ExtraMissing


@pytest.fixture(
    scope="module"
)  # not longer: playwright runs once at a time, and a script that is tested may want it
def browser() -> Iterator[Any]:
    with ExitStack() as stack:
        try:
            opened = stack.enter_context(open_chromium())
        except ExtraMissing as missing:
            pytest.skip(str(missing))
        yield opened
