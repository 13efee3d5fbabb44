#!/usr/bin/env python3
"""on_terminal.py TYPED COMMAND...: runs the command on a terminal of 33 rows and 101 columns, types the lines of TYPED, prints
what it prints, and ends with its exit code."""
import fcntl, os, pty, select, struct, sys, termios, time

typed = open(sys.argv[1], "rb").read().splitlines(keepends=True)
pid, fd = pty.fork()
if pid == 0:
    os.execvp(sys.argv[2], sys.argv[2:])
fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 101, 0, 0))
out, quiet, end = b"", 0.0, time.monotonic() + 120
while time.monotonic() < end:
    ready, _, _ = select.select([fd], [], [], 0.5)
    if ready:
        try:
            data = os.read(fd, 65536)
        except OSError:
            break
        if not data:
            break
        out += data
        quiet = time.monotonic()
    elif typed and quiet:
        # The program has said something (its prompt) and is silent now: the next line.
        os.write(fd, typed.pop(0))
sys.stdout.write(out.decode("utf-8", "replace"))
_, status = os.waitpid(pid, 0)
sys.exit(os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status))
