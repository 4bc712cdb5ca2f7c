"""States on disk, in safetensors files: collected once, by one process or several, and gone on with after a stop.

A directory holds the states of one list of texts at some inputs. Its name says what it is of: another host, other
texts, inputs, positions or another seed make another directory, so what is found there can be taken. Each shard is the
states of some batches, written aside and renamed; which batches is settled beforehand, so it does not matter who writes
which, nor when. In memory are one shard and one batch.

Shapes: S samples, D hidden size.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from rich.progress import Progress
from safetensors import safe_open
from safetensors.numpy import save

from lenses.errors import SourceError
from lenses.files import local_path, sweep, write_atomically
from lenses.text import canonical_json, one_line
from runtime.host import Host
from runtime.training.states import Batch, Collector, Input, States
from runtime.training.workers import Workers

SHARD_BYTES = 64 << 20
"""About the most that one shard holds."""
_WHERE = ("text_S", "last_S", "at_S")


class StateShards:
    """The states of some texts at some inputs, in a directory of their own below `parent`."""

    def __init__(
        self,
        parent: Path,
        host: Host,
        texts: Sequence[str],
        inputs: Sequence[Input],
        positions: int,
        seed: int,
    ) -> None:
        self._inputs = list(inputs)
        self._collector = Collector(host, texts, inputs, positions, seed)
        about = {
            "host": host.id,
            "dtype": str(host.model.dtype),
            "texts": hashlib.sha256("\0".join(texts).encode()).hexdigest(),
            "inputs": [[site, asdict(config)] for site, config in inputs],
            "positions": positions,
            "seed": seed,
            "torch": torch.__version__,
        }
        name = hashlib.sha256(canonical_json(about)).hexdigest()[:16]
        self.directory = local_path(parent) / f"states-{name}"
        bytes_a_sample = 4 * host.model.get_input_embeddings().embedding_dim * len(inputs)
        self._shards = _in_shards(self._collector, max(1, SHARD_BYTES // bytes_a_sample))

    def collect(self, workers: Workers, progress: Progress, title: str) -> None:
        """Write the shards that are not there; returns when all processes have written theirs."""
        self.directory.mkdir(parents=True, exist_ok=True)
        if workers.is_first:
            sweep(self.directory)
        texts = [sum(map(len, batches)) for batches in self._shards]
        missing = [shard for shard in range(len(self._shards)) if not self._file(shard).exists()]
        mine = [shard for shard in workers.share(len(self._shards)) if shard in missing]
        task = progress.add_task(title, total=sum(texts[shard] for shard in mine))
        for shard in mine:
            self._write(shard, lambda batch: progress.advance(task, len(batch)))
        workers.wait()

    def load(self, input: Input) -> States:
        """All states of one of the inputs; raises SourceError for a shard that is damaged."""
        name = f"states_{self._inputs.index(input)}"
        pieces = []
        for shard in range(len(self._shards)):
            try:
                with safe_open(self._file(shard), framework="numpy") as file:
                    pieces.append(States(file.get_tensor(name), *(file.get_tensor(one) for one in _WHERE)))
            except Exception as error:  # safetensors has an exception of its own for each kind of damage
                raise SourceError(
                    f"{one_line(self._file(shard))}: {one_line(error)}; remove it, then type the command again"
                ) from error
        return States.joined(pieces)

    def _file(self, shard: int) -> Path:
        return self.directory / f"shard-{shard + 1:05d}-of-{len(self._shards):05d}.safetensors"

    def _write(self, shard: int, done: Callable[[Batch], None]) -> None:
        batches = []
        for batch, states in zip(
            self._shards[shard], self._collector.states(self._shards[shard]), strict=True
        ):
            batches.append(states)
            done(batch)
        tensors = {
            f"states_{i}": np.ascontiguousarray(np.concatenate([batch[i].states_SD for batch in batches]))
            for i in range(len(self._inputs))
        }
        tensors |= {name: np.concatenate([getattr(batch[0], name) for batch in batches]) for name in _WHERE}
        write_atomically(self._file(shard), save(tensors))


def _in_shards(collector: Collector, samples: int) -> list[list[Batch]]:
    """The batches in runs that give about so many samples each."""
    shards: list[list[Batch]] = []
    room = 0
    for batch in collector.batches:
        if not shards or room < collector.samples(batch):
            shards.append([])
            room = samples
        shards[-1].append(batch)
        room -= collector.samples(batch)
    return shards
