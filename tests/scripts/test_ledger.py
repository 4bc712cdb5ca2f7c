"""The ledger end to end on a tiny host: every variant sees the same, and has a row or a reason."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import ledger
import pytest
import torch
from ledger import Ready, main, parse
from ledgers.agreement import HOST_LOGIT, SCORED_LOGIT, Seen, agree_nearly
from ledgers.compiled import CompiledBlocks
from ledgers.timing import Subject, control
from ledgers.variants import DEFAULT, VARIANTS, Variant
from measuring.comparing import fewest_rounds
from pages.ledger_report import markdown
from profiling.runs import Differs, Task

from lenses.pack import LensPack
from runtime.host import load_host
from tests import hosts
from tests.packs import make_pack

TASK = Task("the dog is in the house it plays", 6)

FEW = tuple(
    variant
    for variant in VARIANTS
    if variant.name
    in (DEFAULT.name, "lens off", "one module at a time", "int8", "compiled", "fused QKV + read every 4")
)
"""One of each kind: all of them together are tried by `--quick`."""


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> LensPack:
    host_dir = hosts.save(hosts.gemma3(host_id="tiny"), tmp_path_factory.mktemp("host"))
    return make_pack(
        tmp_path_factory.mktemp("packs") / "bf16",
        branching=(3, 3, 3),
        host="tiny",
        host_dir=host_dir,
        hidden_size=hosts.HIDDEN,
        blocks=hosts.BLOCKS,
        site="resid_post.1",
        base_levels=(0,),
        load_threshold=0.1,
    )


@pytest.fixture(scope="module")
def int8_pack(pack: LensPack) -> LensPack:
    return pack.save_as(pack.path.parent / "int8", "int8")


@pytest.fixture
def ready(pack: LensPack, int8_pack: LensPack) -> Iterator[Callable[[str], Subject]]:
    variants = {variant.name: variant for variant in VARIANTS}
    with ExitStack() as opened:
        made = Ready(load_host(pack.host_dir), pack, int8_pack, "no C++ compiler here", opened)  # type: ignore[arg-type]

        def subject(name: str) -> Subject:
            found = made.subject(variants[name])
            assert isinstance(found, Subject), found
            return found

        yield subject


def nearly(seen: Seen, reference: Seen, subject: Subject, tolerance: float) -> None:
    assert subject.monitor is not None
    agree_nearly(
        "it", seen, reference, config=subject.monitor.config, tolerance=tolerance, gap=lambda at: 1.0
    )


def test_a_prompt_fed_token_by_token_gives_the_events_of_one_pass(ready: Callable[[str], Subject]) -> None:
    one_pass, by_token = ready("default"), ready("prompt token by token")
    fed: list[int] = []
    handle = one_pass.host.model.register_forward_pre_hook(
        lambda module, args, kwargs: fed.append(kwargs["input_ids"].shape[1]), with_kwargs=True
    )
    reference, seen = one_pass.run(TASK), by_token.run(TASK)
    handle.remove()
    prompt = fed[0]
    assert fed == [prompt, *[1] * (TASK.new_tokens - 1), *[1] * (prompt + TASK.new_tokens - 1)]
    assert len(seen.events) == prompt + TASK.new_tokens - 1
    nearly(seen, reference, by_token, HOST_LOGIT)


def test_one_module_at_a_time_sees_what_the_bank_sees(ready: Callable[[str], Subject]) -> None:
    banked, modules = ready("default"), ready("one module at a time")
    reference, seen = banked.run(TASK), modules.run(TASK)
    assert max(len(event.scored) for event in seen.events) > 3, "walks open families"
    nearly(seen, reference, modules, SCORED_LOGIT)


def test_rows_that_are_a_little_off_are_seen_to_differ(
    ready: Callable[[str], Subject], monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = ready("default")
    before = subject.run(TASK)
    assert "a logit is off" in control(subject, TASK) or "concepts scored" in control(subject, TASK)
    after = subject.run(TASK)
    assert after.run.contents == before.run.contents, "the control leaves the monitor as it was"
    monkeypatch.setattr("ledgers.timing.CONTROL", 0.0)
    with pytest.raises(Differs, match="comparing shows nothing"):
        control(subject, TASK)


def test_variants_are_named_once_and_the_default_is_the_first() -> None:
    assert VARIANTS[0] is DEFAULT
    assert len({variant.name for variant in VARIANTS}) == len(VARIANTS)
    assert {variant.must for variant in VARIANTS} == {"agree exactly", "agree nearly", "write the same"}
    assert Variant("x", "", watched=False).must == "write the same"


def test_the_report_has_a_row_or_a_reason_for_each_variant(
    pack: LensPack,
    int8_pack: LensPack,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ledger, "start_compiler", lambda: (0.0, "no C++ compiler here"))
    monkeypatch.setattr(ledger, "PROMPT", TASK.prompt)
    monkeypatch.setattr(ledger, "VARIANTS", FEW)
    out = tmp_path / "reports" / "ledger"
    arguments = [
        f"--pack={pack.path}",
        f"--int8-pack={int8_pack.path}",
        "--rounds=5",
        "--new-tokens",
        "2",
        "4",
    ]
    assert main([*arguments, f"--out={out}"]) == 0
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    report: dict[str, Any] = json.loads(out.with_suffix(".json").read_text())
    assert markdown(report) == out.with_suffix(".md").read_text()
    assert [row["name"] for row in report["rows"]] == [variant.name for variant in FEW]
    compiled = {variant.name for variant in FEW if "compiled" in variant.host}
    assert last["not_run"] == dict.fromkeys(compiled, "no C++ compiler here")
    ran = [row for row in report["rows"] if "ms" in row]
    assert report["rounds"] == fewest_rounds(len(ran) - 1)
    for row in ran:
        assert row["n"] == report["rounds"]
        assert row["ms"]["total"]["mean"] == pytest.approx(
            row["ms"]["prefill"]["mean"] + row["ms"]["generation"]["mean"], rel=1e-4
        )
        assert (row["verdict"] is None) == (row["name"] == DEFAULT.name)
        if row["name"] in ("int8", "one module at a time"):
            assert row["agreement"]["largest_difference"] > 0
    assert len(last["verdicts"]) == len(ran) - 1


def test_what_cannot_be_measured_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--quick", "--new-tokens", "4", "4"], ["--pack", str(tmp_path / "none")]):
        assert main([*arguments, f"--out={tmp_path / 'x'}"]) == 2
        assert capsys.readouterr().err.strip().splitlines()[-1].startswith("error: ")
    assert not list(tmp_path.iterdir())


def test_quick_is_the_travelling_pack() -> None:
    found = parse(["--quick"])
    assert (found.pack, tuple(found.new_tokens)) == (ledger.QUICK_PACK, ledger.QUICK_LENGTHS)


def test_compiled_blocks_are_watched_as_they_are_and_given_back(
    ready: Callable[[str], Subject], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Graphs are taken as dynamo finds them and run as they are: the compiler behind it takes half a minute."""
    graphs: list[torch.fx.GraphModule] = []

    def keep(graph: torch.fx.GraphModule, inputs: object) -> Callable[..., Any]:
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=keep))
    subject = ready("default")
    blocks = subject.host.model.get_decoder().layers
    limit = torch._dynamo.config.recompile_limit
    task = replace(TASK, new_tokens=2)
    reference = subject.run(task)
    changed = replace(subject, changes=(CompiledBlocks(subject.host.model),))
    try:
        nearly(changed.run(task), reference, subject, HOST_LOGIT)
    finally:
        torch._dynamo.reset()
    assert len(graphs) >= len(blocks)
    assert not any("forward" in block.__dict__ for block in blocks)
    assert torch._dynamo.config.recompile_limit == limit
