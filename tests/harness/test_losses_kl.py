"""The expected gradient of the KL term, exactly: all samples of a small softmax, each with its probability."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from torch import Tensor

from pivotgym.envs.errors import BadInput
from pivotgym.harness.losses import KLEstimator, grpo_loss
from pivotgym.harness.update_config import UpdateConfig

VOCABULARY = 6
Expected = Literal["reverse", "forward", "none", "biased"]
"""The gradient in expectation: of KL(policy || reference), of KL(reference || policy), 0, or that of neither."""

# Of each estimator and kl_by_ratio: what to expect on policy, and off policy.
EXPECTED: dict[tuple[KLEstimator, bool], tuple[Expected, Expected]] = {
    ("k1", True): ("reverse", "reverse"),
    ("k2", True): ("reverse", "reverse"),
    ("k3", True): ("reverse", "reverse"),
    ("k1", False): ("none", "biased"),
    ("k2", False): ("reverse", "biased"),
    ("k3", False): ("forward", "biased"),
}


def logits(seed: int) -> Tensor:
    return torch.randn(VOCABULARY, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


POLICY_V, OLD_V, REF_V = logits(0), logits(1), logits(2)


def expected_gradient(old_V: Tensor, ref_V: Tensor, kl: KLEstimator, kl_by_ratio: bool, given: bool = True) -> Tensor:
    """Of the term's mean over samples from the old policy, with respect to the logits of the current one.

    ``given`` says whether the loss is told the old policy's log-probabilities.
    """
    logits_V = POLICY_V.clone().requires_grad_()
    # Every token is one completion; without an advantage the KL is all there is.
    policy_N1 = torch.log_softmax(logits_V, -1)[:, None]
    old_N = torch.log_softmax(old_V, -1)
    total = torch.zeros((), dtype=torch.float64)
    for token, probability in enumerate(old_N.exp()):
        loss, _ = grpo_loss(
            policy_N1[token : token + 1],
            old_N[token].reshape(1, 1) if given else None,
            torch.zeros(1),
            torch.ones(1, 1),
            ref_logprobs_NT=torch.log_softmax(ref_V, -1)[token].reshape(1, 1),
            beta=1.0,
            kl=kl,
            kl_by_ratio=kl_by_ratio,
        )
        total = total + probability * loss
    (gradient_V,) = torch.autograd.grad(total, logits_V)
    return gradient_V


def true_gradient(kind: Literal["reverse", "forward"]) -> Tensor:
    logits_V = POLICY_V.clone().requires_grad_()
    policy_V, ref_V = torch.log_softmax(logits_V, -1), torch.log_softmax(REF_V, -1)
    first_V, second_V = (policy_V, ref_V) if kind == "reverse" else (ref_V, policy_V)
    (gradient_V,) = torch.autograd.grad((first_V.exp() * (first_V - second_V)).sum(), logits_V)
    return gradient_V


def apart(got_V: Tensor, wanted_V: Tensor) -> float:
    return float((got_V - wanted_V).norm() / wanted_V.norm())


@pytest.mark.parametrize("on_policy", [True, False], ids=["on_policy", "off_policy"])
@pytest.mark.parametrize(("kl", "kl_by_ratio"), EXPECTED)
def test_expected_gradients_are_those_in_the_table(kl: KLEstimator, kl_by_ratio: bool, on_policy: bool) -> None:
    old_V = POLICY_V if on_policy else OLD_V
    got_V = expected_gradient(old_V, REF_V, kl, kl_by_ratio)
    expected = EXPECTED[kl, kl_by_ratio][0 if on_policy else 1]
    reverse_V, forward_V = true_gradient("reverse"), true_gradient("forward")
    assert apart(forward_V, reverse_V) > 0.1, "otherwise the table shows nothing"
    if expected == "reverse":
        assert apart(got_V, reverse_V) < 1e-12
    elif expected == "forward":
        assert apart(got_V, forward_V) < 1e-12
    elif expected == "none":
        assert got_V.norm() < 1e-12 * reverse_V.norm()
    else:
        assert apart(got_V, reverse_V) > 0.1 and apart(got_V, forward_V) > 0.1
    if on_policy:
        torch.testing.assert_close(expected_gradient(old_V, REF_V, kl, kl_by_ratio, given=False), got_V)


def test_k1_without_the_ratio_knows_nothing_of_the_reference() -> None:
    """Why the settings refuse it: off policy too its gradient is the same whatever the reference is."""
    found = [expected_gradient(OLD_V, ref_V, "k1", False) for ref_V in (REF_V, logits(3))]
    assert found[0].norm() > 0.1
    torch.testing.assert_close(*found, rtol=1e-12, atol=1e-12)
    with_ratio = [expected_gradient(OLD_V, ref_V, "k1", True) for ref_V in (REF_V, logits(3))]
    assert apart(*with_ratio) > 0.1


def test_k1_without_the_ratio_may_be_measured_but_not_trained_on() -> None:
    with pytest.raises(BadInput, match="does not depend on the reference") as caught:
        UpdateConfig(kl="k1", kl_by_ratio=False, beta=0.1)
    assert caught.value.field == "kl_by_ratio"
    assert UpdateConfig(kl="k1", kl_by_ratio=False, measure_kl=True).wants_kl
    for kl, kl_by_ratio in EXPECTED:
        if (kl, kl_by_ratio) != ("k1", False):
            assert UpdateConfig(kl=kl, kl_by_ratio=kl_by_ratio, beta=0.1).wants_kl


@pytest.mark.parametrize("kl", ["k1", "k2", "k3"])
def test_what_is_reported_is_the_same_with_and_without_gradient_of_the_ratio(kl: KLEstimator) -> None:
    """The value of the weighted estimate is the estimate times the ratio, for all of them."""
    policy_N1, old_N1, ref_N1 = (torch.log_softmax(x_V, -1)[:, None] for x_V in (POLICY_V, OLD_V, REF_V))
    d_N1 = ref_N1 - policy_N1
    plain_N1 = {"k1": -d_N1, "k2": d_N1.square() / 2, "k3": d_N1.exp() - d_N1 - 1}[kl]
    loss, metrics = grpo_loss(
        policy_N1,
        old_N1,
        torch.zeros(VOCABULARY),
        torch.ones(VOCABULARY, 1),
        ref_logprobs_NT=ref_N1,
        beta=1.0,
        kl=kl,
    )
    wanted = float(((policy_N1 - old_N1).exp() * plain_N1).mean())
    assert metrics.kl == pytest.approx(wanted) and float(loss) == pytest.approx(wanted)
