from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from sparring.core.collate import make_groups
from sparring.core.errors import ConfigError
from sparring.data.games import GamePrompts
from sparring.games.catalogue import bradley_terry, rock_paper_scissors
from sparring.games.matrix import MatrixGame
from sparring.policy.game_policy import game_policy
from sparring.policy.loading import load_policy
from sparring.policy.policy import Policy
from sparring.policy.sampler import Sampler
from sparring.policy.scoring import score_groups

torch.set_num_threads(1)

GAMES = {"rps": rock_paper_scissors(), "ladder": bradley_terry([0.0, 1.0, 2.0, 3.0])}
INITIAL = {"rps": [0.5, 0.3, 0.2], "ladder": [0.1, 0.2, 0.3, 0.4]}
SAMPLER = Sampler(num_generations=200, temperature=1.0, top_p=1.0, top_k=0, max_new_tokens=2, token_budget=4096)


def probabilities(policy: Policy, games: Mapping[str, MatrixGame] = GAMES) -> dict[str, list[float]]:
    prompts = [policy.render(prompt) for prompt in GamePrompts(games).for_round(0)]
    answers = [[policy.encode_response(label) for label in game.labels] for game in games.values()]
    scores = score_groups(policy, prompts, answers, token_budget=1024)
    return {name: np.exp(row).tolist() for name, row in zip(games, scores, strict=True)}


def test_it_plays_exactly_what_it_is_told_and_nothing_else() -> None:
    played = probabilities(game_policy(GAMES, INITIAL))
    for name, expected in INITIAL.items():
        assert played[name] == pytest.approx(expected, abs=1e-6)
        assert sum(played[name]) == pytest.approx(1.0, abs=1e-6)


def test_without_instructions_it_plays_uniformly() -> None:
    assert probabilities(game_policy(GAMES))["rps"] == pytest.approx([1 / 3] * 3, abs=1e-6)


def test_every_sample_is_one_action_of_the_prompts_game_and_the_end() -> None:
    policy = game_policy(GAMES, INITIAL)
    for candidates, game in zip(SAMPLER(policy, GamePrompts(GAMES).for_round(0), seed=1), GAMES.values(), strict=True):
        texts = [response.text.strip() for response in candidates.responses]
        assert set(texts) == set(game.labels)
        assert {response.finish for response in candidates.responses} == {"stop"}
        assert {len(response.ids) for response in candidates.responses} == {2}
        assert all(policy.encode_response(r.text) == r.ids for r in candidates.responses)


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.AdamW, torch.optim.RMSprop])
def test_training_moves_the_trained_game_alone_and_the_end_stays_certain(
    optimizer: type[torch.optim.Optimizer],
) -> None:
    policy = game_policy(GAMES, INITIAL)
    [trained] = [weight for weight in policy.parameters() if weight.requires_grad]
    step = optimizer([trained], lr=0.5, weight_decay=0.0)  # pyright: ignore[reportCallIssue]
    prompt = GamePrompts(GAMES).for_round(0)[0]
    rock = policy.encode_response("rock")
    groups = make_groups([policy.render(prompt)], [[rock]], pad_id=policy.pad_id, device=policy.device)
    for _ in range(5):
        step.zero_grad()
        (-policy.logp(groups).sum()).backward()
        step.step()
    after = probabilities(policy)
    assert after["rps"][0] > 0.6
    assert sum(after["rps"]) == pytest.approx(1.0, abs=1e-6)  # the end is part of every response
    assert after["ladder"] == pytest.approx(INITIAL["ladder"], abs=1e-6)


def test_the_library_loads_what_it_saves(tmp_path: Path) -> None:
    policy = game_policy(GAMES, INITIAL)
    policy.save(tmp_path)
    loaded = load_policy(str(tmp_path))
    assert probabilities(loaded) == probabilities(policy)
    [candidates, _] = SAMPLER(loaded, GamePrompts(GAMES).for_round(0), seed=1)
    assert {response.text.strip() for response in candidates.responses} == {"rock", "paper", "scissors"}


@pytest.mark.parametrize(
    ("games", "initial", "sentence"),
    [
        ({}, {}, r"model\.games is empty"),
        (GAMES, {"chess": [1.0]}, "'chess', which is no game; the games are rps, ladder"),
        (GAMES, {"rps": [0.5, 0.5]}, r"model\.initial\.rps is no distribution over 3 actions"),
        (GAMES, {"rps": [1.0, 0.0, 0.0]}, "give each a positive probability"),
        ({"two words": GAMES["rps"]}, {}, "'two words' cannot be a token"),
        ({"rock": GAMES["rps"]}, {}, "'rock' names a game and an action"),
    ],
)
def test_what_cannot_be_played_is_refused(
    games: dict[str, MatrixGame], initial: dict[str, list[float]], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        game_policy(games, initial)
