"""Activations, against torch's."""

import jax.numpy as jnp
import numpy as np
import pytest

from consistency_jax.models.activations import ACTIVATIONS, XIelu

X = np.linspace(-6, 6, 101, dtype=np.float32)


def test_plain_ones_are_those_of_torch():
    torch = pytest.importorskip("torch")
    theirs = {
        "silu": torch.nn.functional.silu(torch.tensor(X)),
        "gelu_tanh": torch.nn.functional.gelu(torch.tensor(X), approximate="tanh"),
    }
    assert set(theirs) == set(ACTIVATIONS)
    for name, activation in ACTIVATIONS.items():
        np.testing.assert_allclose(activation(X), theirs[name].numpy(), atol=1e-6)


@pytest.mark.parametrize(("above", "below"), [(0.0, 0.0), (1.3, -0.7)])
def test_xielu_is_that_of_transformers(above, below):
    torch = pytest.importorskip("torch")
    activations = pytest.importorskip("transformers.activations")
    module = activations.XIELUActivation(dtype=torch.float32)
    with torch.no_grad():
        module.alpha_p.fill_(above)
        module.alpha_n.fill_(below)
        expected = module._xielu_python(torch.tensor(X)).numpy()
    params = {"alpha_p": jnp.full(1, above), "alpha_n": jnp.full(1, below)}
    np.testing.assert_allclose(XIelu("float32").apply({"params": params}, X), expected, atol=1e-5)
