"""Word embeddings as codes: one byte for every few numbers of a row, and a book of what the bytes stand for.

This is product quantisation (Jégou et al. 2011) with one book for all parts of a row, so that the book costs nothing
beside the codes. In a small network most weights are embeddings, and a row is read once a word, so their size is all
that counts. Two numbers a byte (4 bits each) keep 99 % of the variance of MiniLM's rows, four (2 bits) 90 %; a
factorisation of rank 128, in as many bytes as three a byte, keeps 66 %.

A network that is trained with such rows learns less than one whose rows are put into codes afterwards.
"""

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper, numpy_helper
from sklearn.cluster import KMeans

from fincompress.core.errors import InputError

BOOK = 256  # entries: as many as a byte can name
SAMPLE, ROUNDS = 100_000, 30  # parts of rows that the book is fitted on, and rounds of k-means, at most


@dataclass(frozen=True)
class Codes:
    """A table [pieces, width] in codes."""

    codes: np.ndarray  # uint8 [pieces, width / group, rounded up]
    book: np.ndarray  # float32 [entries, group]
    width: int

    def table(self) -> np.ndarray:
        """The table, float32 [pieces, width]."""
        return self.book[self.codes].reshape(len(self.codes), -1)[:, : self.width]


def encode(table: np.ndarray, group: int, seed: int) -> Codes:
    """Codes of a table [pieces, width], a byte for every `group` numbers of a row; the book is found by k-means.

    The last group of a row is filled up with zeros.
    """
    width = table.shape[1]
    parts = np.pad(table.astype(np.float32), [(0, 0), (0, -width % group)]).reshape(-1, group)
    sample = np.random.default_rng(seed).permutation(len(parts))[:SAMPLE]
    distinct = len(np.unique(parts[sample], axis=0))
    fitted = KMeans(min(BOOK, distinct), n_init=1, max_iter=ROUNDS, random_state=seed).fit(parts[sample])
    codes = fitted.predict(parts).astype(np.uint8).reshape(len(table), -1)
    return Codes(codes, fitted.cluster_centers_.astype(np.float32), width)


def with_codes(graph: onnx.ModelProto, group: int, seed: int) -> str:
    """Put the table of word pieces of `graph` into codes, in place: a text's rows are looked up in the book.

    Returns:
        The name of the node that looks up the book, whose numbers must not be quantised once more.

    Raises:
        InputError: no table is looked up by `input_ids`.
    """
    tables = {tensor.name: tensor for tensor in graph.graph.initializer}
    lookups = [
        node
        for node in graph.graph.node
        if node.op_type == "Gather" and node.input[1] == "input_ids" and node.input[0] in tables
    ]
    if not lookups:
        raise InputError("no embedding is looked up by `input_ids` in this graph")
    node = lookups[0]
    codes = encode(numpy_helper.to_array(tables[node.input[0]]), group, seed)
    graph.graph.initializer.remove(tables[node.input[0]])
    constants = {
        "codes": codes.codes,
        "book": codes.book,
        "row": np.array([0, 0, codes.codes.shape[1] * group], dtype=np.int64),
        "start": np.array([0], dtype=np.int64),
        "end": np.array([codes.width], dtype=np.int64),
        "axis": np.array([2], dtype=np.int64),
    }
    name = node.name or "word_embeddings"
    graph.graph.initializer.extend(
        numpy_helper.from_array(values, f"{name}_{key}") for key, values in constants.items()
    )
    lookup = f"{name}_entries"
    steps = [
        helper.make_node("Gather", [f"{name}_codes", "input_ids"], [f"{name}_bytes"], name=f"{name}_bytes"),
        helper.make_node("Cast", [f"{name}_bytes"], [f"{name}_index"], to=onnx.TensorProto.INT32, name=f"{name}_index"),
        helper.make_node("Gather", [f"{name}_book", f"{name}_index"], [lookup], name=lookup),
        helper.make_node("Reshape", [lookup, f"{name}_row"], [f"{name}_filled"], name=f"{name}_filled"),
        helper.make_node(
            "Slice",
            [f"{name}_filled", *(f"{name}_{key}" for key in ("start", "end", "axis"))],
            list(node.output),
            name=f"{name}_rows",
        ),
    ]
    place = list(graph.graph.node).index(node)
    graph.graph.node.remove(node)
    for step in reversed(steps):
        graph.graph.node.insert(place, step)
    return lookup
