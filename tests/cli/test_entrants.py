"""From names on a command line to who answers."""

import json
from pathlib import Path
from typing import Any

import pytest

from sparring.cli.entrants import entrants_of
from sparring.cli.parts import Parts
from sparring.cli.policies import parse_policies
from sparring.core.errors import ConfigError, DataError
from sparring.rollout.entrants import Entrant, PolicyEntrant, RecordedEntrant, TeacherEntrant

SAMPLER: dict[str, Any] = {
    "_target_": "sparring.policy.sampler.Sampler",
    "num_generations": 1,
    "temperature": 1.0,
    "top_p": 1.0,
    "top_k": 0,
    "max_new_tokens": 8,
    "token_budget": 10_000,
}
TOLD = SAMPLER | {"_target_": "sparring.policy.principled.PrincipledSampler", "principle": "be kind."}
LOAD = {"_target_": "sparring.policy.loading.load_policy", "_partial_": True, "trust_remote_code": False}


def entrants(policies: str, **changes: Any) -> list[Entrant]:
    options: dict[str, Any] = {"sampler": SAMPLER, "decodings": {"told": TOLD}, "endpoint": None, "questions": None}
    return entrants_of(parse_policies(policies), parts=Parts({}), load_model=LOAD, **(options | changes))


def labels(policies: str) -> list[str]:
    return [each.label for each in entrants(policies)]


def alpaca(path: Path, *models: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"instruction": "Say it.", "output": f"{model} says it", "generator": model} for model in models]
    path.write_text(json.dumps(rows))
    return path


def test_a_run_is_called_by_its_round_and_how_it_decodes(finished, model):
    run = finished.run
    assert labels(f"{run},{run}@0,{run}@base,{model}") == [
        "small round 1",
        "small round 0",
        "small base",
        model.name,
    ]
    assert labels(f"{run}+told,{run}@0+told,{model}+told") == [
        "small round 1+told",
        "small round 0+told",
        f"{model.name}+told",
    ]
    assert labels(f"a={run}+told,b={run}@0") == ["a", "b"]
    found = entrants(f"{run},{run}@0+told,{run}@base,{model}+told")
    assert [each.rounds for each in found] == [2, 1, 0, None]
    assert [each.described for each in found] == [
        f"{run}, after 2 rounds",
        f"{run} by told, after 1 round",
        f"{run}, after 0 rounds",
        f"{model} by told",
    ]


def test_policies_of_one_place_that_follow_each_other_are_read_once(finished, monkeypatch):
    from sparring.cli import entrants as module

    read: list[str] = []
    real = module.load
    monkeypatch.setattr(
        module, "load", lambda source, load_model: read.append(source.place) or real(source, load_model)
    )
    marks = set()
    for each in entrants(f"{finished.run},{finished.run}@0,told={finished.run}+told"):
        with each.opened() as answering:
            marks.add(answering.identity)
    assert read == [str(finished.run)]
    assert len(marks) == 3


def test_what_an_answer_cannot_depend_on_is_not_in_what_stands_for_a_decoding(model):
    def manner(limit: int | None, temperature: float) -> str:
        best = {
            "_target_": "sparring.rollout.best_of.BestOfSampler",
            "sampler": SAMPLER,
            "annotator": {
                "_target_": "sparring.annotators.judge.judge.LLMJudge",
                "protocol": {"_target_": "sparring.annotators.judge.listwise.Listwise"},
                "base_url": "http://127.0.0.1:1/v1",
                "model": "judge",
                "api_key_env": None,
                "sampling": {"temperature": temperature},
                "book": {"_target_": "sparring.annotators.answer_book.SqliteBook", "path": "answers.sqlite"},
                "purse": {
                    "_target_": "sparring.annotators.purse.Budget",
                    "book": {"_target_": "sparring.annotators.answer_book.SqliteBook", "path": "answers.sqlite"},
                    "max_calls": limit,
                },
            },
            "n": 2,
        }
        [found] = entrants(f"{model}+best", decodings={"best": best})
        assert isinstance(found, PolicyEntrant)
        return found.manner

    assert manner(3, 0.0) == manner(None, 0.0) != manner(3, 1.0)


def test_a_file_takes_part_with_every_model_in_it(tmp_path):
    one, two = alpaca(tmp_path / "one.json", "gpt"), alpaca(tmp_path / "two.json", "gpt-4", "vicuna", "gpt-4")
    assert labels(f"{one},{two}") == ["gpt", "gpt-4", "vicuna"]
    assert labels(f"mine={one},theirs={two}") == ["mine", "theirs gpt-4", "theirs vicuna"]
    twice, once = entrants(str(two))
    assert isinstance(twice, RecordedEntrant)
    assert isinstance(once, RecordedEntrant)
    assert [len(outputs) for each in (twice, once) for outputs in each.outputs.values()] == [2, 1]


def test_the_teacher_is_one_of_them():
    assert entrants("teacher,their=teacher") == [TeacherEntrant("teacher"), TeacherEntrant("their")]


def test_models_in_two_files_that_share_a_name_are_refused(tmp_path):
    one, two = alpaca(tmp_path / "a" / "x.json", "gpt"), alpaca(tmp_path / "b" / "y.json", "gpt")
    with pytest.raises(ConfigError, match=r"^two policies are called 'gpt'; give them different labels"):
        entrants(f"{one},{two}")


@pytest.mark.parametrize(
    ("policies", "sentence"),
    [
        ("teacher+told", "teacher is no policy of this machine, so it has no .told; leave it out"),
        ("teacher@2", "teacher is no policy of this machine, so it has no round 2; leave it out"),
        ("endpoint+told", "endpoint is no policy of this machine, so it has no .told"),
        ("FILE+told", "gpt.json is no policy of this machine, so it has no .told"),
        ("FILE@0", "gpt.json is no policy of this machine, so it has no round 0"),
        ("MODEL@0", "is no run, so it has no round 0; leave out the @"),
        ("MODEL+tolled", r".tolled, which is none of told; choose one of them, or add suite.decodings.tolled"),
        ("RUN@99", "has base and rounds 0 to 1, not 99; name one of them after the @"),
        ("RUN+told@99", "has base and rounds 0 to 1, not 99; name one of them after the @"),
        ("FILE,RUN/nothing", "nothing; give the directory of a model"),
        ("MODEL,name/of-no-model", "cannot read the model 'name/of-no-model'; check its name, and the network"),
        ("nothing.json", "there is no file nothing.json; give one of recorded outputs, or another policy"),
    ],
)
def test_what_cannot_take_part_is_refused_before_a_model_is_read(
    policies, sentence, finished, model, tmp_path, monkeypatch
):
    monkeypatch.setattr("sparring.cli.entrants.load", None)
    names = {"FILE": alpaca(tmp_path / "gpt.json", "gpt"), "MODEL": model, "RUN": finished.run}
    for name, path in names.items():
        policies = policies.replace(name, str(path))
    with pytest.raises((ConfigError, DataError), match=sentence):
        entrants(policies)


def test_a_run_whose_model_is_gone_is_refused_before_a_model_is_read(finished, model, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "checkpoints").symlink_to(finished.run / "checkpoints")
    (run / "config.yaml").write_text((finished.run / "config.yaml").read_text().replace(str(model), "/gone"))
    with pytest.raises(ConfigError, match="there is no directory /gone; give the directory of a model"):
        entrants(str(run))
