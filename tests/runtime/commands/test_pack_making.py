"""`phoropter pack import`, `convert`, `subset` and `diff` as they are typed."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from foreign.state_dicts import MODEL, write_directory

from lenses.pack import LensPack
from runtime.cli import main
from tests.packs import make_pack
from tests.state_dicts import FACTS

Said = tuple[int, str, str]
OPTIONS = [word for name, value in FACTS.items() for word in (f"--{name.replace('_', '-')}", str(value))]


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Said]:
    """Type a command in an empty directory: exit code, standard output, standard error."""
    monkeypatch.chdir(tmp_path)

    def type_in(*words: str) -> Said:
        code = main(["pack", *words])
        return code, *capsys.readouterr()

    return type_in


def test_an_import_says_what_is_and_what_is_odd(run: Callable[..., Said]) -> None:
    write_directory(Path("in"), {"A:0": ["Big cat:1", "Big Cat:1"], "Big cat:1": ["C:2"]})
    shutil.copyfile("in/layer0/A.pt", "in/layer0/A_classifier.pt")
    code, said, errors = run("import", "in", *OPTIONS, "--out", "made")
    assert (code, errors) == (0, "")
    lines = [line.split("\t") for line in said.splitlines()]
    assert ["host id", MODEL, "pack_info.json"] in lines
    assert ["site", "resid_post.1", "given"] in lines
    assert [
        "two files of one concept",
        "1",
        "both left out; remove one",
        "A:0: A.pt and A_classifier.pt",
    ] in lines
    assert ["names that differ in case alone", "1", "kept as two concepts", "Big Cat, Big cat"] in lines
    assert lines[-2][0].startswith("wrote made: 3 lenses in 2 families, mlp 32-8-4-1, first layers fp32")
    assert "no lens is calibrated or measured" in lines[-1][0]
    assert run("verify", "made")[0] == 0

    code, _, errors = run("import", "in", "--out", "again")
    assert code == 2
    assert errors.startswith("error: in/pack_info.json does not say it all; give --site")
    assert len(errors.splitlines()) == 1


def test_an_import_of_probes(run: Callable[..., Said]) -> None:
    np.savez("p.npz", coef=np.ones((2, 8)), intercept=np.zeros(2), names=np.array(["x", "y"]))
    code, said, _ = run(
        "import", "p.npz", *OPTIONS, "--host-id", "h", "--norm", "rms", "--out", "made", "--dtype", "bf16"
    )
    assert code == 0
    assert "wrote made: 2 lenses in 1 families, linear 8-1, first layers bf16" in said


def test_convert_subset_and_diff(run: Callable[..., Said]) -> None:
    make_pack("a")
    code, said, _ = run("convert", "a", "--dtype", "int8", "--out", "b")
    assert code == 0
    assert "wrote b: 21 lenses" in said
    assert "logits off by" in said
    code, said, _ = run("diff", "a", "b")
    assert code == 1
    assert "configuration\tlens.dtype\tbf16\tint8" in said.splitlines()
    assert run("diff", "a", "a")[:2] == (0, "the same: a and a\n")
    code, _, errors = run("diff", "a", "nowhere")
    assert (code, len(errors.splitlines())) == (2, 1)
    code, said, _ = run("subset", "a", "c1", "c0-1", "--out", "c")
    assert code == 0
    assert len(LensPack.from_pretrained("c").hierarchy) == 11


def test_a_long_difference_is_cut_and_counted(run: Callable[..., Said]) -> None:
    make_pack("a", branching=(30, 1))
    make_pack("b", branching=(30, 1), seed=1)
    _, said, _ = run("diff", "a", "b")
    weights = [line for line in said.splitlines() if line.startswith("weights\t")]
    assert len(weights) == 21
    assert weights[-1] == "weights\tand 11 more\t\t"


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["convert", "a", "--out", "b"], "give one of --dtype"),
        (["convert", "a", "--dtype", "fp16", "--out", "b"], "dtype fp16: expected bf16, fp32, int8"),
        (["convert", "a", "--compact", "3", "--out", "b"], "without data it would be another lens"),
        (["subset", "a", "c77", "--out", "b"], "no concept 'c77'"),
        (["subset", "a", "--out", "b"], "--help"),
        (["import", "a", *OPTIONS, "--host-id", "h", "--out", "b"], "layer0"),
    ],
)
def test_what_cannot_be_done_is_one_line(run: Callable[..., Said], words: list[str], part: str) -> None:
    make_pack("a")
    code, _, errors = run(*words)
    assert code == 2
    assert part in errors
    assert len(errors.splitlines()) == 1
    assert not Path("b").exists()
