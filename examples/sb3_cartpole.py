"""Stable-Baselines3: PPO on CartPole whose observations are shifted anew, again and again.

Every level adds one offset, drawn from Normal(0, 2), to all observations: continual classic control as in Muppidi et
al., "Fast TRAC" (2024). Four systems, two at a time. Run: pip install 'regrow[lab,stable-baselines3]';
python examples/sb3_cartpole.py [picture.png]
"""

import os
import sys
import warnings
from concurrent.futures import ProcessPoolExecutor

os.environ.setdefault("OMP_NUM_THREADS", "1")  # a process per core

import gymnasium as gym
import numpy as np
import torch
from matplotlib import pyplot as plt
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import DummyVecEnv

import regrow
from regrow.integrations.stable_baselines3 import RegrowCallback, policy_units

LEVELS, STEPS, ENVIRONMENTS = 8, 16_384, 8  # steps of a level, over all environments

SYSTEMS = {
    "base": None,
    "SWR": lambda policy: regrow.SWR(policy, every=256, factor=1e-2),
    "ReDo": lambda policy: regrow.ReDo(policy, every=256, threshold=0.1, units=policy_units(policy)),
    "CBP": lambda policy: regrow.ContinualBackprop(
        policy, replacement_rate=1e-4, maturity=256, decay=0.99, units=policy_units(policy)
    ),
}


class Shifted(gym.ObservationWrapper):
    """CartPole seen with an offset."""

    def __init__(self, offsets):
        super().__init__(gym.make("CartPole-v1"))
        self.offsets, self.level = offsets, 0
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (4,), np.float32)

    def observation(self, observation):
        return observation + self.offsets[self.level]


class Levels(BaseCallback):
    """Turns to the next level in time, and keeps the mean return of the episodes that each rollout ended."""

    def __init__(self):
        super().__init__()
        self.returns, self.sums = [], np.zeros(ENVIRONMENTS)

    def _on_rollout_start(self):
        self.training_env.set_attr("level", min(self.num_timesteps // STEPS, LEVELS - 1))
        self.ended = []

    def _on_step(self):
        self.sums += self.locals["rewards"]
        self.ended.extend(self.sums[self.locals["dones"]])
        self.sums[self.locals["dones"]] = 0
        return True

    def _on_rollout_end(self):
        self.returns.append(np.mean(self.ended) if self.ended else self.sums.mean())


def train(name):
    warnings.filterwarnings("ignore", message="laws read off the values")  # of PPO's orthogonal start
    torch.set_num_threads(1)
    offsets = np.random.default_rng(0).normal(0, 2, (LEVELS, 4)).astype(np.float32)
    environments = DummyVecEnv([lambda: Shifted(offsets)] * ENVIRONMENTS)
    model = PPO(
        "MlpPolicy", environments, learning_rate=1e-3, n_steps=128, batch_size=128, n_epochs=8, seed=0, device="cpu",
        policy_kwargs={"net_arch": [64, 64], "activation_fn": torch.nn.ReLU},
    )  # fmt: skip
    levels, keeps = Levels(), [RegrowCallback(SYSTEMS[name])] if SYSTEMS[name] else []
    model.learn(LEVELS * STEPS, callback=[levels, *keeps])
    return levels.returns, keeps[0].report() if keeps else {}


def main(picture):
    with ProcessPoolExecutor(2) as pool:
        results = dict(zip(SYSTEMS, pool.map(train, SYSTEMS), strict=True))
    _, ax = plt.subplots(figsize=(9, 4))
    for name, (returns, report) in results.items():
        half = np.split(np.array(returns), 2)
        print(
            f"{name:5s} mean return: first half {half[0].mean():5.1f}, second half {half[1].mean():5.1f}; "
            f"renewed {report.get('regrow/renewed_total', 0):.0f}"
        )
        ax.plot(np.arange(1, len(returns) + 1) * 128 * ENVIRONMENTS / 1000, returns, label=name)
    for level in range(1, LEVELS):
        ax.axvline(level * STEPS / 1000, color="0.8", linewidth=0.8, zorder=0)
    ax.set_xlabel("thousand environment steps; a new offset at each line")
    ax.set_ylabel("return of an episode")
    ax.legend()
    plt.savefig(picture, dpi=120, bbox_inches="tight")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "sb3_cartpole.png")
