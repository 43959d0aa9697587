"""Every operation, answered undrawn, is the operation on one matrix.

After a forward and a backward pass in which nothing was drawn, the weights are drawn given all
answers. The module with these weights must then give the same output, input gradients and
gradient norms to rounding: an identity, not a statistical test.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from kadanoff.program import Law, Network
from kadanoff.program.hosts import Real


def _laws(module: nn.Module) -> dict[str, Law]:
    return {
        n: Law(std=0.3) if p.ndim > 1 else Law(std=0.1, kind="uniform")
        for n, p in module.named_parameters()
    }


def hold_together(module: nn.Module, *inputs, drawn: set[str] = frozenset(), rtol=1e-7, laws=_laws):
    module = module.double()
    module.zero_grad()
    inputs = [x.double() if x.is_floating_point() else x for x in inputs]
    network = Network(module, laws(module), 5, method="undrawn")
    mine = [x.clone().requires_grad_(x.is_floating_point()) for x in inputs]
    with network:
        out = module(*mine)
        weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(3), dtype=out.dtype)
        network.recording = True
        (out * weight + out.square()).sum().backward()
    matrices = {n for n, p in module.named_parameters() if p.ndim > 1}
    assert {n for n in matrices if network.sources[n].drawn} == set(drawn)
    gradients = network.gradients()
    with torch.no_grad():
        for name, p in module.named_parameters():
            p.copy_(network.sources[name].leaf("given all answers"))
    theirs = [x.clone().requires_grad_(x.is_floating_point()) for x in inputs]
    real = module(*theirs)
    (real * weight + real.square()).sum().backward()
    torch.testing.assert_close(out, real, rtol=rtol, atol=1e-8)
    for a, b in zip(mine, theirs):
        if a.requires_grad:
            torch.testing.assert_close(a.grad, b.grad, rtol=rtol, atol=1e-7)
    for name, p in module.named_parameters():
        if p.grad is not None:
            torch.testing.assert_close(gradients[name], p.grad.square().sum(), rtol=1e-6, atol=0)


class Uses(nn.Module):
    """A parameter and a function of it."""

    def __init__(self, shape, function):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(shape))
        self.function = function

    def forward(self, *x):
        return self.function(self.weight, *x)


def rows(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


MAPS = {
    "linear": ((9, 11), lambda w, x: F.linear(x, w)),
    "transposed linear": ((11, 9), lambda w, x: F.linear(x, w.t())),
    "T": ((11, 9), lambda w, x: F.linear(x, w.T)),
    "matmul": ((11, 9), lambda w, x: x @ w),
    "matmul of mT": ((9, 11), lambda w, x: x @ w.mT),
    "from the left": ((9, 11), lambda w, x: (w @ x.mT).mT),
    "mm": ((11, 9), lambda w, x: torch.mm(x.flatten(0, 1), w)),
    "addmm": ((11, 9), lambda w, x: torch.addmm(x.sum(), x[0], w, beta=2, alpha=0.5)),
    "scaled": ((9, 11), lambda w, x: F.linear(x, w * 0.5)),
    "einsum": ((11, 3, 4), lambda w, x: torch.einsum("btn,nhd->bthd", x, w)),
    "einsum out": ((3, 4, 11), lambda w, x: torch.einsum("hdn,btn->btdh", w, x)),
    "chunks": ((12, 11), lambda w, x: sum(F.linear(x, p) for p in w.chunk(3))),
    "slices": ((12, 11), lambda w, x: F.linear(x, w[:5]).sum() + F.linear(x, w[5:]).square()),
    "experts": ((3, 9, 11), lambda w, x: F.linear(x, w[0]) + F.linear(x, w[2])),
    "batched": ((2, 11, 9), lambda w, x: torch.bmm(x, w)),
    "used twice": ((11, 11), lambda w, x: F.linear(torch.tanh(F.linear(x, w)), w)),
    "both sides": ((9, 11), lambda w, x: torch.tanh(x @ w.T) @ w),
    "cast": ((9, 11), lambda w, x: F.linear(x, w.to(x.dtype).contiguous())),
    "quadratic form": ((11, 11), lambda w, x: ((x @ w) * x).sum(-1)),
}


@pytest.mark.parametrize("name", MAPS)
def test_linear_maps(name):
    shape, function = MAPS[name]
    hold_together(Uses(shape, function), rows(2, 3, 11))


DRAWN = {
    "entrywise": ((9, 11), lambda w, x: F.linear(x, torch.tanh(w))),
    "normalised": ((9, 11), lambda w, x: F.linear(x, F.normalize(w))),
    "raw": ((2, 3, 11), lambda w, x: x + w),
    "raw after a map": ((9, 11), lambda w, x: F.linear(x, w).sum() + w.square().sum() * x),
    "columns": ((9, 11), lambda w, x: F.linear(x[..., :4], w[:, :4])),
    "bilinear": ((4, 11, 11), lambda w, x: F.bilinear(x, x, w)),
    "reversed": ((9, 11), lambda w, x: F.linear(x, w.flip(0))),
}


@pytest.mark.parametrize("name", DRAWN)
def test_what_has_no_law_is_drawn_and_right(name):
    shape, function = DRAWN[name]
    hold_together(Uses(shape, function), rows(2, 3, 11), drawn={"weight"})


CONVOLUTIONS = {
    "1d": (nn.Conv1d(4, 6, 3, padding=1), (2, 4, 9)),
    "2d": (nn.Conv2d(4, 6, 3), (2, 4, 7, 8)),
    "strided": (nn.Conv2d(4, 6, 3, stride=2, padding=1), (2, 4, 7, 8)),
    "uneven": (nn.Conv2d(4, 6, (3, 1), stride=(1, 2), padding=(2, 0)), (2, 4, 7, 8)),
    "dilated": (nn.Conv2d(4, 6, 3, dilation=2, padding="same"), (2, 4, 7, 8)),
    "groups": (nn.Conv2d(4, 6, 3, groups=2, padding=1), (2, 4, 6, 5)),
    "circular": (nn.Conv2d(4, 6, 3, padding=1, padding_mode="circular"), (2, 4, 6, 5)),
    "reflect": (nn.Conv1d(4, 6, 3, padding=1, padding_mode="reflect"), (2, 4, 9)),
    "3d": (nn.Conv3d(2, 3, 2, stride=2, padding=1), (2, 2, 4, 5, 3)),
    "1 × 1": (nn.Conv2d(4, 6, 1, bias=False), (2, 4, 3, 3)),
    "patches": (nn.Conv2d(3, 8, 4, stride=4), (2, 3, 8, 8)),
    "transposed": (nn.ConvTranspose2d(4, 3, 4, stride=2, padding=1), (2, 4, 5, 6)),
    "transposed 1d": (nn.ConvTranspose1d(4, 3, 3, stride=2, output_padding=1), (2, 4, 5)),
    "transposed, groups": (nn.ConvTranspose2d(4, 6, 3, groups=2, dilation=2), (2, 4, 5, 4)),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions(name):
    module, shape = CONVOLUTIONS[name]
    hold_together(module, rows(*shape))


def test_depthwise_convolutions_and_transposed_ones_in_three_dimensions_are_drawn():
    hold_together(nn.Conv1d(16, 16, 4, groups=16, padding=3), rows(2, 16, 9), drawn={"weight"})
    hold_together(nn.ConvTranspose3d(2, 3, 2), rows(1, 2, 3, 3, 3), drawn={"weight"})


TOKENS = torch.tensor([[3, 1, 3, 0], [1, 5, 9, 3]])


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(12, 7, padding_idx=0)
        self.mix = nn.Linear(7, 7)

    def forward(self, ids):
        return F.linear(torch.tanh(self.mix(self.table(ids))), self.table.weight)


def test_embeddings_tied_to_the_readout():
    hold_together(Tied(), TOKENS)


def test_embedding_rows_by_index_and_bags():
    hold_together(Uses((12, 7), lambda w, ids: w[ids].tanh()), TOKENS)
    hold_together(nn.EmbeddingBag(12, 7, mode="sum"), TOKENS)


def test_rows_looked_up_after_the_readout_was_asked_are_drawn_and_right():
    def function(w, ids):
        logits = F.linear(F.embedding(ids, w).tanh(), w)
        return logits.sum() + F.embedding(ids + 1, w).square()

    hold_together(Uses((12, 7), function), TOKENS, drawn={"weight"})


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell = nn.RNNCell(5, 8)
        self.own = nn.Linear(8, 8)

    def forward(self, x):
        h = x.new_zeros(x.shape[0], 8)
        for t in range(x.shape[1]):
            h = torch.tanh(self.own(h)) + x[:, t].sum(-1, keepdim=True)
        return h


def test_a_matrix_used_at_every_step_remembers():
    module = Recurrent()
    del module.cell
    hold_together(module, rows(2, 5, 5))


def test_attention_modules_are_looked_into():
    attention = nn.MultiheadAttention(8, 2, batch_first=True)

    class Self(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = attention

        def forward(self, x):
            return self.attention(x, x, x)[0]

    hold_together(Self(), rows(2, 3, 8))
    hold_together(nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True), rows(2, 3, 8))


class Everything(nn.Module):
    """All that a recurrent layer returns, in one tensor; sequences packed if they have lengths."""

    def __init__(self, net, lengths=None):
        super().__init__()
        self.net, self.lengths = net, lengths

    def forward(self, x):
        if self.lengths is not None:
            x = pack_padded_sequence(x, self.lengths, batch_first=True, enforce_sorted=False)
        output, last = self.net(x)
        if self.lengths is not None:
            output = pad_packed_sequence(output, batch_first=True)[0]
        last = last if isinstance(last, tuple) else (last,)
        return torch.cat([output.flatten(1), *(s.transpose(0, 1).flatten(1) for s in last)], 1)


RECURRENT = {
    "lstm": (nn.LSTM, {}),
    "gru": (nn.GRU, {}),
    "tanh": (nn.RNN, {}),
    "relu": (nn.RNN, {"nonlinearity": "relu"}),
    "lstm, two layers, both ways": (nn.LSTM, {"num_layers": 2, "bidirectional": True}),
    "gru without biases": (nn.GRU, {"num_layers": 2, "bidirectional": True, "bias": False}),
    "lstm, projected": (nn.LSTM, {"proj_size": 4}),
}


@pytest.mark.parametrize("name", RECURRENT)
def test_fused_recurrent_layers_are_run_step_by_step(name):
    kind, options = RECURRENT[name]
    hold_together(Everything(kind(5, 6, batch_first=True, **options)), rows(2, 4, 5))
    packed = Everything(kind(5, 6, batch_first=True, **options), [2, 4, 3])
    hold_together(packed, rows(3, 4, 5))


@pytest.mark.parametrize("kind", [nn.LSTMCell, nn.GRUCell, nn.RNNCell])
def test_recurrent_cells(kind):
    class Loop(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = kind(5, 6)

        def forward(self, x):
            state = None
            for t in range(x.shape[1]):
                state = self.cell(x[:, t], state)
            return state[0] if isinstance(state, tuple) else state

    hold_together(Loop(), rows(2, 4, 5))


def _orthogonal(module: nn.Module) -> dict[str, Law]:
    kind = {True: "orthogonal", False: "normal"}
    return {n: Law(std=0.3, kind=kind[p.ndim > 1]) for n, p in module.named_parameters()}


@pytest.mark.parametrize(
    "name", ["linear", "transposed linear", "from the left", "used twice", "both sides", "addmm"]
)
def test_orthogonal_maps(name):
    shape, function = MAPS[name]
    module = Uses(shape, function)
    hold_together(module, rows(2, 2, 11), laws=_orthogonal)
    # what was drawn given all answers has orthonormal columns or rows
    W = module.weight.detach() / (0.3 * max(shape) ** 0.5)
    gram = W @ W.T if shape[0] <= shape[1] else W.T @ W
    torch.testing.assert_close(gram, torch.eye(len(gram), dtype=W.dtype))


def test_orthogonal_convolutions_and_recurrences():
    for name in ("2d", "strided", "transposed"):
        module, shape = CONVOLUTIONS[name]
        hold_together(module, rows(*shape), laws=_orthogonal)
    hold_together(Everything(nn.LSTM(5, 6, batch_first=True)), rows(2, 4, 5), laws=_orthogonal)
    # parts of an orthogonal matrix depend on each other
    shape, function = MAPS["slices"]
    hold_together(Uses(shape, function), rows(2, 11), drawn={"weight"}, laws=_orthogonal)


def test_second_derivatives_in_the_forward_pass():
    def function(w, x):
        x = x.detach().requires_grad_(True)
        y = torch.tanh(F.linear(x, w)).sum()
        (slope,) = torch.autograd.grad(y, x, create_graph=True)
        return slope.square()

    hold_together(Uses((9, 11), function), rows(4, 11))


def test_checkpointed_blocks_recompute_the_same_answers():
    from torch.utils.checkpoint import checkpoint

    def function(w, x):
        return checkpoint(lambda y: torch.tanh(F.linear(y, w)), x, use_reentrant=False)

    hold_together(Uses((9, 11), function), rows(2, 3, 11))


def test_writing_into_a_parameter_draws_it():
    def function(w, x):
        with torch.no_grad():
            w.mul_(0.5)
        return F.linear(x, w)

    module = Uses((9, 11), function).double()
    before = module.weight.detach().clone()
    with Network(module, _laws(module), 0, method="undrawn") as network:
        module(rows(2, 11))
    assert network.sources["weight"].drawn
    assert torch.equal(module.weight, before)


def test_the_model_is_left_alone_and_may_be_on_the_meta_device():
    real, empty = nn.Linear(64, 32), nn.Linear(64, 32, device="meta")
    laws = {"weight": Law(std=0.1), "bias": Law(std=0.2, kind="uniform")}
    x = rows(3, 64).float()
    out = []
    for module in (real, empty):
        with Network(module, laws, 4) as network, torch.enable_grad():
            out.append(module(x))
            assert module.weight.device == x.device
            with network.backward(record=True):
                out[-1].square().sum().backward()
        assert module.weight.grad is None
        assert network.gradients()["weight"] > 0
    assert torch.equal(*out)


def test_tangent_kernels_are_those_of_the_drawn_network():
    module = Tied().double()
    module.mix.bias.requires_grad_(True)

    def rates(name, parameter):
        return 0.5 if parameter.ndim > 1 else 2.0

    network = Network(module, _laws(module), 8, method="undrawn")
    with network:
        outputs = module(TOKENS)[:, -1, :2].flatten()
        theta = network.tangent(outputs, rates)
    with torch.no_grad():
        for name, p in module.named_parameters():
            p.copy_(network.sources[name].leaf("given all answers"))
    real = module(TOKENS)[:, -1, :2].flatten()
    torch.testing.assert_close(outputs, real)
    torch.testing.assert_close(theta, Real(module).tangent(real, rates))
