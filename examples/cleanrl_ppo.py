"""PPO in one file, in the style of CleanRL, on CartPole with a new offset every level: regrow is one line of it.

Run: pip install 'regrow[lab]' gymnasium; python examples/cleanrl_ppo.py --method swr [--picture picture.png]
"""

from dataclasses import dataclass
from typing import Literal

import gymnasium as gym
import numpy as np
import torch
import torch.nn as nn
import torch.optim as optim
import tyro
from matplotlib import pyplot as plt
from torch.distributions.categorical import Categorical

import regrow


@dataclass
class Args:
    method: Literal["none", "swr", "cbp", "redo"] = "swr"
    """what keeps the agent plastic"""
    picture: str = "cleanrl_ppo.png"
    """where to draw the returns"""
    seed: int = 0
    """of the agent and the environments"""
    levels: int = 6
    """how many offsets, from Normal(0, 2), the observations are given one after the other"""
    level_timesteps: int = 16_384
    """environment steps of a level"""
    learning_rate: float = 1e-3
    num_envs: int = 8
    num_steps: int = 128
    gamma: float = 0.99
    gae_lambda: float = 0.95
    num_minibatches: int = 8
    update_epochs: int = 8
    clip_coef: float = 0.2
    ent_coef: float = 0.0
    vf_coef: float = 0.5
    max_grad_norm: float = 0.5


def layer_init(layer, std=2**0.5, bias_const=0.0):
    torch.nn.init.orthogonal_(layer.weight, std)
    torch.nn.init.constant_(layer.bias, bias_const)
    return layer


def network(outputs, std):
    body = [layer_init(nn.Linear(4, 64)), nn.ReLU(), layer_init(nn.Linear(64, 64)), nn.ReLU()]
    return nn.Sequential(*body, layer_init(nn.Linear(64, outputs), std=std))


class Agent(nn.Module):
    def __init__(self):
        super().__init__()
        self.critic, self.actor = network(1, 1.0), network(2, 0.01)

    def get_action_and_value(self, x, action=None):
        probs = Categorical(logits=self.actor(x))
        action = probs.sample() if action is None else action
        return action, probs.log_prob(action), probs.entropy(), self.critic(x).flatten()


LAWS = {  # what layer_init draws from
    "*bias": regrow.laws.Constant(0),
    "actor.4.weight": regrow.laws.Orthogonal(0.01),
    "critic.4.weight": regrow.laws.Orthogonal(1),
    "*": regrow.laws.Orthogonal(2**0.5),
}
METHODS = {
    "swr": lambda agent: regrow.SWR(agent, every=256, factor=1e-2, laws=LAWS),
    "redo": lambda agent: regrow.ReDo(agent, every=256, threshold=0.1, laws=LAWS),
    "cbp": lambda agent: regrow.ContinualBackprop(agent, replacement_rate=1e-4, maturity=256, decay=0.99, laws=LAWS),
}


def advantages(args, rewards, values, dones, next_value, next_done):
    advantages, last = torch.zeros_like(rewards), 0
    for t in reversed(range(args.num_steps)):
        ended = next_done if t == args.num_steps - 1 else dones[t + 1]
        following = next_value if t == args.num_steps - 1 else values[t + 1]
        delta = rewards[t] + args.gamma * following * (1.0 - ended) - values[t]
        advantages[t] = last = delta + args.gamma * args.gae_lambda * (1.0 - ended) * last
    return advantages


def update(args, agent, optimizer, obs, actions, logprobs, advs, returns):
    batch_size = args.num_envs * args.num_steps
    for _ in range(args.update_epochs):
        for mb in torch.randperm(batch_size).split(batch_size // args.num_minibatches):
            _, newlogprob, entropy, newvalue = agent.get_action_and_value(obs[mb], actions[mb])
            ratio = (newlogprob - logprobs[mb]).exp()
            adv = (advs[mb] - advs[mb].mean()) / (advs[mb].std() + 1e-8)
            pg_loss = torch.max(-adv * ratio, -adv * ratio.clamp(1 - args.clip_coef, 1 + args.clip_coef)).mean()
            v_loss = 0.5 * ((newvalue - returns[mb]) ** 2).mean()
            loss = pg_loss - args.ent_coef * entropy.mean() + args.vf_coef * v_loss
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(agent.parameters(), args.max_grad_norm)
            optimizer.step()


def main(args):
    torch.manual_seed(args.seed)
    offsets = np.random.default_rng(args.seed).normal(0, 2, (args.levels, 4)).astype(np.float32)
    envs = gym.make_vec("CartPole-v1", num_envs=args.num_envs, vectorization_mode="sync")
    agent = Agent()
    optimizer = optim.Adam(agent.parameters(), lr=args.learning_rate, eps=1e-5)
    kept = METHODS[args.method](agent).attach(optimizer) if args.method != "none" else None  # this is the line

    shape = (args.num_steps, args.num_envs)
    obs, actions = torch.zeros(*shape, 4), torch.zeros(shape, dtype=torch.int64)
    logprobs, rewards, dones, values = (torch.zeros(shape) for _ in range(4))
    curve, sums = [], np.zeros(args.num_envs)
    seen, _ = envs.reset(seed=args.seed)
    next_done = torch.zeros(args.num_envs)
    iterations = args.level_timesteps // (args.num_envs * args.num_steps)
    for iteration in range(args.levels * iterations):
        offset, ended = offsets[iteration // iterations], []
        for step in range(args.num_steps):
            obs[step], dones[step] = torch.tensor(seen + offset), next_done
            with torch.no_grad():
                actions[step], logprobs[step], _, values[step] = agent.get_action_and_value(obs[step])
            seen, reward, terminated, truncated, _ = envs.step(actions[step].numpy())
            rewards[step], done = torch.tensor(reward), terminated | truncated
            next_done = torch.tensor(done, dtype=torch.float32)
            sums += reward
            ended.extend(sums[done])
            sums[done] = 0
        with torch.no_grad():
            next_value = agent.critic(torch.tensor(seen + offset)).flatten()
        advs = advantages(args, rewards, values, dones, next_value, next_done)
        flat = (part.flatten(0, 1) for part in (obs, actions, logprobs, advs, advs + values))
        update(args, agent, optimizer, *flat)
        curve.append(np.mean(ended) if ended else sums.mean())

    half = np.array_split(np.array(curve), 2)
    print(f"{args.method}: mean return, first half {half[0].mean():.1f}, second half {half[1].mean():.1f}")
    if kept is not None:
        print({key: round(value, 3) for key, value in kept.report().items()})
    plt.plot(np.arange(1, len(curve) + 1) * args.num_envs * args.num_steps / 1000, curve, label=args.method)
    for level in range(1, args.levels):
        plt.axvline(level * args.level_timesteps / 1000, color="0.8", linewidth=0.8, zorder=0)
    plt.xlabel("thousand environment steps; a new offset at each line")
    plt.ylabel("return of an episode")
    plt.legend()
    plt.savefig(args.picture, dpi=120, bbox_inches="tight")


if __name__ == "__main__":
    main(tyro.cli(Args))
