"""What a report must say of how it came about: command, run, configuration, code, hardware, versions.

It knows nothing about what was measured.
"""

import hashlib
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import torch

from lenses.errors import SourceError
from lenses.text import canonical_json, one_line
from runtime.environment import memory_bytes

_LIBRARIES = ("torch", "transformers", "numpy", "numba", "safetensors")
_UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class RunRecord:
    """How a report came about."""

    command: str
    run: str
    """Start of the run in UTC and the first eight digits of the configuration's hash."""
    configuration: Mapping[str, object]
    configuration_sha256: str
    """Of the canonical JSON of `configuration`: equal hash, equal question."""
    commit: str
    """Of the working tree, with `+changes` where files differed from it."""
    hardware: Mapping[str, object]
    versions: Mapping[str, str]

    @classmethod
    def begin(cls, command: Sequence[str], configuration: Mapping[str, object]) -> "RunRecord":
        """The record of a run that begins now."""
        sha256 = hashlib.sha256(canonical_json(dict(configuration))).hexdigest()
        return cls(
            command=" ".join(command),
            run=f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}-{sha256[:8]}",
            configuration=configuration,
            configuration_sha256=sha256,
            commit=_commit(),
            hardware={
                "processor": _processor(),
                "cores": os.cpu_count() or 0,
                "torch_threads": torch.get_num_threads(),
                "memory_gib": round(memory_bytes() / 2**30, 1),
                "system": f"{platform.system()} {platform.machine()}",
            },
            versions={"python": platform.python_version()} | {name: version(name) for name in _LIBRARIES},
        )

    def to_json(self) -> dict[str, object]:
        """As one JSON object."""
        return asdict(self)


def sha256_of(files: Iterable[Path]) -> str:
    """The hash of the bytes of some files, one after another: what a configuration says of its sources.

    Raises SourceError for a file that cannot be read.
    """
    sha256 = hashlib.sha256()
    for path in files:
        try:
            sha256.update(path.read_bytes())
        except OSError as error:
            raise SourceError(
                f"{one_line(path)}: {one_line(error.strerror or error)}; give another"
            ) from error
    return sha256.hexdigest()


def _commit() -> str:
    """The commit of the tree that this file is in; `unknown` outside of one."""
    tree = Path(__file__).parent
    try:
        head = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=tree, capture_output=True, text=True, check=True
        )
        changed = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"],
            cwd=tree,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return _UNKNOWN
    # What the run writes itself is no change to the code that it runs.
    code = [line for line in changed.stdout.splitlines() if not line[3:].startswith("reports/")]
    return head.stdout.strip()[:12] + ("+changes" if code else "")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or _UNKNOWN
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), _UNKNOWN)
