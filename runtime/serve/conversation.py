"""What a session is about, beside its tokens: whether it has begun, and the messages of a chat.

A turn of a chat sends only what is new. The template is rendered over all messages; what was rendered before must be
the beginning of that, then the answer as the host wrote it (white space around it aside, which templates trim), and
only the rest is tokenised. Where that does not hold, the turn is refused: the session would be of another text than the
chat.

What a turn has left behind is looked up in the session itself when the next one begins, so one that was cut off, or
never began, is known for what it was.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from lenses.errors import PromptError, SessionBusy
from lenses.text import quoted
from runtime.serve.tokens import Tokens

Messages = tuple[dict[str, str], ...]
Kind = Literal["text", "chat"]


@dataclass(frozen=True, slots=True)
class _Turn:
    """How things stood when a turn's prompt was read."""

    messages: Messages
    """Up to the turn's own."""
    rendered: str
    """Of these, up to where the answer begins."""
    tokens: int
    """Of the session, up to there."""


@dataclass(slots=True)
class Conversation:
    """One session between its turns."""

    id: str
    kind: Kind
    turns: tuple[_Turn, ...] = ()
    """The last one that is known to have been read, and the one that came after it, if any."""
    is_busy: bool = False


@dataclass(frozen=True, slots=True)
class NextTurn:
    """What a session is to read next."""

    token_ids: tuple[int, ...]
    before: int
    """Tokens that the session has already."""
    turns: tuple[_Turn, ...]
    """Of the conversation, once it was taken in."""


class Conversations:
    """Those of all sessions, at most `most`: the one that was unused longest is forgotten, its session is over anyway.

    `session_tokens` says what a session is made of; it raises SessionNotFound.
    """

    def __init__(self, tokens: Tokens, session_tokens: Callable[[str], Sequence[int]], most: int) -> None:
        self._tokens, self._session_tokens, self._most = tokens, session_tokens, most
        self._by_id: OrderedDict[str, Conversation] = OrderedDict()

    def take(self, id: str, kind: Kind) -> Conversation:
        """The conversation of a session, for a turn of its own; raises SessionNotFound, SessionBusy, PromptError."""
        self._session_tokens(id)
        one = self._by_id.setdefault(id, Conversation(id, kind))
        self._by_id.move_to_end(id)
        while len(self._by_id) > self._most:
            self._by_id.popitem(last=False)
        if one.is_busy:
            raise SessionBusy(f"the session {quoted(id)} is in a turn; wait until that has ended")
        if not one.turns:
            one.kind = kind
        if one.kind != kind:
            raise PromptError(
                f"the session {quoted(id)} is of {_NAMES[one.kind]}; go on with these, or open another session"
            )
        one.is_busy = True
        return one

    def drop(self, id: str) -> None:
        """The session is over."""
        self._by_id.pop(id, None)

    async def next_text(self, one: Conversation, prompt: str | Sequence[int]) -> NextTurn:
        """A turn that appends a text, or token ids, to what is there."""
        before = self._session_tokens(one.id)
        if not isinstance(prompt, str):
            ids = list(prompt)
        elif before:
            ids = await self._tokens.encode(prompt, special=False)
        else:
            ids = await self._tokens.prompt(prompt)
        return NextTurn(tuple(ids), len(before), (_Turn((), "", len(before) + len(ids)),))

    async def next_chat(self, one: Conversation, new: Sequence[dict[str, str]]) -> NextTurn:
        """A turn that appends messages; raises PromptError where the template does not go on from what there is."""
        before = self._session_tokens(one.id)
        known = next((turn for turn in reversed(one.turns) if turn.tokens <= len(before)), None)
        if known is None:
            rest = rendered = await self._tokens.chat_text(new)
            messages: Messages = tuple(new)
        else:
            answer = await self._tokens.decode(before[known.tokens :])
            messages = (*known.messages, {"role": "assistant", "content": answer}, *new)
            rendered = await self._tokens.chat_text(messages)
            rest = _rest(rendered, known.rendered, answer)
        ids = await self._tokens.encode(rest, special=False)
        turn = _Turn(messages, rendered, len(before) + len(ids))
        return NextTurn(tuple(ids), len(before), (turn,) if known is None else (known, turn))


_NAMES: dict[Kind, str] = {"text": "completions", "chat": "chats"}


def _rest(rendered: str, before: str, answer: str) -> str:
    """What the rendered chat has behind what the session holds; raises PromptError."""
    if rendered.startswith(before):
        behind = rendered[len(before) :]
        for written in (answer, answer.strip(), answer.rstrip()):
            if behind.startswith(written):
                return behind[len(written) :]
    raise PromptError(
        "the chat template writes what was said before in another way than the session has it; send the whole chat, "
        "without a session"
    )
