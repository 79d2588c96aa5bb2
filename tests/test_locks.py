import errno

from locvlm import locks


def test_a_file_system_without_locks_is_no_reason_not_to_run(tmp_path, monkeypatch, caplog):
    def no_locks(*args: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(locks.fcntl, "lockf", no_locks)
    locks.hold_lock(tmp_path / "a.lock", what="running in here").close()
    assert "a second process running in here would not be noticed" in caplog.text


def test_a_lock_that_was_let_go_is_free(tmp_path):
    for _ in range(2):
        locks.hold_lock(tmp_path / "a.lock", what="running").close()
