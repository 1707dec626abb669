# SPDX-License-Identifier: GPL-2.0-or-later
"""make_tree.py DIRECTORY FILES SEED: a tree of files of awkward sizes, links, modes and times."""
import os
import random
import sys

SIZES = [0, 1, 100, 4095, 4096, 4097, 8192, 12345, 65536, 131072 + 17, 300001, 1 << 20]


def main(root, count, seed):
    rng = random.Random(seed)
    directories = [root]
    os.makedirs(root, exist_ok=True)
    for number in range(count):
        if number % 20 == 0:
            parent = rng.choice(directories[-10:])
            directories.append(os.path.join(parent, f'directory-{number}'))
            os.mkdir(directories[-1], rng.choice([0o755, 0o700, 0o775]))
        path = os.path.join(rng.choice(directories), f'file {number} ' + 'n' * rng.randrange(60))
        with open(path, 'wb') as file:
            file.write(rng.randbytes(rng.choice(SIZES[:-3] if number % 7 else SIZES)))
        os.chmod(path, rng.choice([0o644, 0o600, 0o755, 0o444, 0o4755, 0o2750]))
        if number % 5 == 0:
            os.symlink(rng.choice(['../x', path, 't' * 3000]), path + '.symlink')
        if number % 9 == 0:
            os.link(path, path + '.link')
        if number % 50 == 0:
            os.mkfifo(path + '.fifo')
        os.utime(path, ns=(10**18 + rng.randrange(10**18), 10**18 + rng.randrange(10**18)))
    for directory in reversed(directories):
        os.utime(directory, ns=(10**18 + 7, 10**18 + rng.randrange(10**18)))


main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
