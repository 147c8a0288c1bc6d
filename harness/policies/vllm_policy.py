"""vLLM in this process as a policy."""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from pivotgym.envs.errors import BadInput
from pivotgym.envs.trajectory import canonical_json, digest
from pivotgym.harness.chat import ChatFormat
from pivotgym.harness.options import VllmOptions
from pivotgym.harness.packing import Group
from pivotgym.harness.policies.base import Completion, Conversation, Sampling, Usage
from pivotgym.harness.policies.rendering import (
    cannot_load,
    completion_of,
    distinct_prompts,
    generation_ends,
    load_tokenizer,
    model_folder,
)
from pivotgym.harness.policies.vllm_engine import Request, VllmEngine
from pivotgym.harness.runs import adapter_digest, derive_seed


class VllmPolicy:
    """Samples from a vLLM engine.

    Prompts are the ids :class:`~pivotgym.harness.policies.transformers_policy.TransformersPolicy` would use; token ids
    and log-probabilities are the engine's own, no text is ever encoded again.

    Args:
        engine: the engine.
        tokenizer: the model's, with a chat template.
        end_ids: ids that end a sample beside those of the template.
        name: shown in reports.
        template_args: extra variables for the chat template.
        origin: what the weights are, for :attr:`fingerprint`.
    """

    def __init__(
        self,
        engine: VllmEngine,
        tokenizer: Any,
        *,
        end_ids: frozenset[int] = frozenset(),
        name: str = "vllm",
        template_args: dict[str, Any] | None = None,
        origin: str | Callable[[], str] = "",
    ) -> None:
        self.engine, self.tokenizer, self.name = engine, tokenizer, name
        self.usage = Usage()
        self.format = ChatFormat(tokenizer, template_args)
        self.end_ids = self.format.end_ids | end_ids
        self.context = engine.context
        self._origin = origin

    @property
    def fingerprint(self) -> str:
        """Digest of what decides the answers: the weights' origin, adapter, chat template, and that vLLM samples."""
        text = canonical_json([self.tokenizer.chat_template, self.format.template_args, len(self.tokenizer)])
        origin = self._origin if isinstance(self._origin, str) else self._origin()
        return f"vllm/{origin}/{digest(text)[:8]}"

    def sample(
        self, conversations: Sequence[Conversation], n: int = 1, sampling: Sampling | None = None
    ) -> list[list[Completion]]:
        """``n`` completions for each conversation. A seed fixes them for a batch, but for the last digits of float32.

        Sums are in another order where more requests run at once or prefixes are cached, so a token whose probability
        is nearly that of the random number may turn out another.

        Raises:
            PromptTooLong: a prompt fills the model's context.
            EngineError: the engine failed.
        """
        sampling = sampling or Sampling()
        started = time.perf_counter()
        if not conversations:
            return []
        prompts = distinct_prompts(self.format, conversations, self.context)
        # vLLM's own generator starts equal in every process, so a fresh draw needs a seed too.
        seed = secrets.randbits(31) if sampling.seed is None else sampling.seed
        requests = [
            Request(
                prompt,
                n * len(owners),
                min(sampling.max_tokens, self.context - len(prompt)),
                derive_seed(seed, "request", place),
            )
            for place, (prompt, owners) in enumerate(prompts.items())
        ]
        samples = self.engine.sample(requests, self.end_ids, sampling.temperature, sampling.top_p)
        results: list[list[Completion]] = [[] for _ in conversations]
        for (prompt, owners), drawn in zip(prompts.items(), samples, strict=True):
            prompt_ids = list(prompt)
            for position, owner in enumerate(owners):
                results[owner] = [
                    completion_of(self.format, prompt_ids, ids, logprobs, ended=bool(ids) and ids[-1] in self.end_ids)
                    for ids, logprobs in drawn[position * n : (position + 1) * n]
                ]
        self.usage.calls += len(conversations) * n
        self.usage.prompt_tokens += sum(map(len, prompts))
        self.usage.sampled_tokens += sum(len(ids) for drawn in samples for ids, _ in drawn)
        self.usage.seconds += time.perf_counter() - started
        return results

    def score(self, groups: Sequence[Group]) -> list[list[list[float]]]:
        """The engine's log-probabilities of given completions at temperature 1, one list a completion.

        Args:
            groups: prompts and completions, token ids.
        """
        return self.engine.score(groups)

    def replace_weights(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        """Samples with other weights from now on; see :meth:`VllmEngine.replace_weights`."""
        self.engine.replace_weights(weights)

    def close(self) -> None:
        """Frees the engine's memory."""
        self.engine.close()


def load_vllm_policy(
    source: str,
    *,
    adapter: Path | None = None,
    name: str | None = None,
    options: VllmOptions | None = None,
    template_args: dict[str, Any] | None = None,
) -> VllmPolicy:
    """:class:`VllmPolicy` on ``embedded``, a model folder or a Hugging Face name, with an adapter or without.

    Unlike :func:`~pivotgym.harness.policies.transformers_policy.load_transformers_policy` an adapter is not merged:
    the engine applies it as it is.

    Raises:
        BadInput: no such model or adapter, or one that vLLM cannot take.
        EmbeddedModelUnavailable: the embedded model could not be obtained.
        MissingExtra: vLLM is not installed.
    """
    tokenizer = load_tokenizer(source)
    origin = ""
    rank = None
    if adapter is not None:
        origin = f"+{adapter_digest(adapter)}"
        rank = int(json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8")).get("r") or 0)
        if rank < 1:
            raise BadInput("only LoRA adapters can be sampled with", file=adapter, field="r")
    folder = _on_disk(source)
    engine = VllmEngine(folder, options or VllmOptions(gpu_memory_utilization=0.9), lora_rank=rank)
    if adapter is not None:
        engine.use_adapter(adapter)
    return VllmPolicy(
        engine,
        tokenizer,
        end_ids=folder_ends(folder),
        name=name or f"vllm:{source}",
        template_args=template_args,
        origin=files_digest(folder) + origin,
    )


def files_digest(folder: Path) -> str:
    """A digest of a model folder's configuration and weights, in well under a second for any size.

    Of each file of weights: name, size, and 64 pieces of 4 KiB spread over it.
    """
    hashed = hashlib.sha256()
    for file in sorted([*folder.glob("*.safetensors"), *folder.glob("*.bin"), folder / "config.json"]):
        if not file.is_file():
            continue
        size = file.stat().st_size
        hashed.update(f"{file.name} {size}\n".encode())
        with file.open("rb") as handle:
            for piece in range(64):
                handle.seek(piece * max(0, size - 4096) // 63)
                hashed.update(handle.read(4096))
    return hashed.hexdigest()[:16]


def _on_disk(source: str) -> Path:
    folder = model_folder(source)
    if Path(folder).is_dir():
        return Path(folder)
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(str(folder), allow_patterns=["*.json", "*.safetensors", "*.model", "*.jinja"]))
    except (OSError, ValueError) as problem:
        raise cannot_load(source, problem) from problem


def folder_ends(folder: Path | str) -> frozenset[int]:
    """The ids that end a sample by the generation configuration of a model folder or hub name."""
    from transformers import GenerationConfig

    try:
        return generation_ends(GenerationConfig.from_pretrained(str(folder)))
    except OSError:  # a model without one
        return frozenset()
