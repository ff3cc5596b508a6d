"""What is checked of prompts before a run, and how often."""

from collections.abc import Sequence

import torch
from hypothesis import given
from hypothesis import strategies as st

from sparring.cli.build import check_source, distinct
from sparring.core.types import Prompt
from sparring.rollout.supervised import SupervisedRollout

torch.set_num_threads(1)


@given(st.lists(st.lists(st.sampled_from("abcdefg"), max_size=9), max_size=5), st.integers(1, 4))
def test_prompts_come_once_each_in_their_order_and_a_chunk_at_a_time(rounds: list[list[str]], chunk_size: int) -> None:
    chunks = list(distinct([[Prompt(name, ()) for name in prompts] for prompts in rounds], chunk_size))
    first = dict.fromkeys(name for prompts in rounds for name in prompts)
    assert [prompt.id for chunk in chunks for prompt in chunk] == list(first)
    assert all(len(chunk) <= chunk_size for chunk in chunks)


def test_prompts_that_every_round_repeats_are_rendered_once(chat_policy, ask, monkeypatch):
    class Repeated:
        """The same four prompts in every round, in another order each."""

        validation: Sequence[Prompt] = ()

        def for_round(self, index: int) -> Sequence[Prompt]:
            names = "abcd"[index:] + "abcd"[:index]
            return [ask(f"the {name}", name, teacher="the end") for name in names]

    rendered: list[str] = []
    render = chat_policy.render
    monkeypatch.setattr(chat_policy, "render", lambda prompt: rendered.append(prompt.id) or render(prompt))
    check_source(chat_policy, SupervisedRollout(Repeated(), chunk_size=3), rounds=4)
    assert rendered == ["a", "b", "c", "d"]
