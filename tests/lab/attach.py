"""attach.py SOCKET: this terminal becomes the serial console behind a Unix socket. Ctrl-] leaves."""
import os, select, socket, sys, termios, tty


def main():
    s = socket.socket(socket.AF_UNIX)
    s.connect(sys.argv[1])
    s.sendall(b'\n')
    before = termios.tcgetattr(0)
    tty.setraw(0)
    try:
        while True:
            for fd in select.select([0, s], [], [])[0]:
                data = os.read(0, 4096) if fd == 0 else s.recv(65536)
                if not data or (fd == 0 and b'\x1d' in data):
                    return
                if fd == 0:
                    s.sendall(data)
                else:
                    os.write(1, data)
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)


main()
