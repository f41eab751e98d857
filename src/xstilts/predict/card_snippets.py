"""Python that loads an exported model, for its card."""

from __future__ import annotations

_PIPELINE = """\
from transformers import pipeline

predict = pipeline("{pipeline}", model="{name}"{options})
print(predict({text}{cut}))
"""
_QUESTIONS = """\
import torch
from transformers import AutoModelForQuestionAnswering, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{name}")
model = AutoModelForQuestionAnswering.from_pretrained("{name}")
question, context = "Where do they live?", "Anna and Juma live in Nairobi."
tokens = tokenizer(question, context, truncation="only_second", return_offsets_mapping=True, return_tensors="pt")
places = tokens.pop("offset_mapping")[0].tolist()
with torch.inference_mode():
    scores = model(**tokens)
outside = torch.tensor([part != 1 for part in tokens.sequence_ids(0)])  # not in the context
start, end = (one[0].masked_fill(outside, -1e4) for one in (scores.start_logits, scores.end_logits))
spans = start[:, None] + end  # each start with each end
spans = spans.masked_fill(torch.ones_like(spans).tril(-1).bool(), -1e4)
first, last = divmod(int(spans.argmax()), len(end))
print(context[places[first][0] : places[last][1]])
"""
_CHOICES = """\
import torch
from transformers import AutoModelForMultipleChoice, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{name}")
model = AutoModelForMultipleChoice.from_pretrained("{name}")
context, endings = "The soup was cold.", ["We sent it back.", "We live in Nairobi."]
tokens = tokenizer([context] * len(endings), endings, padding=True, truncation=True, return_tensors="pt")
with torch.inference_mode():
    scores = model(**{{name: value[None] for name, value in tokens.items()}}).logits[0]
print(endings[int(scores.argmax())])
"""
_VECTORS = """\
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("{name}")
vectors = model.encode(["The soup was cold.", "Die Suppe war kalt."])
print(model.similarity(vectors, vectors))
"""
_GRAPH = """\
from onnxruntime import InferenceSession
from transformers import AutoConfig, AutoTokenizer

folder = "{name}"  # from the Hub: huggingface_hub.snapshot_download("OWNER/NAME")
tokenizer, labels = AutoTokenizer.from_pretrained(folder), AutoConfig.from_pretrained(folder).id2label
tokens = tokenizer({texts}, padding=True, truncation=True, return_tensors="np")
session = InferenceSession(folder + "/model.onnx")
scores = session.run(["logits"], {{one.name: tokens[one.name] for one in session.get_inputs()}})[0]
print([labels[best] for best in scores.argmax(-1).tolist()])
"""


def snippet(library: str, pipeline: str, name: str, texts: int) -> str:
    """Python that loads a model and predicts for a text; empty where there is none.

    Args:
        library: what loads it, as the Hub calls it.
        pipeline: what it does, as the Hub calls it.
        name: of its folder, or on the Hub.
        texts: in an example of a classifier, 1 or 2.
    """
    if library == "sentence-transformers":
        return _VECTORS.format(name=name)
    if library == "onnx" and pipeline == "text-classification":
        return _GRAPH.format(name=name, texts=", ".join(['["The soup was cold."]', '["It was hot."]'][:texts]))
    if library != "transformers":
        return ""
    if pipeline in ("question-answering", "multiple-choice"):
        return (_QUESTIONS if pipeline == "question-answering" else _CHOICES).format(name=name)
    is_tagger = pipeline == "token-classification"
    options = ', aggregation_strategy="first"' if is_tagger else ", top_k=None"
    pair = '{"text": "The soup was cold.", "text_pair": "It was hot."}'
    text = '"Anna and Juma live in Nairobi."' if is_tagger else pair if texts == 2 else '"The soup was cold."'
    cut = "" if is_tagger else ", truncation=True"
    return _PIPELINE.format(pipeline=pipeline, name=name, options=options, text=text, cut=cut)
