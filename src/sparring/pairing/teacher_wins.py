"""The teacher over every sample of the policy, unasked: SPIN (arXiv 2401.01335) as DNO's section 5.2 runs it."""

from dataclasses import dataclass
from typing import ClassVar

from sparring.core.types import Candidates, Judgement, Pair
from sparring.pairing.pair import side


@dataclass(frozen=True)
class TeacherWins:
    """P(teacher beats student) is 1 by assumption, whatever the judgement says; scores are 1 and 0 accordingly.

    A prompt without a teacher's answer makes no pairs, nor does one whose judgement failed, so that all strategies
    train on the same prompts.
    """

    needs_judge: ClassVar[bool] = False
    needs_teacher: ClassVar[bool] = True

    def __call__(self, candidates: Candidates, judgement: Judgement) -> list[Pair]:
        if judgement.status != "ok":
            return []
        origins = [response.origin for response in candidates.responses]
        return [
            Pair(
                chosen=teacher,
                rejected=student,
                win=1.0,
                score=1.0,
                margin=1.0,
                kind=f"{side(candidates, teacher)}>{side(candidates, student)}",
            )
            for teacher, by_teacher in enumerate(origins)
            if by_teacher == "teacher"
            for student, by_policy in enumerate(origins)
            if by_policy == "policy"
        ]
