"""Training a tiny model: gradients, data, resume, collapse, result folder, command."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch: pip install 'trivec[train]'")

from random_checkpoint import write_random_checkpoint  # noqa: E402
from trivec import M3Model  # noqa: E402
from trivec.checkpoint import open_checkpoint  # noqa: E402
from trivec.checkpoint.safetensors_file import read_safetensors  # noqa: E402
from trivec.checkpoint.tokenizer import M3Tokenizer  # noqa: E402
from trivec.training import trainable_encoder as encoder_module  # noqa: E402
from trivec.training import trainer as trainer_module  # noqa: E402
from trivec.training.batches import TokenBatch  # noqa: E402
from trivec.training.fine_tune import BatchSettings, fine_tune  # noqa: E402
from trivec.training.gradients import backward  # noqa: E402
from trivec.training.held_out_scores import HeldOut  # noqa: E402
from trivec.training.losses import LossSettings  # noqa: E402
from trivec.training.result_folder import (  # noqa: E402
    ResultError,
    check_model_folder,
    load_trainable,
    write_model_folder,
)
from trivec.training.run_folder import RunFolder  # noqa: E402
from trivec.training.trainer import Trainer, TrainingError, TrainingSettings  # noqa: E402
from trivec.training.training_data import DataError, JsonlBatches, find_files  # noqa: E402

WORDS = ["boat", "lake", "ice", "sail", "wind", "sun", "fish", "bird", "tree", "road", "house", "door", "bread", "salt"]


def write_examples(path: Path, count: int, seed: int = 0, *, negatives: int = 2, scores: bool = False) -> Path:
    """Queries of three words whose right passage has them among five more."""
    draw = np.random.default_rng(seed)
    with path.open("w", encoding="utf-8") as file:
        for _ in range(count):
            query = draw.choice(WORDS, 3, replace=False).tolist()
            right = draw.permutation([*query, *draw.choice(WORDS, 5)]).tolist()
            wrong = [" ".join(draw.choice(WORDS, 8)) for _ in range(negatives)]
            record = {"query": " ".join(query), "pos": [" ".join(right)], "neg": wrong}
            if scores:
                record |= {"pos_scores": [2.0], "neg_scores": [0.5] * negatives}
            file.write(json.dumps(record) + "\n")
    return path


def random_batch(seed: int, *, texts: int = 5, group: int = 2, longest: int = 12) -> TokenBatch:
    draw = np.random.default_rng(seed)

    def text() -> list[int]:
        return [0, *draw.integers(4, 60, draw.integers(1, longest)).tolist(), 2]

    return TokenBatch("test", [text() for _ in range(texts)], [text() for _ in range(texts * group)])


class RandomBatches:
    """A source of batches that needs no files."""

    def batch(self, step: int) -> TokenBatch:
        return random_batch(step)


def weights_of(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def assert_equal_weights(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


def gradients(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("part_size", [1, 3, 100])
def test_parts_of_a_batch_give_the_whole_batchs_loss_and_gradients(tiny_checkpoint: Path, part_size: int):
    found = []
    for size in (None, part_size):
        model = load_trainable(tiny_checkpoint)
        result = backward(model, random_batch(1), LossSettings(), part_size=size)
        found.append((result, gradients(model)))
    (whole, wanted), (parts, got) = found
    assert parts.loss == pytest.approx(whole.loss, abs=1e-5)
    assert parts.nonzero_share == pytest.approx(whole.nonzero_share)
    for name, gradient in wanted.items():
        assert torch.allclose(got[name], gradient, atol=1e-5 * max(1.0, float(gradient.abs().max()))), name


def test_checkpointed_gradients_and_long_text_attention_change_nothing(
    tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
):
    found = []
    for checkpointed, plain_length in ((False, 512), (True, 512), (False, 4)):
        monkeypatch.setattr(encoder_module, "PLAIN_ATTENTION_LENGTH", plain_length)
        model = load_trainable(tiny_checkpoint)
        model.encoder.checkpoint_gradients = checkpointed
        backward(model, random_batch(2), LossSettings())
        found.append(gradients(model))
    for other in found[1:]:
        for name, gradient in found[0].items():
            assert torch.allclose(other[name], gradient, atol=1e-5 * max(1.0, float(gradient.abs().max()))), name


def test_padding_does_not_change_the_loss(tiny_checkpoint: Path):
    model = load_trainable(tiny_checkpoint)
    losses = [backward(model, random_batch(3), LossSettings(), pad_multiple=m).loss for m in (1, 64)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def test_trainable_model_gives_the_inference_engines_vectors(tiny_checkpoint: Path):
    worst = check_model_folder(load_trainable(tiny_checkpoint), tiny_checkpoint, ["a boat on a lake", "", "船在湖上"])
    assert worst < 1e-5


def test_training_leaves_out_the_ids_that_the_tokenizer_says_have_no_weight(tiny_checkpoint: Path, tmp_path: Path):
    folder = shutil.copytree(tiny_checkpoint, tmp_path / "other")
    content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    pieces = content["model"]["vocab"]
    word = next(i for i, (piece, _) in enumerate(pieces) if piece == "▁boat" or (i > 3 and piece == "▁the"))
    pieces[3], pieces[word] = pieces[word], pieces[3]  # <unk> and a word change places
    content["model"]["unk_id"] = word
    next(token for token in content["added_tokens"] if token["content"] == "<unk>")["id"] = word
    (folder / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    tokenizer = M3Tokenizer(folder / "tokenizer.json")
    text = f"{pieces[3][0][1:]} 字 \ue000"
    ids = tokenizer.encode_batch([text], 16).token_ids[0].tolist()
    assert {3, word} <= set(ids)
    model = load_trainable(folder)
    torch.nn.init.constant_(model.sparse_linear.bias, 1.0)  # so that every token would have some
    with torch.no_grad():
        weights = model(torch.tensor([ids]), torch.ones(1, len(ids), dtype=torch.int64)).weights[0]
    assert [token_id for token_id, weight in zip(ids, weights, strict=True) if weight == 0] == [
        token_id for token_id in ids if token_id in tokenizer.unused_ids
    ]
    write_model_folder(model, tmp_path / "out", folder)
    assert check_model_folder(model, tmp_path / "out", [text]) < 1e-5


def test_a_resumed_run_ends_with_the_same_bits(tiny_checkpoint: Path, tmp_path: Path):
    settings = TrainingSettings(steps=6, learning_rate=1e-3, warmup_steps=2, save_every=3)
    straight = load_trainable(tiny_checkpoint)
    Trainer(straight, RandomBatches(), settings, RunFolder(tmp_path / "straight"), show_progress=False).run()

    class Killed(RandomBatches):
        def batch(self, step: int) -> TokenBatch:
            if step == 5:  # two steps behind the checkpoint
                raise KeyboardInterrupt
            return super().batch(step)

    folder = RunFolder(tmp_path / "resumed")
    with pytest.raises(KeyboardInterrupt):
        Trainer(load_trainable(tiny_checkpoint), Killed(), settings, folder, show_progress=False).run()
    resumed = load_trainable(tiny_checkpoint)
    progress = Trainer(resumed, RandomBatches(), settings, folder, show_progress=False).run()

    assert progress.step == 6
    assert_equal_weights(weights_of(resumed), weights_of(straight))
    logs = [list(csv.DictReader((tmp_path / run / "log.csv").open())) for run in ("straight", "resumed")]
    assert [row["loss"] for row in logs[0]] == [row["loss"] for row in logs[1]]
    assert [int(row["step"]) for row in logs[1]] == [1, 2, 3, 4, 5, 6]
    assert {"loss_dense", "loss_sparse", "loss_colbert", "loss_sum", "nonzero_weights", "tokens_per_second"} <= set(
        logs[0][0]
    )


def test_training_finds_the_right_passages_more_often(tmp_path: Path):
    checkpoint = write_random_checkpoint(tmp_path / "start", sparse_bias=0.3)
    train = write_examples(tmp_path / "train.jsonl", 200)
    held_out = write_examples(tmp_path / "held_out.jsonl", 40, seed=1)
    loss = LossSettings(temperature=0.05)
    before = HeldOut(held_out, M3Tokenizer(checkpoint / "tokenizer.json")).figures(load_trainable(checkpoint), loss)
    progress = fine_tune(
        checkpoint,
        [train],
        tmp_path / "result",
        TrainingSettings(steps=60, learning_rate=1e-3, warmup_steps=5, evaluate_every=30, loss=loss),
        batches=BatchSettings(batch_size=16, group_size=3),
        held_out=held_out,
        show_progress=False,
    )
    rows = list(csv.DictReader((tmp_path / "result" / "run" / "log.csv").open()))
    first, last = (np.mean([float(row["loss"]) for row in part]) for part in (rows[:5], rows[-5:]))
    assert last < first
    assert progress.best_name == "ndcg@10 sum"
    assert progress.best_value > before["ndcg@10 sum"]
    assert (tmp_path / "result" / "run" / "losses.svg").read_text().startswith("<?xml")
    with M3Model.load(tmp_path / "result") as model:
        texts = [" ".join(WORDS), "a boat"]
        embeddings = model.encode(texts, return_colbert_vecs=True, show_progress=False)
    assert embeddings.dense.shape == (2, 32)
    assert embeddings.sparse.shape[0] == len(embeddings.colbert_vecs) == 2
    fusion = open_checkpoint(tmp_path / "result").config.fusion_weights
    assert fusion is not None
    assert ndcg_of_sum(tmp_path / "result", held_out, fusion) >= ndcg_of_sum(tmp_path / "result", held_out, (1, 0.3, 1))


def ndcg_of_sum(folder: Path, held_out: Path, weights: tuple[float, float, float]) -> float:
    examples = HeldOut(held_out, M3Tokenizer(folder / "tokenizer.json"))
    return examples.figures(load_trainable(folder), LossSettings(sum_weights=weights))["ndcg@10 sum"]


def test_fine_tuning_keeps_the_fusion_weights_it_cannot_choose(tiny_checkpoint: Path, tmp_path: Path):
    start = tmp_path / "start"
    write_model_folder(load_trainable(tiny_checkpoint), start, tiny_checkpoint, fusion_weights=(0.5, 2.0, 1.0))
    train = write_examples(tmp_path / "train.jsonl", 8)
    fine_tune(start, [train], tmp_path / "result", TrainingSettings(steps=1), show_progress=False)
    assert open_checkpoint(tmp_path / "result").config.fusion_weights == (0.5, 2.0, 1.0)


def test_the_best_weights_are_kept_not_the_last(tiny_checkpoint: Path, tmp_path: Path):
    kept: list[dict[str, torch.Tensor]] = []

    def evaluate(model: torch.nn.Module) -> dict[str, float]:
        kept.append(weights_of(model))
        return {"figure": [0.1, 0.9, 0.5][len(kept) - 1]}

    model = load_trainable(tiny_checkpoint)
    settings = TrainingSettings(steps=6, learning_rate=1e-3, evaluate_every=2)
    folder = RunFolder(tmp_path / "run")
    progress = Trainer(model, RandomBatches(), settings, folder, evaluate=evaluate, show_progress=False).run()
    assert (progress.best_step, progress.best_value) == (4, 0.9)
    assert_equal_weights(weights_of(model), kept[1])
    assert read_safetensors(folder.path / "best.safetensors").keys() == kept[1].keys()


def test_heads_not_trained_keep_their_weights_and_reach_the_result(tiny_checkpoint: Path, tmp_path: Path):
    train = write_examples(tmp_path / "train.jsonl", 16)
    settings = TrainingSettings(steps=2, learning_rate=1e-3, loss=LossSettings(heads=("dense",)))
    fine_tune(tiny_checkpoint, [train], tmp_path / "result", settings, show_progress=False)
    before, after = load_trainable(tiny_checkpoint), load_trainable(tmp_path / "result")
    assert torch.equal(before.sparse_linear.weight, after.sparse_linear.weight)
    assert torch.equal(before.colbert_linear.weight, after.colbert_linear.weight)
    word_embeddings = "encoder.embeddings.word_embeddings.weight"
    assert not torch.equal(before.state_dict()[word_embeddings], after.state_dict()[word_embeddings])


def test_a_frozen_encoder_stays_as_it_is(tiny_checkpoint: Path, tmp_path: Path):
    model = load_trainable(tiny_checkpoint)
    before = weights_of(model)
    settings = TrainingSettings(steps=2, learning_rate=1e-2, freeze_encoder=True)
    Trainer(model, RandomBatches(), settings, RunFolder(tmp_path), show_progress=False).run()
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {f"{head}_linear.{part}" for head in ("sparse", "colbert") for part in ("weight", "bias")}


@pytest.mark.parametrize("bias", [-100.0, 100.0], ids=["nothing", "everything alike"])
def test_collapsed_lexical_weights_stop_the_run(
    tiny_checkpoint: Path, tmp_path: Path, bias: float, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(trainer_module, "COLLAPSE_STEPS", 3)
    model = load_trainable(tiny_checkpoint)
    with torch.no_grad():
        model.sparse_linear.weight.mul_(1e-3)
        model.sparse_linear.bias.fill_(bias)
    settings = TrainingSettings(steps=10, loss=LossSettings(temperature=1e6))
    with pytest.raises(TrainingError, match="lexical weights have collapsed"):
        Trainer(model, RandomBatches(), settings, RunFolder(tmp_path), show_progress=False).run()
    assert len(list(csv.DictReader((tmp_path / "log.csv").open()))) == 2


def test_a_written_folder_that_differs_is_reported(tiny_checkpoint: Path, tmp_path: Path):
    model = load_trainable(tiny_checkpoint)
    write_model_folder(model, tmp_path, tiny_checkpoint)
    with torch.no_grad():
        model.colbert_linear.bias.add_(0.5)
    with pytest.raises(ResultError, match="other vectors"):
        check_model_folder(model, tmp_path, ["a boat"])


def test_fusion_weights_are_stored_in_the_config(tiny_checkpoint: Path, tmp_path: Path):
    write_model_folder(load_trainable(tiny_checkpoint), tmp_path, tiny_checkpoint, fusion_weights=(0.5, 2.0, 1.0))
    assert json.loads((tmp_path / "config.json").read_text())["trivec"] == {"fusion_weights": [0.5, 2.0, 1.0]}


@pytest.mark.parametrize("half", [False, True])
def test_the_safetensors_package_reads_what_was_written_and_finds_nothing_more(
    tiny_checkpoint: Path, tmp_path: Path, half: bool
):
    package = pytest.importorskip("safetensors.torch")
    model = load_trainable(tiny_checkpoint)
    write_model_folder(model, tmp_path, tiny_checkpoint, half=half)
    kept = weights_of(model.encoder)
    wanted = {name: tensor.half() if half else tensor for name, tensor in kept.items()}
    assert_equal_weights(package.load_file(tmp_path / "model.safetensors"), wanted)
    with package.safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}


# Data


@pytest.fixture(scope="module")
def tokenizer(tiny_checkpoint: Path) -> M3Tokenizer:
    return M3Tokenizer(tiny_checkpoint / "tokenizer.json")


def test_an_epoch_has_every_line_once_and_one_file_a_batch(tmp_path: Path, tokenizer: M3Tokenizer):
    files = [write_examples(tmp_path / f"{name}.jsonl", 24, seed) for seed, name in enumerate("ab")]
    source = JsonlBatches(files, tokenizer, batch_size=8, group_size=2, seed=3)
    assert source.batches_per_epoch == 6
    batches = [source.batch(step) for step in range(6)]
    for file in files:
        expected = [json.loads(line)["query"] for line in file.open()]
        queries = [tuple(q) for batch in batches if batch.source == file.name for q in batch.queries]
        assert sorted(queries) == sorted(tuple(ids.tolist()) for ids in tokenizer.encode_batch(expected, 64).token_ids)
    assert source.batch(2) == batches[2]
    assert [b.queries for b in batches] != [source.batch(step).queries for step in range(6, 12)]


def test_a_batch_holds_texts_of_about_the_same_length(tmp_path: Path, tokenizer: M3Tokenizer):
    with (tmp_path / "mixed.jsonl").open("w") as file:
        for number in range(64):
            text = "boat " * (4 if number % 2 else 60)
            file.write(json.dumps({"query": f"{WORDS[number % len(WORDS)]} {text}", "pos": [text]}) + "\n")
    source = JsonlBatches([tmp_path / "mixed.jsonl"], tokenizer, batch_size=8)
    for step in range(source.batches_per_epoch):
        lengths = [len(ids) for ids in source.batch(step).passages]
        assert max(lengths) - min(lengths) < 8


def test_teacher_scores_and_hard_negatives_reach_the_batch(tmp_path: Path, tokenizer: M3Tokenizer):
    file = write_examples(tmp_path / "scored.jsonl", 4, negatives=1, scores=True)
    batch = JsonlBatches([file], tokenizer, batch_size=4, group_size=3).batch(0)
    assert len(batch.passages) == 12
    assert repr(batch) == f"TokenBatch('scored.jsonl', 4 queries, 12 passages, {batch.tokens} tokens)"
    assert batch.teacher_scores == [[2.0, 0.5, 0.5]] * 4
    plain = write_examples(tmp_path / "plain.jsonl", 4, negatives=0)
    batch = JsonlBatches([plain], tokenizer, batch_size=4, group_size=3).batch(0)
    assert (len(batch.passages), batch.teacher_scores) == (4, None)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"pos": ["a"]}', "query"),
        ('{"query": "a", "pos": "a"}', "list"),
        ('{"query": "a", "pos": []}', "at least one"),
        ('{"query": "a", "pos": ["b"], "pos_scores": [1, 2]}', "2 numbers for 1 texts"),
        ('{"query": "a", "pos": ["b"], "pos_scores": [NaN]}', "`pos_scores` holds nan"),
        ('["a", "b"]', "a list, not a JSON object"),
        ("{broken", "bad.jsonl:1: "),
        ("", "no examples"),
    ],
)
def test_bad_lines_are_named(tmp_path: Path, tokenizer: M3Tokenizer, line: str, message: str):
    (tmp_path / "bad.jsonl").write_text(line + "\n")
    with pytest.raises(DataError, match=message):
        JsonlBatches([tmp_path / "bad.jsonl"], tokenizer)


def test_a_bad_line_anywhere_is_told_before_anything_is_trained(tiny_checkpoint: Path, tmp_path: Path):
    data = write_examples(tmp_path / "data.jsonl", 8)
    data.write_text(data.read_text() + '\n{"query": "a", "pos": [7]}\n' + data.read_text())
    settings = TrainingSettings(steps=1)
    with pytest.raises(DataError, match=r"data\.jsonl:10: `pos` and `neg` must hold texts"):
        fine_tune(tiny_checkpoint, [data], tmp_path / "out", settings, show_progress=False)
    assert not (tmp_path / "out").exists()


def test_folders_are_searched_and_missing_paths_named(tmp_path: Path):
    (tmp_path / "deep").mkdir()
    write_examples(tmp_path / "deep" / "b.jsonl", 1)
    write_examples(tmp_path / "a.jsonl", 1)
    assert [file.name for file in find_files([tmp_path])] == ["a.jsonl", "b.jsonl"]
    with pytest.raises(DataError, match="does not exist"):
        find_files([tmp_path / "nowhere"])


def test_settings_that_make_no_sense_are_refused(tiny_checkpoint: Path, tmp_path: Path):
    with pytest.raises(ValueError, match="heads"):
        LossSettings(heads=("dense", "lexical"))
    with pytest.raises(ValueError, match="steps"):
        TrainingSettings(steps=0)
    frozen = replace(TrainingSettings(steps=1), freeze_encoder=True, loss=LossSettings(heads=("dense",)))
    with pytest.raises(ValueError, match="nothing to train"):
        Trainer(load_trainable(tiny_checkpoint), RandomBatches(), frozen, RunFolder(tmp_path))


# One run after another into the same folder


@pytest.fixture
def first_run(tiny_checkpoint: Path, tmp_path: Path):
    """A finished run, and a function that gives the same or another one into its folder."""
    data = write_examples(tmp_path / "a.jsonl", 8)

    def train(model=tiny_checkpoint, files=(data,), held_out=None, out=tmp_path / "out", batch_size=4, **settings):
        settings = TrainingSettings(**{"steps": 2, "learning_rate": 1e-3} | settings)
        cut = BatchSettings(batch_size=batch_size, group_size=2)
        return fine_tune(model, list(files), out, settings, batches=cut, held_out=held_out, show_progress=False)

    train()
    return train


def result(folder: Path) -> dict[str, torch.Tensor]:
    stored = read_safetensors(folder / "out" / "model.safetensors")
    return {name: torch.from_numpy(tensor.data.copy()) for name, tensor in stored.items()}


def test_a_run_with_other_data_is_refused_and_leaves_the_first_as_it_was(first_run, tmp_path: Path):
    before = result(tmp_path)
    other = write_examples(tmp_path / "b.jsonl", 8, seed=1)
    with pytest.raises(
        TrainingError, match=r"the data was .*a\.jsonl \(SHA-256 \w{12}\) and is .*b\.jsonl \(SHA"
    ) as told:
        first_run(files=[other])
    for remedy in ("Give the same again", "choose another folder for the result", f"delete {tmp_path / 'out' / 'run'}"):
        assert remedy in str(told.value)
    assert "model" not in str(told.value).partition("Give")[0]
    assert_equal_weights(result(tmp_path), before)
    assert first_run(files=[other], out=tmp_path / "another").step == 2


def test_data_that_was_changed_in_place_is_other_data(first_run, tmp_path: Path):
    write_examples(tmp_path / "a.jsonl", 8, seed=1)
    with pytest.raises(TrainingError, match=r"the data was .*a\.jsonl .* and is .*a\.jsonl"):
        first_run()


def test_data_under_another_name_is_the_same_data(first_run, tmp_path: Path):
    moved = (tmp_path / "a.jsonl").rename(tmp_path / "moved.jsonl")
    assert first_run(files=[moved]).resumed_step == 2


def test_files_more_or_fewer_are_told_as_lists(first_run, tmp_path: Path):
    more = write_examples(tmp_path / "b.jsonl", 8, seed=1)
    with pytest.raises(TrainingError, match=r"was \S*a\.jsonl \(SHA-256 \w+\) and is \S*a\.jsonl \(.*b\.jsonl \("):
        first_run(files=[tmp_path / "a.jsonl", more])


def test_another_model_is_refused_even_in_the_same_folder(tiny_checkpoint: Path, first_run, tmp_path: Path):
    other = write_random_checkpoint(tmp_path / "other", seed=5)
    with pytest.raises(TrainingError, match=r"the model was \S*tiny \(SHA-256 \w+\) and is \S*other \(SHA-256"):
        first_run(model=other)


def test_every_setting_that_changes_the_result_is_named_with_both_values(first_run, tmp_path: Path):
    held_out = write_examples(tmp_path / "held_out.jsonl", 4, seed=2)
    settings = {"steps": 3, "learning_rate": 2e-3, "loss": LossSettings(heads=("dense", "sparse"), temperature=0.05)}
    with pytest.raises(TrainingError) as told:
        first_run(held_out=held_out, batch_size=3, **settings)
    for difference in (
        "steps was 2 and is 3",
        "learning rate was 0.001 and is 0.002",
        "temperature was 0.02 and is 0.05",
        "loss heads was dense, sparse, colbert and is dense, sparse",
        "batch size was 4 and is 3",
        "the held-out data was none and is ",
    ):
        assert difference in str(told.value)
    assert "data was a.jsonl" not in str(told.value)


def test_what_does_not_change_the_result_may_change_between_resumes(first_run):
    assert first_run(part_size=2, checkpoint_gradients=True, save_every=1).resumed_step == 2


def test_a_run_that_did_not_record_its_inputs_is_not_gone_on_with(first_run, tmp_path: Path):
    for damage in ("", "[]", '{"model": 1}', None):
        inputs = tmp_path / "out" / "run" / "inputs.json"
        inputs.unlink() if damage is None else inputs.write_text(damage)
        with pytest.raises(TrainingError, match=r"no inputs\.json that says what it was begun with"):
            first_run()


def test_a_run_that_never_saved_a_checkpoint_is_begun_anew_with_whatever_is_given(first_run, tmp_path: Path):
    (tmp_path / "out" / "run" / "checkpoint.pt").unlink()
    other = write_examples(tmp_path / "b.jsonl", 8, seed=1)
    assert first_run(files=[other]).resumed_step == 0
    assert first_run(files=[other]).resumed_step == 2


def test_a_head_that_the_result_does_not_have_does_not_stay_from_an_earlier_model(
    tiny_checkpoint: Path, tmp_path: Path
):
    write_model_folder(load_trainable(tiny_checkpoint), tmp_path / "result", tiny_checkpoint)
    start = write_random_checkpoint(tmp_path / "start", heads=())
    write_model_folder(load_trainable(start, ["dense"]), tmp_path / "result", start)
    assert open_checkpoint(tmp_path / "result").sparse_linear is None
    assert open_checkpoint(tmp_path / "result").colbert_linear is None


# bfloat16


@pytest.mark.parametrize("native", [True, False])
def test_bfloat16_is_what_the_processor_says_unless_told(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, native: bool
):
    monkeypatch.setattr(trainer_module, "has_bf16", lambda: native)

    def weights(bf16: bool | None, name: str) -> dict[str, torch.Tensor]:
        model = load_trainable(tiny_checkpoint)
        settings = TrainingSettings(steps=2, learning_rate=1e-3, bf16=bf16)
        Trainer(model, RandomBatches(), settings, RunFolder(tmp_path / name), show_progress=False).run()
        return weights_of(model)

    unasked = weights(None, "unasked")
    assert_equal_weights(unasked, weights(native, "told"))
    if native:
        exact = weights(False, "exact")
        assert any(not torch.equal(exact[name], tensor) for name, tensor in unasked.items())
    else:
        with pytest.warns(UserWarning, match="no instructions for bfloat16"):
            slow = weights(True, "slow")
        assert any(not torch.equal(slow[name], tensor) for name, tensor in unasked.items())


def test_a_run_that_goes_on_in_another_precision_is_refused(first_run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    first_run(out=tmp_path / "exact", bf16=False)
    monkeypatch.setattr(trainer_module, "has_bf16", lambda: True)
    with pytest.raises(TrainingError, match="bf16 was False and is True"):
        first_run(out=tmp_path / "exact")


@pytest.mark.parametrize("rate", [0.0, -1e-5, float("nan"), float("inf")])
def test_a_learning_rate_that_cannot_train_is_refused(rate: float):
    with pytest.raises(ValueError, match=r"learning rate must be a number above 0, not"):
        TrainingSettings(steps=1, learning_rate=rate)


@pytest.mark.parametrize(
    "settings",
    [{"temperature": float("nan")}, {"sum_weights": (1, -1, 1)}, {"loss_weights": (1, float("nan"), 1)}],
    ids=str,
)
def test_a_loss_that_cannot_be_computed_is_refused(settings: dict):
    with pytest.raises(ValueError, match=next(iter(settings)).replace("_", " ")):
        LossSettings(**settings)


def test_a_result_that_is_a_file_is_refused_before_the_work(tiny_checkpoint: Path, tmp_path: Path):
    data = write_examples(tmp_path / "data.jsonl", 8)
    with pytest.raises(NotADirectoryError, match=r"data\.jsonl is a file"):
        fine_tune(tiny_checkpoint, [data], data, TrainingSettings(steps=1), show_progress=False)
    with pytest.raises(DataError, match="nowhere does not exist"):
        fine_tune(tiny_checkpoint, [data], tmp_path / "out", TrainingSettings(steps=1), held_out=tmp_path / "nowhere")


def test_the_command_trains_and_says_what_came_out(tiny_checkpoint: Path, tmp_path: Path):
    import typer
    from typer.testing import CliRunner

    from trivec.cli.train import train

    app = typer.Typer()
    app.command()(train)
    data = write_examples(tmp_path / "data.jsonl", 8)
    options = ["--steps", "2", "--batch-size", "4", "--group-size", "2", "--heads", "dense,sparse", "--half"]
    out = tmp_path / "result"
    done = CliRunner().invoke(app, [str(data), "--model", str(tiny_checkpoint), "--out", str(out), *options])
    assert done.exit_code == 0, done.output
    assert "2 steps" in done.output
    assert "nothing was trained now" not in done.output
    again = CliRunner().invoke(app, [str(data), "--model", str(tiny_checkpoint), "--out", str(out), *options])
    assert again.exit_code == 0
    assert "already finished: nothing was trained now" in again.output
    assert {"config.json", "tokenizer.json", "model.safetensors", "sparse_linear.pt", "colbert_linear.pt"} <= {
        file.name for file in out.iterdir()
    }
    wrong = CliRunner().invoke(app, [str(data), "--model", str(tiny_checkpoint), "--out", str(out), "--heads", "x"])
    assert wrong.exit_code == 2
    assert "heads must be" in wrong.output
