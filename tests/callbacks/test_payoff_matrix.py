"""What the callback writes is tested through the command, in tests/cli/test_train.py; here is what its numbers mean."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from sparring.analysis.payoff import payoff_on_prompt
from sparring.analysis.win_rate import measure_win_rate
from sparring.core.preference import bradley_terry
from sparring.core.types import Candidates, Prompt
from sparring.policy.mixture import Mixture, MixtureSampler
from sparring.policy.policy import Policy
from sparring.policy.sampler import Sampler
from sparring.policy.scoring import score

torch.set_num_threads(1)

SETTINGS = {"temperature": 1.0, "top_p": 1.0, "top_k": 0, "max_new_tokens": 5, "token_budget": 50_000}
WEIGHTS = np.array([0.3, 0.7])


def judged(groups: tuple[Candidates, ...]) -> np.ndarray:
    """By a judge who likes what the first policy finds likely."""
    scores = np.array([response.logp for group in groups for response in group.responses])
    return bradley_terry(scores, temperature=20.0)


def test_a_sampled_mixture_wins_as_often_as_bilinearity_says(
    chat_policy: Policy, ask: Callable[..., Prompt], tmp_path: Path
):
    prompts = [ask(f"the cat sat on mat {number}", f"p{number}") for number in range(120)]
    paths = [tmp_path / "first.safetensors", tmp_path / "second.safetensors"]
    chat_policy.save_trainable_state(paths[0])
    state = {name: weight.clone() for name, weight in chat_policy.trainable_state().items()}
    state["model.norm.weight"].neg_()
    with chat_policy.using_state(state):
        chat_policy.save_trainable_state(paths[1])

    answers = []
    for path in paths:
        with chat_policy.using_state(path):
            sampled = Sampler(4, **SETTINGS)(chat_policy, prompts, seed=1)  # type: ignore
        answers.append(score(chat_policy, sampled, token_budget=9_999))
    blocks = [
        payoff_on_prompt(judged(groups), [range(4), range(4, 8)], None, best_of=False)
        for groups in zip(*answers, strict=True)
    ]
    expected = (WEIGHTS @ np.mean(blocks, axis=0))[0]  # P(mixture beats the first policy)

    mixture = Mixture([str(path) for path in paths], WEIGHTS.tolist())
    sampled = MixtureSampler(4, **SETTINGS, mixture=mixture)(chat_policy, prompts, seed=2)  # type: ignore
    scored = score(chat_policy, sampled, token_budget=9_999)
    against = [judged(groups)[:4, 4:] for groups in zip(scored, answers[0], strict=True)]
    means = np.array([block.mean() for block in against])
    assert abs(measure_win_rate(against, seed=0).mean_probability - expected) < 2.6 * means.std() / np.sqrt(120)
    assert abs(expected - 0.5) > 0.05  # a mixture that answered with the first policy alone would be found out
