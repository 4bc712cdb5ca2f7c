"""Recording real small hosts: what is kept, how it is kept when something raises, and that nothing is disturbed."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from lenses.errors import RecordingError, WriteError
from lenses.pack import LensPack
from runtime.events import Event
from runtime.generate import encode_all
from runtime.monitor import Monitor
from runtime.recording.recorder import Recorder
from runtime.recording.recording import Recording
from runtime.recording.replay import Replay, config_for, rescored
from runtime.rules import Rule
from runtime.transcript import Transcript
from tests import hosts
from tests.packs import make_pack

PROMPTS = ["the violin is", "dog"]
TOKENIZER = hosts.tokenizer()


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> LensPack:
    return make_pack(
        tmp_path_factory.mktemp("pack"),
        branching=(3, 2, 2),
        hidden_size=hosts.HIDDEN,
        blocks=hosts.BLOCKS,
        pooling="ema:0.5",
    )


@pytest.fixture(scope="module")
def model() -> Any:
    return hosts.gemma3()


@pytest.fixture
def monitor(pack: LensPack) -> Iterator[Monitor]:
    with Monitor(pack) as monitor:
        yield monitor


def generate(monitor: Monitor, model: Any, path: Path, **settings: Any) -> tuple[list[Event], torch.Tensor]:
    """Record a batch of two; the events of the queue and what was generated."""
    inputs = encode_all(model, TOKENIZER, PROMPTS)
    with Recorder(monitor, model, TOKENIZER, path), monitor.attach(model):
        output = model.generate(**inputs, **{"max_new_tokens": 6, "do_sample": False} | settings)
    return list(monitor.events), output


def contents(events: list[Event]) -> list[tuple[object, ...]]:
    return [event.content() for event in events]


def test_a_batch_is_kept_with_its_words_and_scored_again_to_the_bit(
    pack: LensPack, monitor: Monitor, model: Any, tmp_path: Path
) -> None:
    events, output = generate(monitor, model, tmp_path / "run")
    recording = Recording.load(tmp_path / "run")
    assert contents(list(Replay(recording, pack).events())) == contents(events)
    with Monitor(pack, config_for(recording, pack)) as again:
        assert contents(list(rescored(recording, again))) == contents(events)
    for sequence, tokens, prompt in zip(recording.sequences, output, PROMPTS, strict=True):
        assert sequence.tokens == tokens[(tokens != hosts.PAD).nonzero()[0, 0] :].tolist()
        assert sequence.prompt == 1 + len(prompt.split())
        spelled = [
            [
                (word.text, word.is_read, word.token)
                for word in Transcript.of(tokenizer, events, sequence=sequence.number).words
            ]
            for tokenizer in (TOKENIZER, recording.tokenizer)
        ]
        assert spelled[0] == spelled[1]
    assert recording.tokenizer.convert_ids_to_tokens(hosts.BOS) == "<bos>"
    with pytest.raises(RecordingError, match="does not say how"):
        recording.tokenizer.decode([hosts.BOS, hosts.BOS])


def test_what_is_said_of_a_run(pack: LensPack, monitor: Monitor, tmp_path: Path) -> None:
    model = hosts.gemma3(dtype=torch.bfloat16).to(torch.bfloat16)
    list(
        _streamed(monitor, model, tmp_path / "run", seed=7, max_new_tokens=3, do_sample=True, temperature=0.5)
    )
    recording = Recording.load(tmp_path / "run")
    about = recording.about
    (generation,) = about.generations
    assert (about.seed, generation.eos_ids) == (7, ())
    assert generation.settings["temperature"] == 0.5
    assert generation.settings["max_new_tokens"] == 3
    assert (about.host.dtype, about.host.bos_token, about.site) == ("bfloat16", hosts.BOS, "resid_post.2")
    assert (about.pack.identity, about.ended) == (pack.identity, None)
    assert about.versions["torch"] == torch.__version__
    assert about.config == monitor.config
    assert about.stats == monitor.stats()


def _streamed(monitor: Monitor, model: Any, path: Path, **settings: Any) -> Iterator[Event]:
    with Recorder(monitor, model, TOKENIZER, path):
        yield from monitor.stream(model, TOKENIZER, PROMPTS[0], **settings)


def test_a_seed_is_not_made_up(monitor: Monitor, model: Any, tmp_path: Path) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        generate(monitor, model, tmp_path / "fresh", do_sample=True)
        generate(monitor, model, tmp_path / "drawn", do_sample=True)
    assert Recording.load(tmp_path / "fresh").about.seed == 5
    assert Recording.load(tmp_path / "drawn").about.seed is None


def test_the_host_is_not_disturbed(pack: LensPack, model: Any, tmp_path: Path) -> None:
    outputs = []
    with torch.random.fork_rng(devices=[]):
        for recorder in (False, True):
            torch.manual_seed(5)
            with Monitor(pack) as monitor:
                if recorder:
                    outputs.append(generate(monitor, model, tmp_path / "run", do_sample=True)[1])
                else:
                    inputs = encode_all(model, TOKENIZER, PROMPTS)
                    outputs.append(model.generate(**inputs, max_new_tokens=6, do_sample=True))
            outputs.append(torch.get_rng_state())
    assert torch.equal(outputs[0], outputs[2])
    assert torch.equal(outputs[1], outputs[3])
    assert not model._forward_pre_hooks


def test_a_rule_that_stops_stops_again(pack: LensPack, model: Any, tmp_path: Path) -> None:
    calibrated = pack.hierarchy.concepts[int(pack.heads.calibrated.argmax())].id
    rules = (Rule(calibrated, ">", 0.0, 6, "stop"), Rule(calibrated, ">", 0.0, 2, "call", lambda event: None))
    with Monitor(pack, rules=rules) as monitor:
        events, output = generate(monitor, model, tmp_path / "run", max_new_tokens=20)
    assert output.shape[1] < 20
    recording = Recording.load(tmp_path / "run")
    marks = [rule.action for rule in recording.about.config.rules]
    assert marks == ["stop", "mark"], "a function cannot be kept"
    with Monitor(pack, config_for(recording, pack)) as again:
        found = list(rescored(recording, again))
    assert [[(str(met.rule.concept), met.run, met.stops) for met in e.met] for e in found] == [
        [(str(met.rule.concept), met.run, met.stops) for met in e.met] for e in events
    ]
    assert [event.state for event in found] == [event.state for event in events]


class Stop(Exception):
    """What is raised in the midst of a run."""


@pytest.mark.parametrize("error", [Stop("halt"), KeyboardInterrupt()])
def test_a_run_that_raises_is_recorded_up_to_there(
    pack: LensPack, monitor: Monitor, model: Any, tmp_path: Path, error: BaseException
) -> None:
    def halt(event: Event) -> None:
        if event.position == 6:
            raise error

    monitor.subscribe(halt)
    with pytest.raises(type(error)):
        generate(monitor, model, tmp_path / "run")
    recording = Recording.load(tmp_path / "run")
    assert recording.about.ended == ("Stop: halt" if isinstance(error, Stop) else "Ctrl-C")
    shown = list(Replay(recording, pack).events())
    assert contents(shown) == contents(list(monitor.events))[: len(shown)]
    assert max(event.position for event in shown) >= 5
    with Monitor(pack, config_for(recording, pack)) as again:
        found = list(rescored(recording, again))
    assert contents(found)[: len(shown) - 2] == contents(shown)[:-2]
    assert list(tmp_path.iterdir()) == [tmp_path / "run"]


def test_a_run_of_which_nothing_was_seen_leaves_no_file(monitor: Monitor, model: Any, tmp_path: Path) -> None:
    with pytest.raises(Stop), Recorder(monitor, model, TOKENIZER, tmp_path / "run") as recorder:
        raise Stop
    assert recorder.made is None
    assert not list(tmp_path.iterdir())


def test_where_nothing_can_be_written_nothing_is_hooked(monitor: Monitor, model: Any, tmp_path: Path) -> None:
    with pytest.raises(WriteError, match="it is a directory"):
        generate(monitor, model, tmp_path)
    assert not model._forward_pre_hooks
    assert not monitor._sinks


def test_forwards_without_generate_are_recorded_too(
    pack: LensPack, monitor: Monitor, model: Any, tmp_path: Path
) -> None:
    inputs = encode_all(model, TOKENIZER, PROMPTS)
    with Recorder(monitor, model, TOKENIZER, tmp_path / "run"), monitor.attach(model):
        with torch.inference_mode():
            model(**inputs)
        for b in range(len(PROMPTS)):
            monitor.finish(b)
    recording = Recording.load(tmp_path / "run")
    with Monitor(pack, config_for(recording, pack)) as again:
        found = {(e.sequence, e.position): e.content() for e in rescored(recording, again)}
    assert found == {(e.sequence, e.position): e.content() for e in monitor.events}
