"""A watched generation as one HTML file that needs nothing else: no network, no fonts, no other file.

`run.html` with `view.html`, `page.css` and the scripts of the view with `page.js` are joined with the contents
(`parts`). What a model wrote is not to be trusted:
it enters the file in two places only, as JSON in which no character can end or open an element, and as escaped text
for readers without JavaScript; the script makes text nodes of it, never markup. The page's content security policy
refuses every request.

Knows nothing about how events come about (see `contents` for what of them is kept), and writes no file.
"""

import html
from collections.abc import Sequence

from runtime.alarms import Alarms
from runtime.page.contents import Shown, page_contents
from runtime.page.parts import VIEW, filled, page, read
from runtime.session import Pace
from runtime.transcript import Transcript
from runtime.wording import visible


def format_page(
    shown: Shown,
    transcript: Transcript,
    *,
    title: str | None = None,
    pace: Pace | None = None,
    facts: Sequence[tuple[str, str]] = (),
    tracks: Sequence[str] = (),
    alarms: Alarms | None = None,
) -> str:
    """The page of one sequence that a monitor saw, or a recording tells of, as text to be stored as UTF-8.

        transcript = Transcript.of(tokenizer, monitor.events)
        Path("out.html").write_text(format_page(monitor, transcript), encoding="utf-8")

    `title` is by default the host's id with the pack's name. With a `pace` that was subscribed to the monitor the page
    knows the time of each token, else that of the lenses alone. `facts` are names and values to list first. `tracks`
    are ids of concepts that are drawn along the text from the start, by default the three that are active most.
    Where `alarms` counted those of the run, words that raised any are marked and say which. Raises ConceptNotFound.
    """
    if title is None:
        title = f"{shown.pack.config.host.id} · {shown.pack.name}"
    contents = page_contents(
        shown, transcript, title=title, pace=pace, facts=facts, tracks=tracks, alarms=alarms
    )
    return page(
        "run.html",
        title=html.escape(visible(title).replace("\n", " ")),
        styles=("page.css",),
        scripts=(*VIEW, "page.js"),
        contents=contents,
        view=filled(read("view.html"), {"help": "open"}),
        text=html.escape(visible("".join(word.text for word in transcript.words))),
    )
