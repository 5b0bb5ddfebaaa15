"""Ctrl-C in a process that goes on afterwards, as a notebook does: at whatever step it comes, nothing hangs then."""

import subprocess
import sys
import textwrap

# Raises KeyboardInterrupt at one step after another of the modules that have to do with threads. A step is where Python
# looks for signals: as a function begins, and as one that is written in C has returned.
EVERY_STEP = """
    import faulthandler, os, sys, threading
    import trivec, trivec.encoding, trivec.model

    MODULES = {name: sys.modules[name].__file__ for name in
               ("threading", "contextlib", "trivec.encoding", "trivec.support.forks", "trivec.model")}

    def interrupted_at(step, action):
        steps = 0
        def profile(frame, event, argument):
            nonlocal steps
            if event in ("call", "c_return") and frame.f_code.co_filename in MODULES.values():
                steps += 1
                if steps == step:
                    raise KeyboardInterrupt
        sys.setprofile(profile)
        try:
            action()
        except KeyboardInterrupt:
            return True
        finally:
            sys.setprofile(None)
        return steps >= step  # swallowed, as in a finalizer

    trivec.encoding.WINDOW = 3
    model = trivec.M3Model.load(sys.argv[1], precision="fp32")
    texts = ["a boat", "a lake", "a mountain"] * 3
    wanted = model.encode(texts).dense
    step = 0
    while True:
        step += 1
        faulthandler.dump_traceback_later(20, exit=True)
        if not interrupted_at(step, lambda: model.encode(texts)):
            break
        if step % 20 == 0:
            assert (model.encode(texts).dense == wanted).all()
    faulthandler.dump_traceback_later(20, exit=True)
    if hasattr(os, "fork"):
        child = os.fork()
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)
    print(step)
"""


def test_ctrl_c_at_any_step_of_encoding_leaves_nothing_locked(tiny_checkpoint):
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(EVERY_STEP), str(tiny_checkpoint)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 100
