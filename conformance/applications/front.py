"""Says "front" each time it comes to the foreground of its terminal, so that who drives the terminal knows that a key reaches it."""

import os
import signal
import sys
import time

in_front = False


def goes_on(*_):
    """A job that was stopped in front may be back there before it looks."""
    global in_front
    in_front = False


signal.signal(signal.SIGINT, signal.SIG_DFL)
signal.signal(signal.SIGCONT, goes_on)
while True:
    if os.tcgetpgrp(sys.stderr.fileno()) != os.getpgrp():
        in_front = False
    elif not in_front:
        in_front = True
        print("front", flush=True)
    time.sleep(0.02)
