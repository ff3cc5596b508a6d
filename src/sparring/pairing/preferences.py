"""What a judgement is taken to say: the win matrix that strategies and losses read (SPPO, arXiv 2405.00675).

A pair ranker answers logits for every ordered pair; the paper of SPPO and its code make different preferences of the
same answers. Judgements keep the answers, so the choice is made here, and made anew, for nothing.
"""

from dataclasses import replace
from typing import Literal

import numpy as np

from sparring.core.errors import RoundError
from sparring.core.preference import bradley_terry, logistic, symmetrised
from sparring.core.types import Judgement

WinRateMode = Literal["pairwise_sym", "pairwise_single_order", "aggregated_code"]


def preferences(judgement: Judgement, mode: WinRateMode) -> Judgement:
    """The judgement with the win matrix that `mode` reads off its logits L, where L[i, j] was asked with i shown first.

    `pairwise_sym` is sigmoid((L - L.T) / 2), the mean of both orders, and the annotator's own matrix where it has no
    logits. `pairwise_single_order` is sigmoid(L) off the diagonal, a position bias and all: win + win.T need not be 1.
    `aggregated_code` is what SPPO's released models were trained on: sigmoid(S_i - S_j) of S_i = mean_j (L_ij - L_ji)
    over all K, with the doubled logits of that code. It depends on one score per response, so cycles are erased.
    """
    if judgement.status != "ok":
        return judgement
    if judgement.logits is None:
        if mode == "pairwise_sym":
            return judgement
        raise RoundError(
            f"the win-rate mode {mode} needs a pair ranker's logits, and the judgements have none; "
            "use pairing.win_rate_mode=pairwise_sym, or judge with an annotator that gives logits."
        )
    logits = judgement.logits
    if mode == "pairwise_sym":
        win = symmetrised(logits)
    elif mode == "pairwise_single_order":
        win = logistic(logits)
        np.fill_diagonal(win, 0.5)
    else:
        win = bradley_terry((logits - logits.T).mean(axis=1), 1.0)
    return replace(judgement, win=win)
