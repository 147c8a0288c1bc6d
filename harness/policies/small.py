"""A small Llama made from a seed, for controlled experiments on a CPU.

A comparison of methods needs a policy that is cheap enough for many arms and seeds, and whose whole history is known:
this one has weights from a seed, a vocabulary of bytes (with a few merges learned from given texts, on request), and
a chat template without system message and tools. It first learns to copy random sequences, then it is supervised on
recordings (:mod:`pivotgym.harness.compare`), so nothing it can do comes from elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from pivotgym.envs.trajectory import Trajectory, canonical_json
from pivotgym.harness.policies.transformers_policy import TransformersPolicy
from pivotgym.harness.runs import derive_seed

END = "<|end|>"
ROLES = ("<|user|>", "<|assistant|>", "<|tool|>", END)
MARKUP = ("<tool_call>", "</tool_call>")
# System message and tools are the same in every conversation of a domain: weights this small hold them better than a
# context they would have to read each time.
TEMPLATE = (
    "{%- for m in messages -%}{%- if m.role != 'system' -%}"
    "{{ '<|' + m.role + '|>' + (m.content or '') }}"
    "{%- for c in m.tool_calls or [] -%}{%- set f = c.function if c.function is defined else c -%}"
    '{{ \'<tool_call>{"name": \' + f.name | tojson + \', "arguments": \' + f.arguments | tojson + \'}</tool_call>\' }}'
    "{%- endfor -%}{{ '<|end|>' }}"
    "{%- endif -%}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|assistant|>' }}{%- endif -%}"
)


class SmallOptions(BaseModel):
    """The small policy; the defaults have 1.1 million parameters.

    Attributes:
        layers: of the decoder.
        hidden: width.
        heads: attention heads.
        feed_forward: width of the feed-forward layers.
        merges: byte pairs merged in the vocabulary, learned from the texts at hand; 0 is a vocabulary of bytes.
        context: longest conversation, in tokens.
        seed: of the weights and of the copying.
        copying: updates that teach copying before anything else (:func:`teach_copying`).
        copying_tokens: tokens in each of them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    layers: int = Field(3, ge=1)
    hidden: int = Field(160, ge=8)
    heads: int = Field(5, ge=1)
    feed_forward: int = Field(448, ge=8)
    merges: int = Field(512, ge=0)
    context: int = Field(2048, ge=64)
    seed: int = 0
    copying: int = Field(200, ge=0)
    copying_tokens: int = Field(2048, ge=64)


def make_tokenizer(texts: Iterable[str], merges: int) -> Any:
    """A byte-level tokenizer with the small policy's chat template.

    Digits are tokens of their own, so that numbers and ids are copied digit by digit.

    Args:
        texts: what the merges are learned from (Sennrich et al. 2016, arXiv:1508.07909).
        merges: how many; 0 needs no texts.

    Returns:
        A ``PreTrainedTokenizerFast``.
    """
    from tokenizers import AddedToken, Regex, Tokenizer
    from tokenizers.decoders import ByteLevel as Decoder
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import ByteLevel, Sequence, Split
    from tokenizers.trainers import BpeTrainer
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(ByteLevel.alphabet())
    raw: Any = Tokenizer(BPE(vocab={char: index for index, char in enumerate(alphabet)}, merges=[]))
    # Words, single digits, single marks: a merge never runs over a border that a value may lie on.
    words = Split(Regex(r" ?\p{L}+|\p{N}|[^\p{L}\p{N}]{1,4}"), "isolated")
    raw.pre_tokenizer = Sequence([words, ByteLevel(add_prefix_space=False, use_regex=False)])
    raw.decoder = Decoder()
    if merges:
        trainer = BpeTrainer(
            vocab_size=len(alphabet) + merges, initial_alphabet=alphabet, show_progress=False, min_frequency=2
        )
        raw.train_from_iterator(texts, trainer)
    raw.add_special_tokens([AddedToken(role, special=True, normalized=False) for role in ROLES])
    raw.add_tokens([AddedToken(text, special=False, normalized=False) for text in MARKUP])
    made = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token=END, pad_token=END)
    made.chat_template = TEMPLATE
    return made


def make_small_policy(trajectories: Sequence[Trajectory], options: SmallOptions | None = None) -> TransformersPolicy:
    """The small policy, able to copy and nothing else; equal options and trajectories give equal bytes.

    Args:
        trajectories: the vocabulary's merges are learned from what is said and called in them.
        options: its shape.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    options = options or SmallOptions()
    tokenizer = make_tokenizer(_texts(trajectories), options.merges)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=options.hidden,
        intermediate_size=options.feed_forward,
        num_hidden_layers=options.layers,
        num_attention_heads=options.heads,
        num_key_value_heads=options.heads,
        max_position_embeddings=options.context,
        tie_word_embeddings=True,
        initializer_range=0.02,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        model = LlamaForCausalLM(config)
    teach_copying(model, options.copying, options.copying_tokens, options.seed)
    return TransformersPolicy(model.eval(), tokenizer, name=f"small-{options.seed}")


def teach_copying(model: Any, updates: int, tokens: int, seed: int, lr: float = 3e-3) -> list[float]:
    """Supervised steps on random sequences that occur twice: predict the second from the first.

    An agent copies names, numbers and ids from its context all the time. From conversations alone a small model learns
    that only after very many of them; on random sequences the layers that do it (induction heads, Olsson et al. 2022,
    arXiv:2209.11895) form within a hundred updates, and nothing about any task is learned with them.

    Args:
        model: changed in place.
        updates: how many.
        tokens: in each update, about.
        seed: of the sequences.
        lr: learning rate.

    Returns:
        The loss of each update, nats a copied token.
    """
    import torch
    from torch.nn import functional

    generator = torch.Generator().manual_seed(derive_seed(seed, "copying"))
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.99), weight_decay=0.0)
    losses: list[float] = []
    vocabulary = int(model.config.vocab_size)
    for number in range(1, updates + 1):
        for group in optimizer.param_groups:
            group["lr"] = lr * min(1.0, number / 20)
        # Short ones first, where copying is found; then any length up to what conversations need.
        most = 16 if number <= updates // 2 else min(96, model.config.max_position_embeddings // 4)
        length = int(torch.randint(8, most + 1, (), generator=generator))
        gap = int(torch.randint(1, most + 1, (), generator=generator))
        rows = max(1, tokens // (2 * length + gap))
        copied_BL = torch.randint(vocabulary, (rows, length), generator=generator)
        between_BL = torch.randint(vocabulary, (rows, gap), generator=generator)
        ids_BT = torch.cat([copied_BL, between_BL, copied_BL], dim=1)
        logits_BLV = model(input_ids=ids_BT).logits[:, -length:-1]
        loss = functional.cross_entropy(logits_BLV.reshape(-1, vocabulary), copied_BL[:, 1:].reshape(-1))
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(float(loss.detach()))
    return losses


def parameters(policy: TransformersPolicy) -> int:
    """How many weights the policy has."""
    return sum(parameter.numel() for parameter in policy.model.parameters())


def save_policy(policy: TransformersPolicy, folder: Path) -> None:
    """Writes model and tokenizer in the form ``load_policy`` reads."""
    model: Any = policy.model
    model.save_pretrained(str(folder))
    policy.tokenizer.save_pretrained(str(folder))


def _texts(trajectories: Sequence[Trajectory]) -> Iterable[str]:
    for trajectory in trajectories:
        for message in trajectory.messages:
            if message.role != "system":
                yield message.text
                for call in message.tool_calls:
                    arguments = canonical_json(call.arguments, sort=False).replace('":', '": ').replace(',"', ', "')
                    yield f'{{"name": "{call.name}", "arguments": {arguments}}}'
