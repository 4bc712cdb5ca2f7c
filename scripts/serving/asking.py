"""Answers of a server over the network: its own API, server-sent events, as whoever uses it sees them."""

from time import perf_counter

from runtime.generate import Prompt
from serving.additions import PATH
from serving.answers import Answer, Entry
from serving.client import Client, Record, Traffic

COMPLETIONS, CHATS, SESSIONS = "/v1/completions", "/v1/chat/completions", "/v1/sessions"


class Asking:
    """A client that asks `phoropter serve`, run by `serving.product`."""

    def __init__(self, client: Client, show: int) -> None:
        self._client, self._show = client, show

    def answer(self, prompt: Prompt, new_tokens: int, *, in_session: bool = False) -> Answer:
        """Greedy, at most so many tokens; events of all positions. `in_session`: one is opened for it, and closed."""
        before = self._client.get(PATH)
        traffic = self._client.traffic
        path, asked = (COMPLETIONS, "prompt") if isinstance(prompt, str) else (CHATS, "messages")
        body: Record = {
            asked: prompt,
            "max_tokens": new_tokens,
            "temperature": 0,
            "stream": True,
            "lenses": {"show": self._show, "prompt": True},
        }
        began_s = perf_counter()
        if in_session:
            body["session"] = self._client.post(SESSIONS, {})["id"]
        tokens: list[int] = []
        entries: list[Record] = []
        text, first_s = "", 0.0
        for message in self._client.events(path, body):
            (choice,) = message["choices"]
            text += choice["text"] if path == COMPLETIONS else choice["delta"]["content"]
            lenses = choice["lenses"]
            entries += [*lenses.get("prompt", ()), *lenses["content"]]
            tokens += [entry["token"] for entry in lenses["content"]]
            if tokens and not first_s:
                first_s = perf_counter()
        if in_session:
            self._client.delete(f"{SESSIONS}/{body['session']}")
        ended_s = perf_counter()
        traffic = self._client.traffic.since(traffic)
        after = self._client.get(PATH)
        timers = after.get("timers", {})
        return Answer(
            tuple(tokens),
            tuple(map(Entry.of_json, entries)),
            1e3 * (first_s - began_s),
            1e3 * (ended_s - began_s),
            {part: ms - before["timers"][part] for part, ms in timers.items()},
            megabytes(
                traffic, {cause: size - before["bytes"][cause] for cause, size in after["bytes"].items()}
            ),
        )


def megabytes(traffic: Traffic, bytes_by_cause: Record) -> dict[str, float]:
    """Bytes by cause in millions, with those of the whole, counted at the socket: framing is what is left."""
    named = {cause: size / 1e6 for cause, size in bytes_by_cause.items() if cause != "framing"}
    total = traffic.total / 1e6
    return named | {"framing": total - sum(named.values()), "total": total}
