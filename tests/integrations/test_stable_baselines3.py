"""The callback in real Stable-Baselines3: attached where it should be, stored with the model, continued bit for bit."""

import sys

import gymnasium as gym
import numpy as np
import pytest
import torch
from integration_cases import MAKERS, same, weights

import regrow

sb3 = pytest.importorskip("stable_baselines3")
from stable_baselines3.common.callbacks import CheckpointCallback  # noqa: E402
from stable_baselines3.common.logger import KVWriter, Logger  # noqa: E402

from regrow.integrations.stable_baselines3 import RegrowCallback, policy_units  # noqa: E402

# PPO's and A2C's orthogonal start is not that of torch, so its laws are found by fit.
pytestmark = pytest.mark.filterwarnings("ignore:laws read off the values:UserWarning")


class Pictures(gym.Env):
    """Noise to look at, for ten steps; continuous or discrete actions."""

    observation_space = gym.spaces.Box(0, 255, (1, 36, 36), np.uint8)

    def __init__(self, continuous=False):
        self.action_space = gym.spaces.Box(-1, 1, (2,)) if continuous else gym.spaces.Discrete(3)

    def picture(self):
        return self.np_random.integers(0, 256, (1, 36, 36), dtype=np.uint8)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self.picture(), {}

    def step(self, action):
        self.steps += 1
        return self.picture(), float(np.mean(action)), False, self.steps == 10, {}


def small():
    return {"net_arch": [16, 16]}  # a new one each time: the algorithms write into it


QUICK = {"learning_starts": 32, "batch_size": 32, "buffer_size": 200, "train_freq": 4}
ALGORITHMS = {
    "PPO": lambda seed: sb3.PPO("MlpPolicy", "CartPole-v1", n_steps=64, n_epochs=4, policy_kwargs=small(), seed=seed),
    "A2C": lambda seed: sb3.A2C("MlpPolicy", "CartPole-v1", policy_kwargs=small(), seed=seed),
    "DQN": lambda seed: sb3.DQN("MlpPolicy", "CartPole-v1", policy_kwargs=small(), seed=seed, **QUICK),
    "SAC": lambda seed: sb3.SAC("MlpPolicy", "Pendulum-v1", policy_kwargs=small(), seed=seed, **QUICK),
    "TD3": lambda seed: sb3.TD3("MlpPolicy", "Pendulum-v1", policy_kwargs=small(), seed=seed, **QUICK),
}
PICTURES = {
    "PPO": lambda seed: sb3.PPO("CnnPolicy", Pictures(), n_steps=32, batch_size=16, n_epochs=1, seed=seed),
    "DQN": lambda seed: sb3.DQN("CnnPolicy", Pictures(), seed=seed, **QUICK),
    "SAC": lambda seed: sb3.SAC("CnnPolicy", Pictures(True), seed=seed, policy_kwargs=small(), **QUICK),
}
every_algorithm = pytest.mark.parametrize("name", ALGORITHMS)
every_method = pytest.mark.parametrize("method", MAKERS)


def callback_of(method, name=None):
    def make(policy):
        return MAKERS[method](policy, **({"units": policy_units(policy)} if method in ("cbp", "redo") else {}))

    return RegrowCallback(make, name=name)


def optimizer_states(model):
    return {key: value for key, value in model.get_parameters().items() if key != "policy"}


def learn_on(model, callback, steps=128):
    """From a reset environment and with seeded generators: what Stable-Baselines3 does not store."""
    model.set_random_seed(7)
    model._last_obs = None
    model.learn(steps, callback=callback, reset_num_timesteps=False)


@every_algorithm
@every_method
def test_a_loaded_model_continues_as_the_one_that_stayed(name, method, tmp_path):
    stayed, callback = ALGORITHMS[name](seed=0), callback_of(method)
    stayed.learn(128, callback=callback)
    stayed.save(tmp_path / "model")
    if hasattr(stayed, "replay_buffer"):
        stayed.save_replay_buffer(tmp_path / "buffer")
    learn_on(stayed, callback)

    fresh = ALGORITHMS[name](seed=1)
    loaded, other = type(fresh).load(tmp_path / "model", env=fresh.get_env()), callback_of(method)
    if hasattr(stayed, "replay_buffer"):
        loaded.load_replay_buffer(tmp_path / "buffer")
    learn_on(loaded, other)

    assert callback.report() == other.report()
    assert same(callback._group.state_dict(), other._group.state_dict())
    assert same(weights(stayed.policy), weights(loaded.policy))
    assert same(optimizer_states(stayed), optimizer_states(loaded))
    assert sum(value for key, value in other.report().items() if key.endswith("renewed_total")) > 0


@every_algorithm
def test_targets_follow_and_are_not_maintained(name):
    """Without a Polyak step they keep every value, whatever is renewed."""
    model = ALGORITHMS[name](seed=0)
    before = weights(model.policy)
    model.tau, model.target_update_interval = 0.0, 10**9
    callback = RegrowCallback(lambda policy: regrow.SWR(policy, every=2, factor=0.3, seed=0))
    model.learn(128, callback=callback)
    after = weights(model.policy)
    kept = [key for key in before if torch.equal(before[key], after[key])]
    assert kept == [key for key in before if "_target." in key]
    labels = {key.rpartition("/")[0] for key in callback.report()}
    assert labels == ({"regrow/actor", "regrow/critic"} if name in ("SAC", "TD3") else {"regrow"})


@pytest.mark.parametrize("name", PICTURES)
def test_policies_that_see(name):
    model = PICTURES[name](seed=0)
    units = policy_units(model.policy)
    assert {"cnn.0", "cnn.2", "cnn.4", "linear.0"} <= {".".join(u.layer.rsplit(".", 2)[-2:]) for u in units}
    callback = RegrowCallback(lambda policy: regrow.ReDo(policy, every=2, threshold=0.5, units=policy_units(policy)))
    model.learn(48, callback=callback)
    assert sum(value for key, value in callback.report().items() if key.endswith("renewed_total")) > 0


@pytest.mark.parametrize(
    "build",
    [*ALGORITHMS.values(), *PICTURES.values()],
    ids=[*ALGORITHMS, *(f"{name} of pictures" for name in PICTURES)],
)
def test_a_silenced_unit_is_read_by_nobody(build):
    """All that a unit passes on is among its outgoing weights: without them its activation changes no output."""
    policy = build(seed=0).policy
    if isinstance(policy.observation_space, gym.spaces.Box) and policy.observation_space.dtype == np.uint8:
        observation = torch.randint(256, (4, 1, 36, 36))
    else:
        observation = torch.randn(4, *policy.observation_space.shape)

    def outputs():
        policy.set_training_mode(False)
        with torch.no_grad():
            if hasattr(policy, "critic"):
                actions = torch.zeros(4, *policy.action_space.shape)
                return [policy.actor(observation, **deterministic), *policy.critic(observation, actions)]
            if hasattr(policy, "q_net"):
                return [policy.q_net(observation)]
            actions = torch.zeros(4, dtype=torch.int64)
            return [*policy.evaluate_actions(observation, actions)]

    deterministic = {"deterministic": True} if hasattr(getattr(policy, "actor", None), "latent_pi") else {}
    for units in policy_units(policy):
        columns = [policy.get_parameter(place.name) for place in units.weight_out]
        kept = [w.detach().clone() for w in columns]
        first = torch.zeros(units.count(policy), dtype=torch.bool)
        first[0] = True
        with torch.no_grad():
            for place, w in zip(units.weight_out, columns):
                w[place.mask(w, first)] = 0
            silenced = outputs()
            policy.get_parameter(units.weight_in[0].name)[0] += 1
            changed = outputs()
            policy.get_parameter(units.weight_in[0].name)[0] -= 1
            for w, values in zip(columns, kept):
                w.copy_(values)
        assert all(torch.equal(a, b) for a, b in zip(silenced, changed)), units


def test_a_checkpoint_callback_stores_the_states(tmp_path):
    model, callback = ALGORITHMS["PPO"](seed=0), callback_of("cbp")
    model.learn(128, callback=[callback, CheckpointCallback(100, str(tmp_path), name_prefix="run")])
    loaded = sb3.PPO.load(tmp_path / "run_100_steps")
    assert loaded.regrow[None]["maintainers"][0]["state"]["step"] == 4  # of the first rollout; the second was not over
    assert type(loaded.regrow) is dict and "Live" not in str(loaded.regrow)


class Memory(KVWriter):
    def __init__(self):
        self.lines = []

    def write(self, key_values, key_excluded, step=0):
        shown = {key for key, excluded in key_excluded.items() if "stdout" not in (excluded or ())}
        self.lines.append((dict(key_values), shown))

    def close(self):
        pass


@pytest.mark.parametrize("name", ["PPO", "SAC", "DQN"])
def test_reports_are_logged(name, capsys):
    memory, model = Memory(), ALGORITHMS[name](seed=0)
    callback = callback_of("swr-and-noise", name="all")
    model.set_logger(Logger(None, [memory, sb3.common.logger.HumanOutputFormat(sys.stdout)]))
    model.learn(400, callback=callback, log_interval=1)
    seen = [(line, shown) for line, shown in memory.lines if any(key.startswith("regrow/all/") for key in line)]
    where = "regrow/all/critic/" if name == "SAC" else "regrow/all/"
    renewals = [line[f"{where}SWR/renewals"] for line, _ in seen]
    assert len(seen) >= 2 and renewals == sorted(renewals) and renewals[-1] > 0
    assert set(callback.report()) <= set(seen[-1][0])
    regrows = {key for key in seen[-1][1] if key.startswith("regrow")}
    assert f"{where}SWR/renewals" in regrows and f"{where}SWR/share_last" not in regrows
    assert "SWR/renewals" in capsys.readouterr().out


def test_learning_again_goes_on(tmp_path):
    """With the same callback, with another one, and after one that was interrupted."""
    model, callback = ALGORITHMS["PPO"](seed=0), callback_of("swr")
    model.learn(64, callback=callback)
    first = callback.maintainers
    model.learn(64, callback=callback)
    assert callback.maintainers == first and callback.report()["regrow/steps"] == 8
    other = callback_of("swr")
    model.learn(64, callback=other)
    assert callback.report()["regrow/steps"] == 8 and other.report()["regrow/steps"] == 12

    def interrupt(locals_, globals_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        model.learn(64, callback=[other, sb3.common.callbacks.ConvertCallback(interrupt)])
    another = callback_of("swr")
    model.learn(64, callback=another)
    assert another.report()["regrow/steps"] == 16 and other.report()["regrow/steps"] == 12
    del model.regrow
    anew = callback_of("redo")
    with pytest.warns(UserWarning, match="ReDo starts at step 0 with an optimizer that has taken steps"):
        model.learn(64, callback=anew)
    assert anew.report()["regrow/steps"] == 4


def test_mistakes_are_told():
    model = ALGORITHMS["PPO"](seed=0)
    with pytest.raises(TypeError, match="`make` must be a function of the model, .*; got ActorCriticPolicy"):
        RegrowCallback(model.policy)
    with pytest.raises(TypeError, match="`make` must return a maintainer or a list of them; got None"):
        model.learn(64, callback=RegrowCallback(lambda policy: None))
    with pytest.raises(ValueError, match="no hidden units found in Linear: give them as `regrow.Units`"):
        policy_units(torch.nn.Linear(2, 2))
    model.learn(64, callback=callback_of("swr"))
    with pytest.raises(ValueError, match="the checkpoint holds SWR, `make` returns ReDo: return what"):
        model.learn(64, callback=callback_of("redo"))
