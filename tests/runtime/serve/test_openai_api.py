"""The API as OpenAI's own client and plain HTTP see it."""

import base64
import json
from typing import Any

import numpy as np
import openai
import pytest

from lenses.pack import LensPack
from runtime.host import Host
from tests import hosts
from tests.runtime.serve.conftest import Served, serving

PROMPT = "the dog is"
GREEDY: dict[str, Any] = {"model": "tiny/host", "temperature": 0, "max_tokens": 8}
CHAT = [{"role": "user", "content": PROMPT}]


def complete(served: Served, **more: Any) -> Any:
    return served.client.completions.create(prompt=PROMPT, **(GREEDY | more))


def chat(served: Served, **more: Any) -> Any:
    return served.client.chat.completions.create(messages=CHAT, **(GREEDY | more))


def error(served: Served, path: str, body: Any) -> tuple[int, dict[str, Any]]:
    answer = served.http.post(path, json=body)
    return answer.status_code, answer.json()["error"]


def test_models_are_listed(served: Served) -> None:
    assert [model.id for model in served.client.models.list()] == ["tiny/host"]
    assert served.client.models.retrieve("tiny/host").object == "model"
    with pytest.raises(openai.NotFoundError, match="there is tiny/host"):
        served.client.models.retrieve("other")


def test_a_stream_says_what_a_whole_answer_says(served: Served) -> None:
    whole = complete(served)
    chunks = list(complete(served, stream=True, stream_options={"include_usage": True}))
    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == whole.choices[0].text
    assert whole.choices[0].finish_reason == chunks[-2].choices[0].finish_reason == "length"
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage
    assert (whole.usage.prompt_tokens, whole.usage.completion_tokens) == (4, 8)
    assert len(whole.choices[0].text.split()) == 8


def test_a_chat_is_of_its_template(served: Served) -> None:
    whole = chat(served)
    message = whole.choices[0].message
    assert message.role == "assistant"
    assert whole.usage.prompt_tokens == 5  # bos, the words, and where the template begins the answer
    chunks = list(chat(served, stream=True))
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content for chunk in chunks) == message.content
    parts = [{"type": "text", "text": "the dog"}, {"type": "text", "text": " is"}]
    again = served.client.chat.completions.create(messages=[{"role": "user", "content": parts}], **GREEDY)
    assert again.choices[0].message.content == message.content


def test_a_chat_without_a_template_is_refused(pack: LensPack) -> None:
    tokenizer = hosts.tokenizer()
    tokenizer.chat_template = None
    with serving(pack, host=Host(hosts.gemma3(), tokenizer, "tiny/host", None)) as served:
        with pytest.raises(
            openai.BadRequestError, match="has no chat template; give the prompt as plain text"
        ):
            chat(served)
        assert complete(served).choices[0].text


def test_seeds_repeat_what_was_drawn_and_are_told(served: Served) -> None:
    one, other = (complete(served, temperature=1.5, seed=seed) for seed in (7, 8))
    assert complete(served, temperature=1.5, seed=7).choices[0].text == one.choices[0].text
    assert other.choices[0].text != one.choices[0].text
    drawn = complete(served, temperature=1.5)
    seed = drawn.model_extra["seed"]
    assert complete(served, temperature=1.5, seed=seed).choices[0].text == drawn.choices[0].text


def test_stop_strings_end_it_and_are_not_told(served: Served) -> None:
    words = complete(served).choices[0].text.split()
    last = next(word for word in words if words.index(word) >= 2)
    for stop in (last, [last, "nothing"]):
        ended = complete(served, stop=stop)
        assert ended.choices[0].finish_reason == "stop"
        assert ended.choices[0].text.split() == words[: words.index(last)]
    chunks = list(complete(served, stop=last, stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == ended.choices[0].text


def test_log_probabilities_in_both_shapes(served: Served) -> None:
    told = complete(served, logprobs=3).choices[0]
    assert len(told.logprobs.tokens) == len(told.logprobs.token_logprobs) == 8
    assert all(len(best) == 3 for best in told.logprobs.top_logprobs)
    assert told.logprobs.token_logprobs[0] == max(told.logprobs.top_logprobs[0].values())
    assert told.logprobs.text_offset[0] == 0
    content = chat(served, logprobs=True, top_logprobs=2).choices[0].logprobs.content
    assert len(content) == 8
    assert all(one.logprob == one.top_logprobs[0].logprob for one in content)
    assert bytes(content[0].bytes).decode() == content[0].token
    streamed = [c.choices[0] for c in complete(served, logprobs=0, stream=True)]
    assert [c.logprobs.tokens[0] for c in streamed] == told.logprobs.tokens


def test_lenses_are_told_beside_log_probabilities(served: Served) -> None:
    wishes = {"show": 3, "track": ["animal", "person.small.old"], "alarm_budget": 300, "prompt": True}
    body = {"lenses": wishes}
    for whole in complete(served, logprobs=0, extra_body=body), chat(served, logprobs=True, extra_body=body):
        choice = whole.choices[0]
        told = choice.model_extra["lenses"]
        logprobs = choice.logprobs
        tokens = getattr(logprobs, "tokens", None) or [one.token for one in logprobs.content]
        assert [hosts.tokenizer().decode([entry["token"]]) for entry in told["content"]] == tokens
        assert told["pack"] == served.service.pack.identity
        first = told["content"][0]
        assert len(first["top"]) == 3
        expected = {"id", "name", "level", "probability", "logit", "calibrated", "grade"}
        assert set(first["top"][0]) == expected
        assert set(first["track"]) == {"animal", "person.small.old"}
        assert isinstance(first["alarms"], list)
        assert [entry["position"] for entry in told["prompt"]] == list(range(whole.usage.prompt_tokens - 1))
        assert told["prompt"][0]["state"] == "bos"
        entries = [*told["prompt"], *told["content"]]
        assert told["coverage"]["entries"] == len(entries)
        assert told["coverage"]["scored"] == sum(entry["coverage"]["scored"] for entry in entries)
        assert told["coverage"]["dropped"] == 0


def test_lenses_of_a_stream_are_those_of_a_whole_answer(served: Served) -> None:
    body = {"lenses": {"show": 2, "vectors": True}}
    whole = complete(served, extra_body=body).choices[0].model_extra["lenses"]
    chunks = [chunk.choices[0] for chunk in complete(served, stream=True, extra_body=body)]
    told = [chunk.model_extra["lenses"] for chunk in chunks]
    assert [entry for one in told for entry in one["content"]] == whole["content"]
    assert [("pack" in one, "coverage" in one) for one in told] == [
        (True, True),
        *[(False, False)] * 6,
        (True, True),
    ]
    assert told[-1]["coverage"] == whole["coverage"]
    assert told[0]["concepts"] == [concept.id for concept in served.service.pack.hierarchy]
    assert not any("concepts" in one for one in told[1:])


def test_vectors_are_all_logits_in_the_order_of_the_ids(served: Served) -> None:
    told = (
        complete(served, extra_body={"lenses": {"show": 100, "vectors": True}})
        .choices[0]
        .model_extra["lenses"]
    )
    for entry in told["content"]:
        logits_N = np.frombuffer(base64.b64decode(entry["vector"]), "<f2")
        named = dict(zip(told["concepts"], logits_N.tolist(), strict=True))
        scored = {score["id"]: score["logit"] for score in entry["top"]}
        assert {id for id, logit in named.items() if not np.isnan(logit)} == set(scored)
        assert all(abs(named[id] - logit) <= 2e-3 * max(1, abs(logit)) for id, logit in scored.items())
        assert entry["coverage"]["scored"] == len(scored)


def test_nothing_of_lenses_is_told_to_who_did_not_ask(served: Served) -> None:
    assert "lenses" not in complete(served).choices[0].model_extra
    assert all("lenses" not in chunk.choices[0].model_extra for chunk in complete(served, stream=True))


def test_a_rule_stops_it_and_says_so(served: Served) -> None:
    concept = next(
        c.id for i, c in enumerate(served.service.pack.hierarchy) if served.service.pack.heads.calibrated[i]
    )
    rule = f"{concept} > 0.0 for 2 -> stop"
    choice = complete(served, extra_body={"lenses": {"rules": [rule]}}).choices[0]
    assert choice.finish_reason == "stop"
    assert choice.model_extra["stop_reason"].startswith(f"rule: {concept} > 0")
    entries = choice.model_extra["lenses"]["content"]
    assert len(entries) < 8
    assert entries[-1]["rules"][0]["stops"]


def test_a_deadline_ends_it(served: Served) -> None:
    choice = complete(served, max_tokens=80, extra_body={"deadline_s": 1e-6}).choices[0]
    assert choice.finish_reason == "length"
    assert choice.model_extra["stop_reason"] == "deadline"


def test_tokens_of_texts_and_chats(served: Served) -> None:
    ids = hosts.tokenizer()(PROMPT)["input_ids"]
    assert served.http.post("/v1/tokenize", json={"prompt": PROMPT}).json()["tokens"] == ids
    bare = served.http.post("/v1/tokenize", json={"prompt": PROMPT, "add_special_tokens": False}).json()
    assert bare == {"tokens": ids[1:], "count": 3, "max_model_len": 100}
    assert served.http.post("/v1/tokenize", json={"messages": CHAT}).json()["count"] == 5
    as_ids = served.client.completions.create(prompt=ids, **GREEDY)
    assert as_ids.choices[0].text == complete(served).choices[0].text
    assert complete(served).choices[0].text == (
        served.client.completions.create(prompt=[PROMPT], **GREEDY).choices[0].text
    )


@pytest.mark.parametrize(
    ("path", "change", "status", "param", "says"),
    [
        ("completions", {"logit_bias": {"5": 1}}, 400, "logit_bias", "not supported"),
        ("completions", {"n": 2}, 400, "n", "is not supported; leave it out, or give 1"),
        ("completions", {"presence_penalty": 0.5}, 400, "presence_penalty", "give 0"),
        ("completions", {"guided_json": {}}, 400, "guided_json", "unknown here, or not supported"),
        ("completions", {"prompt": ""}, 400, "prompt", "is empty"),
        ("completions", {"prompt": 5}, 400, "prompt", "valid string"),
        ("completions", {"prompt": [99_999_999]}, 400, "prompt", "vocabulary"),
        ("completions", {"max_tokens": 2000}, 400, None, "1,024 are allowed"),
        ("completions", {"max_tokens": 99}, 400, "prompt", "ask for at most"),
        ("completions", {"temperature": 3}, 400, "temperature", "less than or equal to 2"),
        ("completions", {"model": "gpt-4"}, 404, "model", "there is tiny/host"),
        ("completions", {"stream_options": {}}, 400, None, "JSON object"),
        ("completions", {"lenses": {"track": ["unicorn"]}}, 400, "lenses", "unicorn"),
        ("completions", {"lenses": {"rules": ["animal"]}}, 400, None, "has no arrow"),
        ("completions", {"lenses": {"rules": ["animal > 0.5 -> call"]}}, 400, None, "function"),
        ("completions", {"lenses": {"alarm_budget": 1e-9}}, 400, None, "less than the pack's null corpus"),
        ("completions", {"lenses": {"shown": 5}}, 400, "lenses.shown", "unknown here"),
        ("chat/completions", {"tools": []}, 400, "tools", "not supported"),
        ("chat/completions", {"messages": []}, 400, "messages", "at least 1 item"),
        (
            "chat/completions",
            {"messages": [{"role": "cat", "content": "x"}]},
            400,
            "messages.0.role",
            "Input",
        ),
        (
            "chat/completions",
            {"response_format": {"type": "json_object"}},
            400,
            "response_format.type",
            "give text",
        ),
    ],
)
def test_what_cannot_be_is_refused_by_name(
    served: Served, path: str, change: dict[str, Any], status: int, param: str | None, says: str
) -> None:
    body = {"prompt": PROMPT} if path == "completions" else {"messages": CHAT}
    found, said = error(served, f"/v1/{path}", body | change)
    assert (found, said["param"]) == (status, param), said
    assert says in said["message"]
    assert said["type"] == ("not_found_error" if status == 404 else "invalid_request_error")
    assert said["code"]
    assert "\n" not in said["message"]


def test_what_is_not_json_is_refused(served: Served) -> None:
    for raw, kind in (
        (b'{"prompt"', "application/json"),
        (b"[" * 100_000, "application/json"),
        (b"x", "text/plain"),
    ):
        answer = served.http.post("/v1/completions", content=raw, headers={"content-type": kind})
        assert answer.status_code == 400
        assert answer.json()["error"]["message"]
    assert served.http.get("/v1/completions").status_code == 405
    assert served.http.get("/v1/nothing").json()["error"]["type"] == "not_found_error"


def test_events_of_a_stream_have_no_names(served: Served) -> None:
    body = {"prompt": PROMPT, "stream": True, "max_tokens": 3, "lenses": {}}
    with served.http.stream("POST", "/v1/completions", json=body) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in answer.iter_lines() if line]
    assert all(line.startswith("data: ") for line in lines)
    assert lines[-1] == "data: [DONE]"
    assert [json.loads(line[6:])["object"] for line in lines[:-1]] == ["text_completion"] * 3
