"""A check-up of a pack, a host, and the two together: can this be watched, and is what is shown true?

Each check looks at one thing and gives a `Finding`; `examine` knows the order, and leaves out what stands on something
that is broken. Whether scores are right is asked twice: the fast path is held against the slow, obvious one on the same
states, and these against what was recorded when the pack was made. Knows nothing about printing.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lenses.errors import ConfigError, HostError, PackError, PhoropterError
from lenses.files import PathLike
from lenses.lens import Lens
from lenses.pack import LensPack
from lenses.state import input_states
from lenses.text import one_line, quoted
from runtime.blocks import block_at, blocks_of, check_watchable, text_config
from runtime.config import MonitorConfig
from runtime.environment import FAITHFUL, Finding, check_memory, free_memory_bytes, refused
from runtime.generate import encode
from runtime.hook import Rows, Tap
from runtime.host import (
    FP32_ON_CPU_BYTES,
    Host,
    check_device,
    hub_state,
    load_host,
    on_disk,
    random_dtype,
)
from runtime.known import PROMPT, KnownScores, difference, dtype_of, tolerance
from runtime.monitor import Monitor, check_host
from runtime.packs import choose_pack, host_of
from runtime.random_host import RandomHost, is_random
from runtime.session import format_bytes

_NEW_TOKENS = 4
_REPORT = "please report this, with everything that is printed here"


def examine(
    *, model: str | None, pack: str | None, config: MonitorConfig, device: str | None
) -> Iterator[Finding]:
    """Look at the pack, then at the host, then at both at work; `model` and `pack` as the command takes them."""
    opened: LensPack | None = None
    name: PathLike | None = model
    revision: str | None = None
    try:
        check_device(device)
    except ConfigError as error:
        yield refused("device", error)
        return
    try:
        where = choose_pack(pack, model)
        opened = LensPack.from_pretrained(where)
        name, revision = host_of(opened, where, model)
    except PhoropterError as error:
        yield refused("pack", error)
    else:
        yield Finding("pack", "ok", f"{one_line(opened.path)}: {_about(opened)}")
    if opened is not None:
        yield check_bytes(opened)
        budgets = check_budgets(opened, config)
        yield budgets
    if name is None:
        return
    found = find_host(name, revision)
    if isinstance(found, Finding):
        yield found
        return
    memory = check_memory(free_memory_bytes(), **_needs(opened, config, found, device))
    yield memory
    if memory.status == "problem":
        return
    try:
        host = load_host(found, device=device)
    except PhoropterError as error:
        yield refused("host", error)
        return
    yield Finding("host", "ok", f"{one_line(host.id)}: {_kind(host)}")
    hook = check_hook(host.model, None if opened is None else opened.config.site)
    yield hook
    if opened is None:
        return
    fit = check_fit(opened, host.model)
    yield fit
    if "problem" in (hook.status, fit.status):
        return
    if budgets.status != "problem":
        yield check_scores(opened, config, host.model, host.tokenizer)
    yield check_known(opened, host.model, host.tokenizer)
    if budgets.status != "problem":
        yield check_invisible(opened, config, host.model, host.tokenizer)


# The pack.


def check_bytes(pack: LensPack) -> Finding:
    """Whether every byte of the pack is as it was written."""
    try:
        pack.verify()
    except PackError as error:
        return refused("bytes", error)
    return Finding("bytes", "ok", f"all as written, in {len(pack.config.sha256)} files")


def check_budgets(pack: LensPack, config: MonitorConfig) -> Finding:
    """Whether the budgets hold what has to be in memory at once."""
    try:
        with Monitor(pack, config) as monitor:
            stats = monitor.stats().cache
            lenses = monitor.engine.base_count
    except PhoropterError as error:
        return refused("budgets", error)
    base, room, whole = (
        format_bytes(size) for size in (stats.base_bytes, config.hot_budget_bytes, _lens_bytes(pack))
    )
    return Finding(
        "budgets",
        "ok",
        f"{lenses} lenses of every token take {base} of {room}; all {pack.config.concepts} are {whole}",
    )


# The host.


def find_host(name: PathLike, revision: str | None) -> PathLike | Finding:
    """Where the host's files are on this machine, or what to do when they are not. Nothing is fetched.

    A host of random weights has no files and is where its name is.
    """
    try:
        found = RandomHost.parse(name).id if is_random(name) else on_disk(name, revision)
    except HostError as error:
        return refused("host", error)
    if found is not None:
        return found
    said = f"{quoted(str(name))} is neither a directory nor in the hub's cache"
    if hub_state()[0]:
        return Finding(
            "host",
            "warning",
            f"{said}, so it was not looked at",
            f"check the spelling, or fetch it: hf download {one_line(name)}; then type this again",
        )
    return Finding("host", "problem", f"{said}, and HF_HUB_OFFLINE is set", "unset it, or give a directory")


def check_hook(model: Any, site: str | None = None) -> Finding:
    """Whether the model's blocks are found and may be hooked, and the site is one of them."""
    try:
        blocks = blocks_of(model)
        check_watchable(model)
        if site is not None:
            block_at(model, site)
    except HostError as error:
        return refused("hook", error)
    found = f"{len(blocks)} blocks of {type(blocks[0]).__name__}"
    return Finding("hook", "ok", f"{found}, {site} is the output of one" if site else found)


def check_fit(pack: LensPack, model: Any) -> Finding:
    """Whether the pack was made for this host: its id, its hidden size, its blocks."""
    try:
        check_host(pack, model)
    except PhoropterError as error:
        return refused("fit", error)
    made_for = pack.config.host
    return Finding(
        "fit", "ok", f"made for {made_for.id}, hidden size {made_for.hidden_size}, {made_for.blocks} blocks"
    )


# Both at work.


def check_scores(pack: LensPack, config: MonitorConfig, model: Any, tokenizer: Any) -> Finding:
    """Whether a monitored generation gives the logits that one lens after the other gives for the same states."""
    rows = Rows()
    try:
        inputs = encode(model, tokenizer, PROMPT, _NEW_TOKENS)
        with (
            Monitor(pack, replace(config, prompt_events="full")) as monitor,
            Tap(model, pack.config.site, rows),
            monitor.attach(model),
        ):
            model.generate(**inputs, max_new_tokens=_NEW_TOKENS, min_new_tokens=_NEW_TOKENS, do_sample=False)
        events = list(monitor.events)
        odd = next((event for event in events if event.state not in ("ok", "bos") or event.failed), None)
        if odd is not None:
            what = (
                f"families of {', '.join(odd.failed)} not read" if odd.failed else f"the row is {odd.state}"
            )
            return Finding(
                "scores",
                "problem",
                f"position {odd.position} is not whole: {what}",
                "fetch the pack again"
                if odd.failed
                else "load the host in bfloat16 or float32, or fetch it again",
            )
        events = [event for event in events if event.state == "ok"]
        states_TD = input_states(rows.take_BTD()[0, [event.position for event in events]], pack.config.input)
        lenses: dict[int, Lens] = {}
        worst, count = 0.0, 0
        for event, state_D in zip(events, states_TD, strict=True):
            indices = event.scored.tolist()
            lenses |= {index: pack.lens(index) for index in indices if index not in lenses}
            slow = np.array([lenses[index].logit(torch.from_numpy(state_D)) for index in indices])
            off = np.abs(event.logits - slow).max() / max(1.0, np.abs(slow).max())
            worst, count = float(np.maximum(worst, off)), count + len(indices)
    except PhoropterError as error:
        return refused("scores", error)
    found = f"{count:,} logits at {len(events)} positions, {worst:.0e} from one lens at a time at the most"
    if not worst <= FAITHFUL:
        return Finding("scores", "problem", f"{found}; {FAITHFUL:.0e} is allowed", _REPORT)
    return Finding("scores", "ok", found)


def check_known(pack: LensPack, model: Any, tokenizer: Any) -> Finding:
    """Whether a known text gives the scores that were recorded when the pack was made."""
    try:
        known = KnownScores.of(pack)
        if known is None:
            return Finding("known scores", "ok", "none recorded in this pack, so nothing to compare with")
        ids = encode(model, tokenizer, known.prompt)["input_ids"]
        if (tokens := tuple(ids[0].tolist())) != known.tokens:
            return Finding(
                "known scores",
                "problem",
                f"the tokenizer makes {len(tokens)} other tokens of the known text than when the pack was made",
                f"take the tokenizer of {pack.config.host.id}",
            )
        off, allowed = difference(model, pack, known, ids), tolerance(model, known)
    except PhoropterError as error:
        return refused("known scores", error)
    said = f"{len(known.logits)} recorded logits, {off:.0e} off at the most, {allowed:.0e} allowed"
    if off <= allowed:
        return Finding("known scores", "ok", said)
    now = dtype_of(model)
    if now != known.dtype:
        return Finding(
            "known scores",
            "warning",
            f"{said}; the host computes in {now}, then it was {known.dtype}",
            f"load the host in {known.dtype} to be sure",
        )
    return Finding(
        "known scores",
        "problem",
        said,
        f"the host is not what it was: fetch {pack.config.host.id} again, and install the versions of "
        "constraints.txt",
    )


def check_invisible(pack: LensPack, config: MonitorConfig, model: Any, tokenizer: Any) -> Finding:
    """Whether the host's logits and torch's random state are the same to the last bit, watched or not."""

    def logits() -> torch.Tensor:
        with torch.inference_mode():
            return model(**inputs).logits  # type: ignore[no-any-return]

    try:
        inputs = encode(model, tokenizer, PROMPT)
        alone, again = logits(), logits()
        random_before = torch.get_rng_state()
        with Monitor(pack, config) as monitor, monitor.attach(model):
            watched = logits()
    except PhoropterError as error:
        return refused("invisible", error)
    if not torch.equal(alone, again):
        return Finding(
            "invisible",
            "warning",
            "the host alone gives other logits the second time, so nothing can be compared",
            "call model.eval(), and torch.use_deterministic_algorithms(True)",
        )
    if not torch.equal(alone, watched) or not torch.equal(random_before, torch.get_rng_state()):
        return Finding("invisible", "problem", "the host's logits or torch's random state change", _REPORT)
    return Finding("invisible", "ok", f"{alone.numel():,} logits have the same bits with lenses and without")


# What is said of things.


def _about(pack: LensPack) -> str:
    config = pack.config
    return f"{config.concepts} {config.lens.kind} lenses for {config.host.id} at {config.site}"


def _kind(host: Host) -> str:
    config = text_config(host.model)
    return (
        f"{type(host.model).__name__}, {config.num_hidden_layers} blocks, hidden size {config.hidden_size}, "
        f"{dtype_of(host.model)} on {host.model.device}"
    )


def _lens_bytes(pack: LensPack) -> int:
    return sum(pack.family_bytes(family) for family in range(pack.config.families))


def _host_bytes(host: PathLike, device: str | None) -> int:
    """What a host takes of the host's memory: nothing on an accelerator."""
    where = check_device(device)
    on_cpu = not torch.accelerator.is_available() if where is None else where.type == "cpu"
    if not on_cpu:
        return 0
    if is_random(host):
        random = RandomHost.parse(host)
        return random.weights * random_dtype(random, where).itemsize
    stored = sum(file.stat().st_size for file in Path(host).glob("*.safetensors"))
    return stored * 2 if stored <= FP32_ON_CPU_BYTES else stored  # a small one is widened to fp32


def _needs(
    pack: LensPack | None, config: MonitorConfig, host: PathLike, device: str | None
) -> dict[str, int]:
    """What host and lenses take of the host's memory, as `check_memory` wants it."""
    host_bytes = _host_bytes(host, device)
    if pack is None:
        return {"host_bytes": host_bytes, "base_bytes": 0, "lens_bytes": 0}
    whole = _lens_bytes(pack)
    levels = pack.config.base_levels if config.base_levels is None else config.base_levels
    base = sum(pack.family_bytes(family) for family in pack.hierarchy.base_families(levels))
    if torch.device(config.device).type == "cpu":
        return {
            "host_bytes": host_bytes,
            "base_bytes": base,
            "lens_bytes": min(whole, config.hot_budget_bytes + config.warm_budget_bytes),
        }
    return {"host_bytes": host_bytes, "base_bytes": 0, "lens_bytes": min(whole, config.warm_budget_bytes)}
