"""Sizes of ``pivotgym bench train``. Apart from the benchmark, so that a command line is read without torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Side = Literal["packed", "padded", "trl"]


@dataclass(frozen=True)
class Point:
    """Sizes of a step.

    Attributes:
        group: completions, ``G``.
        prompt: tokens of the prompt.
        completion: tokens of each completion.
        rows: completions in a forward pass of the padded sides.
        tokens: positions in a forward pass of the packed side.
    """

    group: int
    prompt: int
    completion: int
    rows: int
    tokens: int

    @property
    def rows_that_divide(self) -> int:
        """The most rows of a pass that cut the group into equal parts."""
        return next(rows for rows in range(min(self.rows, self.group), 0, -1) if self.group % rows == 0)


@dataclass(frozen=True)
class Taken:
    """A step that was taken.

    Attributes:
        ms: wall-clock time of gradients and optimiser.
        cpu_ms: processor time of this process, all threads.
        norm: of the gradient.
        peak_mb: most memory so far, of the process (CPU) or allocated on the device (CUDA).
        tflop: operations that the step takes by the model's definition, in 10**12 (see
            :mod:`~pivotgym.harness.flops`).
        card_tflops: what the card does at most, in 10**12 a second; None where that is not known.
    """

    ms: float
    cpu_ms: float
    norm: float
    peak_mb: float
    tflop: float
    card_tflops: float | None


class TrainBenchConfig(BaseModel):
    """What is measured.

    Attributes:
        model: ``embedded``, a model folder or a hub name.
        prompt: tokens of the prompt.
        completion: tokens of each completion.
        group: completions of the prompt (G).
        rows: completions in one forward pass of the padded sides, at the main prompt length.
        tokens: positions in one forward pass of the packed side.
        lora: train LoRA adapters instead of all weights.
        trl: measure TRL too; where it is not installed the benchmark fails, after the other sides.
        curve_groups: further group sizes, at the same prompt length.
        curve_prompts: further prompt lengths, at the same group size.
        curve_repeats: rounds at each of those.
        threads: of PyTorch in each process; 0 leaves its own number.
        dtype: of the weights, a name of torch's; None takes float32 on a CPU and the checkpoint's own elsewhere.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = "embedded"
    prompt: int = Field(1024, ge=1)
    completion: int = Field(64, ge=1)
    group: int = Field(8, ge=2)
    rows: int = Field(2, ge=1)
    tokens: int = Field(4096, ge=1)
    lora: bool = False
    trl: bool = True
    curve_groups: tuple[int, ...] = (2, 4, 16, 32)
    curve_prompts: tuple[int, ...] = (256, 512, 2048)
    curve_repeats: int = Field(1, ge=1)
    threads: int = Field(0, ge=0)
    dtype: str | None = None

    @property
    def is_standard(self) -> bool:
        """Whether the targets are for this."""
        sizes = (self.model, self.prompt, self.completion, self.group, self.lora)
        return sizes == ("embedded", 1024, 64, 8, False)

    def points(self) -> Iterator[Point]:
        """The sizes asked for, the main ones first.

        Prompts that are longer than the main one get as many rows fewer in a pass of the padded sides, so that no
        point needs much more memory than the main one.
        """
        sizes = [(self.group, self.prompt)]
        sizes += [(group, self.prompt) for group in self.curve_groups]
        sizes += [(self.group, prompt) for prompt in self.curve_prompts]
        for group, prompt in dict.fromkeys(sizes):
            rows = max(1, self.rows * self.prompt // max(prompt, self.prompt))
            yield Point(group, prompt, self.completion, rows, self.tokens)
