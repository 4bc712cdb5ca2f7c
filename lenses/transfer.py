"""Files of a model hub over HTTP: asked for, received, and asked for again where what failed may pass.

What may pass: a connection that fails or is reset, a timeout, an answer 5xx, and 429. These are tried again, `ATTEMPTS`
times in all, with a growing wait and jitter, or after as long as the hub asks for (`Retry-After`). Any other answer is
the hub's last word and is raised as huggingface_hub raises it. A file goes on from the bytes that came before.

Requests are made one by one with huggingface_hub's client, addresses, headers and errors. Its own download functions
try again by their own count and without jitter, so that attempts multiply, and start a file again after a reset. Knows
nothing of packs, nor of where files are kept.
"""

import importlib
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO, TypeVar

import stamina
from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status, parse_ratelimit_headers

from lenses.text import one_line

ATTEMPTS = 6
LONGEST_WAIT_S = 300
"""A hub that asks to wait for longer is not waited for."""

_log = logging.getLogger(__name__)

_http = importlib.import_module(HfHubHTTPError.__bases__[0].__module__.partition(".")[0])
"""Whichever HTTP client this version of huggingface_hub stands on."""
HTTP_ERROR: type[Exception] = _http.HTTPError
"""What the client raises, of the hub's answers too."""
_MAY_PASS = (_http.TimeoutException, _http.NetworkError, _http.RemoteProtocolError)

T = TypeVar("T")


class Interrupted(Exception):
    """What may pass did not: `attempts` were made, and `error` is what the last one met."""

    def __init__(self, error: Exception, attempts: int) -> None:
        super().__init__(error)
        self.error = error
        self.attempts = attempts

    def __str__(self) -> str:
        times = "1 attempt" if self.attempts == 1 else f"{self.attempts} attempts"
        asked = asked_wait_s(self.error)
        wait = f"; the hub asks to wait {asked:g} s" if asked is not None else ""
        return f"{brief(self.error)}, after {times}{wait}"


class NoHub(Exception):
    """The address that was asked does not answer as a model hub does."""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One file of a repository at a commit, as the hub describes it."""

    name: str
    url: str
    commit: str
    etag: str
    """The sha256 of a large file, git's hash of another one."""
    size_bytes: int


def persist(act: Callable[[], T], *, attempts: int = ATTEMPTS) -> T:
    """What `act` returns, tried again while what it raises may pass.

    Raises Interrupted when that was tried often enough, and at once whatever may not pass.
    """
    tried = 0
    try:
        for attempt in stamina.retry_context(
            on=_wait, attempts=attempts, timeout=None, wait_initial=0.5, wait_max=30.0, wait_jitter=1.0
        ):
            with attempt:
                tried = attempt.num
                return act()
    except Exception as error:
        if may_pass(error):
            raise Interrupted(_cause(error), tried) from error
        raise
    raise AssertionError("an attempt returns or raises")


def may_pass(error: Exception) -> bool:
    """Whether the same request may succeed later."""
    error = _cause(error)
    if isinstance(error, HfHubHTTPError):
        status = int(error.response.status_code)
        return status == 429 or status >= 500
    return isinstance(error, _MAY_PASS)


def asked_wait_s(error: Exception) -> float | None:
    """How long the hub asks to wait before it is asked again; None where it does not say."""
    if not isinstance(error, HfHubHTTPError):
        return None
    limit = parse_ratelimit_headers(error.response.headers)
    if error.response.status_code == 429 and limit is not None and limit.remaining == 0:
        return float(limit.reset_in_seconds)
    said = str(error.response.headers.get("Retry-After", "")).strip()
    return float(said) if said.isdecimal() else None  # a date is rare, and then the wait is our own


def brief(error: Exception) -> str:
    """What went wrong, in a few words: the client's messages run over paragraphs, or are empty."""
    error = _cause(error)
    if isinstance(error, HfHubHTTPError):
        status = error.response
        return one_line(f"HTTP {status.status_code} {status.reason_phrase}".strip())
    said = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return one_line(f"{type(error).__name__}: {said}" if said else type(error).__name__)


def look_up(repo_id: str, name: str, revision: str, *, attempts: int = ATTEMPTS) -> RemoteFile:
    """Ask for a file's commit, hash and size.

    Raises huggingface_hub's errors (no such repository, revision or file; gated), Interrupted, NoHub.
    """
    url = hf_hub_url(repo_id, name, revision=revision)
    found = persist(
        lambda: get_hf_file_metadata(url, timeout=constants.HF_HUB_ETAG_TIMEOUT), attempts=attempts
    )
    commit, etag = found.commit_hash or "", found.etag or ""
    if not (_is_hex(commit, 40) and (_is_hex(etag, 40) or _is_hex(etag, 64)) and found.size is not None):
        raise NoHub(f"{constants.ENDPOINT} gives no commit, hash and size of {one_line(name)}")
    return RemoteFile(name, hf_hub_url(repo_id, name, revision=commit), commit, etag, found.size)


def receive(file: RemoteFile, into: BinaryIO, progress: Callable[[int], None]) -> None:
    """Write what is missing of a file to the end of `into`, which may hold its beginning, until it has its size.

    `progress(bytes)` is called as they come; a negative number takes back. Raises as `look_up`, OSError of writing.
    """

    def start_again() -> None:
        progress(-into.tell())
        into.seek(0)
        into.truncate()

    def go_on() -> None:
        # What another try left: it ended anywhere in a chunk, but wrote nothing after.
        start = into.seek(0, 2)
        if start > file.size_bytes:
            start_again()
            start = 0
        if start == file.size_bytes:
            return
        headers = {**build_hf_headers(), "Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
        with get_session().stream(
            "GET", file.url, headers=headers, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT, follow_redirects=True
        ) as response:
            hf_raise_for_status(response)
            if start and response.status_code != 206:
                start_again()
            for (
                chunk
            ) in response.iter_bytes():  # as they come: of a chunk of a given size, a break loses the part
                into.write(chunk)
                into.flush()
                progress(len(chunk))
                if into.tell() > file.size_bytes:
                    return  # its hash will be wrong
        if into.tell() < file.size_bytes:
            raise _http.ReadError(f"{into.tell()} of {file.size_bytes} bytes came")

    persist(go_on)


def _wait(error: Exception) -> bool | float:
    """Whether to try again, and after how many seconds where the hub says so."""
    if not may_pass(error):
        return False
    error = _cause(error)
    asked = asked_wait_s(error)
    if asked is None:
        _log.info("trying again after %s", brief(error))
        return True
    if asked > LONGEST_WAIT_S:
        return False
    _log.warning("the hub asks to wait %g s (%s)", asked, brief(error))
    return asked + random.random()  # not all who were told so at the same moment


def _cause(error: Exception) -> Exception:
    """The error itself, or what it is about: an upload wraps what its threads meet."""
    if type(error) is RuntimeError and isinstance(error.__cause__, Exception):
        return error.__cause__
    return error


def _is_hex(text: str, digits: int) -> bool:
    return len(text) == digits and set(text) <= set("0123456789abcdef")
