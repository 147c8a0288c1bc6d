"""The adapter the demo starts from: a small model that can do the job, and often slips.

Untrained, the embedded model answers no tool-call prompt, so it has no pivots. The warm start is supervised and has two
stages, both on recordings the demo never touches. The first teaches the service desk from its expert. The second is
what traces of real agents look like: at every turn a careless colleague may slip (stall, stay vague, forget an
argument, take a neighbouring tool). The result sometimes does right and sometimes slips, which is the policy that
turn-level training is for; whether it unlearns the slips is what the demo measures.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from pivotgym.envs.trajectory import JsonObject, Message, ToolCall, Trajectory
from pivotgym.harness.runs import Progress, derive_seed, total_costs, write_json

WARM_TRAJECTORIES = 200
"""The last so many bundled ``train`` trajectories are the warm start's; the demo profiles among the first ones."""
SLIP_RATE = 0.4
"""Chance of a slip at each turn of the second stage."""

STALLS = (
    "One moment, please.",
    "Let me check that for you.",
    "I will look into it.",
    "Thank you, please hold on.",
    "I understand. I am sorry about that.",
    "Is there anything else?",
)
VAGUE = (
    "It is done.",
    "All right, that is settled.",
    "Everything is in order.",
    "I took care of it.",
    "You will hear from us.",
    "Please tell me more.",
)
NEIGHBOURS = {
    "get_order": "get_ticket",
    "get_ticket": "get_order",
    "refund": "replace",
    "replace": "repair",
    "repair": "replace",
    "cancel": "escalate",
    "escalate": "close_ticket",
    "close_ticket": "get_ticket",
}


def shipped_adapter() -> Path:
    """Folder of the LoRA adapter that ships with the package, made by ``pivotgym warm-start``."""
    return Path(str(files("pivotgym.harness.policies") / "warm_start"))


def splits() -> tuple[list[Trajectory], list[Trajectory]]:
    """The bundled ``train`` trajectories as (for pivots, for the warm start): no trajectory is in both."""
    from pivotgym.envs.tools.servicedesk import bundled_trajectories

    bundled = bundled_trajectories("train")
    return bundled[:-WARM_TRAJECTORIES], bundled[-WARM_TRAJECTORIES:]


def slip(action: Message, rng: random.Random) -> Message:
    """What the careless colleague does instead of ``action``."""
    if not action.tool_calls:
        return Message(role="assistant", content=rng.choice(STALLS + VAGUE))
    call = action.tool_calls[0]
    arguments = dict(call.arguments) if isinstance(call.arguments, dict) else {}
    kinds = ["stall", "stall", *(["forget"] if arguments else []), *(["neighbour"] if call.name in NEIGHBOURS else [])]
    kind = rng.choice(kinds)
    if kind == "stall":
        return Message(role="assistant", content=rng.choice(STALLS))
    if kind == "forget":
        del arguments[rng.choice(sorted(arguments))]
        return Message(role="assistant", tool_calls=[ToolCall(name=call.name, arguments=arguments, id=call.id)])
    return Message(role="assistant", tool_calls=[ToolCall(name=NEIGHBOURS[call.name], arguments=arguments, id=call.id)])


def with_slips(trajectories: Sequence[Trajectory], rate: float = SLIP_RATE, seed: int = 0) -> list[Trajectory]:
    """Recordings that end at their first slip; at every turn it comes with chance ``rate``.

    A recording that reaches its end without a slip is kept whole.
    """
    found = []
    for trajectory in trajectories:
        rng = random.Random(derive_seed(seed, "slips", trajectory.id))
        for turn, index in enumerate(trajectory.turns):
            if rng.random() < rate:
                messages = [*trajectory.prefix(turn), slip(trajectory.messages[index], rng)]
                found.append(trajectory.model_copy(update={"messages": messages}))
                break
        else:
            found.append(trajectory)
    return found


def other_spelling(action: Message) -> Message:
    """The same calls with arguments that look different and do the same: ``#O12``, ``7. April``, ``my router``.

    Every colleague writes in a way of their own. The tools take all of these; comparing arguments does not.
    """
    if not action.tool_calls:
        return action
    calls = [
        call.model_copy(
            update={"arguments": {name: _spelled(call.name, name, value) for name, value in call.arguments.items()}}
        )
        if isinstance(call.arguments, dict)
        else call
        for call in action.tool_calls
    ]
    return action.model_copy(update={"tool_calls": calls})


def _spelled(tool: str, name: str, value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if name in ("order", "id"):
        return f"#{value}"
    if name == "day":
        return value.replace(" ", ". ", 1)
    if name == "address":
        return value.replace(" ", ", ", 1)
    if name == "contact":
        return value if "@" in value else value.replace("-", " ")
    if name == "topic":
        return f"my {value}" if tool == "open_ticket" else value.title()
    return value.title() if name == "priority" else value


def with_other_spellings(trajectories: Sequence[Trajectory], rate: float, seed: int = 0) -> list[Trajectory]:
    """Recordings in which each turn's arguments are spelled otherwise with chance ``rate``; results stay the same."""
    found = []
    for trajectory in trajectories:
        rng, messages = random.Random(derive_seed(seed, "spellings", trajectory.id)), list(trajectory.messages)
        for index in trajectory.turns:
            if rng.random() < rate:
                messages[index] = other_spelling(messages[index])
        found.append(trajectory.model_copy(update={"messages": messages}))
    return found


def make_warm_start(
    out: Path, progress: Progress, *, epochs: float = 2.4, slip_epochs: float = 0.8, rank: int = 8, layers: int = 12
) -> Path:
    """Makes the adapter: supervised steps on expert recordings, then on recordings with slips.

    Args:
        out: folder of the run; the adapter is ``out/adapter`` (float16, with ``made_by.json``: settings and cost).
        progress: called after each update.
        epochs: passes over the 200 expert recordings.
        slip_epochs: passes over the same with slips.
        rank: of the adapter.
        layers: adapted layers, from the top.

    Returns:
        The adapter's folder.
    """
    from pivotgym.harness.options import LoraOptions, OptimOptions
    from pivotgym.harness.policies import load_policy
    from pivotgym.harness.policies.transformers_policy import TransformersPolicy
    from pivotgym.harness.sft import SftConfig, train_sft

    recordings = splits()[1]
    lora = LoraOptions(rank=rank, alpha=2 * rank, layers=layers)
    expert = SftConfig(epochs=epochs, pack_tokens=1000, lora=lora, optim=OptimOptions(lr=1.5e-3, warmup=3))
    policy = load_policy("embedded")
    assert isinstance(policy, TransformersPolicy)
    first = train_sft(recordings, policy, expert, out / "expert", progress)

    careless = SftConfig(
        epochs=slip_epochs, pack_tokens=1000, warm_start=first.weights, optim=OptimOptions(lr=8e-4, warmup=3)
    )
    policy = load_policy("embedded")
    assert isinstance(policy, TransformersPolicy)
    second = train_sft(with_slips(recordings), policy, careless, out / "slips", progress)
    made_by = {
        "command": f"pivotgym warm-start --epochs {epochs:g} --slip-epochs {slip_epochs:g} --rank {rank} "
        f"--layers {layers}",
        "trajectories": WARM_TRAJECTORIES,
        "slip_rate": SLIP_RATE,
        "updates": first.steps + second.steps,
        "trained_tokens": first.trained_tokens + second.trained_tokens,
        "last_loss": second.last_loss,
        "cost": {stage: total_costs(out / stage)["sft"].row() for stage in ("expert", "slips")},
    }
    return export_adapter(second.weights, out / "adapter", made_by)


def export_adapter(weights: Path, out: Path, made_by: JsonObject) -> Path:
    """Copies a LoRA adapter in float16: half the size, and far below the noise of the sampling."""
    import torch
    from safetensors.torch import load_file, save_file

    out.mkdir(parents=True, exist_ok=True)
    tensors = load_file(weights / "adapter_model.safetensors")
    halved = {name: tensor.to(torch.float16) for name, tensor in tensors.items()}
    save_file(halved, out / "adapter_model.safetensors", metadata={"format": "pt"})
    (out / "adapter_model.safetensors").chmod(0o644)
    settings = json.loads((weights / "adapter_config.json").read_text(encoding="utf-8"))
    settings["base_model_name_or_path"] = "SmolLM2-135M-Instruct"
    write_json(out / "adapter_config.json", settings)
    write_json(out / "made_by.json", made_by)
    return out
