"""The integrations load their frameworks when they are used, and say what is missing."""

import subprocess
import sys

import pytest
import torch
from torch import nn

import regrow
from regrow.integrations.callback import MaintainerGroup
from regrow.integrations.fresh_values import fresh_values

EXTRAS = {"lightning": "lightning", "stable_baselines3": "stable-baselines3", "transformers": "transformers"}
FRAMEWORKS = {"lightning", "pytorch_lightning", "stable_baselines3", "transformers", "accelerate", "gymnasium"}


def python(program):
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_nothing_is_imported_until_used():
    loaded = python("import sys, regrow; regrow.integrations; print(*{name.split('.')[0] for name in sys.modules})")
    assert not FRAMEWORKS & set(loaded.split())
    pytest.importorskip("stable_baselines3")
    assert python("import regrow; print(regrow.integrations.stable_baselines3.RegrowCallback.__name__)")
    with pytest.raises(AttributeError, match="has no attribute 'keras': it has lightning, stable_baselines3, transf"):
        regrow.integrations.keras  # noqa: B018


@pytest.mark.parametrize("name", EXTRAS)
def test_a_missing_framework_is_one_line(name):
    program = (
        f"import sys; sys.modules |= dict.fromkeys({sorted(FRAMEWORKS)})\n"
        f"try: import regrow.integrations.{name}\nexcept ImportError as error: print(error)"
    )
    line = python(program)
    assert line.startswith(f"regrow.integrations.{name} needs ") and line.endswith(
        f"pip install 'regrow[{EXTRAS[name]}]'"
    )
    assert "\n" not in line


def test_the_group_of_two_models_at_two_depths():
    """Where a resumed model is trained beyond recognition, its maintainers are made as on a fresh one."""

    def build(seed):
        torch.manual_seed(seed)
        return nn.ModuleDict({name: nn.Sequential(nn.Linear(20, 20), nn.ReLU(), nn.Linear(20, 2)) for name in "ab"})

    def make(model):
        return [regrow.SWR(model["a"], every=1, factor=0.1), regrow.ReDo(model["b"], every=1, threshold=0.1)]

    def group_of(model, state=None):
        group = MaintainerGroup(make, None)
        if state is not None:
            group.load_state_dict(state)
        group.attach(model, {"": torch.optim.SGD(model.parameters(), lr=0.1)})
        return group

    fresh, trained = build(0), build(1)
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter.copy_(torch.where(torch.rand_like(parameter) < 0.5, 0.1, parameter**3 * 1e3))
    before = [p.clone() for p in trained.parameters()]
    with pytest.raises(ValueError, match="no law"):
        group_of(trained).maintainers[0].preview()
    state = group_of(fresh).state_dict()
    group = group_of(trained, state)
    assert all(torch.equal(a, b) for a, b in zip(before, trained.parameters()))
    assert [m["state"]["laws"] for m in group.state_dict()["maintainers"]] == [
        m["state"]["laws"] for m in state["maintainers"]
    ]


def test_the_values_come_back_after_an_error():
    model = nn.Linear(8, 8)
    states = [regrow.SWR(model, every=1, factor=0.1).state_dict()]
    before = model.weight.clone()
    with pytest.raises(ZeroDivisionError), fresh_values(model, states):
        assert not torch.equal(model.weight, before)
        raise ZeroDivisionError
    assert torch.equal(model.weight, before)


def test_names_in_reports():
    """Only what tells maintainers apart is in them."""
    model = nn.ModuleDict({name: nn.Linear(4, 4) for name in "ab"})
    optimizers = {name: torch.optim.SGD(part.parameters(), lr=0.1) for name, part in model.items()}

    def prefixes(make, optimizers, name=None):
        group = MaintainerGroup(make, name)
        group.attach(model, optimizers)
        return sorted({key.rpartition("/")[0] for key in group.report()})

    def swr(model):
        return regrow.SWR(model, every=1, factor=0)

    def shrink(model):
        return regrow.ShrinkPerturb(model, shrink=0.1)

    one = {"": torch.optim.SGD(model.parameters(), lr=0.1)}
    assert prefixes(swr, one) == ["regrow"]
    assert prefixes(swr, one, "actor") == ["regrow/actor"]
    assert prefixes(lambda m: [swr(m), shrink(m)], one) == ["regrow/SWR", "regrow/ShrinkPerturb"]
    assert prefixes(lambda m: [swr(m["a"]), swr(m["b"])], one) == ["regrow/SWR-0", "regrow/SWR-1"]
    assert prefixes(lambda m: [swr(m["a"]), swr(m["b"])], optimizers) == ["regrow/a", "regrow/b"]
    assert prefixes(swr, optimizers, "x") == ["regrow/x/a", "regrow/x/b"]
    with pytest.raises(ValueError, match="there is no optimizer to attach to"):
        MaintainerGroup(swr, None).attach(model, {})
    with pytest.raises(ValueError, match="this is not the state of a RegrowCallback"):
        MaintainerGroup(swr, None).load_state_dict({"version": 1})
