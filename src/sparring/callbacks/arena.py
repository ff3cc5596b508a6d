"""After each round, and before the first: the policy, all that it was before and scripted players meet in Taboo.

They play for the words that `prompts` holds out. Games are kept as they are played, and earlier policies are read from
their files, so a run that is killed anywhere ends with the same arena.
"""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import lightning as L

from sparring.analysis.arena import Arena as Standing
from sparring.analysis.payoff import Player, players_of
from sparring.analysis.payoff_picture import draw_payoff
from sparring.callbacks.hooks import finished_epochs, using_policy
from sparring.core.files import read_json, sha256, write_json
from sparring.core.protocols import PromptSource
from sparring.core.seeding import derive_seed
from sparring.data.rounds import write_parquet
from sparring.data.schema import EPISODES
from sparring.games.taboo.game import Taboo
from sparring.games.taboo.players import Player as TabooPlayer
from sparring.games.taboo.players import Wording
from sparring.policy.policy import Policy
from sparring.policy.sampler import Sampler
from sparring.rollout.arena import (
    Contestant,
    RoundRobin,
    all_meetings,
    conclude,
    policy_contestant,
    scripted_contestant,
)
from sparring.rollout.taboo_players import PolicyPlayer, require_plain

SURPRISES = 5


class Arena(L.Callback):
    """Writes `arena-NNN.json`, what all policies up to the one after N rounds have come to, `arena-NNN.parquet`, the
    games that this one added, and `arena.png`.

    `scripted` names further players, each with an attacker and a defender. Everybody attacks everybody, so a run of n
    rounds plays (n + 1 + scripted)^2 meetings of `games_per_word` games on each word of `prompts.validation`.
    """

    def __init__(
        self,
        directory: Path,
        *,
        game: Taboo,
        prompts: PromptSource,
        sampler: Sampler,
        defender_sampler: Sampler | None,
        wording: Wording,
        scripted: Mapping[str, Mapping[str, TabooPlayer]],
        games_per_word: int,
        games_at_once: int,
        policy_path: Callable[[int], Path],
        epochs_per_round: int,
        seed: int,
    ) -> None:
        self.directory = directory
        require_plain(sampler, defender_sampler or sampler)
        self.sampler, self.defender_sampler, self.wording = sampler, defender_sampler or sampler, wording
        self.policy_path, self.epochs_per_round, self.seed = policy_path, epochs_per_round, seed
        words = [prompt.id for prompt in prompts.validation]
        self.scripted = {name: scripted_contestant(name, by_role, words) for name, by_role in scripted.items()}
        self.round_robin = RoundRobin(
            directory / "arena-games",
            game,
            words,
            games_per_word=games_per_word,
            games_at_once=games_at_once,
            seed=derive_seed(seed, "arena"),
        )
        self._logged = 0

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.ckpt_path is None:
            self._ensure(trainer, pl_module, 0)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._after_round(trainer, pl_module)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._after_round(trainer, pl_module)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._after_round(trainer, pl_module)  # a run that was killed after its last step resumes without any epoch

    def _after_round(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        rounds, within = divmod(finished_epochs(trainer), self.epochs_per_round)
        if rounds == 0 or within or rounds == self._logged:
            return
        self._ensure(trainer, pl_module, rounds)
        report = read_json(self._report(rounds))
        if report["global_step"] == trainer.global_step:  # else the resumed log already holds it
            for logger in trainer.loggers:
                metrics = report["metrics"] | {"time/arena": report["seconds"], "round": rounds - 1}
                logger.log_metrics(metrics, step=trainer.global_step)
        self._logged = rounds

    # `arena-000` is before any training, `arena-00N` after N rounds

    def _report(self, rounds: int) -> Path:
        return self.directory / f"arena-{rounds:03d}.json"

    def _games(self, rounds: int) -> Path:
        return self.directory / f"arena-{rounds:03d}.parquet"

    def _ensure(self, trainer: L.Trainer, pl_module: L.LightningModule, rounds: int) -> None:
        if not self._games(rounds).exists():
            with using_policy(trainer, pl_module) as policy:
                contestants = self._contestants(policy, rounds)
                self.round_robin.play(
                    contestants, self._new(rounds), rank=trainer.global_rank, world_size=trainer.world_size
                )
        trainer.strategy.barrier("arena played")
        if trainer.is_global_zero:
            if not self._report(rounds).exists():
                self._conclude(rounds, trainer.global_step)
            shutil.rmtree(self.round_robin.directory, ignore_errors=True)  # all of it is in the tables
        trainer.strategy.barrier("arena concluded")

    def _contestants(self, policy: Policy, rounds: int) -> dict[str, Contestant]:
        """The policy itself plays with its own weights, which are those of its file."""
        contestants = dict(self.scripted)
        for player in players_of(rounds, teacher=False, best_of=0):
            assert player.rounds is not None
            weights = self.policy_path(player.rounds)
            state = None if player.rounds == rounds else weights
            attacker, defender = (
                PolicyPlayer(policy, sampler, self.wording, state) for sampler in (self.sampler, self.defender_sampler)
            )
            contestants[player.label] = policy_contestant(attacker, defender, sha256(weights)[:16])
        return contestants

    def _players(self, rounds: int) -> list[Player]:
        scripted = [Player(name, "other", None) for name in self.scripted]
        return [*players_of(rounds, teacher=False, best_of=0), *scripted]

    def _new(self, rounds: int) -> list[tuple[str, str]]:
        """The meetings of the policy after `rounds` rounds; before any, those of scripted players too."""
        labels = [player.label for player in self._players(rounds)]
        newest = labels[rounds]
        return [meeting for meeting in all_meetings(labels) if rounds == 0 or newest in meeting]

    def _conclude(self, rounds: int, global_step: int) -> None:
        if not self._games(rounds).exists():
            write_parquet(self._games(rounds), EPISODES, self.round_robin.rows(self._new(rounds)))
        players = self._players(rounds)
        base, *later = (player.label for player in players if player.kind == "round")
        standing, surprises = conclude(
            [self._games(number) for number in range(rounds + 1)],
            players,
            starts=dict.fromkeys(later, base),
            seed=derive_seed(self.seed, "arena bootstrap", rounds),
            surprises=SURPRISES,
        )
        draw_payoff(standing.payoff, self.directory / "arena.png", "words")
        facts = {
            "rounds": rounds,
            "global_step": global_step,
            "seconds": self.round_robin.seconds(self._new(rounds)),
            "metrics": arena_metrics(standing, rounds),
            "surprises": surprises,
        }
        write_json(self._report(rounds), facts | standing.to_dict())


def arena_metrics(standing: Standing, rounds: int) -> dict[str, float]:
    """Of the policy after `rounds` rounds; against itself, what the two roles come to."""
    labels = [player.label for player in standing.payoff.players]
    meetings = {(meeting.attacker, meeting.defender): meeting for meeting in standing.meetings}
    newest = labels[rounds]
    opponents = {"base": labels[0], "previous": labels[max(0, rounds - 1)]}
    opponents |= {player.label: player.label for player in standing.payoff.players if player.kind == "other"}
    metrics: dict[str, float] = {}
    for name, opponent in opponents.items():
        metrics[f"eval/arena/win_rate_vs_{name}"] = standing.payoff.win[rounds][labels.index(opponent)]
        metrics[f"eval/arena/attack_vs_{name}"] = meetings[newest, opponent].score
        metrics[f"eval/arena/defence_vs_{name}"] = 1 - meetings[opponent, newest].score
    own = meetings[newest, newest]
    for outcome, count in (("tie", own.ties), ("invalid", own.invalid), ("cut", own.cut)):
        metrics[f"eval/arena/{outcome}_share"] = count / own.games
    metrics["eval/arena/attack_vs_self"] = own.score
    return metrics
