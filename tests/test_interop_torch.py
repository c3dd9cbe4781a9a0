"""Models from PyTorch and to PyTorch: the same outputs, the same weights, and an error for what can't be carried."""

import pickle

import numpy as np
import pytest

from fastrnn import ConversionError, RNNRegressor, Sequential, interop, layers

torch = pytest.importorskip("torch")
pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore")]
nn = torch.nn


class Net(nn.Module):
    """A module as people write them: recurrent, then linear, over all steps or the last one."""

    def __init__(self, recurrent, last=False, tokens=0, double=False):
        super().__init__()
        torch.manual_seed(0)
        if tokens:
            self.embed = nn.Embedding(tokens, recurrent.input_size)
        self.recurrent, self.last = recurrent, last
        self.head = nn.Linear(
            recurrent.hidden_size * (1 + recurrent.bidirectional), 2, dtype=torch.float64 if double else None
        )

    def forward(self, x):
        if hasattr(self, "embed"):
            x = self.embed(x)
        y, _ = self.recurrent(x)
        if self.last:
            y = y[:, -1] if self.recurrent.batch_first else y[-1]
        return self.head(y)


KINDS = {
    "rnn": (nn.RNN, {}),
    "rnn-relu": (nn.RNN, {"nonlinearity": "relu"}),
    "lstm": (nn.LSTM, {}),
    "gru": (nn.GRU, {}),
}


@pytest.mark.parametrize("batch_first", [True, False], ids=["batch_first", "time_first"])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no_bias"])
@pytest.mark.parametrize("bidirectional", [False, True], ids=["forward", "bidirectional"])
@pytest.mark.parametrize("n_layers", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_modules_travel_here_and_back(kind, n_layers, bidirectional, bias, batch_first, capsys):
    cls, options = KINDS[kind]
    torch.manual_seed(3)
    recurrent = cls(
        3,
        4,
        n_layers,
        bias=bias,
        bidirectional=bidirectional,
        batch_first=batch_first,
        dropout=0.1 * (n_layers > 1),
        **options,
    )
    model = interop.from_torch(Net(recurrent), verbose=True)
    assert (
        sum(layer.has_states or isinstance(layer, layers.Bidirectional) for layer in model.layers) == n_layers
    )
    again = interop.from_torch(interop.to_torch(model, verbose=True), verbose=True)
    for a, b in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert capsys.readouterr().out.count("largest difference") == 3


@pytest.mark.parametrize("kind", KINDS)
def test_outputs_of_the_last_step_are_found_by_comparing(kind):
    cls, options = KINDS[kind]
    model = interop.from_torch(Net(cls(3, 4, batch_first=True, **options), last=True))
    assert not model.layers[0].return_sequences
    tokens = interop.from_torch(Net(cls(3, 4, **options), tokens=9))
    assert tokens.layers[0].input_dim == 9
    assert tokens.layers[1].return_sequences


def test_float64_stays_float64():
    model = interop.from_torch(Net(nn.LSTM(3, 4, dtype=torch.float64, batch_first=True), double=True))
    assert model.layers[0].dtype == np.float64
    assert interop.to_torch(model).lstm.weight_hh_l0.dtype == torch.float64


@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru"])
def test_state_dicts_are_read_without_the_module(kind):
    module = Net(KINDS[kind][0](3, 4, 2, bidirectional=True), tokens=9)
    expected = interop.from_torch(module)
    arrays = {key: value.numpy() for key, value in module.state_dict().items()}
    for state in (module.state_dict(), arrays):
        model = interop.from_torch(state)
        for a, b in zip(expected.get_weights(), model.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)


def test_modules_to_torch_are_ordinary_modules(tmp_path):
    model = Sequential(
        [
            layers.Embedding(9, 3),
            layers.Bidirectional(layers.GRU(4, return_sequences=True)),
            layers.Dropout(0.5),
            layers.TimeDistributed(layers.Dense(5, activation="elu")),
            layers.LSTM(3),
            layers.Activation("tanh"),
            layers.Dense(2, activation="softmax"),
        ],
        seed=0,
    )
    module = interop.to_torch(model)
    x = np.array([[1, 2, 3, 8]])
    np.testing.assert_allclose(module(torch.tensor(x)).detach().numpy(), model(x), rtol=1e-5, atol=1e-6)
    again = pickle.loads(pickle.dumps(module))
    np.testing.assert_array_equal(
        again(torch.tensor(x)).detach().numpy(), module(torch.tensor(x)).detach().numpy()
    )
    loss = module.train()(torch.tensor(x)).sum()
    loss.backward()
    assert all(p.grad is not None for p in module.parameters())


def test_regressor_travels():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(20, 5, 2)).astype("float32"), rng.normal(size=20).astype("float32")
    model = RNNRegressor(units=(4, 3), bidirectional=True, max_iter=2, tol=None, random_state=0).fit(x, y)
    found = interop.to_torch(model)(torch.tensor(x)).detach().numpy()[:, 0]
    np.testing.assert_allclose(found, model.predict(x), rtol=1e-5, atol=1e-6)


I3 = lambda: layers.Input((None, 3))  # noqa: E731
LACKING = {
    "janet": ([layers.JANET(3, name="mine")], "'mine'.*JANET"),
    "activation": ([layers.LSTM(3, activation="relu")], "activation='relu'"),
    "gate": ([layers.GRU(3, recurrent_activation="hard_sigmoid")], "recurrent_activation"),
    "reset": ([layers.GRU(3, reset_after=False)], "reset_after=False"),
    "backwards": ([layers.LSTM(3, go_backwards=True)], "go_backwards"),
    "stateful": ([layers.LSTM(3, stateful=True)], "stateful"),
    "merge": ([layers.Bidirectional(layers.LSTM(3), merge_mode="mul")], "merge_mode='mul'"),
    "masking": ([layers.Masking(), layers.LSTM(3)], "Masking"),
    "dense": ([layers.Dense(3, activation="exponential")], "activation='exponential'"),
}


@pytest.mark.parametrize("name", LACKING)
def test_what_torch_lacks_is_named(name):
    made, match = LACKING[name]
    with pytest.raises(ConversionError, match=match):
        interop.to_torch(Sequential([I3(), *made]))


class Twice(Net):
    def forward(self, x):
        return 2 * super().forward(x)


class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))
        self.head = nn.Linear(3, 2)


UNKNOWN = {
    "conv": (nn.Sequential(nn.Conv1d(3, 2, 3)), "Conv1d"),
    "computes_more": (Twice(nn.LSTM(3, 4, batch_first=True)), "computes something else"),
    "projection": (nn.LSTM(3, 4, proj_size=2), "projection"),
    "own_weights": (Own(), "scale"),
    "slope": (nn.Sequential(nn.Linear(3, 2), nn.LeakyReLU(0.1)), "negative_slope"),
    "no_layers": (nn.Sequential(), "not known|nothing"),
    "list": ([nn.Linear(3, 2)], "give a torch.nn.Module"),
    "sizes": (nn.Sequential(nn.Linear(3, 2), nn.Linear(3, 2)), "stack of layers"),
    "empty": ({}, "nothing"),
    "state": ({"a.weight": np.zeros((3, 3, 3))}, "known are"),
    "gates": ({"weight_hh_l0": np.zeros((10, 5)), "weight_ih_l0": np.zeros((10, 5))}, "no RNN, GRU or LSTM"),
    "no_units": ({"weight_hh_l0": np.zeros((0, 0)), "weight_ih_l0": np.zeros((0, 3))}, "shape"),
    "key": ({3: np.zeros((3, 2))}, "key 3"),
    "strings": ({"a.weight": np.array([["x"]])}, "dtype"),
    "vector": ({"weight_hh_l0": np.zeros(4), "weight_ih_l0": np.zeros((4, 3))}, "don't form layers"),
    "missing": ({"weight_hh_l0": np.zeros((20, 5))}, "weight_ih_l0"),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_is_not_known_here_is_named(name):
    source, match = UNKNOWN[name]
    with pytest.raises(ConversionError, match=match):
        interop.from_torch(source)


@pytest.mark.parametrize("every_step", [True, False])
@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize("bidirectional", [False, True], ids=["one-way", "both-ways"])
def test_state_dicts_are_compared_with_torch_on_request(kind, bidirectional, every_step, capsys, monkeypatch):
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = torch.nn.Embedding(9, 3)
            self.rnn = getattr(torch.nn, kind)(3, 4, 2, batch_first=True, bidirectional=bidirectional)
            self.dense = torch.nn.Linear(8 if bidirectional else 4, 2)

    table = Net().state_dict()
    interop.from_torch(table, return_sequences=every_step, verbose=True)
    assert "from_torch: largest difference" in capsys.readouterr().out
    # A reader that mistakes the weights is found.
    from fastrnn.interop import torch as reader

    build = reader._build

    def mistaken(*arguments):
        model = build(*arguments)
        model.set_weights([w + 0.1 for w in model.get_weights()])
        return model

    monkeypatch.setattr(reader, "_build", mistaken)
    with pytest.raises(ConversionError, match="from_torch: on random input .* differ"):
        interop.from_torch(table, return_sequences=every_step, verbose=True)
