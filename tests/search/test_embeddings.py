"""Embeddings instead of BM25: an endpoint, and a small transformers model made here."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from search_web import serving

from pivotgym.envs.errors import EndpointError
from pivotgym.envs.search.corpus import Corpus, Document
from pivotgym.envs.search.engine import LocalEngine
from pivotgym.envs.search.ranking import Embeddings, EndpointEncoder, TransformersEncoder
from pivotgym.envs.trajectory import Task

CORPUS = Corpus(
    [Document(name, name, text) for name, text in {"a": "fox wolf", "b": "owl hare", "c": "owl hare"}.items()]
)
TASK = Task(env="pivotgym/Search-v0", id="q", data={"question": "Which?", "expected": {"answers": ["x"]}})


def test_an_endpoint_ranks_and_ties_are_broken_by_id() -> None:
    with serving() as web:
        encoder = EndpointEncoder(f"{web.url}/v1", "m", batch=2)
        texts = {"c": "owl", "a": "fox", "b": "owl"}
        corpus = Corpus(Document(name, "t", text) for name, text in texts.items())
        engine = LocalEngine(corpus, Embeddings(corpus, encoder))
        assert [hit.id for hit in engine.search("owl", 2)] == ["b", "c"]
        assert engine.search("fox", 1)[0].id == "a"
        sizes = [len(body["input"]) for _, _, _, body in web.asked]
        assert sizes == [2, 1, 1, 1]
    with pytest.raises(EndpointError, match="embeddings m at"):
        EndpointEncoder("http://127.0.0.1:9/v1", "m").encode(["x"])


def test_the_environment_over_an_endpoint(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("fox wolf")
    (tmp_path / "b.txt").write_text("owl hare")
    with serving() as web:
        env = gym.make(
            "pivotgym/Search-v0",
            disable_env_checker=True,
            corpus=tmp_path,
            ranker="embeddings",
            encoder="m",
            encoder_url=f"{web.url}/v1",
        ).unwrapped
        with closing(env):
            env.reset(options={"task": TASK})
            shown = env.step({"tool_calls": [{"name": "search", "arguments": {"query": "owl hare", "k": 1}}]})[0]
            assert "[b.txt]" in shown and "[a.txt]" not in shown


def test_a_transformers_model_in_this_process(tmp_path: Path) -> None:
    import torch
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "fox", "wolf", "owl", "hare", "a", "b", "c"]
    tokenizer = Tokenizer(WordLevel({word: index for index, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]")
    fast.save_pretrained(tmp_path)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    BertModel(config).save_pretrained(tmp_path)
    encoder = TransformersEncoder(str(tmp_path), batch=2)
    alone, together = encoder.encode(["fox wolf"]), encoder.encode(["fox wolf", "owl hare fox wolf", "hare"])
    assert together.shape == (3, 16) and np.allclose(alone[0], together[0], atol=1e-5)  # padding does not count
    ranker = Embeddings(CORPUS, encoder)
    assert ranker.scores("b\nowl hare").argmax() == 1
    engine = LocalEngine(CORPUS, ranker)
    assert engine.search("a\nfox wolf", 1)[0].id == "a" == engine.search("a\nfox wolf", 3)[0].id
