"""The logits of every lens at every token of a corpus, in a file, so that they can be gone through again.

Shapes: T tokens, N lenses, X texts.
"""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rich.progress import Progress

from lenses.bank import Bank
from lenses.lens import Floats
from lenses.metrics import Bools, Ints
from lenses.pack import LensPack
from runtime.host import Host
from runtime.training.states import stream


@dataclass(slots=True)
class Corpus:
    """Scored texts, in pieces that each hold whole texts."""

    name: str
    path: Path
    lenses: int
    pieces: list[tuple[int, Ints]] = field(default_factory=list)
    """Where each piece begins, and the text of each of its tokens."""
    texts: int = 0

    @property
    def tokens(self) -> int:
        """Tokens of all texts."""
        return sum(len(text_T) for _, text_T in self.pieces)

    def read(self, texts: Bools | None = None) -> Iterator[tuple[Floats, Ints]]:
        """Piece by piece the logits `[T, N]` and the text of each token; only of some texts, where `[X]` says which."""
        logits_TN = np.memmap(self.path, np.float32, "r", shape=(self.tokens, self.lenses))
        for start, text_T in self.pieces:
            piece_TN = np.asarray(logits_TN[start : start + len(text_T)])
            if texts is None:
                yield piece_TN, text_T
            elif (kept_T := texts[text_T]).any():
                yield piece_TN[kept_T], text_T[kept_T]


def score_corpus(
    name: str, texts: Sequence[str], pack: LensPack, host: Host, directory: Path, progress: Progress
) -> Corpus:
    """Run the host over the texts and every lens over each token; BOS aside, as watching does."""
    corpus = Corpus(name, directory / f"{name}.logits", len(pack.hierarchy), texts=len(texts))
    longest = host.model.config.max_position_embeddings
    inputs = [(pack.config.site, pack.config.input)]
    with (
        closing(Bank(pack, range(len(pack.hierarchy.families)))) as bank,
        corpus.path.open("wb") as file,
    ):
        at = 0
        for (states,) in stream(
            host, texts, inputs=inputs, positions=longest, seed=0, progress=progress, title=name
        ):
            logits_TN = bank.score_base(bank.inputs(states.states_SD))
            file.write(np.ascontiguousarray(logits_TN, np.float32).tobytes())
            corpus.pieces.append((at, states.text_S))
            at += len(states.text_S)
    return corpus
