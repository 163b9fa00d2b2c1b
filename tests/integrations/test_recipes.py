"""The recipes of docs/howto/other-frameworks.md for frameworks that need no callback, each where it is installed."""

import pytest
import torch
from integration_cases import MAKERS, same, weights
from torch import nn
from torch.distributed import checkpoint as dcp

import regrow


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3))


def update(model, opt, step, backward=torch.Tensor.backward):
    g = torch.Generator().manual_seed(step)
    x, y = torch.randn(8, 6, generator=g), torch.randint(3, (8,), generator=g)
    opt.zero_grad()
    backward(nn.functional.cross_entropy(model(x), y))
    opt.step()


@pytest.mark.parametrize("method", ["swr", "cbp", "redo"])
def test_accelerate(method, tmp_path):
    accelerate = pytest.importorskip("accelerate")

    def start(seed):
        accelerator = accelerate.Accelerator(cpu=True)
        model = network(seed)
        model, opt = accelerator.prepare(model, torch.optim.Adam(model.parameters(), lr=0.01))
        kept = MAKERS[method](model).attach(opt.optimizer)
        accelerator.register_for_checkpointing(kept)
        return accelerator, model, opt, kept

    accelerator, model, opt, kept = start(0)
    for step in range(12):
        if step == 7:
            accelerator.save_state(str(tmp_path / "state"))
        update(model, opt, step, accelerator.backward)
    other, resumed, opt, again = start(1)
    other.load_state(str(tmp_path / "state"))
    for step in range(7, 12):
        update(resumed, opt, step, other.backward)
    assert same(weights(model), weights(resumed)) and same(kept.state_dict(), again.state_dict())
    assert kept.report()["renewals"] > 0


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")
@pytest.mark.parametrize("method", ["swr", "cbp", "redo"])
def test_distributed_checkpoint(method, tmp_path):
    def start(seed):
        model = network(seed)
        opt = torch.optim.SGD(model.parameters(), lr=0.01)
        return model, opt, MAKERS[method](model).attach(opt)

    model, opt, kept = start(0)
    for step in range(12):
        if step == 7:
            dcp.save({"model": model, "regrow": kept}, checkpoint_id=tmp_path / "state")
        update(model, opt, step)
    resumed, opt, again = start(1)
    dcp.load({"model": resumed, "regrow": again}, checkpoint_id=tmp_path / "state")
    for step in range(7, 12):
        update(resumed, opt, step)
    assert same(weights(model), weights(resumed)) and same(kept.state_dict(), again.state_dict())


def test_torchrl():
    pytest.importorskip("torchrl")
    from tensordict import TensorDict
    from torchrl.data import OneHot
    from torchrl.modules import QValueActor
    from torchrl.objectives import DQNLoss, SoftUpdate

    actor = QValueActor(network(), in_keys=["observation"], spec=OneHot(3))
    loss = DQNLoss(actor, action_space="one_hot", delay_value=True)
    loss.make_value_estimator(gamma=0.9)
    target = SoftUpdate(loss, eps=0.99)
    opt = torch.optim.Adam(loss.parameters(), lr=0.01)
    swr = regrow.SWR(actor, every=2, factor=0.5, seed=0).attach(opt)
    for _ in range(6):
        batch = TensorDict({"observation": torch.randn(16, 6), "action": torch.eye(3)[torch.randint(3, (16,))]}, [16])
        ended = {"done": torch.zeros(16, 1, dtype=torch.bool), "terminated": torch.zeros(16, 1, dtype=torch.bool)}
        batch["next"] = TensorDict({"observation": torch.randn(16, 6), "reward": torch.randn(16, 1), **ended}, [16])
        opt.zero_grad()
        loss(batch)["loss"].backward()
        opt.step()
        target.step()
    assert swr.report()["renewals"] == 3 and swr.report()["renewed_total"] > 0


@pytest.mark.filterwarnings("ignore:`gradient_checkpointing` is deprecated:FutureWarning")
@pytest.mark.filterwarnings("ignore:laws read off the values")
def test_trl(tmp_path):
    pytest.importorskip("trl")
    pytest.importorskip("datasets")
    import datasets
    import tokenizers
    import transformers
    import trl

    from regrow.integrations.transformers import RegrowCallback

    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({w: i for i, w in enumerate("abcdefgh")}, unk_token="a"))
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=words, eos_token="b", pad_token="c")
    tokens = torch.randint(8, (32, 8), generator=torch.Generator().manual_seed(0)).tolist()

    def train(folder, seed, steps, **more):
        torch.manual_seed(seed)
        config = transformers.GPT2Config(
            n_layer=1, n_head=2, n_embd=16, vocab_size=8, n_positions=8, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0
        )
        arguments = trl.SFTConfig(
            output_dir=str(folder), max_steps=steps, per_device_train_batch_size=4, save_steps=4, report_to="none",
            use_cpu=True, bf16=False, disable_tqdm=True, learning_rate=0.01, lr_scheduler_type="constant", seed=1,
        )  # fmt: skip
        callback = RegrowCallback(lambda model: regrow.SWR(model, every=3, factor=0.1, seed=0))
        run = trl.SFTTrainer(
            transformers.GPT2LMHeadModel(config), arguments, processing_class=tokenizer, callbacks=[callback],
            train_dataset=datasets.Dataset.from_dict({"input_ids": tokens}),
        )  # fmt: skip
        run.train(**more)
        return weights(run.model), callback.report()

    whole = train(tmp_path / "whole", 0, 8)
    train(tmp_path / "parts", 0, 4)
    resumed = train(tmp_path / "parts", 1, 8, resume_from_checkpoint=True)
    assert same(whole, resumed) and whole[1]["regrow/renewals"] == 2


def test_skrl(tmp_path):
    pytest.importorskip("skrl")
    import gymnasium as gym
    from skrl.agents.torch.dqn import DQN
    from skrl.memories.torch import RandomMemory
    from skrl.models.torch import DeterministicMixin, Model

    class Network(DeterministicMixin, Model):
        def __init__(self, **spaces):
            Model.__init__(self, **spaces, device="cpu")
            DeterministicMixin.__init__(self)
            self.net = network()

        def compute(self, inputs, role):
            return self.net(inputs["observations"]), {}

    spaces = {"observation_space": gym.spaces.Box(-1, 1, (6,)), "action_space": gym.spaces.Discrete(3)}

    def start():
        models = {name: Network(**spaces) for name in ("q_network", "target_q_network")}
        agent = DQN(models=models, memory=RandomMemory(memory_size=64, device="cpu"), **spaces, device="cpu", cfg={})
        swr = regrow.SWR(agent.models["q_network"], every=2, factor=0.1).attach(agent.optimizer)
        agent.checkpoint_modules["regrow"] = swr
        return agent, swr

    agent, swr = start()
    for step in range(5):
        update(agent.models["q_network"].net, agent.optimizer, step)
    agent.save(str(tmp_path / "agent.pt"))
    other, again = start()
    other.load(str(tmp_path / "agent.pt"))
    for step in range(5, 9):
        update(agent.models["q_network"].net, agent.optimizer, step)
        update(other.models["q_network"].net, other.optimizer, step)
    assert same(weights(agent.models["q_network"]), weights(other.models["q_network"]))
    assert same(swr.state_dict(), again.state_dict()) and again.report()["renewals"] == 4
