"""What a lens pack says about itself: `config.json` as frozen dataclasses, checked field by field.

It knows nothing about files on disk. The bytes of a configuration are canonical (sorted keys), so the
identity of a pack is the sha256 of them; the hashes of all data files are inside, and so in the identity.
"""

import dataclasses
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Literal, NoReturn, Self, TypeVar, get_args

from lenses.errors import ConfigError, PackFormatError
from lenses.text import canonical_json, is_plain, one_line, quoted, read_json

FORMAT = "phoropter-lens-pack"
VERSION = 1
CONFIG, CARD = "config.json", "README.md"
CONCEPTS, FAMILIES, HEADS = "concepts.jsonl", "families.json", "heads.safetensors"
HOST = "host"

LensKind = Literal["mlp", "linear", "compact"]
StoredDtype = Literal["bf16", "fp32", "int8"]

_SITE = re.compile(r"resid_post\.(0|[1-9]\d{0,4})")
_POOLING = re.compile(r"token|mean|(?:ema|ewm):(0?\.\d{1,9})")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_MOST = 2**40  # any count beyond is damage, and safe from overflow below it


@dataclass(frozen=True, slots=True)
class HostConfig:
    """The language model that the lenses were trained on."""

    id: str
    """Its hub id, or the name of a model that travels with the pack."""
    revision: str | None
    """The commit of the hub repository; None where there is none."""
    hidden_size: int
    """D"""
    blocks: int
    dtype: str
    """What the states were computed in: `bf16`, `fp32` or `fp16`."""

    def __post_init__(self) -> None:
        _text("host.id", self.id)
        if self.revision is not None:
            _text("host.revision", self.revision)
        _count("host.hidden_size", self.hidden_size)
        _count("host.blocks", self.blocks)
        _choice("host.dtype", self.dtype, ("bf16", "fp32", "fp16"))


@dataclass(frozen=True, slots=True)
class InputConfig:
    """How a row of hidden states becomes an input state."""

    norm: Literal["none", "rms", "layer"] = "rms"
    eps: float = 1e-6
    pooling: str = "token"
    """`token`, `mean`, or `ema:a` or `ewm:a` with 0 < a < 1; see `lenses.state`."""

    def __post_init__(self) -> None:
        _choice("input.norm", self.norm, ("none", "rms", "layer"))
        _number("input.eps", self.eps, 0.0, 1.0)
        object.__setattr__(self, "eps", float(self.eps))
        match = _POOLING.fullmatch(self.pooling) if isinstance(self.pooling, str) else None
        if match is None or (match[1] is not None and not 0 < float(match[1]) < 1):
            _wrong("input.pooling", self.pooling, "token, mean, or ema:a or ewm:a with 0 < a < 1")

    @property
    def decay(self) -> float | None:
        """The a of `ema:a` and of `ewm:a`; None for the other poolings."""
        return float(self.pooling[4:]) if self.pooling.startswith(("ema:", "ewm:")) else None


@dataclass(frozen=True, slots=True)
class LensConfig:
    """What kind of lens the pack holds and how its first layers are stored."""

    kind: LensKind
    widths: tuple[int, ...]
    """(h1, h2) of an mlp; empty for linear; (R, h1, h2) of compact, where R is the projection's."""
    dtype: StoredDtype = "bf16"
    """How first layers are stored, int8 with a scale for each row; all else is fp32."""
    shards: int = 1
    """The number of `lenses-*.safetensors` files."""

    def __post_init__(self) -> None:
        _choice("lens.kind", self.kind, get_args(LensKind))
        if not isinstance(self.widths, list | tuple):
            _wrong("lens.widths", self.widths, "a list of widths")
        object.__setattr__(self, "widths", tuple(self.widths))
        for width in self.widths:
            _count("lens.widths", width)
        if len(self.widths) != {"mlp": 2, "linear": 0, "compact": 3}[self.kind]:
            _wrong(
                "lens.widths", list(self.widths), "[h1, h2] for mlp, [] for linear, [R, h1, h2] for compact"
            )
        _choice("lens.dtype", self.dtype, get_args(StoredDtype))
        _count("lens.shards", self.shards, most=99_999)

    @property
    def h1(self) -> int:
        """Rows of the first layer that one lens has."""
        return self.widths[-2] if self.widths else 1

    def columns(self, hidden_size: int) -> int:
        """Columns of every stored first layer: R of compact, D otherwise."""
        return self.widths[0] if self.kind == "compact" else hidden_size

    def describe(self, hidden_size: int) -> str:
        """The kind and all widths from state to logit, for display: `mlp 2560-128-64-1`."""
        widths = "-".join(map(str, (hidden_size, *self.widths, 1)))
        shared = f" (one projection to R = {self.widths[0]} for all)" if self.kind == "compact" else ""
        return f"{self.kind} {widths}{shared}"

    @property
    def shard_names(self) -> tuple[str, ...]:
        """The names of the files of first layers, in order."""
        return tuple(f"lenses-{n:05d}-of-{self.shards:05d}.safetensors" for n in range(1, self.shards + 1))


@dataclass(frozen=True, slots=True)
class PackConfig:
    """Everything that `config.json` holds but its format and version.

    Raises ConfigError for a value that cannot hold.
    """

    host: HostConfig
    site: str
    """The tensor that is watched: `resid_post.4` is the output of block 4."""
    input: InputConfig
    lens: LensConfig
    base_levels: tuple[int, ...]
    """The levels scored at every position: 0, 1, ... n."""
    concepts: int
    """N"""
    families: int
    sha256: Mapping[str, str] = field(hash=False)
    """Hash of every data file by its name in the pack."""
    top_k: int = 10
    """Families a level that a walk should open at the most."""
    load_threshold: float = 0.3
    """Calibrated probability from which a walk should open a concept's family."""
    calibration_prior: float = 0.5
    """The class prior at which probabilities are calibrated."""
    provenance: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """How the pack was made: any JSON."""
    licence: str = "apache-2.0"
    """SPDX identifier, as a model hub spells it."""

    def __post_init__(self) -> None:
        _text("site", self.site)
        match = _SITE.fullmatch(self.site)
        if match is None or int(match[1]) >= self.host.blocks:
            _wrong("site", self.site, f"resid_post.0 to resid_post.{self.host.blocks - 1}")
        if not isinstance(self.base_levels, list | tuple) or any(
            type(n) is not int for n in self.base_levels
        ):
            _wrong("base_levels", self.base_levels, "a list of levels")
        object.__setattr__(self, "base_levels", tuple(self.base_levels))
        if not self.base_levels or self.base_levels != tuple(range(len(self.base_levels))):
            _wrong(
                "base_levels", list(self.base_levels), "every level from 0 on without a gap, such as [0, 1]"
            )
        _count("top_k", self.top_k)
        _number("load_threshold", self.load_threshold, 0.0, 1.0)
        object.__setattr__(self, "load_threshold", float(self.load_threshold))
        _count("concepts", self.concepts)
        _count("families", self.families, most=self.concepts)
        _number("calibration_prior", self.calibration_prior, 0.0, 1.0)
        object.__setattr__(self, "calibration_prior", float(self.calibration_prior))
        if not isinstance(self.provenance, Mapping):
            _wrong("provenance", self.provenance, "an object")
        _text("licence", self.licence)
        self._check_files()

    def _check_files(self) -> None:
        if not isinstance(self.sha256, Mapping):
            _wrong("sha256", self.sha256, "an object of file names and hashes")
        for name, digest in self.sha256.items():
            check_file_name("sha256", name)
            if not isinstance(digest, str) or not _SHA256.fullmatch(digest):
                _wrong(f"sha256 of {one_line(name)}", digest, "64 hexadecimal digits")
        expected = {CONCEPTS, FAMILIES, HEADS, *self.lens.shard_names}
        found = {name for name in self.sha256 if not name.startswith(f"{HOST}/")}
        if found != expected:
            odd = min(found ^ expected)
            state = (
                "names a file that the format does not have" if odd in found else "has no hash of a data file"
            )
            raise ConfigError(
                f"sha256 {state}: {quoted(odd)}; expected {', '.join(sorted(expected)[:4])} ... and files in "
                f"{HOST}/"
            )

    @property
    def block(self) -> int:
        """The index of the decoder block whose output is watched."""
        return int(self.site.rpartition(".")[2])

    @property
    def host_files(self) -> tuple[str, ...]:
        """The names of the files of a host that travels with the pack; empty where none does."""
        return tuple(sorted(name for name in self.sha256 if name.startswith(f"{HOST}/")))

    @property
    def identity(self) -> str:
        """The identity of the pack: the sha256 of `to_bytes()`, in hexadecimal."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    def to_bytes(self) -> bytes:
        """The canonical bytes of `config.json`."""
        value = {"format": FORMAT, "version": VERSION, **dataclasses.asdict(self)}
        return canonical_json(value, indent=2) + b"\n"

    @classmethod
    def from_bytes(cls, raw: bytes, source: str) -> Self:
        """The configuration in the bytes of a `config.json`.

        Raises PackFormatError beginning with `source`.
        """
        value = read_json(raw, source)
        if not isinstance(value, dict) or value.get("format") != FORMAT:
            found = quoted(value.get("format", "none")) if isinstance(value, dict) else type(value).__name__
            raise PackFormatError(
                f"{source}: the format is {found}, expected '{FORMAT}'; this is no lens pack, give the "
                "directory of one"
            )
        version = value.get("version")
        if type(version) is not int or version != VERSION:
            raise PackFormatError(
                f"{source}: format version {quoted(version)} is unknown, expected {VERSION}; upgrade "
                "phoropter or fetch a pack of this version"
            )
        fields = {name: item for name, item in value.items() if name not in ("format", "version")}
        try:
            for name, part in (("host", HostConfig), ("input", InputConfig), ("lens", LensConfig)):
                if name in fields:
                    fields[name] = _record(part, fields[name], f"{name}.")
            config = _record(cls, fields, "")
            config.to_bytes()  # provenance is free JSON: nested too deep or no Unicode, it has no identity
        except ConfigError as error:
            raise PackFormatError(f"{source}: {error}") from error
        except (ValueError, RecursionError) as error:
            raise PackFormatError(f"{source}: {one_line(error)}; fetch the pack again") from error
        return config


Record = TypeVar("Record")


def _record(kind: type[Record], value: Any, prefix: str) -> Record:
    """`kind` made of a JSON object that has exactly its fields.

    In a file, what has a default is written out too.
    """
    if not isinstance(value, dict):
        _wrong(prefix.rstrip("."), value, "an object")
    known = {item.name for item in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for name in sorted(value.keys() - known):
        raise ConfigError(f"the field {quoted(prefix + name)} is unknown; remove it or upgrade phoropter")
    for name in sorted(known - value.keys()):
        raise ConfigError(f"the field {quoted(prefix + name)} is missing; fetch the pack again")
    return kind(**value)


def check_file_name(field_name: str, name: object) -> None:
    """Raises ConfigError unless `name` is a relative name in the pack that stays in the pack."""
    if not isinstance(name, str) or not name or not is_plain(name):
        _wrong(field_name, name, "the name of a file in the pack")
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name or str(path) != name:
        raise ConfigError(
            f"{field_name} names {quoted(name)}, which leads out of the pack, expected a name such as "
            f"'{CONCEPTS}'; do not use this pack, fetch it from a source you trust"
        )


def _wrong(name: str, found: object, expected: str) -> NoReturn:
    raise ConfigError(f"{name} is {quoted(found)}, expected {expected}; correct it or fetch the pack again")


def _text(name: str, value: object) -> None:
    if not isinstance(value, str) or not value.strip() or not is_plain(value):
        _wrong(name, value, "one line of text")


def _count(name: str, value: object, *, most: int = _MOST) -> None:
    if type(value) is not int or not 1 <= value <= most:
        _wrong(name, value, f"a whole number from 1 to {most}")


def _number(name: str, value: object, above: float, below: float) -> None:
    if type(value) not in (int, float) or not above < value < below:  # type: ignore[operator]
        _wrong(name, value, f"a number between {above:g} and {below:g}")


def _choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        _wrong(name, value, " or ".join(choices))
