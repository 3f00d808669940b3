"""The page that `dvc plots show` fills in, with Vega inside it instead of on a CDN.

`python -m fincompress.report.vega_page` writes it to .dvc/plots_page.html, which .dvc/config names. It is generated
from the pinned vl-convert package and therefore not kept in Git.
"""

from pathlib import Path

import vl_convert

from fincompress.core.files import atomic_file

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
{refresh_tag}
<title>FinCompress plots</title>
<script>
%s
</script>
<style>
body { font-family: system-ui, sans-serif; margin: 2rem auto; max-width: 1100px; padding: 0 1rem; }
img { max-width: 100%%; height: auto; }
</style>
</head>
<body>
<h1>FinCompress plots</h1>
{plot_divs}
</body>
</html>
"""


def main(path: Path = Path(".dvc/plots_page.html")) -> None:
    """Write the template with its placeholders `{refresh_tag}` and `{plot_divs}`."""
    # Its own scope keeps the bundle's many short names away from the plots' scripts; it exports through `window`.
    bundle = vl_convert.javascript_bundle()  # type: ignore[call-arg]  # its stub lacks the default
    script = "(function () {" + bundle.replace("</script", "<\\/script") + "})();"
    with atomic_file(path) as temporary:
        temporary.write_text(PAGE % script, encoding="utf-8")


if __name__ == "__main__":
    main()
