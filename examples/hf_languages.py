"""Hugging Face: a tiny GPT-2 on a stream of languages, one after the other, with one callback and without.

A language is a random table of which of 32 words follows which. Nothing is downloaded.
Run: pip install 'regrow[lab,transformers]'; python examples/hf_languages.py [picture.png]
"""

import os
import sys
import tempfile
import warnings

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import torch
import transformers
from matplotlib import pyplot as plt
from torch.utils.data import IterableDataset

import regrow
from regrow.integrations.transformers import RegrowCallback

LANGUAGES, UPDATES, BATCH, WORDS, LENGTH = 30, 60, 16, 32, 16
transformers.logging.set_verbosity_error()
warnings.filterwarnings("ignore", message="laws read off the values")  # of GPT-2's own initialisation


class Languages(IterableDataset):
    """Sentences of one language after the other."""

    def __iter__(self):
        for language in range(LANGUAGES):
            rng = np.random.default_rng(language)
            follows = rng.dirichlet(np.full(WORDS, 0.1), size=WORDS).cumsum(1)
            words = [rng.integers(WORDS, size=UPDATES * BATCH)]
            for _ in range(LENGTH - 1):
                drawn = (follows[words[-1]] < rng.random((UPDATES * BATCH, 1))).sum(1)
                words.append(drawn.clip(max=WORDS - 1))
            for sentence in torch.tensor(np.stack(words, axis=1)):
                yield {"input_ids": sentence, "labels": sentence}


def train(callbacks):
    """The mean loss on each language."""
    transformers.set_seed(0)
    config = transformers.GPT2Config(
        vocab_size=WORDS, n_positions=LENGTH, n_embd=32, n_layer=2, n_head=2, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0
    )
    with tempfile.TemporaryDirectory() as folder:
        arguments = transformers.TrainingArguments(
            folder, max_steps=LANGUAGES * UPDATES, per_device_train_batch_size=BATCH, learning_rate=1e-2,
            lr_scheduler_type="constant", logging_steps=UPDATES, save_strategy="no", report_to="none",
            disable_tqdm=True, use_cpu=True, dataloader_pin_memory=False,
        )  # fmt: skip
        model = transformers.GPT2LMHeadModel(config)
        trainer = transformers.Trainer(model, arguments, train_dataset=Languages(), callbacks=callbacks)
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.train()
    return [line["loss"] for line in trainer.state.log_history if "loss" in line]


def main(picture):
    callback = RegrowCallback(lambda model: regrow.SWR(model, every=UPDATES, factor=1e-1, skip="*ln_*"))
    curves = {"base": train([]), "SWR": train([callback])}
    for name, losses in curves.items():
        first, last = (sum(part) / len(part) for part in (losses[:10], losses[-10:]))
        print(f"{name:5s} loss: first ten languages {first:.3f}, last ten {last:.3f}")
        plt.plot(range(1, LANGUAGES + 1), losses, label=name)
    print({key: round(value, 3) for key, value in callback.report().items()})
    plt.xlabel("language")
    plt.ylabel("mean loss while it is learnt, nats a word")
    plt.legend()
    plt.savefig(picture, dpi=120, bbox_inches="tight")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "hf_languages.png")
