"""A Hugging Face model in this process as a policy."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import nn

from pivotgym.envs.errors import BadInput
from pivotgym.envs.trajectory import canonical_json, digest
from pivotgym.harness.chat import ChatFormat
from pivotgym.harness.policies.base import Completion, Conversation, Sampling, Usage
from pivotgym.harness.policies.rendering import (
    cannot_load,
    completion_of,
    distinct_prompts,
    generation_ends,
    load_tokenizer,
    model_folder,
)
from pivotgym.harness.policies.sampler import Limits, Sample, sample_tokens
from pivotgym.harness.runs import adapter_digest

Draw: TypeAlias = Callable[[Collection[int] | None], list[list[Sample]]]
"""Samples of the prompts with these numbers (None: all), empty lists for the others; to be called once."""


class TransformersPolicy:
    """Samples from a model in this process.

    The model may be shared with a trainer (a peft wrapper too): nothing is copied, so the next call sees the new
    weights. It is put into eval mode while sampling and back afterwards.

    Args:
        model: a causal language model.
        tokenizer: its tokenizer, with a chat template.
        name: shown in reports.
        adapter: folder of a LoRA adapter; it is merged into the weights, which makes sampling faster.
        template_args: extra variables for the chat template.
        limits: how much is decoded at once.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Any,
        *,
        name: str = "transformers",
        adapter: Path | None = None,
        template_args: dict[str, Any] | None = None,
        limits: Limits | None = None,
    ) -> None:
        # Taken before merging: sums of weights differ in the last digit between machines, the parts do not.
        origin = None if adapter is None else f"{weights_digest(model)}+{adapter_digest(adapter)}"
        self.model = model if adapter is None else merge_adapter(model, adapter)
        self.tokenizer = tokenizer
        self.name = name
        self.usage = Usage()
        self.format = ChatFormat(tokenizer, template_args)
        self.limits = limits or Limits()
        self.end_ids = self.format.end_ids | generation_ends(getattr(self.model, "generation_config", None))
        config: Any = getattr(self.model, "config", None)
        self.context = int(getattr(config.get_text_config(), "max_position_embeddings", 0) or 2**31)
        self._digest: tuple[tuple[int, int], str] | None = None if origin is None else (_versions(self.model), origin)

    @property
    def fingerprint(self) -> str:
        """Digest of what decides the answers: weights as they are now, configuration, adapter, chat template."""
        now = _versions(self.model)
        if self._digest is None or self._digest[0] != now:
            self._digest = now, weights_digest(self.model)
        text = canonical_json([self.tokenizer.chat_template, self.format.template_args, len(self.tokenizer)])
        return f"{self._digest[1]}/{digest(text)[:8]}"

    def sample(
        self, conversations: Sequence[Conversation], n: int = 1, sampling: Sampling | None = None
    ) -> list[list[Completion]]:
        """``n`` completions for each conversation. Equal for equal weights, batch and seed.

        Raises:
            PromptTooLong: a prompt fills the model's context.
        """
        sampling = sampling or Sampling()
        started = time.perf_counter()
        prompts = distinct_prompts(self.format, conversations, self.context)
        generator = torch.Generator()
        if sampling.seed is None:
            generator.seed()
        else:
            generator.manual_seed(sampling.seed)
        was_training = self.model.training
        self.model.eval()
        try:
            ids_of = [list(prompt) for prompt in prompts]
            draw = partial(
                sample_tokens,
                self.model,
                ids_of,
                [n * len(owners) for owners in prompts.values()],
                end_ids=self.end_ids,
                max_tokens=[min(sampling.max_tokens, self.context - len(prompt)) for prompt in prompts],
                pad_id=min(self.end_ids),
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                generator=generator,
                limits=self.limits,
            )
            samples = self._draw(ids_of, lambda only: draw(only=only))
        finally:
            self.model.train(was_training)
        results: list[list[Completion]] = [[] for _ in conversations]
        for (prompt, owners), drawn in zip(prompts.items(), samples, strict=True):
            prompt_ids = list(prompt)
            for position, owner in enumerate(owners):
                mine = drawn[position * n : (position + 1) * n]
                results[owner] = [self._completion(prompt_ids, sample) for sample in mine]
        self.usage.calls += len(conversations) * n
        self.usage.prompt_tokens += sum(map(len, prompts))
        self.usage.sampled_tokens += sum(len(sample.token_ids) for drawn in samples for sample in drawn)
        self.usage.seconds += time.perf_counter() - started
        return results

    def _draw(self, prompts: Sequence[list[int]], draw: Draw) -> list[list[Sample]]:
        """The samples of all prompts; ``draw`` gives those of some."""
        return draw(None)

    def _completion(self, prompt_ids: list[int], sample: Sample) -> Completion:
        return completion_of(self.format, prompt_ids, sample.token_ids, sample.logprobs, ended=sample.ended)


def weights_digest(model: nn.Module) -> str:
    """A digest of a model's configuration and weights, in well under a second for a small model.

    Of each parameter: name, shape, type, the exact sum of its bit patterns (integers, so that neither threads nor the
    device change it), and up to 256 values spread over it.
    """
    hashed = hashlib.sha256()
    config: Any = getattr(model, "config", None)
    settings = dict(config.to_dict()) if config is not None else {}
    for unrelated in ("_name_or_path", "transformers_version", "torch_dtype", "dtype"):
        settings.pop(unrelated, None)
    hashed.update(canonical_json(json.loads(json.dumps(settings, default=str))).encode())
    for name, parameter in model.named_parameters():
        flat = parameter.detach().reshape(-1)
        whole = {1: torch.uint8, 2: torch.int16, 4: torch.int32}.get(flat.element_size(), torch.int64)
        bits = flat.view(whole)
        some = bits[:: max(1, bits.numel() // 256)].cpu().numpy().tobytes()
        hashed.update(f"{name} {tuple(parameter.shape)} {parameter.dtype} {int(bits.sum(dtype=torch.int64))}".encode())
        hashed.update(some)
    return hashed.hexdigest()[:16]


def _versions(model: nn.Module) -> tuple[int, int]:
    """Changes whenever weights are written in place or another adapter is put in."""
    parameters = list(model.parameters())
    return len(parameters), sum(parameter._version for parameter in parameters)


def merge_adapter(model: nn.Module, adapter: Path) -> nn.Module:
    """``model`` with the LoRA adapter of folder ``adapter`` added to its weights.

    Raises:
        BadInput: the folder holds no adapter, or one that does not fit the model.
    """
    from peft import PeftModel

    if not (adapter / "adapter_config.json").is_file():
        raise BadInput("not a folder with an adapter (no adapter_config.json)", file=adapter)
    try:
        wrapped: Any = PeftModel.from_pretrained(model, str(adapter))
    except (RuntimeError, ValueError, OSError) as problem:
        raise BadInput(f"the adapter does not fit the model: {problem}", file=adapter) from problem
    merged: nn.Module = wrapped.merge_and_unload()
    return merged


def load_model(source: str, *, device: str | None = None, dtype: str | None = None) -> tuple[Any, Any]:
    """Model and tokenizer of ``embedded``, a model folder, or a Hugging Face name.

    The embedded model comes with the package's own chat template.

    Args:
        source: what to load.
        device: torch device; None takes the accelerator where there is one.
        dtype: torch dtype name; None takes float32 on CPU and the checkpoint's own elsewhere.

    Raises:
        BadInput: there is no such model, or it is no causal language model.
        EmbeddedModelUnavailable: the embedded model could not be obtained.
    """
    from transformers import AutoModelForCausalLM

    target = device or ("cuda" if torch.cuda.is_available() else "cpu")
    precision: Any = getattr(torch, dtype, None) if dtype else (torch.float32 if target == "cpu" else "auto")
    if dtype and not isinstance(precision, torch.dtype):
        raise BadInput(f"there is no torch dtype {dtype!r}")
    tokenizer = load_tokenizer(source)
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(str(model_folder(source)), dtype=precision)
    except (OSError, ValueError, KeyError) as problem:
        raise cannot_load(source, problem) from problem
    return model.to(target).eval(), tokenizer


def load_transformers_policy(
    source: str,
    *,
    adapter: Path | None = None,
    name: str | None = None,
    device: str | None = None,
    dtype: str | None = None,
    template_args: dict[str, Any] | None = None,
    limits: Limits | None = None,
) -> TransformersPolicy:
    """:class:`TransformersPolicy` on :func:`load_model`, with an adapter merged in where one is given."""
    model, tokenizer = load_model(source, device=device, dtype=dtype)
    return TransformersPolicy(
        model, tokenizer, name=name or source, adapter=adapter, template_args=template_args, limits=limits
    )
