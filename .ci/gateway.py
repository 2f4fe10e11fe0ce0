#!/usr/bin/env python3
"""Runs a command beside a gateway that serves models/ on free ports.

    gateway.py --binary target/release/foreshadow -- CMD … '{inference}' '{admin}'

`{inference}` and `{admin}` in the command become the gateway's addresses, and
`{models}` its folder: models/, or with --scratch a copy that the command may
write to. The exit code is the command's; the gateway must end with 0 on SIGTERM.
"""

import argparse
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

READY_SECONDS = 60


def start(binary, models, environment):
    """Starts the gateway on ports of the system's choice; returns it and its addresses."""
    gateway = subprocess.Popen(
        [binary, "serve", "--models", str(models)],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    found = {}
    for line in gateway.stdout:
        sys.stdout.write("gateway: " + line)
        for name, address in re.findall(r"(inference|admin)\s+(http://[\d.:]+)", line):
            found[name] = address
        if len(found) == 2:
            break
    if len(found) != 2:
        gateway.wait()
        sys.exit(f"the gateway ended with {gateway.returncode} before it said where it listens")
    # Go on reading, so that the gateway never blocks on a full pipe.
    threading.Thread(target=lambda: [None for _ in gateway.stdout], daemon=True).start()
    return gateway, found


def wait_until_ready(gateway, base):
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline and gateway.poll() is None:
        try:
            with urllib.request.urlopen(base + "/v2/health/ready", timeout=5):
                return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.05)
    sys.exit("the gateway did not become ready")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--scratch", action="store_true")
    parser.add_argument("command", nargs="+")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        state, models = pathlib.Path(folder, "state"), pathlib.Path("models")
        if arguments.scratch:
            models = shutil.copytree(models, pathlib.Path(folder, "models"))
        environment = os.environ | {
            "FORESHADOW_SERVER_LISTEN": "127.0.0.1:0",
            "FORESHADOW_ADMIN_LISTEN": "127.0.0.1:0",
            "FORESHADOW_GRPC_LISTEN": "127.0.0.1:0",
            "FORESHADOW_REPOSITORY_STATE": str(state),
        }
        gateway, addresses = start(arguments.binary, models, environment)
        try:
            wait_until_ready(gateway, addresses["inference"])
            command = [part.format(models=models, **addresses) for part in arguments.command]
            code = subprocess.run(command, check=False).returncode
        finally:
            gateway.send_signal(signal.SIGTERM)
            ended = gateway.wait(timeout=60)
    if ended != 0:
        sys.exit(f"the gateway ended with {ended} on SIGTERM")
    sys.exit(code)


if __name__ == "__main__":
    main()
