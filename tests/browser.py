"""A page in a real browser: what a script finds there, and every error on the way."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

from missing import require

_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
# Before anything of the page runs: errors are kept for the answer.
_WATCH = """<script>
window.found = [];
window.addEventListener("error", (event) => found.push(String(event.message)));
window.addEventListener("unhandledrejection", (event) => found.push(String(event.reason)));
for (const level of ["error", "warn"]) {
  console[level] = (...words) => found.push(words.map(String).join(" "));
}
</script>"""
_ANSWER = """<script>
setTimeout(async () => {
  let answer = null;
  try { answer = await (async () => { %s })(); } catch (error) { found.push(String(error)); }
  const to = document.createElement("pre");
  to.id = "answer";
  to.textContent = JSON.stringify({ answer, found });
  document.body.appendChild(to);
}, 300);
</script>"""


def browser() -> str:
    """Chromium, see missing.py for tests without it."""
    program = next(filter(None, map(shutil.which, _NAMES)), None)
    require(program, "no Chromium (apt-get install chromium)")
    assert program
    return program


def in_browser(page: Path, script: str, *, width: int = 1200) -> Any:
    """What `script`, the body of an async function, returns in the page; it has no errors."""
    program = browser()
    text = page.read_text(encoding="utf-8")
    text = text.replace("<head>", "<head>" + _WATCH, 1).replace(
        "</body>", _ANSWER % script + "</body>"
    )
    copy = page.with_name(f"watched-{page.name}")
    copy.write_text(text, encoding="utf-8")
    run = subprocess.run(
        [
            program, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
            f"--user-data-dir={page.parent / 'profile'}", f"--window-size={width},900",
            "--virtual-time-budget=5000", "--dump-dom", copy.resolve().as_uri(),
        ],
        capture_output=True, text=True, timeout=120, check=True,
        env={**os.environ, "HOME": str(page.parent)},
    )  # fmt: skip
    answer = re.search(r'<pre id="answer">(.*?)</pre>', run.stdout, re.DOTALL)
    assert answer, run.stdout[-2000:] + run.stderr[-2000:]
    result = json.loads(html.unescape(answer[1]))
    assert result["found"] == []
    return result["answer"]
