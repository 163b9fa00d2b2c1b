"""Lightning: a network that meets a new permutation of the pixels every epoch, with one callback and without.

Run: pip install 'regrow[lab,lightning]'; python examples/lightning_digits.py [picture.png]
"""

import logging
import sys
import warnings

import lightning
import torch
from matplotlib import pyplot as plt
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import regrow
from regrow.integrations.lightning import RegrowCallback

EPOCHS, BATCH, STEP_SIZE = 60, 16, 5e-3
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", message=".*does not have many workers")


class Permuted(lightning.LightningModule):
    """A classifier of digits; `accuracy` holds its online accuracy in each epoch."""

    def __init__(self):
        super().__init__()
        body = [nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU()]
        self.net = nn.Sequential(*body, nn.Linear(32, 10))
        self.accuracy = []

    def on_train_epoch_start(self):
        self.order = torch.randperm(64, generator=torch.Generator().manual_seed(self.current_epoch))
        self.correct = self.seen = 0

    def training_step(self, batch, _):
        pixels, labels = batch
        logits = self.net(pixels[:, self.order])
        self.correct += int((logits.argmax(1) == labels).sum())  # before the update
        self.seen += len(labels)
        return nn.functional.cross_entropy(logits, labels)

    def on_train_epoch_end(self):
        self.accuracy.append(self.correct / self.seen)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=STEP_SIZE)


def train(callbacks):
    lightning.seed_everything(0, verbose=False)
    images, labels = load_digits(return_X_y=True)
    data = TensorDataset(torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels))
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    trainer = lightning.Trainer(max_epochs=EPOCHS, accelerator="cpu", devices=1, callbacks=callbacks, **quiet)
    module = Permuted()
    trainer.fit(module, DataLoader(data, batch_size=BATCH, shuffle=True))
    return module.accuracy


def main(picture):
    callback = RegrowCallback(lambda module: regrow.SWR(module, every=112, factor=1e-3))
    curves = {"base": train([]), "SWR": train([callback])}
    for name, accuracy in curves.items():
        first, last = (sum(part) / len(part) for part in (accuracy[:10], accuracy[-10:]))
        print(f"{name:5s} online accuracy: first ten epochs {first:.1%}, last ten {last:.1%}")
        plt.plot(range(1, EPOCHS + 1), [100 * value for value in accuracy], label=name)
    print({key: round(value, 3) for key, value in callback.report().items()})
    plt.xlabel("epoch, each with pixels permuted anew")
    plt.ylabel("online accuracy, %")
    plt.legend()
    plt.savefig(picture, dpi=120, bbox_inches="tight")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "lightning_digits.png")
