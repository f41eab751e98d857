"""Translation by CTranslate2 against transformers' generate: the same Marian model, sentences, beams and lengths.

The model has the shape of OPUS-MT's base models and random weights, so a translation does not end by itself. Each has
as many tokens as the longest sentence of its batch. Beams, batches and steps are the same on all sides, and the
translations are compared. One thread each. Runs on the CPU.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

os.environ["XSTILTS_DEVICE"] = "cpu"
os.environ["OMP_NUM_THREADS"] = "1"  # both libraries read it

import sentencepiece
import torch
from transformers import GenerationConfig, MarianConfig, MarianMTModel, MarianTokenizer

import figures
import works
from xstilts.translate.ct2 import Ct2Engine
from xstilts.translate.hf import HfEngine
from xstilts.translate.model_engine import BEAMS, ModelEngine


def make_model(folder: Path, texts: Sequence[str], vocabulary: int) -> None:
    """Write a Marian model of OPUS-MT's base shape; its pieces are trained on the texts, the others are made up."""
    for name in ("source.spm", "target.spm"):
        with (folder / name).open("wb") as file:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(texts), model_writer=file, vocab_size=8000, hard_vocab_limit=False,
                minloglevel=2,
            )  # fmt: skip
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / "source.spm"))
    tokens = ["</s>", "<unk>", *(pieces.id_to_piece(i) for i in range(3, pieces.get_piece_size()))]
    tokens += [f"▁made-up-{i}" for i in range(vocabulary - len(tokens) - 1)] + ["<pad>"]
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}), encoding="utf-8")
    pad = vocabulary - 1
    torch.manual_seed(1)
    model = MarianMTModel(
        MarianConfig(vocab_size=vocabulary, pad_token_id=pad, decoder_start_token_id=pad, eos_token_id=0, d_model=512,
                     encoder_layers=6, decoder_layers=6, encoder_attention_heads=8, decoder_attention_heads=8,
                     encoder_ffn_dim=2048, decoder_ffn_dim=2048, max_position_embeddings=512,
                     activation_function="swish", scale_embedding=True)
    )  # fmt: skip
    model.final_logits_bias[0, 0] = -100  # no translation ends early
    model.generation_config = GenerationConfig(
        bad_words_ids=[[pad]], renormalize_logits=True, decoder_start_token_id=pad, pad_token_id=pad, eos_token_id=0
    )
    model.save_pretrained(folder)
    files = (str(folder / name) for name in ("source.spm", "target.spm", "vocab.json"))
    MarianTokenizer(*files, model_max_length=512).save_pretrained(folder)


def engines(folder: Path) -> dict[str, ModelEngine]:
    """The sides, by name: the first is the one that the others are compared with."""
    from ctranslate2.converters import TransformersConverter

    own = folder.parent / "int8"
    TransformersConverter(str(folder)).convert(str(own), quantization="int8")
    for path in folder.iterdir():
        if path.suffix == ".spm" or path.name in ("vocab.json", "tokenizer_config.json"):
            (own / path.name).write_bytes(path.read_bytes())
    return {
        "hf: generate, float32": HfEngine(str(folder), "en", "es"),
        "ct2: CTranslate2, float32": Ct2Engine(str(folder), folder.parent, "en", "es"),
        "ct2, a folder converted to int8": Ct2Engine(str(own), folder.parent, "en", "es"),
    }


def measure(args: argparse.Namespace, folder: Path) -> str:
    """All figures as Markdown."""
    texts = sorted(set(works.texts(args.data)))
    make_model(folder, texts, args.vocabulary)
    sides = engines(folder)
    tokenizer = next(iter(sides.values())).tokenizer
    lines = sorted(texts[:: len(texts) // args.lines][: args.lines], key=len)
    batches = [tokenizer(lines[i : i + 32]).input_ids for i in range(0, len(lines), 32)]
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    found: dict[str, list[list[int]]] = {}
    for turn in range(args.rounds + 1):
        for name, engine in sides.items():
            started = args.clock()
            found[name] = [ids for batch in batches for ids in engine.search(batch, max(map(len, batch)))]
            if turn:  # the first turn warms up
                seconds[name].append(args.clock() - started)
        print(f"round {turn}: {seconds}", file=sys.stderr, flush=True)
    tokens = sum(len(batch) * max(map(len, batch)) for batch in batches)
    first, *_ = sides
    rows = []
    for name, taken in seconds.items():
        ratios = sorted(a / b for a, b in zip(seconds[first], taken, strict=True))
        same = sum(a == b for a, b in zip(found[first], found[name], strict=True))
        median, ratio = statistics.median(taken), statistics.median(ratios)
        spread = f"{ratios[0]:.2f} to {ratios[-1]:.2f}"
        rows.append(f"| {name} | {median:.1f} | {tokens / median:,.0f} | {ratio:.2f} | {spread} | {same} |")
    return "\n".join([
        f"{len(lines)} lines in batches of 32, {tokens:,} tokens written, {BEAMS} beams; Marian 6 + 6 layers x 512, "
        f"vocabulary {args.vocabulary:,}; median of {args.rounds} rounds after one to warm up.",
        "",
        f"| engine | {'processor ' if args.processor else ''}seconds | tokens/s | times as fast | lowest and highest "
        "round | lines with the same tokens |",
        "|---|---:|---:|---:|---:|---:|",
        *rows,
    ])  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    root = Path(__file__).resolve().parent.parent
    data = Path(os.environ.get("XSTILTS_DATA", root.parent / "shared" / "data"))
    add("--lines", type=int, default=64, help="(default: %(default)s)")
    add("--vocabulary", type=int, default=58_101, help="(default: %(default)s, as OPUS-MT's English to German has)")
    add("--rounds", type=int, default=3, help="(default: %(default)s)")
    add("--processor", action="store_true", help="seconds of the processors, for a machine that others use too")
    add("--data", type=Path, default=data, help="folder (default: XSTILTS_DATA, ../shared/data)")
    add("--write", type=Path, metavar="FILE", help="also put the figures into this Markdown file")
    args = parser.parse_args()
    args.clock = time.process_time if args.processor else time.perf_counter
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "marian").mkdir()
        text = measure(args, Path(folder) / "marian")
    figures.publish(args.write, "translation", text, "torch", "transformers", "ctranslate2")


if __name__ == "__main__":
    main()
