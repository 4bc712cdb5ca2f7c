"""The reading process: takes the bytes of `.pt` files, gives back tensors as raw bytes. A program of its own.

Started by `lenses.importers.reading`, which is on the other side of both pipes, and imports nothing of the project. It
is where the bytes of strangers meet an unpickler, so it unpickles nothing but weights (`weights_only=True`), opens no
file (it is sent bytes, and may open none), writes none, and has limits on address space and CPU time; what goes beyond
them ends this process and no other.

On standard input: length as 8 bytes, then so many bytes; again and again. On standard output: length as 4 bytes, a JSON
object of that length, then the bytes of the tensors that it names, one after another. The object is `{"ready": true}`
once, then one of `{"tensors": [[key, dtype, shape], ...]}`, `{"refused": what it asks for}`, `{"unreadable": why}`.
"""

import io
import json
import math
import os
import re
import resource
import struct
import sys
from contextlib import suppress
from typing import Any, BinaryIO

import torch

_ASKS = re.compile(r"GLOBAL ([^\s,]+)|unrecognized (?:function|class) ([^\s,]+)")
_FAULT = re.compile(r"WeightsUnpickler error:\s*([^\n]+)")
_LONGEST = 400
_MOST_TENSORS = 64
_NO_LIMIT = resource.RLIM_INFINITY


def main() -> None:
    """Answer until standard input ends."""
    address_bytes, cpu_s, answer_bytes = map(int, sys.argv[1:])
    questions, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # nothing that a library prints may stand among the answers
    _warm_up()
    _limit(address_bytes)
    _answer(answers, {"ready": True}, [])
    while len(head := questions.read(8)) == 8:
        (length,) = struct.unpack("<Q", head)
        data = questions.read(length)
        used = resource.getrusage(resource.RUSAGE_SELF)
        allowed = math.ceil(used.ru_utime + used.ru_stime) + cpu_s
        resource.setrlimit(resource.RLIMIT_CPU, (allowed, _NO_LIMIT))
        found, tensors = _read(data, answer_bytes)
        _answer(answers, found, tensors)
        del data, tensors


def _warm_up() -> None:
    """Import all that reading imports late, since no file can be opened later."""
    for zipped in (True, False):
        file = io.BytesIO()
        torch.save(
            {"net.0.weight": torch.zeros(2, 2, dtype=torch.bfloat16)},
            file,
            _use_new_zipfile_serialization=zipped,
        )
        _read(file.getvalue(), 1 << 20)
    _read(b"no pickle", 1 << 20)


def _limit(address_bytes: int) -> None:
    limits = [("RLIMIT_FSIZE", 0), ("RLIMIT_CORE", 0), ("RLIMIT_NPROC", 0), ("RLIMIT_NOFILE", 0)]
    with suppress(OSError), open("/proc/self/statm", "rb") as file:
        mapped_bytes = int(file.read().split()[0]) * resource.getpagesize()
        limits.append(("RLIMIT_AS", mapped_bytes + address_bytes))
    for name, most in limits:
        with suppress(AttributeError, ValueError, OSError):  # not every system has or allows each
            resource.setrlimit(getattr(resource, name), (most, most))


def _read(data: bytes, answer_bytes: int) -> tuple[dict[str, Any], list[torch.Tensor]]:
    try:
        found = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        return _flat(found, answer_bytes)
    except Exception as error:  # any that there is: what it says goes to whoever sent the bytes
        said = str(error)
        asks = _ASKS.search(said)
        if asks is not None:
            return {"refused": (asks[1] or asks[2])[:_LONGEST]}, []
        fault = _FAULT.search(said)
        first = fault[1] if fault else (said.strip().splitlines() or [""])[0]
        return {"unreadable": f"no readable state dict ({type(error).__name__}: {first})"[:_LONGEST]}, []


def _flat(found: Any, answer_bytes: int) -> tuple[dict[str, Any], list[torch.Tensor]]:
    """The tensors of a state dict, each as its bytes."""
    if not isinstance(found, dict):
        return {"unreadable": f"holds {type(found).__name__}, expected a state dict"}, []
    if len(found) > _MOST_TENSORS:
        return {"unreadable": f"holds {len(found)} entries, expected the tensors of one lens"}, []
    size_bytes = 0
    for key, value in found.items():
        if not isinstance(key, str) or not isinstance(value, torch.Tensor):
            kind = type(value).__name__
            return {
                "unreadable": f"holds {kind} as {key!r}, expected tensors alone: a state dict"[:_LONGEST]
            }, []
        if value.layout != torch.strided or value.is_meta or value.is_quantized:
            return {"unreadable": f"{key!r} is no dense tensor"[:_LONGEST]}, []
        size_bytes += value.numel() * value.element_size()
    if size_bytes > answer_bytes:
        return {"unreadable": f"holds {size_bytes} bytes of tensors, at most {answer_bytes} are read"}, []
    named = [
        [key[:_LONGEST], str(value.dtype).removeprefix("torch."), list(value.shape)]
        for key, value in found.items()
    ]
    flat = [value.detach().contiguous().reshape(-1).view(torch.uint8) for value in found.values()]
    return {"tensors": named}, flat


def _answer(answers: BinaryIO, found: dict[str, Any], tensors: list[torch.Tensor]) -> None:
    head = json.dumps(found).encode()
    answers.write(
        b"".join([struct.pack("<I", len(head)), head, *(tensor.numpy().data for tensor in tensors)])
    )
    answers.flush()


if __name__ == "__main__":
    main()
