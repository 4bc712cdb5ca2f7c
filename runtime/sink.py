"""The sink behind `--jsonl`: every event as one line of JSON in a file that appears whole.

The file is written aside, line by line, and takes its name when the `with` ends, after Ctrl-C too (see
`lenses.files`). It knows nothing about how events come about.
"""

import json
from types import TracebackType
from typing import Self

from lenses.errors import ConfigError
from lenses.files import AtomicFile, PathLike
from runtime.alarms import Alarms
from runtime.events import Event


class JsonLines:
    """Writes events to `path`, each with its `show` strongest concepts; a `Sink` to subscribe to a monitor.

    With `alarms` each line holds the concepts that alarm. Of a position that had to wait for families there are two
    lines; `run.revision` says which is which.

        with JsonLines("out.jsonl", show=8) as sink:
            monitor.subscribe(sink)

    Raises WriteError from entering, writing and leaving; after any exception but Ctrl-C no file is left.
    """

    def __init__(self, path: PathLike, *, show: int, alarms: Alarms | None = None) -> None:
        if show < 1:
            raise ConfigError(f"{show} concepts to show are too few; give 1 or more")
        self._file = AtomicFile(path)
        self._show = show
        self._alarms = alarms

    def __enter__(self) -> Self:
        self._file.__enter__()
        return self

    def __call__(self, event: Event) -> None:
        content = event.to_json(self._show)
        if self._alarms is not None:
            content["alarms"] = [
                {"id": score.id, "name": score.concept.name, "probability": round(score.probability, 6)}
                for score in self._alarms.of(event)
            ]
        line = json.dumps(content, ensure_ascii=False, allow_nan=False)
        self._file.write(line + "\n")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.__exit__(kind, error, trace)
