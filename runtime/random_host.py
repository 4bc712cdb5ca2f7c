"""Hosts by shape: a Gemma-3 of the true size whose weights are random numbers, made on the spot, with a tokenizer.

What it costs to watch a model depends on its shape and not on what it knows, so that cost can be measured where no
checkpoint is at hand. `random:gemma-3-4b` is the whole text model, `random:gemma-3-4b:2` its first two blocks alone,
and `@7` after either draws other numbers.

- A weight is an odd whole number from -127 to 127 times a power of two. bf16 holds that exactly, so a host has the same
  weights in bf16 and in fp32, on any device. A parameter is seeded by its name: a short host begins as the long one.
- Embeddings are tied, as in the checkpoints, so a residual stream that is mostly its own token's embedding predicts
  that token again and again. Gemma-3 normalises what a block adds; the gains of those norms make the embedding a small
  part of the stream, keep attention below the feed-forward part and let it pick tokens out (a mean of the context
  hardly changes from token to token), and give the logits the spread that a trained model's have.
- The tokenizer reads any text byte by byte. Its other ids are words like ` t91234`; bytes and special tokens have short
  embeddings, so that they are hardly ever what comes next.

Knows nothing about lenses, hooks or files.
"""

import math
import os
import re
import zlib
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch

from lenses.errors import HostError
from lenses.files import PathLike
from lenses.text import quoted

PREFIX = "random:"
PAD, EOS, BOS, UNKNOWN = range(4)
_SPECIAL = ("<pad>", "<eos>", "<bos>", "<unk>")
_BYTES = 256

_NAME = re.compile(
    rf"{PREFIX}(?P<shape>[a-z0-9.-]+)(?::(?P<blocks>[0-9]{{1,4}}))?(?:@(?P<seed>[0-9]{{1,9}}))?"
)
_CHUNK = 1 << 20
"""Weights drawn at a time."""
_DRAWN_STD = math.sqrt((128**2 - 1) / 3)
"""Standard deviation of the odd whole numbers from -127 to 127."""

_EMBEDDING_RMS = 2.0**-5
"""Of a token's embedding as it enters block 0; what blocks add has an rms of about 1."""
_ATTENTION_GAIN = 0.5
_QUERY_GAIN = 2.0
"""With 1, attention is nearly the mean of the context, and one text in five falls into a loop of one or two tokens."""
_FINAL_GAIN = 2.0**7
"""With the embedding's rms this gives logits a standard deviation of about 4."""


@dataclass(frozen=True, slots=True)
class _Shape:
    """What sets one Gemma-3 text model apart from another."""

    hidden: int
    blocks: int
    heads: int
    key_value_heads: int
    intermediate: int
    window: int
    context: int
    rope_factor: float = 1.0
    """Positions of the blocks that see everything are divided by it."""
    head_dim: int = 256
    vocabulary: int = 262_144
    pattern: int = 6
    """Every so many blocks, one sees everything."""


SHAPES = {
    "gemma-3-tiny": _Shape(256, 4, 4, 1, 1024, 32, 8192, head_dim=64, vocabulary=4096, pattern=2),
    "gemma-3-270m": _Shape(640, 18, 4, 1, 2048, 512, 32_768),
    "gemma-3-1b": _Shape(1152, 26, 4, 1, 6912, 512, 32_768),
    "gemma-3-4b": _Shape(2560, 34, 8, 4, 10_240, 1024, 131_072, rope_factor=8.0),
}
"""By name; `gemma-3-tiny` is nobody's, for tests and quick runs."""


def is_random(name: PathLike) -> bool:
    """Whether a host's name asks for one of these."""
    return os.fspath(name).startswith(PREFIX)


@dataclass(frozen=True, slots=True)
class RandomHost:
    """One host of random weights, by all that decides them; `RandomHost.parse` makes it of a name."""

    shape: str
    blocks: int
    seed: int = 0

    @classmethod
    def parse(cls, name: PathLike, *, blocks: int | None = None) -> Self:
        """The host of a name such as `random:gemma-3-4b`, `random:gemma-3-4b:2` or `random:gemma-3-4b:2@7`.

        `blocks` shortens it as `:2` does. Raises HostError for a shape that there is not, or blocks that it has not.
        """
        text = os.fspath(name)
        match = _NAME.fullmatch(text)
        if match is None or match["shape"] not in SHAPES:
            there_are = ", ".join(PREFIX + shape for shape in SHAPES)
            raise HostError(
                f"host {quoted(text)} is no shape that there is: {there_are}; take one of these, with :BLOCKS after it "
                "to shorten it and @SEED to draw it anew"
            )
        whole = SHAPES[match["shape"]].blocks
        named = None if match["blocks"] is None else int(match["blocks"])
        if blocks is not None and named not in (None, blocks):
            raise HostError(f"host {quoted(text)} has {named} blocks and is asked for {blocks}; say it once")
        wanted = next((count for count in (blocks, named) if count is not None), whole)
        if not 1 <= wanted <= whole:
            raise HostError(
                f"host {quoted(text)} cannot have {wanted} blocks: {match['shape']} has {whole}; give 1 to {whole}"
            )
        return cls(match["shape"], wanted, int(match["seed"] or 0))

    @property
    def id(self) -> str:
        """Its one spelling: what a pack for it names. Two hosts that differ have two."""
        blocks = "" if self.blocks == SHAPES[self.shape].blocks else f":{self.blocks}"
        return PREFIX + self.shape + blocks + (f"@{self.seed}" if self.seed else "")

    @property
    def weights(self) -> int:
        """How many weights it has, each counted once."""
        with torch.device("meta"):
            return sum(parameter.numel() for parameter in self._empty(torch.bfloat16).parameters())

    def model(self, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> Any:
        """The model in evaluation mode, its weights created on the device and in the type that they stay in."""
        with torch.device(device):
            model = self._empty(dtype)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                self._fill(name, parameter)
        # The end of a random text means nothing: a run is as long as was asked for.
        model.generation_config.eos_token_id = None
        model.generation_config.pad_token_id = PAD
        return model.eval()

    def tokenizer(self) -> Any:
        """A tokenizer of the host's whole vocabulary, BOS first, padding on the left."""
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
        from transformers import PreTrainedTokenizerFast

        words = [*_SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet())]
        words += [
            f"Ġt{id}" for id in range(len(words), SHAPES[self.shape].vocabulary)
        ]  # Ġ: a space, to ByteLevel
        inner = Tokenizer(models.BPE(vocab={word: id for id, word in enumerate(words)}, merges=[]))
        inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        inner.decoder = decoders.ByteLevel()
        inner.post_processor = processors.TemplateProcessing(
            single="<bos> $A", special_tokens=[("<bos>", BOS)]
        )
        pad, eos, bos, unknown = _SPECIAL
        return PreTrainedTokenizerFast(
            tokenizer_object=inner,
            pad_token=pad,
            eos_token=eos,
            bos_token=bos,
            unk_token=unknown,
            padding_side="left",
            clean_up_tokenization_spaces=False,
        )

    def _empty(self, dtype: torch.dtype) -> Any:
        """The model with memory for its weights, and nothing in it yet."""
        from transformers import AutoModelForCausalLM
        from transformers.initialization import no_init_weights

        with no_init_weights():
            model = AutoModelForCausalLM.from_config(self._config(), dtype=dtype)
        model.tie_weights()
        model.config.host_id = self.id
        return model

    def _config(self) -> Any:
        from transformers import Gemma3TextConfig

        shape = SHAPES[self.shape]
        everything = {"rope_type": "default", "rope_theta": 1_000_000.0}
        if shape.rope_factor != 1:
            everything |= {"rope_type": "linear", "factor": shape.rope_factor}
        return Gemma3TextConfig(
            vocab_size=shape.vocabulary,
            hidden_size=shape.hidden,
            intermediate_size=shape.intermediate,
            num_hidden_layers=self.blocks,
            num_attention_heads=shape.heads,
            num_key_value_heads=shape.key_value_heads,
            head_dim=shape.head_dim,
            query_pre_attn_scalar=shape.head_dim,
            max_position_embeddings=shape.context,
            sliding_window=shape.window,
            layer_types=[
                "sliding_attention" if (block + 1) % shape.pattern else "full_attention"
                for block in range(self.blocks)
            ],
            rope_parameters={
                "full_attention": everything,
                "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
            },
            pad_token_id=PAD,
            eos_token_id=EOS,
            bos_token_id=BOS,
            tie_word_embeddings=True,
        )

    def _fill(self, name: str, parameter: torch.Tensor) -> None:
        if name.endswith("norm.weight"):
            parameter.fill_(_gain(name) - 1)  # Gemma-3 multiplies by 1 + weight
            return
        bits = np.random.SFC64([self.seed, zlib.crc32(name.encode())])
        is_embedding = name.endswith("embed_tokens.weight")
        fan_in = parameter.shape[1]
        std = (_EMBEDDING_RMS if is_embedding else 1.0) / math.sqrt(fan_in)
        scale = 2.0 ** round(math.log2(std / _DRAWN_STD))
        flat = parameter.view(-1)
        for start in range(0, len(flat), _CHUNK):
            chunk = flat[start : start + _CHUNK]
            drawn = bits.random_raw(-(-len(chunk) // 8)).view(np.int8)[: len(chunk)]
            np.bitwise_or(drawn, 1, out=drawn)
            chunk.copy_(torch.from_numpy(drawn))
            chunk.mul_(scale)
        if is_embedding:
            parameter[: len(_SPECIAL) + _BYTES].mul_(0.5)


def _gain(name: str) -> float:
    """What a norm multiplies by: that is the rms of what it lets through."""
    if name == "model.norm.weight":
        return _FINAL_GAIN
    if name.endswith("post_attention_layernorm.weight"):
        # In block 0 the stream is the embedding alone, and must not drown in an average of embeddings.
        return _EMBEDDING_RMS if ".layers.0." in name else _ATTENTION_GAIN
    return _QUERY_GAIN if name.endswith("q_norm.weight") else 1.0
