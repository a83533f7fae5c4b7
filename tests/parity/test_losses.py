"""Losses against TRL's own code: its trainers' methods, run on log-probabilities without a model."""

from collections import defaultdict
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import jax.numpy as jnp
import numpy as np
import pytest

from gemwright.tuning.losses import masked_sum, reward_loss, sft_loss
from gemwright.tuning.policy_losses import grpo_loss, reinforce_loss
from gemwright.tuning.preference_losses import dpo_loss, ipo_loss, kto_divergence, kto_loss, orpo_loss
from tests.tolerances import SAME

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore")]  # those of its libraries

ROWS, TOKENS = 6, 7
RNG = np.random.default_rng(0)
MASK = (np.arange(TOKENS) < RNG.integers(2, TOKENS + 1, (ROWS, 1))).astype(np.int32)
OURS, OLD, REFERENCE = (-RNG.gamma(2.0, 0.4, (ROWS, TOKENS)).astype(np.float32) * MASK for _ in range(3))
SIDE = ROWS // 2


@pytest.fixture(scope="module")
def torch() -> Any:
    pytest.importorskip("trl")
    return pytest.importorskip("torch")


def trainer(torch: Any, **settings: Any) -> Any:
    """What a trainer's method asks of its object: settings, and an accelerator of one process."""

    def same(x: Any, **_: Any) -> Any:
        return x

    accelerator = SimpleNamespace(
        device=torch.device("cpu"), gather=same, gather_for_metrics=same, reduce=same, num_processes=1
    )
    found = MagicMock()
    found.configure_mock(
        accelerator=accelerator, model=SimpleNamespace(training=False), aux_loss_enabled=False, _tp_size=1,
        _metrics=defaultdict(lambda: defaultdict(list)), precompute_ref_logps=True, **settings,
    )  # fmt: skip
    return found


def outputs(torch: Any, values: np.ndarray) -> Callable[..., Any]:
    """A model that gives these log-probabilities."""
    found = torch.tensor(values)
    return lambda **_: SimpleNamespace(
        log_probs=found, entropy=found * 0, mean_logits=found * 0, is_top1=found < 0, log_sum_sq_probs=found * 0
    )


def near(ours: Any, theirs: Any) -> None:
    assert float(ours) == pytest.approx(float(theirs), abs=SAME)


def sums(values: np.ndarray) -> Any:
    return masked_sum(jnp.asarray(values), jnp.asarray(MASK))


@pytest.mark.parametrize("kind", ["sigmoid", "ipo", "sft"])
def test_pairs(torch: Any, kind: str) -> None:
    from trl import DPOTrainer

    fake = trainer(torch, ld_alpha=None, f_divergence_type="reverse_kl", loss_types=[kind], loss_weights=[1.0],
                   beta=0.3, label_smoothing=0.0, use_weighting=False)  # fmt: skip
    reference = torch.tensor(np.asarray(sums(REFERENCE)))
    inputs = {
        "input_ids": torch.ones((ROWS, TOKENS + 1), dtype=torch.long),
        "attention_mask": torch.ones((ROWS, TOKENS + 1), dtype=torch.long),
        "completion_mask": torch.tensor(np.concatenate([np.zeros((ROWS, 1), np.int32), MASK], axis=1)),
        "ref_chosen_logps": reference[:SIDE],
        "ref_rejected_logps": reference[SIDE:],
    }
    theirs = DPOTrainer._compute_loss(fake, outputs(torch, OURS), inputs, False)
    sides = [sums(OURS)[:SIDE], sums(OURS)[SIDE:], sums(REFERENCE)[:SIDE], sums(REFERENCE)[SIDE:]]
    lengths = jnp.asarray(MASK.sum(1))
    ours = {
        "sigmoid": lambda: dpo_loss(*sides, beta=0.3),
        "ipo": lambda: ipo_loss(*sides, lengths[:SIDE], lengths[SIDE:], beta=0.3),
        "sft": lambda: sft_loss(jnp.asarray(OURS[:SIDE]), jnp.asarray(MASK[:SIDE])),
    }[kind]()
    near(ours, theirs)


def test_kto(torch: Any) -> None:
    from trl.trainer.kto_trainer import KTOTrainer

    mismatched, others = (-RNG.gamma(3.0, 1.0, ROWS).astype(np.float32) for _ in range(2))
    fake = trainer(torch, calculate_KL=True, loss_type="kto", beta=0.3, desirable_weight=1.5, undesirable_weight=0.7)
    fake._compute_kl_logps = lambda *_: torch.tensor(mismatched)
    labels = np.array([1, 0, 0, 1, 1, 0])
    batch = {
        "input_ids": torch.ones((ROWS, TOKENS + 1), dtype=torch.long),
        "attention_mask": torch.ones((ROWS, TOKENS + 1), dtype=torch.long),
        "completion_mask": torch.ones((ROWS, TOKENS + 1), dtype=torch.long),
        "label": torch.tensor(labels, dtype=torch.bool),
        "ref_logps": torch.tensor(np.asarray(sums(REFERENCE))),
        "ref_KL_logps": torch.tensor(others),
    }
    theirs = KTOTrainer._compute_loss(fake, outputs(torch, OURS), batch, False)
    ours = kto_loss(
        sums(OURS), sums(REFERENCE), jnp.asarray(labels), kto_divergence(jnp.asarray(mismatched), jnp.asarray(others)),
        beta=0.3, desirable_weight=1.5, undesirable_weight=0.7,
    )  # fmt: skip
    near(ours, theirs)


def test_orpo(torch: Any) -> None:
    from trl.experimental.orpo.orpo_trainer import ORPOTrainer

    means = np.asarray(sums(OURS)) / MASK.sum(1)
    chosen, rejected = torch.tensor(means[:SIDE]), torch.tensor(means[SIDE:])
    odds = ORPOTrainer.odds_ratio_loss(trainer(torch, beta=0.3), chosen, rejected)[0]
    near(orpo_loss(jnp.asarray(means[:SIDE]), jnp.asarray(means[SIDE:]), jnp.asarray(0.4), beta=0.3), 0.4 - odds.mean())


def test_reward(torch: Any) -> None:
    from trl import RewardTrainer

    rewards, margin = RNG.normal(size=ROWS).astype(np.float32), np.array([0.1, 0.0, 0.7], np.float32)
    fake = trainer(torch, args=SimpleNamespace(center_rewards_coefficient=0.02))
    inputs = {"margin": torch.tensor(margin), "attention_mask": torch.ones(1)}
    theirs = RewardTrainer.compute_loss(
        fake, lambda **_: SimpleNamespace(logits=torch.tensor(rewards)[:, None]), dict(inputs)
    )
    ours = jnp.asarray(rewards)
    near(reward_loss(ours[:SIDE], ours[SIDE:], margin=jnp.asarray(margin), centre=0.02), theirs)


@pytest.mark.parametrize(("kind", "per"), [("grpo", "answer"), ("bnpo", "token"), ("dr_grpo", 9)])
def test_grpo(torch: Any, kind: str, per: Any) -> None:
    from trl import GRPOTrainer

    fake = trainer(
        torch, beta=0.04, epsilon_low=0.2, epsilon_high=0.28, loss_type=kind, top_entropy_quantile=1.0,
        importance_sampling_level="token", off_policy_mask_threshold=None, use_vllm=False, max_completion_length=9,
        _entropy_bonus_enabled=False, args=SimpleNamespace(delta=None, use_bias_correction_kl=False),
    )  # fmt: skip
    advantages = RNG.normal(size=ROWS).astype(np.float32)
    theirs = GRPOTrainer._compute_loss(fake, *_written(torch, fake, advantages))
    ours = grpo_loss(
        *map(jnp.asarray, (OURS, OLD, MASK, advantages)), reference=jnp.asarray(REFERENCE), beta=0.04, clip_above=0.28,
        per=per,
    )  # fmt: skip
    near(ours, theirs)


def test_reinforce_leave_one_out(torch: Any) -> None:
    from trl import RLOOTrainer

    fake, advantages = trainer(torch, epsilon_low=0.2, epsilon_high=0.2), RNG.normal(size=ROWS).astype(np.float32)
    theirs = RLOOTrainer._compute_loss(fake, *_written(torch, fake, advantages))
    near(reinforce_loss(*map(jnp.asarray, (OURS, OLD, MASK, advantages))), theirs)


def _written(torch: Any, fake: Any, advantages: np.ndarray) -> tuple[Any, dict[str, Any]]:
    """A model and the inputs of its answers, with our log-probabilities in place of those it would compute."""
    found = (torch.tensor(OURS), torch.zeros((ROWS, TOKENS)), None)
    fake._get_per_token_logps_and_entropies = lambda *_, **__: found
    ids = torch.ones((ROWS, TOKENS), dtype=torch.long)
    return None, {
        "prompt_ids": ids, "prompt_mask": ids, "completion_ids": ids, "completion_mask": torch.tensor(MASK),
        "advantages": torch.tensor(advantages), "old_per_token_logps": torch.tensor(OLD),
        "old_logps": torch.tensor(OLD).sum(1), "ref_per_token_logps": torch.tensor(REFERENCE),
    }  # fmt: skip
