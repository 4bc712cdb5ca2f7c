"""What tests of imports share: facts that no directory of state dicts says, and a pickle that does harm."""

import os
from pathlib import Path
from typing import Any

FACTS = {"site": "resid_post.1", "blocks": 4, "host_dtype": "bf16", "pooling": "token"}


class Hostile:
    """An object whose pickle makes a directory when it is loaded by a reader that trusts it."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)
