"""The command that answers over HTTP: serve."""

from pathlib import Path
from typing import Annotated

import typer

from fincompress.cli.use import SHIPPED, Engine, Runtime


def serve(
    model: Annotated[Path, typer.Option(help="A model folder, of any format.")] = SHIPPED,
    runtime: Annotated[Runtime | None, typer.Option(help="Without it, the one that the folder is for.")] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Of a replica; without it, its share of the cores.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="The model's name in answers; without it, the folder's.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines in.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 8000,
    engine: Annotated[Engine, typer.Option(help="Where the model runs: in this process, or as replicas.")] = "local",
    replicas: Annotated[int, typer.Option(min=1, help="Processes of --engine ray, of --threads each.")] = 1,
    max_texts: Annotated[int, typer.Option(min=1, help="Texts of a request.")] = 256,
    max_chars: Annotated[int, typer.Option(min=1, help="Characters of a text.")] = 10_000,
    max_bytes: Annotated[int, typer.Option(min=1, help="Bytes of a request's body.")] = 1_000_000,
    queue: Annotated[int, typer.Option(min=1, help="Texts that may wait; beyond it, requests get 429.")] = 1024,
    max_in_flight: Annotated[int, typer.Option(min=1, help="Requests that may be open; beyond it, 429.")] = 256,
    read_timeout: Annotated[float, typer.Option(min=0.001, help="Seconds until a body must be there.")] = 10.0,
    timeout: Annotated[float, typer.Option(min=0.001, help="Seconds from there to the answer.")] = 30.0,
) -> None:
    """Answer over HTTP: POST /v1/classify, with /healthz, /readyz, /metrics and /docs. SIGTERM or Ctrl-C ends it."""
    from fincompress.serving.server import Service
    from fincompress.serving.server import serve as answer
    from fincompress.serving.server_limits import Limits

    limits = Limits(max_texts, max_chars, max_bytes, queue, max_in_flight, read_timeout, timeout)
    answer(Service(model, runtime, threads, name, engine, replicas), limits, host, port)
