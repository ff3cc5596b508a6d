"""The control of a margin filter: as many pairs as it keeps, but drawn at random among those it chose from."""

from collections.abc import Sequence
from dataclasses import dataclass

from sparring.core.errors import ConfigError
from sparring.core.protocols import PairFilter
from sparring.core.seeding import numpy_rng
from sparring.core.types import Candidates, Judgement, Pair
from sparring.pairing.funnel import Pairing


@dataclass(frozen=True, kw_only=True)
class RandomAsMany:
    """Of each prompt as many pairs as `like` keeps, drawn among those that pass its rules without the rules `free_of`.

    So what is compared differs in the margins alone, not in the number of pairs or in which prompts have some. The draw
    is a function of `seed` and the prompt's id. Wins are read as the pairing that this stands in reads them.
    """

    like: Pairing
    seed: int
    free_of: Sequence[str] = ("margin",)

    def __post_init__(self) -> None:
        if unknown := [name for name in self.free_of if name not in self.like.filters]:
            raise ConfigError(
                f"pairing.strategy.free_of names {unknown[0]!r}, which is no rule of pairing.strategy.like; "
                f"choose among {', '.join(self.like.filters)}."
            )

    def __call__(self, candidates: Candidates, judgement: Judgement) -> list[Pair]:
        waived = [self.like.filters[name] for name in self.free_of]
        others = [rule for name, rule in self.like.filters.items() if name not in self.free_of]
        pool = _passing(self.like.strategy(candidates, judgement), others, candidates, judgement)
        wanted = len(_passing(pool, waived, candidates, judgement))
        drawn = numpy_rng(self.seed, "random_as_many", candidates.prompt.id).choice(
            len(pool), size=wanted, replace=False
        )
        return [pool[index] for index in sorted(drawn.tolist())]


def _passing(
    pairs: Sequence[Pair], rules: Sequence[PairFilter], candidates: Candidates, judgement: Judgement
) -> list[Pair]:
    return [pair for pair in pairs if all(rule(pair, candidates, judgement) for rule in rules)]
