"""vLLM as the sampler, in this process and as a server, on the embedded model, against the trainer's own forward.

These tests have a marker and an environment of their own (`make unit-vllm`), because vLLM's build for CPUs asks for
other versions than the rest.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lamps
import pytest
import torch
from needs import require
from peft import LoraConfig, get_peft_model
from torch import Tensor

from pivotgym.envs.errors import EndpointError
from pivotgym.envs.formats.jsonl import read_rows
from pivotgym.envs.trajectory import Message
from pivotgym.harness.forward import padded_logprobs
from pivotgym.harness.options import LoraOptions, OptimOptions, VllmOptions
from pivotgym.harness.pivots import Pivot
from pivotgym.harness.policies import Conversation, Sampling, load_policy
from pivotgym.harness.policies.base import PromptTooLong
from pivotgym.harness.policies.embedded import embedded_model
from pivotgym.harness.policies.openai_policy import OpenAIPolicy
from pivotgym.harness.policies.transformers_policy import TransformersPolicy, load_transformers_policy
from pivotgym.harness.policies.vllm_policy import load_vllm_policy
from pivotgym.harness.runs import CostMeter
from pivotgym.harness.train import TrainConfig, Trainer, train

pytestmark = [pytest.mark.vllm, pytest.mark.usefixtures("installed"), pytest.mark.timeout(1800)]

SMALL = VllmOptions(max_model_len=512, kv_cache_gib=0.125, max_num_seqs=8)
CONFIG: dict[str, Any] = {
    "steps": 2,
    "batch": 2,
    "group": 4,
    "max_tokens": 8,
    "overlong_buffer": 8,  # longer ones get less, so that there is a gradient
    "eval_every": 0,
    "save_every": 1,
    "vllm": SMALL,
}
GROUPS = [(list(range(100, 130)), [[5, 6, 7, 8], [100, 2000, 3000]]), (list(range(900, 950)), [[49000, 3, 17]])]
TOLERANCE = 1e-2


@pytest.fixture(scope="module")
def installed() -> None:
    require("vllm", "vllm")
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def lean() -> Iterator[None]:
    """Gives the memory of each test's models back, so that they do not add up beside the server's."""
    yield
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def policy() -> TransformersPolicy:
    """The embedded model, with ends that come soon, each of its own length."""
    found = load_transformers_policy("embedded")
    texts = (".", ",", "!", "\n", "?", " the", " a", " and", ":", " to", " I", "The", "I", "'", "s", " is")
    ends = {found.tokenizer.encode(text)[-1] for text in texts}
    found.model.generation_config.eos_token_id = sorted(ends | found.end_ids)
    return found


def pivots() -> list[Pivot]:
    return [Pivot(trajectory=t, turn=0, split="train") for t in lamps.trajectories(4, turns=1, seed=2)]


def ask(text: str) -> Conversation:
    return Conversation([Message(role="user", content=text)])


def flat(rows: list[list[list[float]]]) -> Tensor:
    return torch.tensor([value for group in rows for row in group for value in row])


def scored(model: Any) -> Tensor:
    """The log-probabilities of :data:`GROUPS` by the padded forward pass."""
    with torch.no_grad():
        found = [padded_logprobs(model, prompt, completions) for prompt, completions in GROUPS]
    return torch.cat([item.logprobs_NT[item.mask_NT] for item in found])


def adapter(folder: Path, seed: int) -> tuple[Path, Any]:
    """A LoRA adapter that does something, and the model with it."""
    torch.manual_seed(seed)
    made = get_peft_model(
        load_transformers_policy("embedded").model,
        LoraConfig(r=4, target_modules=["q_proj", "v_proj", "down_proj"], task_type="CAUSAL_LM"),
    )
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.05)
    made.save_pretrained(str(folder), save_embedding_layers=False)
    return folder, made.eval()


@pytest.mark.parametrize("kind", ["full", "merged", "adapter"])
def test_two_steps_with_an_engine_that_follows(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(5)
    config = TrainConfig(
        **CONFIG,
        sampler="vllm",
        lora=None if kind == "full" else LoraOptions(rank=4, layers=4),
        merged_sampler=kind == "merged",
        optim=OptimOptions(lr=1e-5 if kind == "full" else 1e-2),
    )
    trainer = Trainer(pivots(), policy(), config, tmp_path)
    try:
        torch.set_num_threads(2)
        assert torch.get_num_threads() == 2, "the engine takes this function away"
        torch.set_num_threads(1)
        sampler: Any = trainer.policy
        before = None
        for number in (1, 2):
            with CostMeter(tmp_path, "train", number, trainer.policy) as meter:
                row = trainer.step(number, meter)
            assert row["grad_norm"] > 0 and row["trained_tokens"] == row["sampled_tokens"]
            assert row["sampler_gap_max"] < TOLERANCE and row["sampler_kl"] < TOLERANCE, "of the tokens as sampled"
            stale = flat(sampler.score(GROUPS))
            trainer.sampler.refresh()
            now = flat(sampler.score(GROUPS))
            assert float((now - scored(trainer.learner.model)).abs().max()) < TOLERANCE, "the updated weights"
            assert float((now - stale).abs().max()) > 2 * TOLERANCE, "which are not those from before the update"
            assert before is None or torch.equal(before, stale), "it changes with a refresh, and only then"
            before = now
    finally:
        trainer.close()


def test_a_killed_run_goes_on_to_the_same_metrics(tmp_path: Path) -> None:
    config = TrainConfig(**CONFIG, sampler="vllm", lora=LoraOptions(rank=4, layers=2), optim=OptimOptions(lr=1e-2))
    train(pivots(), policy(), config, tmp_path / "whole")
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    shutil.rmtree(tmp_path / "cut" / "checkpoints" / "step-000002")  # as if killed after the first step
    train(pivots(), policy(), config, tmp_path / "cut")
    cut, whole = (list(read_rows(tmp_path / name / "metrics.jsonl")) for name in ("cut", "whole"))
    assert [row["step"] for row in cut] == [1, 2]
    assert cut == whole


def test_sampling_is_that_of_the_model(tmp_path: Path) -> None:
    folder, merged = adapter(tmp_path / "adapter", 3)
    local = load_transformers_policy("embedded", adapter=folder)
    numbers = torch.get_rng_state()
    engine: Any = load_vllm_policy("embedded", adapter=folder, options=SMALL)
    try:
        assert torch.equal(torch.get_rng_state(), numbers), "an engine seeds generators that are not its own"
        asked = [ask("What is two and three?"), ask("<|im_end|> Name a fruit."), ask("What is two and three?")]
        greedy = Sampling(temperature=0.0, max_tokens=12)
        for got, want in zip(engine.sample(asked, 2, greedy), local.sample(asked, 2, greedy), strict=True):
            for one, other in zip(got, want, strict=True):
                assert (one.prompt_ids, one.token_ids, one.text) == (other.prompt_ids, other.token_ids, other.text)
                assert (one.stop_reason, one.malformed) == (other.stop_reason, other.malformed)
                assert one.logprobs == pytest.approx(other.logprobs, abs=TOLERANCE)

        warm = Sampling(temperature=1.7, top_p=0.9, max_tokens=10, seed=4)
        first, second = engine.sample(asked, 3, warm), engine.sample(asked, 3, warm)
        ids = [[tuple(one.token_ids) for one in group] for group in first]
        assert ids == [[tuple(one.token_ids) for one in group] for group in second], "a seed fixes them"
        assert len({one for group in ids for one in group}) > 6, "each sample has random numbers of its own"
        other = engine.sample(asked, 3, Sampling(temperature=1.7, top_p=0.9, max_tokens=10, seed=5))
        assert ids != [[tuple(one.token_ids) for one in group] for group in other]
        free = [engine.sample(asked[:1], 1, Sampling(max_tokens=10))[0][0].token_ids for _ in range(2)]
        assert free[0] != free[1], "without a seed they are fresh"
        with torch.no_grad():
            for group in first:
                found = padded_logprobs(merged, group[0].prompt_ids, [one.token_ids for one in group])
                said = torch.tensor([value for one in group for value in one.logprobs])
                gap = (found.logprobs_NT[found.mask_NT] - said).abs().max()
                assert float(gap) < TOLERANCE, "at temperature 1 and before top-p, whatever is sampled at"
        narrow = engine.sample(asked[:1], 2, Sampling(top_p=1e-6, max_tokens=6, seed=1))[0]
        assert all(one.token_ids == engine.sample(asked[:1], 1, greedy)[0][0].token_ids[:6] for one in narrow)
        assert engine.usage.prompt_tokens > 0 and engine.usage.calls == 6 + 9 + 9 + 9 + 2 + 2 + 2
        with pytest.raises(PromptTooLong) as caught:
            engine.sample([ask("a"), ask("one two " * 400)])
        assert caught.value.index == 1
        assert engine.fingerprint.startswith("vllm/") and "+" in engine.fingerprint
    finally:
        engine.close()


@pytest.fixture(scope="module")
def server(installed: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = tmp_path_factory.mktemp("server") / "log.txt"
    env = {
        **os.environ,
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
        "VLLM_SERVER_DEV_MODE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_NO_USAGE_STATS": "1",
    }
    options = "--host 127.0.0.1 --dtype float32 --enforce-eager --max-model-len 1024 --max-num-seqs 8 --enable-lora"
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(embedded_model())]
    with log.open("w") as file:
        process = subprocess.Popen(
            [
                *command,
                *options.split(),
                "--max-lora-rank",
                "8",
                "--kv-cache-memory-bytes",
                str(2**27),
                "--port",
                str(port),
            ],
            stdout=file,
            stderr=file,
            env=env,
            start_new_session=True,
        )
    try:
        for _ in range(2400):
            assert process.poll() is None, log.read_text()[-3000:]
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                    break
            except OSError:
                time.sleep(0.25)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            process.wait()


def test_a_server_gives_ids_and_takes_adapters(server: str, tmp_path: Path) -> None:
    remote: Any = load_policy(f"vllm:embedded@{server}")
    local = load_transformers_policy("embedded")
    asked = [ask("What is two and three?"), ask("<|im_end|> Name a fruit.")]
    greedy = Sampling(temperature=0.0, max_tokens=8)
    for got, want in zip(remote.sample(asked, 2, greedy), local.sample(asked, 2, greedy), strict=True):
        for one, other in zip(got, want, strict=True):
            assert (one.prompt_ids, one.token_ids, one.text) == (other.prompt_ids, other.token_ids, other.text)
            assert one.logprobs == pytest.approx(other.logprobs, abs=TOLERANCE)
    warm = Sampling(temperature=1.5, max_tokens=8, seed=3)
    for seed in (1, 2):
        folder, adapted = adapter(tmp_path / f"adapter-{seed}", seed)
        remote.use_adapter(folder)
        (group,) = remote.sample(asked[:1], 4, warm)
        assert len({tuple(one.token_ids) for one in group}) > 1
        rows = [one.token_ids for one in group]
        said = torch.tensor([value for one in group for value in one.logprobs])
        with torch.no_grad():
            found, without = (padded_logprobs(m, group[0].prompt_ids, rows) for m in (adapted, local.model))
        assert float((found.logprobs_NT[found.mask_NT] - said).abs().max()) < TOLERANCE
        assert float((without.logprobs_NT[found.mask_NT] - said).abs().max()) > 2 * TOLERANCE
    remote.close()

    chat = OpenAIPolicy(str(embedded_model()), base_url=server, token_ids=True)
    (group,) = chat.sample(asked[:1], 2, Sampling(max_tokens=8, seed=1))
    for one in group:
        assert one.prompt_ids and len(one.token_ids) == len(one.logprobs) > 0
    with pytest.raises(EndpointError):
        load_policy("vllm:embedded@http://127.0.0.1:9/v1")


@pytest.mark.parametrize("full", [False, True])
def test_two_steps_with_a_server(server: str, tmp_path: Path, full: bool) -> None:
    config = TrainConfig(
        **CONFIG,
        sampler=f"vllm:{server}",
        lora=None if full else LoraOptions(rank=4, layers=4),
        optim=OptimOptions(lr=1e-5 if full else 1e-2),
    )
    train(pivots(), policy(), config, tmp_path)
    rows = list(read_rows(tmp_path / "metrics.jsonl"))
    assert len(rows) == 2 and all(row["grad_norm"] > 0 for row in rows)
    assert all(row["sampler_gap_max"] < TOLERANCE for row in rows), "the second step samples from updated weights"
    assert not (tmp_path / "serving").exists()
