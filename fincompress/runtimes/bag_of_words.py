"""The floor: TF-IDF and logistic regression, which know words but not sentences."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors.numpy import load_file, save_file
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from fincompress.core.files import atomic_folder, write_json
from fincompress.core.model_files import check_whole, read_object, reading


@dataclass
class BagOfWords:
    """TF-IDF over words and pairs of words, then a linear layer; a `Classifier` without torch."""

    labels: list[str]
    vectoriser: TfidfVectorizer
    weight: np.ndarray  # [features, labels]
    bias: np.ndarray  # [labels]

    @classmethod
    def fit(cls, frame: pd.DataFrame, labels: list[str]) -> "BagOfWords":
        """Fit on a split with the columns `text` and `label`, in which every label occurs; deterministic."""
        vectoriser = _vectoriser()
        features = vectoriser.fit_transform(frame["text"])
        targets = frame["label"].map(labels.index)
        model = LogisticRegression(C=10, max_iter=1000).fit(features, targets)
        weight, bias = model.coef_.T, model.intercept_
        if len(labels) == 2:  # scikit-learn keeps only the second label's row
            weight, bias = np.hstack([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
        return cls(labels, vectoriser, np.ascontiguousarray(weight, np.float32), bias.astype(np.float32))

    def encode(self, texts: list[str], pad_to: int | None = None) -> dict:
        """Sparse TF-IDF features; there is nothing to pad."""
        return {"features": self.vectoriser.transform(texts)}

    def logits(self, inputs: dict) -> np.ndarray:
        """[batch, labels]."""
        return (inputs["features"] @ self.weight + self.bias).astype(np.float32)

    def save(self, folder: Path) -> None:
        """Write the vocabulary as JSON and the weights as safetensors, atomically."""
        terms = self.vectoriser.get_feature_names_out().tolist()
        with atomic_folder(folder) as temporary:
            write_json(temporary / "bag_of_words.json", {"labels": self.labels, "terms": terms})
            idf = self.vectoriser.idf_.astype(np.float32)
            save_file({"weight": self.weight, "bias": self.bias, "idf": idf}, temporary / "model.safetensors")

    @classmethod
    def load(cls, folder: Path, threads: int = 1) -> "BagOfWords":
        """Read what `save` wrote; it always runs on one thread, whatever `threads` says."""
        stored, weights = folder / "bag_of_words.json", folder / "model.safetensors"
        check_whole(weights)
        with reading(stored, weights, by="scikit-learn"):
            content, tensors = read_object(stored), load_file(weights)
            vectoriser = _vectoriser(vocabulary={term: index for index, term in enumerate(content["terms"])})
            vectoriser.idf_ = tensors["idf"]
            return cls(content["labels"], vectoriser, tensors["weight"], tensors["bias"])


def _vectoriser(**options: Any) -> TfidfVectorizer:
    return TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, dtype=np.float32, **options)
