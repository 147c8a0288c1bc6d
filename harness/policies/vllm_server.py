"""A vLLM server as a policy: token ids in and out, and new weights while it runs.

The server is started by its owner, for instance::

    VLLM_ALLOW_RUNTIME_LORA_UPDATING=True vllm serve MODEL --enable-lora --max-lora-rank 16

LoRA adapters are loaded through ``/v1/load_lora_adapter`` from a folder that the server can read. All weights are
reloaded through ``/collective_rpc``, which a server only has when started with ``VLLM_SERVER_DEV_MODE=1``; both let
whoever reaches the server read files there, so it belongs on a private network.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import openai

from pivotgym.envs.errors import BadInput, EndpointError
from pivotgym.harness.chat import ChatFormat
from pivotgym.harness.policies.base import Completion, Conversation, Sampling
from pivotgym.harness.policies.openai_policy import OpenAIPolicy, Unusable
from pivotgym.harness.policies.rendering import completion_of, distinct_prompts, load_tokenizer, model_folder

_SAMPLE_AS_ASKED = {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}
"""A server takes what a request leaves out from the model's generation configuration; these leave nothing out."""


@dataclass(frozen=True)
class _Rendered(Conversation):
    """A conversation with its prompt."""

    prompt_ids: list[int] = field(default_factory=list)


class VllmServerPolicy(OpenAIPolicy):
    """Samples from a vLLM server's ``/v1/completions``, with prompts rendered and encoded here.

    So the prompt is the ids every other policy of that model uses, and nothing in it can become a special token by the
    server's template. Token ids and log-probabilities are the engine's own (``return_token_ids``).

    Args:
        model: the name the server knows the model by.
        tokenizer: the model's, with a chat template.
        base_url: for example ``http://localhost:8000/v1``.
        context: longest prompt and completion together.
        end_ids: ids that end a sample beside those of the template.
        template_args: extra variables for the chat template.
        options: keyword arguments of :class:`~pivotgym.harness.policies.openai_policy.OpenAIPolicy`.
    """

    def __init__(
        self,
        model: str,
        tokenizer: Any,
        *,
        base_url: str,
        context: int,
        end_ids: frozenset[int] = frozenset(),
        template_args: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(model, base_url=base_url, **{"name": f"vllm:{model}@{base_url}", **options})
        self.tokenizer, self.context = tokenizer, context
        self.format = ChatFormat(tokenizer, template_args)
        self.end_ids = self.format.end_ids | end_ids
        self._session, self._updates, self._adapter = secrets.token_hex(4), 0, ""

    def sample(
        self, conversations: Sequence[Conversation], n: int = 1, sampling: Sampling | None = None
    ) -> list[list[Completion]]:
        """``n`` completions for each conversation, in order, with prompt ids, token ids and log-probabilities.

        Raises:
            EndpointError: a conversation got no usable answer in all attempts.
            PromptTooLong: a prompt fills the model's context.
        """
        rendered: list[Conversation] = list(conversations)
        for prompt, owners in distinct_prompts(self.format, conversations, self.context).items():
            for owner in owners:
                rendered[owner] = _Rendered(rendered[owner].messages, rendered[owner].tools, list(prompt))
        return super().sample(rendered, n, sampling)

    def use_adapter(self, folder: Path) -> None:
        """Samples with the LoRA adapter in ``folder`` from now on.

        Each call loads it under a new name, and the one before is unloaded: cached prefixes belong to a name, so none
        is of other weights.

        Raises:
            BadInput: the server does not load adapters.
            EndpointError: it failed to.
        """
        self._updates += 1
        name = f"pivotgym-{self._session}-{self._updates}"
        self._tell(
            "load_lora_adapter",
            {"lora_name": name, "lora_path": str(folder.resolve())},
            "start the server with VLLM_ALLOW_RUNTIME_LORA_UPDATING=True and --enable-lora",
        )
        before, self._adapter, self.model = self._adapter, name, name
        if before:
            self._tell("unload_lora_adapter", {"lora_name": before}, "")

    def reload(self, folder: Path) -> None:
        """Samples with the weights in the model folder ``folder`` from now on.

        Raises:
            BadInput: the server was not started in development mode.
            EndpointError: it failed to.
        """
        needed = "start the server with VLLM_SERVER_DEV_MODE=1, or train adapters"
        root = self.base_url.rstrip("/").removesuffix("/v1")
        kwargs = {"weights_path": str(folder.resolve())}
        self._tell(f"{root}/collective_rpc", {"method": "reload_weights", "kwargs": kwargs}, needed)
        self._tell(f"{root}/reset_prefix_cache", {}, needed)

    def close(self) -> None:
        """Unloads the adapter; the server goes on."""
        if self._adapter:
            self._tell("unload_lora_adapter", {"lora_name": self._adapter}, "")
            self._adapter = ""

    def _tell(self, path: str, body: dict[str, Any], needed: str) -> None:
        try:
            self._client.post(path, body=body, cast_to=httpx.Response)
        except openai.NotFoundError as problem:
            raise BadInput(f"{self.base_url} has no {path.rpartition('/')[2]}: {needed}") from problem
        except openai.OpenAIError as problem:
            line = " ".join(str(problem).split())[:300]
            raise EndpointError(f"{self.base_url} did not take new weights: {line}") from problem

    def _once(
        self, conversation: Conversation, n: int, sampling: Sampling, seed: int | None
    ) -> tuple[list[Completion], tuple[int, int]]:
        assert isinstance(conversation, _Rendered)
        prompt = conversation.prompt_ids
        greedy = sampling.temperature == 0
        response = self._client.completions.with_raw_response.create(
            model=self.model,
            prompt=prompt,
            n=1 if greedy else n,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_tokens=min(sampling.max_tokens, self.context - len(prompt)),
            seed=openai.omit if seed is None else seed,
            logprobs=0,
            extra_body={
                **_SAMPLE_AS_ASKED,
                "return_token_ids": True,
                "stop_token_ids": sorted(self.end_ids),
                **(self.extra_body or {}),
            },
        )
        drawn, spent = self._read(response.text, prompt)
        return (drawn * n if greedy else drawn), spent

    def _read(self, text: str, prompt: list[int]) -> tuple[list[Completion], tuple[int, int]]:
        try:
            body = json.loads(text)
            drawn = []
            for choice in body["choices"]:
                ids = [int(index) for index in choice["token_ids"]]
                logprobs = [float(value) for value in choice["logprobs"]["token_logprobs"]]
                if len(logprobs) != len(ids) or choice.get("prompt_token_ids", prompt) != prompt:
                    raise Unusable("token ids, log-probabilities and prompt do not belong together")
                ended = bool(ids) and ids[-1] in self.end_ids
                drawn.append(completion_of(self.format, prompt, ids, logprobs, ended=ended))
            usage = body.get("usage") or {}
            return drawn, (int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0))
        except (ValueError, KeyError, TypeError, AttributeError) as problem:
            start = " ".join(text.split())[:120]
            raise Unusable(f"no completion with token ids ({type(problem).__name__}): {start!r}") from problem


def load_vllm_server_policy(
    source: str,
    base_url: str,
    *,
    tokenizer: Any = None,
    end_ids: frozenset[int] | None = None,
    template_args: dict[str, Any] | None = None,
    **options: Any,
) -> VllmServerPolicy:
    """:class:`VllmServerPolicy` for the model that ``base_url`` serves.

    Args:
        source: ``embedded``, a model folder or a Hugging Face name: where the tokenizer is from, and the model's name
            where the server has several.
        base_url: for example ``http://localhost:8000/v1``.
        tokenizer: instead of that of ``source``.
        end_ids: instead of those of the generation configuration of ``source``.
        template_args: extra variables for the chat template.
        options: keyword arguments of :class:`VllmServerPolicy`.

    Raises:
        BadInput: there is no such model, or none of that name on the server.
        EndpointError: the server does not answer.
    """
    from pivotgym.harness.policies.vllm_policy import folder_ends

    folder = str(model_folder(source))
    try:
        with openai.OpenAI(base_url=base_url, api_key=options.get("api_key") or "none", max_retries=2) as client:
            listed = [card.model_dump() for card in client.models.list().data]
    except openai.OpenAIError as problem:
        raise EndpointError(f"{base_url}: {problem}") from problem
    whole = [card for card in listed if card.get("parent") is None]
    named = [card for card in whole if card["id"] in (source, folder) or card.get("root") in (source, folder)]
    if not (named or len(whole) == 1):
        names = ", ".join(str(card["id"]) for card in whole)
        raise BadInput(f"{base_url} serves no {source!r}, but: {names}", field="policy")
    card = (named or whole)[0]
    if not isinstance(card.get("max_model_len"), int):
        raise BadInput(f"{base_url} is no vLLM server (no max_model_len for {card['id']})", field="policy")
    return VllmServerPolicy(
        card["id"],
        load_tokenizer(source) if tokenizer is None else tokenizer,
        base_url=base_url,
        context=card["max_model_len"],
        end_ids=folder_ends(folder) if end_ids is None else end_ids,
        template_args=template_args,
        **{"name": f"vllm:{source}@{base_url}", **options},
    )
