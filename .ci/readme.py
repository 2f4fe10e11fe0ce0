#!/usr/bin/env python3
"""Runs the commands that the README shows, in their order, in a clean clone.

Every ```sh block is run by one shell; a block that follows

    <!-- background: http://127.0.0.1:8002/healthz -->

is started in the background and waited for until the address answers (the
gateway's own block), and one that follows <!-- not run: why --> is left out,
with the reason printed. `--test-command` prints the first line of the block
that follows <!-- test command --> and runs nothing.
"""

import argparse
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
BLOCK = re.compile(r"(?:<!-- (?P<note>[^\n]*?) -->\n)?```sh\n(?P<code>.*?)```", re.S)
WAIT_SECONDS = 1800


def blocks():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return [(match["note"] or "", match["code"]) for match in BLOCK.finditer(text)]


def test_command():
    for note, code in blocks():
        if note == "test command":
            return code.splitlines()[0].split("#")[0].strip()
    sys.exit("README.md has no block marked <!-- test command -->")


def wait_for(address, process):
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            sys.exit(f"the background command ended with {process.returncode}")
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.2)
    sys.exit(f"{address} did not answer")


def run_all(clone):
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve()
    environment = os.environ | {"CARGO_TARGET_DIR": str(target)}
    # The README puts target/release on the PATH.
    (clone / "target").symlink_to(target)
    background = None
    try:
        for note, code in blocks():
            print(f"--- {note or 'run'}\n{code}", flush=True)
            if note.startswith("not run") or note == "test command":
                continue
            command = ["bash", "-euo", "pipefail", "-c", PATH_LINE + code]
            if note.startswith("background: "):
                background = subprocess.Popen(
                    command, cwd=clone, env=environment, start_new_session=True
                )
                wait_for(note.removeprefix("background: "), background)
            else:
                subprocess.run(command, cwd=clone, env=environment, check=True, stdin=subprocess.DEVNULL)
    finally:
        if background is not None:
            os.killpg(background.pid, signal.SIGINT)
            background.wait(timeout=60)
    return background.returncode if background else 0


PATH_LINE = 'export PATH="$PWD/target/release:$PATH"\n'


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--test-command", action="store_true")
    if parser.parse_args().test_command:
        print(test_command())
        return
    with tempfile.TemporaryDirectory() as folder:
        clone = pathlib.Path(folder) / "foreshadow"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        try:
            code = run_all(clone)
        except subprocess.CalledProcessError as error:
            sys.exit(f"a command of the README failed with {error.returncode}")
    if code != 0:
        sys.exit(f"the gateway ended with {code} on Ctrl-C")
    print("every command of the README ran")


if __name__ == "__main__":
    main()
