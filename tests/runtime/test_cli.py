"""The command as it is typed: what it prints, what it refuses in one line, and how it leaves a terminal."""

import json
import os
import pty
import re
import select
import shutil
import subprocess
import termios
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from runtime import environment, packs
from runtime.cli import main
from runtime.environment import Finding
from tests import hosts
from tests.packs import make_pack
from tests.slow_reads import no_read_before_the_end
from tests.warm import Warm, cold
from tests.watched import named_nodes

PROGRAM = ["-c", "import sys; from runtime.cli import main; sys.exit(main())"]
LATE_PROGRAM = [
    "-c",
    "import sys; from tests.slow_reads import no_read_before_the_end; no_read_before_the_end(); "
    "from runtime.cli import main; sys.exit(main())",
]
"""The same where the readers read nothing before a generation has ended."""
ROOT = Path(__file__).parents[2]
HOST = "tiny/host"
LIMIT_S = 120
"""A child that takes longer is stuck."""

Said = tuple[int, str, str]
Type = Callable[..., Said]


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory whose `lens_packs/wordnet-mini` is tiny, with a tiny host in it that never ends."""
    here = tmp_path_factory.mktemp("work")
    host = hosts.save(
        hosts.gemma3(host_id=HOST, eos_token_id=None, max_position_embeddings=4096), here / "host"
    )
    make_pack(
        here / "lens_packs" / packs.DEFAULT_PACK,
        nodes=named_nodes(),
        hidden_size=hosts.HIDDEN,
        blocks=hosts.BLOCKS,
        host=HOST,
        host_dir=host,
        null_texts=400,
    )
    return here


@pytest.fixture
def run(shelf: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Type:
    """Type a command in the working directory: exit code, standard output, standard error."""
    monkeypatch.chdir(shelf)
    monkeypatch.setattr(packs, "__file__", str(shelf / "elsewhere" / "runtime" / "packs.py"))

    def type_in(*words: str | Path) -> Said:
        capsys.readouterr()
        code = main([str(word) for word in words])
        said = capsys.readouterr()
        return code, said.out, said.err

    return type_in


def events_of(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def content(events: list[dict[str, object]]) -> list[dict[str, object]]:
    return [{name: value for name, value in event.items() if name != "run"} for event in events]


# What it does.


def test_watch_prints_a_line_a_token_and_writes_events(run: Type, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    code, said, errors = run("watch", "the violin is", "--max-new-tokens", "6", "--show", "2", "--jsonl", out)
    assert (code, errors) == (0, "")
    assert [line.split()[1] for line in said.splitlines()] == ["read"] * 3 + ["wrote"] * 6 + ["tokens;"]
    events = events_of(out)
    assert len(events) == 4 + 6 - 1
    assert [len(event["top"]) for event in events] == [0] + [2] * 8  # type: ignore[arg-type]


def test_watch_writes_a_page(run: Type, tmp_path: Path) -> None:
    out = tmp_path / "out.html"
    code, _, errors = run("watch", "the violin is", "--max-new-tokens", "6", "--seed", "9", "--html", out)
    assert (code, errors) == (0, "")
    page = out.read_text(encoding="utf-8")
    assert page.endswith("</html>\n")
    assert page.count('"at":') == 4 + 6 - 1
    assert "temperature 0.7, seed 9" in page
    assert list(tmp_path.iterdir()) == [out]


def test_the_same_seed_gives_the_same_contents_whatever_the_tiers_do(run: Type, tmp_path: Path) -> None:
    found = []
    for name, flags in {
        "first": [],
        "again": [],
        "cold": ["--no-prewarm"],
        "small": ["--hot-budget", "5KiB", "--warm-budget", "0"],
    }.items():
        out = tmp_path / name
        code, _, errors = run(
            "watch", "the dog", "--max-new-tokens", "8", "--seed", "3", "--jsonl", out, *flags
        )
        assert (code, errors) == (0, "")
        found.append(content(events_of(out)))
    assert all(events == found[0] for events in found)
    run("watch", "the dog", "--max-new-tokens", "8", "--seed", "4", "--jsonl", tmp_path / "other")
    assert content(events_of(tmp_path / "other")) != found[0], "another seed samples another text"


def test_scores_that_come_late_are_the_same_in_the_end(
    run: Type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = {
        "strict": [],
        "deferred": ["--missing", "deferred", "--no-prewarm"],
        "bursts": ["--read-every", "5"],
        "both": ["--missing", "deferred", "--no-prewarm", "--read-every", "3", "--hot-budget", "5KiB"],
    }
    told, revised = {}, {}
    for name, words in flags.items():
        out = tmp_path / name
        with monkeypatch.context() as patch:
            if "deferred" in words:
                no_read_before_the_end(patch.setattr)
            code, said, errors = run("watch", "the dog", "--max-new-tokens", "8", "--jsonl", out, *words)
        assert (code, errors) == (0, "")
        told[name] = {event["position"]: event for event in content(events_of(out))}
        revised[name] = [event["run"]["revision"] for event in events_of(out)]  # type: ignore[index]
        assert ("late: " in said) == ("deferred" in words)
    assert told["deferred"] == told["bursts"] == told["both"] == told["strict"]
    assert 1 in revised["deferred"]
    assert 1 in revised["both"]
    assert 1 not in revised["strict"] + revised["bursts"]


def test_temperature_0_takes_the_likeliest_whatever_the_seed(run: Type) -> None:
    texts = set()
    for seed in ("1", "2"):
        _, said, _ = run("watch", "the dog", "--max-new-tokens", "6", "--temperature", "0", "--seed", seed)
        texts.add(tuple(re.findall(r"wrote  (\S+)|wrote  '(\S+)'", said)))
    assert len(texts) == 1


@pytest.mark.parametrize(
    ("flags", "prompt_tops"),
    [(["--prompt-events", "off"], []), (["--prompt-events", "base"], [9]), (["--exhaustive"], [21])],
)
def test_flags_reach_the_monitor(run: Type, tmp_path: Path, flags: list[str], prompt_tops: list[int]) -> None:
    run("watch", "the dog", "--max-new-tokens", "2", "--jsonl", tmp_path / "o", *flags)
    scored = {e["scored"] for e in events_of(tmp_path / "o") if e["phase"] == "prompt" and e["state"] == "ok"}
    assert sorted(scored) == prompt_tops  # type: ignore[type-var]


def test_base_levels_and_max_level_reach_the_monitor(run: Type, tmp_path: Path) -> None:
    run(
        "watch",
        "dog",
        "--max-new-tokens",
        "2",
        "--base-levels",
        "0",
        "--max-level",
        "0",
        "--jsonl",
        tmp_path / "o",
    )
    assert [event["scored"] for event in events_of(tmp_path / "o")] == [0, 3, 3]


def test_tracked_concepts_are_in_every_line_and_change_nothing(run: Type, tmp_path: Path) -> None:
    typed = ["watch", "the violin is", "--max-new-tokens", "6", "--jsonl"]
    _, untracked, _ = run(*typed, tmp_path / "untracked")
    tracks = ["--track", "animal.large.old", "--track", "animal", "--track", "animal"]
    code, said, errors = run(*typed, tmp_path / "tracked", *tracks)
    assert (code, errors) == (0, "")
    *lines, _ = said.splitlines()
    value = r"(0\.\d\d\??|1\.00\??|not scored) *"
    for line, without in zip(lines, untracked.splitlines(), strict=False):
        assert re.search(rf"  old large animal {value} \| animal {value} \| ", line), line
        assert re.sub(r"old large animal .*? \| animal .*? \| ", "", line) == without
    assert content(events_of(tmp_path / "tracked")) == content(events_of(tmp_path / "untracked"))


def test_the_host_may_be_given_by_id_or_directory(run: Type, shelf: Path) -> None:
    travelling = Path("lens_packs", packs.DEFAULT_PACK, "host")
    for model in (HOST, shelf / "host", travelling):
        code, said, errors = run("watch", "the dog", "--max-new-tokens", "2", "--model", model)
        assert (code, errors, len(said.splitlines())) == (0, "", 5)


def test_version_and_help(run: Type) -> None:
    code, said, _ = run("--version")
    assert code == 0
    assert re.fullmatch(r"phoropter \d+\.\d+\.\d+\S*\n", said)
    for words in (["--help"], [], ["watch", "--help"], ["pack", "--help"], ["pack", "verify", "--help"]):
        code, said, errors = run(*words)
        assert (code, errors) == (0, "")
        assert "Usage: phoropter" in said
    for command in (["watch"], ["doctor"], ["pack", "list"], ["pack", "show"], ["pack", "verify"]):
        assert f"phoropter {' '.join(command)}" in run(*command, "--help")[1].partition("Example")[2]


def test_pack_list_show_and_verify(run: Type) -> None:
    code, said, _ = run("pack", "list")
    assert code == 0
    assert said.splitlines()[1].split("\t")[:3] == [
        f"lens_packs/{packs.DEFAULT_PACK}",
        f"{HOST} (travels with it)",
        "resid_post.2",
    ]
    code, said, _ = run("pack", "show", packs.DEFAULT_PACK)
    assert code == 0
    assert "\n0\t3\t1\tat every token\n1\t6\t3\tat every token\n2\t12\t6\twhen a parent is active\n" in said
    graded = said.partition("\ngrade\tmeans\tlenses")[2].partition("\na grade is the worst")[0]
    counted = re.findall(r"\n([ABCDF]|unmeasured)\t[^\t\n]+\t(\d+)", graded)
    assert [grade for grade, _ in counted] == [*"ABCDF", "unmeasured"]
    assert sum(int(lenses) for _, lenses in counted) == 21
    assert ("unmeasured", "4") in counted
    assert re.search(r"\nauroc\t21\t0\.\d{3}\t", said)
    assert re.search(r"\n20\t\d+\.\d\d, at most \d+\.\d\d, over \d+ lenses\n", said)
    assert "null_" not in said
    code, said, _ = run("pack", "verify", f"lens_packs/{packs.DEFAULT_PACK}")
    assert code == 0
    assert said.startswith(f"ok: lens_packs/{packs.DEFAULT_PACK}: 21 lenses in 10 families")


def test_a_lens_has_a_card_and_a_pack_a_page_of_all_of_them(run: Type, tmp_path: Path) -> None:
    code, said, errors = run("pack", "show", packs.DEFAULT_PACK, "animal.small")
    assert (code, errors) == (0, "")
    assert "\npath\tanimal > small animal\n" in said
    assert re.search(r"\n1\.0% of the tokens\tabove log-odds ", said)
    code, said, errors = run("pack", "show", packs.DEFAULT_PACK, "animal.smal")
    assert (code, said) == (2, "")
    assert "did you mean animal.small" in errors
    page = tmp_path / "lenses.html"
    code, said, errors = run("pack", "report", packs.DEFAULT_PACK, "--out", page)
    assert (code, said, errors) == (0, f"wrote {page}: 21 lenses\n", "")
    assert "small animal" in page.read_text()


def test_an_alarm_budget_marks_alarms_and_says_what_was_promised(run: Type, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    code, said, _ = run("watch", "the dog", "--max-new-tokens", "12", "--alarm-budget", "60", "--jsonl", out)
    assert code == 0
    last = said.splitlines()[-1]
    found = re.search(r"(\d+) alarms in (\d+) tokens, .*promised at most (\S+) per 1,000", last)
    assert found is not None
    events = [json.loads(line) for line in out.read_text().splitlines()]
    assert sum(len(event["alarms"]) for event in events) == int(found[1]) > 0
    assert sum(event["state"] == "ok" for event in events) == int(found[2])
    assert float(found[3]) <= 60
    assert "[ALARM: " in said
    code, said, errors = run("watch", "the dog", "--alarm-budget", "0.001")
    assert (code, said) == (2, "")
    assert "can promise" in errors


def test_doctor_prints_a_line_a_check_and_fails_only_on_problems(run: Type, copied: Path) -> None:
    code, said, errors = run("doctor")
    assert (code, errors) == (0, "")
    *lines, summary = [line.split("\t") for line in said.splitlines()]
    assert [line[1] for line in lines[:6]] == ["libraries", "kernels", "threads", "hub", "terminal", "pack"]
    assert {line[0] for line in lines} <= {"ok", "warning"}
    assert summary[0].startswith("no problems, ")
    code, said, errors = run("doctor", "--hot-budget", "1KiB")
    assert (code, errors) == (2, "")
    assert re.search(r"^problem\tbudgets\t.*\traise the hot budget$", said, re.MULTILINE)
    assert said.splitlines()[-1].startswith("1 problem, ")
    flip_a_byte(copied / "lenses-00001-of-00001.safetensors")
    code, said, errors = run("doctor", "--pack", copied)
    assert (code, errors) == (2, "")
    assert re.search(r"^problem\tbytes\t.*\tfetch the pack again$", said, re.MULTILINE)


def test_doctor_refuses_settings_that_cannot_hold(run: Type) -> None:
    code, said, errors = run("doctor", "--hot-budget", "lots")
    assert (code, said) == (2, "")
    assert re.fullmatch(r"error: [^\n]*512MiB[^\n]*\n", errors)


def test_doctor_looks_no_further_than_a_broken_machine(run: Type, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Finding("libraries", "problem", "torch is 1.0", "pip install 'torch>=2.11'")
    monkeypatch.setattr(environment, "check_libraries", lambda: broken)
    code, said, _ = run("doctor")
    assert code == 2
    assert [line.split("\t")[:2] for line in said.splitlines()[:-1]] == [
        ["problem", "libraries"],
        ["warning", "pack, host"],
    ]


def test_an_empty_shelf_says_so(run: Type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, said, _ = run("pack", "list")
    assert code == 0
    assert "no lens packs" in said


def test_packs_beside_the_package_are_found_from_anywhere(
    run: Type, shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(packs, "__file__", str(shelf / "runtime" / "packs.py"))
    assert str(shelf) in run("pack", "list")[1]
    monkeypatch.chdir(shelf)
    assert len(packs.find_packs()) == 1, "the same directory is listed once"


# What it refuses: one line, exit code 2.


REFUSED = {
    "an empty prompt": ([""], "prompt is empty"),
    "a prompt beyond the context": (["the", "--max-new-tokens", "5000"], "the host's context is 4,?096"),
    "no tokens to generate": (["the", "--max-new-tokens", "0"], "give 1 or more"),
    "a negative temperature": (["the", "--temperature", "-1"], "give 0 or more"),
    "a temperature that is no number": (["the", "--temperature", "nan"], "give 0 or more"),
    "a seed beyond torch's": (["the", "--seed", str(2**64)], "give 0 to"),
    "nothing to show": (["the", "--show", "0"], "give 1 or more"),
    "a concept that is not there": (
        ["the", "--track", "animal", "--track", "animal.lage"],
        "no concept 'animal.lage' among the 21 of this pack; did you mean animal.large",
    ),
    "base levels that are no prefix": (["the", "--base-levels", "1"], "no prefix"),
    "base levels that are no numbers": (["the", "--base-levels", "all"], "not understood"),
    "base levels that do not exist": (["the", "--base-levels", "0,1,2,3"], "has levels 0 to 2"),
    "a level above the base": (["the", "--max-level", "0"], "max level 0"),
    "a width of nothing": (["the", "--top-k", "0"], "top-k 0"),
    "a threshold that is no probability": (["the", "--load-threshold", "2"], "no probability"),
    "prompt events of no kind": (["the", "--prompt-events", "some"], "full, base or off"),
    "missing families of no kind": (["the", "--missing", "maybe"], "not strict or deferred"),
    "no token at a time": (["the", "--read-every", "0"], "read every 0 is too small; give 1 or more"),
    "a size that is none": (["the", "--hot-budget", "lots"], "512MiB"),
    "a hot budget too small": (["the", "--hot-budget", "1KiB"], r"needs at least \d"),
    "a device that is not here": (["the", "--device", "cuda:99"], "cuda:99.*cpu"),
    "a device of no kind": (["the", "--device", "banana"], "banana"),
    "a pack that is not there": (["the", "--pack", "nowhere"], "nowhere.*phoropter pack list"),
    "a model that no pack fits": (
        ["the", "--model", "google/gemma-3-4b-pt"],
        f"is for {HOST}.*phoropter pack list",
    ),
    "a pack for another model": (
        ["the", "--model", "google/gemma-3-4b-pt", "--pack", packs.DEFAULT_PACK],
        f"is for the host {HOST}, not google/gemma-3-4b-pt.*train_lenses",
    ),
    "a directory that is no model": (["the", "--model", "."], "no lens pack for the host"),
    "a file that cannot be written": (["the", "--jsonl", "missing/out.jsonl"], "cannot write"),
    "a disk that is full": (["the", "--jsonl", "/dev/full"], "No space left"),
    "a page that cannot be written": (["the", "--html", "missing/out.html"], "cannot write"),
    "an option of no such name": (["the", "--colour"], "No such option"),
    "an option of the wrong type": (["the", "--top-k", "many"], "--top-k"),
    "too many arguments": (["the", "dog"], "unexpected extra argument"),
}


@pytest.mark.parametrize("words_and_message", REFUSED.values(), ids=REFUSED)
def test_bad_input_is_one_line_and_exit_code_2(
    run: Type, shelf: Path, words_and_message: tuple[list[str], str]
) -> None:
    words, message = words_and_message
    before = sorted(shelf.rglob("*"))
    code, said, errors = run("watch", *words)
    assert (code, said) == (2, "")
    assert re.fullmatch(rf"error: [^\n]*(?:{message})[^\n]*\n", errors), errors
    assert sorted(shelf.rglob("*")) == before, "nothing half-written is left"


def test_no_pack_at_all_says_what_to_type(run: Type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, errors = run("watch")
    assert code == 2
    assert re.fullmatch(
        rf"error: no lens pack lens_packs/{packs.DEFAULT_PACK} .*phoropter pack list.*\n", errors
    )


@pytest.fixture
def copied(shelf: Path, tmp_path: Path) -> Path:
    """A copy of the pack to damage."""
    return Path(shutil.copytree(shelf / "lens_packs" / packs.DEFAULT_PACK, tmp_path / "copy"))


def flip_a_byte(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[-40] ^= 1
    path.write_bytes(raw)


def test_a_flipped_byte_fails_verify_in_one_line(run: Type, copied: Path) -> None:
    flip_a_byte(copied / "lenses-00001-of-00001.safetensors")
    code, said, errors = run("pack", "verify", copied)
    assert (code, said) == (2, "")
    assert re.fullmatch(r"error: [^\n]*lenses-00001-of-00001.safetensors[^\n]*\n", errors)


@pytest.mark.parametrize("command", [["pack", "show"], ["pack", "verify"], ["watch", "the", "--pack"]])
@pytest.mark.parametrize("name", ["config.json", "concepts.jsonl", "heads.safetensors"])
def test_a_damaged_pack_is_one_line_in_every_command(
    run: Type, copied: Path, command: list[str], name: str
) -> None:
    (copied / name).write_bytes((copied / name).read_bytes()[:-50])
    code, said, errors = run(*command, copied)
    assert (code, said) == (2, "")
    assert re.fullmatch(rf"error: [^\n]*{re.escape(name)}[^\n]*\n", errors), errors


def test_a_damaged_pack_is_listed_as_such(run: Type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lens_packs" / "odd").mkdir(parents=True)
    (tmp_path / "lens_packs" / "odd" / "config.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    code, said, _ = run("pack", "list")
    assert code == 0
    assert "lens_packs/odd\tdamaged: " in said
    assert "lens_packs/odd is damaged" in run("watch", "--model", "some/model")[2]


def test_a_host_that_does_not_fit_is_refused_after_loading(run: Type, copied: Path, tmp_path: Path) -> None:
    wide = hosts.save(hosts.gemma3(host_id="other/host"), tmp_path / "wide")
    code, said, errors = run("watch", "the", "--pack", copied, "--model", wide)
    assert (code, said) == (2, "")
    assert re.fullmatch(r"error: [^\n]*other/host[^\n]*\n", errors), errors


# On a terminal (forked from a warm process, but for one that stands for all), and at the end of a pipe.


class Terminal:
    """A child in a pseudo-terminal: what it painted, and what is typed at it; `start` as for `tests.warm.cold`."""

    def __init__(
        self,
        shelf: Path,
        *words: str,
        size: tuple[int, int] = (80, 24),
        environment: dict[str, str] | None = None,
        program: Sequence[str] = PROGRAM,
        start: Callable[..., Warm | subprocess.Popen[bytes]] = Warm,
    ) -> None:
        self.painted = b""
        columns, lines = size
        self._descriptor, far = pty.openpty()
        termios.tcsetwinsize(far, (lines, columns))
        plain = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
        given = {"PYTHONPATH": str(ROOT), "TERM": "xterm-256color", **(environment or {})}
        self._process = start(
            [*program, *words], streams=(far, far, far), env=plain | given, cwd=shelf, has_terminal=True
        )
        os.close(far)

    def resize(self, columns: int, lines: int) -> None:
        """Give the terminal another size."""
        termios.tcsetwinsize(self._descriptor, (lines, columns))

    def read_until(self, pattern: bytes) -> None:
        """Read until the pattern was painted."""
        self._read(lambda: re.search(pattern, self.painted) is not None)

    def type(self, keys: bytes) -> None:
        """Type; Ctrl-C is b"\\x03"."""
        os.write(self._descriptor, keys)

    def end(self) -> int:
        """Read all that is left; returns the exit code."""
        self._read(lambda: False)
        os.close(self._descriptor)
        return self._process.wait(LIMIT_S)

    def _read(self, enough: Callable[[], bool]) -> None:
        until = time.monotonic() + LIMIT_S
        while not enough():
            assert time.monotonic() < until, self.painted[-2000:]
            if not select.select([self._descriptor], [], [], 1)[0]:
                continue
            try:
                read = os.read(self._descriptor, 65536)
            except OSError:  # Linux's way to say that the other end is closed
                return
            if not read:
                return
            self.painted += read


def was_given_back(painted: bytes) -> bool:
    """Whether cursor and screen are, in the end, as they were."""
    return painted.rfind(b"\x1b[?25h") > painted.rfind(b"\x1b[?25l") and (
        painted.rfind(b"\x1b[?1049l") > painted.rfind(b"\x1b[?1049h")
    )


def test_a_terminal_gets_a_live_view_and_keeps_its_last_frame(shelf: Path) -> None:
    terminal = Terminal(shelf, "watch", "the violin is", "--max-new-tokens", "20", "--track", "animal")
    assert terminal.end() == 0
    assert was_given_back(terminal.painted)
    live, _, left_behind = terminal.painted.rpartition(b"\x1b[?1049l")
    assert b"reading the prompt" in live
    assert b"active before" in live, "more than one frame"
    assert b"20/20 tokens" in left_behind
    assert b"active before" in left_behind
    assert re.search("[▁▂▃▄▅▆▇█]{10}", left_behind.decode()), "the trend of what is tracked"


def test_a_terminal_that_is_resized_is_painted_for_its_new_size(shelf: Path) -> None:
    terminal = Terminal(shelf, "watch", "the violin is", "--max-new-tokens", "4000", size=(100, 30))
    terminal.read_until(rb"active before")
    terminal.resize(44, 16)
    terminal.read_until(rb"(?s)\x1b\[2J.*tokens.*\x1b\[2J.*tokens")
    terminal.type(b"\x03")
    assert terminal.end() == 130
    left_behind = re.sub(
        r"\x1b\[[\d;?]*[a-zA-Z]", "", terminal.painted.rpartition(b"\x1b[?1049l")[2].decode()
    )
    borders = [line for line in left_behind.splitlines() if line.startswith(("╭", "├", "╰"))]
    assert {len(line) for line in borders} == {44}


def test_a_terminal_ends_with_a_whole_picture_however_late_the_scores_come(shelf: Path) -> None:
    late = ["--missing", "deferred", "--no-prewarm", "--read-every", "4"]
    terminal = Terminal(
        shelf,
        *["watch", "the violin is", "--max-new-tokens", "11", "--track", "animal.large", *late],
        program=LATE_PROGRAM,
    )
    assert terminal.end() == 0
    assert was_given_back(terminal.painted)
    left_behind = terminal.painted.rpartition(b"\x1b[?1049l")[2].decode()
    assert "11/11 tokens" in left_behind
    assert re.search(r"late: [1-9]\d* positions, 0 still to come", left_behind)
    assert "lenses to come" not in left_behind
    assert re.search("[▁▂▃▄▅▆▇█]{10}", left_behind), "the trend of what is tracked, without a gap"


@pytest.mark.parametrize(
    ("environment", "painted"),
    [({"NO_COLOR": "1"}, True), ({"TERM": "dumb"}, False), ({"PYTHONIOENCODING": "ascii"}, False)],
)
def test_terminals_without_colour_or_drawing_get_what_they_can_show(
    shelf: Path, environment: dict[str, str], painted: bool
) -> None:
    terminal = Terminal(
        shelf, "watch", "the violin is", "--max-new-tokens", "4", "--track", "animal", environment=environment
    )
    assert terminal.end() == 0
    assert not re.search(rb"\x1b\[[\d;]*[34]8;", terminal.painted)
    assert (b"\x1b[?1049h" in terminal.painted) == painted
    assert (b"wrote" in terminal.painted) == (not painted)
    assert b"animal " in terminal.painted


def test_doctor_draws_a_table_on_a_terminal(shelf: Path) -> None:
    terminal = Terminal(shelf, "doctor", "--hot-budget", "1KiB")
    assert terminal.end() == 2
    said = re.sub(rb"\x1b\[[0-9;]*m", b"", terminal.painted).decode()
    assert "found, and what to do" in said
    assert "→ raise the hot budget" in said
    assert b"Traceback" not in terminal.painted
    assert "\t" not in said


def test_ctrl_c_restores_the_terminal_and_keeps_whole_lines(shelf: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    page = tmp_path / "out.html"
    files = ["--jsonl", str(out), "--html", str(page)]
    terminal = Terminal(shelf, "watch", "the violin is", "--max-new-tokens", "4000", *files, start=cold)
    terminal.read_until(rb"active before")
    terminal.type(b"\x03")
    assert terminal.end() == 130
    assert was_given_back(terminal.painted)
    assert b"Traceback" not in terminal.painted
    events = events_of(out)
    assert 4 <= len(events) < 4000
    assert out.read_text().endswith("}\n")
    assert page.read_text().endswith("</html>\n")
    assert sorted(tmp_path.iterdir()) == [page, out]


@contextmanager
def piped(
    shelf: Path, errors: Path, *words: str, environment: dict[str, str] | None = None
) -> Iterator[tuple[Warm, IO[bytes]]]:
    """A child that writes into a pipe, and what comes out of it; what it complains of goes to a file."""
    near, far = os.pipe()
    with open(near, "rb") as said, open(os.devnull, "rb") as nothing, errors.open("wb") as complaints:
        child = Warm(
            [*PROGRAM, *words],
            streams=(nothing.fileno(), far, complaints.fileno()),
            env={**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})},
            cwd=shelf,
        )
        os.close(far)
        yield child, said


def test_a_pipe_gets_plain_lines_even_where_colour_is_forced(shelf: Path, tmp_path: Path) -> None:
    words = ["watch", "the violin is", "--max-new-tokens", "4"]
    environment = {"FORCE_COLOR": "1", "PYTHONIOENCODING": "ascii"}
    with piped(shelf, tmp_path / "errors", *words, environment=environment) as (child, said):
        text = said.read()
        assert child.wait(LIMIT_S) == 0
    assert (tmp_path / "errors").read_bytes() == b""
    assert b"\x1b" not in text
    assert len(text.splitlines()) == 8


def test_a_reader_that_leaves_ends_it_quietly_and_keeps_the_file(shelf: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    words = ["watch", "the violin is", "--max-new-tokens", "4000", "--jsonl", str(out)]
    with piped(shelf, tmp_path / "errors", *words) as (child, said):
        assert b"read" in said.readline()
        said.close()
        assert child.wait(LIMIT_S) == 1
    assert (tmp_path / "errors").read_bytes() == b""
    assert 1 <= len(events_of(out)) < 4000
