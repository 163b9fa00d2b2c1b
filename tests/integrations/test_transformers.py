"""The callback in Hugging Face's Trainer: it trains as a plain loop does, and continues bit for bit."""

import json
import shutil

import pytest
import torch
from integration_cases import MAKERS, same, weights
from torch import nn

import regrow

pytest.importorskip("accelerate")
transformers = pytest.importorskip("transformers")
from regrow.integrations.transformers import RegrowCallback  # noqa: E402

pytestmark = [pytest.mark.filterwarnings("ignore:.*pin_memory.*:UserWarning")]
every_method = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS.keys())


@pytest.fixture(autouse=True)
def _quiet(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    transformers.logging.set_verbosity_error()


class Classifier(nn.Module):
    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.net = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3))

    def forward(self, x, labels):
        logits = self.net(x)
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


def data():
    g = torch.Generator().manual_seed(5)
    x, y = torch.randn(128, 6, generator=g), torch.randint(3, (128,), generator=g)
    return [{"x": a, "labels": b} for a, b in zip(x, y)]


def trainer(model, callback, folder, steps=24, callbacks=(), **more):
    arguments = transformers.TrainingArguments(
        output_dir=str(folder), per_device_train_batch_size=8, max_steps=steps, learning_rate=0.01,
        lr_scheduler_type="constant", save_steps=8, logging_steps=4, report_to="none", disable_tqdm=True,
        use_cpu=True, seed=3, **more,
    )  # fmt: skip
    return transformers.Trainer(model, arguments, train_dataset=data(), callbacks=[callback, *callbacks])


def gpt2(seed=0):
    torch.manual_seed(seed)
    config = transformers.GPT2Config(
        n_layer=1, n_head=2, n_embd=16, vocab_size=11, n_positions=8, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0
    )
    return transformers.GPT2LMHeadModel(config)


SETTINGS = {"plain": {}, "accumulated": {"gradient_accumulation_steps": 3}, "bf16": {"bf16": True}}


@every_method
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS.keys())
def test_a_resumed_run_is_the_one_that_never_stopped(make, settings, tmp_path):
    whole, never_stopped = Classifier(), RegrowCallback(make)
    trainer(whole, never_stopped, tmp_path / "whole", **settings).train()

    trainer(Classifier(), RegrowCallback(make), tmp_path / "parts", steps=16, **settings).train()
    resumed, callback = Classifier(seed=1), RegrowCallback(make)
    run = trainer(resumed, callback, tmp_path / "parts", **settings)
    run.train(resume_from_checkpoint=True)

    assert never_stopped.report() == callback.report()
    assert same(never_stopped._group.state_dict(), callback._group.state_dict())
    assert same(weights(whole), weights(resumed))
    assert callback.maintainers[0].report()["steps"] == 24 and callback.maintainers[0].report()["renewals"] > 0


@every_method
def test_it_trains_as_a_plain_loop_does(make, tmp_path):
    model, callback = Classifier(), RegrowCallback(make)
    run = trainer(model, callback, tmp_path, max_grad_norm=0, optim="adamw_torch")
    batches = [{key: value.clone() for key, value in batch.items()} for batch in run.get_train_dataloader()]
    run.train()

    plain = Classifier()
    optimizer = torch.optim.AdamW(plain.parameters(), lr=0.01, weight_decay=0)
    kept = make(plain)
    kept = [m.attach(optimizer) for m in (kept if isinstance(kept, list) else [kept])]
    for step in range(16):
        optimizer.zero_grad()
        plain(**batches[step])["loss"].backward()
        optimizer.step()
    assert kept[0].report()["renewals"] > 0
    stored = torch.load(tmp_path / "checkpoint-16" / "regrow.pt", weights_only=True)
    assert same([m.state_dict() for m in kept], [member["state"] for member in stored["maintainers"]])


@pytest.mark.filterwarnings("ignore:laws read off the values")  # GPT-2 has an initialisation of its own
@every_method
def test_a_language_model_with_tied_weights(make, tmp_path):
    tokens = torch.randint(11, (128, 8), generator=torch.Generator().manual_seed(1))
    text = [{"input_ids": row, "labels": row} for row in tokens]

    def train(model, callback, folder, steps, **more):
        run = trainer(model, callback, folder, steps)
        run.train_dataset = text
        run.train(**more)

    whole, never_stopped = gpt2(), RegrowCallback(make)
    train(whole, never_stopped, tmp_path / "whole", 16)
    train(gpt2(), RegrowCallback(make), tmp_path / "parts", 8)
    resumed, callback = gpt2(seed=1), RegrowCallback(make)
    train(resumed, callback, tmp_path / "parts", 16, resume_from_checkpoint=True)
    assert same(weights(whole), weights(resumed)) and never_stopped.report() == callback.report()
    assert callback.maintainers[0].report()["renewed_total"] > 0


def test_a_checkpoint_in_another_folder_is_found_or_asked_for(tmp_path):
    """One of the same step and another run, which lies where the Trainer would store it, is not taken for it."""
    trainer(Classifier(), RegrowCallback(MAKERS["swr"]), tmp_path / "first", steps=8).train()
    moved = tmp_path / "moved"
    shutil.copytree(tmp_path / "first" / "checkpoint-8", moved)
    trainer(Classifier(seed=2), RegrowCallback(MAKERS["swr"]), tmp_path / "second", steps=8).train()
    fresh, callback = Classifier(seed=1), RegrowCallback(MAKERS["swr"])
    with pytest.raises(FileNotFoundError, match=r"resumes at step 8, and regrow.pt .* call load\(folder\)"):
        trainer(fresh, callback, tmp_path / "second").train(resume_from_checkpoint=str(moved))
    callback.load(moved)
    trainer(fresh, callback, tmp_path / "second").train(resume_from_checkpoint=str(moved))
    assert callback.report()["regrow/steps"] == 24
    other = RegrowCallback(MAKERS["swr"])
    by_argument = {"resume_from_checkpoint": str(moved)}
    trainer(Classifier(), other, tmp_path / "third", **by_argument).train(resume_from_checkpoint=str(moved))
    assert same(callback._group.state_dict(), other._group.state_dict())


def test_reports_are_logged_and_reach_trackers_that_stand_behind(tmp_path):
    class Tracker(transformers.TrainerCallback):
        def __init__(self):
            self.lines = []

        def on_log(self, args, state, control, logs=None, **kwargs):
            self.lines.append(dict(logs))

    tracker, callback = Tracker(), RegrowCallback(MAKERS["swr-and-noise"])
    run = trainer(Classifier(), callback, tmp_path, steps=8, callbacks=[tracker])
    run.train()
    for lines in (run.state.log_history, tracker.lines):
        assert [line["regrow/SWR/renewals"] for line in lines if "loss" in line] == [1, 2]
        assert [line["regrow/ShrinkPerturb/steps"] for line in lines if "loss" in line] == [4, 8]
    stored = json.loads((tmp_path / "checkpoint-8" / "trainer_state.json").read_text())
    assert stored["log_history"][-1]["regrow/SWR/renewals"] == 2


def test_several_callbacks(tmp_path):
    def both():
        shrink = RegrowCallback(lambda m: regrow.ShrinkPerturb(m, shrink=1e-3), name="shrink")
        return RegrowCallback(MAKERS["swr"], name="weights"), shrink

    whole, callbacks = Classifier(), both()
    trainer(whole, callbacks[0], tmp_path / "whole", callbacks=callbacks[1:]).train()
    first = both()
    trainer(Classifier(), first[0], tmp_path / "parts", steps=8, callbacks=first[1:]).train()
    assert {p.name for p in (tmp_path / "parts" / "checkpoint-8").glob("regrow*")} == {
        "regrow-weights.pt",
        "regrow-shrink.pt",
    }
    resumed, others = Classifier(seed=1), both()
    run = trainer(resumed, others[0], tmp_path / "parts", callbacks=others[1:])
    run.train(resume_from_checkpoint=True)
    assert same(weights(whole), weights(resumed))
    assert run.state.log_history[-2]["regrow/weights/renewals"] == 8


def test_training_twice_goes_on_with_the_same_maintainers(tmp_path):
    callback = RegrowCallback(MAKERS["swr"])
    run = trainer(Classifier(), callback, tmp_path, steps=8)
    run.train()
    first = callback.maintainers
    run.train()
    assert callback.maintainers == first and callback.report()["regrow/steps"] == 16


def test_mistakes_are_told(tmp_path):
    with pytest.raises(TypeError, match="`make` must be a function of the model, such as .*; got Classifier"):
        RegrowCallback(Classifier())
    with pytest.raises(TypeError, match=r"`make` must return a maintainer or a list of them; got \[\]"):
        trainer(Classifier(), RegrowCallback(lambda model: []), tmp_path).train()
    trainer(Classifier(), RegrowCallback(MAKERS["swr"]), tmp_path, steps=8).train()
    with pytest.raises(ValueError, match="the checkpoint holds SWR, `make` returns ReDo: return what"):
        trainer(Classifier(), RegrowCallback(MAKERS["redo"]), tmp_path).train(resume_from_checkpoint=True)
    with pytest.raises(FileNotFoundError, match="regrow-named.pt of that checkpoint is not in"):
        trainer(Classifier(), RegrowCallback(MAKERS["swr"], name="named"), tmp_path).train(resume_from_checkpoint=True)
