"""Loading hosts: from directories and the hub's cache, in the right type, with one line for what is wrong."""

import json
import logging as python_logging
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
from transformers import Gemma3ForCausalLM, Gemma3ForConditionalGeneration, SiglipVisionConfig
from transformers.utils import logging

from lenses.errors import ConfigError, HostError
from runtime import host as host_module
from runtime.host import hub_state, load_host, on_disk, quiet
from tests import hosts

IDS = torch.tensor([[2, 5, 9, 30]])


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Gemma-3 as the travelling host is stored: bf16, with an id of its own."""
    model = hosts.gemma3().bfloat16()
    model.config.host_id = "phoropter/tiny"
    return hosts.save(model, tmp_path_factory.mktemp("hosts") / "gemma")


@pytest.fixture
def copied(stored: Path, tmp_path: Path) -> Path:
    """A host that a test may damage."""
    return Path(shutil.copytree(stored, tmp_path / "host"))


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty hub cache, and no network."""
    cache = tmp_path / "cache"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(huggingface_hub._snapshot_download.constants, "HF_HUB_CACHE", str(cache))
    return cache


def test_a_directory_gives_model_tokenizer_id_and_path(stored: Path) -> None:
    host = load_host(stored, device="cpu")
    assert isinstance(host.model, Gemma3ForCausalLM)
    assert not host.model.training
    assert host.tokenizer("the violin")["input_ids"] == [2, 30, 31]
    assert host.id == "phoropter/tiny"
    assert host.path == stored
    assert load_host(str(stored)).id == host.id


def test_a_host_without_an_id_is_called_by_its_directory(copied: Path) -> None:
    config = json.loads((copied / "config.json").read_text())
    del config["host_id"]
    (copied / "config.json").write_text(json.dumps(config))
    assert load_host(copied).id == str(copied)


def test_small_bf16_weights_are_widened_exactly_on_a_cpu(
    stored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wide = load_host(stored, device="cpu").model
    as_stored = load_host(stored, device="cpu", dtype=torch.bfloat16).model
    assert wide.dtype == torch.float32
    assert as_stored.dtype == torch.bfloat16
    weights = as_stored.state_dict()
    assert all(torch.equal(value, weights[name].float()) for name, value in wide.state_dict().items())
    monkeypatch.setattr(host_module, "FP32_ON_CPU_BYTES", 1000)
    assert load_host(stored, device="cpu").model.dtype == torch.bfloat16


def test_fp16_is_widened_on_a_cpu_and_refused_for_gemma(tmp_path: Path) -> None:
    path = hosts.save(hosts.gemma3().half(), tmp_path / "gemma")
    assert load_host(path, device="cpu").model.dtype == torch.float32
    with pytest.raises(HostError, match="float16"):
        load_host(path, dtype=torch.float16)
    path = hosts.save(hosts.llama().half(), tmp_path / "llama")
    assert load_host(path, device="cpu", dtype=torch.float16).model.dtype == torch.float16


def test_device_auto_leaves_placement_to_accelerate(stored: Path) -> None:
    model = load_host(stored, device="auto").model
    assert model.device == torch.device(host_module.check_device(None) or "cpu")
    assert model(IDS.to(model.device)).logits.shape == (1, 4, hosts.VOCABULARY)


def test_a_multimodal_gemma_keeps_its_vision(tmp_path: Path) -> None:
    model = hosts.gemma3_multimodal()
    loaded = load_host(hosts.save(model, tmp_path), device="cpu").model
    assert isinstance(loaded, Gemma3ForConditionalGeneration)
    assert torch.equal(loaded(IDS).logits, model(IDS).logits)


def test_a_hub_id_is_found_in_the_cache_and_gives_its_name(stored: Path, offline: Path) -> None:
    commit = "c" * 40
    repository = offline / "models--somebody--tiny"
    shutil.copytree(stored, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    config = repository / "snapshots" / commit / "config.json"
    settings = json.loads(config.read_text())
    del settings["host_id"]
    config.write_text(json.dumps(settings))
    for revision in (None, commit):
        host = load_host("somebody/tiny", revision=revision)
        assert host.id == "somebody/tiny"
        assert host.path == repository / "snapshots" / commit
    with pytest.raises(HostError, match="is not in the hub's cache"):
        load_host("somebody/tiny", revision="other")


def test_where_a_host_is_on_this_machine_is_told_without_asking(
    stored: Path, offline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert hub_state() == (False, offline)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    assert hub_state()[0]
    snapshot = offline / "models--somebody--tiny" / "snapshots" / ("c" * 40)
    assert on_disk("somebody/tiny") is None
    shutil.copytree(stored, snapshot)
    assert on_disk("somebody/tiny", "c" * 40) == snapshot
    assert on_disk("two words/host") is None
    assert on_disk(stored) == stored
    with pytest.raises(HostError, match="no host at"):
        on_disk("./nothing")


# What is wrong, in one line


def refused(name: Any, **options: Any) -> str:
    with pytest.raises(HostError) as refusal:
        load_host(name, **options)
    message = str(refusal.value)
    assert "\n" not in message
    return message


def test_a_host_that_is_not_here_is_refused(tmp_path: Path, offline: Path) -> None:
    for name in (tmp_path / "nothing", "./nothing", "a/b/c", ""):
        assert "no host at" in refused(name)
    assert "HF_HUB_OFFLINE is set" in refused("google/gemma-3-4b-pt")
    assert "nor a hub id" in refused("two words/host")
    (tmp_path / "file").write_text("")
    assert "is a file" in refused(tmp_path / "file")


def test_a_directory_has_no_revision(stored: Path) -> None:
    assert "has no revision 'main'" in refused(stored, revision="main")


def test_a_disk_that_is_full_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any, **kwargs: Any) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(host_module, "snapshot_download", fail)
    assert "No space left" in refused("google/gemma-3-4b-pt")


def _edit(**changes: Any) -> Callable[[Path], None]:
    def edit(path: Path) -> None:
        config = json.loads((path / "config.json").read_text())
        (path / "config.json").write_text(json.dumps(config | changes))

    return edit


def _truncate(keep: Callable[[int], int]) -> Callable[[Path], None]:
    def truncate(path: Path) -> None:
        file = path / "model.safetensors"
        data = file.read_bytes()
        file.write_bytes(data[: keep(len(data))])

    return truncate


def _write(name: str, content: bytes) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        (path / name).write_bytes(content)

    return write


def _remove(*names: str) -> Callable[[Path], None]:
    def remove(path: Path) -> None:
        for name in names:
            (path / name).unlink()

    return remove


DAMAGE: dict[str, tuple[Callable[[Path], None], str]] = {
    "no config": (_remove("config.json"), "has no config.json"),
    "a config cut short": (_write("config.json", b'{"model_type": "gem'), "not a valid JSON"),
    "a config of nothing": (_write("config.json", b"{}"), "Unrecognized model"),
    "a config that is a list": (_write("config.json", b"[]"), "cannot be loaded"),
    "an unknown architecture": (_edit(model_type="zork"), "zork"),
    "a size that is text": (_edit(hidden_size="wide"), "hidden_size"),
    "a size that contradicts the weights": (
        _edit(hidden_size=32),
        "weights are of the wrong shape for its config.json",
    ),
    "more blocks than weights": (
        _edit(num_hidden_layers=4, layer_types=None),
        "13 weights are missing for its config.json, such as model.layers.3.",
    ),
    "no weights": (_remove("model.safetensors"), "no file named model.safetensors"),
    "weights without an end": (_truncate(lambda size: size - 1), "its header promises"),
    "weights without a body": (_truncate(lambda size: 500), "is truncated"),
    "weights without a header": (_truncate(lambda size: 3), "is truncated"),
    "empty weights": (_truncate(lambda size: 0), "is truncated"),
    "a header that is none": (
        _write("model.safetensors", (2).to_bytes(8, "little") + b"[]"),
        "no safetensors",
    ),
    "a damaged tokenizer": (_write("tokenizer.json", b"{"), "tokenizer is damaged"),
    "no tokenizer": (_remove("tokenizer.json", "tokenizer_config.json"), "has no tokenizer"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_host_is_refused_in_one_line(name: str, copied: Path) -> None:
    damage, message = DAMAGE[name]
    damage(copied)
    assert message in refused(copied)


def test_a_model_that_writes_nothing_is_refused(tmp_path: Path) -> None:
    SiglipVisionConfig().save_pretrained(tmp_path)
    assert "generates no text" in refused(tmp_path)


def test_a_host_that_does_not_fit_is_refused(stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any, **kwargs: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 9 GiB")

    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", fail)
    assert "does not fit into the memory of cpu; give device auto" in refused(stored, device="cpu")


@pytest.mark.parametrize("device", ["tpu9", "cuda:99", "meta", "", "xpu"])
def test_an_unknown_device_is_refused_with_those_there_are(stored: Path, device: str) -> None:
    with pytest.raises(ConfigError, match=r"is not here; there is .*cpu and auto") as refusal:
        load_host(stored, device=device)
    assert "\n" not in str(refusal.value)


# Quiet


def test_loading_prints_nothing_and_restores_what_transformers_prints(
    stored: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    verbosity = logging.get_verbosity()
    load_host(stored)
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""
    assert logging.get_verbosity() == verbosity
    assert logging.is_progress_bar_enabled()
    assert not are_progress_bars_disabled()


@pytest.mark.parametrize("hub_bars", [True, False])
@pytest.mark.parametrize("bars", [True, False])
def test_quiet_restores_every_switch(bars: bool, hub_bars: bool) -> None:
    before = logging.get_verbosity()
    try:
        logging.set_verbosity(python_logging.INFO)
        (logging.enable_progress_bar if bars else logging.disable_progress_bar)()
        (enable_progress_bars if hub_bars else disable_progress_bars)()
        with suppress(ZeroDivisionError), quiet():
            assert logging.get_verbosity() == python_logging.ERROR
            assert not logging.is_progress_bar_enabled()
            assert are_progress_bars_disabled()
            raise ZeroDivisionError
        assert logging.get_verbosity() == python_logging.INFO
        assert logging.is_progress_bar_enabled() == bars
        assert are_progress_bars_disabled() == (not hub_bars)
    finally:
        logging.set_verbosity(before)
        logging.enable_progress_bar()
