"""Stable-Baselines3: PPO on CartPole whose observations are shifted anew, again and again.

Every level adds one offset, drawn from Normal(0, 2), to all observations; that of the first level is 0: continual
classic control as in Muppidi et al., "Fast TRAC" (2024), and Tang et al., "Mitigating Plasticity Loss in Continual
Reinforcement Learning by Reducing Churn" (2025). Five systems, a process per core:

    pip install 'regrow[lab,stable-baselines3]'
    python examples/sb3_cartpole.py [picture.png]                       # small and short: two minutes on two cores
    python examples/sb3_cartpole.py --full FOLDER [--workers N]         # three seeds, hours: a file for each run

The same command resumes a full run. PPO is as in the code of Tang et al., but that experience is gathered in 8
environments at once, and that a level lasts 100,000 steps instead of 160,000.
"""

import argparse
import json
import os
import platform
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

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

ENVIRONMENTS, STEPS = 8, 800  # steps of an iteration, over all environments


@dataclass(frozen=True)
class Protocol:
    """How much is learned, and by which network."""

    levels: int
    iterations: int  # of a level; each is followed by 5 epochs over its experience
    batch: int
    hidden: tuple[int, ...]  # of the policy, and of the value's network
    quick: bool = False


QUICK = Protocol(levels=8, iterations=20, batch=100, hidden=(64, 64), quick=True)
FULL = Protocol(levels=10, iterations=125, batch=32, hidden=(256, 256, 256))
SEEDS = (0, 1, 2)

# Values: for SWR those of its authors' code for PPO on Ant; for ReDo the period, and the larger of two thresholds
# (0.025 and 0.1), of public code that follows Sokar et al. (2023) on Atari; for Continual Backprop Dohare et al.
# (2024), for PPO on Ant; the strength of L2-Init is ours. None was tuned here. In the quick run, which has 6,400
# updates instead of 156,250, units are renewed earlier.
SYSTEMS = {
    "base": None,
    "swr": lambda policy, quick: regrow.SWR(policy, every=128, factor=1e-4),
    "redo": lambda policy, quick: regrow.ReDo(
        policy, every=200 if quick else 1000, threshold=0.1, units=policy_units(policy)
    ),
    "cbp": lambda policy, quick: regrow.ContinualBackprop(
        policy, replacement_rate=1e-4, maturity=200 if quick else 10_000, decay=0.99, units=policy_units(policy)
    ),
    "l2-init": lambda policy, quick: regrow.L2Init(policy, strength=1e-3),
}


class Shifted(gym.ObservationWrapper):
    """CartPole seen with an offset; its rewards divided by 20, so that values are near 1."""

    def __init__(self, offsets):
        env = gym.make("CartPole-v1", max_episode_steps=400)
        super().__init__(gym.wrappers.TransformReward(env, lambda reward: float(reward) / 20))
        self.offsets, self.level = offsets, 0
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (4,), np.float32)

    def observation(self, observation):
        return observation + self.offsets[self.level]


class Levels(BaseCallback):
    """Turns to the next level in time, and keeps the mean length of the episodes that each iteration ended.

    A step of CartPole is rewarded with 1, so the length of an episode is its return.
    """

    def __init__(self, protocol):
        super().__init__()
        self.protocol, self.returns, self.lengths = protocol, [], np.zeros(ENVIRONMENTS)

    def _on_rollout_start(self):
        self.training_env.set_attr("level", len(self.returns) // self.protocol.iterations)
        self.ended = []

    def _on_step(self):
        self.lengths += 1
        self.ended.extend(self.lengths[self.locals["dones"]])
        self.lengths[self.locals["dones"]] = 0
        return True

    def _on_rollout_end(self):
        self.returns.append(float(np.mean(self.ended)) if self.ended else None)


def train(system, seed, protocol):
    """Learn all levels; returns the return of each iteration, and what the maintainer did."""
    torch.set_num_threads(1)
    offsets = np.random.default_rng(seed).normal(0, 2, (protocol.levels, 4)).astype(np.float32)
    offsets[0] = 0
    model = PPO(
        "MlpPolicy", DummyVecEnv([lambda: Shifted(offsets)] * ENVIRONMENTS), learning_rate=1e-3, gamma=0.99,
        n_steps=STEPS // ENVIRONMENTS, batch_size=protocol.batch, n_epochs=5, gae_lambda=0.95, clip_range=0.2,
        ent_coef=0.01, vf_coef=0.5, max_grad_norm=float("inf"), seed=seed, device="cpu",
        policy_kwargs={
            "net_arch": list(protocol.hidden), "activation_fn": partial(torch.nn.LeakyReLU, 0.1),
            "ortho_init": False, "optimizer_kwargs": {"eps": 1e-8},
        },
    )  # fmt: skip
    levels, make = Levels(protocol), SYSTEMS[system]
    keeps = [RegrowCallback(partial(make, quick=protocol.quick))] if make else []
    model.learn(protocol.levels * protocol.iterations * STEPS, callback=[levels, *keeps])
    return levels.returns, keeps[0].report() if keeps else {}


def run(system, seed, protocol, folder):
    """Train, and store what came of it when it ends; a run that is stored already is left alone."""
    target = Path(folder) / f"{system}-seed{seed}.json"
    if target.exists():
        return
    wall, processor = time.perf_counter(), time.process_time()
    returns, report = train(system, seed, protocol)
    packages = ("torch", "numpy", "gymnasium", "stable-baselines3", "regrow")
    row = {
        "system": system, "seed": seed, "protocol": asdict(protocol), "steps": STEPS, "report": report,
        "wall_seconds": round(time.perf_counter() - wall), "processor_seconds": round(time.process_time() - processor),
        "versions": {"python": platform.python_version()} | {name: version(name) for name in packages},
        "returns": [None if value is None else round(value, 2) for value in returns],
    }  # fmt: skip
    partly = target.with_suffix(".part")
    partly.write_text(json.dumps(row) + "\n")
    partly.replace(target)
    print(f"{target.name}: {row['processor_seconds']} s", flush=True)


def full(folder, workers):
    Path(folder).mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(workers) as pool:
        jobs = [pool.submit(run, system, seed, FULL, folder) for system in SYSTEMS for seed in SEEDS]
        for job in jobs:
            job.result()


def quick(picture):
    with ProcessPoolExecutor(2) as pool:
        results = dict(zip(SYSTEMS, pool.map(partial(train, seed=0, protocol=QUICK), SYSTEMS), strict=True))
    _, ax = plt.subplots(figsize=(9, 4))
    for name, (returns, report) in results.items():
        returns = np.array(returns, float)  # an iteration that ended no episode has none
        half = [np.nanmean(part) for part in np.split(returns, 2)]
        renewed = report.get("regrow/renewed_total", 0)
        print(f"{name:8s} mean return: first half {half[0]:5.1f}, second half {half[1]:5.1f}; renewed {renewed:,.0f}")
        places = np.arange(1, len(returns) + 1) * STEPS / 1000
        ax.plot(places[np.isfinite(returns)], returns[np.isfinite(returns)], label=name)
    for level in range(1, QUICK.levels):
        ax.axvline(level * QUICK.iterations * STEPS / 1000, color="0.8", linewidth=0.8, zorder=0)
    ax.set_xlabel("thousand environment steps; a new offset at each line")
    ax.set_ylabel("return of an episode")
    ax.legend()
    plt.savefig(picture, dpi=120, bbox_inches="tight")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="PPO on CartPole whose observations are shifted again and again.")
    parser.add_argument("picture", nargs="?", default="sb3_cartpole.png", help="where the quick run is drawn")
    parser.add_argument("--full", metavar="FOLDER", help="run all seeds of the large network, into this folder")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes of the full run, one a core")
    asked = parser.parse_args()
    warnings.filterwarnings("error", message="laws read off the values")
    full(asked.full, asked.workers) if asked.full else quick(asked.picture)
