"""Results of a long run kept in a file as soon as they are there, so that a run that was stopped goes on where it was.

A line a result: the question (all that the result depends on, code and libraries aside), its hash, the answer. A line
that a stop cut off is taken out. Knows nothing about what is asked.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lenses.text import canonical_json

Record = dict[str, Any]


class Journal:
    """Answers by question, in a JSONL file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._answers: dict[str, Record] = {}
        if path.exists():
            whole = path.read_bytes()
            lines = whole[: whole.rfind(b"\n") + 1]
            if lines != whole:
                path.write_bytes(lines)
            for line in lines.splitlines():
                kept = json.loads(line)
                self._answers[kept["sha256"]] = kept["answer"]

    def answer(self, question: Mapping[str, object]) -> Record | None:
        """What was kept for this very question; None where nothing was."""
        return self._answers.get(_sha256(question))

    def keep(self, question: Mapping[str, object], answer: Record) -> Record:
        """Write the answer down, and return it."""
        line = {"sha256": _sha256(question), "question": question, "answer": answer}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a") as file:
            file.write(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n")
        self._answers[_sha256(question)] = answer
        return answer


def _sha256(question: Mapping[str, object]) -> str:
    return hashlib.sha256(canonical_json(dict(question))).hexdigest()
