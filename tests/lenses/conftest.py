"""What the tests of `lenses` share."""

from collections.abc import Callable

import pytest

from lenses.errors import PhoropterError


@pytest.fixture
def one_line() -> Callable[..., None]:
    """Checks that a caught error is one line that holds each of the given parts."""

    def check(caught: pytest.ExceptionInfo[PhoropterError], *parts: str) -> None:
        message = str(caught.value)
        assert len(message.splitlines()) == 1, message
        for part in parts:
            assert part in message, f"{part!r} is not in: {message}"

    return check
