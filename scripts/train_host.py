"""Trains the small Gemma-3 host that travels with the project, from scratch, on texts of WordNet's synsets.

    python scripts/train_host.py --work runs/host --out lens_packs/wordnet-mini/host

The model is transformers' own `Gemma3ForCausalLM` and learns from nothing but WordNet 3.0, a fixed tenth of
the synsets held out. In every epoch each synset is told once, in another way.

The rate of learning is constant after a short warm-up and falls to zero over the last part of `--tokens`.
So a run that takes too long can be stopped (Ctrl-C) and the same command, with fewer tokens, goes on from the
checkpoint in `--work` and still ends as it should. At the end the host is written in bf16, and
`training.json` beside it, with its perplexity on the held-out documents beside two models that only count.

On two cores the allocator matters as much as the arithmetic: glibc hands the large, ever different buffers
back to the system and faults them in again. `MALLOC_TRIM_THRESHOLD_=4000000000
MALLOC_MMAP_THRESHOLD_=4000000000 GLIBC_TUNABLES=glibc.malloc.hugetlb=1` before the command makes it half as
fast again, for 8 GB of memory.
"""

import argparse
import hashlib
import io
import logging
import math
import platform
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import numpy as np
import torch
from host.corpus import Corpus, batches_of, encode, padded
from host.counting import Trigram, Unigram, perplexity, trigrams
from host.recipe import (
    HOST_ID,
    PAD,
    Recipe,
    generation_config,
    host_config,
    train_tokenizer,
)
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from torch.nn import functional
from transformers import Gemma3ForCausalLM, PreTrainedTokenizerFast

from lenses.errors import ConfigError, PhoropterError
from lenses.files import atomic_directory, write_atomically
from lenses.importers.wordnet import HELD_OUT_RULE, read_wordnet
from lenses.text import canonical_json
from lenses.training import multiply_in_bf16

# Shapes: B rows of a batch, T tokens of a row (one document, padded), V vocabulary.

PROMPTS = ("A violin is", "The dog", "To run is", "In music,", "Happiness is")
"""Continued at the end of a run, so that a glance says what was learnt."""

_IGNORED = -100
_LOG_EVERY_S = 10

_log = logging.getLogger("train_host")


@dataclass(slots=True)
class Position:
    """Where a run stands; with the recipe it says which batch is next."""

    step: int = 0
    tokens_seen: int = 0
    epoch: int = 0
    batch_in_epoch: int = 0


def next_token_loss(model: Gemma3ForCausalLM, ids_BT: torch.Tensor) -> tuple[torch.Tensor, int]:
    """Summed loss (nats) of predicting each next token but padding, and how many were predicted."""
    with multiply_in_bf16(ids_BT.device):
        logits_BTV = model(input_ids=ids_BT[:, :-1], use_cache=False).logits
    targets_BT = ids_BT[:, 1:].masked_fill(ids_BT[:, 1:] == PAD, _IGNORED)
    loss = functional.cross_entropy(
        logits_BTV.float().flatten(0, 1), targets_BT.flatten(), ignore_index=_IGNORED, reduction="sum"
    )
    return loss, int((targets_BT != _IGNORED).sum())


class Training:
    """A run that can be stopped and gone on with: tokenizer, model, optimizer, position, all kept in `work`."""

    def __init__(self, recipe: Recipe, corpus: Corpus, work: Path, device: torch.device) -> None:
        self.recipe = recipe
        self.corpus = corpus
        self.device = device
        self.position = Position()
        self._checkpoint = work / "checkpoint.pt"
        self.tokenizer = self._make_tokenizer(work / "tokenizer")
        torch.manual_seed(recipe.seed)
        self.model = Gemma3ForCausalLM(host_config(recipe)).to(device)
        if device.type == "cpu":
            # For rows of thirty tokens the plain product is a fifth faster than the fused kernel.
            self.model.set_attn_implementation("eager")
        matrices = [one for one in self.model.parameters() if one.ndim >= 2]
        vectors = [one for one in self.model.parameters() if one.ndim < 2]
        self._optimizer = torch.optim.AdamW(
            [
                {"params": matrices, "weight_decay": recipe.weight_decay},
                {"params": vectors, "weight_decay": 0.0},
            ],
            lr=recipe.rate,
            betas=(0.9, 0.95),
            fused=True,
        )
        self._resume()

    def run(self, *, save_every_s: float) -> None:
        """Train to the end of the recipe; raises KeyboardInterrupt, with all saved, when asked to stop."""
        position = self.position
        self.model.train()
        with _Report(self.recipe, position) as report, _StopRequest() as stop:
            saved_at = time.monotonic()
            for ids_BT in self._batches():
                report.step(self._step(ids_BT))
                if stop.is_asked or time.monotonic() - saved_at >= save_every_s:
                    self._save()
                    saved_at = time.monotonic()
                if stop.is_asked:
                    raise KeyboardInterrupt
        self._save()

    def _step(self, ids_BT: torch.Tensor) -> float:
        """Learn from one batch; its mean loss."""
        for group in self._optimizer.param_groups:
            group["lr"] = self.recipe.rate_at(self.position.tokens_seen)
        loss, predicted = next_token_loss(self.model, ids_BT.to(self.device))
        mean = loss / predicted
        mean.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self.position.step += 1
        self.position.tokens_seen += predicted
        return float(mean.detach())

    def _batches(self) -> Iterator[torch.Tensor]:
        """Batches from the present position to the end; the position is past a batch when it is given."""
        recipe, position = self.recipe, self.position
        while position.tokens_seen < recipe.tokens:
            documents = encode(self.tokenizer, self.corpus.texts(position.epoch), recipe.longest)
            order_seed = [recipe.seed, position.epoch, 1]
            batches = batches_of(documents, recipe.batch_tokens, order_seed=order_seed)
            while position.batch_in_epoch < len(batches) and position.tokens_seen < recipe.tokens:
                indices = batches[position.batch_in_epoch]
                position.batch_in_epoch += 1
                yield padded(documents, indices)
            if position.batch_in_epoch >= len(batches):
                position.epoch, position.batch_in_epoch = position.epoch + 1, 0

    def _make_tokenizer(self, directory: Path) -> PreTrainedTokenizerFast:
        if directory.is_dir():
            return PreTrainedTokenizerFast.from_pretrained(directory)
        _log.info("learning a tokenizer of %d pieces", self.recipe.vocabulary)
        tokenizer = train_tokenizer(self.corpus.texts(0, with_chat=False), self.recipe.vocabulary)
        with atomic_directory(directory) as aside:
            tokenizer.save_pretrained(aside)
        return tokenizer

    def _fixed(self) -> dict[str, Any]:
        """What a run must share with its checkpoint; the length and the schedule may change."""
        free = {"tokens", "decay_share", "rate", "warm_up_tokens"}
        return {key: value for key, value in asdict(self.recipe).items() if key not in free}

    def _save(self) -> None:
        buffer = io.BytesIO()
        state = {
            "model": self.model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "position": asdict(self.position),
            "fixed": self._fixed(),
        }
        torch.save(state, buffer)
        write_atomically(self._checkpoint, buffer.getvalue())

    def _resume(self) -> None:
        if not self._checkpoint.exists():
            return
        state = torch.load(self._checkpoint, map_location=self.device, weights_only=True)
        fixed = self._fixed()
        changed = [key for key, value in fixed.items() if state["fixed"].get(key) != value]
        if changed:
            found = ", ".join(f"{key} {state['fixed'].get(key)}" for key in changed)
            wanted = ", ".join(f"{key} {fixed[key]}" for key in changed)
            raise ConfigError(
                f"{self._checkpoint}: trained with {found}, asked for {wanted}; use another --work directory"
            )
        self.model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        self.position = Position(**state["position"])
        _log.info("going on from %s at %s tokens", self._checkpoint, f"{self.position.tokens_seen:,}")


class _Report(AbstractContextManager["_Report"]):
    """Speed, loss and the time left: a bar on a terminal, else a line now and then."""

    def __init__(self, recipe: Recipe, position: Position) -> None:
        console = Console(stderr=True)
        columns = (
            TextColumn("training the host"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.description}"),
        )
        self._bar = Progress(
            *columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal
        )
        self._task = self._bar.add_task("", total=recipe.tokens, completed=position.tokens_seen)
        self._recipe, self._position = recipe, position
        self._said_at, self._said_tokens = time.monotonic(), position.tokens_seen
        self._loss: float | None = None

    def __enter__(self) -> "_Report":
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def step(self, loss: float) -> None:
        """Take note of one step and its loss, which is shown smoothed over about fifty steps."""
        self._loss = loss if self._loss is None else 0.98 * self._loss + 0.02 * loss
        now, position, total = time.monotonic(), self._position, self._recipe.tokens
        if now - self._said_at < _LOG_EVERY_S and position.tokens_seen < total:
            return
        speed = (position.tokens_seen - self._said_tokens) / (now - self._said_at)
        self._said_at, self._said_tokens = now, position.tokens_seen
        note = f"{speed:,.0f} tokens/s, loss {self._loss:.3f}"
        self._bar.update(self._task, completed=position.tokens_seen, description=note)
        if self._bar.disable:
            _log.info(
                "step %d, epoch %d, %s of %s tokens, %s, rate %.1e, %.0f min left",
                position.step,
                position.epoch,
                f"{position.tokens_seen:,}",
                f"{total:,}",
                note,
                self._recipe.rate_at(position.tokens_seen),
                (total - position.tokens_seen) / max(speed, 1) / 60,
            )


class _StopRequest(AbstractContextManager["_StopRequest"]):
    """Makes Ctrl-C and SIGTERM a request that is honoured between two steps, when all can be saved."""

    def __init__(self) -> None:
        self.is_asked = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "_StopRequest":
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, _number: int, _frame: FrameType | None) -> None:
        self.is_asked = True


@torch.no_grad()
def host_perplexity(model: Gemma3ForCausalLM, documents: Sequence[Sequence[int]], batch_tokens: int) -> float:
    """exp of the mean loss over every token after `<bos>`, `<eos>` among them."""
    model.eval()
    total, count = 0.0, 0
    for indices in batches_of(documents, batch_tokens, order_seed=[0]):
        loss, predicted = next_token_loss(model, padded(documents, indices).to(model.device))
        total, count = total + float(loss), count + predicted
    return math.exp(total / count)


def measure(training: Training) -> dict[str, Any]:
    """Perplexities a token on the held-out documents, of the host and of two models that only count.

    The trigram learns from one, two or four tellings of the training synsets, whichever serves it best: more
    tellings are more text, but text that repeats itself.
    """
    corpus, recipe, tokenizer = training.corpus, training.recipe, training.tokenizer
    held_out = encode(tokenizer, corpus.held_out_texts(), recipe.longest)
    grams_P3 = trigrams(held_out)
    tellings = [trigrams(encode(tokenizer, corpus.texts(epoch), recipe.longest)) for epoch in range(4)]
    counted = {
        count: perplexity(
            Trigram(np.concatenate(tellings[:count]), recipe.vocabulary).probabilities(grams_P3)
        )
        for count in (1, 2, 4)
    }
    best = min(counted, key=lambda count: counted[count])
    unigram = Unigram(tellings[0][:, 2], recipe.vocabulary)
    return {
        "documents": len(held_out),
        "tokens": len(grams_P3),
        "host": host_perplexity(training.model, held_out, recipe.batch_tokens),
        "unigram": perplexity(unigram.probabilities(grams_P3)),
        "trigram": counted[best],
        "trigram_tellings": best,
    }


@torch.no_grad()
def continuation(training: Training, prompt: str) -> str:
    """A prompt and up to 40 tokens after it, sampled at temperature 0.8."""
    model, tokenizer = training.model, training.tokenizer
    model.eval()
    inputs = tokenizer(prompt, return_tensors="pt").to(model.device)
    torch.manual_seed(training.recipe.seed)
    made = model.generate(
        input_ids=inputs["input_ids"],
        attention_mask=inputs["attention_mask"],
        max_new_tokens=40,
        do_sample=True,
        temperature=0.8,
        top_k=50,
    )
    return str(tokenizer.decode(made[0], skip_special_tokens=True))


def save_host(training: Training, out: Path, perplexities: dict[str, Any]) -> None:
    """Write the host, in bf16, its tokenizer and `training.json` to a directory, whole or not at all."""
    corpus = training.corpus
    held_out_ids = "\n".join(sorted(one.id for one in corpus.held_out))
    record = {
        "host": HOST_ID,
        "recipe": asdict(training.recipe),
        "position": asdict(training.position),
        "corpus": {
            "source": "WordNet 3.0: definitions and examples of nouns, verbs, adjectives and adverbs",
            "training_synsets": len(corpus.training),
            "held_out_synsets": len(corpus.held_out),
            "held_out_rule": HELD_OUT_RULE,
            "held_out_sha256": hashlib.sha256(held_out_ids.encode()).hexdigest(),
        },
        "parameters": sum(one.numel() for one in training.model.parameters()),
        "held_out_perplexity": perplexities,
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "transformers", "tokenizers")},
        },
    }
    with atomic_directory(out) as aside:
        training.model.to(torch.bfloat16).save_pretrained(aside)
        training.tokenizer.save_pretrained(aside)
        generation_config().save_pretrained(aside)
        (aside / "training.json").write_bytes(canonical_json(record, indent=1) + b"\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit code: 0, 2 for bad input, 130 when stopped."""
    options = _options(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        recipe, device = Recipe(tokens=options.tokens, seed=options.seed), _device(options.device)
        corpus = Corpus(read_wordnet(options.wordnet, parts="nvar"), recipe)
        training = Training(recipe, corpus, options.work, device)
        training.run(save_every_s=options.save_every)
        perplexities = measure(training)
        for prompt in PROMPTS:
            _log.info("%s", continuation(training, prompt))
        save_host(training, options.out, perplexities)
    except PhoropterError as error:
        print(f"train_host: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("train_host: stopped; the same command goes on from the checkpoint", file=sys.stderr)
        return 130
    print(canonical_json(perplexities).decode())
    return 0


def _device(name: str) -> torch.device:
    known = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    if name not in (*known, *(["cuda"] if len(known) > 1 else [])):
        raise ConfigError(f"device {name}: not on this machine, expected one of {', '.join(known)}")
    return torch.device(name)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    defaults = Recipe()
    parser = argparse.ArgumentParser(description="Train the small Gemma-3 host on WordNet's texts.")
    add = parser.add_argument
    add("--wordnet", type=Path, default=Path("/usr/share/wordnet"), help="WordNet's dict directory")
    add("--work", type=Path, default=Path("runs/host"), help="where tokenizer and checkpoint are kept")
    add("--out", type=Path, default=Path("lens_packs/wordnet-mini/host"), help="where the host is written")
    add("--tokens", type=int, default=defaults.tokens, help="length of the training")
    add("--seed", type=int, default=defaults.seed)
    add("--device", default="cpu", help="cpu or cuda")
    add("--save-every", type=float, default=120.0, metavar="SECONDS", help="time between checkpoints")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
