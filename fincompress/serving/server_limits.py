"""What the server takes in: bounds on a request, reading its body within them, and one line on what does not fit."""

import asyncio
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import HTTPException, Request
from pydantic import BaseModel, ConfigDict, Discriminator, Field, StringConstraints, Tag, ValidationError, create_model
from starlette.requests import ClientDisconnect

from fincompress.core.errors import InputError

JSON = "application/json"
_PROBLEMS = 3
"""How many of a body's mistakes an answer names."""
_KEY = 30
"""How much of an unknown key an answer repeats."""


@dataclass(frozen=True)
class Limits:
    """Bounds on a request and on what the server holds at once."""

    texts: int = 256  # of a request
    chars: int = 10_000  # of a text
    body_bytes: int = 1_000_000  # of a request
    queue: int = 1024  # texts that wait
    in_flight: int = 256  # requests that are read, wait or are answered
    read_s: float = 10.0  # until the body is there
    answer_s: float = 30.0  # from there to the answer

    def __post_init__(self) -> None:
        if self.texts > self.queue:
            raise InputError(
                f"--max-texts {self.texts}: more than --queue {self.queue}, so that the largest request never fits"
            )


class Rejected(HTTPException):
    """A request that is not answered with predictions, and why, in one line."""

    def __init__(self, status: int, detail: str, retry_after_s: int | None = None):
        headers = None if retry_after_s is None else {"Retry-After": str(retry_after_s)}
        super().__init__(status, detail, headers)


class _Closed(BaseModel):
    """Unknown keys are mistakes, such as `text` for `texts`."""

    model_config = ConfigDict(extra="forbid")


def _kind(value: Any) -> Literal["one", "many"]:
    return "one" if isinstance(value, str) else "many"


def request_model(limits: Limits) -> type[BaseModel]:
    """The body of a request within `limits`: `texts` is one text or a list of them, none of them blank."""
    text = Annotated[str, StringConstraints(min_length=1, max_length=limits.chars, pattern=r"\S")]
    many = Annotated[list[text], Field(min_length=1, max_length=limits.texts)]
    either = Annotated[Annotated[text, Tag("one")] | Annotated[many, Tag("many")], Discriminator(_kind)]
    return create_model("Texts", __base__=_Closed, texts=(either, Field(description="A text, or a list of texts.")))


async def read_body(request: Request, limits: Limits) -> bytes:
    """The body of a request, of which no more than the limit is ever held.

    Raises:
        Rejected: it is not JSON by its type (415), is longer than the limit (413), or does not arrive in time (408)
            or at all (400).
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != JSON:
        raise Rejected(415, f"send the header Content-Type: {JSON}")
    too_long = Rejected(413, f"the body is longer than {limits.body_bytes} bytes; send the texts in several requests")
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limits.body_bytes:
        raise too_long
    body = bytearray()
    try:
        async with asyncio.timeout(limits.read_s):
            async for part in request.stream():
                body += part
                if len(body) > limits.body_bytes:
                    raise too_long
    except ClientDisconnect:
        raise Rejected(400, "the connection was closed before the body was there") from None
    except TimeoutError:
        raise Rejected(408, f"the body did not arrive within {limits.read_s:g} s") from None
    return bytes(body)


def parse(body: bytes, model: type[BaseModel]) -> list[str]:
    """The texts of a body.

    Raises:
        Rejected: it is not JSON, or not what `model` takes (422). The message names the places and repeats no text.
    """
    try:
        texts = model.model_validate_json(body).texts  # type: ignore[attr-defined]
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False, include_context=False)
        raise Rejected(422, "; ".join(_words(problem) for problem in problems[:_PROBLEMS])) from None
    return [texts] if isinstance(texts, str) else texts


def _words(problem: Any) -> str:
    """What is wrong, and where: `texts[3]: empty text`."""
    kind, place = problem["type"], problem["loc"]
    if kind == "extra_forbidden":
        return f"unknown key `{str(place[0])[:_KEY]}`"
    if kind == "list_type":
        return "texts: neither a text nor a list of texts"
    row = f"[{place[2]}]" if len(place) > 2 else ""  # the second part tells one text from many
    where = f"{place[0]}{row}" if place else "body"
    empty = kind in ("string_pattern_mismatch", "string_too_short")
    return f"{where}: {'empty text' if empty else problem['msg']}"
