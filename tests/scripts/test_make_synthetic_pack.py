"""A pack of random lenses: what is drawn, how it is scaled, what is written, and that it is served as any pack."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from make_synthetic_pack import main
from synthetic.scaling import scale
from synthetic.states import host_states
from synthetic.tree import synthetic_tree
from synthetic.weights import FirstLayers, random_heads

from lenses.bank import Bank
from lenses.config import LensConfig
from lenses.lens import Floats
from lenses.pack import LensPack
from runtime.config import MonitorConfig
from runtime.doctor import examine
from runtime.engine import Engine
from runtime.events import Event
from runtime.host import load_host
from runtime.monitor import Monitor
from runtime.random_host import RandomHost

HOST = "random:gemma-3-tiny"
LEVELS = "4,9,30,60,20"
SMALL = ("--host", HOST, "--levels", LEVELS, "--widths", "16,8")
STATES_PD = np.random.default_rng(3).standard_normal((3, 256)).astype(np.float32)

Make = Callable[..., LensPack]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Run the program and open what it wrote."""

    def run(*options: str, name: str = "synthetic") -> LensPack:
        assert main([*options, "--out", str(tmp_path / name)]) == 0
        return LensPack.from_pretrained(tmp_path / name)

    return run


COMPACT = ("--levels", LEVELS, "--kind", "compact", "--widths", "32,8,4")


KINDS = {
    "mlp bf16": SMALL,
    "mlp fp32 with norms": (*SMALL, "--dtype", "fp32", "--layer-norm"),
    "mlp int8 with norms": (*SMALL, "--dtype", "int8", "--layer-norm"),
    "compact bf16": ("--host", HOST, *COMPACT),
    "compact int8 without a host": ("--hidden-size", "256", *COMPACT, "--dtype", "int8"),
}


@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS.keys())
def test_the_bank_scores_it_as_one_lens_at_a_time_does(make: Make, options: tuple[str, ...]) -> None:
    pack = make(*options)
    bank = Bank(pack, range(len(pack.hierarchy.families)))
    logits_PN = bank.score_base(bank.inputs(STATES_PD))
    bank.close()
    slow_PN = logits_of(pack)
    assert np.abs(logits_PN - slow_PN).max() <= 1e-5 * max(1, np.abs(slow_PN).max())


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        (SMALL, "bf16"),
        (SMALL, "int8"),
        (("--host", HOST, *COMPACT), "bf16"),
        (("--hidden-size", "256", *COMPACT), "int8"),
    ],
    ids=["mlp bf16", "mlp int8", "compact bf16", "compact int8 without a host"],
)
def test_what_is_stored_shorter_is_nearly_what_was_drawn(
    make: Make, kind: tuple[str, ...], dtype: str
) -> None:
    drawn, short = (make(*kind, "--dtype", stored, name=stored) for stored in ("fp32", dtype))
    assert short.config.lens.dtype == dtype
    drawn_PN, short_PN = logits_of(drawn), logits_of(short)
    assert drawn_PN.std(axis=0).min() > 0.1
    assert 0 < np.abs(short_PN - drawn_PN).mean() < 0.05 * drawn_PN.std()


def logits_of(pack: LensPack) -> Floats:
    """[P, N] one lens after the other."""
    lenses = [pack.lens(n) for n in range(len(pack.hierarchy))]
    states = [torch.from_numpy(state_D) for state_D in STATES_PD]
    return np.array([[lens.logit(state_D) for lens in lenses] for state_D in states], np.float32)


def test_a_pack_says_what_it_is(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    pack = make(*SMALL, "--blocks", "2", "--seed", "5")
    config = pack.config
    assert (config.host.id, config.host.blocks, config.host.dtype) == (f"{HOST}:2", 2, "fp32")
    assert (config.site, config.input.norm, config.input.pooling) == ("resid_post.1", "rms", "ewm:0.9")
    assert (config.base_levels, config.top_k, config.load_threshold) == ((0, 1, 2), 10, 0.3)
    assert "random weights" in config.provenance["synthetic"]
    assert config.provenance["seed"] == 5
    assert all(concept.name.startswith("synthetic ") for concept in pack.hierarchy)
    assert "random weights" in (pack.path / "README.md").read_text()
    assert not pack.heads.calibrated.any()
    assert not pack.vouched_N.any()
    assert (pack.heads.platt_slope == 1).all()
    assert (pack.heads.platt_offset == 0).all()
    opened = config.provenance["opened_at_a_token"]
    said = capsys.readouterr().out
    assert f"opens {opened['families']} families, with {opened['children']} children" in said


def test_the_seed_decides_everything(make: Make) -> None:
    first, again, other = (
        make(*SMALL, "--seed", seed, name=name) for name, seed in (("a", "0"), ("b", "0"), ("c", "1"))
    )
    assert first.identity == again.identity
    for name in ("concepts.jsonl", "heads.safetensors", first.config.lens.shard_names[0]):
        assert first.config.sha256[name] != other.config.sha256[name], name


def test_a_layer_norm_of_its_own_is_folded_exactly(make: Make) -> None:
    pack = make(*SMALL, "--dtype", "fp32", "--layer-norm", "--pooling", "token")
    plain = FirstLayers(pack.hierarchy, 16, 256, seed=0)
    normed = FirstLayers(pack.hierarchy, 16, 256, seed=0, own_norm=True)
    rows_PD = torch.from_numpy(5 * STATES_PD + 2)
    for family in pack.hierarchy.families[:6]:
        weight_RD, bias_FH = plain.with_bias(family.index)
        gain_FD, beta_FD = normed.norm(family.index)
        for row in range(family.rows):
            norm = torch.nn.LayerNorm(256, eps=pack.config.input.eps)
            first = torch.nn.Linear(256, 16)
            with torch.no_grad():
                norm.weight.copy_(torch.from_numpy(gain_FD[row]))
                norm.bias.copy_(torch.from_numpy(beta_FD[row]))
                first.weight.copy_(weight_RD.view(family.rows, 16, 256)[row])
                first.bias.copy_(torch.from_numpy(bias_FH[row]))
                hidden_PH = torch.relu(first(norm(rows_PD)))
            lens, heads = pack.lens(family.first + row), pack.heads.only(family.first + row)
            assert heads.weight2 is not None
            assert heads.bias2 is not None
            assert heads.weight3 is not None
            assert heads.bias3 is not None
            hidden = torch.relu(
                hidden_PH @ torch.from_numpy(heads.weight2[0]).T + torch.from_numpy(heads.bias2[0])
            )
            unfolded_P = hidden @ torch.from_numpy(heads.weight3[0]) + heads.bias3[0]
            states_PD = torch.nn.functional.layer_norm(rows_PD, (256,), eps=pack.config.input.eps)
            folded_P = [lens.logit(state_D) for state_D in states_PD]
            np.testing.assert_allclose(folded_P, unfolded_P.numpy(), atol=2e-5)
    assert not torch.equal(plain[0], normed[0])


def test_first_layers_are_made_when_asked_for_and_always_the_same() -> None:
    layers = FirstLayers(synthetic_tree((3, 8), 0), 4, 32, seed=1)
    assert len(layers) == 4
    assert torch.equal(layers[2], layers[2])
    assert not torch.equal(layers[0][:4], layers[1][:4])
    assert layers[0].std() == pytest.approx(32**-0.5, rel=0.1)


def test_a_scaled_lens_passes_the_threshold_as_often_as_it_should() -> None:
    heads = random_heads(LensConfig("mlp", (4, 3), "fp32"), 8, 3, seed=0)
    logits_PN = (np.random.default_rng(0).normal(size=(4000, 3)) * [1, 20, 0.1] + [0, 7, -3]).astype(
        np.float32
    )
    shares_N = np.array([0.05, 0.3, 0.3], np.float32)
    scaled, slope_N, offset_N = scale(heads, logits_PN, shares_N, 0.3)
    new_PN = logits_PN * slope_N + offset_N
    np.testing.assert_allclose(new_PN.std(axis=0), 1, rtol=1e-3)
    np.testing.assert_allclose((1 / (1 + np.exp(-new_PN)) >= 0.3).mean(axis=0), shares_N, atol=0.02)
    assert heads.weight3 is not None
    np.testing.assert_allclose(scaled.weight3, heads.weight3 * slope_N[:, None])
    np.testing.assert_allclose(scaled.bias3, offset_N)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> LensPack:
    """A pack on the whole tree, its lenses small."""
    out = tmp_path_factory.mktemp("packs") / "whole"
    assert main(["--host", HOST, "--widths", "8,4", "--dtype", "fp32", "--out", str(out)]) == 0
    return LensPack.from_pretrained(out)


def test_what_is_said_of_a_walk_is_what_the_engine_opens(whole: LensPack) -> None:
    states_QPD, _ = host_states(RandomHost.parse(HOST), whole.config.site, whole.config.input, seed=0)
    states_PD = states_QPD[1::2].reshape(-1, 256)
    with Engine(whole, MonitorConfig()) as engine:
        scores = engine.score(states_PD, "generation")
        families = sum(sum(score.origins.values()) for score in scores) / len(states_PD)
        children = sum(score.coverage.scored - engine.base_count for score in scores) / len(states_PD)
        assert engine.base_count == 269
    said = whole.config.provenance["opened_at_a_token"]
    assert families == pytest.approx(said["families"], abs=0.1)
    assert children == pytest.approx(said["children"], abs=0.3)


def test_a_walk_opens_about_ten_families_while_the_host_writes(whole: LensPack) -> None:
    host = load_host(HOST, device="cpu")
    prompts = ("A violin is a musical instrument that has four strings.", "In the beginning there was a dog.")
    written: list[Event] = []
    with Monitor(whole) as monitor:
        for prompt in prompts:
            run = monitor.stream(host.model, host.tokenizer, prompt, max_new_tokens=40, do_sample=False)
            written += [event for event in run if event.phase == "generation"]
    families = np.array([event.run.hot + event.run.warm + event.run.cold for event in written])
    children = np.array([event.coverage.scored - 269 for event in written])
    # Early in a text a pool is of few rows, which makes states long and opens more.
    assert 5 <= families.mean() <= 15
    assert 25 <= children.mean() <= 100
    assert len({tuple(event.scored.tolist()) for event in written}) > len(written) / 2, "not always the same"


def test_doctor_finds_nothing_wrong_with_it(make: Make) -> None:
    pack = make(*SMALL)
    found = list(examine(model=HOST, pack=str(pack.path), config=MonitorConfig(), device="cpu"))
    assert {finding.status for finding in found} == {"ok"}, found


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--host", "random:gpt-9"), "random:gemma-3-270m"),
        (("--host", "somebody/model"), "random:gemma-3-270m"),
        (("--host", HOST, "--blocks", "9"), "give 1 to 4"),
        (("--host", f"{HOST}:2", "--site", "resid_post.2"), "end at resid_post.1"),
        (("--host", HOST, "--site", "block 2"), "expected resid_post.N"),
        (("--host", HOST, "--levels", "5,x"), "such as 5,23,241"),
        (("--host", HOST, "--widths", "1,2,3"), "[h1, h2] for mlp"),
        (("--host", HOST, "--kind", "compact", "--layer-norm"), "leave it out"),
        (("--host", HOST, "--pooling", "max"), "ewm:a"),
        (("--hidden-size", "0"), "at least 1"),
        (("--hidden-size", "16", "--blocks", "2"), "give --host"),
    ],
)
def test_what_cannot_be_made_is_said_in_one_line(
    options: tuple[str, ...], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*options, "--out", str(tmp_path / "p")]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert said in lines[0]
    assert list(tmp_path.iterdir()) == []


def test_help_shows_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    said = capsys.readouterr().out
    assert "python scripts/make_synthetic_pack.py --host random:gemma-3-4b --blocks 2 --out" in said
    assert "random:gemma-3-270m" in said


def test_a_host_or_a_size_must_be_given() -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--out", "p"])
