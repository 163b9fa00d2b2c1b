"""Claim: what cannot be served is refused in one line that names the remedy."""

import subprocess
import sys

import pytest
import torch
from models import mlp
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import distribute_tensor

import regrow


@pytest.fixture
def mesh(tmp_path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    torch.distributed.destroy_process_group()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("when", ["before construction", "before attach"])
def test_sharded_parameters_are_refused(mesh, when: str) -> None:
    model = mlp()

    def shard() -> None:
        model[0].weight = nn.Parameter(distribute_tensor(model[0].weight.detach(), mesh))

    def attached() -> None:
        swr.attach(torch.optim.SGD(model.parameters(), lr=0.1))

    message = r"'0.weight' cannot be renewed because it is a DTensor of placement Replicate: .*skip='0.weight'"
    if when == "before construction":
        shard()
        with pytest.raises(TypeError, match=message):
            regrow.SWR(model, every=1, factor=0.1)
    else:
        swr = regrow.SWR(model, every=1, factor=0.1)
        shard()
        with pytest.raises(TypeError, match=message):
            attached()


def test_the_laboratory_without_its_extras_names_them() -> None:
    code = "import sys; sys.modules['polars'] = None; import regrow; regrow.load"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "need 'polars', which is not installed: pip install 'regrow[lab]'" in said.stderr
