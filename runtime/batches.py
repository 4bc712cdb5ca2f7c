"""Finished texts as a host reads them: several of like length in one forward. Knows nothing about tokens or hosts."""

from collections.abc import Iterator, Sequence


def by_length(texts: Sequence[int], lengths: Sequence[int], most_tokens: int) -> Iterator[list[int]]:
    """Texts, by their place in `lengths`, the shortest first, at most so many tokens a batch with padding.

    The longest of a batch is its last; one that is longer than that is alone.
    """
    batch: list[int] = []
    for text in sorted(texts, key=lambda at: lengths[at]):
        if batch and (len(batch) + 1) * lengths[text] > most_tokens:
            yield batch
            batch = []
        batch.append(text)
    if batch:
        yield batch
