"""Decoding with a server that keeps nothing (`baseline.server`): the client holds the sequence and draws every token.

    blind      whole sequence out, logits of all positions in
    partial    whole sequence out, logits of the last position in

Shapes: T tokens, V vocabulary.
"""

import json
from collections.abc import Sequence
from time import perf_counter
from typing import Literal

import numpy as np
from baseline.server import HEADER

from serving.answers import Answer, Entry
from serving.asking import megabytes
from serving.client import Client, Record

Wanted = Literal["all", "last"]


class Remote:
    """A client that draws, greedy, out of logits that it is sent."""

    def __init__(self, client: Client, wanted: Wanted, vocabulary: int) -> None:
        self._client, self._wanted, self._vocabulary = client, wanted, vocabulary

    def answer(self, prompt_ids: Sequence[int], new_tokens: int, *, context: int | None = None) -> Answer:
        """So many tokens. With `context`, of the sequence only so many last tokens are sent: a planted mistake."""
        traffic = self._client.traffic
        sequence = list(prompt_ids)
        entries: list[Record] = []
        bytes_by_cause = dict.fromkeys(("ids", "events", "logits"), 0)
        first_s = 0.0
        began_s = perf_counter()
        for _ in range(new_tokens):
            sent = sequence if context is None else sequence[-context:]
            body = np.array(sent, HEADER).tobytes()
            raw = self._client.send(f"/{self._wanted}?prompt={len(prompt_ids)}", body)
            size = HEADER.itemsize + int(np.frombuffer(raw, HEADER, 1)[0])
            entries.append(json.loads(raw[HEADER.itemsize : size]))
            last_V = np.frombuffer(raw[-4 * self._vocabulary :], "<f4")
            sequence.append(int(last_V.argmax()))
            first_s = first_s or perf_counter()
            bytes_by_cause["ids"] += len(body)
            bytes_by_cause["events"] += size
            bytes_by_cause["logits"] += len(raw) - size
        ended_s = perf_counter()
        return Answer(
            tuple(sequence[len(prompt_ids) :]),
            tuple(map(Entry.of_json, entries)),
            1e3 * (first_s - began_s),
            1e3 * (ended_s - began_s),
            {},
            megabytes(self._client.traffic.since(traffic), bytes_by_cause),
        )
