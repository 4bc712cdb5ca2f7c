"""The only file that touches a host's hooks: rows of one block go out, nothing goes in.

A `Tap` stands at one site of one host (`resid_post.4`: the output of block 4) and tells an observer:

1. the host's forward begins: its token ids, padding mask and cache are read, and `tokens_fed` is told;
2. the site's block returns: `observe` is told its rows, together with the ids and mask of the same call;
3. `generate` begins and ends: `expect` and `finish_run` are told, and ways of generating that reorder or hide
   rows are refused before anything runs.

The block list is found by structure, so any transformers decoder will do. Hooks return nothing and the host's
tensors are only read, so the host computes the same bits with a tap and without. Knows nothing about lenses.

Shapes: B sequences of the call, T tokens fed in the call, D hidden size.
"""

import functools
import inspect
import re
import weakref
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils.hooks import RemovableHandle

from lenses.errors import HostError, PackMismatch, UnsupportedDecoding

Ids = NDArray[np.int64]
Mask = NDArray[np.bool_]

_WATCH = "_phoropter_watch"
"""Where a watched model keeps its `_Watch`, while it is watched."""


@dataclass(frozen=True, slots=True)
class Forward:
    """One call of the host, as the hook saw it."""

    rows_BTD: torch.Tensor
    """Output of the site's block, detached, in the host's dtype and on its device. The memory is the
    host's own: read it before returning, copy what is kept, never write to it."""
    token_BT: Ids
    """Token ids fed in this call."""
    mask_BT: Mask
    """True for a real token, False for padding."""
    begins: bool
    """The cache was empty: these rows begin new sequences."""


@dataclass(frozen=True, slots=True)
class GenerationPlan:
    """What `generate` was asked to do, known before its first forward."""

    prompt_BT: Ids
    """Prompt ids, padding included, a row a sequence that will run (`num_return_sequences` of each)."""
    eos_ids: tuple[int, ...]
    """Ids that end a sequence when generated. They may occur inside the prompt, where they end nothing."""

    @property
    def prompt_length(self) -> int:
        """Columns of the prompt, padding included, and tokens that an earlier run left in the cache too."""
        return int(self.prompt_BT.shape[1])


class RowObserver(Protocol):
    """What a tap tells. Whatever an observer raises comes out of the host's forward, or of `generate`."""

    def tokens_fed(self, token_BT: Ids, mask_BT: Mask, begins: bool) -> None:
        """A forward begins, no block has run: unless it `begins`, its first tokens follow the last rows."""

    def observe(self, forward: Forward) -> None:
        """The block has run. Called inside its hook, once a forward."""

    def expect(self, generation: GenerationPlan | None) -> None:
        """`generate` begins with this plan, or (None) has ended."""

    def finish_run(self, sequences_BT: Ids | None) -> None:
        """`generate` ended with these sequences, or (None) by an exception; last rows learn their next token.

        The last rows may have none in them: some devices run one forward more than they need.
        """


class Tap:
    """One observer at one site of one host, as a context manager; `attach` and `remove` serve longer use."""

    def __init__(self, model: Any, site: str, observer: RowObserver) -> None:
        """Check that the host can be watched at this site; nothing is hooked yet. Raises HostError."""
        self._block = _block_at(model, site)
        _check_watchable(model)
        self._model = model
        self._site = site
        self._observer = observer
        self._handle: RemovableHandle | None = None
        self._run = _Run()
        self._call: _Call | None = None

    def __enter__(self) -> Self:
        return self.attach()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

    def attach(self) -> Self:
        """Hook the host. The same tap may be attached again once removed."""
        if self._handle is not None:
            raise HostError(f"this tap at {self._site} is attached already; remove it first, or make another")
        self._run = _Run()
        self._call = None
        self._handle = self._block.register_forward_hook(self._after_block)
        _Watch.of(self._model).add(self)
        return self

    def remove(self) -> None:
        """Leave the host as it was. Taps of one host may be removed in any order, and twice."""
        if self._handle is None:
            return
        self._handle.remove()
        self._handle = None
        _Watch.of(self._model).discard(self)

    def _before_forward(self, call: "_Call") -> None:
        # Cleared first: should this call be refused, its block must not be taken for the last one's.
        self._call = None
        self._run.check(call)
        self._observer.tokens_fed(call.token_BT, call.mask_BT, call.begins)
        self._call = call

    def _after_block(self, block: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        call, self._call = self._call, None
        if call is None:
            raise UnsupportedDecoding(
                f"{self._site} ran outside a forward of the watched model, so its tokens are unknown; call "
                "the model that the monitor is attached to, and run every block once a forward"
            )
        rows = output[0] if isinstance(output, tuple) else output
        if rows.ndim != 3 or rows.shape[:2] != call.token_BT.shape:
            raise UnsupportedDecoding(
                f"{self._site} gave rows of shape {tuple(rows.shape)} for tokens of shape "
                f"{call.token_BT.shape}; expected one row a token"
            )
        self._run.advance(call)
        self._observer.observe(Forward(rows.detach(), call.token_BT, call.mask_BT, call.begins))


@dataclass(frozen=True, slots=True)
class _Call:
    """One call of the host, before its blocks have run."""

    token_BT: Ids
    mask_BT: Mask
    past: int
    cache: Any

    @property
    def begins(self) -> bool:
        return self.past == 0


class _Run:
    """The sequences that are running, so that no row is taken for another sequence's."""

    def __init__(self) -> None:
        self._rows = 0
        self._sequences = 0
        # Weak: a monitor must not keep a finished run's keys and values in memory.
        self._cache: weakref.ref[Any] | None = None

    def check(self, call: _Call) -> None:
        if call.begins:
            return
        sequences = call.token_BT.shape[0]
        if sequences != self._sequences or call.past != self._rows:
            raise UnsupportedDecoding(
                f"the cache holds {call.past} tokens of {sequences} sequences, but the monitor has seen "
                f"{self._rows} rows of {self._sequences}; attach before the first forward, and do not crop "
                "or reorder the cache"
            )
        if self._cache is not None and self._cache() is not call.cache:
            raise UnsupportedDecoding(
                "the cache is not the one that the watched sequences began with; run one batch at a time, "
                "each from an empty cache"
            )

    def advance(self, call: _Call) -> None:
        sequences, tokens = call.token_BT.shape
        self._rows = call.past + tokens
        self._sequences = sequences
        if call.cache is not None:
            self._cache = weakref.ref(call.cache)
        elif call.begins:
            self._cache = None


class _Watch:
    """What all taps of one host share: one look at a forward's arguments, one wrapper around `generate`."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._taps: list[Tap] = []
        self._parameters = [*inspect.signature(model.forward).parameters]
        self._handle = model.register_forward_pre_hook(self._before_forward, with_kwargs=True)
        self._generating = False
        self._mask: Any = None
        self._announced = False
        self._generate: _Shadow | None = None
        if hasattr(model, "generate"):
            self._generate = _Shadow(model, "generate", self._watched_generate)

    @classmethod
    def of(cls, model: Any) -> "_Watch":
        """The model's watch, made and installed where there is none."""
        watch = model.__dict__.get(_WATCH)
        if watch is None:
            watch = model.__dict__[_WATCH] = cls(model)
        assert isinstance(watch, cls)
        return watch

    def add(self, tap: Tap) -> None:
        self._taps.append(tap)

    def discard(self, tap: Tap) -> None:
        self._taps.remove(tap)
        if not self._taps:
            self._handle.remove()
            if self._generate is not None:
                self._generate.remove()
            del self._model.__dict__[_WATCH]

    def _before_forward(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given = dict(zip(self._parameters, args, strict=False)) | kwargs
        mask = given.get("attention_mask")
        if self._generating:
            if not self._announced:
                raise UnsupportedDecoding(
                    "the model was called from inside its own generate (by a logits processor, say), which "
                    "mixes other rows into the run; use another model object for that"
                )
            # What generate hands the forward may be built out already (4-D, for a static cache).
            self._announced, mask = False, self._mask
        call = _read_call(given, mask)
        for tap in tuple(self._taps):
            tap._before_forward(call)

    def _watched_generate(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        taps = tuple(self._taps)
        if not taps:  # somebody wrapped our wrapper and kept it
            return original(*args, **kwargs)
        if self._generating:
            raise UnsupportedDecoding(
                "generate was called while the same model generates; wait for the first"
            )
        plan = _read_plan(self._model, _arguments(original, args, kwargs))
        with ExitStack() as stack:
            stack.callback(self._end_generating)
            inputs = _Shadow(self._model, "prepare_inputs_for_generation", self._watched_inputs)
            stack.callback(inputs.remove)
            self._generating = True
            sequences: Ids | None = None

            def finish(observer: RowObserver) -> None:
                observer.finish_run(sequences)

            for tap in taps:
                stack.callback(tap._observer.expect, None)
                stack.callback(finish, tap._observer)
                tap._observer.expect(plan)
            output = original(*args, **kwargs)
            sequences = _to_host(output if isinstance(output, torch.Tensor) else output.sequences)
        return output

    def _end_generating(self) -> None:
        self._generating = self._announced = False
        self._mask = None

    def _watched_inputs(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self._mask = _arguments(original, args, kwargs).get("attention_mask")
        self._announced = True
        return original(*args, **kwargs)


class _Shadow:
    """A wrapper over one method of one object, set on the instance and taken off again."""

    def __init__(self, owner: Any, name: str, around: Callable[..., Any]) -> None:
        """Let `owner.name(...)` call `around(original, ...)`."""
        self._owner, self._name = owner, name
        self._before = owner.__dict__.get(name)
        original = getattr(owner, name)

        # Keeps the signature: generate validates its arguments against those of the methods it calls.
        @functools.wraps(original)
        def shadow(*args: Any, **kwargs: Any) -> Any:
            return around(original, *args, **kwargs)

        self._shadow = shadow
        owner.__dict__[name] = shadow

    def remove(self) -> None:
        """Restore what was there, unless somebody has set something else meanwhile."""
        if self._owner.__dict__.get(self._name) is not self._shadow:
            return
        if self._before is None:
            del self._owner.__dict__[self._name]
        else:
            self._owner.__dict__[self._name] = self._before


def _arguments(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a call by name, however they were passed."""
    signature = inspect.signature(function)
    named = signature.bind(*args, **kwargs).arguments
    for name, parameter in signature.parameters.items():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            named |= named.pop(name, {})
    return named


def _read_call(given: dict[str, Any], mask: Any) -> _Call:
    """Token ids, mask and cache of one forward's arguments; raises UnsupportedDecoding."""
    ids = given.get("input_ids")
    if ids is None:
        raise UnsupportedDecoding(
            "the forward has no input_ids; embeddings alone cannot be watched, give token ids"
        )
    if given.get("cu_seq_lens_q") is not None:
        raise UnsupportedDecoding(
            "the forward packs several sequences into one row (continuous batching); give a padded batch"
        )
    if ids.ndim != 2:
        raise UnsupportedDecoding(f"input_ids have shape {tuple(ids.shape)}; expected [sequences, tokens]")
    cache = given.get("past_key_values")
    if cache is not None and not hasattr(cache, "get_seq_length"):
        raise UnsupportedDecoding(
            f"past_key_values is a {type(cache).__name__} without a length; give a transformers Cache"
        )
    past = 0 if cache is None else int(cache.get_seq_length())
    token_BT = _to_host(ids)
    return _Call(token_BT, _read_mask(mask, token_BT.shape, past), past, cache)


def _read_mask(mask: Any, shape: tuple[int, ...], past: int) -> Mask:
    """The attention mask's columns for the T tokens of this call."""
    if mask is None:
        return np.ones(shape, dtype=np.bool_)
    sequences, tokens = shape
    expected = (sequences, past + tokens)
    if not isinstance(mask, torch.Tensor) or tuple(mask.shape) != expected:
        found = tuple(mask.shape) if isinstance(mask, torch.Tensor) else type(mask).__name__
        raise UnsupportedDecoding(
            f"attention_mask is {found}; expected {expected}: a 2-D mask over the cached and the new tokens"
        )
    return np.asarray(_to_host(mask[:, past:]) != 0)


def _to_host(ids: torch.Tensor) -> Ids:
    # On a GPU this waits for the device; generate itself does so once a token.
    return np.array(ids.detach().cpu().numpy(), dtype=np.int64)


# How generate may be asked to run, and what is refused.

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


def _read_plan(model: Any, given: dict[str, Any]) -> GenerationPlan:
    """What generate will do with these arguments, resolved as it does itself; raises UnsupportedDecoding."""
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
    eos_ids = _ids(config.eos_token_id)
    criteria = given.get("stopping_criteria") or []
    if len(prompt_BT) > 1:
        _check_stops(config, criteria)
    for criterion in criteria:
        eos_ids |= _ids(getattr(criterion, "eos_token_id", None))
    return GenerationPlan(prompt_BT, tuple(sorted(eos_ids)))


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
    return _to_host(ids)


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


def _ids(value: Any) -> set[int]:
    if value is None:
        return set()
    return {int(token) for token in np.atleast_1d(np.asarray(value))}


# Where the blocks of a host are.


def blocks_of(model: Any) -> nn.ModuleList:
    """The host's decoder blocks, in order; raises HostError where the model is no transformers decoder."""
    config = getattr(model, "config", None)
    known: bool = isinstance(model, nn.Module) and hasattr(model, "get_decoder")
    if config is None or not known:
        raise HostError(
            f"{type(model).__name__} is no transformers decoder; give a model as AutoModelForCausalLM loads"
        )
    if getattr(config, "is_encoder_decoder", False):
        raise HostError(f"{type(model).__name__} has an encoder and a decoder; only decoders can be watched")
    count = text_config(model).num_hidden_layers
    lists = [
        (name.count("."), module)
        for name, module in model.get_decoder().named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == count
    ]
    if not lists:
        raise HostError(
            f"{type(model).__name__} has no list of its {count} blocks; only decoders can be watched"
        )
    # The outermost list, and of several there the heaviest: blocks may hold lists of their own (experts), and
    # a decoder may keep a small module per block beside them.
    outermost = min(depth for depth, _ in lists)
    return max((module for depth, module in lists if depth == outermost), key=_weight)


def _weight(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def text_config(model: Any) -> Any:
    """The configuration of the host's text decoder, which a multimodal host nests."""
    return model.config.get_text_config(decoder=True)


def block_index(site: str) -> int:
    """N of `resid_post.N`; raises HostError for any other spelling."""
    match = re.fullmatch(r"resid_post\.(0|[1-9][0-9]*)", site)
    if match is None:
        raise HostError(
            f"site {site!r} is unknown; expected resid_post.N, the output of block N, counted from 0"
        )
    return int(match.group(1))


def _block_at(model: Any, site: str) -> nn.Module:
    index = block_index(site)
    blocks = blocks_of(model)
    if index >= len(blocks):
        raise HostError(
            f"site {site} is not in this host: its {len(blocks)} blocks end at resid_post.{len(blocks) - 1}"
        )
    return blocks[index]


def _check_watchable(model: Any) -> None:
    for module in model.modules():
        if "_orig_mod" in module._modules or getattr(module, "_compiled_call_impl", None) is not None:
            raise HostError(
                "the host is compiled by torch.compile, which may drop hooks; give the uncompiled model"
            )
    kind = text_config(model).model_type
    if kind.startswith("gemma3") and any(p.dtype == torch.float16 for p in model.parameters()):
        raise HostError(
            "the host is a Gemma-3 in float16, where its states overflow; load it in bfloat16 or float32"
        )


def check_fits(model: Any, site: str, hidden_size: int) -> None:
    """Raise PackMismatch unless the host has this site and states of this size."""
    index = block_index(site)
    blocks = len(blocks_of(model))
    if index >= blocks:
        raise PackMismatch(
            f"the pack is for site {site}, the host has {blocks} blocks; take the pack of this host"
        )
    found = text_config(model).hidden_size
    if found != hidden_size:
        raise PackMismatch(
            f"the pack is for states of {hidden_size}, the host's have {found}; take the pack of this host"
        )


def host_id(model: Any) -> str | None:
    """The id that the host's configuration gives it, or else where it was loaded from; None if neither."""
    config = model.config
    return getattr(config, "host_id", None) or getattr(config, "_name_or_path", None) or None


def is_same_host(found: str, wanted: str) -> bool:
    """Whether a host loaded as `found` can be the hub's `wanted`: by id, or as a local copy of its name."""
    if found == wanted:
        return True
    path = Path(found)
    return path.is_dir() and (
        path.name == wanted.rpartition("/")[2] or f"models--{wanted.replace('/', '--')}" in path.parts
    )


def eos_ids_of(model: Any) -> set[int]:
    """Ids that end a sequence when the model generates with its own settings."""
    return _ids(getattr(getattr(model, "generation_config", None), "eos_token_id", None))
