"""From one prompt's preferences to its training pairs, and the count of everything lost on the way."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, get_args

from sparring.core.errors import ConfigError, RoundError
from sparring.core.protocols import PairFilter, PairingStrategy
from sparring.core.types import Candidates, Judgement, Pair
from sparring.pairing.preferences import WinRateMode, preferences

Counts = Mapping[str, int]


def _no_counts() -> dict[str, int]:
    return {}


@dataclass(frozen=True, slots=True)
class Funnel:
    """Counts of one or many prompts; funnels add up, and `sum(funnels, Funnel())` is a round's.

    `defects` counts candidates by kind, `failed` judgements by status, `dropped` pairs by the first rule that fired,
    `kept` pairs by kind. Every proposed pair is either dropped or kept; `replayed` ones come on top.
    """

    prompts: int = 0
    candidates: int = 0
    defects: Counts = field(default_factory=_no_counts)
    failed: Counts = field(default_factory=_no_counts)
    proposed: int = 0
    dropped: Counts = field(default_factory=_no_counts)
    kept: Counts = field(default_factory=_no_counts)
    replayed: int = 0

    def __post_init__(self) -> None:
        accounted = sum(self.dropped.values()) + sum(self.kept.values())
        if self.proposed != accounted:
            raise RoundError(
                f"A funnel proposes {self.proposed} pairs and accounts for {accounted}: pair the round again."
            )

    def __add__(self, other: "Funnel") -> "Funnel":
        return Funnel(
            prompts=self.prompts + other.prompts,
            candidates=self.candidates + other.candidates,
            defects=_merged(self.defects, other.defects),
            failed=_merged(self.failed, other.failed),
            proposed=self.proposed + other.proposed,
            dropped=_merged(self.dropped, other.dropped),
            kept=_merged(self.kept, other.kept),
            replayed=self.replayed + other.replayed,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and dictionaries, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> "Funnel":
        names = {entry.name for entry in fields(cls)}
        if record.keys() != names:
            raise RoundError(
                f"A funnel's record has the keys {sorted(record)}, not {sorted(names)}: pair the round again."
            )
        return cls(**record)

    def describe(self) -> str:
        """A block of lines for the terminal."""
        return "\n".join(
            [
                f"prompts     {self.prompts:>8,}{_listed(self.failed, 'judgements failed')}",
                f"candidates  {self.candidates:>8,}{_listed(self.defects, 'defective')}",
                f"proposed    {self.proposed:>8,}",
                f"dropped     {sum(self.dropped.values()):>8,}{_listed(self.dropped)}",
                f"kept        {sum(self.kept.values()):>8,}{_listed(self.kept)}",
                f"replayed    {self.replayed:>8,}",
            ]
        )


class Pairing:
    """A strategy proposes, and the first rule that objects drops and is counted by its name. Null is no rule.

    Strategy and rules see the judgement as `win_rate_mode` reads it.
    """

    def __init__(
        self,
        strategy: PairingStrategy,
        filters: Mapping[str, PairFilter | None],
        win_rate_mode: WinRateMode = "pairwise_sym",
    ) -> None:
        if win_rate_mode not in get_args(WinRateMode):
            raise ConfigError(
                f"pairing.win_rate_mode is {win_rate_mode!r}: choose one of {', '.join(get_args(WinRateMode))}."
            )
        self.strategy = strategy
        self.filters = {name: rule for name, rule in filters.items() if rule is not None}
        self.win_rate_mode: WinRateMode = win_rate_mode

    @property
    def paired(self) -> bool:
        """Whether what is made has a rejected response."""
        return getattr(self.strategy, "paired", True)

    @property
    def needs_judge(self) -> bool:
        """Whether it compares responses by a judgement."""
        return getattr(self.strategy, "needs_judge", True)

    @property
    def needs_teacher(self) -> bool:
        """Whether no prompt without a teacher's answer can make a pair."""
        return any(getattr(part, "needs_teacher", False) for part in (self.strategy, *self.filters.values()))

    def preferences(self, judgement: Judgement) -> Judgement:
        """The judgement that pairs and their win rates are read off."""
        return preferences(judgement, self.win_rate_mode)

    def __call__(self, candidates: Candidates, judgement: Judgement) -> tuple[list[Pair], Funnel]:
        judgement = self.preferences(judgement)
        proposed = self.strategy(candidates, judgement)
        verdicts = [self._first_objection(pair, candidates, judgement) for pair in proposed]
        pairs = [pair for pair, objection in zip(proposed, verdicts, strict=True) if objection is None]
        funnel = Funnel(
            prompts=1,
            candidates=len(candidates.responses),
            defects=_counted(response.defect for response in candidates.responses),
            failed={} if judgement.status == "ok" else {judgement.status: 1},
            proposed=len(proposed),
            dropped=_counted(verdicts),
            kept=_counted(pair.kind for pair in pairs),
        )
        return pairs, funnel

    def _first_objection(self, pair: Pair, candidates: Candidates, judgement: Judgement) -> str | None:
        return next((name for name, rule in self.filters.items() if not rule(pair, candidates, judgement)), None)


def _counted(names: Iterable[str | None]) -> dict[str, int]:
    return dict(Counter(name for name in names if name is not None))


def _merged(left: Counts, right: Counts) -> dict[str, int]:
    return dict(Counter(left) + Counter(right))


def _listed(counts: Counts, title: str = "") -> str:
    """What a total consists of, most frequent first; nothing where nothing was counted."""
    if not counts:
        return ""
    parts = ", ".join(f"{name} {count:,}" for name, count in Counter(counts).most_common())
    return f"   {title}: {parts}" if title else f"   {parts}"
