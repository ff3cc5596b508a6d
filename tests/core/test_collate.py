import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sparring.core.collate import cut_batches, make_groups
from sparring.core.errors import DataError

CPU = torch.device("cpu")


def test_prompts_are_padded_on_the_left_and_responses_on_the_right() -> None:
    groups = make_groups([[5], [6, 7, 8]], [[[1, 2], [3]], [[4]]], pad_id=9, device=CPU)
    assert groups.prompt_ids.tolist() == [[9, 9, 5], [6, 7, 8]]
    assert groups.prompt_mask.tolist() == [[False, False, True], [True, True, True]]
    assert groups.response_ids.tolist() == [[1, 2], [3, 9], [4, 9]]
    assert groups.response_mask.tolist() == [[True, True], [True, False], [True, False]]
    assert groups.group.tolist() == [0, 0, 1]


def test_a_prompt_without_responses_leaves_no_row() -> None:
    groups = make_groups([[5], [6]], [[], [[1]]], pad_id=0, device=CPU)
    assert groups.group.tolist() == [1]


def test_the_pad_token_inside_a_response_is_a_token() -> None:
    groups = make_groups([[5]], [[[0, 0]]], pad_id=0, device=CPU)
    assert groups.response_mask.all()


def test_prompts_and_responses_must_match_in_number() -> None:
    with pytest.raises(DataError, match="2 prompts came with 1"):
        make_groups([[1], [2]], [[[3]]], pad_id=0, device=CPU)


def test_an_empty_prompt_is_refused() -> None:
    with pytest.raises(DataError, match="prompt 1"):
        make_groups([[1], []], [[[3]], [[3]]], pad_id=0, device=CPU)


def test_batches_by_hand() -> None:
    # Longest first: 9 alone makes 18 tokens; 5 and 4 make 2 * 5 + 2 * 5 = 20; 1 would make 6 * 5 = 30.
    assert cut_batches([4, 9, 1, 5], [2, 2, 2, 2], budget=20) == [[1], [3, 0], [2]]


@given(
    st.lists(st.tuples(st.integers(1, 50), st.integers(1, 6)), max_size=40),
    st.integers(1, 400),
)
def test_batches_hold_every_item_once_and_keep_to_the_budget(items: list[tuple[int, int]], budget: int) -> None:
    lengths, rows = [length for length, _ in items], [count for _, count in items]
    batches = cut_batches(lengths, rows, budget)
    assert sorted(item for batch in batches for item in batch) == list(range(len(items)))
    for batch in batches:
        tokens = max(lengths[i] for i in batch) * sum(rows[i] for i in batch)
        assert tokens <= budget or len(batch) == 1
