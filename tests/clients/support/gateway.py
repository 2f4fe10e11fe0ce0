"""The real program: started on ports of the system's choice, and stopped."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
# How long a start or an end may take before it counts as a hang.
PATIENCE_S = 120
ADDRESS = re.compile(r"^\s+(inference|admin|grpc)\s+(?:http://)?([\d.]+:\d+)")


def binary() -> Path:
    """The program under test."""
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    return Path(os.environ.get("FORESHADOW_BINARY", target / "release" / "foreshadow"))


@dataclass
class Gateway:
    """A running `foreshadow serve` and where it listens (`host:port`)."""

    models: Path
    process: subprocess.Popen
    addresses: dict[str, str] = field(default_factory=dict)

    @property
    def http(self) -> str:
        """Base URL of the inference port."""
        return f"http://{self.addresses['inference']}"

    @property
    def admin(self) -> str:
        """Base URL of the admin port."""
        return f"http://{self.addresses['admin']}"

    @property
    def grpc(self) -> str:
        """`host:port` of the gRPC port."""
        return self.addresses["grpc"]

    def stop(self) -> int:
        """Asks it to end, as an orchestrator does; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise

    def _read_banner(self) -> None:
        """Reads what it prints up to the line to paste, which comes when all models are tried."""
        watchdog = threading.Timer(PATIENCE_S, self.process.kill)
        watchdog.start()
        said = []
        for line in self.process.stdout:
            said.append(line)
            if match := ADDRESS.match(line):
                self.addresses[match[1]] = match[2]
            if line.startswith("Try:"):
                break
        else:
            raise RuntimeError(f"the gateway ended with {self.process.wait()}:\n{''.join(said)}")
        watchdog.cancel()
        # Go on reading, so that the gateway never blocks on a full pipe.
        threading.Thread(target=self.process.stdout.read, daemon=True).start()


def start(models: Path, state: Path, **settings: str) -> Gateway:
    """Starts the program over a repository and waits until every model in it was tried.

    Settings are variables without their prefix: `SERVER_GRACE="1s"`. One model
    must have a `sample.json`: the line that is printed for it says that all is ready.
    """
    own = {name: value for name, value in os.environ.items() if not name.startswith("FORESHADOW_")}
    variables = {
        "SERVER_LISTEN": "127.0.0.1:0",
        "ADMIN_LISTEN": "127.0.0.1:0",
        "GRPC_LISTEN": "127.0.0.1:0",
        "REPOSITORY_MODELS": str(models),
        "REPOSITORY_STATE": str(state),
        "LOG_LEVEL": "warn",
    } | settings
    process = subprocess.Popen(
        [binary(), "serve"],
        env=own | {f"FORESHADOW_{name}": value for name, value in variables.items()},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    gateway = Gateway(models, process)
    try:
        gateway._read_banner()
    except BaseException:
        process.kill()
        raise
    return gateway
