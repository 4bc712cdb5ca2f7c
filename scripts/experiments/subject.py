"""Which host and which pack an experiment is about; knows nothing about what is measured.

By default a synthetic pack of the reference's size (7,947 lenses of 2560-128-64-1), made where it is missing, with a
host of random weights of the same width. With `--quick` the travelling pack and its host. `--pack` names another.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import make_synthetic_pack
import numpy as np
from rich.progress import Progress

from lenses.errors import ConfigError
from lenses.pack import LensPack
from runtime.host import Host, load_host

TRAVELLING = Path("lens_packs/wordnet-mini")
HOST = "random:gemma-3-4b:2"
WORK = Path("runs/experiments")
CHILD_ROOM_BYTES = 320 * 2**20
"""Room for children in the hot tier: about what the default budget leaves beside 269 lenses."""

PROMPTS = (
    "A violin is a musical instrument with four strings that",
    "The dog is a domestic animal. It",
    "An oak is a large tree whose wood is",
    "A king is a ruler of a country, and",
    "Bread is a food made from flour and water. People",
)
"""What a host that learned to write about nouns can go on from."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A pack and the host that it is for."""

    host: Host
    pack: LensPack

    def to_json(self) -> dict[str, object]:
        """What a report says of them."""
        return pack_json(self.pack) | {"host": self.host.id}


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options that say what an experiment is about."""
    parser.add_argument("--pack", type=Path, help="a pack's directory; default: see above")
    parser.add_argument("--host", help="its host; default: the one that travels with it, or that it names")
    parser.add_argument(
        "--work", type=Path, default=WORK, help="where packs and per-lens files are made and kept"
    )


def pack_json(pack: LensPack) -> dict[str, object]:
    """What a report says of a pack, and of the host that it is for."""
    config = pack.config
    return {
        "pack": pack.path.name,
        "pack_identity": pack.identity,
        "synthetic": "synthetic" in config.provenance,
        "host": config.host.id,
        "hidden_size": config.host.hidden_size,
        "lenses": config.concepts,
        "families": config.families,
        "lens": f"{config.lens.kind} {'-'.join(map(str, config.lens.widths))}, {config.lens.dtype}",
        "base_levels": list(config.base_levels),
        "top_k": config.top_k,
        "load_threshold": config.load_threshold,
    }


def open_subject(pack: Path | None, host: str | None, work: Path, progress: Progress) -> Subject:
    """Open a pack with its host; None is the synthetic pack of the reference's size. Raises PhoropterError."""
    opened = synthetic_pack(work, progress) if pack is None else LensPack.from_pretrained(pack)
    task = progress.add_task("host", total=1)
    loaded = load_host(host or opened.host_dir or opened.config.host.id, device="cpu")
    progress.advance(task)
    return Subject(loaded, opened)


def synthetic_pack(
    work: Path, progress: Progress, *, kind: str = "mlp", dtype: str = "bf16", host: str = HOST
) -> LensPack:
    """The synthetic pack of the reference's tree under `work`, made if it is not there (minutes, once)."""
    path = work / f"{host.split(':', 1)[1].replace(':', '-')}-{kind}-{dtype}"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        options = [f"--host={host}", f"--kind={kind}", f"--dtype={dtype}", f"--out={path}"]
        make_synthetic_pack.build(make_synthetic_pack.parse(options), progress)
    return LensPack.from_pretrained(path)


def stored_as_int8(pack: LensPack, work: Path, progress: Progress) -> LensPack:
    """The same lenses in int8, under `work`, made if they are not there; raises ConfigError where they do not fit."""
    path = work / f"{pack.path.name}-as-int8"
    if path.exists():
        found = LensPack.from_pretrained(path)
        if found.config.provenance.get("stored_from") != pack.identity:
            raise ConfigError(f"{path} was made of another pack; remove it, or give another --work")
        return found
    path.parent.mkdir(parents=True, exist_ok=True)
    task = progress.add_task("families in int8", total=pack.config.families)
    return pack.save_as(path, "int8", progress=lambda done: progress.update(task, completed=done))


def pack_files(pack: LensPack) -> list[Path]:
    """All files of a pack but its host's."""
    return sorted(path for path in pack.path.iterdir() if path.is_file())


def lens_bytes(pack: LensPack) -> int:
    """The bytes of one lens that scoring must read, all layers, as the pack holds them."""
    heads = pack.heads
    later = (heads.bias1, heads.weight2, heads.bias2, heads.weight3, heads.bias3, heads.scale1)
    return first_layer_bytes(pack) + sum(int(part[0].nbytes) for part in later if part is not None)


def fp32_lens_bytes(pack: LensPack) -> int:
    """The bytes of the same lens in fp32, as the baseline holds it."""
    heads, lens = pack.heads, pack.config.lens
    later = (heads.bias1, heads.weight2, heads.bias2, heads.weight3, heads.bias3)
    weights = lens.h1 * lens.columns(pack.config.host.hidden_size)
    return 4 * (weights + sum(int(part[0].size) for part in later if part is not None))


def first_layer_bytes(pack: LensPack) -> int:
    """The bytes of one lens's first layer: what is read from disk for it."""
    return pack.family_bytes(0) // pack.hierarchy.families[0].rows


def shared_bytes(pack: LensPack) -> int:
    """The bytes that every scoring reads once: a compact pack's projection."""
    return 0 if pack.heads.projection is None else pack.heads.projection.nbytes


def base_bytes(pack: LensPack, base_levels: Sequence[int]) -> int:
    """The bytes of the base's first layers."""
    return sum(map(pack.family_bytes, pack.hierarchy.base_families(base_levels)))


def beyond(pack: LensPack, base_levels: Sequence[int]) -> list[int]:
    """The families that are not in the base."""
    base = set(pack.hierarchy.base_families(base_levels))
    return [family.index for family in pack.hierarchy.families if family.index not in base]


def smallest_hot_bytes(pack: LensPack, base_levels: Sequence[int]) -> int:
    """The smallest hot budget that works: the base, and the largest family beside it."""
    largest = max(map(pack.family_bytes, beyond(pack, base_levels)), default=0)
    return base_bytes(pack, base_levels) + largest


def roomy_hot_bytes(pack: LensPack, base_levels: Sequence[int]) -> int:
    """A hot budget with the same room for children whatever the base."""
    return max(base_bytes(pack, base_levels) + CHILD_ROOM_BYTES, smallest_hot_bytes(pack, base_levels))


def levels_name(base_levels: Sequence[int]) -> str:
    """`levels 0-2`"""
    return f"levels 0-{base_levels[-1]}" if len(base_levels) > 1 else "level 0"


def families_of(pack: LensPack) -> Callable[[np.ndarray], np.ndarray]:
    """A function from concept indices to the indices of their families, each once."""
    family_N = np.array([concept.family for concept in pack.hierarchy.concepts])
    return lambda concepts: np.unique(family_N[concepts])
