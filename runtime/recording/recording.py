"""A recording as a file: one safetensors file, in which nothing is ever unpickled, written and read here alone.

    metadata  phoropter-recording  the version of the format: 1
              json                 what is said of the run, concepts by id and name, words (see `_Texts`)
              sha256               of the json and of every tensor, by name
    tensors   rows                 [R, D] the site's rows of all real tokens, in the host's own dtype, by forward
              call.*, cell.*       what else the host told: a line a call, a cell a token or padding of it
              event.*, score.*, asked.*, met, concept.*    what the monitor said, see `seen`

Reading checks types, shapes, bounds, and the hash: of a file that was cut, changed or made by something else one line
says so, and nothing is shown.

Shapes: R rows, D hidden size, K calls, B sequences and T columns of one call.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from lenses.errors import PackFormatError, RecordingError
from lenses.files import PathLike, local_path, write_atomically
from lenses.store import byte_view, read_torch, tensors_to_bytes
from lenses.text import canonical_json, one_line, quoted, read_json
from runtime.plan import GenerationPlan
from runtime.recording.about import About, Generation
from runtime.recording.calls import Began, Call, Ended, Fed, TokenSequence, sequences_of
from runtime.recording.fields import FieldError, of_json, to_json
from runtime.recording.seen import Seen
from runtime.recording.seen import Texts as SeenTexts
from runtime.recording.words import RecordedTokenizer, Words

MARK, VERSION = "phoropter-recording", 1
SUFFIX = ".safetensors"

_ADVICE = "record the run again, or copy the file again from where it was whole"
_BEGAN, _FED, _ENDED, _RAISED = range(4)
"""Kinds of call; `_RAISED` is an end without sequences."""
_ROWS = (torch.bfloat16, torch.float16, torch.float32, torch.float64)
_I64, _I32, _F64, _F32, _U8 = torch.int64, torch.int32, torch.float64, torch.float32, torch.uint8
_DTYPES = {
    "call.kind": _U8,
    "call.sequences": _I64,
    "call.columns": _I64,
    "call.begins": _U8,
    "call.has_rows": _U8,
    "cell.token": _I64,
    "cell.mask": _U8,
    **{
        f"event.{name}": _I64
        for name in (
            *("sequence", "position", "phase", "token", "next_token", "state"),
            *("expected", "scored", "pending", "failed", "cut", "hot", "warm", "cold", "revision"),
        )
    },
    "event.lens_ms": _F64,
    "event.at_ms": _F64,
    "event.has_asked": _U8,
    "score.begin": _I64,
    "score.concept": _I32,
    "score.logit": _F32,
    "asked.logit": _F32,
    "met": _I64,
    "concept.slope": _F32,
    "concept.offset": _F32,
}
"""Every tensor but the rows."""


@dataclass(frozen=True, slots=True)
class _Texts:
    """The json of a recording."""

    about: About
    seen: SeenTexts
    words: Words


@dataclass(frozen=True)
class Recording:
    """One run: what the host told, what the monitor said, and what is said of both."""

    about: About
    calls: tuple[Call, ...]
    seen: Seen
    words: Words

    @cached_property
    def tokenizer(self) -> RecordedTokenizer:
        """Spells the run's tokens as the host's tokenizer did."""
        return RecordedTokenizer(self.words)

    @cached_property
    def sequences(self) -> list[TokenSequence]:
        """The tokens of each sequence."""
        return sequences_of(self.calls)

    def __str__(self) -> str:
        count, tokens = len(self.sequences), sum(len(sequence.tokens) for sequence in self.sequences)
        return f"{count} sequence{'' if count == 1 else 's'}, {tokens:,} tokens"

    def to_bytes(self) -> bytes:
        """The file."""
        texts = {
            "about": to_json(self.about),
            "seen": self.seen.texts(),
            "words": to_json(self.words),
        }
        text = canonical_json(texts).decode("utf-8")
        arrays = _call_arrays(self.calls) | self.seen.tensors()
        tensors = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}
        tensors["rows"] = _all_rows(self.calls, self.about.host.hidden_size, self.about.host.dtype)
        metadata = {MARK: str(VERSION), "json": text, "sha256": _sha256(text, tensors)}
        return tensors_to_bytes(tensors, metadata)

    def save(self, path: PathLike) -> None:
        """Write the file, whole or not at all; raises WriteError."""
        write_atomically(local_path(path), self.to_bytes())

    @classmethod
    def load(cls, path: PathLike) -> Self:
        """Read a file and check all of it; raises RecordingError."""
        source = one_line(path)
        tensors, texts = _read(local_path(path), source)
        try:
            rows = tensors.pop("rows")
            arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
            about = texts.about
            calls = _calls(arrays, rows, about.generations)
            seen = Seen.read(arrays, texts.seen, about.config.rules)
            _require(rows.shape[1] == about.host.hidden_size, "its rows are not of the host's hidden size")
            _require(str(rows.dtype) == f"torch.{about.host.dtype}", "its rows are not of the host's type")
        except ValueError as error:
            raise RecordingError(f"{source}: no recording that holds together: {error}; {_ADVICE}") from error
        return cls(about, calls, seen, texts.words)


def _read(path: Path, source: str) -> tuple[dict[str, torch.Tensor], _Texts]:
    """The tensors and texts of a file, of the types that they are to have."""
    if not path.is_file():
        found = "it is no regular file" if path.exists() else "there is no such file"
        raise RecordingError(f"cannot read {source}: {found}; give a file that phoropter record has written")
    try:
        tensors, metadata = read_torch(path)
    except OSError as error:
        found = one_line(error.strerror or error)
        raise RecordingError(f"cannot read {source}: {found}; check the disk and its permissions") from error
    except ValueError as error:
        raise RecordingError(
            f"{source}: no safetensors file, or one that was cut short ({one_line(error)}); {_ADVICE}"
        ) from error
    version = metadata.get(MARK)
    if version is None:
        raise RecordingError(
            f"{source}: a safetensors file, but no recording; give a file that phoropter record has written"
        )
    if version != str(VERSION):
        raise RecordingError(
            f"{source}: a recording of version {quoted(version)}, this phoropter reads {VERSION}; use the one that "
            "wrote it"
        )
    text = metadata.get("json", "")
    if metadata.get("sha256") != _sha256(text, tensors):
        raise RecordingError(
            f"{source}: not the bytes that were written, their sha256 differs from the file's own; {_ADVICE}"
        )
    _check_types(tensors, source)
    try:
        return tensors, of_json(_Texts, read_json(text.encode("utf-8", "surrogatepass"), source), "json")
    except PackFormatError as error:
        found = str(error).partition("; ")[0]
        raise RecordingError(f"{found}; {_ADVICE}") from error
    except FieldError as error:
        raise RecordingError(f"{source}: {error}; {_ADVICE}") from error


def _check_types(tensors: Mapping[str, torch.Tensor], source: str) -> None:
    if tensors.keys() != _DTYPES.keys() | {"rows"}:
        odd = min(tensors.keys() ^ (_DTYPES.keys() | {"rows"}))
        what = "has a tensor" if odd in tensors else "lacks the tensor"
        raise RecordingError(f"{source}: {what} {quoted(odd)}; {_ADVICE}")
    for name, tensor in tensors.items():
        dtypes = _ROWS if name == "rows" else (_DTYPES[name],)
        dimensions = 2 if name in ("rows", "met", "asked.logit") else 1
        if tensor.dtype not in dtypes or tensor.ndim != dimensions:
            expected = " or ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
            raise RecordingError(
                f"{source}: tensor {name} is {str(tensor.dtype).removeprefix('torch.')} of {tensor.ndim} dimensions, "
                f"expected {expected} of {dimensions}; {_ADVICE}"
            )


def _sha256(text: str, tensors: Mapping[str, torch.Tensor]) -> str:
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass"))
    for name, tensor in sorted(tensors.items()):
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        if tensor.numel():  # what is empty has no stride to be viewed by
            digest.update(byte_view(tensor.contiguous().view(-1).view(torch.uint8)))
    return digest.hexdigest()


# Calls as arrays: a cell for every token or padding that a call has, in order.


def _call_arrays(calls: Sequence[Call]) -> dict[str, np.ndarray[Any, Any]]:
    lines = [_line(call) for call in calls]
    cells = [tokens for _, tokens in lines]
    masks = [call.mask_BT.ravel() for call in calls if isinstance(call, Fed)]
    columns = np.array([line for line, _ in lines], np.int64).reshape(-1, 5).T
    names = "kind", "sequences", "columns", "begins", "has_rows"
    return {
        **{
            f"call.{name}": column.astype(np.int64 if name in ("sequences", "columns") else np.uint8)
            for name, column in zip(names, columns, strict=True)
        },
        "cell.token": np.concatenate([np.empty(0, np.int64), *(of.ravel() for of in cells)]),
        "cell.mask": np.concatenate([np.empty(0, np.uint8), *(mask.astype(np.uint8) for mask in masks)]),
    }


def _line(call: Call) -> tuple[tuple[int, int, int, bool, bool], np.ndarray[Any, Any]]:
    match call:
        case Began(plan):
            return (_BEGAN, *_shape(plan.prompt_BT), False, False), plan.prompt_BT
        case Fed(token_BT, _, begins, rows_RD):
            return (_FED, *_shape(token_BT), begins, rows_RD is not None), token_BT
        case Ended(None):
            return (_RAISED, 0, 0, False, False), np.empty((0, 0), np.int64)
        case Ended(sequences_BT):
            assert sequences_BT is not None
            return (_ENDED, *_shape(sequences_BT), False, False), sequences_BT


def _shape(of: np.ndarray[Any, Any]) -> tuple[int, int]:
    sequences, columns = of.shape
    return sequences, columns


def _all_rows(calls: Sequence[Call], hidden_size: int, dtype: str) -> torch.Tensor:
    rows = [call.rows_RD for call in calls if isinstance(call, Fed) and call.rows_RD is not None]
    return torch.cat([torch.empty(0, hidden_size, dtype=getattr(torch, dtype)), *rows])


def _calls(
    arrays: Mapping[str, np.ndarray[Any, Any]], rows: torch.Tensor, generations: Sequence[Generation]
) -> tuple[Call, ...]:
    """The calls of their arrays; raises ValueError."""
    names = "kind", "sequences", "columns", "begins", "has_rows"
    lines = [arrays[f"call.{name}"] for name in names]
    _require(len({len(line) for line in lines}) == 1, "its calls have gaps")
    token, mask = arrays["cell.token"], arrays["cell.mask"]
    _require(bool((token >= 0).all()) and bool((mask <= 1).all()), "a token or mask of it cannot be")
    plans, cells, masks, rows_left = (
        list(generations),
        _Cursor(token),
        _Cursor(mask.astype(np.bool_)),
        _Cursor(rows),
    )
    calls: list[Call] = []
    running = 0
    for kind, sequences, columns, begins, has_rows in zip(*(line.tolist() for line in lines), strict=True):
        _require(0 <= sequences < 2**31 and 0 <= columns < 2**31, "a call has a shape that cannot be")
        shape = sequences, columns
        if kind == _RAISED:
            calls.append(Ended(None))
            continue
        token_BT = cells.take(sequences * columns).reshape(shape)
        if kind == _BEGAN:
            _require(bool(plans), "it has fewer plans than generations")
            plan = plans.pop(0)
            calls.append(Began(GenerationPlan(token_BT, plan.eos_ids, plan.pads, plan.settings)))
        elif kind == _FED:
            _require(
                sequences and columns and (begins or sequences == running), "a forward of it follows no other"
            )
            running = sequences
            mask_BT = masks.take(sequences * columns).reshape(shape)
            calls.append(
                Fed(token_BT, mask_BT, bool(begins), rows_left.take(int(mask_BT.sum())) if has_rows else None)
            )
        else:
            _require(kind == _ENDED, "it has a call of no kind")
            calls.append(Ended(token_BT))
    _require(
        cells.is_empty and masks.is_empty and rows_left.is_empty and not plans,
        "it has more than its calls say",
    )
    return tuple(calls)


class _Cursor:
    """An array that is taken piece by piece."""

    def __init__(self, of: Any) -> None:
        self._of, self._at = of, 0

    def take(self, count: int) -> Any:
        piece = self._of[self._at : self._at + count]
        _require(len(piece) == count, "it has less than its calls say")
        self._at += count
        return piece

    @property
    def is_empty(self) -> bool:
        return self._at == len(self._of)


def _require(holds: object, otherwise: str) -> None:
    if not holds:
        raise ValueError(otherwise)
