"""Drawing tokens as `generate` draws them, each request with a random state of its own.

transformers' own warpers shape the distribution, in the order in which `generate` applies them. A request's draws
depend on its seed and its logits alone, not on who else is served.

Shapes: V tokens of the vocabulary.
"""

import torch
from transformers import (
    LogitsProcessorList,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from lenses.errors import ConfigError
from runtime.serve.request import Sampling, TokenLogprob


class Sampler:
    """Draws the tokens of one request; raises ConfigError for settings that no distribution has."""

    def __init__(self, sampling: Sampling) -> None:
        if not 0.0 <= sampling.temperature <= 100.0:
            raise ConfigError(f"temperature is {sampling.temperature:g}; give 0 to 100")
        if not 0.0 < sampling.top_p <= 1.0:
            raise ConfigError(f"top_p is {sampling.top_p:g}; give more than 0 and at most 1")
        if sampling.top_k < 0:
            raise ConfigError(f"top_k is {sampling.top_k}; give 1 or more, or 0 for all tokens")
        self._is_greedy = sampling.temperature == 0
        self._warpers = LogitsProcessorList()
        if not self._is_greedy:
            if sampling.temperature != 1.0:
                self._warpers.append(TemperatureLogitsWarper(sampling.temperature))
            if sampling.top_k:
                self._warpers.append(TopKLogitsWarper(sampling.top_k))
            if sampling.top_p < 1.0:
                self._warpers.append(TopPLogitsWarper(sampling.top_p))
        self._random = torch.Generator()
        self.seed = self._random.seed() if sampling.seed is None else sampling.seed
        """What was asked for, or drawn."""
        self._random.manual_seed(self.seed)

    def draw(self, logits_V: torch.Tensor) -> int:
        """The next token, out of logits in fp32 on the CPU."""
        if self._is_greedy:
            return int(logits_V.argmax())
        shaped_1V = self._warpers(torch.empty(1, 0, dtype=torch.long), logits_V[None].clone())
        return int(torch.multinomial(shaped_1V.softmax(dim=-1), 1, generator=self._random))


def logprobs(
    logits_V: torch.Tensor, token: int, alternatives: int, tokenizer: "object"
) -> tuple[TokenLogprob, tuple[TokenLogprob, ...]]:
    """Of the token that was drawn, and of the most probable ones."""
    log_p_V = logits_V.log_softmax(dim=-1)

    def told(one: int) -> TokenLogprob:
        return TokenLogprob(one, tokenizer.decode([one]), float(log_p_V[one]))  # type: ignore[attr-defined]

    best = log_p_V.topk(alternatives).indices.tolist() if alternatives else []
    return told(token), tuple(map(told, best))
