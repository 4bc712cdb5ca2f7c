"""Turns that send only what is new."""

from collections.abc import Iterator
from typing import Any

import pytest

from lenses.pack import LensPack
from runtime.host import Host
from tests import hosts
from tests.runtime.serve.conftest import Served, expect, serving

TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ 'cat ' if message['role'] == 'assistant' else 'dog ' }}"
    "{{ message['content'] | trim }} is {% endfor %}{% if add_generation_prompt %}cat {% endif %}"
)
"""Writes what was said the same way, whatever follows."""
GREEDY: dict[str, Any] = {"temperature": 0, "max_tokens": 5}


@pytest.fixture(scope="module")
def chatty(pack: LensPack) -> Iterator[Served]:
    tokenizer = hosts.tokenizer()
    tokenizer.chat_template = TEMPLATE
    with serving(pack, host=Host(hosts.llama(), tokenizer, "tiny/host", None)) as one:
        yield one


def opened(served: Served) -> str:
    answer = served.http.post("/v1/sessions").json()
    assert answer["lease_s"] == served.service.scheduler.config.session_lease_s
    return str(answer["id"])


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def turn(served: Served, session: str | None, messages: list[dict[str, str]], **more: Any) -> Any:
    extra = {} if session is None else {"session": session}
    return served.client.chat.completions.create(
        model="tiny/host", messages=messages, extra_body=extra | more, **GREEDY
    )


def test_turns_of_a_chat_are_the_chat(chatty: Served) -> None:
    session = opened(chatty)
    said: list[dict[str, str]] = []
    for text in ("the violin", "sits in the house", "it plays"):
        said.append(user(text))
        kept = turn(chatty, session, [user(text)], lenses={"show": 2})
        whole = turn(chatty, None, said, lenses={"show": 2})
        assert kept.choices[0].message.content == whole.choices[0].message.content
        assert kept.usage.prompt_tokens == whole.usage.prompt_tokens
        lenses = [one.choices[0].model_extra["lenses"] for one in (kept, whole)]
        for one, other in zip(*(told["content"] for told in lenses), strict=True):
            assert [one[name] for name in ("token", "position")] == [
                other[name] for name in ("token", "position")
            ]
            assert [s["id"] for s in one["top"]] == [s["id"] for s in other["top"]]
        said.append({"role": "assistant", "content": whole.choices[0].message.content})
    assert kept.usage.prompt_tokens_details.cached_tokens > 10
    assert chatty.http.delete(f"/v1/sessions/{session}").json()["deleted"]


def test_a_template_that_writes_the_past_anew_is_refused(served: Served) -> None:
    """The tiny hosts' own template leaves out where an answer began."""
    session = opened(served)
    body = {"messages": [user("the dog")], "session": session} | GREEDY
    assert served.http.post("/v1/chat/completions", json=body).status_code == 200
    answer = served.http.post("/v1/chat/completions", json=body)
    assert answer.status_code == 400
    assert "in another way than the session has it" in answer.json()["error"]["message"]


def test_texts_of_a_session_are_appended(served: Served) -> None:
    session, texts = opened(served), ("the dog", "is a cat")
    answers = [
        served.http.post("/v1/completions", json={"prompt": text, "session": session} | GREEDY).json()
        for text in texts
    ]
    first = answers[0]["choices"][0]["text"]
    at_once = served.http.post(
        "/v1/completions", json={"prompt": f"the dog {first} is a cat"} | GREEDY
    ).json()
    assert answers[1]["choices"][0]["text"] == at_once["choices"][0]["text"]
    assert answers[1]["usage"]["prompt_tokens"] == at_once["usage"]["prompt_tokens"]
    assert (
        answers[1]["usage"]["prompt_tokens_details"]["cached_tokens"] == 7
    )  # the last one drawn was not read yet


def test_an_unknown_session_is_refused(served: Served) -> None:
    session = opened(served)
    assert served.http.delete(f"/v1/sessions/{session}").status_code == 200
    for path, what in (
        ("completions", {"prompt": "the dog"}),
        ("chat/completions", {"messages": [user("dog")]}),
    ):
        answer = served.http.post(f"/v1/{path}", json=what | {"session": session})
        assert answer.status_code == 404
        assert answer.json()["error"]["code"] == "session_not_found"
    assert served.http.delete(f"/v1/sessions/{session}").status_code == 404


def test_a_session_is_of_texts_or_of_chats(chatty: Served) -> None:
    session = opened(chatty)
    turn(chatty, session, [user("the dog")])
    answer = chatty.http.post("/v1/completions", json={"prompt": "the dog", "session": session})
    assert answer.status_code == 400
    assert "is of chats" in answer.json()["error"]["message"]


def test_a_session_has_one_turn_at_a_time(chatty: Served) -> None:
    session = opened(chatty)
    body = {"messages": [user("the dog")], "session": session, "max_tokens": 80, "stream": True}
    with chatty.http.stream("POST", "/v1/chat/completions", json=body) as running:
        lines = running.iter_lines()
        next(lines)
        answer = chatty.http.post("/v1/chat/completions", json=body)
        assert answer.status_code == 409
        assert answer.json()["error"]["code"] == "session_busy"
        assert list(lines)[-2:] == ["data: [DONE]", ""]


def test_who_has_read_a_stream_to_its_end_may_take_the_next_turn_at_once(served: Served) -> None:
    session = opened(served)
    body = {"prompt": "the dog", "session": session, "stream": True} | GREEDY | {"max_tokens": 1}
    for _ in range(20):
        with served.http.stream("POST", "/v1/completions", json=body) as running:
            assert running.status_code == 200, running.read()
            assert list(running.iter_lines())[-2:] == ["data: [DONE]", ""]


def test_a_turn_that_was_cut_off_is_gone_on_from(chatty: Served) -> None:
    """What the host had written when its reader left is what the session holds."""
    session = opened(chatty)
    body = {"messages": [user("the dog")], "session": session, "max_tokens": 90, "stream": True, "lenses": {}}
    with chatty.http.stream("POST", "/v1/chat/completions", json=body) as running:
        next(running.iter_lines())
    expect(lambda: chatty.service.scheduler.progress.running == 0)
    answers: list[Any] = []

    def is_answered() -> bool:
        answers.append(
            chatty.http.post("/v1/chat/completions", json=body | {"stream": False, "max_tokens": 2})
        )
        return answers[-1].status_code != 409

    expect(is_answered)
    if answers[-1].status_code == 200:
        assert answers[-1].json()["usage"]["prompt_tokens_details"]["cached_tokens"] > 0
    else:  # all of it was written before the reader was missed, and no room is left
        assert "new ones are more than" in answers[-1].json()["error"]["message"]


def test_a_refused_turn_leaves_the_session_as_it_was(chatty: Served) -> None:
    session = opened(chatty)
    turn(chatty, session, [user("the dog")])
    before = chatty.service.scheduler.session_tokens(session)
    body = {"messages": [user("is")], "session": session, "max_tokens": 99}
    assert chatty.http.post("/v1/chat/completions", json=body).status_code == 400
    assert chatty.service.scheduler.session_tokens(session) == before
    assert turn(chatty, session, [user("is")]).choices[0].message.content
