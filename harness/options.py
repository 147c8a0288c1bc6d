"""What can be set of the weights that learn. Apart from them, so that a command line is read without torch."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class LoraOptions(BaseModel):
    """Low-rank adapters (Hu et al. 2021, arXiv:2106.09685); no dropout, because the policy that samples has none.

    Attributes:
        rank: of the update matrices.
        alpha: the update is scaled by ``alpha / rank``.
        targets: names of the linear modules to adapt, or ``all-linear``.
        layers: adapt only so many layers from the top; the backward pass ends there. None adapts all.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    rank: int = Field(16, ge=1)
    alpha: float = Field(32.0, gt=0)
    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    layers: int | None = Field(None, ge=1)


class OptimOptions(BaseModel):
    """AdamW with a constant learning rate after a linear warm-up.

    Attributes:
        lr: learning rate.
        warmup: updates until it is reached.
        weight_decay: decoupled.
        betas: decay of the moment estimates.
        grad_clip: largest gradient norm.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    lr: float = Field(1e-4, gt=0)
    warmup: int = Field(0, ge=0)
    weight_decay: float = Field(0.0, ge=0)
    betas: tuple[float, float] = (0.9, 0.999)
    grad_clip: float = Field(1.0, gt=0)


class VllmOptions(BaseModel):
    """A vLLM engine in this process.

    Attributes:
        dtype: torch dtype name; None takes the trained weights' own in training, else float32 on a CPU and the
            checkpoint's own elsewhere.
        max_model_len: longest prompt and completion together; None takes what the model can see.
        kv_cache_gib: memory for keys and values, in GiB; None takes what ``gpu_memory_utilization`` leaves, on a CPU 1.
        gpu_memory_utilization: share of the card's memory the engine may take in all. Far below vLLM's own default,
            because in training the learner, its gradients and its optimiser are on the same card.
        max_num_seqs: completions sampled at once.
        enforce_eager: no CUDA graphs, no compilation; None does without them on a CPU only.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    dtype: str | None = None
    max_model_len: int | None = Field(None, ge=2)
    kv_cache_gib: float | None = Field(None, gt=0)
    gpu_memory_utilization: float = Field(0.4, gt=0, le=1)
    max_num_seqs: int = Field(64, ge=1)
    enforce_eager: bool | None = None
