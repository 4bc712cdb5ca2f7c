"""Threads that share a call: it is cut into pieces, and whoever is free takes the next. *** hot file ***

The calls of a walk are tenths of a millisecond apart, and a thread that sleeps takes as long to wake. So helpers stay
awake for a moment after each call, and what passes between threads passes in compiled code, without Python's lock: a
helper that would wait for that lock sleeps. Who comes late finds fewer pieces left, or none; nobody waits for him.

A call is opened, worked on and closed by one thread, its leader. A helper counts himself in before he looks whether a
call is open; the leader closes it and waits until nobody is in. So what a call points to is touched only while its
leader is there.

What a piece is, only its function knows: compiled code at an address, called as `function(call, start, stop)`.
"""

import os
import threading
import time
import weakref
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from llvmlite import ir
from llvmlite.binding import get_default_triple
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from lenses.vectors import address_of

PIECE = types.void(types.int64, types.int64, types.int64)
"""The signature of a piece's function: the call's address, and where to start and stop."""
_AWAKE_S = 1e-3
"""A walk takes less from one call to the next; a host that goes on wants the processor back."""
_LINE = 8
"""Numbers in what a processor fetches at once: counters that threads change lie that far apart."""
_CALLS, _OPEN, _INSIDE, _NEXT, _FUNCTION, _CALL, _SIZE, _PIECES = (_LINE * place for place in range(8))
_WORD = 8
_PAUSES = {"x86_64": "llvm.x86.sse2.pause"}
_PATIENCE = 1000
"""Turns of waiting for a helper who may have no processor, before he is offered this one."""
_INT64 = ir.IntType(64)

_compiled = njit(nogil=True, cache=True)


class Team:
    """Some threads, the caller's among them, that share its calls; ended with the team, or by `close`."""

    def __init__(self, threads: int) -> None:
        self._leading = threading.Lock()
        self._shared = _Shared()
        self._helpers = threads - 1
        self._end = weakref.finalize(self, _end, self._shared)

    def run(self, function: int, call: NDArray[np.int64], size: int, pieces: int) -> None:
        """Have 0 to `size` of a call done, in so many pieces; while the team has another call, by the caller alone.

        `function` is the address of compiled code of the signature `PIECE`, which is given the address of `call`.
        """
        if not self._leading.acquire(blocking=False):
            run_alone(function, call, 0, size)
            return
        try:
            shared = self._shared
            while len(shared.threads) < self._helpers:
                shared.start()
            shared.is_led = True
            if shared.asleep:  # asked after saying so: who has not said that he sleeps will look first
                with shared.bell:
                    shared.bell.notify_all()
            _lead(shared.control, function, call, size, pieces)
        finally:
            self._shared.is_led = False
            self._leading.release()

    def close(self) -> None:
        """End the threads; idempotent."""
        self._end()


def run_alone(function: int, call: NDArray[np.int64], start: int, stop: int) -> None:
    """Do one piece here."""
    _run_alone(function, call, start, stop)


@dataclass
class _Shared:
    """What the helpers and the team have in common; helpers do not hold the team, so that it ends when it is let go."""

    control: NDArray[np.int64] = field(default_factory=lambda: np.zeros(8 * _LINE, np.int64))
    bell: threading.Condition = field(default_factory=threading.Condition)
    is_led: bool = False
    """Whether there is a call, or about to be."""
    asleep: int = 0
    has_ended: bool = False
    threads: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        """One more helper."""
        helper = threading.Thread(target=_help, args=(self,), name=f"team-{len(self.threads)}", daemon=True)
        self.threads.append(helper)
        helper.start()


def _help(shared: _Shared) -> None:
    while True:
        _stand_by(shared.control, _turns_awake())
        with shared.bell:
            if shared.has_ended:
                return
            shared.asleep += 1
            if not shared.is_led:
                shared.bell.wait()
            shared.asleep -= 1


def _end(shared: _Shared) -> None:
    with shared.bell:
        shared.has_ended = True
        shared.bell.notify_all()


@lru_cache
def _turns_awake() -> int:
    """How many turns of waiting take about `_AWAKE_S` here: asked once, by the first helper of a process."""
    control, turns = np.zeros(8 * _LINE, np.int64), 1000
    _stand_by(control, 1)
    took_s = []
    for _ in range(3):  # the shortest: any of them may have been interrupted
        began_s = time.perf_counter()
        _stand_by(control, turns)
        took_s.append(time.perf_counter() - began_s)
    return max(1, int(turns * _AWAKE_S / min(took_s)))


@intrinsic  # type: ignore[untyped-decorator]
def load_now(typing: Any, address: Any) -> Any:
    """The int64 at an address, which another thread may change."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load_atomic(_word(builder, arguments[0]), "seq_cst", _WORD)

    return types.int64(types.int64), generate


@intrinsic  # type: ignore[untyped-decorator]
def _store(typing: Any, address: Any, value: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.store_atomic(arguments[1], _word(builder, arguments[0]), "seq_cst", _WORD)
        return context.get_dummy_value()

    return types.none(types.int64, types.int64), generate


@intrinsic  # type: ignore[untyped-decorator]
def add_now(typing: Any, address: Any, value: Any) -> Any:
    """Add to what is there; what was there before."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.atomic_rmw("add", _word(builder, arguments[0]), arguments[1], "seq_cst")

    return types.int64(types.int64, types.int64), generate


@intrinsic  # type: ignore[untyped-decorator]
def _pause(typing: Any) -> Any:
    """Let the other thread of a core go first, where there is an instruction for it."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        name = _PAUSES.get(get_default_triple().partition("-")[0])
        if name is not None:
            kind = ir.FunctionType(ir.VoidType(), [])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [])
        return context.get_dummy_value()

    return types.none(), generate


@intrinsic  # type: ignore[untyped-decorator]
def _yield(typing: Any) -> Any:
    """Let another thread have the processor, where the system has a call for it."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if hasattr(os, "sched_yield"):
            kind = ir.FunctionType(ir.IntType(32), [])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "sched_yield"), [])
        return context.get_dummy_value()

    return types.none(), generate


@intrinsic  # type: ignore[untyped-decorator]
def _run(typing: Any, function: Any, call: Any, start: Any, stop: Any) -> Any:
    """Call the function at an address."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(ir.VoidType(), [_INT64] * 3)
        builder.call(builder.inttoptr(arguments[0], kind.as_pointer()), arguments[1:])
        return context.get_dummy_value()

    return types.none(*[types.int64] * 4), generate


def _word(builder: Any, address: Any) -> Any:
    return builder.inttoptr(address, _INT64.as_pointer())


@_compiled  # type: ignore[untyped-decorator]
def _run_alone(function: Any, call: Any, start: Any, stop: Any) -> None:
    _run(function, address_of(call), start, stop)


@_compiled  # type: ignore[untyped-decorator]
def _take_pieces(control: Any) -> None:
    """Do the next piece of the call until none is left."""
    at = address_of(control)
    while True:
        piece = add_now(at + _WORD * _NEXT, 1)
        size, pieces = control[_SIZE], control[_PIECES]
        if piece >= pieces:
            return
        _run(control[_FUNCTION], control[_CALL], size * piece // pieces, size * (piece + 1) // pieces)


@_compiled  # type: ignore[untyped-decorator]
def _lead(control: Any, function: Any, call: Any, size: Any, pieces: Any) -> None:
    """Open a call, help with it, close it, and wait until nobody is in it.

    All of it here: an exception between two lines of Python must not leave somebody in a call that is gone.
    """
    at = address_of(control)
    control[_FUNCTION], control[_CALL], control[_SIZE], control[_PIECES] = (
        function,
        address_of(call),
        size,
        pieces,
    )
    _store(at + _WORD * _NEXT, 0)
    _store(at + _WORD * _OPEN, 1)
    add_now(at + _WORD * _CALLS, 1)
    _take_pieces(control)
    _store(at + _WORD * _OPEN, 0)
    turn = 0
    while load_now(at + _WORD * _INSIDE) > 0:
        turn += 1
        if turn % _PATIENCE == 0:
            _yield()
        _pause()


@_compiled  # type: ignore[untyped-decorator]
def _stand_by(control: Any, turns: Any) -> None:
    """Help with calls, until for so many turns there is none."""
    at = address_of(control)
    left, seen = turns, -1  # one that is open already, too
    while left > 0:
        calls = load_now(at + _WORD * _CALLS)
        if calls == seen:
            _pause()
            left -= 1
            continue
        left, seen = turns, calls
        add_now(at + _WORD * _INSIDE, 1)
        if load_now(at + _WORD * _OPEN) == 1:
            _take_pieces(control)
        add_now(at + _WORD * _INSIDE, -1)
