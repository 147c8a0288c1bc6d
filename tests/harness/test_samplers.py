"""The weights that an engine is given: those of a checkpoint of the learner, whatever trains. Needs no engine."""

from __future__ import annotations

import copy
import importlib.util
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import lamps
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM

from pivotgym.envs.errors import BadInput, MissingExtra
from pivotgym.harness.commands import Train
from pivotgym.harness.learner import LEARNER, Learner
from pivotgym.harness.options import LoraOptions, OptimOptions
from pivotgym.harness.pivots import Pivot
from pivotgym.harness.policies import load_policy
from pivotgym.harness.samplers import ServerSampler, base_weights, checkpoint_names, merged_weights
from pivotgym.harness.train import TrainConfig, train

SIZES: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "eos_token_id": 1,
    "bos_token_id": None,
}
MIXTURE: dict[str, Any] = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}


def model(kind: str) -> Any:
    torch.manual_seed(0)
    if kind == "mixture":
        return Qwen3MoeForCausalLM(Qwen3MoeConfig(**SIZES, **MIXTURE))
    return LlamaForCausalLM(LlamaConfig(**SIZES, tie_word_embeddings=kind == "tied"))


@pytest.mark.parametrize("kind", ["tied", "untied", "mixture"])
@pytest.mark.parametrize("adapted", [False, True])
def test_the_weights_are_those_of_a_checkpoint(kind: str, adapted: bool, tmp_path: Path) -> None:
    plain = model(kind)
    plain.save_pretrained(tmp_path / "base")
    targets = ("q_proj", "o_proj")
    learner = Learner(plain, LoraOptions(rank=2, targets=targets) if adapted else None, OptimOptions())
    with torch.no_grad():
        for parameter in learner.parameters:
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    trained = copy.deepcopy(learner.model)
    if adapted:
        trained = trained.merge_and_unload(adapter_names=[LEARNER])
    trained.save_pretrained(tmp_path / "trained")
    base = learner.model.get_base_model() if adapted else learner.model

    wanted, sent = (
        load_file(tmp_path / "trained" / "model.safetensors"),
        dict(checkpoint_names(base, merged_weights(learner))),
    )
    if kind == "tied":
        assert "lm_head.weight" not in wanted
        wanted["lm_head.weight"] = wanted["model.embed_tokens.weight"]  # an engine may keep one of its own
    assert set(sent) == set(wanted)
    for name, value in wanted.items():
        assert not sent[name].requires_grad
        torch.testing.assert_close(sent[name], value, rtol=0, atol=1e-6)
    assert torch.is_grad_enabled()

    if adapted:
        under = dict(checkpoint_names(base, base_weights(learner)))
        for name, value in load_file(tmp_path / "base" / "model.safetensors").items():
            assert torch.equal(under[name], value)


def test_weights_are_counted() -> None:
    learner = Learner(model("tied"), None, OptimOptions())
    before = learner.version
    learner.model(input_ids=torch.tensor([[3, 4]])).logits.sum().backward()
    assert learner.update(1) is not None and learner.version == before + 1
    learner.model.get_input_embeddings().weight.grad = torch.full((64, 32), float("nan"))
    assert learner.update(2) is None and learner.version == before + 1, "an update that was left out changes nothing"


def test_settings(tmp_path: Path) -> None:
    plain = TrainConfig().results_depend_on()
    assert not {"sampler", "vllm"} & set(plain), "runs from before there was a choice can go on"
    assert TrainConfig(sampler="vllm").results_depend_on()["sampler"] == "vllm"
    for wrong in ("vlm", "vllm:localhost", "openai:x@http://a"):
        with pytest.raises(ValidationError):
            TrainConfig(sampler=wrong)
    command = Train(tmp_path, "embedded", sampler="vllm:http://a/v1", options='{"vllm": {"max_model_len": 64}}')
    config = command._config(TrainConfig)
    assert (config.sampler, config.vllm.max_model_len) == ("vllm:http://a/v1", 64)


def test_an_adapter_in_the_policy_is_no_servers(tmp_path: Path) -> None:
    policy = lamps.policy()
    policy.name = "somewhere+adapter"
    config = TrainConfig(sampler="vllm:http://127.0.0.1:9/v1", lora=LoraOptions(rank=2))
    pivots = [Pivot(trajectory=t, turn=0, split="train") for t in lamps.trajectories(1, turns=1)]
    with pytest.raises(BadInput, match="warm start"):
        train(pivots, policy, config, tmp_path)


@pytest.mark.parametrize("spec", ["vllm:", "vllm:+x", "vllm:embedded+"])
def test_specs_that_name_nothing(spec: str) -> None:
    with pytest.raises(BadInput, match="expected one of"):
        load_policy(spec)


@pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="vLLM is installed")
def test_without_vllm_the_message_says_what_to_install() -> None:
    with pytest.raises(MissingExtra, match=r"pivotgym\[vllm\]"):
        load_policy("vllm:embedded")


class Serving(BaseHTTPRequestHandler):
    """Says what a vLLM server says to weights, and refuses to unload an adapter."""

    loaded: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self._say(200, {"object": "list", "data": [{"id": "lamps", "object": "model", "max_model_len": 256}]})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path.endswith("/unload_lora_adapter"):
            self._say(400, {"error": {"message": "the engine is dead"}})
        else:
            assert (Path(asked["lora_path"]) / "adapter_config.json").is_file()
            self.loaded.append(asked["lora_name"])
            self._say(200, {})

    def _say(self, status: int, answer: dict[str, Any]) -> None:
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def test_what_ends_a_run_is_not_hidden_by_a_server_that_is_gone(tmp_path: Path) -> None:
    policy = lamps.policy()
    learner = Learner(policy.model, LoraOptions(rank=2), OptimOptions())
    with ThreadingHTTPServer(("127.0.0.1", 0), Serving) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        sampler = ServerSampler(learner, policy, f"http://127.0.0.1:{server.server_port}/v1", tmp_path / "serving")
        sampler.refresh()
        assert len(Serving.loaded) == 1 and (tmp_path / "serving").is_dir()
        with pytest.warns(UserWarning, match="the last adapter stays loaded: .*the engine is dead"):
            sampler.close()
        server.shutdown()
    assert not (tmp_path / "serving").exists()
