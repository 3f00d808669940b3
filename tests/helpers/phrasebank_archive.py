"""Financial PhraseBank's archive in small."""

import zipfile
from pathlib import Path

LINES = "Profit in caf\xe9s rose .@positive\r\nWrite to a@b.fi .@neutral\r\nSales fell .@Negative\r\n"


def archive(path: Path, lines: str = LINES, level: str = "AllAgree") -> Path:
    """A zip as the original: a folder with the text files, and what macOS leaves beside it."""
    with zipfile.ZipFile(path, "w") as target:
        target.writestr("__MACOSX/FinancialPhraseBank-v1.0/Sentences_AllAgree.txt", b"\x00\x05\x16\x07")
        target.writestr("__MACOSX/FinancialPhraseBank-v1.0/._Sentences_AllAgree.txt", b"\x00")
        target.writestr(f"FinancialPhraseBank-v1.0/Sentences_{level}.txt", lines.encode("latin-1"))
    return path
