"""The page of a server as one HTML file: it holds no data, and asks the server that it came from for all it shows.

What shows a run is the code of the page that `format_page` makes; what is typed and how a run grows is its own.
"""

from runtime.page.parts import VIEW, filled, page, read


def format_live_page() -> str:
    """The page, as text to be sent as UTF-8; the same for every server."""
    return page(
        "live.html",
        title="Phoropter",
        styles=("page.css", "live.css"),
        scripts=(*VIEW, "server.js", "growing.js", "live.js"),
        contents=None,
        asks=True,
        view=filled(read("view.html"), {"help": ""}),
    )
