"""What commands that play Taboo take from a run, or from the options of a suite where there is no run."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparring.cli.make import make
from sparring.cli.policies import Source, snapshots
from sparring.cli.saved_config import saved_config
from sparring.core.errors import ConfigError
from sparring.core.files import sha256
from sparring.core.protocols import PromptSource
from sparring.data.words import TargetWords
from sparring.games.taboo.game import Taboo
from sparring.games.taboo.players import Wording
from sparring.policy.policy import Policy
from sparring.policy.sampler import Sampler
from sparring.rollout.taboo_players import PolicyPlayer, require_plain


@dataclass(frozen=True, slots=True)
class Speaker:
    """A policy in both roles. `rounds` is how many rounds of training it has seen, `weights` stands for its weights."""

    label: str
    rounds: int | None
    attacker: PolicyPlayer
    defender: PolicyPlayer
    weights: str


def speakers_of(
    source: Source, *, policy_of: Callable[[Source], Policy], sampler: Sampler, wording: Wording
) -> list[Speaker]:
    """Of a run its policies, who speak as they did in it; of a model one, who speaks as is said here."""
    if not source.is_run:
        require_plain(sampler)
        policy = policy_of(source)
        player = PolicyPlayer(policy, sampler, wording)
        return [Speaker(source.label, None, player, player, policy.fingerprint())]
    saved, found = saved_config(Path(source.place)), snapshots(source)
    rollout = saved["rollout"]
    own_wording = make(rollout["wording"]) if "wording" in rollout else wording  # a run of recorded games has none
    samplers = [saved["sampler"], rollout.get("defender_sampler") or saved["sampler"]]
    policy = policy_of(source)
    speakers: list[Speaker] = []
    for snapshot in found:
        state = snapshot.weights
        attacker, defender = (PolicyPlayer(policy, make(node).single, own_wording, state) for node in samplers)
        speakers.append(Speaker(snapshot.label, snapshot.rounds, attacker, defender, sha256(state)[:16]))
    return speakers


def game_of(run: dict[str, Any] | None) -> Taboo:
    """The rules that a run's configuration names."""
    if run is None or run.get("game") is None:
        raise ConfigError("no run of Taboo is named to take the game from; add +game@suite.game=taboo.")
    return make(run["game"])


def words_of(words: str | Sequence[str] | None, run: dict[str, Any] | None, seed: int) -> list[str]:
    """Those of a list, or else those that a run held out, in alphabetical order."""
    if words is not None:
        source = TargetWords(words, 0, rounds=1, seed=seed, split="same")
        return sorted(prompt.id for prompt in source.for_round(0))
    if run is None:
        raise ConfigError("no run is named to take held-out words from; add suite.words=sparring:words.")
    if run.get("game") is None:
        raise ConfigError(
            "the first run plays no games, so it has no words to play for; add suite.words=sparring:words."
        )
    prompts: PromptSource = make(run["prompts"])
    return sorted(prompt.id for prompt in prompts.validation)
