# SPDX-License-Identifier: GPL-2.0-or-later
"""stress.py DIRECTORY SECONDS PROCESSES SEED: every operation on shared names at once.

Half of the processes work on names they share, so that creations, renames and removals meet; the
others each own their files and keep a model of them, which must hold at every read. Only errors
that racing processes explain are accepted.
"""
import errno
import os
import random
import sys
import time

RACES = {errno.ENOENT, errno.EEXIST, errno.ENOTEMPTY, errno.EISDIR, errno.ENOTDIR, errno.EINVAL,
         errno.EBUSY, errno.ELOOP, errno.EPERM}


def shared_step(rng, root):
    def name():
        return f'{root}/shared/' + '/'.join(rng.choice('abcd') for _ in range(rng.randint(1, 3)))

    operation = rng.randrange(10)
    if operation < 3:
        with open(name(), rng.choice(['wb', 'ab', 'r+b'])) as file:
            file.write(rng.randbytes(rng.choice([1, 5000, 70000])))
    elif operation == 3:
        os.mkdir(name())
    elif operation == 4:
        os.rename(name(), name())
    elif operation == 5:
        os.unlink(name())
    elif operation == 6:
        os.rmdir(name())
    elif operation == 7:
        os.link(name(), name())
    elif operation == 8:
        for entry in os.scandir(os.path.dirname(name())):
            entry.stat(follow_symlinks=False)
    else:
        path = name()
        os.truncate(path, rng.randrange(100000))
        with open(path, 'rb') as file:
            file.read()


def owned_step(rng, path, model):
    operation = rng.randrange(6)
    with open(path, 'r+b', buffering=0) as file:
        if operation < 3:
            offset = rng.randrange(300000)
            data = rng.randbytes(rng.choice([1, 100, 4096, 50000]))
            file.seek(offset)
            file.write(data)
            if len(model) < offset:
                model.extend(bytes(offset - len(model)))
            model[offset:offset + len(data)] = data
        elif operation == 3:
            size = rng.randrange(350000)
            file.truncate(size)
            del model[size:]
            model.extend(bytes(size - len(model)))
        elif operation == 4:
            os.fsync(file.fileno())
        else:
            offset = rng.randrange(len(model) + 1)
            file.seek(offset)
            found = file.read(60000)
            if found != bytes(model[offset:offset + 60000]):
                raise AssertionError(f'{path} at {offset}: read is not what was written')
    if rng.randrange(50) == 0:
        os.rename(path, path + '.moved')
        os.rename(path + '.moved', path)


def run(root, number, seconds, seed):
    rng = random.Random(seed * 100 + number)
    end = time.monotonic() + seconds
    owned, model, steps = f'{root}/owned-{number}', bytearray(), 0
    open(owned, 'wb').close()
    while time.monotonic() < end:
        steps += 1
        if number % 2:
            owned_step(rng, owned, model)
            continue
        try:
            shared_step(rng, root)
        except OSError as error:
            if error.errno not in RACES:
                raise
    with open(owned, 'rb') as file:
        if file.read() != bytes(model):
            raise AssertionError(f'{owned}: not what was written')
    print(f'process {number}: {steps} steps', file=sys.stderr)


def main(root, seconds, processes, seed):
    os.makedirs(f'{root}/shared', exist_ok=True)
    children = []
    for number in range(processes):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                run(root, number, seconds, seed)
                status = 0
            except (OSError, AssertionError) as error:
                print(f'process {number}: {error!r}', flush=True)
            os._exit(status)
        children.append(child)
    return max(os.waitpid(child, 0)[1] != 0 for child in children)


sys.exit(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])))
