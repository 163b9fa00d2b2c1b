"""Classes that come two by two: the output layer grows, and optimizer and maintainer go along.

Each stage trains on all digits seen so far; a fresh network, trained on the same ones, is the yardstick. Five stages
are too few to lose plasticity: what this shows is that units, laws and memory follow a layer that grows.
Run: pip install 'regrow[lab]'; python examples/class_incremental.py [picture.png]
"""

import sys

import torch
from matplotlib import pyplot as plt
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

import regrow

STAGES, EPOCHS, BATCH, STEP_SIZE, SEEDS = (2, 4, 6, 8, 10), 20, 16, 2e-3, 3
images, labels = load_digits(return_X_y=True)
split = train_test_split(images / 16, labels, test_size=0.3, random_state=0, stratify=labels)
train_x, test_x = (torch.tensor(x, dtype=torch.float32) for x in split[:2])
train_y, test_y = (torch.tensor(y) for y in split[2:])

LAYERS = {
    "body.0": "body.2",
    "body.2": "body.4",
    "body.4": "head",
}  # a layer of hidden units, and the one that reads it
UNITS = [
    regrow.Units((f"{layer}.weight", 0), (f"{layer}.bias", 0), None, (f"{reader}.weight", 1), f"body.{2 * i + 1}")
    for i, (layer, reader) in enumerate(LAYERS.items())
]


def network(classes):
    body = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU())
    return nn.ModuleDict({"body": body, "head": nn.Linear(32, classes)})


def grow(model, optimizer, classes):
    """Give the head more rows; the old ones keep their values, and the optimizer's memory of them ends."""
    old, new = model["head"], nn.Linear(32, classes)
    with torch.no_grad():
        new.weight[: old.out_features], new.bias[: old.out_features] = old.weight, old.bias
    for parameter in old.parameters():
        optimizer.state.pop(parameter, None)
    model["head"] = new
    optimizer.param_groups[1]["params"] = list(new.parameters())


def train(model, optimizer, classes):
    """Test accuracy after a stage."""
    seen, asked = train_y < classes, test_y < classes
    x, y = train_x[seen], train_y[seen]
    for _ in range(EPOCHS):
        for i in torch.randperm(len(y)).split(BATCH):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model["head"](model["body"](x[i])), y[i]).backward()
            optimizer.step()
    with torch.no_grad():
        answers = model["head"](model["body"](test_x[asked])).argmax(1)
    return (answers == test_y[asked]).double().mean().item()


def start(classes):
    model = network(classes)
    groups = [{"params": model[part].parameters()} for part in ("body", "head")]
    return model, torch.optim.Adam(groups, lr=STEP_SIZE)


def incremental(seed, maintained):
    torch.manual_seed(seed)
    model, optimizer = start(STAGES[0])
    if maintained:
        # Laws of torch's own initialisation: the values of a head that has grown are trained ones.
        knobs = {"replacement_rate": 1e-4, "maturity": 200, "decay": 0.99, "laws": "modules", "units": UNITS}
        regrow.ContinualBackprop(model, **knobs, seed=seed).attach(optimizer)
    accuracy = [train(model, optimizer, STAGES[0])]
    for classes in STAGES[1:]:
        grow(model, optimizer, classes)
        accuracy.append(train(model, optimizer, classes))
    return accuracy


def scratch(seed):
    torch.manual_seed(seed)
    return [train(*start(classes), classes) for classes in STAGES]


def main(picture):
    runs = {"a fresh network": scratch, "base": lambda s: incremental(s, False), "CBP": lambda s: incremental(s, True)}
    for name, run in runs.items():
        accuracy = 100 * torch.tensor([run(seed) for seed in range(SEEDS)])
        mean, error = accuracy.mean(0), accuracy.std(0) / SEEDS**0.5
        print(
            f"{name:15s} test accuracy, %:", "  ".join(f"{m:.1f} ± {e:.1f}" for m, e in zip(mean, error, strict=True))
        )
        plt.errorbar(STAGES, mean, error, marker="o", capsize=3, label=name)
    plt.xlabel("classes so far")
    plt.ylabel("test accuracy on them, %")
    plt.legend()
    plt.savefig(picture, dpi=120, bbox_inches="tight")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "class_incremental.png")
