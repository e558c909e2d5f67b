"""A private Prosody on loopback, with data of its own in a directory of its own. What is said to it is left to others."""

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

HOST = "localhost"
ROOMS = "rooms.localhost"
PASSWORD = "correct horse"
PATIENCE_SECONDS = 60


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Prosody:
    """One server: started, stopped, killed, started again on the same data. `with` ends it, and prints what it said if
    something went wrong."""

    def __init__(self, directory, storage, users, settings="", native=None, lua=None, components=""):
        self.directory = Path(directory)
        self.port = free_port()
        self.process = None
        self.storage = storage
        self.settings = settings
        self.components = components
        plugins = self.directory / "plugins"
        plugins.mkdir(parents=True, exist_ok=True)
        if native:
            shutil.copy(native, plugins / "mammoth_prosody.so")
            shutil.copy(lua, plugins / "mod_storage_mammoth.lua")
        self.plugins = plugins
        self.data = self.directory / "data"
        (self.directory / "certs").mkdir()
        accounts = self.data / HOST / "accounts"
        accounts.mkdir(parents=True)
        for user in users:
            (accounts / f"{user}.dat").write_text(f'return {{ ["password"] = "{PASSWORD}"; }};\n')
        self.config = self.directory / "prosody.cfg.lua"
        self.log = self.directory / "prosody.log"
        self.configure()

    def configure(self, settings=None, storage=None):
        """Writes the configuration; further settings take the place of those before."""
        if settings is not None:
            self.settings = settings
        if storage is not None:
            self.storage = storage
        self.config.write_text(
            f"""
run_as_root = true
daemonize = false
pidfile = "{self.directory}/prosody.pid"
data_path = "{self.data}"
plugin_paths = {{ "{self.plugins}" }}
log = {{ info = "{self.log}" }}
interfaces = {{ "127.0.0.1" }}
c2s_ports = {{ {self.port} }}
c2s_direct_tls_ports = {{ }}
legacy_ssl_ports = {{ }}
s2s_ports = {{ }}
http_ports = {{ }}
https_ports = {{ }}
modules_disabled = {{ "s2s", "offline", "tls" }}
modules_enabled = {{ "roster", "saslauth", "disco", "mam", "register", "cron" }}
c2s_require_encryption = false
allow_unencrypted_plain_auth = true
authentication = "internal_plain"
limits = {{ }}
network_settings = {{ nagle = false }}
{self.storage}
{self.settings}
VirtualHost "{HOST}"
Component "{ROOMS}" "muc"
    modules_enabled = {{ "muc_mam" }}
    muc_room_locking = false
    muc_room_default_persistent = true
    muc_log_by_default = true
    muc_log_all_rooms = true
{self.components}
"""
        )

    def start(self):
        environment = {**os.environ, "HOME": str(self.directory)}
        self.process = subprocess.Popen(
            ["prosody", "--config", str(self.config), "-F"],
            cwd=self.directory,
            env=environment,
            stdout=open(self.directory / "stdout", "ab"),
            stderr=subprocess.STDOUT,
        )
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return self
            except OSError:
                pass
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("Prosody does not start:\n" + self.said())
            time.sleep(0.02)

    def forget_daily_tasks(self):
        """Makes the tasks that run once a day run at the next start."""
        for host, module in ((HOST, "mam"), (ROOMS, "muc_mam")):
            folder = self.data / host.replace(".", "%2e")
            folder.mkdir(exist_ok=True)
            (folder / "cron.dat").write_text(f'return {{ ["{module}/remove_expired_messages"] = 1; }};\n')

    def said(self):
        out = (self.directory / "stdout").read_text(errors="replace")
        log = self.log.read_text(errors="replace") if self.log.exists() else ""
        return out[-2000:] + log[-4000:]

    def errors(self):
        """Lines of the log that say error."""
        log = self.log.read_text(errors="replace") if self.log.exists() else ""
        return [line for line in log.splitlines() if "\terror\t" in line]

    def archives_with(self, text):
        """Files of the archives that hold these bytes. (Segments are compressed; a few messages are not in one.)"""
        found = []
        for path in (self.data / "mammoth").rglob("*"):
            try:
                if path.is_file() and text in path.read_bytes():
                    found.append(path)
            except FileNotFoundError:  # the store has removed it meanwhile
                pass
        return found

    def __enter__(self):
        return self

    def __exit__(self, wrong, *_):
        if self.process:
            self.kill()
        if wrong:
            print(self.said())

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise RuntimeError("Prosody does not stop:\n" + self.said()) from None
        code = self.process.returncode if self.process else 0
        self.process = None
        return code

    def finish(self):
        """Stops it for the last time; it must have had no errors."""
        self.stop()
        assert not self.errors(), self.errors()

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process = None

    def memory_kib(self):
        """Resident memory now."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
        return 0
