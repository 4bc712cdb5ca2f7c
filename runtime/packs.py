"""Which lens packs are here, which of them fits a host, and what one says about itself.

What is to be shown comes as rows of text; who calls prints them. Finding and listing packs reads their
configurations alone, and does not import torch.
"""

import json
import statistics
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from lenses.config import CONFIG, HOST, PackConfig
from lenses.errors import ConfigError, PackError, PackMismatch, PackNotFound
from lenses.grade import MEANINGS, MEASURED_FROM, UNMEASURED, grade, is_of_all, worst_first
from lenses.store import PackDirectory
from lenses.text import one_line
from runtime.session import format_bytes

if TYPE_CHECKING:
    from lenses.pack import LensPack

DEFAULT_PACK = "wordnet-mini"
"""The name of the pack that travels with the project."""

ALARM_BUDGETS = (1.0, 5.0, 20.0, 100.0)
"""Of which a pack says what they promise."""

_SHELF = Path("lens_packs")
_ADVICE = (
    "see: phoropter pack list; then give one that is for it with --pack PATH, or train one with "
    "scripts/train_lenses.py"
)

Rows = list[list[str]]


def find_packs() -> list[Path]:
    """Directories of the packs that are here: in `lens_packs/` of the working directory, then of the source
    tree that the package is installed from."""
    found: dict[Path, Path] = {}
    for shelf in (_SHELF, Path(__file__).parents[1] / _SHELF):
        for config in sorted(shelf.glob(f"*/{CONFIG}")):
            found.setdefault(config.parent.resolve(), config.parent)
    return list(found.values())


def resolve_pack(name: str) -> str:
    """A pack as `LensPack.from_pretrained` takes it: a pack that is here may be given by its bare name."""
    if not Path(name).exists():
        for path in find_packs():
            if path.name == name:
                return str(path)
    return name


def choose_pack(pack: str | None, model: str | None) -> str:
    """The pack to watch a host with, by what the user gave; raises PackMismatch or PackNotFound with the next
    command to type."""
    if pack is not None:
        return resolve_pack(pack)
    here = find_packs()
    if model is None:
        travelling = resolve_pack(DEFAULT_PACK)
        if travelling == DEFAULT_PACK:
            raise PackNotFound(f"no lens pack {_SHELF / DEFAULT_PACK} here or beside the package; {_ADVICE}")
        return travelling
    tried = []
    for path in here:
        try:
            config = read_config(path)
        except PackError:
            tried.append(f"{one_line(path)} is damaged")
            continue
        if _is_host_of(path, config, model):
            return str(path)
        tried.append(f"{one_line(path)} is for {config.host.id}")
    found = ", ".join(tried) or f"there is no pack in {_SHELF}"
    raise PackMismatch(f"no lens pack for the host {one_line(model)}: {found}; {_ADVICE}")


def check_made_for(path: str, config: PackConfig, model: str) -> None:
    """Raises PackMismatch if the pack is plainly for another host than `model`, before gigabytes are read.

    A directory may hold the host under any name, so that is for the monitor to say, once it is loaded.
    """
    if model != config.host.id and not Path(model).is_dir():
        raise PackMismatch(
            f"the pack {one_line(path)} is for the host {config.host.id}, not {one_line(model)}; {_ADVICE}"
        )


def host_of(pack: "LensPack", where: str, model: str | None) -> tuple[str | Path, str | None]:
    """The host to watch with a pack that was found at `where`, and its revision: what `load_host` takes.

    Without a `model`, the host that the pack was made for, which may travel with it. Raises PackMismatch for a model
    that the pack is plainly not for.
    """
    made_for = pack.config.host
    if model in (None, made_for.id) and pack.host_dir is not None:
        return pack.host_dir, None
    if model in (None, made_for.id):
        return made_for.id, made_for.revision
    assert model is not None
    check_made_for(where, pack.config, model)
    return model, None


def read_config(path: Path) -> PackConfig:
    """What the pack in this directory says of itself; raises PackFormatError. Nothing else of it is read."""
    directory = PackDirectory(path)
    return PackConfig.from_bytes(directory.read(CONFIG), directory.source(CONFIG))


def _is_host_of(path: Path, config: PackConfig, model: str) -> bool:
    if model == config.host.id or not Path(model).is_dir():
        return model == config.host.id
    if Path(model).resolve() == (path / HOST).resolve():
        return True
    try:
        described = json.loads((Path(model) / CONFIG).read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(described, dict) and described.get("host_id") == config.host.id


def list_rows() -> Rows:
    """A row for each pack that is here; a damaged one is listed with what is wrong."""
    rows = []
    for path in find_packs():
        try:
            config = read_config(path)
        except PackError as error:
            rows.append([one_line(path), f"damaged: {error}", "", "", "", ""])
            continue
        host = f"{config.host.id}{' (travels with it)' if config.host_files else ''}"
        levels = ",".join(map(str, config.base_levels))
        size = format_bytes(_size_bytes(path, config))
        rows.append([one_line(path), host, config.site, str(config.concepts), levels, size])
    return rows


def about_rows(pack: "LensPack") -> Rows:
    """What a pack is, as names and values."""
    config = pack.config
    host, lens = config.host, config.lens
    return [
        ["path", one_line(pack.path)],
        *([["hub", pack.hub_source]] if pack.hub_source is not None else []),
        ["host", f"{host.id}{f' at revision {host.revision}' if host.revision else ''}"],
        ["", f"{host.blocks} blocks, hidden size {host.hidden_size}, {host.dtype}"],
        ["travels with it", "yes, in host/" if config.host_files else "no"],
        ["site", config.site],
        ["input", f"norm {config.input.norm}, pooling {config.input.pooling}"],
        [
            "lenses",
            f"{config.concepts} {lens.describe(host.hidden_size)}, first layers {lens.dtype}, {lens.shards} file(s)",
        ],
        ["families", str(config.families)],
        ["base levels", ", ".join(map(str, config.base_levels))],
        ["walk", f"{config.top_k} families a level at most, from probability {config.load_threshold:g}"],
        ["calibration", f"at prior {config.calibration_prior:g}, {int(pack.heads.calibrated.sum())} lenses"],
        ["size", format_bytes(_size_bytes(pack.path, config))],
        ["licence", config.licence],
        ["identity", pack.identity],
    ]


def level_rows(pack: "LensPack") -> Rows:
    """A row for each level: how many concepts and families it has, and when they are scored."""
    rows = []
    for level in range(pack.hierarchy.depth):
        families = [family for family in pack.hierarchy.families if family.level == level]
        scored = "at every token" if level in pack.config.base_levels else "when a parent is active"
        rows.append([str(level), str(sum(f.rows for f in families)), str(len(families)), scored])
    return rows


def grade_rows(pack: "LensPack") -> Rows:
    """A row for each grade, best first: what it means, and how many lenses have it."""
    count = Counter(grade(concept.metrics) for concept in pack.hierarchy)
    return [
        *([letter, means, str(count[letter])] for letter, means in MEANINGS.items()),
        [UNMEASURED, f"fewer than {MEASURED_FROM} held-out texts; never alarms", str(count[UNMEASURED])],
    ]


def alarm_rows(pack: "LensPack") -> Rows:
    """What alarm budgets promise: a row for each of a few budgets, or one that says why there are none."""
    from lenses.alarms import alarm_budget

    rows = []
    for budget in ALARM_BUDGETS:
        try:
            found = alarm_budget(pack.hierarchy, pack.heads, budget)
        except ConfigError:
            rows.append([f"{budget:g}", "less than its null corpus can promise"])
            continue
        if not found.lenses:
            return [["any", "no lens ever alarms: none is graded A to D with a threshold from a null corpus"]]
        rows.append(
            [f"{budget:g}", f"{found.expected:.2f}, at most {found.at_most:.2f}, over {found.lenses} lenses"]
        )
    return rows


def metric_rows(pack: "LensPack") -> Rows:
    """A row for each metric that was measured: lenses, median, worst tenth, worst, and a lens that is that."""
    found: dict[str, dict[str, float]] = {}
    for concept in pack.hierarchy.concepts:
        for metric, value in concept.metrics.items():
            if is_of_all(metric):
                found.setdefault(metric, {})[concept.id] = value
    rows = []
    for metric, measured in sorted(found.items()):
        values = worst_first(metric, measured.values())
        worst = min(name for name, value in measured.items() if value == values[0])
        rows.append(
            [
                metric,
                str(len(values)),
                *(f"{v:.3f}" for v in (statistics.median(values), values[len(values) // 10], values[0])),
                worst,
            ]
        )
    return rows


def _size_bytes(path: Path, config: PackConfig) -> int:
    return sum((path / name).stat().st_size for name in config.sha256 if (path / name).is_file())
