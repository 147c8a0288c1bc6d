"""A vLLM engine in this process: made so that its weights can be replaced, and without marks left on the process."""

from __future__ import annotations

import os
import random
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pivotgym.envs.errors import BadInput, InfrastructureError, MissingExtra
from pivotgym.harness.options import VllmOptions
from pivotgym.harness.packing import Group


class EngineError(InfrastructureError):
    """The engine did not start, or failed while sampling or while its weights were replaced."""


def _first_line(problem: Exception) -> str:
    return next(iter(str(problem).strip().splitlines()), type(problem).__name__)


@dataclass(frozen=True)
class Request:
    """What is asked of the engine: ``count`` samples of a prompt.

    Attributes:
        prompt_ids: token ids.
        count: samples.
        max_tokens: most tokens of one.
        seed: of the first sample, the others count on from it; None takes the engine's own random numbers.
    """

    prompt_ids: Sequence[int]
    count: int
    max_tokens: int
    seed: int | None


class VllmEngine:
    """Token ids in, token ids and log-probabilities out.

    The engine runs in this process (no engine process of vLLM's own), because its weights are replaced from tensors
    of this process. One device: a model spread over several needs a server
    (:class:`~pivotgym.harness.policies.vllm_server.VllmServerPolicy`).

    Args:
        model: folder with configuration and weights.
        options: settings.
        dummy: read no weights: they come from :meth:`replace_weights` before anything is sampled.
        lora_rank: largest rank of the adapters it will get; None takes none.

    Attributes:
        context: longest prompt and completion together.

    Raises:
        BadInput: vLLM cannot take the model or the settings.
        MissingExtra: vLLM is not installed.
    """

    def __init__(
        self, model: Path | str, options: VllmOptions, *, dummy: bool = False, lora_rank: int | None = None
    ) -> None:
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
        os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
        # Threads bound to cores by the engine would bind the trainer's too.
        os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
        try:
            import vllm
            from vllm.platforms import current_platform
        except ImportError as problem:
            raise MissingExtra("vllm", "vllm") from problem
        if torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1:
            raise BadInput("one of several processes cannot hold an engine: sample with transformers", field="sampler")
        on_cpu = bool(current_platform.is_cpu())
        cache_gib = 1.0 if options.kv_cache_gib is None and on_cpu else options.kv_cache_gib
        settings: dict[str, Any] = {
            "dtype": options.dtype or ("float32" if on_cpu else "auto"),
            "max_model_len": options.max_model_len,
            "max_num_seqs": options.max_num_seqs,
            "gpu_memory_utilization": options.gpu_memory_utilization,
            "enforce_eager": on_cpu if options.enforce_eager is None else options.enforce_eager,
            # Ends and sampling settings are ours, ids go in and come out: nothing of the model's folder interferes.
            "generation_config": "vllm",
            "skip_tokenizer_init": True,
            # Of the model, before temperature and top-p: what Completion.logprobs promises.
            "logprobs_mode": "raw_logprobs",
        }
        if cache_gib is not None:
            settings["kv_cache_memory_bytes"] = int(cache_gib * 2**30)
        if dummy:
            settings["load_format"] = "dummy"
        if lora_rank is not None:
            settings |= {"enable_lora": True, "max_loras": 1, "max_lora_rank": _allowed_rank(lora_rank)}
        self._owns_group = not torch.distributed.is_initialized()
        with _unmarked():
            try:
                self._llm: Any = vllm.LLM(str(model), **settings)
            except (ValueError, NotImplementedError, OSError) as problem:  # the model, or what is asked of it
                raise BadInput(f"vLLM cannot load {model}: {_first_line(problem)}") from problem
            except RuntimeError as problem:  # the machine: memory, a device, a library
                raise EngineError(f"vLLM does not start: {_first_line(problem)}") from problem
        self.context = int(self._llm.llm_engine.model_config.max_model_len)
        self._adapter: Any = None
        self._adapters = 0

    def sample(
        self, requests: Sequence[Request], end_ids: frozenset[int], temperature: float, top_p: float
    ) -> list[list[tuple[list[int], list[float]]]]:
        """Token ids and log-probabilities of each request's samples, the id that ended a sample included.

        Args:
            requests: prompts.
            end_ids: ids that end a sample.
            temperature: 0 takes the most probable token.
            top_p: smallest set of tokens with at least this probability is drawn from.

        Raises:
            EngineError: the engine failed.
        """
        greedy = temperature == 0
        settings = [
            self._settings(
                n=1 if greedy else request.count,
                temperature=temperature,
                top_p=1.0 if greedy else top_p,
                max_tokens=request.max_tokens,
                seed=None if greedy else request.seed,
                logprobs=0,
                stop_token_ids=sorted(end_ids),
            )
            for request in requests
        ]
        outputs = self._generate([request.prompt_ids for request in requests], settings)
        found = []
        for request, output in zip(requests, outputs, strict=True):
            drawn = [
                (list(sample.token_ids), _chosen(sample.token_ids, sample.logprobs))
                for sample in sorted(output.outputs, key=lambda sample: sample.index)
            ]
            found.append(drawn * request.count if greedy else drawn)
        return found

    def score(self, groups: Sequence[Group]) -> list[list[list[float]]]:
        """The engine's log-probabilities of given completions, one list a completion, at temperature 1.

        Args:
            groups: prompts and completions, token ids. Each pair with one more token must fit the context.

        Raises:
            EngineError: the engine failed.
        """
        if self._adapter is not None:
            return [[self._forced(prompt, completion) for completion in completions] for prompt, completions in groups]
        rows = [[*prompt, *completion] for prompt, completions in groups for completion in completions]
        settings = [self._settings(n=1, max_tokens=1, prompt_logprobs=0) for _ in rows]
        outputs = iter(self._generate(rows, settings))
        return [
            [_chosen(completion, next(outputs).prompt_logprobs[len(prompt) :]) for completion in completions]
            for prompt, completions in groups
        ]

    def _forced(self, prompt: Sequence[int], completion: Sequence[int]) -> list[float]:
        """Log-probabilities of a completion, each token asked for by a request that may sample no other.

        vLLM's log-probabilities of prompts fail under adapters (0.32, CPU: the adapter's part of the head takes the
        rows for one a request).
        """
        rows = [[*prompt, *completion[:place]] for place in range(len(completion))]
        settings = [self._settings(n=1, max_tokens=1, logprobs=0, allowed_token_ids=[token]) for token in completion]
        outputs = self._generate(rows, settings)
        return [_chosen(found.outputs[0].token_ids, found.outputs[0].logprobs)[0] for found in outputs]

    def replace_weights(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        """Takes other weights for all of the model, by their names in a checkpoint. Forgets cached prefixes.

        vLLM's own reloading is used, not ``load_weights`` on its modules: on a CPU the matrices are kept in a packed
        form that ``load_weights`` alone does not reach.

        Raises:
            EngineError: the engine failed; what it would sample is then undefined.
        """
        try:
            self._llm.collective_rpc("reload_weights", kwargs={"weights_iterator": iter(weights)})
        except (RuntimeError, ValueError, KeyError, AttributeError) as problem:
            raise EngineError(f"vLLM did not take the weights: {problem}") from problem
        self.forget()

    def use_adapter(self, folder: Path) -> None:
        """Samples with the LoRA adapter in ``folder`` from now on; each call is a new adapter to the engine."""
        from vllm.lora.request import LoRARequest

        before, self._adapters = self._adapter, self._adapters + 1
        self._adapter = LoRARequest(f"adapter-{self._adapters}", self._adapters, str(folder))
        try:
            if before is not None:
                self._llm.llm_engine.remove_lora(before.lora_int_id)
            self._llm.llm_engine.add_lora(self._adapter)  # read now, so that the folder may go
        except (RuntimeError, ValueError, OSError) as problem:
            raise EngineError(f"vLLM did not take the adapter: {problem}") from problem
        self.forget()

    def forget(self) -> None:
        """Drops cached keys and values of prefixes: they are of other weights, or of an earlier, unrepeatable call."""
        if not self._llm.reset_prefix_cache():
            raise EngineError("vLLM did not drop its cached prefixes")

    def close(self) -> None:
        """Frees the engine's memory."""
        from vllm.distributed.parallel_state import cleanup_dist_env_and_memory

        if self._llm is None:
            return
        self._llm.llm_engine.engine_core.shutdown()
        self._llm = None
        if self._owns_group:
            cleanup_dist_env_and_memory()

    def _settings(self, **fields: Any) -> Any:
        from vllm import SamplingParams

        return SamplingParams(detokenize=False, **fields)

    def _generate(self, prompts: Sequence[Sequence[int]], settings: Sequence[Any]) -> list[Any]:
        inputs = [{"prompt_token_ids": list(ids)} for ids in prompts]
        try:
            outputs: list[Any] = self._llm.generate(inputs, list(settings), use_tqdm=False, lora_request=self._adapter)
        except (RuntimeError, ValueError, AssertionError) as problem:
            raise EngineError(f"vLLM: {problem}") from problem
        return outputs


def _chosen(token_ids: Sequence[int], logprobs: Sequence[Any]) -> list[float]:
    return [float(found[token].logprob) for token, found in zip(token_ids, logprobs, strict=True)]


def _allowed_rank(rank: int) -> int:
    """The smallest rank vLLM has memory shapes for that is large enough."""
    allowed = (1, 8, 16, 32, 64, 128, 256, 320, 512)
    found = next((size for size in allowed if size >= rank), None)
    if found is None:
        raise BadInput(f"rank {rank}: vLLM takes adapters up to rank {allowed[-1]}", field="lora.rank")
    return found


@contextmanager
def _unmarked() -> Iterator[None]:
    """What starting an engine changes in the process, put back.

    Those are: the seeds of every global random number generator, the number of threads, ``torch.set_num_threads``
    itself (the engine for CPUs replaces it by a function that does nothing), and vLLM's choice of where the engine
    runs, which the environment decides.
    """
    states = random.getstate(), np.random.get_state()
    threads, set_threads = torch.get_num_threads(), torch.set_num_threads
    name = "VLLM_ENABLE_V1_MULTIPROCESSING"
    before, os.environ[name] = os.environ.get(name), "0"
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        torch.set_num_threads = set_threads
        torch.set_num_threads(threads)
        random.setstate(states[0])
        np.random.set_state(states[1])
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
