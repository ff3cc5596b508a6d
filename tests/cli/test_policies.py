from pathlib import Path

import pytest

from sparring.cli.policies import Source, load, parse_policies, parse_policy, snapshots
from sparring.core.errors import ConfigError, DataError


def test_labels_places_and_rounds_are_read_from_one_argument():
    assert parse_policies("[mine=outputs/run@2,outputs/other, scripted]") == [
        Source("mine", "outputs/run", "2"),
        Source("other", "outputs/other"),
        Source("scripted", "scripted"),
    ]
    assert parse_policies("outputs/run@base") == [Source("run base", "outputs/run", "base")]
    assert parse_policy("outputs/run@0").label == "run round 0"


def test_an_at_sign_that_no_round_follows_belongs_to_the_place():
    assert parse_policy("some@where/model").place == "some@where/model"
    assert parse_policy("x=owner/name") == Source("x", "owner/name")


def test_blanks_around_names_say_nothing_and_a_tilde_is_at_home(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert parse_policies(" mine = out/my run ,~/run+best_of") == [
        Source("mine", "out/my run"),
        Source("run+best_of", "/home/me/run", None, "best_of"),
    ]


def test_behind_a_plus_stands_how_a_policy_decodes():
    assert parse_policies("outputs/run@2+best_of,mine=owner/name+principle,outputs/run+la@0") == [
        Source("run round 2+best_of", "outputs/run", "2", "best_of"),
        Source("mine", "owner/name", None, "principle"),
        Source("run round 0+la", "outputs/run", "0", "la"),
    ]
    assert parse_policy("a+b=owner/name") == Source("a+b", "owner/name")


def test_a_plus_in_the_name_of_what_is_there_belongs_to_the_place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c++").mkdir()
    assert parse_policy("c++") == Source("c++", "c++")
    assert parse_policy("c++@3") == Source("c++ round 3", "c++", "3")
    assert parse_policy("c+++best_of") == Source("c+++best_of", "c++", None, "best_of")
    assert parse_policy("c++@base+best_of") == Source("c++ base+best_of", "c++", "base", "best_of")
    assert parse_policy("a+b/name").place == "a+b/name"


def test_here_and_above_are_called_as_they_are_on_disk(tmp_path, monkeypatch):
    (tmp_path / "above" / "here").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "above" / "here")
    assert (parse_policy(".").label, parse_policy("..").label) == ("here", "above")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "is empty"),
        ("[]", "is empty"),
        ("a=", "'a=' cannot be read"),
        ("=b", "cannot be read"),
        ("b+", "cannot be read"),
    ],
)
def test_what_cannot_be_read_is_refused(text, sentence):
    with pytest.raises(ConfigError, match=sentence):
        parse_policies(text)


def test_labels_are_unique():
    with pytest.raises(ConfigError, match="two policies are called 'run'"):
        parse_policies("one/run,two/run")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "config.yaml").write_text("model: {}\n")
    for number in (0, 1, 2):
        (tmp_path / "checkpoints" / f"policy-{number:03d}.safetensors").touch()
    return tmp_path


def test_a_policy_that_is_missing_between_others_is_not_passed_over(run):
    (run / "checkpoints" / "policy-001.safetensors").unlink()
    for wanted in (None, "1"):
        with pytest.raises(DataError, match=r"policy-001.safetensors is missing, though policy-002.safetensors is"):
            snapshots(Source("a", str(run), wanted))
    assert snapshots(Source("a", str(run), "base"))[0].rounds == 0


def test_a_configuration_that_lost_a_part_is_refused(run):
    (run / "config.yaml").write_text("prompts: {}\n")
    with pytest.raises(DataError, match=r"config.yaml has no model; restore it, or leave the run out.$"):
        load(Source("a", str(run)), load_model=lambda path: pytest.fail("it is a run"))
    (run / "config.yaml").write_text("")
    with pytest.raises(DataError, match=r"config.yaml is no configuration; restore it"):
        load(Source("a", str(run)), load_model=lambda path: pytest.fail("it is a run"))


def test_a_run_has_a_policy_before_its_rounds_and_one_after_each(run):
    found = snapshots(Source("a", str(run)))
    assert [(each.label, each.rounds, each.weights.name) for each in found] == [
        ("a base", 0, "policy-000.safetensors"),
        ("a round 0", 1, "policy-001.safetensors"),
        ("a round 1", 2, "policy-002.safetensors"),
    ]


def test_one_round_is_called_as_it_was_named(run):
    [found] = snapshots(Source("mine", str(run), "1"))
    assert (found.label, found.rounds) == ("mine", 2)
    [base] = snapshots(Source("mine", str(run), "base"))
    assert base.rounds == 0


def test_a_round_that_is_not_there_is_named_with_those_that_are(run):
    with pytest.raises(ConfigError, match="has base and rounds 0 to 1, not 2; name one of them"):
        snapshots(Source("mine", str(run), "2"))
    for path in (run / "checkpoints").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="has no policies in checkpoints/ yet"):
        snapshots(Source("mine", str(run)))


def test_a_model_has_no_rounds(tmp_path):
    with pytest.raises(ConfigError, match="is no run, so it has no round 3"):
        load(Source("x", str(tmp_path), "3"), lambda path: None)  # type: ignore
