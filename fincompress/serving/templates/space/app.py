"""{{ name }} in the browser: `pip install -r requirements.txt && python app.py`."""

import os
from pathlib import Path

from fincompress.serving.demo import UPLOAD, build
from fincompress.serving.duel import Duel

NAME = "{{ name }}"
duel = Duel({NAME: Path(__file__).parent / "model"}, reference=None)
page = build(duel, NAME)

if __name__ == "__main__":
    page.launch(server_name="0.0.0.0" if os.environ.get("SPACE_ID") else "127.0.0.1", max_file_size=UPLOAD)
