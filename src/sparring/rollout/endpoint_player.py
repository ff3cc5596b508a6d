"""A player of Taboo behind an OpenAI-compatible endpoint. No answer is kept but in the games themselves."""

from collections.abc import Sequence
from dataclasses import dataclass

from sparring.games.taboo.players import Position, Reply, Wording
from sparring.rollout.endpoint import Endpoint, Question


@dataclass(frozen=True, kw_only=True)
class EndpointPlayer(Endpoint):
    """Says what the model says to the position in words. What that costs is not counted."""

    wording: Wording

    def __call__(self, positions: Sequence[Position]) -> list[Reply | None]:
        questions = [Question(self.wording(position).messages, position.seed) for position in positions]
        return [said and Reply(said.text.strip(), finish=said.finish) for said in self.ask(questions)]
