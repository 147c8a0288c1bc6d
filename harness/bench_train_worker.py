"""One side of ``pivotgym bench train``, in a process of its own: it holds a model and takes the steps it is told to.

It reads one JSON object a line (see :class:`Point`) and answers each with one (see :class:`Taken`). All sides see the
same tokens, advantages, optimiser and denominator; they differ in how the loss is computed. Completions are random
tokens of one length, so that packing gains nothing from beginnings they share, and padding wastes nothing.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, replace
from typing import Any

import torch
from torch import Tensor

from pivotgym.harness.bench_train_config import Point, Side, Taken
from pivotgym.harness.flops import causal_pairs, peak_flops, training_flops

Accumulate = Callable[[Point, list[int], list[list[int]], Tensor], None]
"""Adds the gradients of a batch to the model's: point, prompt, completions, advantages ``(G,)``."""
LR = 1e-6


class Worker:
    """Takes steps with one model.

    Args:
        side: how the loss is computed.
        source: the model, as :func:`~pivotgym.harness.policies.transformers_policy.load_model` takes it.
        lora: train LoRA adapters; otherwise all weights.
        threads: of PyTorch; 0 leaves its own number.
        dtype: of the weights; None as ``load_model`` takes it.
    """

    def __init__(self, side: Side, source: str, lora: bool, threads: int, dtype: str | None = None) -> None:
        from pivotgym.harness.learner import Learner
        from pivotgym.harness.options import LoraOptions, OptimOptions
        from pivotgym.harness.policies.transformers_policy import load_model

        self.side: Side = side
        if threads:
            torch.set_num_threads(threads)
        model, tokenizer = load_model(source, dtype=dtype)
        self.config = model.config
        embeddings = {id(one) for one in (model.get_input_embeddings(), model.get_output_embeddings())}
        self.weights = sum(
            parameter.numel()
            for module in model.modules()
            if id(module) not in embeddings
            for parameter in module.parameters(recurse=False)
            if parameter.dim() > 1
        )
        self.vocabulary = int(model.config.get_text_config().vocab_size)
        self.learner = Learner(model, LoraOptions() if lora else None, OptimOptions(lr=LR))
        self.device = next(model.parameters()).device
        sides: dict[Side, Callable[[], Accumulate]] = {
            "packed": lambda: self._packed,
            "padded": lambda: self._padded,
            "trl": lambda: _Trl(self.learner.model, tokenizer),
        }
        self._accumulate = sides[side]()
        self.steps = 0
        self.step(Point(2, 32, 8, 2, 128))  # makes the optimiser's state and loads kernels

    def warm_up(self, point: Point) -> Taken:
        """A pass of the largest size that steps at ``point`` make, without an update: the memory is fetched once."""
        if self.side != "packed":
            point = replace(point, group=point.rows_that_divide)
        taken = self.step(point, update=False)
        self.learner.optimizer.zero_grad(set_to_none=True)
        return taken

    def step(self, point: Point, update: bool = True) -> Taken:
        """One optimiser step, or only its gradients."""
        generator = torch.Generator().manual_seed(point.prompt * 1009 + point.group)
        draw = torch.randint(0, self.vocabulary, (point.prompt + point.group * point.completion,), generator=generator)
        prompt = draw[: point.prompt].tolist()
        completions = draw[point.prompt :].view(point.group, point.completion).tolist()
        advantages_G = torch.randn(point.group, generator=generator)
        if self.side == "packed":
            self.learner.packs([(prompt, completions)], point.tokens)  # a longer group is checked once in a run
        self._wait()
        wall, cpu = time.perf_counter(), time.process_time()
        self._accumulate(point, prompt, completions, advantages_G)
        norm = None
        if update:
            self.steps += 1
            norm = self.learner.update(self.steps)
        self._wait()
        return Taken(
            ms=(time.perf_counter() - wall) * 1000,
            cpu_ms=(time.process_time() - cpu) * 1000,
            norm=float("nan") if norm is None else norm,
            peak_mb=self._peak_mb(),
            tflop=self.flops(point) / 1e12,
            card_tflops=self._card(),
        )

    def flops(self, point: Point) -> float:
        """Operations of a step at ``point`` on this side; TRL's and the padded one's compute the prompt for each."""
        positions, pairs = causal_pairs(point.prompt, [point.completion] * point.group, shared=self.side == "packed")
        scored = point.group * point.completion
        return training_flops(self.config, positions, pairs, scored, self.weights, adapters=bool(self.learner.lora))

    def _card(self) -> float | None:
        if self.device.type != "cuda":
            return None
        found = peak_flops(torch.cuda.get_device_name(self.device), next(self.learner.model.parameters()).dtype)
        return None if found is None else found / 1e12

    def give_back(self) -> None:
        """Hands freed memory back to the system, so that a side that waits does not hold what another one needs."""
        if sys.platform == "linux":
            with suppress(OSError, AttributeError):  # another C library than glibc
                ctypes.CDLL(None).malloc_trim(0)

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def _peak_mb(self) -> float:
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / 1e6
        kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return kilobytes * (1 if sys.platform == "darwin" else 1024) / 1e6

    def _packed(self, point: Point, prompt: list[int], completions: list[list[int]], advantages_G: Tensor) -> None:
        from pivotgym.harness.losses import grpo_loss

        for pack in self.learner.packs([(prompt, completions)], point.tokens):
            logprobs_NT, mask_NT, _ = self.learner.logprobs(pack.groups)
            loss, _ = grpo_loss(
                logprobs_NT,
                None,
                advantages_G[pack.rows].to(self.device),
                mask_NT,
                denominator=point.group * point.completion,
            )
            loss.backward()  # type: ignore[no-untyped-call]

    def _padded(self, point: Point, prompt: list[int], completions: list[list[int]], advantages_G: Tensor) -> None:
        from pivotgym.harness.forward import padded_logprobs
        from pivotgym.harness.losses import grpo_loss

        rows = point.rows_that_divide
        for start in range(0, point.group, rows):
            part = completions[start : start + rows]
            logprobs_NT, mask_NT, _ = padded_logprobs(self.learner.model, prompt, part, with_entropy=True)
            loss, _ = grpo_loss(
                logprobs_NT,
                None,
                advantages_G[start : start + rows].to(self.device),
                mask_NT,
                denominator=point.group * point.completion,
            )
            loss.backward()  # type: ignore[no-untyped-call]


class _Trl:
    """The loss of TRL's ``GRPOTrainer``, its own code, on ready-made batches."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        import warnings

        trl: Any = importlib.import_module("trl")
        datasets: Any = importlib.import_module("datasets")

        self.model = model
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._folder = tempfile.TemporaryDirectory(prefix="pivotgym-bench-")
            self.trainer: Any = trl.GRPOTrainer(
                model=model,
                reward_funcs=lambda completions, **_: [0.0 for _ in completions],
                args=trl.GRPOConfig(
                    output_dir=self._folder.name,
                    report_to=[],
                    use_cpu=next(model.parameters()).device.type == "cpu",
                    bf16=False,
                    per_device_train_batch_size=2,
                    num_generations=2,
                    gradient_checkpointing=False,  # as on the other sides
                    beta=0.0,
                    loss_type="dapo",  # the mean over all tokens of the batch, as on the other sides
                ),
                train_dataset=datasets.Dataset.from_dict({"prompt": ["x"]}),
                processing_class=tokenizer,
            )
        self.model.eval()

    def __call__(self, point: Point, prompt: list[int], completions: list[list[int]], advantages_G: Tensor) -> None:
        trainer, rows = self.trainer, point.rows_that_divide
        parts = point.group // rows
        trainer.current_gradient_accumulation_steps = trainer.args.steps_per_generation = parts
        device = next(self.model.parameters()).device
        # What its loss does in training, with the dropout of these models at 0: only its counters look at the mode.
        trainer.model.train()
        for start in range(0, point.group, rows):
            ids_NT = torch.tensor(completions[start : start + rows], device=device)
            prompt_NP = torch.tensor([prompt], device=device).expand(rows, -1)
            loss = trainer._compute_loss(
                trainer.model,
                {
                    "prompt_ids": prompt_NP,
                    "prompt_mask": torch.ones_like(prompt_NP),
                    "completion_ids": ids_NT,
                    "completion_mask": torch.ones_like(ids_NT),
                    "advantages": advantages_G[start : start + rows].to(device),
                    "num_items_in_batch": torch.tensor(point.group * point.completion, device=device),
                },
            )
            loss.backward()
        trainer._metrics["train"].clear()


def main() -> None:
    """Takes the steps asked for on standard input; ends with it."""
    answers, sys.stdout = sys.stdout, sys.stderr  # what libraries print is no answer
    side, source, lora, threads, dtype = sys.argv[1:6]
    worker = Worker(side, source, lora == "lora", int(threads), dtype or None)  # type: ignore[arg-type]
    print(json.dumps({"ready": str(worker.device)}), file=answers, flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        take = worker.warm_up if asked.pop("warm_up", False) else worker.step
        taken = take(Point(**asked))
        worker.give_back()
        print(json.dumps(asdict(taken)), file=answers, flush=True)


if __name__ == "__main__":
    main()
