"""A model on processes of its own: data-parallel is watched, sharded is refused."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from torch import nn

from kadanoff.errors import UsageError
from kadanoff.watching import Watch
from tests.watching.runs import classes, mlp, train

pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture
def group(tmp_path):
    """A group of one process."""
    dist.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1
    )
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("group")
def test_data_parallel():
    model = nn.parallel.DistributedDataParallel(mlp())
    w = train(model, classes(), torch.optim.SGD(model.parameters(), lr=0.1), 20, thorough=True)
    assert [f.step for f in w.film.frames] == [0, 10, 20]
    assert "data-parallel" in w.film.notes[0]
    assert w.film.losses()[1][-1] < w.film.losses()[1][0]
    assert w.healthy


@pytest.mark.usefixtures("group")
def test_sharded_parameters_are_refused_clearly():
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    model = mlp()
    fully_shard(model, mesh=init_device_mesh("cpu", (1,)))
    with pytest.raises(UsageError, match="sharded over processes"):
        Watch(model, classes())
