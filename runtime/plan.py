"""What `generate` is asked to do, resolved as it does itself, and what a monitor refuses to follow.

A monitor follows one row a token, in order, a sequence a row of the batch. Whatever reorders rows, hides them, or
ends single sequences unseen is an UnsupportedDecoding in one line, before anything runs.

Shapes: B sequences that will run, T tokens of the prompt.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray

from lenses.errors import UnsupportedDecoding

Ids = NDArray[np.int64]
Setting = bool | int | float | str


@dataclass(frozen=True, slots=True)
class GenerationPlan:
    """What `generate` was asked to do, known before its first forward."""

    prompt_BT: Ids
    """Prompt ids, padding included, a row a sequence that will run (`num_return_sequences` of each)."""
    eos_ids: tuple[int, ...]
    """Ids that end a sequence when generated. They may occur inside the prompt, where they end nothing."""
    pads: bool = True
    """Whether there is a token that sequences which have ended go on with."""
    settings: Mapping[str, Setting] = field(default_factory=dict)
    """What `generate` goes by, as it resolved it, defaults included: `temperature` and so on."""

    @property
    def prompt_length(self) -> int:
        """Columns of the prompt, padding included, and tokens that an earlier run left in the cache too."""
        return int(self.prompt_BT.shape[1])


_MODES = {
    "beam_search": "beam search reorders rows",
    "beam_sample": "beam search reorders rows",
    "group_beam_search": "beam search reorders rows",
    "constrained_beam_search": "constrained decoding reorders rows",
    "assisted_generation": "assisted decoding (an assistant, prompt lookup, early exit) throws rows away",
    "contrastive_search": "contrastive search reorders rows",
    "dola_generation": "DoLa decoding runs code from elsewhere",
}


_NO_SETTINGS = {
    "inputs",
    "generation_config",
    "logits_processor",
    "stopping_criteria",
    "prefix_allowed_tokens_fn",
    "synced_gpus",
    "assistant_model",
    "streamer",
    "negative_prompt_ids",
    "negative_prompt_attention_mask",
    "custom_generate",
    "tokenizer",
    "assistant_tokenizer",
    "trust_remote_code",
}
"""Arguments of generate that its configuration knows nothing of."""


def _refuse(why: str, instead: str) -> NoReturn:
    raise UnsupportedDecoding(f"{why}, which a monitor cannot follow; {instead}")


def read_plan(model: Any, given: dict[str, Any]) -> GenerationPlan:
    """What generate will do with these arguments; raises UnsupportedDecoding."""
    if given.get("custom_generate") is not None:
        _refuse("custom_generate decodes in its own way", "leave it out")
    if given.get("inputs_embeds") is not None:
        _refuse("inputs_embeds have no token ids", "give input_ids")
    options = {name: value for name, value in given.items() if name not in _NO_SETTINGS}
    config, options = model._prepare_generation_config(given.get("generation_config"), **options)
    mode = config.get_generation_mode(given.get("assistant_model")).value
    if mode not in ("greedy_search", "sample"):
        _refuse(_MODES.get(mode, f"decoding mode {mode} is unknown"), "use num_beams=1, greedy or sampling")
    if not config.use_cache:
        _refuse("use_cache=False runs every token again at each step", "leave the cache on")
    if config.cache_implementation == "paged":
        _refuse("a paged cache packs sequences into one row", "use the default cache")
    if config.guidance_scale not in (None, 1, 1.0):
        _refuse("guidance_scale runs the model on a second prompt", "use guidance_scale=1")
    if config.token_healing:
        _refuse("token_healing rewrites the prompt by a generate of its own", "leave it out")
    cache = options.get("past_key_values")
    if _compiles(model, config, cache):
        _refuse("a static cache on this device compiles the forward", "use disable_compile=True")
    prompt = _prompt(given.get("inputs"), options, config, cache)
    prompt_BT = np.repeat(prompt, max(1, config.num_return_sequences or 1), axis=0)
    eos_ids = ids_of(config.eos_token_id)
    criteria = given.get("stopping_criteria") or []
    if len(prompt_BT) > 1:
        _check_stops(config, criteria)
    for criterion in criteria:
        eos_ids |= ids_of(getattr(criterion, "eos_token_id", None))
    pads = config.pad_token_id is not None or config.eos_token_id is not None
    return GenerationPlan(prompt_BT, tuple(sorted(eos_ids)), pads, _settings(config))


def _settings(config: Any) -> dict[str, Setting]:
    """What a generation configuration says that can be written down, but ids, which the plan has."""
    told = config.to_diff_dict()
    return {
        name: value
        for name, value in sorted(told.items())
        if isinstance(value, Setting) and not name.endswith("_token_id") and name != "transformers_version"
    }


def _compiles(model: Any, config: Any, cache: Any) -> bool:
    # A compiled graph may drop Python hooks, and turning compilation off would change the host's bits.
    if config.disable_compile:
        return False
    everywhere = config.compile_config is not None and config.compile_config._compile_all_devices
    static = "static" in (config.cache_implementation or "") or bool(getattr(cache, "is_compileable", False))
    growing = type(cache).__name__ == "DynamicCache"
    return static and not growing and (model.device.type != "cpu" or everywhere)


def _prompt(inputs: Any, options: dict[str, Any], config: Any, cache: Any) -> Ids:
    """The prompt's ids [B, T] as generate will find them; T counts what is in the cache already."""
    ids = inputs if inputs is not None else options.get("input_ids")
    if ids is None:
        if config.bos_token_id is None:
            raise UnsupportedDecoding(
                "generate was given no input_ids and the host has no BOS token; give a prompt"
            )
        return np.full((1, 1), config.bos_token_id, dtype=np.int64)
    if ids.ndim != 2 or ids.is_floating_point():
        raise UnsupportedDecoding(
            f"the prompt has shape {tuple(ids.shape)} and type {ids.dtype}; expected ids [sequences, tokens]"
        )
    mask = options.get("attention_mask")
    if mask is not None and mask.ndim == 2 and bool((mask[:, -1] == 0).any()):
        _refuse(
            "the prompt is padded on the right, so its first word would follow padding", "pad on the left"
        )
    past = 0 if cache is None else int(cache.get_seq_length())
    if past and (ids.shape[1] <= past or (mask is not None and mask.shape[1] != ids.shape[1])):
        _refuse(
            f"the cache holds {past} tokens that the prompt does not", "give the ids from the very beginning"
        )
    return to_host(ids)


def _check_stops(config: Any, criteria: Sequence[Any]) -> None:
    """Refuse what ends single sequences of a batch by a rule that leaves no mark on their tokens."""
    if config.stop_strings:
        _refuse("stop_strings end sequences of a batch one by one, unseen", "generate one sequence at a time")
    for criterion in criteria:
        known = type(criterion).__name__ in ("MaxLengthCriteria", "MaxTimeCriteria", "EosTokenCriteria")
        if not known and not getattr(criterion, "stops_whole_batch", False):
            _refuse(
                f"{type(criterion).__name__} may end sequences of a batch one by one, unseen",
                "generate one sequence at a time, or let it say stops_whole_batch = True",
            )


def ids_of(value: Any) -> set[int]:
    """Token ids that a setting names: one, several or none."""
    if value is None:
        return set()
    return {int(token) for token in np.atleast_1d(np.asarray(value))}


def to_host(ids: torch.Tensor) -> Ids:
    """Token ids as an array of the host."""
    # On a GPU this waits for the device; generate itself does so once a token.
    return np.array(ids.detach().cpu().numpy(), dtype=np.int64)
