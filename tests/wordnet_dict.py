"""A tiny dictionary in WordNet's file format, with sentences of our own, so that no test needs the real one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ENDINGS = {"n": "noun", "v": "verb", "a": "adj", "s": "adj", "r": "adv"}
LICENCE = "  1 A tiny dictionary for tests.  \n  2 It has lines of licence, like the real one.  \n"


@dataclass(frozen=True, slots=True)
class Entry:
    """A synset to be written; `above` holds keys of other entries, `@` before an instance's."""

    key: str
    lemmas: Sequence[str]
    gloss: str
    above: Sequence[str] = ()
    pos: str = "n"
    topic: int = 3
    common: bool = True


def write(directory: Path, entries: Sequence[Entry]) -> Path:
    """Write `data.*` and `index.*` for all four parts of speech into the directory, and return it."""
    directory.mkdir(parents=True, exist_ok=True)
    for ending in ("noun", "verb", "adj", "adv"):
        some = [entry for entry in entries if ENDINGS[entry.pos] == ending]
        # Offsets have eight digits whatever they are, so lengths are known before they are.
        offsets = {entry.key: 0 for entry in some}
        at = len(LICENCE.encode())
        for entry in some:
            offsets[entry.key] = at
            at += len(_line(entry, dict.fromkeys(offsets, 0), entries).encode())
        lines = [_line(entry, offsets, entries) for entry in some]
        (directory / f"data.{ending}").write_text(LICENCE + "".join(lines))
        (directory / f"index.{ending}").write_text(LICENCE + _index(some, offsets))
    return directory


def _line(entry: Entry, offsets: Mapping[str, int], entries: Sequence[Entry]) -> str:
    words = " ".join(f"{lemma.replace(' ', '_')} 0" for lemma in entry.lemmas)
    pointers = "".join(
        f" {'@i' if key.startswith('@') else '@'} {offsets.get(key.lstrip('@'), 0):08d} {entry.pos} 0000"
        for key in entry.above
    )
    frames = " 01 + 02 00" if entry.pos == "v" else ""
    return (
        f"{offsets.get(entry.key, 0):08d} {entry.topic:02d} {entry.pos} {len(entry.lemmas):02x} {words} "
        f"{len(entry.above):03d}{pointers}{frames} | {entry.gloss}  \n"
    )


def _index(entries: Sequence[Entry], offsets: Mapping[str, int]) -> str:
    senses: dict[str, list[Entry]] = {}
    for entry in entries:
        for lemma in entry.lemmas:
            senses.setdefault(lemma.replace(" ", "_").lower().split("(")[0], []).append(entry)
    return "".join(
        f"{lemma} {found[0].pos} {len(found)} 1 @ {len(found)} {sum(entry.common for entry in found)} "
        + " ".join(f"{offsets[entry.key]:08d}" for entry in found)
        + "  \n"
        for lemma, found in sorted(senses.items())
    )
