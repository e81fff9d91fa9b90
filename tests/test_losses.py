"""Every loss against a direct NumPy transcription of its equation, in float64; gradients numerically."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from dgam.model import losses
from dgam.model.networks import CVAE, DGAM, ModelShape

B, T, D, C, Z, L = 3, 11, 7, 4, 5, 2
Float = NDArray[np.float64]


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20200614)


def softmax(x: Float) -> Float:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def tensor(x: Float) -> torch.Tensor:
    return torch.from_numpy(np.asarray(x, dtype=np.float64))


def close(actual: torch.Tensor, expected: object) -> None:
    np.testing.assert_allclose(actual.detach().numpy(), expected, rtol=0, atol=1e-6)


def test_pooling_is_equations_4_and_5(rng: np.random.Generator) -> None:
    x, attention = rng.normal(size=(B, T, D)), rng.random((B, T))
    expected = np.stack(
        [sum(attention[b, t] * x[b, t] for t in range(T)) / sum(attention[b]) for b in range(B)]
    )
    close(losses.pool(tensor(x), tensor(attention)), expected)
    with_offset = np.stack(
        [sum(attention[b, t] * x[b, t] for t in range(T)) / (sum(attention[b]) + 1) for b in range(B)]
    )
    close(losses.pool(tensor(x), tensor(attention), 1.0), with_offset)


def test_pooling_with_no_attention_at_all_is_zero_not_nan() -> None:
    assert (losses.pool(torch.ones(1, 3, 2), torch.zeros(1, 3)) == 0).all()


def test_foreground_loss_is_the_softmax_loss_of_equation_6(rng: np.random.Generator) -> None:
    logits = rng.normal(size=(B, C + 1))
    labels = np.array([[1, 0, 0, 0], [0, 1, 0, 1], [0, 0, 0, 0]], dtype=float)
    p = softmax(logits)
    by_hand = -np.log(p[0, 0]) - 0.5 * (np.log(p[1, 1]) + np.log(p[1, 3])) - np.log(p[2, C])
    close(losses.foreground_loss(tensor(logits), losses.label_targets(tensor(labels))), by_hand / B)
    summed = -np.log(p[0, 0]) - (np.log(p[1, 1]) + np.log(p[1, 3])) - np.log(p[2, C])
    close(losses.foreground_loss(tensor(logits), losses.label_targets(tensor(labels), "sum")), summed / B)


def test_background_loss_is_equation_6(rng: np.random.Generator) -> None:
    logits = rng.normal(size=(B, C + 1))
    close(losses.background_loss(tensor(logits)), np.mean([-np.log(softmax(row)[C]) for row in logits]))


@pytest.mark.parametrize("reduction", losses.REDUCTIONS)
def test_reconstruction_loss_is_equation_11(rng: np.random.Generator, reduction: str) -> None:
    x, made, sigma2 = rng.normal(size=(B, T, D)), rng.normal(size=(L, B, T, D)), 0.7
    width = sigma2 * D if reduction == "element" else sigma2
    per_video = []
    for b in range(B):
        terms = []
        for t in range(T):
            likelihoods = [np.exp(-np.sum((x[b, t] - made[k, b, t]) ** 2) / (2 * width)) for k in range(L)]
            terms.append(-np.log(sum(likelihoods) / L))
        per_video.append(sum(terms) if reduction == "sum" else sum(terms) / T)
    log_p = losses.log_likelihood(tensor(x), tensor(made), sigma2, reduction)
    close(losses.reconstruction_loss(log_p, reduction), np.mean(per_video))


def test_with_one_sample_it_is_the_squared_error_of_equation_12(rng: np.random.Generator) -> None:
    x, made = rng.normal(size=(B, T, D)), rng.normal(size=(1, B, T, D))
    log_p = losses.log_likelihood(tensor(x), tensor(made), 0.5, "sum")
    expected = np.mean([np.sum((x[b] - made[0, b]) ** 2) for b in range(B)])
    close(losses.reconstruction_loss(log_p, "sum"), expected)


@pytest.mark.parametrize("reduction", losses.REDUCTIONS)
def test_cvae_loss_is_equation_10(rng: np.random.Generator, reduction: str) -> None:
    x, made = rng.normal(size=(B, T, D)), rng.normal(size=(L, B, T, D))
    mean, log_variance = rng.normal(size=(2, B, T, Z))
    attention, r, beta, sigma2 = rng.random((B, T)), 1.7, 0.1, 0.5
    per_video = []
    for b in range(B):
        total = 0.0
        for t in range(T):
            error = np.mean([np.sum((x[b, t] - made[k, b, t]) ** 2) for k in range(L)]) / (2 * sigma2)
            variance = np.exp(log_variance[b, t])
            # KL between Gaussians with covariance diag(variance) and I, prior mean r·λ in every dimension
            gap = mean[b, t] - r * attention[b, t]
            kl = 0.5 * (np.sum(variance) + gap @ gap - Z - np.log(np.prod(variance)))
            total += error / D + beta * kl / Z if reduction == "element" else error + beta * kl
        per_video.append(total if reduction == "sum" else total / T)
    log_p = losses.log_likelihood(tensor(x), tensor(made), sigma2, reduction)
    prior = tensor(r * attention[..., None])
    kl = losses.kl_to_prior(tensor(mean), tensor(log_variance), prior, reduction)
    close(losses.cvae_loss(log_p, kl, beta, reduction), np.mean(per_video))


def test_kl_agrees_with_pytorchs_own(rng: np.random.Generator) -> None:
    mean, log_variance, prior = (
        rng.normal(size=(B, T, Z)),
        rng.normal(size=(B, T, Z)),
        rng.normal(size=(B, T, 1)),
    )
    q = torch.distributions.Normal(tensor(mean), tensor(np.exp(0.5 * log_variance)))
    p = torch.distributions.Normal(tensor(np.repeat(prior, Z, axis=2)), 1.0)
    expected = torch.distributions.kl_divergence(q, p).sum(-1).numpy()
    close(losses.kl_to_prior(tensor(mean), tensor(log_variance), tensor(prior), "snippet"), expected)


@pytest.mark.parametrize("sigma", [0.0, 0.4, 1.0, 2.5, 40.0])
@pytest.mark.parametrize("length", [1, 2, 11])
def test_smoothing_equals_scipys(rng: np.random.Generator, sigma: float, length: int) -> None:
    curve = rng.random(length)
    expected = gaussian_filter1d(curve, sigma) if sigma else curve
    np.testing.assert_allclose(
        losses.gaussian_matrix(length, sigma, dtype=torch.float64).numpy() @ curve, expected, atol=1e-9
    )


def test_guide_is_equations_13_to_15(rng: np.random.Generator) -> None:
    tcam, attention = rng.normal(size=(B, T, C + 1)), rng.random((B, T))
    labels = np.array([[0, 0, 1, 0], [1, 1, 0, 0], [0, 0, 0, 0]], dtype=float)
    total = 0.0
    for b in range(B):
        p = softmax(tcam[b])
        own = [p[:, c] for c in range(C) if labels[b, c]]
        fg = gaussian_filter1d(np.max(own, axis=0) if own else np.zeros(T), 1.0)
        bg = gaussian_filter1d(p[:, :C].sum(axis=1), 1.0)
        total += np.mean(np.abs(attention[b] - fg) + np.abs(attention[b] - bg))
    smoothing = losses.gaussian_matrix(T, 1.0, dtype=torch.float64)
    guides = losses.guide_attention(tensor(tcam), tensor(labels), smoothing)
    close(losses.guide_loss(tensor(attention), *guides), total / B)


def test_every_loss_has_the_gradient_of_its_value() -> None:
    """Central differences against autograd, with respect to attention and to the classifier's input."""
    generator = torch.Generator().manual_seed(3)
    x = torch.rand(2, 5, 3, generator=generator, dtype=torch.float64)
    attention = (0.2 + 0.6 * torch.rand(2, 5, generator=generator, dtype=torch.float64)).requires_grad_()
    labels = torch.tensor([[1.0, 0.0], [1.0, 1.0]], dtype=torch.float64)
    weight = torch.rand(3, 3, generator=generator, dtype=torch.float64).requires_grad_()
    noise = torch.randn(2, 2, 5, 4, generator=generator, dtype=torch.float64)
    cvae = CVAE(3, 4, 6, 1.5, generator).double()

    def discriminative(attention: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        fg = losses.foreground_loss(losses.pool(x, attention) @ weight.T, losses.label_targets(labels))
        bg = losses.background_loss(losses.pool(x, 1 - attention) @ weight.T)
        guides = losses.guide_attention(
            x @ weight.T, labels, losses.gaussian_matrix(5, 1.0, dtype=torch.float64)
        )
        return torch.stack([fg, bg, losses.guide_loss(attention, *guides)])

    def generative(attention: torch.Tensor) -> torch.Tensor:
        z = cvae.prior_mean(attention) + noise
        return torch.stack(
            [
                losses.reconstruction_loss(
                    losses.log_likelihood(x, _decode(cvae, z, attention), 0.5, how), how
                )
                for how in losses.REDUCTIONS
            ]
        )

    assert torch.autograd.gradcheck(discriminative, (attention, weight), eps=1e-6, atol=1e-4)
    assert torch.autograd.gradcheck(generative, (attention,), eps=1e-6, atol=1e-4)


def _decode(cvae: CVAE, z: torch.Tensor, attention: torch.Tensor) -> torch.Tensor:
    hidden = torch.cat([z, attention.expand(z.shape[:-1]).unsqueeze(-1)], dim=-1)
    for layer in (cvae.decode_z, cvae.decode_hidden):
        hidden = torch.relu(layer(hidden))
    return cvae.decode_x(hidden)


def test_decoder_equals_one_that_concatenates_the_attention() -> None:
    generator = torch.Generator().manual_seed(0)
    cvae = CVAE(D, Z, 6, 1.0, generator)
    z, attention = torch.randn(L, B, T, Z, generator=generator), torch.rand(B, T, generator=generator)
    torch.testing.assert_close(cvae.decode(z, attention), _decode(cvae, z, attention))
    x = torch.randn(B, T, D, generator=generator)
    hidden = torch.cat([x, attention.unsqueeze(-1)], dim=-1)
    for layer in (cvae.encode_x, cvae.encode_hidden):
        hidden = torch.relu(layer(hidden))
    mean, log_variance = cvae.encode(x, attention)
    torch.testing.assert_close(torch.cat([mean, log_variance], dim=-1), cvae.encode_z(hidden))


def test_the_prior_is_centred_on_r_times_attention() -> None:
    cvae = CVAE(D, Z, 6, 2.5, torch.Generator().manual_seed(0))
    attention = torch.tensor([[0.0, 0.4, 1.0]])
    assert cvae.prior_mean(attention).flatten().tolist() == pytest.approx([0.0, 1.0, 2.5])


def test_layers_are_those_of_the_release() -> None:
    """Shapes from the release's model, as listed in the field's notes: the paper leaves them open."""
    model = DGAM(ModelShape(dimension=1024, classes=20), torch.Generator().manual_seed(0))
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters() if name.endswith("weight")}
    assert shapes == {
        "attention.hidden.weight": (256, 1024),
        "attention.output.weight": (1, 256),
        "classifier.output.weight": (21, 1024),
        "cvae.encode_x.weight": (128, 1025),
        "cvae.encode_hidden.weight": (128, 128),
        "cvae.encode_z.weight": (256, 128),
        "cvae.decode_z.weight": (128, 129),
        "cvae.decode_hidden.weight": (128, 128),
        "cvae.decode_x.weight": (1024, 128),
    }


def test_tcam_leaves_the_bias_out() -> None:
    model = DGAM(ModelShape(dimension=D, classes=C), torch.Generator().manual_seed(0))
    x = torch.rand(B, T, D)
    _, logits, tcam = model(x)
    torch.testing.assert_close(logits - tcam, model.classifier.output.bias.expand_as(logits))
