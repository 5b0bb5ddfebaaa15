"""Milvus Lite in a forked child: what its parent serves stays the parent's.

Milvus Lite runs in the process that opened a file. As that process ends it writes down what it holds, gives up the lock
on the file and takes its sockets away; a child that ends would do all that to its parent's. Importing this module
prevents it, for files that trivec opened. Knows nothing of collections.
"""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress

from trivec.milvus import connection
from trivec.support.forks import never_free


def _leave_files_to_the_parent() -> None:
    opened = set(connection._lite_users)
    connection._lite_users.clear()
    if (sockets := sys.modules.get("trivec.milvus.lite_server")) is not None:
        sockets._folders.clear()
    if (lite := sys.modules.get("milvus_lite.server_manager")) is None:
        return
    manager = lite.server_manager_instance
    manager._lock = threading.Lock()
    for path in opened & set(manager._servers):
        server = manager._servers.pop(path)
        never_free(server)  # it has threads, which are not here
        lock = getattr(server[1], "_lock_fd", None)
        if lock is not None:
            with suppress(OSError):
                os.close(lock)  # else the file would stay locked when the parent has ended


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_files_to_the_parent)
