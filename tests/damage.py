"""Packs on disk, changed: by accident, or by a forger who sets every hash right."""

import hashlib
import json
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from lenses import LensPack
from lenses.errors import PhoropterError

SHARD = "lenses-00001-of-00001.safetensors"


def contents(directory: Path) -> dict[str, bytes]:
    return {p.relative_to(directory).as_posix(): p.read_bytes() for p in directory.rglob("*") if p.is_file()}


def rehash(directory: Path, **changes: object) -> None:
    """Writes the true hashes, and changes, into config.json: what a forger would do."""
    config = json.loads((directory / "config.json").read_text())
    for name in config["sha256"]:
        config["sha256"][name] = hashlib.sha256((directory / name).read_bytes()).hexdigest()
    (directory / "config.json").write_text(json.dumps({**config, **changes}))


def rewrite_tensors(path: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}
    change(tensors)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)


def rewrite_first_layers(pack: LensPack, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    """Changes what the pack's one lens file holds, and sets the hashes of families and files right."""
    rewrite_tensors(pack.path / SHARD, change)
    tensors = load_file(pack.path / SHARD)
    entries = json.loads((pack.path / "families.json").read_text())
    for entry in entries:
        raw = tensors[entry["tensor"]].view(-1).view(torch.uint8)
        entry["sha256"] = hashlib.sha256(raw.numpy()).hexdigest()
    (pack.path / "families.json").write_text(json.dumps(entries))
    rehash(pack.path)


def rewrite_header(path: Path, change: Callable[[dict], object]) -> None:
    raw = path.read_bytes()
    (size,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + size])
    header = change(header) or header
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + raw[8 + size :])


def refused(pack: LensPack, kind: type[PhoropterError], one_line: Callable[..., None], *parts: str) -> None:
    """Opening the pack's directory again fails so, in one line that names a file of it."""
    with pytest.raises(kind) as caught:
        LensPack.from_pretrained(pack.path)
    one_line(caught, str(pack.path), *parts)


def flip_last_byte(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
