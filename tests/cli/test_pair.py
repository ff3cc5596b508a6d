"""`sparring pair`: other pairs of stored judgements, for nothing."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recorded_runs import LettersRanker, Prompts, make_run, rows
from sparring.cli.pair import main, pair
from sparring.core.errors import DataError
from sparring.data.rounds import RoundStore
from sparring.data.schema import JUDGEMENTS, PAIRS
from sparring.pairing.funnel import Funnel
from sparring.policy.loading import load_policy
from sparring.policy.sampler import Sampler

SIX = "pairing=all_pairs,best_vs_worst,spin,student_only,teacher_only,every_response"


@pytest.fixture(scope="module")
def stored(chat_model, ask, tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("outputs") / "earlier"
    make_run(run, load_policy(str(chat_model)), Prompts(ask))
    return run


@pytest.fixture
def run(stored: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(stored, tmp_path / "earlier"))


def table(run: Path, name: str) -> list[dict]:
    assert pq.read_schema(run / f"pairings/{name}.parquet").names == PAIRS.names
    return pq.read_table(run / f"pairings/{name}.parquet").to_pylist()


def manifest(run: Path, name: str) -> dict:
    return json.loads((run / f"pairings/{name}.json").read_text())


def refusal(run: Path, *arguments: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as end:
        main([str(run), *arguments])
    assert end.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    return line.removeprefix("sparring: ")


def test_nothing_is_sampled_and_nobody_is_asked(run, monkeypatch):
    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("called")

    monkeypatch.setattr(Sampler, "__call__", forbidden)
    monkeypatch.setattr(LettersRanker, "__call__", forbidden)
    pair(run, [SIX])
    assert len(list((run / "pairings").glob("*.parquet"))) == 6


def test_no_model_library_is_imported(run):
    code = (
        "import sys; from sparring.cli.main import main;"
        "sys.argv[1:] = ['pair', sys.argv[1], 'pairing=random_as_many'];"
        "main(); print({'torch', 'transformers', 'lightning'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code, str(run)], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"


def test_pairs_are_those_that_a_round_makes_with_that_pairing(run):
    # The rounds were paired by win rates that lie 0.05 apart, where no defect is chosen and no text repeated.
    same = ["min_positive=null", "tie=null", "loses_directly=null"]
    margins = [f"margin.{kind}=0.05" for kind in ("teacher_positive", "student_positive", "student_vs_student")]
    pair(run, ["pairing=dno_margin", *(f"pairing.filters.{change}" for change in (*same, *margins))])
    store = RoundStore(run / "rounds")
    own = [row for index in (0, 1) for row in rows(store, index, "pairs") if row["source_round"] == index]
    [path] = (run / "pairings").glob("*.parquet")

    def key(row: dict) -> tuple:
        return row["source_round"], row["prompt_id"], row["chosen_index"], row["rejected_index"]

    assert sorted(table(run, path.stem), key=key) == sorted(own, key=key)


def test_a_table_comes_with_what_it_was_made_of(run):
    pair(run, ["pairing=spin", "rounds=1"])
    said, store = manifest(run, "spin+rounds-1"), RoundStore(run / "rounds")
    assert said["overrides"] == ["pairing=spin"]
    assert "TeacherWins" in said["pairing"]
    assert said["rounds"] == {"1": store.manifest_hash(1)}
    pairs = table(run, "spin+rounds-1")
    assert said["files"]["spin+rounds-1.parquet"]["rows"] == len(pairs) == 12  # 4 prompts with a teacher, 3 samples
    assert {row["source_round"] for row in pairs} == {1}
    assert sum(Funnel.from_dict(said["funnel"]).kept.values()) == 12


def test_lists_make_every_combination(run, capsys):
    pair(run, ["pairing=best_vs_worst,all_pairs", "pairing.filters.max_length.max_tokens=12,2048"])
    names = {path.stem for path in (run / "pairings").glob("*.parquet")}
    assert names == {
        f"{option}+max_length.max_tokens-{tokens}" for option in ("best_vs_worst", "all_pairs") for tokens in (12, 2048)
    }
    output = capsys.readouterr().out
    assert "max_length" in output
    assert "mean longer by" in output


def test_without_an_option_the_runs_own_pairing_is_changed(run):
    pair(run, ["pairing.filters.min_positive.threshold=0.4,0.9"])
    low, high = (len(table(run, f"own+min_positive.threshold-{threshold}")) for threshold in (0.4, 0.9))
    assert low > high
    assert "teacher_positive: 0.2" in manifest(run, "own+min_positive.threshold-0.4")["pairing"]


def test_win_rate_modes_are_read_off_the_stored_logits(run):
    pair(run, ["pairing=best_vs_worst", "pairing.win_rate_mode=pairwise_sym,aggregated_code"])
    soft, sharp = (table(run, f"best_vs_worst+win_rate_mode-{mode}") for mode in ("pairwise_sym", "aggregated_code"))
    assert len(soft) == len(sharp) > 0
    # The ranker is transitive, so that the released code doubles all of its logits.
    for one, other in zip(soft, sharp, strict=True):
        odds = one["win"] / (1 - one["win"])
        assert other["win"] == pytest.approx(odds**2 / (1 + odds**2))


def test_the_same_command_again_makes_the_same_tables(run):
    pair(run, ["pairing=random_as_many"])
    first = table(run, "random_as_many")
    pair(run, ["pairing=random_as_many"])
    assert table(run, "random_as_many") == first
    assert "seed: 3" in manifest(run, "random_as_many")["pairing"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["pairing=foo"], "there is no pairing=foo; choose one of all_pairs, best_vs_worst"),
        (["pairing.filters.foo=1"], "pairing.filters has no key 'foo'"),
        (["pairing.filters.min_positive.threshold=x"], "threshold is 'x'; it must be a number"),
        (["pairing=spin", "pairing=sppo"], "pairing is given twice; for several constructions write pairing=A,B."),
        (["model=hf"], "sparring pair changes the pairing only, and 'model=hf' is something else"),
        (["rounds=2"], "has the finished rounds 0 to 1, and '2' is none of them"),
        (["pairing=spin,spin"], "would both be called spin"),
        (["foo"], "the argument 'foo' cannot be read"),
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_leaves_nothing(run, capsys, arguments, sentence):
    assert sentence in refusal(run, *arguments, capsys=capsys)
    assert not (run / "pairings").exists()


def test_a_mode_that_the_judgements_cannot_serve_leaves_no_table_at_all(run, capsys):
    store = RoundStore(run / "rounds")
    path = store.table(1, "judgements")
    judged = [row | {"logits": None} for row in rows(store, 1, "judgements")]
    pq.write_table(pa.Table.from_pylist(judged, JUDGEMENTS), path)
    facts = store.manifest(1)
    store.finish(1, ("candidates", "judgements", "pairs"), {k: v for k, v in facts.items() if k != "files"})
    complaint = refusal(run, "pairing.win_rate_mode=pairwise_sym,aggregated_code", capsys=capsys)
    assert "aggregated_code needs a pair ranker's logits" in complaint
    assert list((run / "pairings").iterdir()) == []


@pytest.mark.parametrize("arguments", [[], ["pairing=spin"]])
def test_a_configuration_that_cannot_be_read_is_refused(run, capsys, arguments):
    (run / "config.yaml").write_text("{{{")
    assert "config.yaml cannot be read" in refusal(run, *arguments, capsys=capsys)


def test_other_pairs_of_the_same_name_are_not_overwritten(run, capsys):
    pair(run, ["pairing.filters.tie=null"])
    path = run / "pairings/own+tie-null.json"
    path.write_text(path.read_text().replace("student_positive: 0.1", "student_positive: 0.3"))
    assert "describes other pairs of the same name" in refusal(run, "pairing.filters.tie=null", capsys=capsys)


def test_runs_without_judgements_or_rounds_are_refused(run, tmp_path):
    with pytest.raises(DataError, match="holds no run"):
        pair(tmp_path / "nothing", [])
    store = RoundStore(run / "rounds")
    facts = {name: value for name, value in store.manifest(0).items() if name != "files"}
    store.finish(0, ("pairs",), facts)
    with pytest.raises(DataError, match=r"round 0 of .* has no judgements to pair anew"):
        pair(run, [])
    (store.directory(0) / "manifest.json").unlink()
    with pytest.raises(DataError, match="has no finished round yet"):
        pair(run, [])
