# SPDX-License-Identifier: GPL-2.0-or-later
# Many direct writers of one file. direct_parallel.py rate FILE THREADS SECONDS prints writes a
# second; direct_parallel.py flight FILE THREADS DIRECTORY writes once with each thread and tells
# how long others wait meanwhile.
import mmap
import os
import sys
import threading
import time

PAGE = 4096


def open_file(path, blocks):
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_DIRECT)
    memory = mmap.mmap(-1, 1 << 20)
    if os.fstat(descriptor).st_size < blocks * PAGE:
        for offset in range(0, blocks * PAGE, 1 << 20):
            os.pwrite(descriptor, memory, offset)
    return descriptor


def rate(path, count, seconds):
    blocks = 4096
    descriptor = open_file(path, blocks)
    stop = time.monotonic() + seconds
    done = [0] * count

    def run(number):
        memory = mmap.mmap(-1, PAGE)
        own = os.open(path, os.O_RDWR | os.O_DIRECT)
        while time.monotonic() < stop:
            os.pwrite(own, memory, (done[number] * count + number) % blocks * PAGE)
            done[number] += 1
        os.close(own)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os.close(descriptor)
    print(int(sum(done) / seconds))


def flight(path, count, directory):
    descriptor = open_file(path, count)
    memory = mmap.mmap(-1, PAGE)
    memory.write(b'f' * PAGE)
    failures = []

    def run(number):
        try:
            os.pwrite(descriptor, memory, number * PAGE)
        except OSError as error:
            failures.append(error.errno)

    threading.stack_size(256 * 1024)
    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    print('writing', flush=True)
    sys.stdin.readline()  # until the caller has looked around
    worst = 0
    for number in range(20):
        began = time.monotonic()
        try:
            os.stat(os.path.join(directory, 'nothing %d' % number))
        except FileNotFoundError:
            pass
        worst = max(worst, time.monotonic() - began)
    print('lookups', 'quick' if worst < 1 else 'slow: %.1f s' % worst, flush=True)
    for thread in threads:
        thread.join()
    print('failures', sorted(set(failures)), len(failures))


if sys.argv[1] == 'rate':
    rate(sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
else:
    flight(sys.argv[2], int(sys.argv[3]), sys.argv[4])
