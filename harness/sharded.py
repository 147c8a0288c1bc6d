"""A learner whose weights, gradients and optimiser are sharded over processes: FSDP2 under ``torchrun``.

Every process computes its share of a batch's packs. Losses are divided by one denominator of the whole batch, so the
processes' gradients are added, not averaged, and the sum is the gradient of the batch. Each pass gathers the weights of
a layer when it is needed (Zhao et al. 2023, PyTorch FSDP, arXiv:2304.11277; here its second version, ``fully_shard``),
so all processes must make the same number of passes: who has fewer packs repeats one, with a loss of zero.

To sample, each process holds a whole copy of the weights, brought up to date after each update: gathering layer by
layer for every sampled token would take far longer than the token.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from pivotgym.envs.errors import BadInput
from pivotgym.envs.trajectory import JsonObject
from pivotgym.harness.attention import decoder_of
from pivotgym.harness.forward import Logprobs, causal_lm
from pivotgym.harness.learner import Learner, read_weights, saved_names
from pivotgym.harness.options import LoraOptions, OptimOptions
from pivotgym.harness.packing import Group, Pack
from pivotgym.harness.policies.sampler import Sample
from pivotgym.harness.policies.transformers_policy import Draw, TransformersPolicy
from pivotgym.harness.ranks import Ranks
from pivotgym.harness.ways import Way


class ShardedLearner(Learner):
    """:class:`~pivotgym.harness.learner.Learner` over several processes. All of them must call the same methods.

    A second model as the reference, and the frozen copy that a reference takes where all weights train, are held whole
    by each process.

    Args:
        model: as for :class:`Learner`, the same weights in each process.
        lora: None trains all weights.
        optim: the optimiser.
        ranks: the processes; their default process group carries the gradients.
        options: further arguments of :class:`Learner`.

    Raises:
        BadInput: as :class:`Learner`, or torch is too old.
    """

    lockstep = True

    def __init__(
        self, model: nn.Module, lora: LoraOptions | None, optim: OptimOptions, *, ranks: Ranks, **options: Any
    ) -> None:
        if not hasattr(FSDPModule, "set_force_sum_reduction_for_comms"):
            raise BadInput(f"training over processes needs a newer torch than {torch.__version__}", field="torch")
        self._scorer: nn.Module = nn.Module()  # nothing is sharded yet
        self._ranks = ranks
        super().__init__(model, lora, optim, **{**options, "own_sampler": True})
        device = next(self.model.parameters()).device.type
        self._mesh = init_device_mesh(device, (ranks.count,))
        self._scorer = _Scorer(self.model)
        for layer in _layers(self.model):
            fully_shard(layer, mesh=self._mesh)
        fully_shard(self._scorer, mesh=self._mesh, reshard_after_forward=True)
        for module in self._shards():
            module.set_gradient_divide_factor(1.0)  # added, not averaged
            module.set_force_sum_reduction_for_comms(True)
        self.parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=optim.lr, betas=optim.betas, weight_decay=optim.weight_decay
        )

    def sampler(self) -> nn.Module:
        """The whole model to sample from, with the current weights."""
        if not self._stale:
            return super().sampler()
        with self._whole():
            return super().sampler()

    def share(self, packs: Sequence[Pack]) -> tuple[list[Pack], int]:
        """This process's packs and how many of them count; what comes behind them only keeps step with the others."""
        order = sorted(packs, key=lambda pack: -pack.tokens)
        mine = self._ranks.mine(order)
        short = order[-1]
        prompt, completions = short.groups[0]
        filling = Pack([(prompt, completions[:1])], short.rows[:1], short.tokens)
        rounds = -(-len(order) // self._ranks.count)
        return mine + [filling] * (rounds - len(mine)), len(mine)

    def logprobs(self, groups: Sequence[Group], model: nn.Module | None = None) -> Logprobs:
        """As :meth:`Learner.logprobs`; one pass of the sharded model, in step with the other processes."""
        if model is not None and model is not self.model:
            return super().logprobs(groups, model)
        with self.recomputing if model is None else nullcontext():
            return Logprobs(*self._scorer(lambda whole: tuple(self._logprobs(groups, whole))))

    def _way(self, model: nn.Module, groups: Sequence[Group], rows: int | None = None) -> Way:
        # Checked on the whole copy, so that no process waits for another.
        assert self._sampling is not None
        return super()._way(self._sampling.model if model is self.model else model, groups, rows)

    # On disk --------------------------------------------------------------------------------------------------

    def save_weights(self, folder: Path) -> None:
        """As :meth:`Learner.save_weights`, whole, by the first process."""
        state = self._gathered()
        self._ranks.once(lambda: self._put_weights(folder, state))

    def save_final(self, folder: Path, tokenizer: Any) -> None:
        """As :meth:`Learner.save_final`, by the first process."""
        weights = self._gathered()
        self._ranks.once(lambda: self._write_final(folder, tokenizer, weights))

    def load_weights(self, folder: Path) -> None:
        """Weights saved by any number of processes."""
        self._changed()
        state = read_weights(folder, lora=self.lora)
        names = saved_names(self.model) if self.lora else {name: name for name in self.model.state_dict()}
        found = dict(self.model.named_parameters())
        done = set()
        with torch.no_grad():
            for name, saved in names.items():
                if name in found and saved in state:
                    _copy(found[name], state[saved])
                    done.add(id(found[name]))
        missing = [name for name, parameter in found.items() if parameter.requires_grad and id(parameter) not in done]
        if missing:
            raise BadInput(f"the checkpoint lacks {missing[0]}", file=folder)

    def optimizer_state(self) -> JsonObject:
        """As of one process: whole tensors."""
        state = self.optimizer.state_dict()
        whole = {
            number: {name: full_tensor(value) for name, value in entry.items()}
            for number, entry in state["state"].items()
        }
        return {**state, "state": whole}

    def load_optimizer_state(self, state: JsonObject) -> None:
        """The state of :meth:`optimizer_state`, of any number of processes."""
        entries = {}
        for number, entry in state["state"].items():
            parameter = self.parameters[number]
            assert isinstance(parameter, DTensor)
            entries[number] = {
                name: distribute_tensor(value.to(parameter.device), self._mesh, parameter.placements)
                if torch.is_tensor(value) and value.shape == parameter.shape and value.dim() > 0
                else value
                for name, value in entry.items()
            }
        self.optimizer.load_state_dict({**state, "state": entries})

    def save_checkpoint(
        self, folder: Path, state: JsonObject, tables: Mapping[str, Sequence[JsonObject]] | None = None
    ) -> None:
        """As :meth:`Learner.save_checkpoint`, whole, by the first process."""
        weights, optimizer = self._gathered(), self.optimizer_state()
        self._ranks.once(lambda: self._write_checkpoint(folder, weights, optimizer, state, tables))

    # Shards ---------------------------------------------------------------------------------------------------

    def _gathered(self) -> dict[str, Tensor]:
        """What is saved, whole; tied weights are one tensor."""
        found: dict[int, Tensor] = {}
        state = {}
        for name, value in self.model.state_dict(keep_vars=True).items():
            if value.requires_grad or not self.lora:
                if id(value) not in found:
                    found[id(value)] = full_tensor(value.detach())
                state[name] = found[id(value)]
        return state

    def _shards(self) -> Iterator[FSDPModule]:
        return (module for module in self._scorer.modules() if isinstance(module, FSDPModule))

    @contextmanager
    def _whole(self) -> Iterator[None]:
        """All weights whole in every process, for reading."""
        for module in self._shards():
            module.unshard()
        try:
            yield
        finally:
            for module in self._shards():
                module.reshard()


class SharedPolicy(TransformersPolicy):
    """Samples together with the other processes: each draws for its share of the prompts, all get everything.

    Every sample has its own stream of random numbers whoever draws it, so what is sampled does not depend on the number
    of processes, up to rounding (batches of other sizes).

    Args:
        ranks: the processes; all of them sample at the same time, the same conversations.
        arguments: of :class:`TransformersPolicy`.
    """

    def __init__(self, *arguments: Any, ranks: Ranks, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._ranks = ranks

    def _draw(self, prompts: Sequence[list[int]], draw: Draw) -> list[list[Sample]]:
        order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
        mine = self._ranks.mine(order)
        whole: list[list[Sample]] = [[] for _ in prompts]
        for number, part in enumerate(self._ranks.together(lambda: draw(mine) if mine else [])):
            for index in order[number :: self._ranks.count]:
                whole[index] = part[index]
        return whole


class _Scorer(nn.Module):
    """The root of the shards: its weights (embeddings, head) are whole while it computes."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, work: Callable[[nn.Module], Any]) -> Any:
        return work(self.model)


def _layers(model: nn.Module) -> list[nn.Module]:
    """The decoder's layers, the units of sharding."""
    layers = getattr(decoder_of(causal_lm(model)), "layers", None)
    return list(layers) if isinstance(layers, nn.ModuleList) else []


def full_tensor(value: Any) -> Any:
    """A sharded tensor whole, on the CPU; anything else as it is. All processes must call it."""
    return value.full_tensor().cpu() if isinstance(value, DTensor) else value


def _copy(parameter: nn.Parameter, value: Tensor) -> None:
    if isinstance(parameter, DTensor):
        value = distribute_tensor(
            value.to(parameter.device, parameter.dtype), parameter.device_mesh, parameter.placements
        )
    parameter.copy_(value)
