"""From a host, concepts and texts to a pack; the order of it all, which this file reads like.

1. where several inputs are given, one is chosen on validation texts (`inputs`);
2. the host reads every text once; states of the train and validation parts are kept at sampled positions, those of
   held-out texts as well, and at every token of some validation texts (`shards`);
3. all lenses are trained together on the train part, and stop early on the validation part (`lenses.training`);
4. they are calibrated on validation texts, on scores as served: first layers as stored, by the bank;
5. how the pack is to be walked is chosen there too: what finds nine tenths of active concepts for the fewest lenses;
6. every lens is measured on held-out texts, on texts of another style where there are any, and on a null corpus;
7. the pack is written, whole or not at all.

With several processes all of them do 1 and 2; the first goes on alone. Knows nothing about command lines.

Shapes: S samples, P positions, X texts, T tokens, D hidden size, N lenses.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import Progress

from lenses.bank import Bank
from lenses.calibration import fit_platt_in_parts, log_odds
from lenses.concept import Hierarchy
from lenses.config import HostConfig, LensConfig, StoredDtype
from lenses.errors import HierarchyError, SourceError
from lenses.files import local_path
from lenses.lens import Floats, Heads
from lenses.measure import PARTS, Scored, Walk, measure
from lenses.null import Null
from lenses.pack import FirstLayers, LensPack
from lenses.training import Samples, TrainedLenses, TrainingConfig, fit_linear, train
from lenses.writer import refuse_to_replace
from runtime.blocks import blocks_of, check_fits, hub_commit, text_config
from runtime.host import Host
from runtime.known import PROVENANCE, record
from runtime.training.corpus import PART_RULE, Corpus, Part, count_by_part
from runtime.training.inputs import Candidate, best, compare_inputs
from runtime.training.served import score_all
from runtime.training.shards import StateShards
from runtime.training.states import EVERY_TOKEN, Input, States
from runtime.training.walks import LEAST_RECALL, Point, cheapest_with, curve
from runtime.training.workers import Workers

WALK_RECALL = LEAST_RECALL + 0.01
"""What the walk must find on validation texts, a little more than it must on held-out ones."""
WALK_BASES = ((0,), (0, 1))
WALK_TOP_K = (10, 20, 40, 80, 160)
WALK_THRESHOLDS = (0.05, 0.08, 0.1, 0.12, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5)
WALKED_ITEMS = 60
_NULL_TEXTS = 256
"""Texts of the null corpus that are scored at a time."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What lenses to train and how."""

    inputs: tuple[Input, ...]
    """Sites with how their rows become input states: candidates, where there are several."""
    dtype: StoredDtype = "bf16"
    training: TrainingConfig = field(default_factory=TrainingConfig)
    """Its widths and rank are those of the lenses; linear ones (of no widths) are fitted in closed form."""
    positions: int = 4
    """Sampled positions of a text, its last aside."""
    seed: int = 0

    @property
    def lens(self) -> LensConfig:
        """The lenses as a pack's configuration has them."""
        return replace(self.training.lens(), dtype=self.dtype)


@dataclass(frozen=True, slots=True)
class Texts:
    """What is learned from and judged by."""

    corpus: Corpus
    others: Mapping[str, Corpus] = field(default_factory=dict)
    """The same things told otherwise, by the names of `lenses.measure.PARTS`; their held-out part is used."""
    null: Sequence[str] = ()
    """Texts of another kind: what lenses say there, they say of nothing."""
    about: Mapping[str, Any] = field(default_factory=dict)
    """Where they are from, for the pack's provenance."""


class Teacher:
    """The lenses of a pack for the same concepts, as training wants them: states to logits of their log-odds.

    Raises HierarchyError where the concepts are others.
    """

    def __init__(self, directory: Path, hierarchy: Hierarchy) -> None:
        self.pack = LensPack.from_pretrained(directory)
        if [concept.id for concept in self.pack.hierarchy] != [concept.id for concept in hierarchy]:
            raise HierarchyError(
                f"the teacher {directory} has other concepts than those to train; give a pack of the same concepts"
            )
        self._bank = Bank(self.pack, range(len(self.pack.hierarchy.families)))

    def __call__(self, states_BD: Floats) -> Floats:
        logits_BN = self._bank.score_base(self._bank.inputs(states_BD))
        return log_odds(logits_BN, self.pack.heads.platt_slope, self.pack.heads.platt_offset)


def train_pack(
    out: Path,
    host: Host,
    hierarchy: Hierarchy,
    texts: Texts,
    recipe: Recipe,
    *,
    workers: Workers,
    states: Path,
    progress: Progress,
    teacher: Teacher | None = None,
    host_dir: Path | None = None,
) -> LensPack | None:
    """Train, calibrate, measure and write; None in every process but the first.

    States are kept below `states`, where another run with the same host, texts and inputs finds them. `host_dir` is
    a host's directory that is to travel with the pack. Raises PhoropterError.
    """
    refuse_to_replace(out)
    parts = Parts.of(texts)
    input, candidates = _choose(host, hierarchy, parts, recipe, workers, states, progress)
    collected = _Collected(host, hierarchy, input, recipe.positions, recipe.seed, states, workers, progress)
    collected.collect_all(parts, texts.null)
    if not workers.is_first:
        return None
    learned, known = (collected.samples(name, parts.by_name[name])[0] for name in ("train", "validation"))
    trained = _fit(recipe, learned, known, hierarchy, teacher, progress)
    provenance = _told(texts, recipe.positions) | {
        "samples": {"train": len(learned.text_S), "validation": len(known.text_S)},
        "training": "closed form" if recipe.lens.kind == "linear" else asdict(recipe.training),
        "teacher": None if teacher is None else teacher.pack.identity,
        "inputs_compared": [asdict(one) for one in candidates],
    }
    del learned, known
    write = partial(
        LensPack.create,
        first_layers=_stored(trained, recipe.dtype),
        host=HostConfig(
            id=host.id,
            revision=hub_commit(host.path),
            hidden_size=text_config(host.model).hidden_size,
            blocks=len(blocks_of(host.model)),
            dtype=_dtype(host),
        ),
        site=input[0],
        input=input[1],
        lens=recipe.lens,
    )
    with tempfile.TemporaryDirectory() as scratch:
        served = write(Path(scratch) / "pack", hierarchy=hierarchy, heads=trained.heads, base_levels=(0,))
        return _measured(
            out, served, trained.heads, write, parts, collected, texts, provenance, host, host_dir, progress
        )


def measure_pack(
    out: Path,
    pack: LensPack,
    host: Host,
    texts: Texts,
    *,
    positions: int,
    seed: int,
    workers: Workers,
    states: Path,
    progress: Progress,
) -> LensPack | None:
    """The lenses of a pack, calibrated and measured on these texts: steps 4 to 7. None in every process but the first.

    Raises PhoropterError.
    """
    refuse_to_replace(out)
    config = pack.config
    check_fits(host.model, config.site, config.host.hidden_size)
    parts = Parts({name: corpus for name, corpus in Parts.of(texts).by_name.items() if name != "train"})
    input = config.site, config.input
    collected = _Collected(host, pack.hierarchy, input, positions, seed, states, workers, progress)
    collected.collect_all(parts, texts.null)
    if not workers.is_first:
        return None
    provenance = _told(texts, positions) | {
        "lenses_of": pack.identity,
        "provenance": {name: value for name, value in config.provenance.items() if name != PROVENANCE},
    }
    write = partial(
        LensPack.create,
        first_layers=FirstLayers(pack, dequantise=False),
        host=config.host,
        site=config.site,
        input=config.input,
        lens=config.lens,
        licence=config.licence,
    )
    return _measured(
        out, pack, pack.heads, write, parts, collected, texts, provenance, host, pack.host_dir, progress
    )


def _told(texts: Texts, positions: int) -> dict[str, Any]:
    return {
        **texts.about,
        "parts": PART_RULE,
        "items": count_by_part(texts.corpus.items),
        "positions_per_text": positions,
        "calibration": "validation texts, sampled positions",
    }


def _measured(
    out: Path,
    served: LensPack,
    heads: Heads,
    write: Callable[..., LensPack],
    parts: "Parts",
    collected: "_Collected",
    texts: Texts,
    provenance: dict[str, Any],
    host: Host,
    host_dir: Path | None,
    progress: Progress,
) -> LensPack:
    """Write the lenses of `served` anew, calibrated, measured, and with the scores of a known text."""
    heads = _calibrate(
        served, heads, collected.samples("validation", parts.by_name["validation"])[0], progress
    )
    walk = _choose_walk(served, heads, collected.states("walk"), progress)
    hierarchy, heads = _measure(served, heads, walk, parts, collected, bool(texts.null), progress)
    write = partial(
        write,
        hierarchy=hierarchy,
        heads=heads,
        base_levels=walk.base_levels,
        top_k=walk.top_k,
        load_threshold=walk.load_threshold,
    )
    provenance["walk"] = {"chosen_on": "validation texts, every token of some"} | {
        name: value if name in ("base_levels", "top_k") else round(value, 4)
        for name, value in asdict(walk).items()
    }
    with tempfile.TemporaryDirectory() as scratch:
        finished = write(Path(scratch) / "pack")
        provenance[PROVENANCE] = record(host.model, host.tokenizer, finished).to_json()
    return write(local_path(out), provenance=provenance, host_dir=host_dir)


@dataclass(frozen=True, slots=True)
class Parts:
    """What is collected, and from what: corpora by name."""

    by_name: Mapping[str, Corpus]

    @classmethod
    def of(cls, texts: Texts) -> "Parts":
        """The parts of a corpus; raises SourceError where one is empty."""
        parts: tuple[Part, ...] = ("train", "validation", "held-out")
        found = {name: texts.corpus.part(name) for name in parts}
        for name, corpus in found.items():
            if not corpus.items:
                raise SourceError(
                    f"of {len(texts.corpus)} texts none is in the part {name}; give more texts, or other groups"
                )
        validation, held_out = found["validation"].told_once(), found["held-out"].told_once()
        by_name = {"train": found["train"], "validation": validation, "held-out": held_out}
        by_name["walk"] = validation.sample(WALKED_ITEMS)
        by_name |= {
            name: other for name, one in texts.others.items() if (other := one.part("held-out")).items
        }
        return cls(by_name)


class _Collected:
    """States of the parts at one input."""

    def __init__(
        self,
        host: Host,
        hierarchy: Hierarchy,
        input: Input,
        positions: int,
        seed: int,
        directory: Path,
        workers: Workers,
        progress: Progress,
    ) -> None:
        self._host, self._hierarchy, self._input = host, hierarchy, input
        self._positions, self._seed = positions, seed
        self._directory, self._workers, self._progress = directory, workers, progress
        self._shards: dict[str, StateShards] = {}

    def collect_all(self, parts: "Parts", null: Sequence[str]) -> None:
        """Every part, and the null corpus where there is one."""
        for name, corpus in parts.by_name.items():
            self.collect(name, corpus.texts, EVERY_TOKEN if name == "walk" else self._positions)
        if null:
            self.collect("null", null, EVERY_TOKEN)

    def collect(self, name: str, texts: Sequence[str], positions: int) -> None:
        """Read the texts with the host, together with the other processes."""
        shards = StateShards(self._directory, self._host, texts, [self._input], positions, self._seed)
        shards.collect(self._workers, self._progress, f"states: {name}")
        self._shards[name] = shards

    def states(self, name: str) -> States:
        """What was collected under this name."""
        return self._shards[name].load(self._input)

    def samples(self, name: str, corpus: Corpus) -> tuple[Samples, States]:
        """The states with their labels; `text_S` of the samples says which item a state is of."""
        states = self.states(name)
        return Samples(states.states_SD, corpus.item_T[states.text_S], corpus.labels(self._hierarchy)), states


def _choose(
    host: Host,
    hierarchy: Hierarchy,
    parts: Parts,
    recipe: Recipe,
    workers: Workers,
    states: Path,
    progress: Progress,
) -> tuple[Input, list[Candidate]]:
    """The input that lenses read, the same in all processes; and how candidates compared, where there are several."""
    if len(recipe.inputs) == 1:
        return recipe.inputs[0], []
    candidates = compare_inputs(
        recipe.inputs,
        host,
        hierarchy,
        parts.by_name["train"],
        parts.by_name["validation"],
        positions=recipe.positions,
        seed=recipe.seed,
        directory=states,
        workers=workers,
        progress=progress,
    )
    return recipe.inputs[workers.agree(best(candidates) if workers.is_first else 0)], candidates


def _fit(
    recipe: Recipe,
    learned: Samples,
    known: Samples,
    hierarchy: Hierarchy,
    teacher: Teacher | None,
    progress: Progress,
) -> TrainedLenses:
    if recipe.lens.kind == "linear":
        return fit_linear(learned, hierarchy)
    task = progress.add_task("lenses", total=recipe.training.steps)
    return train(
        learned,
        hierarchy,
        recipe.training,
        validation=known,
        teacher=teacher,
        progress=lambda step, loss: progress.update(
            task, completed=step, description=f"lenses: loss {loss:.4f}"
        ),
    )


def _calibrate(served: LensPack, heads: Heads, known: Samples, progress: Progress) -> Heads:
    logits_SN = score_all(served, known.states_SD, progress, "calibration")
    slope, offset, calibrated = fit_platt_in_parts(logits_SN, known.positive(slice(None)))
    return replace(heads, platt_slope=slope, platt_offset=offset, calibrated=calibrated)


def _choose_walk(served: LensPack, heads: Heads, states: States, progress: Progress) -> Point:
    hierarchy = served.hierarchy
    logits_PN = score_all(served, states.states_SD, progress, "walk")
    bases = [base for base in WALK_BASES if len(base) <= hierarchy.depth]
    # Wider than there are families is as wide as that.
    enough = min((k for k in WALK_TOP_K if k >= len(hierarchy.families)), default=WALK_TOP_K[-1])
    widths = [k for k in WALK_TOP_K if k <= enough]
    return cheapest_with(WALK_RECALL, curve(hierarchy, heads, logits_PN, bases, widths, WALK_THRESHOLDS))


def _measure(
    served: LensPack,
    heads: Heads,
    point: Point,
    parts: Parts,
    collected: _Collected,
    has_null: bool,
    progress: Progress,
) -> tuple[Hierarchy, Heads]:
    def scored(name: str) -> Scored:
        samples, states = collected.samples(name, parts.by_name[name])
        logits_SN = score_all(served, samples.states_SD, progress, name)
        return Scored(logits_SN, samples.text_S, states.last_S, samples.positive_XN)

    null = None
    if has_null:
        states = collected.states("null")
        null = Null(len(served.hierarchy), most_tokens=len(states.text_S))
        texts = _whole_texts(states.text_S)
        for some_S in progress.track(texts, description="null corpus"):
            null.add(score_all(served, states.states_SD[some_S]), states.text_S[some_S])
    return measure(
        served.hierarchy,
        heads,
        scored("held-out"),
        null=null,
        others={name: scored(name) for name in PARTS if name in parts.by_name},
        walk=Walk(point.base_levels, point.top_k, point.load_threshold),
    )


def _stored(trained: TrainedLenses, dtype: StoredDtype) -> list[torch.Tensor]:
    # What is written twice is rounded once; int8 is quantised by the writer.
    return [layer.to(torch.bfloat16) if dtype == "bf16" else layer for layer in trained.first_layers]


def _whole_texts(text_S: NDArray[np.int32]) -> list[NDArray[np.int_]]:
    """Samples by text, those of `_NULL_TEXTS` texts at a time."""
    order = np.argsort(text_S, kind="stable")
    _, starts = np.unique(text_S[order], return_index=True)
    return np.split(order, starts[_NULL_TEXTS::_NULL_TEXTS])


def _dtype(host: Host) -> str:
    return {torch.bfloat16: "bf16", torch.float16: "fp16"}.get(host.model.dtype, "fp32")
