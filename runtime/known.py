"""Known scores: what a pack's lenses said of one text when the pack was made, and whether they say it still.

They travel in the provenance of a pack's configuration, so they are part of its identity; a pack may be without. With
them a host, a tokenizer or a library that changed since is found, which no comparison of today's parts can find. They
are computed the slow, obvious way: rows of the site, input states, one lens at a time. Knows nothing about files.

Shapes: T tokens, D hidden size.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch

from lenses.errors import HostError, PackFormatError
from lenses.lens import Floats, Lens
from lenses.pack import LensPack
from lenses.state import input_states
from lenses.text import quoted
from runtime.blocks import text_config
from runtime.generate import encode
from runtime.hook import Rows, Tap

PROMPT = "A violin is a musical instrument."
"""The text that everything is tried with."""

PROVENANCE = "known_scores"
"""Where known scores stand in a pack's provenance."""

_CONCEPTS = 12
_TOLERANCES = {"float32": 1e-4}
"""How far logits may lie from the recorded ones, as a share of the largest (at least 1), by what the host computes in.
Other vector units, attention kernels and thread counts of one machine made 2e-6 of it, bf16 6e-3; a relative noise of
1e-3 on the host's weights makes 8e-4."""
_COARSE = 0.05
"""The same for every type that is shorter, and for another type than the recorded one."""


@dataclass(frozen=True, slots=True)
class KnownScores:
    """Logits of some lenses at the last token of a text."""

    prompt: str
    tokens: tuple[int, ...]
    """What the host's tokenizer made of the prompt."""
    dtype: str
    """What the host computed in, as torch spells it: `float32`."""
    tolerance: float
    """As a share of the largest logit (at least 1)."""
    logits: Mapping[str, float]
    """By concept id."""

    def to_json(self) -> dict[str, object]:
        """The known scores as they stand in provenance."""
        return {
            "prompt": self.prompt,
            "tokens": list(self.tokens),
            "dtype": self.dtype,
            "tolerance": self.tolerance,
            "logits": dict(self.logits),
        }

    @classmethod
    def of(cls, pack: LensPack) -> Self | None:
        """What is recorded in a pack; None where nothing is. Raises PackFormatError for what cannot be."""
        value = pack.config.provenance.get(PROVENANCE)
        if value is None:
            return None
        try:
            known = cls(**value)
            tokens, logits = (
                tuple(map(int, known.tokens)),
                {str(k): float(v) for k, v in known.logits.items()},
            )
            numbers = (float(known.tolerance), *logits.values())
        except (TypeError, ValueError, AttributeError, OverflowError) as error:
            raise _damaged(error) from error
        texts = isinstance(known.prompt, str) and isinstance(known.dtype, str)
        if not texts or not logits or not all(map(math.isfinite, numbers)):
            raise _damaged("a text or a number is none")
        return cls(known.prompt, tokens, known.dtype, numbers[0], logits)


def _damaged(why: object) -> PackFormatError:
    return PackFormatError(
        f"config.json: provenance.{PROVENANCE} is not of the form ({quoted(str(why))}); fetch the pack again, or "
        "record anew with scripts/train_lenses.py"
    )


def record(model: Any, tokenizer: Any, pack: LensPack) -> KnownScores:
    """The strongest concepts of the whole pack at the end of `PROMPT`, with their logits as they are now."""
    ids = encode(model, tokenizer, PROMPT)["input_ids"]
    state_D = torch.from_numpy(states_of(model, pack, ids)[-1])
    concepts, heads, h1 = pack.hierarchy.concepts, pack.heads, pack.config.lens.h1
    logits: list[float] = []
    for family in pack.hierarchy.families:
        layer = pack.read_family(family.index)  # once, where `pack.lens` would read it for each of its lenses
        for row in range(family.rows):
            index = family.first + row
            lens = Lens.of(concepts[index], layer[row * h1 : (row + 1) * h1], heads, index)
            logits.append(lens.logit(state_D))
    strongest = np.argsort(-(np.array(logits) * heads.platt_slope + heads.platt_offset), kind="stable")
    dtype = dtype_of(model)
    return KnownScores(
        PROMPT,
        tuple(ids[0].tolist()),
        dtype,
        _TOLERANCES.get(dtype, _COARSE),
        {concepts[index].id: round(logits[index], 5) for index in strongest[:_CONCEPTS]},
    )


def difference(model: Any, pack: LensPack, known: KnownScores, ids: torch.Tensor) -> float:
    """The largest difference of the logits of now and of then, as a share of the largest then (at least 1).

    `ids` `[1, T]` are the tokens of the known prompt. Raises HostError for states that are not finite, ConceptNotFound,
    PackIntegrityError.
    """
    state = torch.from_numpy(states_of(model, pack, ids)[-1])
    now = [pack.lens(pack.hierarchy.index(id)).logit(state) for id in known.logits]
    then = np.array(list(known.logits.values()))
    return float(np.abs(np.array(now) - then).max() / max(1.0, np.abs(then).max()))


def tolerance(model: Any, known: KnownScores) -> float:
    """What `difference` may be: as recorded, or coarse where this host computes in another type."""
    return known.tolerance if dtype_of(model) == known.dtype else max(known.tolerance, _COARSE)


def dtype_of(model: Any) -> str:
    """What the host computes in, as torch spells it."""
    return str(next(model.parameters()).dtype).removeprefix("torch.")


def states_of(model: Any, pack: LensPack, ids: torch.Tensor) -> Floats:
    """Input states `[T, D]` of one sequence of ids `[1, T]`, BOS left out; raises HostError."""
    rows = Rows()
    with torch.inference_mode(), Tap(model, pack.config.site, rows):
        model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)
    begin = int(ids.shape[1] > 1 and int(ids[0, 0]) == text_config(model).bos_token_id)
    rows_TD = rows.take_BTD()[0, begin:]
    if not np.isfinite(rows_TD).all():
        raise HostError(
            f"rows of {pack.config.site} are not finite; load the host in bfloat16 or float32, or fetch it again"
        )
    return input_states(rows_TD, pack.config.input)
