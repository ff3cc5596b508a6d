"""Running figures of a round's samples, judgements and pairs, named as in TRL where TRL has a name."""

from dataclasses import dataclass, field

from sparring.core.types import Candidates, Judgement, Pair
from sparring.pairing.funnel import Funnel


@dataclass
class SampleStatistics:
    """Sums over prompts. Lengths are in tokens, end token included; annotator figures are of policy samples."""

    funnel: Funnel = field(default_factory=Funnel)
    tokens_sampled: int = 0
    judge_calls: int = 0
    sums: dict[str, float] = field(default_factory=dict[str, float])
    counts: dict[str, int] = field(default_factory=dict[str, int])

    def add(self, candidates: Candidates, judgement: Judgement, pairs: list[Pair], funnel: Funnel) -> None:
        self.funnel += funnel
        self.judge_calls += judgement.calls
        for index, response in enumerate(candidates.responses):
            if response.origin != "policy":
                continue
            length = len(response.ids)
            self.tokens_sampled += length
            self._mean("completions/mean_length", length)
            self._mean("completions/clipped_ratio", response.finish == "length")
            self._mean("completions/defect_ratio", response.defect is not None)
            if response.finish == "stop":
                self._mean("completions/mean_terminated_length", length)
            if judgement.scores is not None:
                self._mean("annotator/score", judgement.scores[index])
            for name, values in judgement.aspects.items():
                self._mean(f"annotator/{name}", values[index])
        for pair in pairs:
            self._mean("annotator/pair_margin", pair.margin)
            self._mean("annotator/pair_win", pair.win)
            if pair.rejected is not None:
                responses = candidates.responses
                difference = len(responses[pair.chosen].ids) - len(responses[pair.rejected].ids)
                self._mean("completions/pair_length_difference", difference)

    def metrics(self) -> dict[str, float]:
        return {name: total / self.counts[name] for name, total in sorted(self.sums.items())}

    def _mean(self, name: str, value: int | float) -> None:
        self.sums[name] = self.sums.get(name, 0.0) + value
        self.counts[name] = self.counts.get(name, 0) + 1
