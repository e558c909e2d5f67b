"""xmpp.js against Debian's Prosody with our archives: what it sees (see xmppjs_client.mjs) before a restart, after it,
after messages expired, and when an account goes."""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "kit"))
from prosody import HOST, PASSWORD, PATIENCE_SECONDS, ROOMS, Prosody  # noqa: E402

ROOM = f"room@{ROOMS}"
EXPIRES_AFTER_SECONDS = 3


def main(native, lua, client):
    def step(name):
        command = ["node", client, name, str(server.port), PASSWORD, HOST, ROOM]
        done = subprocess.run(command, capture_output=True, text=True, timeout=2 * PATIENCE_SECONDS)
        assert done.returncode == 0, done.stderr
        print(f"  {name}")
        return json.loads(done.stdout)

    with tempfile.TemporaryDirectory() as directory:
        storage = "storage = { archive = 'mammoth', muc_log = 'mammoth' }"
        never = 'archive_expires_after = "never"\nmam_include_total = true'
        with Prosody(directory, storage, ["alice", "bob", "carol"], never, native, lua) as server:
            server.start()
            found = step("talk")
            whole = found["bob"]["own"]
            assert len(whole) == 30 == found["count"], found["count"]
            assert [pair for pair in whole if pair in found["live"]] == found["live"]
            assert found["bob"]["backwards"] == whole
            assert found["alice"]["backwards"] == found["alice"]["own"]
            assert [b for _, b in found["alice"]["own"]] == [b for _, b in whole]
            assert [b for _, b in found["caughtUp"]] == [f"away {i}" for i in range(10)]
            assert found["caughtUp"] == whole[-10:]
            assert found["unknown"] == "item-not-found"
            assert found["room"] == found["roomBackwards"] == found["inRoom"]
            assert [b for _, b in found["room"]] == [f"room {i}" for i in range(10)]
            server.stop()
            server.start()
            later = step("again")
            assert later["alice"] == found["alice"] and later["bob"] == found["bob"]
            assert later["room"][:-1] == found["room"] and later["room"][-1][1] == "again"
            server.stop()
            server.forget_daily_tasks()
            server.configure(f'archive_expires_after = "{EXPIRES_AFTER_SECONDS}"')
            time.sleep(EXPIRES_AFTER_SECONDS + 1)  # messages grow old only with time
            server.start()
            deadline = time.monotonic() + PATIENCE_SECONDS
            while "Deleted" not in server.log.read_text():
                assert time.monotonic() < deadline, "nothing expires"
                time.sleep(0.1)
            assert step("expired")["own"] == []
            assert len(step("remove")["before"]) == 2 * 5  # as sent and as received
            text = b"do not leave this behind"
            while left := server.archives_with(text):
                assert time.monotonic() < deadline, left
                time.sleep(0.1)
            server.finish()
    print("ok")


if __name__ == "__main__":
    main(*sys.argv[1:4])
