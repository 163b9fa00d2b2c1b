"""The shortest complete use of regrow: one line keeps a network able to learn a stream of tasks.

Each task permutes the pixels of scikit-learn's digits anew. Run: python examples/drop_in.py
"""

import torch
from sklearn.datasets import load_digits
from torch import nn

import regrow

TASKS, BATCH = 20, 16
torch.manual_seed(0)
data = load_digits()
pixels, labels = torch.tensor(data.data / 16, dtype=torch.float32), torch.tensor(data.target)

model = nn.Sequential(
    nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 10)
)
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
swr = regrow.SWR(model, every=256, factor=1e-3).attach(optimizer)  # that is all

for task in range(TASKS):
    permuted = pixels[:, torch.randperm(64)]
    correct = 0
    for batch in torch.randperm(len(labels)).split(BATCH):
        logits = model(permuted[batch])
        correct += int((logits.argmax(1) == labels[batch]).sum())  # before the update: online accuracy
        optimizer.zero_grad()
        nn.functional.cross_entropy(logits, labels[batch]).backward()
        optimizer.step()
    print(f"task {task + 1:2d}: online accuracy {correct / len(labels):.1%}")

print({name: round(value, 3) for name, value in swr.report().items()})
