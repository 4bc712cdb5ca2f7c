"""The only file that touches a host's hooks: rows of one block go out, nothing goes in.

A `Tap` stands at one site of one host (`resid_post.4`: the output of block 4) and tells an observer:

1. the host's forward begins: its token ids, padding mask and cache are read, and `tokens_fed` is told;
2. the site's block returns: `observe` is told its rows, together with the ids and mask of the same call;
3. `generate` begins and ends: `expect` and `finish_run` are told, and ways of generating that reorder or hide
   rows are refused before anything runs.

`blocks` finds the block, `plan` refuses. Hooks return nothing and the host's tensors are only read, so the host
computes the same bits with a tap and without. Knows nothing about lenses.

Shapes: B sequences of the call, T tokens fed in the call, D hidden size.
"""

import functools
import inspect
import weakref
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils.hooks import RemovableHandle

from lenses.errors import HostError, UnsupportedDecoding
from runtime.blocks import block_at, check_watchable
from runtime.plan import GenerationPlan, Ids, read_plan, to_host

Mask = NDArray[np.bool_]
Stops = Callable[[], NDArray[np.bool_]]
"""[B] which sequences of the running batch are to end."""

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

    def __init__(self, model: Any, site: str, observer: RowObserver, *, stops: Stops | None = None) -> None:
        """Check that the host can be watched at this site; nothing is hooked yet. Raises HostError.

        With `stops`, `generate` is an intervention: it asks after every token which sequences are to end with it.
        """
        self._block = block_at(model, site)
        check_watchable(model)
        self._model = model
        self._site = site
        self._observer = observer
        self._stops = stops
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


class Rows:
    """An observer that keeps rows, for whoever wants states without a monitor."""

    def __init__(self) -> None:
        self._rows: list[NDArray[np.float32]] = []

    def take_BTD(self) -> NDArray[np.float32]:
        """The rows of all forwards since the last call `[B, T, D]`, in fp32; one batch in that time."""
        rows, self._rows = self._rows, []
        return np.concatenate(rows, axis=1)

    def observe(self, forward: Forward) -> None:
        """Keep a copy: the memory of the rows is the host's."""
        self._rows.append(forward.rows_BTD.to("cpu", torch.float32).numpy().copy())

    def tokens_fed(self, token_BT: Ids, mask_BT: Mask, begins: bool) -> None:
        """Nothing to do."""

    def expect(self, generation: GenerationPlan | None) -> None:
        """Nothing to do."""

    def finish_run(self, sequences_BT: Ids | None) -> None:
        """Nothing to do."""


class LastRows:
    """The rows of a site as the last forward gave them, for whoever feeds the host and so knows whose they are.

    A context manager; raises HostError where the host cannot be watched there.
    """

    def __init__(self, model: Any, site: str) -> None:
        check_watchable(model)
        self._block = block_at(model, site)
        self._handle: RemovableHandle | None = None
        self._rows_BTD: torch.Tensor | None = None

    def take_BTD(self) -> torch.Tensor:
        """What the block returned, detached, on the host's device; its memory is the host's own."""
        rows, self._rows_BTD = self._rows_BTD, None
        assert rows is not None, "a forward came before"
        return rows

    def __enter__(self) -> Self:
        self._handle = self._block.register_forward_hook(self._keep)
        return self

    def __exit__(self, *_: object) -> None:
        if self._handle is not None:
            self._handle.remove()
            self._handle = None

    def _keep(self, block: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        self._rows_BTD = (output[0] if isinstance(output, tuple) else output).detach()


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
        given = _arguments(original, args, kwargs)
        plan = read_plan(self._model, given)
        if stops := [tap._stops for tap in taps if tap._stops is not None]:
            criterion = _stopping(stops, plan)
            args, kwargs = (
                (),
                given | {"stopping_criteria": [*(given.get("stopping_criteria") or []), criterion]},
            )
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
            sequences = to_host(output if isinstance(output, torch.Tensor) else output.sequences)
        return output

    def _end_generating(self) -> None:
        self._generating = self._announced = False
        self._mask = None

    def _watched_inputs(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        # By name, as `generate` gives it, it is there; to look at the signature takes a while, and this is every token.
        given = kwargs if "attention_mask" in kwargs else _arguments(original, args, kwargs)
        self._mask = given.get("attention_mask")
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


class _Stopping:
    """A stopping criterion of `generate` for the sequences that an observer wants to end."""

    def __init__(self, stops: Sequence[Stops]) -> None:
        self._stops = stops

    def __call__(self, input_ids: torch.Tensor, scores: object, **_: object) -> torch.Tensor:
        ended_B = np.logical_or.reduce([stops() for stops in self._stops])
        return torch.from_numpy(ended_B).to(input_ids.device)


def _stopping(stops: Sequence[Stops], plan: GenerationPlan) -> _Stopping:
    criterion = _Stopping(stops)
    if len(plan.prompt_BT) > 1:
        if not plan.pads:
            raise UnsupportedDecoding(
                "the host has no padding token, with which a sequence of a batch goes on when a rule stops it; give "
                "pad_token_id, or generate one sequence at a time"
            )
        # generate goes on with padding where a sequence has ended only if some criterion has this name.
        criterion.eos_token_id = None  # type: ignore[attr-defined]
    return criterion


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
    token_BT = to_host(ids)
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
    return np.asarray(to_host(mask[:, past:]) != 0)
