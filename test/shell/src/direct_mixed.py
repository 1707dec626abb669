# SPDX-License-Identifier: GPL-2.0-or-later
# Several processes on one file, each with pages of its own: buffered, direct and mapped reads and
# writes at any byte, against a model; the first also moves the end of the file behind all of them.
# direct_mixed.py FILE PROCESSES OPERATIONS SEED: so many operations in all.
import mmap
import os
import random
import sys

PAGE = 4096
CHUNK = 4 * PAGE  # neighbours have other owners
CHUNKS = 12       # of each process
TAIL = 20 * PAGE


class Tail:
    """What lies behind everybody's pages: the first process's, with the end of the file."""

    def __init__(self, start):
        self.start = start
        self.bytes = bytearray()

    def truncate(self, length):
        self.bytes[length:] = b''
        self.bytes.extend(bytes(length - len(self.bytes)))

    def write(self, offset, data):
        if len(self.bytes) < offset + len(data):
            self.truncate(offset + len(data))
        self.bytes[offset:offset + len(data)] = data


class Worker:
    def __init__(self, path, processes, number, seed):
        self.rng = random.Random('%d %d' % (seed, number))
        self.end = processes * CHUNKS * CHUNK
        self.chunks = [(index * processes + number) * CHUNK for index in range(CHUNKS)]
        self.model = {start: bytearray(CHUNK) for start in self.chunks}
        self.tail = Tail(self.end) if number == 0 else None
        self.buffered = os.open(path, os.O_RDWR)
        self.direct = os.open(path, os.O_RDWR | os.O_DIRECT)
        self.mapped = mmap.mmap(self.buffered, self.end)
        self.memory = mmap.mmap(-1, 2 * CHUNK)

    def fail(self, what, offset, expected, found):
        different = next((i for i, (a, b) in enumerate(zip(expected, found)) if a != b),
                         min(len(expected), len(found)))
        sys.exit('%s at %d: differs at byte %d, lengths %d and %d' %
                 (what, offset, different, len(expected), len(found)))

    def span(self):
        grain = self.rng.choice([1, 512, PAGE])
        first = self.rng.randrange(CHUNK // grain)
        count = self.rng.randrange(1, CHUNK // grain - first + 1)
        return first * grain, count * grain

    def write_direct(self, offset, data):
        # From any place in memory, as long as the device could do it.
        at = self.rng.choice([0, 512]) if len(data) % 512 == 0 else 0
        self.memory[at:at + len(data)] = data
        done = 0
        while done < len(data):
            view = memoryview(self.memory)[at + done:at + len(data)]
            done += os.pwrite(self.direct, view, offset + done)
            view.release()

    def read_direct(self, offset, length):
        view = memoryview(self.memory)[:length]
        count = os.preadv(self.direct, [view], offset)
        view.release()
        return bytes(self.memory[:count])

    def step(self):
        start = self.rng.choice(self.chunks)
        offset, length = self.span()
        model = self.model[start]
        what = self.rng.randrange(8)
        if what < 3:
            data = self.rng.randbytes(length)
            model[offset:offset + length] = data
            if what == 0:
                os.pwrite(self.buffered, data, start + offset)
            elif what == 1:
                self.write_direct(start + offset, data)
            else:
                self.mapped[start + offset:start + offset + length] = data
        elif what < 6:
            expected = bytes(model[offset:offset + length])
            if what == 3:
                found = os.pread(self.buffered, length, start + offset)
            elif what == 4:
                found = self.read_direct(start + offset, length)
            else:
                found = self.mapped[start + offset:start + offset + length]
            if found != expected:
                self.fail(['', '', '', 'read', 'direct read', 'mapped read'][what],
                          start + offset, expected, found)
        elif self.tail is not None:
            self.step_tail()
        elif self.rng.randrange(100) == 0:
            os.fdatasync(self.buffered)

    def step_tail(self):
        tail, what = self.tail, self.rng.randrange(4)
        offset = self.rng.randrange(TAIL)
        if what == 0:
            os.ftruncate(self.buffered, tail.start + offset)
            tail.truncate(offset)
        elif what == 1:
            data = self.rng.randbytes(self.rng.randrange(1, CHUNK))
            os.pwrite(self.buffered, data, tail.start + offset)
            tail.write(offset, data)
        elif what == 2:
            grain = self.rng.choice([1, 512, PAGE])
            offset = offset // grain * grain
            data = self.rng.randbytes(self.rng.randrange(1, CHUNK // grain + 1) * grain)
            self.write_direct(tail.start + offset, data)
            tail.write(offset, data)
        else:
            length = len(tail.bytes)
            if os.fstat(self.direct).st_size != tail.start + length:
                sys.exit('size %d instead of %d' %
                         (os.fstat(self.direct).st_size, tail.start + length))
            direct = self.rng.randrange(2) == 0
            expected = bytes(tail.bytes[offset:offset + CHUNK])
            found = (self.read_direct(tail.start + offset, CHUNK) if direct else
                     os.pread(self.buffered, CHUNK, tail.start + offset))
            if found != expected:
                self.fail('read behind', tail.start + offset, expected, found)

    def check_all(self):
        for start in self.chunks:
            found = os.pread(self.buffered, CHUNK, start)
            if found != self.model[start]:
                self.fail('in the end', start, self.model[start], found)


def main():
    path, processes = sys.argv[1], int(sys.argv[2])
    operations, seed = int(sys.argv[3]), int(sys.argv[4])
    with open(path, 'wb') as file:
        file.truncate(processes * CHUNKS * CHUNK)
    children = []
    for number in range(processes):
        child = os.fork()
        if child == 0:
            worker = Worker(path, processes, number, seed)
            for _ in range(operations // processes):
                worker.step()
            worker.check_all()
            os._exit(0)
        children.append(child)
    if any([os.waitpid(child, 0)[1] for child in children]):
        sys.exit('seed %d: see above' % seed)
    print('%d processes, no difference' % processes)


main()
