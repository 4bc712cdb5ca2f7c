"""Writes what `judge_lenses.py` found as a page to read: tables, verdicts against thresholds, pictures.

It takes the report as its JSON holds it, so that a page can be made again from a JSON alone; knows nothing about how
the numbers came about.
"""

from collections.abc import Sequence

from judging.verdicts import Record

from pages.expansion_section import expansion, strongest
from pages.lens_sections import (
    against_thresholds,
    at_text_and_tokens,
    calibration,
    confusions,
    controls,
    ends,
    graded,
    groups,
    words_absent,
)
from pages.tables import made_with, table


def markdown(report: Record, drawn: Sequence[str]) -> str:
    """The readable part of the report; `drawn` are the pictures' paths, named beside what they show."""
    picture = {path.removesuffix(".svg").rpartition("/")[2]: path for path in drawn}
    stem = next(iter(picture)).rsplit("-by-", 1)[0] if picture else ""
    shown = {name.removeprefix(f"{stem}-"): f"![{name}]({path})\n" for name, path in picture.items()}
    return "\n".join(
        [
            _head(report),
            against_thresholds(report),
            at_text_and_tokens(report),
            controls(report, shown),
            words_absent(report, shown),
            groups(report, shown),
            graded(report),
            ends(report),
            confusions(report),
            calibration(report, shown),
            expansion(report, shown),
            strongest(report),
            _method(report),
        ]
    )


def _head(report: Record) -> str:
    run, pack, counts = report["run"], report["pack"], report["counts"]
    warning = (
        "\n**A sample: these numbers try the program, they say nothing about the lenses.**\n"
        if run["configuration"]["sample"] is not None
        else ""
    )
    rows = [
        ("command", f"`{run['command']}`"),
        ("run", f"`{run['run']}`, {sum(run['seconds'].values()):.0f} s"),
        (
            "configuration",
            f"sha256 `{run['configuration_sha256'][:16]}`, seed {run['configuration']['seed']}",
        ),
        ("pack", f"`{pack['name']}`, identity `{pack['identity'][:16]}`"),
        (
            "lenses",
            f"{pack['concepts']}, {pack['lens']['kind']} {'-'.join(map(str, pack['lens']['widths']))}, at "
            f"{pack['site']}, pooling {pack['pooling']}",
        ),
        ("host", f"`{pack['host']}`"),
        ("WordNet", f"sha256 `{run['configuration']['wordnet_sha256'][:16]}`"),
        *made_with(run),
    ]
    return (
        f"# {pack['name']}: its lenses, judged\n{warning}\n"
        f"{counts['held_out_texts']:,} texts ({counts['held_out_tokens']:,} tokens), one of each WordNet noun "
        f"synset that neither host nor lenses have seen. {counts['measured']} lenses have 10 or more positives "
        f"among them and are judged; {counts['unmeasured']} are **unmeasured**. {counts['uncalibrated']} are "
        f"uncalibrated. All figures are measured, none modelled; `{pack['name']}.json` beside this has every "
        "lens.\n\n" + table(("", ""), rows)
    )


def _method(report: Record) -> str:
    return (
        "## How it was measured\n\n"
        "- *Held-out*: "
        + str(report["run"]["configuration"]["held_out"])
        + ". A text of a synset is a text of each concept above it, through all hypernyms; all other texts are "
        "negatives. *Siblings*: negatives are texts of the concept's siblings only.\n"
        "- *AUROC*: ties count one half; 95 % interval by DeLong, symmetric on the log-odds, clustered by text "
        "at every token.\n"
        f"- *Intervals over lenses*: texts drawn anew ({report['run']['configuration']['draws']:,} times, the same "
        "for all lenses). Quantiles of AUROC "
        "keep placements, and the span is mirrored; shares of lenses and medians of calibration error (bins kept as "
        "cut on all texts) are given plus or minus 1.96 standard deviations over the draws.\n"
        "- *True positives at 1 %*: above the lowest threshold that at most 1 % of the negatives pass.\n"
        "- *Brier skill*: 1 - B / 0.25 with B = (mean (1 - p)^2 of positives + mean p^2 of negatives) / 2: both "
        "classes weigh one half, as the probability is calibrated; 0.25 is the constant 1/2.\n"
        "- *Balanced calibration error*: sum over 10 bins of equal weight of mass x |share of positives - mean "
        "probability|, classes weighing one half each. Few positives make an error of their own; the floor says "
        "how much.\n"
        "- *Controls* are fitted on the training part (each synset told once, lenses may have met more "
        f"tellings), at {report['run']['configuration']['positions_per_training_text']} sampled tokens of each "
        f"text and its last. Bag of words: ridge regression (penalty {report['bag_of_words_penalty']:g}, chosen "
        "on the validation part) on the host's tokens up to the position, (1 + log count) x rarity, length one. "
        "Ridge: on the same input states. Random direction: its sign chosen on training states. Shuffled "
        "labels: lenses of the same shape, 100 steps on labels dealt out anew among texts.\n"
        f"- *Telling words* of a concept: the {report['run']['configuration']['telling_words']} words of the "
        "highest likelihood ratio among training texts (in 3 or more of its texts, at least twice as frequent "
        "as elsewhere), and the words of its own lemmas that are in at most 5 % of all texts. `telling_words` "
        "in the JSON lists them.\n"
        "- Scores of many tokens are computed by the bank's matrix back end; the largest difference of a logit "
        "from the serving kernel was "
        f"{report['expansion']['check']['largest_difference_of_logits_between_back_ends']:.1e}. The walk uses "
        "the serving kernel.\n"
    )
