"""Several models behind one server: what is in memory, what makes room, and who is told what."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lenses.errors import BudgetError, HostError
from lenses.pack import LensPack
from runtime.host import Host
from runtime.known import KnownScores
from runtime.serve.catalogue import Catalogue, Model
from runtime.serve.config import ServeConfig
from runtime.serve.health import Readiness
from runtime.serve.limits import Limits
from runtime.serve.scheduler import Scheduler
from tests import hosts
from tests.packs import make_pack
from tests.runtime.serve.conftest import Served, expect, model, serving
from tests.watched import named_nodes

ASKED = {"prompt": "the violin", "max_tokens": 3, "temperature": 0, "lenses": {"show": 2}}
CONFIG = ServeConfig(max_sequences=2, max_context=64, session_bytes=0)


@pytest.fixture(scope="module")
def first() -> Host:
    return Host(hosts.gemma3(), hosts.tokenizer(), "tiny/host", None)


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> tuple[LensPack, Host]:
    pack = make_pack(
        tmp_path_factory.mktemp("second") / "q",
        nodes=named_nodes(),
        hidden_size=hosts.HIDDEN,
        blocks=hosts.BLOCKS,
        host="tiny/other",
        seed=5,
    )
    return pack, Host(hosts.llama(), hosts.tokenizer(), "tiny/other", None)


def ask(served: Served, name: str, **more: Any) -> dict[str, Any]:
    answer = served.http.post("/v1/completions", json=ASKED | {"model": name} | more)
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


def sizes(catalogue: Catalogue) -> dict[str, int]:
    return {one.name: one.size_bytes for one in catalogue.residents.residences}


def content(told: dict[str, Any]) -> tuple[object, object]:
    choice = told["choices"][0]
    return choice["text"], choice["lenses"]["content"]


@contextmanager
def room_for_two(
    pack: LensPack, first: Host, second: tuple[LensPack, Host]
) -> Iterator[tuple[Served, tuple[object, object]]]:
    """A server of three models with memory for tiny/host and one of tiny/other and tiny/third; what both say."""
    third = replace(model(*second, CONFIG, name="tiny/third"), host="another", pack="another")
    others = [model(*second, CONFIG), third]
    with serving(pack, host=first, config=CONFIG, others=others) as served:
        said = content(ask(served, "tiny/other"))
        budget = served.catalogue.residents.counts.size_bytes
    with serving(pack, host=first, config=CONFIG, others=others, memory_bytes=budget) as served:
        yield served, said


def test_each_is_asked_by_its_name_and_the_first_without_one(
    pack: LensPack, first: Host, second: tuple[LensPack, Host]
) -> None:
    with serving(pack, host=first, config=CONFIG, others=[model(*second, CONFIG)]) as served:
        assert [one["id"] for one in served.http.get("/v1/models").json()["data"]] == [
            "tiny/host",
            "tiny/other",
        ]
        assert "engine tiny/other" not in sizes(served.catalogue)
        other = ask(served, "tiny/other")
        assert other["model"] == "tiny/other"
        assert other["choices"][0]["lenses"]["pack"] == second[0].identity
        assert content(ask(served, "tiny/host")) == content(
            served.http.post("/v1/completions", json=ASKED).json()
        )
        assert content(other) != content(ask(served, "tiny/host"))
        assert served.http.get("/v1/lenses?model=tiny/other").json()["pack"] == second[0].identity
        unknown = served.http.post("/v1/completions", json=ASKED | {"model": "gpt"})
        assert unknown.status_code == 404
        assert "there is tiny/host, tiny/other" in unknown.json()["error"]["message"]
    with serving(second[0], host=second[1], config=CONFIG) as alone:
        assert content(ask(alone, "tiny/other")) == content(other)


def test_who_is_not_used_gives_way_and_comes_back_the_same(
    pack: LensPack, first: Host, second: tuple[LensPack, Host]
) -> None:
    with room_for_two(pack, first, second) as (served, before):
        for name in ("tiny/other", "tiny/third", "tiny/other"):
            assert content(ask(served, name)) == before
            here = sizes(served.catalogue)
            assert f"engine {name}" in here
            assert sum(here.values()) <= served.catalogue.residents.counts.budget_bytes
            assert "engine tiny/host" in here, "it is pinned"
            expect(
                lambda: all(
                    not one.holders for one in served.catalogue.residents.residences if "engine" in one.name
                )
            )
        counts = served.catalogue.residents.counts
        assert counts.evictions == 6, "an engine, its host and its pack, twice"
        said = served.http.get("/metrics").text
        assert 'phoropter_resident_wishes_total{outcome="eviction"} 6.0' in said
        assert 'phoropter_up{model="tiny/other"} 1.0' in said
        assert "tiny/third" not in said.partition("phoropter_up")[2].partition("# HELP")[0]


def test_a_session_keeps_its_model_in_memory(
    pack: LensPack, first: Host, second: tuple[LensPack, Host]
) -> None:
    with room_for_two(pack, first, second) as (served, _):
        opened = served.http.post("/v1/sessions", json={"model": "tiny/other"}).json()
        ask(served, "tiny/other", session=opened["id"])
        refused = served.http.post("/v1/completions", json=ASKED | {"model": "tiny/third"})
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        assert "all that is here is used" in refused.json()["error"]["message"]
        assert served.http.post("/v1/completions", json=ASKED | {"session": opened["id"]}).status_code == 404
        ask(served, "tiny/other", session=opened["id"])
        assert served.http.delete(f"/v1/sessions/{opened['id']}?model=tiny/other").status_code == 200
        ask(served, "tiny/third")
        assert "engine tiny/other" not in sizes(served.catalogue)


def test_a_host_with_two_packs_is_in_memory_once(pack: LensPack, first: Host, tmp_path: Path) -> None:
    again = make_pack(
        tmp_path / "again", nodes=named_nodes(), hidden_size=hosts.HIDDEN, blocks=hosts.BLOCKS, seed=9
    )
    other = model(again, first, CONFIG, name="tiny/host@again")
    with serving(pack, host=first, config=CONFIG, others=[other]) as served:
        one, two = ask(served, "tiny/host"), ask(served, "tiny/host@again")
        assert one["choices"][0]["text"] == two["choices"][0]["text"]
        assert one["choices"][0]["lenses"]["pack"] != two["choices"][0]["lenses"]["pack"]
        kinds = [name.partition(" ")[0] for name in sizes(served.catalogue)]
        assert sorted(kinds) == ["engine", "engine", "host", "pack", "pack"]


def test_what_is_pinned_is_there_from_the_start_and_has_to_fit(
    pack: LensPack, first: Host, second: tuple[LensPack, Host]
) -> None:
    models = [model(pack, first, CONFIG), model(*second, CONFIG, pin=True)]
    with serving(pack, host=first, config=CONFIG, others=models[1:]) as served:
        here = served.catalogue.residents.residences
        assert {one.name for one in here if one.is_pinned} == {"engine tiny/host", "engine tiny/other"}
        budget = served.catalogue.residents.counts.size_bytes - 1
    with pytest.raises(BudgetError, match=f"the budget is {budget:,}"):
        Catalogue(models, budget, Limits())


def test_a_model_that_scores_a_known_text_otherwise_serves_nobody(
    pack: LensPack, first: Host, second: tuple[LensPack, Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    off = KnownScores(
        "the",
        tuple(second[1].tokenizer("the")["input_ids"]),
        "float32",
        1e-4,
        {second[0].hierarchy.concepts[0].id: 1e3},
    )
    monkeypatch.setattr(KnownScores, "of", lambda pack: off if pack is second[0] else None)
    with serving(pack, host=first, config=CONFIG, others=[model(*second, CONFIG)]) as served:
        answer = served.http.post("/v1/completions", json=ASKED | {"model": "tiny/other"})
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "not_ready"
        assert all(
            not one.holders
            for one in served.catalogue.residents.residences
            if one.name == "engine tiny/other"
        )
        ask(served, "tiny/host")


def test_a_known_text_is_tried_once_however_many_come_first(
    pack: LensPack, first: Host, second: tuple[LensPack, Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = 0

    async def slow(_: Scheduler) -> Readiness:
        nonlocal tried
        tried += 1
        await asyncio.sleep(0.1)
        return Readiness(True, "as it was")

    async def many(catalogue: Catalogue) -> None:
        services = await asyncio.gather(*(catalogue.use("tiny/other") for _ in range(5)))
        assert len(set(map(id, services))) == 1
        given_up = asyncio.create_task(catalogue.use("tiny/third"))
        await asyncio.sleep(0.05)
        given_up.cancel()
        with pytest.raises(asyncio.CancelledError):
            await given_up

    monkeypatch.setattr("runtime.serve.catalogue.try_known", slow)
    others = [model(*second, CONFIG), model(*second, CONFIG, name="tiny/third")]
    catalogue = Catalogue([model(pack, first, CONFIG), *others], 1 << 40, Limits())
    try:
        asyncio.run(many(catalogue))
        assert tried == 2
        holders = {one.name: one.holders for one in catalogue.residents.residences}
        assert (holders["engine tiny/other"], holders["engine tiny/third"]) == (5, 0)
    finally:
        catalogue.close()


def test_a_host_that_cannot_be_read_leaves_nothing(
    pack: LensPack, first: Host, second: tuple[LensPack, Host]
) -> None:
    def gone(_: LensPack) -> Host:
        raise HostError("the host tiny/other is damaged; fetch it again")

    broken: Model = replace(model(*second, CONFIG), open_host=gone)
    with serving(pack, host=first, config=CONFIG, others=[broken]) as served:
        for _ in range(2):
            answer = served.http.post("/v1/completions", json=ASKED | {"model": "tiny/other"})
            assert answer.status_code == 500
            assert "fetch it again" in answer.json()["error"]["message"]
        here = {one.name: one.holders for one in served.catalogue.residents.residences}
        assert "engine tiny/other" not in here
        assert here[f"pack {second[0].identity}"] == 0
