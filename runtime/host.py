"""Loads a host: a language model and its tokenizer, from a directory or a model hub, onto a device.

A name such as `random:gemma-3-4b` is a shape instead, and its host is made on the spot (see `random_host`). Else:

1. A hub id is first fetched (or found in the hub's cache), so that everything after works on a directory.
2. The weights are checked to be whole before anything reads them.
3. transformers loads them, quietly; weights that are missing are an error, never random numbers.

Weights are safetensors; nothing is unpickled and no code of a checkpoint is run. Whatever is wrong is a
HostError in one line that says what to do. Knows nothing about lenses or prompts.
"""

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import constants as hub_constants
from huggingface_hub import errors as hub_errors
from huggingface_hub import snapshot_download
from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

from lenses.errors import ConfigError, HostError, PackFormatError
from lenses.files import PathLike, local_path
from lenses.text import one_line, quoted, read_json
from runtime.blocks import host_id
from runtime.random_host import RandomHost, is_random

FP32_ON_CPU_BYTES = 1 << 30
"""bf16 weights up to this size are widened to fp32 on a CPU, which most CPUs compute faster; larger ones stay
as they are for the sake of memory. Widening changes no weight."""

_HUB_FILES = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]
_NOT_THESE = ["*/*", "consolidated*"]
"""Other formats and copies of the same weights that some repositories hold too."""


@dataclass(frozen=True, slots=True)
class Host:
    """A language model ready to generate, with its tokenizer."""

    model: Any
    """A transformers decoder, in evaluation mode."""
    tokenizer: Any
    id: str
    """What its configuration calls itself (`host_id`), or else the hub id or directory that was asked for."""
    path: Path | None
    """Where its files are: the directory, or the hub's snapshot of them; None for one of random weights."""


_VOCABULARIES = ["tokenizer.json", "tekken.json", "vocab.*", "*.model"]
"""Files that a tokenizer can be made of; a checkpoint has one of them at least."""


def load_host(
    name: PathLike,
    *,
    revision: str | None = None,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
) -> Host:
    """Load a host from a directory, by its hub id at a revision, or by its shape with random weights.

    `device` is `cpu`, `cuda`, `cuda:1` and so on, or `auto` to spread it over all there are; None takes an
    accelerator where there is one. `dtype` None keeps the stored one, except that a CPU gets fp32 for fp16
    and for small bf16 models (see FP32_ON_CPU_BYTES), and that Gemma-3 never gets fp16; random weights count as
    stored in bf16. Raises HostError, and ConfigError for a device that is not there.
    """
    where = check_device(device)
    title = quoted(os.fspath(name))
    if is_random(name):
        if revision is not None:
            raise HostError(
                f"host {title} is made of its name and has no revision {quoted(revision)}; leave it out"
            )
        return _load_random(RandomHost.parse(name), title, where, dtype)
    path = _directory(name, revision)
    with quiet():
        config = _read_config(path, title)
        loaded = _load_model(path, title, config, where, _dtype(config, path, where, dtype))
        tokenizer = _load_tokenizer(path, title)
    if not _is_local(name):
        # transformers takes the snapshot's directory for the name, which differs from machine to machine.
        loaded.config._name_or_path = os.fspath(name)
    return Host(loaded.eval(), tokenizer, host_id(loaded) or str(path), path)


@contextmanager
def quiet() -> Iterator[None]:
    """transformers without its progress bars and warnings, and afterwards as it was."""
    from transformers.utils import logging

    verbosity, bars, hub_bars = (
        logging.get_verbosity(),
        logging.is_progress_bar_enabled(),
        not are_progress_bars_disabled(),
    )
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        # transformers' switch turns the hub's bars on and off as well.
        if bars:
            logging.enable_progress_bar()
        (enable_progress_bars if hub_bars else disable_progress_bars)()


# Where the host goes.


def check_device(device: str | torch.device | None) -> torch.device | None:
    """The device asked for, or the best there is; None for `auto`. Raises ConfigError for one that is not there."""
    here = ["cpu"]
    if torch.accelerator.is_available():
        kind = torch.accelerator.current_accelerator().type  # type: ignore[union-attr]
        here = [f"{kind}:{i}" for i in range(torch.accelerator.device_count())] + here
    if device is None:
        return torch.device(here[0])
    if device == "auto":
        return None
    try:
        asked = torch.device(device)
    except RuntimeError:
        asked = None
    if asked is not None:
        numbered = asked if asked.type == "cpu" else torch.device(asked.type, asked.index or 0)
        if str(numbered) in here or asked.type == "cpu":
            return asked
    raise ConfigError(f"device {quoted(str(device))} is not here; there is {', '.join(here)} and auto")


def _dtype(
    config: Any, path: Path, device: torch.device | None, asked: torch.dtype | None
) -> torch.dtype | str:
    """The type to load weights in, as `load_host` promises; `auto` is as stored."""
    text = config.get_text_config(decoder=True)
    gemma = text.model_type.startswith("gemma3")
    if asked is not None:
        if gemma and asked == torch.float16:
            raise HostError(_NO_FP16)
        return asked
    stored = text.dtype or config.dtype
    if _is_on_cpu(device):
        small = sum(file.stat().st_size for file in path.glob("*.safetensors")) <= FP32_ON_CPU_BYTES
        if stored == torch.float16 or (stored == torch.bfloat16 and small):
            return torch.float32
    elif gemma and stored == torch.float16:
        return torch.bfloat16
    return "auto"


_NO_FP16 = "Gemma-3 overflows in float16; load it in bfloat16 or float32"


def _is_on_cpu(device: torch.device | None) -> bool:
    return device.type == "cpu" if device is not None else not torch.accelerator.is_available()


# A host of random weights.


def _load_random(
    random: RandomHost, title: str, device: torch.device | None, asked: torch.dtype | None
) -> Host:
    if asked == torch.float16:
        raise HostError(_NO_FP16)
    where = check_device(None) if device is None else device  # one device holds the largest of them
    assert where is not None
    with quiet():
        try:
            model = random.model(device=where, dtype=asked or random_dtype(random, where))
        except torch.OutOfMemoryError as error:
            raise _too_large(title, where) from error
        tokenizer = random.tokenizer()
    return Host(model, tokenizer, random.id, None)


def random_dtype(random: RandomHost, device: torch.device | None) -> torch.dtype:
    """What a host of random weights is made in where nobody says: what one of its size in bf16 would be loaded in."""
    small = random.weights * torch.bfloat16.itemsize <= FP32_ON_CPU_BYTES
    return torch.float32 if small and _is_on_cpu(device) else torch.bfloat16


# Where the host comes from.


def _is_local(name: PathLike) -> bool:
    return os.fspath(name) != "" and local_path(name).is_dir()


def _directory(name: PathLike, revision: str | None) -> Path:
    """The directory that holds the host's files."""
    text = os.fspath(name)
    path = local_path(name)
    title = quoted(text)
    if _is_local(name):
        if revision is not None:
            raise HostError(
                f"host {title} is a directory and has no revision {quoted(revision)}; leave it out"
            )
        return path
    if path.is_file():
        raise HostError(f"host {title} is a file; give the directory that holds its config.json")
    if not _may_be_hub_id(text):
        raise HostError(
            f"no host at {title}: there is no such directory; check the spelling, or give a hub id"
        )
    return _fetch(text, revision)


def hub_state() -> tuple[bool, Path]:
    """Whether the hub may be asked (HF_HUB_OFFLINE is not set), and where what it gave is kept."""
    return not hub_constants.HF_HUB_OFFLINE, Path(hub_constants.HF_HUB_CACHE)


def on_disk(name: PathLike, revision: str | None = None) -> Path | None:
    """Where a host's files are on this machine, the hub's cache included; None where they are not.

    Asks nobody. Raises HostError for a name that is neither a directory nor can be a hub id.
    """
    if _is_local(name) or local_path(name).is_file() or not _may_be_hub_id(os.fspath(name)):
        return _directory(name, revision)
    try:
        return _snapshot(os.fspath(name), revision, local_files_only=True)
    except (hub_errors.LocalEntryNotFoundError, hub_errors.HFValidationError):
        return None


def _may_be_hub_id(text: str) -> bool:
    return bool(text) and not text.startswith((".", "/", "~")) and text.count("/") <= 1


def _fetch(hub_id: str, revision: str | None) -> Path:
    title = f"host {quoted(hub_id)}"
    try:
        return _snapshot(hub_id, revision)
    except hub_errors.GatedRepoError as error:
        raise HostError(
            f"{title} is gated: accept its licence at https://huggingface.co/{hub_id}, then type: "
            "hf auth login"
        ) from error
    except hub_errors.RepositoryNotFoundError as error:
        raise HostError(
            f"{title} is neither a directory here nor on the hub, unless it is private; check the spelling, "
            "or type: hf auth login"
        ) from error
    except hub_errors.RevisionNotFoundError as error:
        raise HostError(f"{title} has no revision {quoted(revision)} on the hub; check it") from error
    except hub_errors.HFValidationError as error:
        raise HostError(f"{title} is neither a directory here nor a hub id; check the spelling") from error
    except (OSError, _TRANSPORT) as error:
        raise HostError(f"{title} {_why_not(error)}") from error


def _snapshot(hub_id: str, revision: str | None, **options: Any) -> Path:
    # Both times the same files: asked for all, a cache that holds what a host needs counts as incomplete.
    found = snapshot_download(
        hub_id, revision=revision, allow_patterns=_HUB_FILES, ignore_patterns=_NOT_THESE, **options
    )
    return Path(found)


def _why_not(error: Exception) -> str:
    """Why the hub's files cannot be had, and what to do."""
    from lenses.transfer import brief, may_pass

    said = error.__cause__ if isinstance(error, hub_errors.LocalEntryNotFoundError) else error
    if isinstance(said, hub_errors.HfHubHTTPError):
        advice = "try again" if may_pass(said) else "check the name, or type: hf auth login"
        return f"cannot be fetched from the hub ({brief(said)}); {advice}"
    if not isinstance(error, hub_errors.LocalEntryNotFoundError | hub_errors.OfflineModeIsEnabled):
        return f"cannot be fetched from the hub ({brief(error)}); try again"
    here = "is no directory here, all of it is not in the hub's cache, and"
    if hub_constants.HF_HUB_OFFLINE:
        return f"{here} HF_HUB_OFFLINE is set; unset it, or give a directory"
    return f"{here} the hub cannot be reached; go online, or give a directory"


_TRANSPORT = hub_errors.HfHubHTTPError.__bases__[0]
"""Errors of whichever HTTP client this version of huggingface_hub stands on."""


# Loading.


def _damaged(title: str, error: object) -> HostError:
    # Some messages go on for paragraphs; what is wrong stands in the first.
    first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return HostError(f"host {title} cannot be loaded: {one_line(first)}; check its files, or fetch it again")


def _too_large(title: str, device: torch.device | None) -> HostError:
    return HostError(
        f"host {title} does not fit into the memory of {device or 'all devices'}; give device auto or "
        "cpu, or a smaller host"
    )


def _read_config(path: Path, title: str) -> Any:
    from transformers import AutoConfig

    if not (path / "config.json").is_file():
        raise HostError(f"host {title} has no config.json; give the directory of a transformers checkpoint")
    try:
        return AutoConfig.from_pretrained(path)
    except (OSError, ValueError, KeyError, TypeError, hub_errors.StrictDataclassError) as error:
        raise _damaged(title, error) from error


def _load_model(
    path: Path, title: str, config: Any, device: torch.device | None, dtype: torch.dtype | str
) -> Any:
    from transformers import (
        MODEL_FOR_CAUSAL_LM_MAPPING,
        MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
        AutoModelForCausalLM,
        AutoModelForImageTextToText,
    )

    if type(config) in MODEL_FOR_CAUSAL_LM_MAPPING:
        loader = AutoModelForCausalLM
    elif type(config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
        loader = AutoModelForImageTextToText
    else:
        raise HostError(
            f"host {title} is a {config.model_type}, which generates no text; give a language model"
        )
    _check_weights(path, title)
    try:
        model, found = loader.from_pretrained(
            path,
            config=config,
            dtype=dtype,
            device_map="auto" if device is None else {"": device},
            use_safetensors=True,
            ignore_mismatched_sizes=True,  # told below; transformers' error points at a printed report
            output_loading_info=True,
        )
    except torch.OutOfMemoryError as error:
        raise _too_large(title, device) from error
    except (OSError, ValueError, RuntimeError, TypeError, KeyError) as error:
        raise _damaged(title, error) from error
    for what, keys in (("missing", found["missing_keys"]), ("of the wrong shape", found["mismatched_keys"])):
        if keys:
            first = min(key if isinstance(key, str) else key[0] for key in keys)
            raise _damaged(title, f"{len(keys)} weights are {what} for its config.json, such as {first}")
    return model


def _check_weights(path: Path, title: str) -> None:
    """Raise HostError for a safetensors file that is not exactly as long as its header says."""
    for file in sorted(path.glob("*.safetensors")):
        size = file.stat().st_size
        with file.open("rb") as opened:
            (header_bytes,) = struct.unpack("<Q", opened.read(8).ljust(8, b"\0"))
            if 8 + header_bytes > size:
                raise _damaged(title, f"{file.name} is truncated, it has {size} bytes")
            raw = opened.read(header_bytes)
        try:
            header = read_json(raw, file.name)
            ends = [item["data_offsets"][1] for key, item in header.items() if key != "__metadata__"]
            promised = 8 + header_bytes + max(ends, default=0)
        except (PackFormatError, AttributeError, KeyError, IndexError, TypeError) as error:
            raise _damaged(title, f"{file.name} has a header that is no safetensors header") from error
        if promised != size:
            raise _damaged(title, f"{file.name} has {size} bytes where its header promises {promised}")


def _load_tokenizer(path: Path, title: str) -> Any:
    from transformers import AutoTokenizer

    # Without a file, transformers makes an empty tokenizer of the model's kind and says nothing.
    if not any(list(path.glob(pattern)) for pattern in _VOCABULARIES):
        raise _damaged(title, "it has no tokenizer")
    try:
        return AutoTokenizer.from_pretrained(path)
    except (OSError, ValueError, KeyError, TypeError, ImportError) as error:
        raise _damaged(title, f"its tokenizer is damaged ({type(error).__name__})") from error
