"""A policy as a player of Taboo: a position becomes a prompt, and what is sampled is the utterance."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sparring.core.errors import ConfigError, DataError
from sparring.games.taboo.players import Player, Position, Reply, Wording
from sparring.policy.memory import Memory
from sparring.policy.policy import Policy
from sparring.policy.sampler import Sampler
from sparring.policy.speaking import speak


def require_plain(*samplers: Sampler) -> None:
    """Players speak by a sampler's settings, utterance by utterance, and it does not draw for them."""
    for sampler in samplers:
        if type(sampler) is not Sampler:
            raise ConfigError(
                f"games of Taboo are played under sampler=default, and {type(sampler).__name__} is another; use that, "
                "and rollout.opponents to play against other policies."
            )


@dataclass(frozen=True)
class PolicyPlayer:
    """Plays with `policy` as it is at the call, or with the weights of `state`, a file of `save_trainable_state`.

    Those are put in place and the policy's own put back for every utterance of a batch of games.
    """

    policy: Policy
    sampler: Sampler
    wording: Wording
    state: Path | None = None

    def __call__(self, positions: Sequence[Position]) -> list[Reply | None]:
        return self._answer(positions, None)

    def sit_down(self) -> Player:
        """As `Player`, but one that remembers what it has read, during which the weights must stay."""
        return partial(self._answer, memory=Memory())

    def _answer(self, positions: Sequence[Position], memory: Memory | None) -> list[Reply | None]:
        prompts = {place: ids for place, one in enumerate(positions) if (ids := self._prompt(one)) is not None}
        seeds = [positions[place].seed for place in prompts]
        with nullcontext() if self.state is None else self.policy.using_state(self.state):
            responses = speak(self.policy, self.sampler, list(prompts.values()), seeds, memory)
        replies: list[Reply | None] = [None] * len(positions)
        for (place, ids), response in zip(prompts.items(), responses, strict=True):
            if response is not None:
                replies[place] = Reply(response.text.strip(), ids, response.ids, response.finish)
        return replies

    def _prompt(self, position: Position) -> tuple[int, ...] | None:
        """None where what was said cannot be put to this model, as words that begin a text for it: the game is cut."""
        try:
            return self.policy.render(self.wording(position))
        except DataError:
            if not position.utterances:
                raise
            return None
