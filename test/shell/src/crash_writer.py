# SPDX-License-Identifier: GPL-2.0-or-later
"""crash_writer.py DIRECTORY LOG SEED: writes until the filesystem dies under it.

LOG (kept elsewhere) tells what was begun and what fsync acknowledged; crash_verify.py holds the
filesystem to it. Every line is written out before the operation it announces begins, and after
the one it reports returned:
  begin KIND NAME VERSION SIZE   this version is about to be written
  synced KIND NAME VERSION       and an fsync after it returned
  marker N / markers-synced N    markers are created in order; those up to N precede some fsync
"""
import os
import random
import sys
import threading

from content import content

SIZES = [1, 700, 4096, 5000, 20480, 65537, 262144]
BIG = 3 << 20


class Writer:
    def __init__(self, root, log, seed):
        self.root = root
        self.log_fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.rng = random.Random(seed)
        self.versions = {}
        self.markers = 0
        os.makedirs(os.path.join(root, 'markers'), exist_ok=True)

    def log(self, *words):
        os.write(self.log_fd, (' '.join(map(str, words)) + '\n').encode())

    def path(self, name):
        return os.path.join(self.root, name)

    def begin(self, kind, name, size):
        self.versions[name] = (self.versions.get(name, (0, 0))[0] + 1, size)
        self.log('begin', kind, name, self.versions[name][0], size)
        return self.versions[name][0]

    def sync(self, fd, kind, name):
        version, markers = self.versions[name][0], self.markers
        os.fsync(fd)
        self.log('synced', kind, name, version)
        self.log('markers-synced', markers)

    def write_all(self, fd, data):
        step = self.rng.choice([4096, 10000, 1 << 20])
        for start in range(0, len(data), step):
            os.write(fd, data[start:start + step])

    def new_file(self):
        name = f'new-{len(self.versions)}'
        size = BIG if self.rng.randrange(20) == 0 else self.rng.choice(SIZES)
        version = self.begin('plain', name, size)
        fd = os.open(self.path(name), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        try:
            self.write_all(fd, content(name, version, size))
            if self.rng.randrange(3) == 0:
                self.sync(fd, 'plain', name)
        finally:
            os.close(fd)

    def rewrite(self):
        names = [name for name in self.versions if name.startswith('new-')]
        if not names:
            return
        name = self.rng.choice(names[-30:])
        size = self.versions[name][1]
        version = self.begin('plain', name, size)
        fd = os.open(self.path(name), os.O_WRONLY)
        try:
            self.write_all(fd, content(name, version, size))
            if self.rng.randrange(2) == 0:
                self.sync(fd, 'plain', name)
        finally:
            os.close(fd)

    def replace(self):
        """What editors do: a new file under another name, fsync, rename over the old one."""
        name = f'atomic-{self.rng.randrange(8)}'
        version = self.begin('atomic', name, self.rng.choice(SIZES))
        temporary = self.path(name + '.tmp')
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        try:
            self.write_all(fd, content(name, version, self.versions[name][1]))
            os.fsync(fd)
            os.rename(temporary, self.path(name))
            if self.rng.randrange(3) == 0:
                self.sync(fd, 'atomic', name)
        finally:
            os.close(fd)

    def marker(self):
        self.log('marker', self.markers + 1)
        os.mkdir(self.path(f'markers/{self.markers + 1}'))
        self.markers += 1

    def run(self):
        steps = [self.new_file] * 5 + [self.rewrite] * 2 + [self.replace] * 2 + [self.marker] * 4
        while True:
            self.rng.choice(steps)()


def run(root, log, seed):
    try:
        Writer(root, log, seed).run()
    except OSError as error:
        # The mount has died; everything else is worth a line.
        if error.errno not in (107, 103, 5, 2):
            print(f'writer: {error}', flush=True)


def main(root, log, seed):
    threads = [threading.Thread(target=run, args=(f'{root}/{n}', f'{log}.{n}', seed * 10 + n))
               for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
