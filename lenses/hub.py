"""Where a pack is: a directory here, or a repository of a model hub. The only user of huggingface_hub.

huggingface_hub is imported when a hub is first asked: it is slow to import and most packs are local. What
comes from the hub is checked like any directory.
"""

import os
import re
from pathlib import Path

from lenses.config import CONFIG
from lenses.errors import ConfigError, PackNotFound, WriteError
from lenses.files import PathLike, local_path
from lenses.text import one_line, quoted

_HUB_ID = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}", re.ASCII)
_PATTERNS = [CONFIG, "README.md", "concepts.jsonl", "families.json", "*.safetensors", "host/*"]


def locate(source: PathLike, revision: str | None) -> tuple[Path, Path | None]:
    """The directory of the pack that `source` names, and a second one that its links may lead to (a hub's
    cache).

    A directory here comes first, then a hub id such as `owner/name`, which is fetched unless it is cached.
    Raises PackNotFound with what to do, and ConfigError for a revision of a local directory.
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
        return path, None
    if os.path.exists(path):
        raise PackNotFound(
            f"{one_line(path)} is a file, expected the directory of a lens pack; give its directory"
        )
    is_hub_id = isinstance(source, str) and not text.startswith((".", "/", "~")) and _HUB_ID.fullmatch(text)
    is_misspelt = os.path.isdir(path.parent)  # `lens_packs/x`, where there is a lens_packs
    if not is_hub_id or is_misspelt:
        raise PackNotFound(
            f"no lens pack at {quoted(text)}: there is no such directory; check the spelling (phoropter pack "
            "list shows the packs that are here), or give a hub id, owner/name"
        )
    return _fetch(text, revision)


def upload(directory: Path, names: list[str], repo_id: str, *, private: bool) -> str:
    """Uploads these files of a directory to a hub repository, made if needed; returns the commit's address.

    Raises WriteError with what to do.
    """
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    transport = HfHubHTTPError.__bases__[0]  # whichever HTTP client this version of the hub's stands on
    try:
        api = huggingface_hub.HfApi()
        api.create_repo(repo_id, private=private, exist_ok=True)
        commit = api.upload_folder(repo_id=repo_id, folder_path=directory, allow_patterns=names)
    except (OSError, HFValidationError, transport) as error:
        raise WriteError(
            f"cannot push {one_line(directory)} to {quoted(repo_id)}: {one_line(error)}; check the name, the "
            "network and that `hf auth login` was done with a token that may write"
        ) from error
    return str(commit.commit_url)


def _fetch(repo_id: str, revision: str | None) -> tuple[Path, Path]:
    import huggingface_hub
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    transport = HfHubHTTPError.__bases__[0]  # whichever HTTP client this version of the hub's stands on
    where = f"lens pack {quoted(repo_id)}: there is no such directory here, and"
    try:
        found = Path(huggingface_hub.snapshot_download(repo_id, revision=revision, allow_patterns=_PATTERNS))
    except GatedRepoError as error:
        raise PackNotFound(
            f"{where} on the hub it is gated; accept its terms on its page, then type: hf auth login"
        ) from error
    except RepositoryNotFoundError as error:
        raise PackNotFound(
            f"{where} the hub does not have it or it is private; check the name, or type: hf auth login"
        ) from error
    except RevisionNotFoundError as error:
        raise PackNotFound(f"{where} on the hub it has no revision {quoted(revision)}; check it") from error
    except (LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        raise PackNotFound(
            f"{where} the hub cannot be reached and nothing is cached; check the path, or go online"
        ) from error
    except HFValidationError as error:
        raise PackNotFound(f"{where} it is no hub id either; check the path") from error
    except (OSError, transport) as error:
        raise PackNotFound(
            f"{where} fetching it from the hub failed ({one_line(error)}); try again"
        ) from error
    if not os.path.lexists(found / CONFIG):
        raise PackNotFound(
            f"{quoted(repo_id)} on the hub is no lens pack: it has no {CONFIG}; check the name"
        )
    # A file of <cache>/models--owner--name/snapshots/<commit> is a link to where the cache keeps its bytes.
    return found, found.parents[2]
