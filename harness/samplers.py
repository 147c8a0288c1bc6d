"""What a trainer samples with: the learner's own weights in this process, or an engine that is given them.

An engine computes in another order than the trainer (other kernels, often another precision), so its log-probabilities
are not quite the trainer's. Every step reports how far they are apart, and ``importance_cap`` corrects for it (see
:mod:`pivotgym.harness.losses`).
"""

from __future__ import annotations

import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from pivotgym.envs.errors import BadInput, InfrastructureError
from pivotgym.harness.learner import Learner
from pivotgym.harness.options import VllmOptions
from pivotgym.harness.policies.base import Policy
from pivotgym.harness.policies.rendering import generation_ends
from pivotgym.harness.policies.transformers_policy import TransformersPolicy
from pivotgym.harness.runs import whole_folder
from pivotgym.harness.sampling_weights import LEARNER
from pivotgym.harness.update_config import UpdateConfig


class Sampler(Protocol):
    """A policy that follows a learner."""

    @property
    def policy(self) -> Policy:
        """What samples."""
        ...

    def refresh(self) -> None:
        """Takes over the learner's weights; to be called before each step's sampling and each evaluation."""
        ...

    def close(self) -> None:
        """Frees what the sampler holds."""
        ...


def make_sampler(
    config: UpdateConfig,
    learner: Learner,
    start: TransformersPolicy,
    folder: Path,
    *,
    kind: Callable[..., TransformersPolicy] = TransformersPolicy,
) -> Sampler:
    """The sampler that ``config.sampler`` names.

    Args:
        config: settings.
        learner: whose weights are sampled from.
        start: the policy that training starts from; its tokenizer, template and name are taken over.
        folder: of the run; a server reads weights from ``folder/serving``.
        kind: makes the policy that samples from the learner's own weights, over several processes another one.

    Raises:
        BadInput: an engine that cannot take the model.
        EndpointError: the server does not answer.
        MissingExtra: vLLM is not installed.
    """
    if config.sampler == "transformers":
        return LocalSampler(learner, start, kind)
    if config.sampler == "vllm":
        return VllmSampler(learner, start, config.vllm, merged=config.merged_sampler)
    return ServerSampler(learner, start, config.sampler.removeprefix("vllm:"), folder / "serving")


class LocalSampler:
    """The learner's own modules sample."""

    def __init__(
        self, learner: Learner, start: TransformersPolicy, kind: Callable[..., TransformersPolicy] = TransformersPolicy
    ) -> None:
        self._learner = learner
        self.policy: Policy = kind(
            learner.sampler(),
            start.tokenizer,
            name=start.name,
            template_args=start.format.template_args,
            limits=start.limits,
        )

    def refresh(self) -> None:
        """Takes over the last update."""
        self._learner.sampler()

    def close(self) -> None:
        """Nothing to free."""


class VllmSampler:
    """A vLLM engine in this process samples.

    It gets its weights from the learner alone, also the first ones: so it samples from the weights that train, wherever
    they came from. With ``merged`` all of them are sent after each update, adapters added in; without, the base weights
    once and then the adapter, under a new name each time.

    Args:
        learner: whose weights.
        start: tokenizer, template, name.
        options: of the engine; without a ``dtype`` it computes in the learner's.
        merged: add adapters to the weights. Where the engine's precision is lower than 32 bits, the sum is rounded.
    """

    def __init__(self, learner: Learner, start: TransformersPolicy, options: VllmOptions, *, merged: bool) -> None:
        from pivotgym.harness.policies.vllm_engine import VllmEngine
        from pivotgym.harness.policies.vllm_policy import VllmPolicy

        self._learner, self._version = learner, -1
        self._adapters = learner.lora and not merged
        base = _base(learner)
        if options.dtype is None:
            options = options.model_copy(update={"dtype": str(base.dtype).removeprefix("torch.")})
        rank = int(learner.model.peft_config[LEARNER].r) if self._adapters else None
        self._folder = Path(tempfile.mkdtemp(prefix="pivotgym-vllm-"))
        try:
            base.config.save_pretrained(str(self._folder))
            self._engine = VllmEngine(self._folder, options, dummy=True, lora_rank=rank)
        except BaseException:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise
        if self._adapters:
            self._engine.replace_weights(checkpoint_names(base, base_weights(learner)))
        self.policy: Policy = VllmPolicy(
            self._engine,
            start.tokenizer,
            end_ids=generation_ends(getattr(base, "generation_config", None)),
            name=start.name,
            template_args=start.format.template_args,
            origin="trained",
        )

    def refresh(self) -> None:
        """Sends the weights where they changed, and drops cached prefixes in any case.

        A cached prefix changes the last digits of what is sampled behind it; a run that was killed and goes on has
        none.
        """
        if self._version == self._learner.version:
            self._engine.forget()
            return
        if self._adapters:
            folder = self._folder / "adapter"
            shutil.rmtree(folder, ignore_errors=True)
            self._learner.save_weights(folder)
            self._engine.use_adapter(folder)
        else:
            self._engine.replace_weights(checkpoint_names(_base(self._learner), merged_weights(self._learner)))
        self._version = self._learner.version

    def close(self) -> None:
        """Ends the engine."""
        self._engine.close()
        shutil.rmtree(self._folder, ignore_errors=True)


class ServerSampler:
    """A vLLM server samples; weights reach it through a folder that it can read.

    Adapters need a server that serves the base model, started with ``--enable-lora`` and
    ``VLLM_ALLOW_RUNTIME_LORA_UPDATING=True``; all weights one started with ``VLLM_SERVER_DEV_MODE=1``.

    Args:
        learner: whose weights.
        start: tokenizer, template, name.
        base_url: for example ``http://localhost:8000/v1``.
        folder: where the weights are put.
    """

    def __init__(self, learner: Learner, start: TransformersPolicy, base_url: str, folder: Path) -> None:
        from pivotgym.harness.policies.vllm_server import VllmServerPolicy, load_vllm_server_policy

        self._learner, self._version, self._folder = learner, -1, folder
        source, plus, _ = start.name.partition("+")
        if plus and learner.lora:
            # The server has the model without it, so what trains on top would be sampled on top of something else.
            raise BadInput("an adapter in the policy: name it as the warm start instead", field="policy")
        base = _base(learner)
        self.policy: VllmServerPolicy = load_vllm_server_policy(
            source,
            base_url,
            tokenizer=start.tokenizer,
            end_ids=generation_ends(getattr(base, "generation_config", None)),
            template_args=start.format.template_args,
            name=start.name,
        )

    def refresh(self) -> None:
        """Sends the weights where they changed."""
        if self._version == self._learner.version:
            return
        with whole_folder(self._folder) as temporary:
            self._learner.save_weights(temporary)
        if self._learner.lora:
            self.policy.use_adapter(self._folder)
        else:
            self.policy.reload(self._folder)
        self._version = self._learner.version

    def close(self) -> None:
        """Unloads the adapter and removes the folder; a server that does not answer any more is no new error."""
        try:
            self.policy.close()
        except (BadInput, InfrastructureError) as error:  # what ended the run is told, not what came of it
            warnings.warn(f"the last adapter stays loaded: {error}", stacklevel=2)
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)


def merged_weights(learner: Learner) -> Iterator[tuple[str, Tensor]]:
    """The whole model as it is now, adapters added in, one matrix after another: names of the base model, values."""
    return _weights(learner, merged=True)


def base_weights(learner: Learner) -> Iterator[tuple[str, Tensor]]:
    """The model under the adapters: names, values."""
    return _weights(learner, merged=False)


def _weights(learner: Learner, *, merged: bool) -> Iterator[tuple[str, Tensor]]:
    base = _base(learner)
    # Tied matrices under each of their names: the engine keeps a packed form of its own for each.
    for name, parameter in base.named_parameters(remove_duplicate=False):
        owner, dot, kind = name.rpartition(".")
        if ".lora_" in name:
            continue
        if not owner.endswith(".base_layer"):
            yield name, parameter.detach()
            continue
        adapted = owner.removesuffix(".base_layer")
        layer: Any = base.get_submodule(adapted)
        value = parameter.detach()
        if merged and kind == "weight":
            with torch.no_grad():  # not around the yield, where it would hold for the caller too
                value = value + layer.get_delta_weight(LEARNER)
        yield f"{adapted}{dot}{kind}", value


def _base(learner: Learner) -> Any:
    return learner.model.get_base_model() if learner.lora else learner.model


def checkpoint_names(base: Any, weights: Iterator[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
    """As a checkpoint has them: transformers 5 holds the experts of a mixture in one tensor, checkpoints do not."""
    try:
        from transformers.conversion_mapping import get_model_conversion_mapping
        from transformers.core_model_loading import revert_weight_conversion
    except ImportError:  # transformers 4: as they are
        return weights
    if not get_model_conversion_mapping(base, add_legacy=False):
        return weights
    return iter(revert_weight_conversion(base, dict(weights)).items())
