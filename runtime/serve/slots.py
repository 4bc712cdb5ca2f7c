"""Keys and values of many sequences side by side, so that one forward takes a step of all of them.

    slot     0 ... B-1        what takes steps together: always the first ones, without holes
             B ... S-1        prompts that are being read, sessions between turns, and free ones
    layer    keys and values [S, H, L, D], a sequence's from the left

A forward over the slots a ... b writes at each one's own length and reads all up to the longest; what lies beyond a
sequence's length is masked. Whoever goes changes places with the last of the first B. It looks to a transformers model
like its cache. transformers' own continuous batching was measured first: on two cores one request took 1.2 to 2 times
as long as `generate`, 200 took 9 to 11 times as long as here, and it has no sessions.

Memory is taken from the system when it is first written, and is at most `bytes_for` of the whole.

Shapes: S slots, B sequences of a forward, T tokens of each, L tokens that a slot has room for, H heads of keys, D
numbers of a head.
"""

from typing import Any

import numpy as np
import torch

from runtime.blocks import text_config

Parked = tuple[list[torch.Tensor], list[torch.Tensor]]
"""Keys and values of one sequence, a layer each, `[H, length, D]`, in host memory."""


class Slots:
    """S slots of L tokens for one host."""

    is_compileable = False
    is_initialized = True

    def __init__(self, model: Any, slots: int, length: int) -> None:
        config = text_config(model)
        self._device, self._dtype = model.device, model.dtype
        self._window: int | None = getattr(config, "sliding_window", None)
        self._kinds = set(getattr(config, "layer_types", None) or ())
        self._count, self._length = slots, length
        self._keys: dict[int, torch.Tensor] = {}
        self._values: dict[int, torch.Tensor] = {}
        self.lengths = [0] * slots
        """Tokens that each slot holds."""
        self._first = self._tokens = self._longest = 0
        self._at: torch.Tensor | None = None

    @staticmethod
    def bytes_for(model: Any, slots: int, length: int) -> int:
        """What so many slots take when they are full."""
        config = text_config(model)
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        width: int = 2 * config.num_hidden_layers * heads * size * model.dtype.itemsize
        return width * slots * length

    def begin(self, first: int, count: int, tokens: int) -> tuple[torch.Tensor, Any]:
        """Position ids `[B, T]` and mask of a forward that takes `tokens` of each of `count` slots from `first` on."""
        lengths = self.lengths[first : first + count]
        self._first, self._tokens, self._longest = first, tokens, max(lengths) + tokens
        start_B = torch.tensor(lengths, device=self._device)
        position_BT = start_B[:, None] + torch.arange(tokens, device=self._device)
        self._at = None if len(set(lengths)) == 1 else position_BT
        if self._at is None and tokens == 1 and (self._window is None or self._longest <= self._window):
            return position_BT, self._masks(None, None)
        back = position_BT[:, :, None] - torch.arange(self._longest, device=self._device)
        seen = (back >= 0)[:, None]
        if self._window is None or self._longest <= self._window:
            return position_BT, self._masks(seen, seen)
        return position_BT, self._masks(seen, seen & (back < self._window)[:, None])

    def _masks(self, full: torch.Tensor | None, sliding: torch.Tensor | None) -> Any:
        """As the model takes them: by kind of layer, where it has kinds."""
        if not self._kinds:
            return full
        return {kind: sliding if kind == "sliding_attention" else full for kind in self._kinds}

    def advance(self, slot: int) -> None:
        """What the last forward wrote for this slot is its own from now on."""
        self.lengths[slot] += self._tokens

    def swap(self, a: int, b: int) -> None:
        """Let two slots change places."""
        if a == b:
            return
        longest = max(self.lengths[a], self.lengths[b])
        for memory in (*self._keys.values(), *self._values.values()):
            kept = memory[a, :, :longest].clone()
            memory[a, :, :longest] = memory[b, :, :longest]
            memory[b, :, :longest] = kept
        self.lengths[a], self.lengths[b] = self.lengths[b], self.lengths[a]

    def free(self, slot: int) -> None:
        """The slot holds nothing any more."""
        self.lengths[slot] = 0

    def park(self, slot: int) -> Parked:
        """A copy of what the slot holds."""
        length = self.lengths[slot]
        layers = sorted(self._keys)
        return (
            [self._keys[layer][slot, :, :length].to("cpu", copy=True) for layer in layers],
            [self._values[layer][slot, :, :length].to("cpu", copy=True) for layer in layers],
        )

    def resume(self, slot: int, parked: Parked) -> None:
        """Put back what `park` gave, into any slot."""
        for memories, kept in zip((self._keys, self._values), parked, strict=True):
            for layer, tensor in zip(
                sorted(memories), kept, strict=False
            ):  # none before anything was written
                memories[layer][slot, :, : tensor.shape[1]] = tensor
        self.lengths[slot] = parked[0][0].shape[1] if parked[0] else 0

    # What a model asks of its cache.

    def update(
        self, key_BHTD: torch.Tensor, value_BHTD: torch.Tensor, layer: int, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write a layer's keys and values of this forward; all that it is to attend to."""
        if layer not in self._keys:
            self._keys[layer] = self._memory(key_BHTD)
            self._values[layer] = self._memory(value_BHTD)
        some = slice(self._first, self._first + len(key_BHTD))
        keys, values = self._keys[layer][some], self._values[layer][some]
        if self._at is None:
            new = slice(self._longest - self._tokens, self._longest)
            keys[:, :, new], values[:, :, new] = key_BHTD, value_BHTD
        else:
            row_B1 = torch.arange(len(key_BHTD), device=self._device)[:, None]
            keys[row_B1, :, self._at] = key_BHTD.transpose(1, 2)
            values[row_B1, :, self._at] = value_BHTD.transpose(1, 2)
        return keys[:, :, : self._longest], values[:, :, : self._longest]

    def get_seq_length(self, layer: int = 0) -> int:
        """Tokens before this forward, of the longest sequence in it."""
        return self._longest - self._tokens

    def get_query_offset(self, layer: int = 0) -> int:
        """As `get_seq_length`."""
        return self.get_seq_length(layer)

    def get_mask_sizes(self, tokens: int, layer: int = 0) -> tuple[int, int]:
        """How many keys there are to mask, and the place of the first."""
        return self._longest, 0

    def _memory(self, like_BHTD: torch.Tensor) -> torch.Tensor:
        shape = self._count, like_BHTD.shape[1], self._length, like_BHTD.shape[3]
        if self._device.type != "cpu":
            return torch.zeros(shape, dtype=self._dtype, device=self._device)
        # Zeros that the system gives when they are first written; torch's own are written at once.
        size = int(np.prod(shape)) * self._dtype.itemsize
        return torch.from_numpy(np.zeros(size, np.uint8)).view(self._dtype).view(shape)
