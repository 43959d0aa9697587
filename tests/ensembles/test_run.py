"""Reproducibility: workers, batches, kills, checkpoints, early stops; and bad calls."""

import gc
import os
import signal
import subprocess
import sys
import textwrap
import time
import warnings

import pytest
import torch

import kadanoff as kd
from kadanoff.errors import StorageError, UsageError
from tests.needs import needs

X = torch.tensor([[1.0, 0.5]], dtype=torch.float64)
ARCH = kd.MLP(2, [12, 12], 2, "tanh", C_W=1.2)


def simulate(networks=12_000, **options):
    settings = {"seed": 4, "observables": ["V", "A", "G1"]} | options
    return kd.ensemble(ARCH, X, networks, **settings)


def same(a, b):
    assert a.n_networks == b.n_networks
    assert a.names() == b.names()
    for name in a.names():
        assert torch.equal(a.values[name].value, b.values[name].value)
        assert torch.equal(a.values[name].stderr, b.values[name].stderr)


@pytest.fixture(scope="module")
def alone():
    return simulate()


def test_workers_and_batches_change_nothing(alone):
    same(alone, simulate(n_jobs=2))
    same(alone, simulate(n_jobs=2, batch=1))
    torch_threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        same(alone, simulate())
    finally:
        torch.set_num_threads(torch_threads)


def test_joblib_configuration_is_used(alone):
    import joblib

    with joblib.parallel_config(backend="threading", n_jobs=2):
        same(alone, simulate())


@pytest.fixture
def ray_backend():
    """A Ray cluster of two workers on this machine."""
    needs("ray", "ray")
    import joblib
    import ray
    from ray.util.joblib import register_ray

    for attempt in range(2):
        try:
            ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
            break
        except Exception as error:
            # ray gives its daemons 30 seconds, which a machine that is busy elsewhere may not have
            ray.shutdown()
            if "timed out during startup" not in str(error):
                raise
            if attempt:
                pytest.skip(f"ray did not start on this machine: {error}")
    try:
        register_ray()
        with joblib.parallel_config(backend="ray", n_jobs=2):
            yield
    finally:
        ray.shutdown()
        with warnings.catch_warnings():
            # ray leaves its handles of stopped processes to the collector
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_ray_gives_the_same_even_if_a_worker_is_killed(tmp_path, alone, ray_backend):
    same(alone, simulate())
    kill_one(tmp_path / "killed", alone, None)


def test_seed_and_global_state():
    state = torch.random.get_rng_state()
    a, b = simulate(600, seed=1), simulate(600, seed=2)
    assert torch.equal(state, torch.random.get_rng_state())
    assert not torch.equal(a.V.value, b.V.value)


def test_memory_does_not_grow_with_networks():
    from kadanoff.ensembles.blocks import stream
    from kadanoff.ensembles.run import make_plan

    plan, _ = make_plan(ARCH, X, "exact", 0, ["V"], None, 4, "cpu")
    sizes = []
    for networks in (1000, 20_000):
        moments, _ = stream(
            plan, networks, lambda m: {}, rtol=None, checkpoint=None, n_jobs=1, progress=None,
            batch=None,
        )  # fmt: skip
        sizes.append(sum(v.numel() for v in moments.sums.values()))
    assert sizes[0] == sizes[1]


SCRIPT = """
    import os, sys, time, torch, kadanoff as kd
    arch = kd.MLP(2, [12, 12], 2, "tanh", C_W=1.2)
    X = torch.tensor([[1.0, 0.5]], dtype=torch.float64)
    def progress(done, total, **info):
        print(done, flush=True)
        time.sleep(0.3)
    kd.ensemble(arch, X, 40_000, seed=4, observables=["V", "A", "G1"],
                checkpoint=sys.argv[1], progress=progress)
"""


def test_killed_run_resumes_bitwise(tmp_path):
    path = tmp_path / "state"
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(SCRIPT), str(path)], env=environment,
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert child.stdout is not None
    for _ in range(3):
        child.stdout.readline()
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    done = []
    resumed = simulate(40_000, checkpoint=path, progress=lambda n, total, **info: done.append(n))
    assert done[0] > 2 * 4096  # it did not start again
    same(resumed, simulate(40_000))


def test_extending_a_finished_run(tmp_path):
    simulate(8192, checkpoint=tmp_path / "s")
    same(simulate(12_000, checkpoint=tmp_path / "s"), simulate(12_000))


def test_checkpoints_of_other_ensembles_and_broken_files(tmp_path):
    simulate(4096, checkpoint=tmp_path / "s")
    with pytest.raises(UsageError, match="another ensemble"):
        simulate(4096, checkpoint=tmp_path / "s", seed=5)
    (tmp_path / "s").write_bytes(b"nothing")
    with pytest.raises(StorageError, match="cannot be read"):
        simulate(4096, checkpoint=tmp_path / "s")


class Fatal:
    """A plan whose first run of block 1 kills its worker."""

    def __init__(self, plan, flag):
        self.plan, self.flag, self.block = plan, flag, plan.block

    def run(self, block, size):
        if block == 1 and not os.path.exists(self.flag):
            with open(self.flag, "w"):
                pass
            os.kill(os.getpid(), signal.SIGKILL)
        return self.plan.run(block, size)


def kill_one(flag, alone, n_jobs):
    """Kill the worker that runs block 1, once, and compare with the run ``alone``."""
    from kadanoff.ensembles.blocks import stream
    from kadanoff.ensembles.run import estimates, make_plan

    plan, _ = make_plan(ARCH, X, "exact", 4, ["V", "A", "G1"], None, 4, "cpu")
    fatal = Fatal(plan, str(flag))
    moments, _ = stream(
        fatal, 12_000, lambda m: {}, rtol=None, checkpoint=None, n_jobs=n_jobs, progress=None,
        batch=None,
    )  # fmt: skip
    assert os.path.exists(fatal.flag)
    found = estimates(plan, moments)
    for name, m in found.items():
        assert torch.equal(m.value, alone.values[name].value)
        assert torch.equal(m.stderr, alone.values[name].stderr)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_killed_worker_changes_nothing(tmp_path, alone):
    kill_one(tmp_path / "killed", alone, 2)


def test_progress_tells_the_error_so_far():
    seen = []

    def progress(done, total, relative_error):
        seen.append((done, total, relative_error))

    found = simulate(100_000, observables=["V"], progress=progress)
    assert [done for done, _, _ in seen] == sorted({done for done, _, _ in seen})
    assert seen[-1][:2] == (100_000, 100_000)
    # the last number is the error of the result, and errors fall like the root of the count
    last = float(found.V.stderr[-1] / found.V.value[-1])
    assert seen[-1][2] >= last > 0
    assert seen[-1][2] < 0.5 * seen[0][2]


def test_early_stop_is_precise_and_deterministic():
    first = simulate(400_000, rtol=0.05, observables=["V"])
    assert first.converged
    assert first.n_networks < 100_000
    assert float(first.V.stderr[-1]) <= 0.05 * float(first.V.value[-1])
    same(first, simulate(400_000, rtol=0.05, observables=["V"], n_jobs=2))
    assert simulate(500, rtol=0.001, observables=["V"]).converged is False


@pytest.mark.parametrize(
    "options,message",
    [
        ({"method": "magic"}, "exact"),
        ({"observables": ["Z"]}, "No observable"),
        ({"layers": [9]}, "no layer"),
        ({"rtol": -1.0}, "rtol"),
        ({"rows": 1}, "pairs"),
        ({"seed": -1}, "seed"),
    ],
)
def test_bad_calls(options, message):
    with pytest.raises(UsageError, match=message):
        simulate(100, **options)


def test_what_cannot_be_sampled_says_why():
    relu = kd.MLP(2, [8], 2, "relu")
    found = kd.ensemble(relu, X, 200)
    with pytest.raises(UsageError, match="delta function"):
        _ = found.S
    with pytest.raises(UsageError, match="delta function"):
        kd.ensemble(relu, X, 200, observables=["R"])


@pytest.mark.gpu
def test_blocks_run_on_the_device():
    cpu = simulate(20_000)
    cuda = simulate(20_000, device="cuda")
    for name in cpu.names():
        a, b = cpu.values[name], cuda.values[name]
        error = (a.stderr[1:] ** 2 + b.stderr[1:] ** 2).sqrt()
        assert ((a.value - b.value)[1:].abs() <= 4 * error + 1e-12).all()


def test_nothing_is_left_behind(tmp_path):
    start = time.time()
    simulate(4096, checkpoint=tmp_path / "s")
    assert [p.name for p in tmp_path.iterdir()] == ["s"]
    assert time.time() - start < 60
