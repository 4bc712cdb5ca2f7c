"""Where a pack is: a directory here, or a repository of a model hub, which it is fetched from and pushed to.

A pack of a hub is `owner/name`, or `owner/name@revision`; a full commit hash always means the same bytes. Fetching:

1. A commit that is in the hub's cache whole is opened, and nobody is asked. A branch or a tag is looked up first; where
   the hub cannot be reached, what it was last seen at is opened from the cache, with a warning.
2. Else config.json comes first: it names all other files and has their sha256. Those come one by one, each checked by
   its hash before it is kept. What came before an interruption is kept or gone on from (`lenses.bring`).
3. When all are there, the snapshot appears, whole (`lenses.hub_cache`).

What may pass is tried again (`lenses.transfer`); a wrong hash and a 4xx are not. Pushing is one commit: others see all
of a pack or nothing. huggingface_hub is imported when a hub is first asked: it is slow to import, most packs are local.
"""

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from lenses.config import CONFIG, HOST
from lenses.errors import ConfigError, PackIntegrityError, PackNotFound, WriteError
from lenses.files import PathLike, local_path, write_errors
from lenses.hub_cache import HubCache, is_commit
from lenses.text import one_line, quoted

_HUB_ID = re.compile(r"(?P<id>[\w.-]{1,96}/[\w.-]{1,96})(?:@(?P<revision>[\w./-]{1,200}))?", re.ASCII)
_REVISION = re.compile(r"[\w-][\w.-]*(?:/[\w-][\w.-]*)*", re.ASCII)
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Located:
    """Where a pack is on this disk."""

    path: Path
    links_to: Path | None
    """A second directory that its links may lead to: a hub's cache."""
    source: str | None = None
    """`owner/name@commit` where it is a hub's: what finds the same bytes again."""


def locate(source: PathLike, revision: str | None) -> Located:
    """The directory of the pack that `source` names: one here, or else one of a hub, fetched unless it is cached.

    Raises PackNotFound with what to do, ConfigError for a revision that cannot be, and as `fetch`.
    """
    text = os.fspath(source)
    path = local_path(source)
    if os.path.isdir(path):
        if revision is not None:
            raise ConfigError(
                f"{one_line(path)} is a local pack and has no revision {quoted(revision)}; leave it out"
            )
        if not os.path.lexists(path / CONFIG):
            raise PackNotFound(
                f"{one_line(path)} is no lens pack: it has no {CONFIG}; give the directory that holds one"
            )
        return Located(path, None)
    if os.path.exists(path):
        raise PackNotFound(
            f"{one_line(path)} is a file, expected the directory of a lens pack; give its directory"
        )
    is_misspelt = os.path.isdir(path.parent)  # `lens_packs/x`, where there is a lens_packs
    if not isinstance(source, str) or not is_hub_id(text) or is_misspelt:
        raise PackNotFound(
            f"no lens pack at {quoted(text)}: there is no such directory; check the spelling (phoropter pack "
            "list shows the packs that are here), or give a hub id, owner/name"
        )
    return fetch(text, revision)


def is_hub_id(text: str) -> bool:
    """Whether this may be a pack of a hub: `owner/name` or `owner/name@revision`."""
    return not text.startswith((".", "/", "~")) and _HUB_ID.fullmatch(text) is not None


def fetch(source: str, revision: str | None = None, *, thorough: bool = False) -> Located:
    """The pack of a hub in its cache, fetched where it is not there whole.

    `thorough` checks every byte of what is there, and fetches what is damaged again. Raises PackNotFound,
    PackFormatError, PackIntegrityError, ConfigError, WriteError.
    """
    from huggingface_hub import constants

    repo_id, revision = _parse(source, revision)
    cache = HubCache(Path(constants.HF_HUB_CACHE), repo_id)
    cache.sweep()
    kept = cache.commit_of(revision)
    asks = not constants.HF_HUB_OFFLINE
    if kept is not None and ((thorough and asks) or not cache.is_whole(kept)):
        kept = None
    if not asks:
        if kept is None:
            at = "" if revision == constants.DEFAULT_REVISION else f" at {quoted(revision)}"
            raise PackNotFound(
                f"lens pack {quoted(repo_id)}: there is no such directory here, all of it{at} is not in the "
                "hub's cache, and HF_HUB_OFFLINE is set; unset it, or check the path"
            )
        return _located(cache, repo_id, kept)
    if kept is not None and is_commit(revision):
        return _located(cache, repo_id, kept)
    return _fetch(cache, repo_id, revision, kept, thorough)


def upload(directory: Path, names: list[str], repo_id: str, *, private: bool) -> str:
    """Uploads these files of a pack to a hub repository, made if needed, as one commit; returns the commit's address.

    Lens files and host files of a pack that was there before go. Raises WriteError with what to do.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
    from huggingface_hub.errors import HFValidationError

    from lenses.transfer import HTTP_ERROR, Interrupted, brief, persist

    api = HfApi()

    def commit() -> str:
        stale = sorted(name for name in api.list_repo_files(repo_id) if _is_of_a_pack(name))
        operations = [CommitOperationAdd(name, directory / name) for name in names]
        operations += [CommitOperationDelete(name) for name in stale if name not in names]
        return str(api.create_commit(repo_id, operations, commit_message="Lens pack").commit_url)

    try:
        persist(lambda: api.create_repo(repo_id, private=private, exist_ok=True))
        return persist(commit)
    except (Interrupted, HTTP_ERROR, OSError, RuntimeError, ValueError) as error:
        if isinstance(error, Interrupted):
            said = f"{error}; try again later; nothing of it is seen there until all of it is"
        elif isinstance(error, HFValidationError):
            said = f"{one_line(error)}; give a name such as owner/name"
        elif isinstance(error, HTTP_ERROR):
            said = (
                f"{brief(error)}; check the name, and that hf auth login was done with a token that may write"
            )
        else:
            said = f"{brief(error)}; check the network and the pack"
        raise WriteError(f"cannot push {one_line(directory)} to {quoted(repo_id)}: {said}") from error


def _parse(source: str, revision: str | None) -> tuple[str, str]:
    match = _HUB_ID.fullmatch(source)
    if match is None or not is_hub_id(source):
        raise PackNotFound(
            f"lens pack {quoted(source)}: this is no hub id; give owner/name or owner/name@revision"
        )
    if revision is not None and match["revision"] is not None:
        raise ConfigError(f"{quoted(source)} has a revision, and {quoted(revision)} is given too; give one")
    chosen = revision or match["revision"] or "main"
    if not _REVISION.fullmatch(chosen):  # it becomes part of a path
        raise ConfigError(f"revision {quoted(chosen)} cannot be; give a branch, a tag or a commit")
    return match["id"], chosen


def _fetch(cache: HubCache, repo_id: str, revision: str, kept: str | None, thorough: bool) -> Located:
    from lenses.bring import bring
    from lenses.transfer import ATTEMPTS, Interrupted, look_up

    with _explained(repo_id, revision):
        try:
            # Where there is something to open, the hub is asked once.
            described = look_up(repo_id, CONFIG, revision, attempts=ATTEMPTS if kept is None else 1)
        except Interrupted as error:
            if kept is None:
                raise
            _log.warning(
                "%s: the hub cannot be reached (%s); opening %s, which is cached", repo_id, error, kept
            )
            return _located(cache, repo_id, kept)
        commit = described.commit
        if is_commit(revision) and commit != revision:
            raise PackIntegrityError(
                f"lens pack {quoted(repo_id)}: the hub answers with commit {commit} where {revision} was asked for; "
                "check HF_ENDPOINT"
            )
        if thorough or not cache.is_whole(commit):
            with cache.fetching():
                if thorough or not cache.is_whole(commit):  # another process may just have fetched it
                    bring(cache, repo_id, described)
    if not is_commit(revision):
        cache.remember(revision, commit)
    return _located(cache, repo_id, commit)


def _located(cache: HubCache, repo_id: str, commit: str) -> Located:
    return Located(cache.snapshot(commit), cache.links_to, f"{repo_id}@{commit}")


@contextmanager
def _explained(repo_id: str, revision: str) -> Iterator[None]:
    """Errors of the hub, the network and the disk inside, as one line that says what to do."""
    from huggingface_hub import constants
    from huggingface_hub import errors as hub

    from lenses.transfer import HTTP_ERROR, Interrupted, NoHub, brief

    title = f"lens pack {quoted(repo_id)}: there is no such directory here, and"

    def refuse(text: str, error: Exception) -> NoReturn:
        raise PackNotFound(f"{title} {text}") from error

    try:
        with write_errors(Path(constants.HF_HUB_CACHE)):
            try:
                yield
            except hub.GatedRepoError as error:
                refuse(
                    f"on the hub it is gated: accept its terms at {constants.ENDPOINT}/{repo_id}, then type: hf "
                    "auth login",
                    error,
                )
            except hub.RepositoryNotFoundError as error:
                refuse(
                    "the hub does not have it, or it is private: check the name, or type: hf auth login",
                    error,
                )
            except hub.RevisionNotFoundError as error:
                refuse(f"on the hub it has no revision {quoted(revision)}; check it", error)
            except hub.EntryNotFoundError as error:
                refuse(f"on the hub it is no lens pack: it has no {CONFIG}; check the name", error)
            except hub.HFValidationError as error:
                refuse("it is no hub id either; check the path", error)
            except Interrupted as error:
                refuse(f"the hub cannot be reached ({error}); check the network, and try again", error)
            except NoHub as error:
                refuse(
                    f"what was asked is no hub ({one_line(error)}); check HF_ENDPOINT and the network", error
                )
            except HTTP_ERROR as error:
                refuse(f"the hub refuses it ({brief(error)}); check the name, or type: hf auth login", error)
    except WriteError as error:
        raise WriteError(f"lens pack {quoted(repo_id)}: {error}") from error


def _is_of_a_pack(name: str) -> bool:
    return name.startswith(f"{HOST}/") or (name.startswith("lenses-") and name.endswith(".safetensors"))
