"""Policies: what turns a conversation into sampled actions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pivotgym.envs.errors import BadInput
from pivotgym.harness.policies.base import Completion, Conversation, Policy, Sampling, StopReason, Usage

__all__ = ["Completion", "Conversation", "Policy", "Sampling", "StopReason", "Usage", "load_policy"]

SPEC_HELP = """\
embedded                 SmolLM2-135M-Instruct, obtained on first use
embedded+FOLDER          the same with the LoRA adapter in FOLDER
MODEL, MODEL+FOLDER      a model folder or a Hugging Face name, with an adapter or without
openai:MODEL@BASE_URL    an OpenAI-compatible endpoint; the key comes from OPENAI_API_KEY
vllm:MODEL[+FOLDER]      a vLLM engine in this process on any of the above models
vllm:MODEL@BASE_URL      a vLLM server, with prompts encoded here and token ids from the engine"""


def load_policy(
    spec: str,
    *,
    device: str | None = None,
    dtype: str | None = None,
    template_args: dict[str, Any] | None = None,
    concurrency: int = 8,
) -> Policy:
    """The policy a command-line option names.

    Args:
        spec: ``embedded``, ``embedded+FOLDER``, ``MODEL``, ``MODEL+FOLDER``, ``openai:MODEL@BASE_URL``,
            ``vllm:MODEL``, ``vllm:MODEL+FOLDER`` or ``vllm:MODEL@BASE_URL``.
        device: torch device; None takes the accelerator where there is one. A vLLM engine runs on what vLLM was
            built for, an endpoint where it is.
        dtype: torch dtype name; None takes float32 on CPU and the checkpoint's own elsewhere.
        template_args: extra variables for the chat template.
        concurrency: requests an endpoint gets at once.

    Raises:
        BadInput: the spec names nothing that can be loaded.
        EmbeddedModelUnavailable: the embedded model is not here and could not be obtained.
        EndpointError: a vLLM server does not answer.
        MissingExtra: vLLM is not installed.
    """
    # Imported here: torch and transformers take seconds, and commands that only print help should not wait for them.
    if spec.startswith("openai:"):
        from pivotgym.harness.policies.openai_policy import OpenAIPolicy

        model, at, base_url = spec.removeprefix("openai:").rpartition("@")
        if not at or not model or not base_url.startswith(("http://", "https://")):
            raise BadInput(f"policy {spec!r}: expected openai:MODEL@BASE_URL with an http(s) address")
        return OpenAIPolicy(model, base_url=base_url, name=spec, concurrency=concurrency)
    if spec.partition(":")[0] == "scripted":
        raise BadInput(f"policy {spec!r}: scripted policies need the recorded actions and are made in Python")

    engine = spec.startswith("vllm:")
    if engine:
        source, at, base_url = spec.removeprefix("vllm:").rpartition("@")
        if at and base_url.startswith(("http://", "https://")):
            from pivotgym.harness.policies.vllm_server import load_vllm_server_policy

            return load_vllm_server_policy(source, base_url, template_args=template_args, concurrency=concurrency)
    source, adapter = _source_and_adapter(spec.removeprefix("vllm:"), spec)
    if engine:
        from pivotgym.harness.options import VllmOptions
        from pivotgym.harness.policies.vllm_policy import load_vllm_policy

        options = VllmOptions(dtype=dtype, gpu_memory_utilization=0.9)
        return load_vllm_policy(source, adapter=adapter, name=spec, options=options, template_args=template_args)

    from pivotgym.harness.policies.transformers_policy import load_transformers_policy

    return load_transformers_policy(
        source, adapter=adapter, name=spec, device=device, dtype=dtype, template_args=template_args
    )


def _source_and_adapter(named: str, spec: str) -> tuple[str, Path | None]:
    """``MODEL+FOLDER`` in its parts; a model's folder may have a plus sign in its own name."""
    if named and Path(named).is_dir():
        return named, None
    source, plus, adapter = named.partition("+")
    if not source or (plus and not adapter):
        raise BadInput(f"policy {spec!r}: expected one of\n{SPEC_HELP}")
    return source, Path(adapter) if adapter else None
