"""What a prompt and its generation have in common, by hand."""

from caching.overlap import Overlap, overlap

from tests.scripts.caching.traces import step


def test_each_prompt_is_held_against_its_own_generation_and_the_next_ones() -> None:
    steps = [
        step([0, 1], phase="prompt", session=0),
        step([5], session=0),
        step([1, 2], [3], phase="prompt", session=1),
        step([2], session=1),
        step([2, 1], [4], session=1),
        step([0], [4], session=1),
    ]
    # The first session has none before it, and is there for the second only.
    assert overlap(steps) == Overlap(
        sessions=1, prompt=3, generation=4, common=2, common_with_other=2, wasted=1
    )
    assert overlap(steps[:2]).sessions == 0
