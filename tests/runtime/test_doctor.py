"""A check-up finds what is wrong: each check on something whole, and on something broken in the one way it is for."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from lenses import bank, kernels
from lenses.pack import LensPack
from runtime import doctor, packs
from runtime.config import MonitorConfig
from runtime.doctor import (
    check_budgets,
    check_bytes,
    check_fit,
    check_hook,
    check_invisible,
    check_known,
    check_scores,
    examine,
    find_host,
)
from runtime.environment import Finding
from runtime.known import KnownScores, record
from runtime.monitor import Monitor
from tests import hosts
from tests.packs import make_pack
from tests.watched import named_nodes

HOST = "tiny/host"
SITE = "resid_post.1"
USUAL = MonitorConfig()


def make(directory: Path, **changes: Any) -> LensPack:
    settings = {
        "nodes": named_nodes(),
        "hidden_size": hosts.HIDDEN,
        "blocks": hosts.BLOCKS,
        "host": HOST,
        "site": SITE,
        "pooling": "ema:0.5",
    }
    return make_pack(directory, **(settings | changes))


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> LensPack:
    return make(tmp_path_factory.mktemp("pack") / "p")


@pytest.fixture(scope="module")
def model() -> Any:
    return hosts.gemma3(host_id=HOST)


TOKENIZER = hosts.tokenizer()


def is_problem(found: Finding, *said: str) -> None:
    """Assert that this is a problem that says all that, in one line."""
    assert found.status == "problem", found
    line = f"{found.found} -> {found.advice}"
    assert "\n" not in line
    for part in said:
        assert part in line, line


def flip_a_byte(pack: LensPack) -> None:
    file = pack.path / pack.config.lens.shard_names[0]
    raw = bytearray(file.read_bytes())
    raw[-40] ^= 1
    file.write_bytes(raw)


# The pack.


def test_a_whole_pack_is_whole(pack: LensPack) -> None:
    assert check_bytes(pack).status == "ok"


def test_a_flipped_byte_is_found_and_named(tmp_path: Path) -> None:
    damaged = make(tmp_path / "p")
    flip_a_byte(damaged)
    is_problem(check_bytes(damaged), "lenses-00001-of-00001.safetensors", "fetch the pack again")


def test_budgets_that_hold_the_base_are_told(pack: LensPack) -> None:
    found = check_budgets(pack, USUAL)
    assert found.status == "ok"
    assert found.found.startswith("9 lenses of every token")
    assert "512 MiB" in found.found


def test_a_hot_budget_too_small_says_what_is_needed(pack: LensPack) -> None:
    is_problem(check_budgets(pack, MonitorConfig(hot_budget_bytes=1024)), "needs at least", "raise the hot")


def test_levels_that_the_pack_does_not_have_are_found(pack: LensPack) -> None:
    is_problem(check_budgets(pack, MonitorConfig(base_levels=(0, 1, 2, 3))), "levels 0 to 2")


# The host.


@pytest.mark.parametrize("name", hosts.HOSTS)
def test_every_kind_of_host_can_be_hooked(name: str) -> None:
    found = check_hook(hosts.HOSTS[name](), SITE)
    assert found.status == "ok"
    assert found.found.startswith(f"{hosts.BLOCKS} blocks of ")


UNHOOKABLE: dict[str, tuple[Callable[[], Any], str, str]] = {
    "a Gemma-3 in fp16": (lambda: hosts.gemma3().half(), SITE, "bfloat16 or float32"),
    "a site beyond the last block": (hosts.gemma3, "resid_post.3", "end at resid_post.2"),
    "what is no transformers model": (lambda: torch.nn.Linear(2, 2), SITE, "AutoModelForCausalLM"),
    "a compiled model": (lambda: torch.compile(hosts.gemma3(), backend="eager"), SITE, "uncompiled"),
}


@pytest.mark.parametrize("case", UNHOOKABLE.values(), ids=UNHOOKABLE)
def test_a_host_that_cannot_be_hooked_says_why(case: tuple[Callable[[], Any], str, str]) -> None:
    build, site, said = case
    is_problem(check_hook(build(), site), said)


def test_a_host_that_is_not_here_is_not_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "on_disk", lambda name, revision: None)
    monkeypatch.setattr(doctor, "hub_state", lambda: (True, Path("cache")))
    found = find_host("owner/name", None)
    assert isinstance(found, Finding)
    assert (found.status, "hf download owner/name" in found.advice) == ("warning", True)
    monkeypatch.setattr(doctor, "hub_state", lambda: (False, Path("cache")))
    offline = find_host("owner/name", None)
    assert isinstance(offline, Finding)
    is_problem(offline, "HF_HUB_OFFLINE", "directory")


def test_a_name_that_can_be_no_host_is_a_problem(tmp_path: Path) -> None:
    found = find_host(str(tmp_path / "nowhere"), None)
    assert isinstance(found, Finding)
    is_problem(found, "no such directory")
    assert find_host(tmp_path, None) == tmp_path


def test_the_host_that_it_was_made_for_fits(pack: LensPack, model: Any) -> None:
    assert check_fit(pack, model).status == "ok"


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: hosts.gemma3(host_id="other/host"), "this is other/host"),
        (lambda: hosts.gemma3(host_id=HOST, hidden_size=32), "states of 16, the host's have 32"),
        (lambda: hosts.llama(host_id=HOST, num_hidden_layers=4), "this one has 4"),
        (lambda: hosts.llama(host_id=HOST, num_hidden_layers=1), "the host has 1 blocks"),
    ],
    ids=["another id", "another size", "more blocks", "no such site"],
)
def test_another_host_does_not_fit(pack: LensPack, build: Callable[[], Any], said: str) -> None:
    is_problem(check_fit(pack, build()), said)


# Scores.


@pytest.mark.parametrize("settings", [{}, {"top_k": 2, "prompt_events": "off"}, {"exhaustive": True}])
def test_fast_scores_equal_one_lens_at_a_time(pack: LensPack, model: Any, settings: dict[str, Any]) -> None:
    found = check_scores(pack, MonitorConfig(**settings), model, TOKENIZER)
    assert found.status == "ok", found
    words = len(TOKENIZER(doctor.PROMPT)["input_ids"]) - 1
    assert f"at {words + 3} positions" in found.found, (
        "of the prompt, and of what is generated from the cache"
    )


def test_a_kernel_that_disagrees_is_found(
    pack: LensPack, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def score_mlp(*arguments: Any) -> None:
        kernels.score_mlp(*arguments)
        arguments[-1][0] += 1e-3

    def score_mlp_nan(*arguments: Any) -> None:
        kernels.score_mlp(*arguments)
        arguments[-1][0] = np.nan

    for wrong in (score_mlp, score_mlp_nan):
        monkeypatch.setattr(bank, "kernels", SimpleNamespace(**(vars(kernels) | {"score_mlp": wrong})))
        is_problem(check_scores(pack, USUAL, model, TOKENIZER), "is allowed", "report")


def test_rows_that_are_not_finite_are_found(pack: LensPack) -> None:
    broken = hosts.gemma3(host_id=HOST)
    broken.model.layers[1].mlp.down_proj.weight.data.fill_(float("inf"))
    is_problem(check_scores(pack, USUAL, broken, TOKENIZER), "non_finite", "bfloat16 or float32")
    is_problem(check_known(recorded(pack), broken, TOKENIZER), "not finite")


def test_a_family_that_cannot_be_read_is_found(tmp_path: Path, model: Any) -> None:
    damaged = make(tmp_path / "p")
    flip_a_byte(damaged)
    found = check_scores(damaged, MonitorConfig(exhaustive=True), model, TOKENIZER)
    is_problem(found, "families of animal.large not read", "fetch the pack again")


# Known scores.


def recorded(pack: LensPack, **changes: Any) -> LensPack:
    """The pack as if these scores had been recorded in it."""
    known = record(hosts.gemma3(host_id=HOST), TOKENIZER, pack).to_json() | changes
    config = replace(pack.config, provenance={"known_scores": known})
    copy = LensPack.from_pretrained(pack.path)
    copy.config = config
    return copy


def test_a_pack_without_known_scores_says_so(pack: LensPack, model: Any) -> None:
    found = check_known(pack, model, TOKENIZER)
    assert found.status == "ok"
    assert "nothing to compare with" in found.found


def test_known_scores_that_hold(pack: LensPack, model: Any) -> None:
    found = check_known(recorded(pack), model, TOKENIZER)
    assert found.status == "ok"
    assert found.found.startswith("12 recorded logits")


def test_a_host_that_has_changed_is_found(pack: LensPack) -> None:
    changed = hosts.gemma3(host_id=HOST)
    changed.model.embed_tokens.weight.data.mul_(1.2)
    assert check_fit(pack, changed).status == "ok", "nothing else shows it"
    is_problem(check_known(recorded(pack), changed, TOKENIZER), "off at the most", f"fetch {HOST} again")


def test_another_tokenizer_is_found(pack: LensPack, model: Any) -> None:
    other = recorded(pack, tokens=[2, 5, 5])
    is_problem(check_known(other, model, TOKENIZER), "the tokenizer makes", HOST)


def test_known_scores_of_strange_concepts_or_forms_are_found(pack: LensPack, model: Any) -> None:
    is_problem(check_known(recorded(pack, logits={"unicorn": 1.0}), model, TOKENIZER), "no concept 'unicorn'")
    is_problem(check_known(recorded(pack, logits=None), model, TOKENIZER), "not of the form")
    is_problem(check_known(recorded(pack, prompt="a " * 500), model, TOKENIZER), "context")


def test_another_type_is_a_warning(pack: LensPack) -> None:
    far = {id: logit + 9 for id, logit in KnownScores.of(recorded(pack)).logits.items()}  # type: ignore[union-attr]
    found = check_known(recorded(pack, logits=far), hosts.gemma3(host_id=HOST).bfloat16(), TOKENIZER)
    assert found.status == "warning"
    assert "bfloat16, then it was float32" in found.found


# Watching changes nothing.


def test_watching_is_invisible(pack: LensPack, model: Any) -> None:
    assert check_invisible(pack, USUAL, model, TOKENIZER).status == "ok"


def test_a_monitor_that_writes_to_the_rows_is_seen(
    pack: LensPack, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Monitor, "observe", lambda self, forward: forward.rows_BTD.add_(1e-3))
    is_problem(check_invisible(pack, USUAL, model, TOKENIZER), "change", "report")


def test_a_monitor_that_draws_random_numbers_is_seen(
    pack: LensPack, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Monitor, "observe", lambda self, forward: torch.rand(1))
    with torch.random.fork_rng(devices=[]):
        is_problem(check_invisible(pack, USUAL, model, TOKENIZER), "random state")


def test_a_host_that_differs_from_itself_proves_nothing(pack: LensPack) -> None:
    moody = hosts.llama(host_id=HOST, attention_dropout=0.5).train()
    with torch.random.fork_rng(devices=[]):
        found = check_invisible(pack, USUAL, moody, TOKENIZER)
    assert (found.status, "model.eval()" in found.advice) == ("warning", True)


# All of it, in order.


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a pack and its host, and nothing else to be found."""
    host = hosts.save(hosts.gemma3(host_id=HOST), tmp_path / "host")
    make(tmp_path / "lens_packs" / packs.DEFAULT_PACK, host_dir=host)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(packs, "__file__", str(tmp_path / "elsewhere" / "runtime" / "packs.py"))
    return tmp_path


def look(**given: Any) -> dict[str, Finding]:
    settings: dict[str, Any] = {"model": None, "pack": None, "config": USUAL, "device": "cpu"} | given
    return {found.check: found for found in examine(**settings)}


def test_everything_is_looked_at_in_order(shelf: Path) -> None:
    found = look()
    assert {name: f.status for name, f in found.items()} == dict.fromkeys(
        ["pack", "bytes", "budgets", "memory", "host", "hook", "fit", "scores", "known scores", "invisible"],
        "ok",
    )
    assert f"for {HOST} at {SITE}" in found["pack"].found


def test_a_damaged_pack_leaves_the_host_to_be_looked_at(shelf: Path) -> None:
    (shelf / "lens_packs" / packs.DEFAULT_PACK / "heads.safetensors").write_bytes(b"")
    found = look(pack=packs.DEFAULT_PACK, model=str(shelf / "host"))
    is_problem(found["pack"], "heads.safetensors")
    assert found["hook"].status == "ok"
    assert list(found) == ["pack", "memory", "host", "hook"]
    assert list(look()) == ["pack"], "without a model there is none to look at"


def test_a_model_without_a_pack_can_still_be_hooked(shelf: Path) -> None:
    other = hosts.save(hosts.llama(host_id="other/host"), shelf / "other")
    found = look(model=str(other))
    is_problem(found["pack"], "no lens pack for the host", "train_lenses")
    assert found["hook"].status == "ok"


def test_the_wrong_host_ends_it(shelf: Path) -> None:
    other = hosts.save(hosts.llama(host_id="other/host"), shelf / "other")
    found = look(model=str(other), pack=packs.DEFAULT_PACK)
    is_problem(found["fit"], "other/host")
    assert list(found)[-1] == "fit"


def test_budgets_too_small_leave_what_needs_no_monitor(shelf: Path) -> None:
    found = look(config=MonitorConfig(hot_budget_bytes=1024))
    is_problem(found["budgets"], "hot budget")
    assert list(found)[-3:] == ["hook", "fit", "known scores"]


def test_a_host_too_large_for_memory_is_not_loaded(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "free_memory_bytes", lambda: 20_000)
    found = look()
    is_problem(found["memory"], "free", "smaller host")
    assert list(found)[-1] == "memory"


def test_a_damaged_host_is_named(shelf: Path) -> None:
    (shelf / "host" / "tokenizer.json").unlink()
    is_problem(look(model=str(shelf / "host"))["host"], "no tokenizer")


def test_a_device_that_is_not_here_ends_it_at_once(shelf: Path) -> None:
    found = look(device="cuda:99")
    is_problem(found["device"], "cuda:99")
    assert list(found) == ["device"]
