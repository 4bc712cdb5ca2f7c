"""Answers of a server over the network: its own API, server-sent events, as whoever uses it sees them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from time import perf_counter

from runtime.generate import Prompt
from serving.additions import PATH
from serving.answers import Answer, Entry
from serving.client import Client, Record, Traffic

COMPLETIONS, CHATS, SESSIONS = "/v1/completions", "/v1/chat/completions", "/v1/sessions"


@dataclass(slots=True)
class _Read:
    """A stream that was read to its end."""

    tokens: list[int] = field(default_factory=list)
    entries: list[Record] = field(default_factory=list)
    first_s: float = 0.0
    """When the first token came."""
    usage: Record = field(default_factory=dict)


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
            body["session"] = self.open_session()
        read = self._read(path, body)
        if in_session:
            self.close_session(body["session"])
        ended_s = perf_counter()
        traffic = self._client.traffic.since(traffic)
        after = self._client.get(PATH)
        timers = after.get("timers", {})
        return Answer(
            tuple(read.tokens),
            tuple(map(Entry.of_json, read.entries)),
            1e3 * (read.first_s - began_s),
            1e3 * (ended_s - began_s),
            {part: ms - before["timers"][part] for part, ms in timers.items()},
            megabytes(
                traffic, {cause: size - before["bytes"][cause] for cause, size in after["bytes"].items()}
            ),
        )

    def open_session(self) -> str:
        """A new session's id."""
        opened: str = self._client.post(SESSIONS, {})["id"]
        return opened

    def close_session(self, session: str) -> None:
        """End a session."""
        self._client.delete(f"{SESSIONS}/{session}")

    def turn(
        self, token_ids: Sequence[int], new_tokens: int, *, session: str | None = None
    ) -> tuple[Answer, int]:
        """Greedy, events of what is generated; and how many tokens the session had read before, as the server says."""
        body: Record = {
            "prompt": list(token_ids),
            "max_tokens": new_tokens,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
            "lenses": {"show": self._show},
        }
        if session is not None:
            body["session"] = session
        began_s = perf_counter()
        read = self._read(COMPLETIONS, body)
        ended_s = perf_counter()
        answer = Answer(
            tuple(read.tokens),
            tuple(map(Entry.of_json, read.entries)),
            1e3 * (read.first_s - began_s),
            1e3 * (ended_s - began_s),
        )
        return answer, read.usage["prompt_tokens_details"]["cached_tokens"]

    def _read(self, path: str, body: Record) -> _Read:
        """A stream to its end."""
        found = _Read()
        for message in self._client.events(path, body):
            found.usage = message.get("usage") or found.usage
            for choice in message["choices"]:  # none where the usage is told
                lenses = choice["lenses"]
                found.entries += [*lenses.get("prompt", ()), *lenses["content"]]
                found.tokens += [entry["token"] for entry in lenses["content"]]
            if found.tokens and not found.first_s:
                found.first_s = perf_counter()
        return found


def megabytes(traffic: Traffic, bytes_by_cause: Record) -> dict[str, float]:
    """Bytes by cause in millions, with those of the whole, counted at the socket: framing is what is left."""
    named = {cause: size / 1e6 for cause, size in bytes_by_cause.items() if cause != "framing"}
    total = traffic.total / 1e6
    return named | {"framing": total - sum(named.values()), "total": total}
