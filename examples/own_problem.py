"""Your own problem and network in the laboratory: one stack of networks, equal to single runs.

Images of digits whose labels are shuffled anew for every task. Run: python examples/own_problem.py
"""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy

import regrow
from regrow.lab.general import train
from regrow.lab.studies import Member

TASKS, STEP_SIZE = 8, 0.5
SWR = {"every": 28, "factor": 1e-3}  # a task has 28 updates
SYSTEMS = {"base": {}, "swr": SWR}
images, labels = map(torch.tensor, load_digits(return_X_y=True))


def network(seed):  # any nn.Module
    torch.manual_seed(seed)
    body = nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()
    return nn.Sequential(*body, nn.Linear(72, 32), nn.ReLU(), nn.Linear(32, 10)).double()


def batches(seed):  # any stream of (x, y)
    g = torch.Generator().manual_seed(seed)
    for _ in range(TASKS):
        shuffled = torch.randperm(10, generator=g)[labels]
        yield from ((images[i] / 16, shuffled[i]) for i in torch.randperm(1792, generator=g).split(64))


members = [Member(name, {"step_size": STEP_SIZE} | knobs, seed) for name, knobs in SYSTEMS.items() for seed in range(3)]
metrics = {"accuracy": lambda logits, y: (logits.argmax(1) == y).double().mean()}  # of one network
net, history = train(network, members, batches, cross_entropy, metrics=metrics)
for i, member in enumerate(members):
    print(f"{member.system:10s} seed {member.seed}: online accuracy {history['accuracy'][:, i].mean():.1%}")

alone = network(seed=2)  # the last of them again, in plain PyTorch
regrow.SWR(alone, **SWR, seed=2).attach(opt := torch.optim.SGD(alone.parameters(), lr=STEP_SIZE))
for x, y in batches(seed=2):
    opt.zero_grad()
    cross_entropy(alone(x), y).backward()
    opt.step()
gaps = [(p - net.parameters[name][5]).abs().max().item() for name, p in alone.named_parameters()]
print(f"largest difference from a single run: {max(gaps):.1e}")
