"""A small Llama made from a seed, for controlled experiments on a CPU.

A comparison of methods needs a policy that is cheap enough for many arms and seeds, and whose whole history is known:
this one has weights from a seed, a vocabulary of bytes (with a few merges learned from given texts, on request), and
a chat template without system message and tools. It can copy from its context from the start; then it is supervised on
recordings (:mod:`pivotgym.harness.compare`), so nothing it can do comes from elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

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
    "{{ '<tool_call>{\"name\": ' + f.name | tojson + ', \"arguments\": ' + f.arguments | tojson + '}</tool_call>' }}"
    "{%- endfor -%}{{ '<|end|>' }}"
    "{%- endif -%}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|assistant|>' }}{%- endif -%}"
)


class SmallOptions(BaseModel):
    """The small policy; the defaults have 1.5 million parameters.

    Attributes:
        layers: of the decoder.
        hidden: width.
        heads: attention heads.
        feed_forward: width of the feed-forward layers.
        merges: byte pairs merged in the vocabulary, learned from the texts at hand; 0 is a vocabulary of bytes.
        context: longest conversation, in tokens.
        seed: of the weights and of the copying.
        copying: updates that settle copying before anything else (:func:`wire_copying`); 0 leaves it out.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    layers: int = Field(3, ge=1)
    hidden: int = Field(192, ge=8)
    heads: int = Field(4, ge=1)
    feed_forward: int = Field(512, ge=8)
    merges: int = Field(512, ge=0)
    context: int = Field(2048, ge=64)
    seed: int = 0
    copying: int = Field(60, ge=0)

    @model_validator(mode="after")
    def _fits_together(self) -> SmallOptions:
        if self.hidden % (2 * self.heads):
            raise ValueError("hidden: not a multiple of twice the heads")
        if self.copying and (self.layers < 2 or self.heads < 2):
            raise ValueError("copying: takes two layers and two heads")
        return self


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
    fast: Any = PreTrainedTokenizerFast
    made: PreTrainedTokenizerFast = fast(tokenizer_object=raw, eos_token=END, pad_token=END)
    made.chat_template = TEMPLATE
    return made


_ROPE: dict[str, Any] = {"rope_theta": 1e5}  # transformers 4 and 5 keep it in different places, and both take it here


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
        attention_bias=True,
        initializer_range=0.02,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
        pad_token_id=tokenizer.pad_token_id,
        **_ROPE,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        model: Any = LlamaForCausalLM(config)
    if options.copying:
        wire_copying(model, options.seed)
        teach_copying(model, options.copying, options.seed)
    return TransformersPolicy(model.eval(), tokenizer, name=f"small-{options.seed}")


def wire_copying(model: Any, seed: int) -> None:
    """Sets some of a fresh model's weights to a circuit that copies; all of them train afterwards.

    An agent copies names, numbers and ids from its context all the time. Gradient descent finds the circuit for that
    (an induction head: Elhage et al. 2021, "A mathematical framework for transformer circuits"; Olsson et al. 2022,
    arXiv:2209.11895) only after very many tokens, far more than a start on a CPU can pay for. So it is written down:
    a head of layer 0 attends to the token before (its query and key are constant, and the rotary positions do the
    rest) and notes that token in a subspace of its own; two heads of layer 1 look for the places where the noted
    token is the current one, and copy what stands there.

    Args:
        model: a Llama of at least two layers and two heads, with biases in its attention.
        seed: of the random projections.
    """
    import torch

    config = model.config
    width, size = config.hidden_size, config.hidden_size // config.num_attention_heads
    half, own = size // 2, width - size  # the last `size` dimensions note the token before
    generator = torch.Generator().manual_seed(derive_seed(seed, "copying circuit"))
    theta = float((getattr(config, "rope_parameters", None) or {}).get("rope_theta") or config.rope_theta)
    spread = 0.1

    def projection() -> Any:
        return torch.linalg.qr(torch.randn(own, size, generator=generator))[0].T

    with torch.no_grad():
        embedding = model.get_input_embeddings().weight
        embedding.normal_(0, spread, generator=generator)
        embedding[:, own:] = 0
        compared = projection()
        before, match = model.model.layers[0].self_attn, model.model.layers[1].self_attn
        # Layer 0, head 0: with constant q and k the score is a sum of cosines of the distance, largest one token back.
        fast = torch.arange(min(4, half))
        angle = theta ** (-fast / half)
        for linear in (before.q_proj, before.k_proj, before.v_proj):
            linear.weight[:size] = 0
        before.q_proj.bias[:size], before.k_proj.bias[:size] = 0, 0
        before.k_proj.bias[fast] = 5.0
        before.q_proj.bias[fast], before.q_proj.bias[half + fast] = 5 * angle.cos(), -5 * angle.sin()
        before.v_proj.weight[:size, :own] = compared
        before.o_proj.weight[:, :size] = 0
        before.o_proj.weight[own:, :size] = spread * torch.eye(size)
        # Layer 1, two heads: compare in the slow rotary dimensions, where distance hardly matters.
        slow = torch.cat([torch.arange(half // 2, half), torch.arange(half + half // 2, size)])
        for start in (0, size):
            copied = projection()
            for linear in (match.q_proj, match.k_proj, match.v_proj):
                linear.weight[start : start + size] = 0
            match.q_proj.weight[start + slow, :own] = 1.8 * compared[slow]
            match.k_proj.weight[start + slow, own + slow] = 1.8
            match.v_proj.weight[start : start + size, :own] = copied
            match.o_proj.weight[:, start : start + size] = 0
            match.o_proj.weight[:own, start : start + size] = 3 * spread * copied.T


def teach_copying(model: Any, updates: int, seed: int, rows: int = 32, length: int = 64) -> list[float]:
    """Supervised steps on random words that recur in random order: predict a word's rest once it was seen before.

    Settles the circuit of :func:`wire_copying` among the other weights. Nothing about any task is learned with it.

    Args:
        model: changed in place.
        updates: how many.
        seed: of the words.
        rows: sequences in an update.
        length: tokens of each.

    Returns:
        The loss of each update, nats a copied token.
    """
    import torch
    from torch.nn import functional

    generator = torch.Generator().manual_seed(derive_seed(seed, "copying"))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.99), weight_decay=0.0)
    losses: list[float] = []
    for number in range(1, updates + 1):
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * min(1.0, number / 20)
        drawn = [_recurring_words(int(model.config.vocab_size), length, generator) for _ in range(rows)]
        ids_BL, known_BL = (torch.stack(list(part)) for part in zip(*drawn, strict=True))
        logits_NV = model(input_ids=ids_BL).logits[:, :-1][known_BL[:, 1:]]
        loss = functional.cross_entropy(logits_NV, ids_BL[:, 1:][known_BL[:, 1:]])
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(float(loss.detach()))
    return losses


def _recurring_words(vocabulary: int, length: int, generator: Any) -> tuple[Any, Any]:
    """``length`` token ids made of 8 random words, and which of them continue a word that was there before."""
    import torch

    def number(low: int, high: int) -> int:
        return int(torch.randint(low, high, (), generator=generator))

    words = [torch.randint(vocabulary, (number(4, 9),), generator=generator) for _ in range(8)]
    ids: list[torch.Tensor] = []
    known: list[torch.Tensor] = []
    seen = set[int]()
    while sum(len(part) for part in ids) < length:
        chosen = number(0, len(words))
        mask = torch.full((len(words[chosen]),), chosen in seen)
        mask[0] = False  # which word comes next cannot be known
        seen.add(chosen)
        ids.append(words[chosen])
        known.append(mask)
    return torch.cat(ids)[:length], torch.cat(known)[:length]


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
