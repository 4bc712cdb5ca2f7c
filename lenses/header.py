"""The header of a safetensors file, read and checked by us before anything trusts it.

The library accepts headers of 100 MB, any number of tensors, a key twice, and names like `../x`; a pack from
a stranger may hold any of these. This file knows the container only: a length, a JSON object, and bytes. What
the tensors mean, and which must be there, is the pack's business.
"""

import math
import os
import re
import struct
from dataclasses import dataclass
from typing import Any

from lenses.errors import PackFormatError, PackIntegrityError
from lenses.text import one_line, quoted, read_json

MAX_HEADER_BYTES = 8_000_000
MAX_TENSORS = 100_000
ITEM_BYTES = {"BF16": 2, "F32": 4, "I8": 1, "U8": 1}
"""The types that a pack may hold, and their sizes."""

_NAME = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*")
_ADVICE = "fetch the pack again"


@dataclass(frozen=True, slots=True)
class TensorSpan:
    """One tensor of a file: its type, shape, and where its bytes are, counted from the start of the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


def read_header(descriptor: int, source: str) -> tuple[TensorSpan, ...]:
    """The tensors of an open safetensors file, in the order of their bytes.

    Raises PackFormatError for a header that the format or our limits do not allow, and PackIntegrityError for
    a file that is not exactly as long as its header says; messages begin with `source`.
    """
    file_bytes = os.fstat(descriptor).st_size
    head = os.pread(descriptor, 8, 0)
    if len(head) < 8:
        raise PackIntegrityError(
            f"{source}: {file_bytes} bytes are no safetensors file, it is truncated; {_ADVICE}"
        )
    (header_bytes,) = struct.unpack("<Q", head)
    if header_bytes > MAX_HEADER_BYTES:
        raise PackFormatError(
            f"{source}: the header is {header_bytes} bytes long, at most {MAX_HEADER_BYTES} are allowed; "
            "do not use this pack, fetch it from a source you trust"
        )
    if 8 + header_bytes > file_bytes:
        raise PackIntegrityError(
            f"{source}: truncated, {file_bytes} bytes where the header alone takes {8 + header_bytes}; "
            f"{_ADVICE}"
        )
    raw = os.pread(descriptor, header_bytes, 8)
    value = read_json(raw, f"{source}: header")
    if not isinstance(value, dict):
        raise PackFormatError(f"{source}: the header is no JSON object; {_ADVICE}")
    _check_metadata(value.pop("__metadata__", {}), source)
    if len(value) > MAX_TENSORS:
        raise PackFormatError(
            f"{source}: the header names {len(value)} tensors, at most {MAX_TENSORS} are allowed; "
            "do not use this pack, fetch it from a source you trust"
        )
    spans = [_span(name, item, 8 + header_bytes, source) for name, item in value.items()]
    spans.sort(key=lambda span: (span.start, span.stop))
    _check_cover(spans, 8 + header_bytes, file_bytes, source)
    return tuple(spans)


def _check_metadata(value: Any, source: str) -> None:
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise PackFormatError(f"{source}: __metadata__ must map text to text; {_ADVICE}")


def _span(name: str, item: Any, data_start: int, source: str) -> TensorSpan:
    if not _NAME.fullmatch(name):
        raise PackFormatError(
            f"{source}: {quoted(name)} is no name of a tensor of a pack; do not use this pack, fetch it from "
            "a source you trust"
        )
    if not isinstance(item, dict) or item.keys() != {"dtype", "shape", "data_offsets"}:
        raise PackFormatError(f"{source}: tensor {name} must have dtype, shape and data_offsets; {_ADVICE}")
    dtype, shape, offsets = item["dtype"], item["shape"], item["data_offsets"]
    if dtype not in tuple(ITEM_BYTES):  # a tuple: what came from JSON may be unhashable
        raise PackFormatError(
            f"{source}: tensor {name} has dtype {quoted(dtype)}, expected one of {', '.join(ITEM_BYTES)}; "
            f"{_ADVICE}"
        )
    if not _counts(shape) or not _counts(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise PackFormatError(
            f"{source}: tensor {name} has shape {one_line(shape)} and offsets {one_line(offsets)}, expected "
            f"whole numbers and a start before the end; {_ADVICE}"
        )
    if math.prod(shape) * ITEM_BYTES[dtype] != offsets[1] - offsets[0]:
        raise PackFormatError(
            f"{source}: tensor {name} takes {offsets[1] - offsets[0]} bytes, its shape {one_line(shape)} of "
            f"{dtype} takes {math.prod(shape) * ITEM_BYTES[dtype]}; {_ADVICE}"
        )
    return TensorSpan(name, dtype, tuple(shape), data_start + offsets[0], data_start + offsets[1])


def _counts(value: Any) -> bool:
    """Whether `value` is a short list of sizes; below 2**53, so that no product or sum can run away."""
    return (
        isinstance(value, list) and len(value) <= 8 and all(type(n) is int and 0 <= n < 2**53 for n in value)
    )


def _check_cover(spans: list[TensorSpan], data_start: int, file_bytes: int, source: str) -> None:
    """Tensors must follow each other without overlap or hole, up to the last byte of the file."""
    stop = data_start
    for span in spans:
        if span.start != stop:
            what = "overlaps the one before it" if span.start < stop else "leaves a hole before it"
            raise PackFormatError(f"{source}: tensor {span.name} {what}; {_ADVICE}")
        stop = span.stop
    if stop > file_bytes:
        raise PackIntegrityError(
            f"{source}: truncated, {file_bytes} bytes where the header promises {stop}; {_ADVICE}"
        )
    if stop < file_bytes:
        raise PackIntegrityError(
            f"{source}: {file_bytes} bytes where the header promises {stop}: something was appended; "
            f"{_ADVICE}"
        )
